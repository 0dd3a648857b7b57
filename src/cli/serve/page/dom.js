// Elements. Keys and tags are anybody's bytes: they only ever become text, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element: `on…` listen, `class` and attributes are set, the rest are its children. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets a text, where it is another: what a reader has marked stays marked. */
export function text(element, value) {
  if (element.textContent !== value) element.textContent = value;
}

/** Shows a figure, and has the figure itself beside it. */
export function figure(element, value, shown) {
  text(element, shown);
  element.dataset.value = value ?? "";
}

/** A bar of a share, beside a figure that says the same. */
export function bar(kind = "") {
  return h("span", { class: `bar ${kind}`, "aria-hidden": "true" }, h("span"));
}

/** Sets it. */
export function fill(element, share) {
  element.hidden = share === null || !Number.isFinite(share);
  if (element.hidden) return;
  element.firstChild.style.setProperty("--share", Math.min(1, Math.max(0, share)).toFixed(4));
  element.classList.toggle("high", share > 0.9);
}

/** A line of the last values, without axes: a figure beside it says the last one. */
export function sparkline(width, height) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  for (const kind of ["area", "line"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", kind);
    svg.append(path);
  }
  return svg;
}

/** Draws it. A gap stays one. `floor`: the least that the height stands for. */
export function draw(svg, values, floor = 0) {
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const seen = values.filter((value) => value !== null);
  const top = Math.max(floor, ...seen) || 1;
  const step = width / Math.max(1, values.length - 1);
  const point = (value, at) => `${(at * step).toFixed(1)} ${(height - 1 - (value / top) * (height - 2)).toFixed(1)}`;
  let line = "", area = "", run = [];
  const close = () => {
    if (run.length > 1) {
      line += `M${run.map(([value, at]) => point(value, at)).join("L")}`;
      const [first, last] = [run[0][1], run[run.length - 1][1]];
      area += `M${(first * step).toFixed(1)} ${height}L${run.map(([value, at]) => point(value, at)).join("L")}`;
      area += `L${(last * step).toFixed(1)} ${height}Z`;
    }
    run = [];
  };
  values.forEach((value, at) => (value === null ? close() : run.push([value, at])));
  close();
  svg.children[0].setAttribute("d", area);
  svg.children[1].setAttribute("d", line);
}

/** A panel: its head, its body, and below that who did not answer. */
export function panel(id, title, about, width, ...tools) {
  const body = h("div", { class: "body" });
  const errors = h("p", { class: "errors", role: "status", hidden: true });
  const section = h(
    "section",
    { class: `card panel w${width}`, id, "aria-labelledby": `${id}-title` },
    h("header", null, h("div", null, h("h2", { id: `${id}-title` }, title), h("p", { class: "about" }, about)), ...tools),
    body,
    errors,
  );
  return {
    section,
    body,
    /** What the API could not say, and of whom. */
    failed(all) {
      const said = all.map(({ node, error }) => (node ? `${node}: ${error}` : error)).join(" · ");
      errors.hidden = said === "";
      text(errors, said);
    },
  };
}
