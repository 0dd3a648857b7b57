// The charts, and the points that they are drawn from.

import { Chart } from "./charts.js";
import * as show from "./format.js";
import { quantile, ratios } from "./series.js";

/** Commands that read. */
const READS = ["CACHE.GET", "CACHE.MGET", "CACHE.FETCH"];

/** The fields of the overview that have rates. */
export const COUNTERS = [
  "hits", "staleHits", "misses", "busy", "originSavedSeconds", "writes", "grants", "waits", "coalesced", "fills",
  "refusedFills", "failedFills", "invalidations", "invalidatedEntries", "evictions", "expired",
];

/** What a call took between two looks at `/api/commands`, on average, in seconds. */
function took(before, now, names) {
  if (!before || before.over !== now.over) return null;
  const of = (look, field) => look.commands.filter(({ command }) => names.includes(command)).reduce((sum, one) => sum + one[field], 0);
  const calls = of(now, "calls") - of(before, "calls");
  const seconds = of(now, "seconds") - of(before, "seconds");
  return calls > 0 && seconds >= 0 ? seconds / calls : null;
}

/** A point of the charts: what happened between the last two looks. */
export function point({ overview, commands, leases }) {
  const [now, steps] = [overview.newest, overview.steps(COUNTERS)];
  const { served, fresh } = ratios(steps);
  const [before, after] = [leases.earlier, leases.newest];
  const comparable = before && before.over === after.over;
  const of = (field, share) => (comparable ? quantile(before[field], after[field], share) : null);
  const spent = leases.previous && leases.previous.over === after.over
    ? (after.fillTimes.seconds - leases.previous.fillTimes.seconds) / ((after.atMs - leases.previous.atMs) / 1000)
    : null;
  const sum = (...fields) => fields.reduce((all, field) => (all === null || steps[field] === null ? null : all + steps[field]), 0);
  return {
    t: now.atMs / 1000,
    served, fresh,
    hits: steps.hits, stale: steps.staleHits, misses: steps.misses, waited: steps.busy,
    reads: sum("hits", "staleHits", "misses", "busy"),
    saved: steps.originSavedSeconds, spent: spent !== null && spent >= 0 ? spent : null,
    coalesced: steps.coalesced,
    latency: took(commands.previous, commands.newest, READS),
    calmLatency: took(commands.earlier, commands.newest, READS),
    get: took(commands.earlier, commands.newest, ["CACHE.GET", "CACHE.MGET"]),
    fetch: took(commands.earlier, commands.newest, ["CACHE.FETCH"]),
    set: took(commands.earlier, commands.newest, ["CACHE.SET"]),
    fillP50: of("fillTimes", 0.5), fillP99: of("fillTimes", 0.99), waitP99: of("waitTimes", 0.99),
    invalidated: steps.invalidatedEntries, evicted: steps.evictions, expired: steps.expired,
    bytes: now.bytes, inProgress: (now.leases ?? 0) + (now.locks ?? 0),
  };
}

/** Between the least and all, where that shows what there is to be seen. */
function shares(min) {
  if (min === null) return [0, 1];
  return [Math.max(0, Math.floor((min - 0.01) * 20) / 20), 1];
}

const charts = [
  new Chart({ id: "chart-reads", title: "Reads per second", about: "What reads were answered with", stacked: true, format: show.rate }, [
    { label: "fresh", color: "fresh", of: (p) => p.hits },
    { label: "stale", color: "stale", of: (p) => p.stale },
    { label: "busy", color: "busy", of: (p) => p.waited },
    { label: "miss", color: "miss", of: (p) => p.misses },
  ]),
  new Chart({ id: "chart-ratio", title: "Hit ratio", about: "Fresh, and with what was served stale", format: show.percent, range: shares }, [
    { label: "fresh or stale", color: "fresh", area: true, of: (p) => p.served },
    { label: "fresh", color: "info", of: (p) => p.fresh },
  ]),
  new Chart({ id: "chart-origin", title: "Origin time per second", about: "What hits saved, and what fills spent", format: show.load }, [
    { label: "saved", color: "fresh", area: true, of: (p) => p.saved },
    { label: "spent", color: "miss", of: (p) => p.spent },
  ]),
  new Chart({ id: "chart-latency", title: "A command in the server", about: "CPU time of a call, on average over nine seconds", format: show.time }, [
    { label: "GET", color: "info", of: (p) => p.get },
    { label: "FETCH", color: "busy", of: (p) => p.fetch },
    { label: "SET", color: "stale", of: (p) => p.set },
  ]),
  new Chart({ id: "chart-fills", title: "Fills and waits", about: "From a lease to its fill, and how long clients waited, over nine seconds", format: show.time }, [
    { label: "fill p50", color: "info", of: (p) => p.fillP50 },
    { label: "fill p99", color: "stale", of: (p) => p.fillP99 },
    { label: "wait p99", color: "busy", of: (p) => p.waitP99 },
  ]),
  new Chart({ id: "chart-removed", title: "Entries gone per second", about: "By invalidation, eviction, or because their time was up", format: show.rate }, [
    { label: "invalidated", color: "miss", of: (p) => p.invalidated },
    { label: "evicted", color: "stale", of: (p) => p.evicted },
    { label: "expired", color: "info", of: (p) => p.expired },
  ]),
];

/** Puts them into the page. */
export function begin(host) {
  host.append(...charts.map((chart) => chart.element));
}

/** Shows what the history has. */
export function update(history, seconds) {
  const points = history.within(seconds);
  for (const chart of charts) chart.set(points, seconds);
}

/** In other colours. */
export function repaint() {
  for (const chart of charts) chart.repaint();
}
