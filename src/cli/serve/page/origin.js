// The origin's protection: breakers, fills that failed or were refused, and why.

import { figure, h, panel, text } from "./dom.js";
import * as show from "./format.js";
import { Table } from "./table.js";

/** A list of figures by a word: what is nought is left out. */
function reasons(host, by, none) {
  const told = Object.entries(by).filter(([, n]) => n > 0).sort(([, one], [, other]) => other - one);
  host.replaceChildren(...told.map(([why, n]) => h("span", { class: "chip", "data-reason": why, "data-value": n }, why, " ", h("b", null, show.count(n)))));
  if (told.length === 0) host.append(h("span", { class: "dim" }, none));
}

/** Each primary has a breaker of its own: those of a namespace as one row, by the worst. */
function together(breakers) {
  const rows = new Map();
  for (const one of breakers) rows.set(one.id, [...(rows.get(one.id) ?? []), one]);
  const sum = (all, field) => all.reduce((sum, one) => sum + (one[field] ?? 0), 0);
  return [...rows.values()].map((all) => {
    const [first] = all;
    const state = first.hasBreaker ? ["open", "probing", "closed"].find((word) => all.some((one) => one.state === word)) : "none";
    const so = all.filter((one) => one.state === state);
    const rest = Math.max(...so.map((one) => one.restMs));
    const words = [state, so.length < all.length && first.hasBreaker ? `${so.length} of ${all.length}` : "", state === "open" && rest > 0 ? show.time(Math.ceil(rest / 1000)) : ""];
    return {
      id: first.id, namespace: first.namespace, state,
      shown: words.filter(Boolean).join(" · "),
      about: all.map((one) => `${one.node}: ${one.hasBreaker ? one.state : "none"}`).join("\n"),
      maxFills: sum(all, "maxFills"), leases: sum(all, "leases"), failedFills: sum(all, "failedFills"), protected: sum(all, "protected"),
    };
  });
}

/** Breakers. */
export function beginBreakers() {
  const view = panel("breakers", "Origins", "Breakers, limits of fills, fills refused and failed", 4);
  const count = (id, title, of, help) => ({ id, title, help, number: true, of, show: (cell, row) => figure(cell, of(row), show.count(of(row))) });
  const columns = [
    { id: "namespace", title: "Namespace", head: true, of: (row) => row.namespace, show: (cell, row) => text(cell, row.namespace) },
    {
      id: "state", title: "Breaker", of: (row) => row.state,
      make: (cell) => cell.append(h("span", { class: "pill" })),
      show(cell, row) {
        cell.firstChild.className = `pill ${row.state}`;
        text(cell.firstChild, row.shown);
        cell.title = row.about;
      },
    },
    {
      id: "fills", title: "Fills of", number: true, of: (row) => row.leases, help: "Leases out, of MAXFILLS",
      show: (cell, row) => figure(cell, row.leases, row.maxFills ? `${show.count(row.leases)} of ${show.count(row.maxFills)}` : show.count(row.leases)),
    },
    count("failed", "Failed", (row) => row.failedFills, "Fills given up, and leases that ran out"),
    count("protected", "Held back", (row) => row.protected, "Loads that the origin was spared by MAXFILLS or BREAKER alone"),
  ];
  const table = new Table(columns, { key: (row) => `b:${row.id}`, sort: "failed", caption: "Breakers", empty: "No namespace has a BREAKER or MAXFILLS." });
  const refused = h("p", { class: "chips", id: "refused" });
  view.body.append(table.element, h("h3", null, "Fills refused, by reason"), refused);
  return {
    section: view.section,
    failed: view.failed,
    updateFigures: (overview) => reasons(refused, overview.refusedByReason, "none"),
    update(answer) {
      table.set(together(answer.breakers));
      view.failed(answer.errors);
    },
  };
}

const PARTS = ["info", "fresh", "stale", "busy", "miss", "dim"];

/** Memory by part, evictions by reason, and what commands take. */
export function beginMemory() {
  const view = panel("memory", "Memory", "Of everything that CacheFlow holds, by what it is for", 12);
  const strip = h("div", { class: "strip", "aria-hidden": "true" });
  const parts = h("ul", { class: "parts", id: "parts" });
  const evicted = h("p", { class: "chips", id: "evicted" });
  view.body.append(strip, h("div", { class: "split" }, parts, h("div", { class: "side" }, h("h3", null, "Evictions, by reason"), evicted)));
  return {
    section: view.section,
    failed: view.failed,
    updateFigures(overview) {
      const by = Object.entries(overview.bytesByPart).filter(([, n]) => n > 0).sort(([, one], [, other]) => other - one);
      const all = by.reduce((sum, [, n]) => sum + n, 0) || 1;
      strip.replaceChildren(
        ...by.map(([, n], at) => {
          const part = h("span", { class: PARTS[at % PARTS.length] });
          part.style.setProperty("--share", (n / all).toFixed(4));
          return part;
        }),
      );
      parts.replaceChildren(
        ...by.map(([name, n], at) =>
          h("li", { "data-part": name, "data-value": n }, h("span", { class: `swatch ${PARTS[at % PARTS.length]}`, "aria-hidden": "true" }), name, h("b", null, show.bytes(n)), h("span", { class: "dim" }, show.percent(n / all))),
        ),
      );
      reasons(evicted, overview.evictionsByReason, "none");
    },
  };
}

/** Commands: how often, how long. */
export function beginCommands() {
  const view = panel("commands", "Commands", "CPU time in the server, by call", 4);
  const columns = [
    { id: "command", title: "Command", head: true, of: (row) => row.command, show: (cell, row) => text(cell, row.command.replace("CACHE.", "")) },
    { id: "rate", title: "Calls/s", number: true, of: (row) => row.rate, show: (cell, row) => figure(cell, row.rate, show.rate(row.rate)) },
    { id: "calls", title: "Calls", number: true, of: (row) => row.calls, show: (cell, row) => figure(cell, row.calls, show.count(row.calls)) },
    { id: "mean", title: "Mean", number: true, help: "Since the server's start", of: (row) => row.seconds / row.calls, show: (cell, row) => figure(cell, row.seconds / row.calls, show.time(row.seconds / row.calls)) },
    { id: "p99", title: "p99", number: true, help: "Of the slowest node, since its start", of: (row) => row.p99, show: (cell, row) => figure(cell, row.p99, show.time(row.p99)) },
  ];
  const table = new Table(columns, { key: (row) => row.command, sort: "calls", caption: "Commands", empty: "No command has run." });
  view.body.append(table.element);
  return {
    section: view.section,
    failed: view.failed,
    update(looks) {
      const [before, now] = [looks.earlier, looks.newest];
      const comparable = before && before.over === now.over;
      const rate = (row) => {
        const old = comparable ? before.commands.find(({ command }) => command === row.command) : undefined;
        if (!comparable) return null;
        const grown = row.calls - (old?.calls ?? 0);
        return grown >= 0 ? grown / ((now.atMs - before.atMs) / 1000) : null;
      };
      table.set(now.commands.filter(({ calls }) => calls > 0).map((row) => ({ ...row, rate: rate(row) })));
    },
  };
}
