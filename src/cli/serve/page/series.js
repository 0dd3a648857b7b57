// What was seen, and what follows from two looks: rates.
//
// Counters are since the servers' start. The difference of two is a rate only if both are
// sums over the same nodes (`over`) and nothing was reset between; else there is a gap.

/** How long the page remembers, in seconds. */
const REMEMBERED = 3600;
/** What a figure that is read at once is taken over, in ms: long enough to be calm. */
const CALM = 9000;
const LOOKS = 12;

/** The growth of each field by the second; null where there is none to tell. */
function growth(before, now, fields) {
  const seconds = (now.atMs - before.atMs) / 1000;
  const comparable = before.over === now.over && seconds > 0;
  const rates = {};
  for (const field of fields) {
    const grown = now[field] - before[field];
    const told = comparable && typeof now[field] === "number" && typeof before[field] === "number" && grown >= 0;
    rates[field] = told ? grown / seconds : null;
  }
  return rates;
}

/** The looks at one thing, of which the newest and one a little older make its rates. */
export class Looks {
  #all = [];

  push(look) {
    const last = this.#all.at(-1);
    // Two that were answered from one look of the server's.
    if (last && last.atMs === look.atMs && last.over === look.over) return false;
    if (last && last.over !== look.over) this.#all = [];
    this.#all.push(look);
    if (this.#all.length > LOOKS) this.#all.shift();
    return true;
  }

  get newest() {
    return this.#all.at(-1);
  }

  /** The one before. */
  get previous() {
    return this.#all.at(-2);
  }

  /** One some seconds ago, or the oldest. */
  get earlier() {
    const now = this.newest;
    return this.#all.find((look) => now.atMs - look.atMs <= CALM && look !== now);
  }

  /** Calm rates. */
  rates(fields) {
    const [before, now] = [this.earlier, this.newest];
    return before ? growth(before, now, fields) : Object.fromEntries(fields.map((field) => [field, null]));
  }

  /** Rates since the look before. */
  steps(fields) {
    const [before, now] = [this.previous, this.newest];
    return before ? growth(before, now, fields) : Object.fromEntries(fields.map((field) => [field, null]));
  }
}

/** Points over time, for the charts. */
export class History {
  points = [];

  push(point) {
    const last = this.points.at(-1);
    // After a pause there is a gap, not a slope.
    if (last && point.t - last.t > 30) this.points.push({ t: last.t + 1 });
    this.points.push(point);
    const oldest = point.t - REMEMBERED;
    const keep = this.points.findIndex((one) => one.t >= oldest);
    if (keep > 0) this.points.splice(0, keep);
  }

  /** Those of the last so many seconds. */
  within(seconds) {
    const last = this.points.at(-1);
    if (!last) return [];
    return this.points.filter((point) => point.t >= last.t - seconds);
  }

  /** A field's last values, for a small line. */
  tail(of, length = 60) {
    return this.points.slice(-length).map((point) => of(point) ?? null);
  }
}

/** Of all reads the share that was answered from the cache; null: nobody read. */
export function ratios({ hits, staleHits, misses, busy }) {
  const all = hits + staleHits + misses + busy;
  const told = [hits, staleHits, misses, busy].every((value) => typeof value === "number") && all > 0;
  if (!told) return { served: null, fresh: null, stale: null };
  return { served: (hits + staleHits) / all, fresh: hits / all, stale: staleHits / all };
}

/** A quantile of what a histogram has counted between two looks, as Prometheus estimates it. */
export function quantile(before, now, share) {
  if (!before || !now || now.count <= before.count) return null;
  const counts = now.buckets.map(([bound, count], at) => [bound, count - (before.buckets[at]?.[1] ?? 0)]);
  const wanted = (now.count - before.count) * share;
  let lower = 0, below = 0;
  for (const [bound, count] of counts) {
    if (count >= wanted) {
      if (bound === null) return lower;
      return lower + ((bound - lower) * (wanted - below)) / Math.max(count - below, Number.MIN_VALUE);
    }
    [lower, below] = [bound, count];
  }
  return lower;
}
