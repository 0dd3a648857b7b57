// A key, looked up: what the server knows of it, and its value where that may be shown.

import { get } from "./api.js";
import { h } from "./dom.js";
import * as show from "./format.js";

const end = (ms) => (ms < 0 ? "no end" : ms === 0 ? "over" : show.time(ms / 1000));

/** (field of CACHE.META, title, how it is shown) */
const FIELDS = [
  ["namespace", "Namespace", (text) => text || "(no delimiter)"],
  ["type", "Type", String],
  ["bytes", "Value", show.bytes],
  ["fresh-ms", "Fresh for", end],
  ["ttl-ms", "Gone after", end],
  ["age-ms", "Written", (ms) => `${show.time(ms / 1000)} ago`],
  ["cost-ms", "Costs to recompute", (ms) => (ms > 0 ? show.time(ms / 1000) : "not measured")],
  ["hits", "Hits", show.exact],
  ["lease-ms", "Lease or lock", (ms) => (ms > 0 ? `${show.time(ms / 1000)} left` : "none")],
  ["waiters", "Waiting", show.exact],
];

/** Prepares the sheet. `ask(kind, id, text)`: invalidates, after asking. */
export function begin(ask) {
  const sheet = document.getElementById("sheet");
  const body = document.getElementById("sheet-body");
  const title = document.getElementById("sheet-title");
  const field = document.getElementById("lookup-key");
  let asked = 0;

  function write(found) {
    title.textContent = found.key === "" ? "(empty)" : found.key;
    if (found.meta === null) {
      body.replaceChildren(h("p", { class: "empty" }, "There is no such key."), h("p", { class: "dim" }, `asked ${found.node}`));
      return;
    }
    const { meta } = found;
    const rows = FIELDS.filter(([name]) => meta[name] !== undefined && meta[name] !== null);
    const list = h("dl", { class: "meta" }, ...rows.map(([name, what, shown]) => h("div", null, h("dt", null, what), h("dd", { "data-field": name, "data-value": meta[name] }, shown(meta[name])))));
    const tags = (meta.tags ?? []).map((tag) => {
      const known = !tag.includes("\\");
      const act = () => ask("tags", encodeURIComponent(tag), tag);
      return h("li", null, h("code", null, tag || "(empty)"), known ? h("button", { type: "button", class: "act needs-token", onclick: act, "aria-label": `Invalidate tag ${tag}` }, "Invalidate") : null);
    });
    body.replaceChildren(
      h("p", null, h("span", { class: `pill ${meta.state}`, id: "sheet-state" }, meta.state), " ", h("span", { class: "dim" }, `on ${found.node}`)),
      list,
      h("h3", null, tags.length > 0 ? show.plural(tags.length, "tag", "tags") : "No tags"),
      h("ul", { class: "tags" }, ...tags),
      ...value(found),
    );
  }

  function value({ value: shown }) {
    if (shown === null) return [h("p", { class: "dim", id: "sheet-value" }, "Values are not shown: `cacheflow serve --show-values` shows them.")];
    const part = shown.whole ? "" : ", the beginning";
    return [h("h3", null, `Value, ${show.bytes(shown.bytes)}${part}`), h("pre", { id: "sheet-value", tabindex: "0" }, shown.text)];
  }

  async function look(id) {
    const own = (asked += 1);
    title.textContent = "Key";
    body.replaceChildren(h("p", { class: "dim" }, "looking…"));
    if (!sheet.open) sheet.showModal();
    try {
      const found = await get(`key?key=${id}`);
      if (own === asked) write(found);
    } catch (error) {
      if (own === asked) body.replaceChildren(h("p", { class: "wrong", role: "alert" }, error.message));
    }
  }

  document.getElementById("lookup").addEventListener("submit", (event) => {
    event.preventDefault();
    look(encodeURIComponent(field.value));
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, dialog");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      field.focus();
    }
  });
  return look;
}
