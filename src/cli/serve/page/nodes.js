// The nodes: shards, roles, memory, sweep; who is dead, and why.

import { bar, figure, fill, h, panel, text } from "./dom.js";
import * as show from "./format.js";
import { Looks } from "./series.js";
import { Table } from "./table.js";

const looks = new Map();

/** Whatever a dead node has not said is not known. */
const plain = (id, title, of, shown, more = {}) => ({ id, title, of, number: true, show: (cell, row) => figure(cell, of(row), shown(of(row))), ...more });

/** Puts them into a panel. */
export function begin() {
  const view = panel("nodes", "Nodes", "Shards, roles, memory, and what the sweep has yet to do", 12);
  const columns = [
    {
      id: "node", title: "Node", head: true, of: (row) => row.node,
      make: (cell) => cell.append(h("span", { class: "name" }), h("span", { class: "why" })),
      show(cell, row) {
        text(cell.firstChild, row.node);
        text(cell.lastChild, row.error ?? "");
      },
    },
    {
      id: "up", title: "State", of: (row) => (row.up ? (row.link === "down" ? 1 : 2) : 0),
      make: (cell) => cell.append(h("span", { class: "pill" })),
      show(cell, row) {
        const state = !row.up ? "down" : row.link === "down" ? "link down" : "up";
        cell.firstChild.className = `pill ${state.replace(" ", "-")}`;
        text(cell.firstChild, state);
      },
    },
    { id: "role", title: "Role", of: (row) => row.role, make: (cell) => cell.append(h("span", { class: "role" })), show: (cell, row) => { cell.firstChild.className = `role ${row.role}`; text(cell.firstChild, row.role); } },
    { id: "shard", title: "Shard", of: (row) => row.order, minor: true, show: (cell, row) => text(cell, row.shard || "–") },
    plain("entries", "Entries", (row) => row.entries, show.count),
    plain("bytes", "CacheFlow", (row) => row.bytes, show.bytes, { minor: true, help: "Memory of everything that CacheFlow holds" }),
    {
      id: "memory", title: "Server memory", number: true, of: (row) => row.memoryBytes, help: "Of maxmemory",
      make: (cell) => cell.append(h("span"), bar("memory")),
      show(cell, row) {
        const limit = row.memoryLimitBytes || null;
        figure(cell.firstChild, row.memoryBytes, show.bytes(row.memoryBytes) + (limit ? ` / ${show.bytes(limit)}` : ""));
        fill(cell.lastChild, limit && row.up ? row.memoryBytes / limit : 0);
      },
    },
    plain("sweep", "To sweep", (row) => row.sweepQueued, show.count, { help: "What the sweep has yet to look at" }),
    plain("commands", "Commands/s", (row) => row.rate, show.rate),
    plain("clients", "Clients", (row) => row.clients, show.count, { minor: true }),
    plain("took", "Answers in", (row) => (row.up ? row.tookMs / 1000 : null), show.time, { minor: true, help: "How long INFO and CACHE.METRICS took" }),
    plain("uptime", "Up for", (row) => row.uptimeSeconds, show.time, { minor: true }),
    { id: "version", title: "Version", minor: true, of: (row) => row.version ?? null, show: (cell, row) => text(cell, row.version ? `${row.engine} ${row.version} · ${row.module}` : "–") },
  ];
  const table = new Table(columns, {
    key: (row) => row.node, sort: "shard", down: false, caption: "Nodes", empty: "No node is known.", dead: (row) => !row.up,
  });
  view.body.append(table.element);
  return {
    section: view.section,
    failed: view.failed,
    update({ atMs, nodes }) {
      const first = (shard) => Number.parseInt(shard, 10);
      const rows = nodes.map((row) => {
        if (!looks.has(row.node)) looks.set(row.node, new Looks());
        const own = looks.get(row.node);
        own.push({ atMs, over: row.up, commands: row.commands });
        const order = `${String(Number.isNaN(first(row.shard)) ? row.shard : first(row.shard)).padStart(8, "0")} ${row.role} ${row.node}`;
        return { ...row, order, rate: row.up ? own.rates(["commands"]).commands : null };
      });
      table.set(rows);
    },
  };
}
