// Charts over time, by uPlot. All share a cursor: to point at one moment shows it in each.

import { h, text } from "./dom.js";

const { uPlot } = globalThis; // by a script of its own, as its makers pack it
const HEIGHT = 150;
/** Seconds of the width at least. */
const SHORTEST = 20;
const LOCK = uPlot.sync("time");
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A colour of the style sheet (#rrggbb), so thin. */
const thin = (name, alpha) => color(name) + Math.round(alpha * 255).toString(16).padStart(2, "0");

/**
 * options: { id, title, about, stacked, format(value), range(min, max) }
 * series: [{ label, color, of(point) }]; stacked: the first lies lowest.
 */
export class Chart {
  #options;
  #series;
  #plot = null;
  #host = h("div", { class: "plot" });
  #values = [];
  #data = [[]];
  #shown = [[]];

  constructor(options, series) {
    this.#options = options;
    this.#series = series;
    const legend = series.map((one) => {
      const value = h("output", null, "–");
      this.#values.push(value);
      return h("li", null, h("span", { class: `swatch ${one.color}`, "aria-hidden": "true" }), one.label, " ", value);
    });
    this.element = h(
      "figure",
      { class: "card chart", id: options.id },
      h("figcaption", null, h("h2", { title: options.about }, options.title), h("ul", { class: "legend" }, ...legend)),
      this.#host,
    );
    this.#host.setAttribute("role", "img");
    new ResizeObserver(() => this.#fit()).observe(this.#host);
  }

  #fit() {
    const width = Math.floor(this.#host.clientWidth);
    if (width > 0 && this.#plot && this.#plot.width !== width) this.#plot.setSize({ width, height: HEIGHT });
  }

  /** Shows these points. */
  set(points, seconds) {
    const times = points.map((point) => point.t);
    const values = this.#series.map((one) => points.map((point) => one.of(point) ?? null));
    this.#data = [times, ...values];
    this.#shown = this.#options.stacked ? [times, ...stack(values)] : this.#data;
    // What has been seen fills the width, until it is more than is asked for.
    const last = times.at(-1) ?? Date.now() / 1000;
    const seen = last - (times[0] ?? last);
    this.span = { min: last - Math.min(seconds, Math.max(seen, SHORTEST)), max: last };
    if (this.#plot) this.#plot.setData(this.#shown);
    else this.#draw();
    this.#say();
  }

  /** The same in other colours. */
  repaint() {
    if (!this.#plot) return;
    this.#plot.destroy();
    this.#plot = null;
    this.#draw();
  }

  #draw() {
    const width = Math.floor(this.#host.clientWidth);
    if (width === 0) return;
    const grid = { stroke: () => color("grid"), width: 1 };
    const axis = { stroke: () => color("dim"), grid, ticks: { show: false }, font: `11px ${color("font")}` };
    const stacked = this.#options.stacked;
    const series = this.#series.map((one) => ({
      label: one.label,
      stroke: color(one.color),
      width: stacked ? 1 : 1.6,
      fill: stacked || one.area ? thin(one.color, stacked ? 0.55 : 0.14) : undefined,
      dash: one.dash,
      points: { show: false },
      spanGaps: false,
    }));
    // The band between a line and the one below it, so that colours do not mix.
    const bands = stacked ? series.slice(1).map((_, at) => ({ series: [at + 2, at + 1] })) : undefined;
    this.#plot = new uPlot(
      {
        width,
        height: HEIGHT,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: { sync: { key: LOCK.key, setSeries: false }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
        scales: {
          x: { time: true, range: () => [this.span.min, this.span.max] },
          y: { range: (_, min, max) => (this.#options.range ?? upward)(min, max) },
        },
        axes: [
          { ...axis, size: 26, space: 70, values: (_, ticks) => ticks.map(clock) },
          { ...axis, size: 58, space: 34, values: (_, ticks) => ticks.map((tick) => this.#options.format(tick)) },
        ],
        series: [{}, ...series],
        bands,
        hooks: { setCursor: [() => this.#say()] },
      },
      this.#shown,
      this.#host,
    );
  }

  /** The legend's figures: of the moment that is pointed at, else of the last. */
  #say() {
    const at = this.#plot?.cursor.idx ?? this.#data[0].length - 1;
    const said = this.#series.map((one, n) => {
      const value = this.#data[n + 1]?.[at] ?? null;
      text(this.#values[n], this.#options.format(value));
      return `${one.label} ${this.#options.format(value)}`;
    });
    this.#host.setAttribute("aria-label", `${this.#options.title}: ${said.join(", ")}`);
  }
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

/** From nought to a little more than the most. */
function upward(_, max) {
  return [0, max > 0 ? max * 1.08 : 1];
}

function stack(values) {
  const sums = [];
  values.forEach((own, n) => sums.push(own.map((value, at) => (value === null ? null : value + (n > 0 ? (sums[n - 1][at] ?? 0) : 0)))));
  return sums;
}
