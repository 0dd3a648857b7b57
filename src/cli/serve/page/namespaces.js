// The table of namespaces.

import { bar, draw, figure, fill, h, panel, sparkline, text } from "./dom.js";
import * as show from "./format.js";
import { Looks, ratios } from "./series.js";
import { Table } from "./table.js";

const COUNTERS = ["hits", "staleHits", "misses", "busy", "originSavedSeconds", "coalesced", "refusedFills", "evictions"];
/** Points of a row's line. */
const DRAWN = 40;

const looks = new Map();
const lines = new Map();
let pattern = "";

const seen = (row) => row.rates;
const reads = (rates) => [rates.hits, rates.staleHits, rates.misses, rates.busy].reduce((a, b) => (a === null || b === null ? null : a + b));

/** A column of a figure. */
const plain = (id, title, of, shown, more = {}) => ({ id, title, of, number: true, show: (cell, row) => figure(cell, of(row), shown(of(row))), ...more });

const name = (row) => (row.rest ? "all others" : row.namespace === "" ? "(no delimiter)" : row.namespace);

/** `ask(kind, id, text)`: invalidates, after asking; only who may. */
export function begin(ask) {
  const columns = [
    {
      id: "namespace", title: "Namespace", head: true, of: name,
      make: (cell) => cell.append(h("span", { class: "name" })),
      show(cell, row) {
        text(cell.firstChild, name(row));
        cell.classList.toggle("rest", row.rest || row.namespace === "");
        cell.title = row.rest ? "What is in no namespace that is shown: cacheflow.metrics-namespaces" : "";
      },
    },
    {
      id: "ratio", title: "Hit ratio", number: true, of: (row) => row.ratio, help: "Fresh or stale, of all reads; now, or where nobody reads, ever",
      make: (cell) => cell.append(h("span"), bar("fresh")),
      show(cell, row) {
        figure(cell.firstChild, row.ratio, show.percent(row.ratio));
        fill(cell.lastChild, row.ratio);
        cell.lastChild.classList.remove("high");
      },
    },
    {
      id: "reads", title: "Reads/s", number: true, of: (row) => reads(seen(row)),
      make: (cell) => cell.append(h("span"), sparkline(72, 18)),
      show(cell, row) {
        const value = reads(seen(row));
        figure(cell.firstChild, value, show.rate(value));
        draw(cell.lastChild, lines.get(row.namespace) ?? []);
      },
    },
    plain("hits", "Hits", (row) => row.hits, show.count, { minor: true, help: "Fresh ones, since the counters began" }),
    plain("saved", "Saved/s", (row) => seen(row).originSavedSeconds, show.load, { help: "Origin time saved each second" }),
    plain("coalesced", "Coalesced/s", (row) => seen(row).coalesced, show.rate, { minor: true, help: "Waiters that got the value another computed" }),
    plain("refused", "Refused/s", (row) => seen(row).refusedFills, show.rate, { minor: true, help: "Fills refused because something newer had happened" }),
    plain("leases", "Leases", (row) => row.leases, show.count, { minor: true, help: "Out now" }),
    plain("entries", "Entries", (row) => row.entries, show.count),
    {
      id: "memory", title: "Memory of budget", number: true, of: (row) => row.bytes, help: "Budget: MAXMEMORY of the namespace",
      make: (cell) => cell.append(h("span"), bar("memory")),
      show(cell, row) {
        const limit = row.limitBytes || null;
        figure(cell.firstChild, row.bytes, show.bytes(row.bytes) + (limit ? ` / ${show.bytes(limit)}` : ""));
        fill(cell.lastChild, limit ? row.bytes / limit : 0);
      },
    },
    plain("evictions", "Evicted/s", (row) => seen(row).evictions, show.rate),
    {
      id: "breaker", title: "Breaker", minor: true, of: (row) => row.breakerOpen ?? -1,
      make: (cell) => cell.append(h("span", { class: "pill" })),
      show(cell, row) {
        const state = row.breakerOpen === null ? "" : row.breakerOpen > 0 ? "open" : "closed";
        cell.firstChild.className = `pill ${state}`;
        text(cell.firstChild, state);
      },
    },
    {
      id: "act", title: "Invalidate", kind: "act",
      make(cell, row) {
        // A name that is no text is shown in a way that cannot be asked for again.
        if (row.rest || row.namespace.includes("\\")) return;
        const act = () => ask("namespace", encodeURIComponent(row.namespace), name(row));
        cell.append(h("button", { type: "button", class: "act needs-token", onclick: act, "aria-label": `Invalidate namespace ${name(row)}` }, "Invalidate"));
      },
    },
  ];
  const table = new Table(columns, { key: (row) => `n:${row.namespace}`, sort: "reads", caption: "Namespaces", empty: "No namespace has had an entry yet." });
  const find = (event) => {
    pattern = event.target.value.toLowerCase();
    filter();
  };
  const search = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter namespaces", oninput: find, spellcheck: "false", autocomplete: "off" });
  const view = panel("namespaces", "Namespaces", "Reads now, memory against budget", 12, search);
  view.body.append(table.element);
  let rows = [];
  const filter = () => table.set(rows.filter((row) => name(row).toLowerCase().includes(pattern)));
  return {
    section: view.section,
    failed: view.failed,
    update({ atMs, over, namespaces }) {
      rows = namespaces.map((row) => {
        if (!looks.has(row.namespace)) looks.set(row.namespace, new Looks());
        const own = looks.get(row.namespace);
        // Of what has never happened there is no sample: it has happened no times.
        const counted = Object.fromEntries(COUNTERS.map((field) => [field, row[field] ?? 0]));
        const fresh = own.push({ ...counted, atMs, over });
        const rates = own.rates(COUNTERS);
        if (fresh) {
          const line = [...(lines.get(row.namespace) ?? []), reads(own.steps(COUNTERS))].slice(-DRAWN);
          lines.set(row.namespace, line);
        }
        return { ...row, rates, ratio: ratios(rates).served ?? ratios(row).served };
      });
      // What nobody ever used is not worth a line.
      rows = rows.filter((row) => !row.rest || row.hits + row.misses + row.staleHits + row.busy + (row.entries ?? 0) > 0);
      for (const gone of [...looks.keys()].filter((one) => !namespaces.some((row) => row.namespace === one))) {
        looks.delete(gone);
        lines.delete(gone);
      }
      filter();
    },
  };
}
