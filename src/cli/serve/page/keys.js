// Hot keys, and those in progress.

import { bar, figure, fill, h, panel, text } from "./dom.js";
import * as show from "./format.js";
import { Table } from "./table.js";

const BY = [
  { id: "hits", title: "Hits", about: "Read most often", shown: show.count },
  { id: "cost", title: "Cost", about: "Origin time that they save: hits × what one costs", shown: (ms) => show.time(ms / 1000) },
  { id: "bytes", title: "Bytes", about: "Most bytes sent", shown: show.bytes },
  { id: "waits", title: "Waits", about: "Waited for most often", shown: show.count },
];

/** A key that can be looked up by a click. */
const key = (look) => ({
  id: "key", title: "Key", head: true, kind: "wide", of: (row) => row.key,
  make: (cell) => cell.append(h("button", { type: "button", class: "link", onclick: () => look(cell.parentElement.row.id) })),
  show: (cell, row) => text(cell.firstChild, row.key === "" ? "(empty)" : row.key),
});

/** `look(id)`: looks a key up; `again()`: asks the API anew. */
export function beginHot(look, again) {
  let by = BY[0];
  const tabs = BY.map((one) => {
    const choose = () => {
      by = one;
      again();
    };
    const input = h("input", { type: "radio", name: "by", value: one.id, checked: one === by, onchange: choose });
    return h("label", { title: one.about }, input, h("span", null, one.title));
  });
  const view = panel("hotkeys", "Hot keys", BY[0].about, 4, h("fieldset", { class: "segments" }, h("legend", { class: "unseen" }, "By"), ...tabs));
  const columns = [
    key(look),
    {
      id: "figure", title: "Figure", number: true, of: (row) => row.figure,
      make: (cell) => cell.append(h("span"), bar("info")),
      show(cell, row) {
        figure(cell.firstChild, row.figure, row.shown);
        fill(cell.lastChild, row.share);
        cell.lastChild.classList.remove("high");
      },
    },
  ];
  const table = new Table(columns, { key: (row) => `${row.node} ${row.id}`, sort: "figure", caption: "Hot keys", empty: "Nothing has been read yet." });
  view.body.append(table.element);
  return {
    section: view.section,
    failed: view.failed,
    path: () => `hotkeys?count=50&by=${by.id}`,
    update(answer) {
      // An answer to what was asked before another was chosen.
      if (answer.by !== by.id) return;
      text(view.section.querySelector(".about"), by.about);
      const most = answer.keys[0]?.figure || 1;
      table.set(answer.keys.map((row) => ({ ...row, shown: by.shown(row.figure), share: row.figure / most })));
      view.failed(answer.errors);
    },
  };
}

/** Leases, locks, waiters: how many, how long, and of which hot keys. */
export function beginProgress(look) {
  const view = panel("progress", "Leases and waiters", "In progress now", 4);
  const figures = ["leases", "locks", "waiters"].map((id) => ({ id, value: h("dd", { id: `now-${id}` }, "–") }));
  const numbers = h("dl", { class: "figures" }, ...figures.map(({ id, value }) => h("div", null, h("dt", null, id), value)));
  const times = ["fillTimes", "waitTimes"].map((id) => ({ id, cells: ["p50", "p90", "p99"].map((of) => ({ of, cell: h("td", { class: "number" }, "–") })) }));
  const quantiles = h(
    "table", { class: "small" },
    h("caption", { class: "unseen" }, "How long fills and waits took, since the counters began"),
    h("thead", null, h("tr", null, h("th", { scope: "col" }, h("span", { class: "dim" }, "since the counters began")), ...["p50", "p90", "p99"].map((of) => h("th", { scope: "col", class: "number" }, of)))),
    h("tbody", null, ...times.map(({ id, cells }) => h("tr", null, h("th", { scope: "row" }, id === "fillTimes" ? "fills take" : "waits take"), ...cells.map(({ cell }) => cell)))),
  );
  const spaces = h("p", { class: "chips" });
  const columns = [
    key(look),
    {
      id: "lease", title: "Lease left", number: true, of: (row) => row.leaseMs,
      show: (cell, row) => figure(cell, row.leaseMs, row.leaseMs > 0 ? show.time(row.leaseMs / 1000) : "–"),
    },
    { id: "waiters", title: "Waiting", number: true, of: (row) => row.waiters, show: (cell, row) => figure(cell, row.waiters, show.count(row.waiters)) },
  ];
  const table = new Table(columns, { key: (row) => `${row.node} ${row.id}`, sort: "waiters", caption: "Hot keys in progress", empty: "No hot key is being computed or waited for." });
  view.body.append(numbers, quantiles, spaces, table.element);
  return {
    section: view.section,
    failed: view.failed,
    updateFigures(leases) {
      for (const { id, value } of figures) figure(value, leases[id], show.count(leases[id]));
      for (const { id, cells } of times) for (const { of, cell } of cells) figure(cell, leases[id][of], show.time(leases[id][of]));
      const each = Object.entries(leases.leasesByNamespace).sort(([, one], [, other]) => other - one).slice(0, 8);
      spaces.replaceChildren(...each.map(([name, n]) => h("span", { class: "chip" }, name, " ", h("b", null, show.count(n)))));
    },
    update(answer) {
      table.set(answer.keys);
      view.failed(answer.errors);
    },
  };
}
