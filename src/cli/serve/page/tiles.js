// The figures that are read first: now, and beside them since the counters began.

import { draw, figure, h, sparkline, text } from "./dom.js";
import * as show from "./format.js";
import { ratios } from "./series.js";

/** One tile: its figure, a line below, and how it went. `of(point)` is drawn. */
function tile(id, title, about, color, of, floor) {
  const value = h("p", { class: "value", id: `tile-${id}` }, "–");
  const below = h("p", { class: "below", id: `tile-${id}-below` });
  const spark = sparkline(160, 36);
  const element = h("article", { class: `card tile ${color}` }, h("h2", { title: about }, title), value, below, spark);
  return { element, value, below, spark, of, floor };
}

const all = {
  ratio: tile("ratio", "Hit ratio", "Reads answered from the cache, fresh or stale, of all reads", "fresh", (p) => p.served, 1),
  reads: tile("reads", "Reads", "CACHE.GET, MGET and FETCH, by the second", "info", (p) => p.reads),
  saved: tile("saved", "Origin time saved", "What hits would have cost to recompute, each second: so many computations at once the origin does without", "fresh", (p) => p.saved),
  coalesced: tile("coalesced", "Coalesced loads", "Waiters that got the value another computed: origin reads saved", "busy", (p) => p.coalesced),
  latency: tile("latency", "Read latency", "What a CACHE.GET, MGET or FETCH takes in the server, on average", "info", (p) => p.latency),
  memory: tile("memory", "Memory", "Everything that CacheFlow holds, of its budget", "stale", (p) => p.bytes),
  leases: tile("leases", "In progress", "Leases that are out, and clients that wait", "busy", (p) => p.inProgress),
  removed: tile("removed", "Invalidated", "Entries that invalidations hit, by the second", "miss", (p) => p.invalidated),
};

/** Puts them into the page. */
export function begin(host) {
  host.append(...Object.values(all).map(({ element }) => element));
}

/** Shows them. */
export function update({ overview: now, rates, slowest }, history) {
  const [current, ever] = [ratios(rates), ratios(now)];
  const best = current.served === null ? ever : current;
  figure(all.ratio.value, best.served, show.percent(best.served));
  all.ratio.below.dataset.value = ever.served ?? "";
  text(all.ratio.below, `${show.percent(best.fresh)} fresh, ${show.percent(best.stale)} stale`);
  const reads = now.hits + now.staleHits + now.misses + now.busy;
  const point = history.points.at(-1) ?? {};
  const perSecond = [rates.hits, rates.staleHits, rates.misses, rates.busy].reduce((a, b) => (a === null || b === null ? null : a + b));
  figure(all.reads.value, perSecond, `${show.rate(perSecond)}/s`);
  figure(all.reads.below, reads, `${show.count(reads)} in all`);
  figure(all.saved.value, rates.originSavedSeconds, `${show.load(rates.originSavedSeconds)}/s`);
  figure(all.saved.below, now.originSavedSeconds, `${show.time(now.originSavedSeconds)} in all`);
  figure(all.coalesced.value, rates.coalesced, `${show.rate(rates.coalesced)}/s`);
  figure(all.coalesced.below, now.coalesced, `${show.count(now.coalesced)} in all`);
  figure(all.latency.value, point.calmLatency ?? null, show.time(point.calmLatency ?? null));
  figure(all.latency.below, slowest, slowest === null ? "" : `p99 ${show.time(slowest)} since start`);
  figure(all.memory.value, now.bytes, show.bytes(now.bytes));
  const limit = now.limitBytes ? `of ${show.bytes(now.limitBytes)} · ` : "";
  figure(all.memory.below, now.entries, `${limit}${show.count(now.entries)} entries`);
  figure(all.leases.value, (now.leases ?? 0) + (now.locks ?? 0), show.count((now.leases ?? 0) + (now.locks ?? 0)));
  figure(all.leases.below, now.waiters, `${show.plural(now.locks ?? 0, "lock", "locks")} · ${show.count(now.waiters)} waiting`);
  figure(all.removed.value, rates.invalidatedEntries, `${show.rate(rates.invalidatedEntries)}/s`);
  figure(all.removed.below, now.invalidatedEntries, `${show.count(now.invalidatedEntries)} in all · ${show.count(now.sweepQueued)} to sweep`);
  for (const { spark, of, floor } of Object.values(all)) draw(spark, history.tail(of), floor);
}
