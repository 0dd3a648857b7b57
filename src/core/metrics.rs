//! CACHE.METRICS: which metrics there are, and their text.
//!
//! [`TABLE`] is all of it: what is written, what `docs/metrics.md` lists, and what
//! tests look for. A name is that of CACHE.STATS with `_total` behind a counter; times
//! are in seconds, sizes in bytes.
//!
//! Guarantees:
//! - Of each metric by namespace the sum is that of the shard: what belongs to none
//!   that is shown, or to none at all, is in the namespace [`REST`].
//! - Bounded: by [`Shown`] and by [`LONGEST_NAME`]. A namespace that is shown once is
//!   shown from then on, so that no counter ever falls but by a reset.
//!
//! When you add a metric: a line in [`TABLE`], its figure in [`Shard`] or [`Figures`], a
//! panel in scripts/dashboards, and `make docs`.

use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::exposition::{label_of, Exposition, Kind, Value};
use crate::histogram::Histogram;
use crate::leases::Counters;
use crate::tally::Tally;
use crate::units::block;

/// The namespace of what is in none that is shown.
pub const REST: &str = "*";
/// The longest name of a namespace that is shown, in bytes.
pub const LONGEST_NAME: usize = 256;

/// The figures of a namespace, or of all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// What is counted of its entries.
    pub tally: Tally,
    /// What is counted of its leases.
    pub counters: Counters,
    /// Its entries.
    pub entries: u64,
    /// What they take, in bytes.
    pub bytes: u64,
    /// What they may take; 0: no limit of its own.
    pub limit: u64,
    /// FETCH leases that are out.
    pub leases: u64,
    /// Whether its breaker is open; `None`: it is [`REST`]'s to say how many are.
    pub open: Option<bool>,
}

/// The figures of a shard.
#[derive(Clone, Debug, Default)]
pub struct Shard {
    /// The version of the module.
    pub version: &'static str,
    /// Of all namespaces, and of keys that are in none.
    pub all: Figures,
    /// Of those that are shown.
    pub namespaces: Vec<(Vec<u8>, Figures)>,
    /// Tags and namespaces invalidated.
    pub invalidations: u64,
    /// What those hit.
    pub invalidated: u64,
    /// Entries evicted, by the limit that they went for.
    pub evicted: [(&'static str, u64); 4],
    /// Bytes, by what they are for.
    pub memory: [(&'static str, u64); 7],
    /// `cacheflow.max-memory`; 0: none.
    pub memory_limit: u64,
    /// Tags that entries carry or that are remembered.
    pub tags: u64,
    /// Memberships of entries in tags.
    pub memberships: u64,
    /// Invalidated tags that are remembered.
    pub tombstones: u64,
    /// Locks held.
    pub locks: u64,
    /// Clients that wait.
    pub waiters: u64,
    /// Breakers that are open.
    pub open_breakers: u64,
    /// Keys that are worth recomputing.
    pub refresh_candidates: u64,
    /// Clients that wait for one.
    pub refresh_workers: u64,
    /// What the sweep has yet to look at.
    pub sweep_queued: u64,
    /// Keys that it removed.
    pub sweep_removed: u64,
    /// Its slices.
    pub sweep_slices: u64,
    /// The longest, in µs.
    pub sweep_longest: u64,
    /// Invalidations that not all primaries have acknowledged yet.
    pub relay_incomplete: u64,
    /// INVALIDATEs answered PARTIAL.
    pub relay_partial: u64,
    /// Payloads refused.
    pub refused_payloads: u64,
    /// Panics caught.
    pub panics: u64,
}

/// Where a metric's samples come from.
enum Source {
    /// One number of the shard.
    Of(fn(&Shard) -> Value),
    /// One that there may be none of.
    If(fn(&Shard) -> Option<Value>),
    /// One for each value of a label.
    By(&'static str, fn(&Shard) -> &[(&'static str, u64)]),
    /// One for each namespace.
    Each(fn(&Figures) -> Value),
    /// One for each that has it; of [`REST`] none.
    Some(fn(&Figures) -> Option<Value>),
    /// Of each namespace the times.
    Times(fn(&Figures) -> &Histogram),
    /// Of each namespace those refused, by reason; of [`REST`] all reasons.
    Refused,
    /// 1, with the version.
    Version,
}

/// A metric.
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// What it says.
    pub help: &'static str,
    source: Source,
}

impl Metric {
    /// Its labels.
    pub fn labels(&self) -> Vec<&'static str> {
        match self.source {
            Source::Of(_) | Source::If(_) => vec![],
            Source::By(label, _) => vec![label],
            Source::Each(_) | Source::Some(_) | Source::Times(_) => vec!["namespace"],
            Source::Refused => vec!["namespace", "reason"],
            Source::Version => vec!["version"],
        }
    }

    /// Its unit.
    pub fn unit(&self) -> &'static str {
        unit_of(self.name)
    }

    fn write(&self, shard: &Shard, shown: &[(String, &Figures)], rest: &Figures, to: &mut Exposition) {
        let each = || shown.iter().map(|(name, of)| (name.as_str(), *of));
        let name = self.name;
        match self.source {
            Source::Of(value) => to.sample(name, &[], value(shard)),
            Source::If(value) => value(shard).into_iter().for_each(|value| to.sample(name, &[], value)),
            Source::By(label, values) => {
                for (text, count) in values(shard) {
                    to.sample(name, &[(label, text)], count);
                }
            }
            Source::Each(value) => {
                for (of, figures) in each().chain([(REST, rest)]) {
                    to.sample(name, &[("namespace", of)], value(figures));
                }
            }
            Source::Some(value) => {
                for (of, figures) in each() {
                    value(figures).into_iter().for_each(|value| to.sample(name, &[("namespace", of)], value));
                }
            }
            Source::Times(times) => {
                // Where nothing is ever computed there are no times: 18 lines less.
                let timed = each().filter(|(_, figures)| times(figures).count() > 0);
                for (of, figures) in timed.chain([(REST, rest)]) {
                    to.histogram(name, &[("namespace", of)], times(figures));
                }
            }
            Source::Refused => {
                for (of, figures) in each().chain([(REST, rest)]) {
                    for (why, count) in figures.counters.refusals() {
                        if count > 0 || of == REST {
                            to.sample(name, &[("namespace", of), ("reason", why.label())], count);
                        }
                    }
                }
            }
            Source::Version => to.sample(name, &[("version", shard.version)], 1),
        }
    }
}

/// The unit that a name ends in.
pub fn unit_of(name: &str) -> &'static str {
    let name = name.strip_suffix("_total").unwrap_or(name);
    ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(unit)).unwrap_or("")
}

const fn metric(name: &'static str, kind: Kind, source: Source, help: &'static str) -> Metric {
    Metric { name, kind, help, source }
}

use Kind::{Counter, Gauge};
use Source::{By, Each, If, Of};
use Value::{Count, Micros, Time};

/// Every metric, in the order of the text.
pub static TABLE: &[Metric] = &[
    metric("cacheflow_info", Gauge, Source::Version, "Always 1; the version of the module is a label."),
    // ── reads ──
    metric("cacheflow_hits_total", Counter, Each(|of| Count(of.tally.hits)), "Reads answered with a fresh value."),
    metric("cacheflow_stale_hits_total", Counter, Each(|of| Count(of.tally.stale_hits)), "Reads answered with a stale value."),
    metric("cacheflow_misses_total", Counter, Each(|of| Count(of.tally.misses)), "Reads answered with nothing, of keys whose namespace has had entries; of any other key in the namespace *."),
    metric("cacheflow_busy_total", Counter, Each(|of| Count(of.counters.busy)), "CACHE.FETCH answered BUSY: another computes, or the origin is protected."),
    metric("cacheflow_origin_saved_seconds_total", Counter, Each(|of| Time(of.tally.saved())), "The origin's time that hits have saved, in seconds: the entry's measured cost, else what is usual in the namespace."),
    metric("cacheflow_writes_total", Counter, Each(|of| Count(of.tally.writes)), "Values written."),
    // ── leases ──
    metric("cacheflow_grants_total", Counter, Each(|of| Count(of.counters.grants)), "Leases and locks granted."),
    metric("cacheflow_early_elections_total", Counter, Each(|of| Count(of.counters.early_elections)), "Leases granted on entries that were still fresh."),
    metric("cacheflow_promotions_total", Counter, Each(|of| Count(of.counters.promotions)), "Leases and locks granted to who had waited."),
    metric("cacheflow_waits_total", Counter, Each(|of| Count(of.counters.waits)), "Clients that began to wait for a fill or a lock."),
    metric("cacheflow_coalesced_total", Counter, Each(|of| Count(of.counters.coalesced)), "Waiters answered with a value that another computed: origin reads that were saved."),
    metric("cacheflow_fills_total", Counter, Each(|of| Count(of.counters.fills)), "Fills by a lease or a lock that were stored."),
    metric("cacheflow_refused_fills_total", Counter, Source::Refused, "Fills by a lease or a lock that were refused, for something newer had happened; by reason, of the namespace * all reasons."),
    metric("cacheflow_failed_fills_total", Counter, Each(|of| Count(of.counters.failed_fills)), "Fills that failed: given up with RETRY, or leases that ran out."),
    metric("cacheflow_protected_total", Counter, Each(|of| Count(of.counters.protected)), "CACHE.FETCH that got no lease at once because of MAXFILLS or BREAKER alone."),
    metric("cacheflow_breaker_opened_total", Counter, Each(|of| Count(of.counters.breaker_opened)), "Breakers that opened."),
    metric("cacheflow_fill_duration_seconds", Kind::Histogram, Source::Times(|of| &of.counters.fill_times), "From the grant of a CACHE.FETCH lease to the fill that was stored by it, in seconds."),
    metric("cacheflow_wait_duration_seconds", Kind::Histogram, Source::Times(|of| &of.counters.wait_times), "How long clients waited for a fill or a lock, however that ended, in seconds."),
    metric("cacheflow_leases", Gauge, Each(|of| Count(of.leases)), "CACHE.FETCH leases that are out."),
    metric("cacheflow_locks", Gauge, Of(|shard| Count(shard.locks)), "Locks held."),
    metric("cacheflow_waiters", Gauge, Of(|shard| Count(shard.waiters)), "Clients that wait for a fill or a lock."),
    metric("cacheflow_breaker_open", Gauge, Source::Some(|of| of.open.map(|open| Count(u64::from(open)))), "Whether the breaker of a namespace is open (1); of namespaces that have one."),
    metric("cacheflow_open_breakers", Gauge, Of(|shard| Count(shard.open_breakers)), "Breakers that are open."),
    // ── what there is ──
    metric("cacheflow_entries", Gauge, Each(|of| Count(of.entries)), "Entries that no invalidation of their namespace has killed."),
    metric("cacheflow_namespace_bytes", Gauge, Each(|of| Count(of.bytes)), "Memory of the entries, in the server and in the index, in bytes."),
    metric("cacheflow_namespace_limit_bytes", Gauge, Source::Some(|of| (of.limit > 0).then_some(Count(of.limit))), "What MAXMEMORY of a namespace is, in bytes; of namespaces that have one."),
    metric("cacheflow_memory_bytes", Gauge, By("part", |shard| &shard.memory), "Memory of everything that CacheFlow holds, in bytes, by what it is for."),
    metric("cacheflow_memory_limit_bytes", Gauge, If(|shard| (shard.memory_limit > 0).then_some(Count(shard.memory_limit))), "What cacheflow.max-memory is, in bytes; not there where it is 0."),
    metric("cacheflow_tags", Gauge, Of(|shard| Count(shard.tags)), "Tags that entries carry, and those that are remembered because they were invalidated."),
    metric("cacheflow_memberships", Gauge, Of(|shard| Count(shard.memberships)), "Memberships of entries in tags."),
    metric("cacheflow_tombstones", Gauge, Of(|shard| Count(shard.tombstones)), "Invalidated tags that are remembered."),
    // ── what goes ──
    metric("cacheflow_invalidations_total", Counter, Of(|shard| Count(shard.invalidations)), "Tags and namespaces invalidated."),
    metric("cacheflow_invalidated_entries_total", Counter, Of(|shard| Count(shard.invalidated)), "What those hit: memberships of tags, entries of namespaces."),
    metric("cacheflow_evictions_total", Counter, By("reason", |shard| &shard.evicted), "Entries evicted, by what they went for: MAXMEMORY of the namespace, cacheflow.max-memory, cacheflow.evict-at, or the server's own maxmemory-policy."),
    metric("cacheflow_namespace_evictions_total", Counter, Each(|of| Count(of.tally.evictions)), "Entries evicted, whatever for."),
    metric("cacheflow_expired_total", Counter, Each(|of| Count(of.tally.expired)), "Entries whose time was up, the grace included."),
    metric("cacheflow_sweep_queued", Gauge, Of(|shard| Count(shard.sweep_queued)), "What the sweep has yet to look at, at most."),
    metric("cacheflow_sweep_removed_total", Counter, Of(|shard| Count(shard.sweep_removed)), "Keys that the sweep removed."),
    metric("cacheflow_sweep_slices_total", Counter, Of(|shard| Count(shard.sweep_slices)), "Slices of the sweep."),
    metric("cacheflow_sweep_longest_slice_seconds", Gauge, Of(|shard| Micros(shard.sweep_longest)), "The longest slice of the sweep since the counters were reset, in seconds."),
    // ── the rest ──
    metric("cacheflow_refresh_candidates", Gauge, Of(|shard| Count(shard.refresh_candidates)), "Keys that CACHE.REFRESH would give, now or soon."),
    metric("cacheflow_refresh_workers", Gauge, Of(|shard| Count(shard.refresh_workers)), "Clients that wait in CACHE.REFRESH."),
    metric("cacheflow_relay_incomplete", Gauge, Of(|shard| Count(shard.relay_incomplete)), "Invalidations from here that not all primaries of the cluster have acknowledged."),
    metric("cacheflow_relay_partial_total", Counter, Of(|shard| Count(shard.relay_partial)), "CACHE.INVALIDATE answered PARTIAL."),
    metric("cacheflow_refused_payloads_total", Counter, Of(|shard| Count(shard.refused_payloads)), "Payloads that were refused: RESTORE, RDB files, migration."),
    metric("cacheflow_panics_total", Counter, Of(|shard| Count(shard.panics)), "Panics of the module that were caught: bugs, to be reported."),
];

/// The text.
pub fn write(shard: &Shard) -> String {
    let mut rest = shard.all;
    for (_, figures) in &shard.namespaces {
        rest.take(figures);
    }
    let shown: Vec<(String, &Figures)> =
        shard.namespaces.iter().map(|(name, figures)| (label_of(name), figures)).collect();
    let mut text = Exposition::default();
    for metric in TABLE {
        text.family(metric.name, metric.kind, metric.help);
        metric.write(shard, &shown, &rest, &mut text);
    }
    text.into_text()
}

impl Figures {
    /// Adds those of the same namespace in another database.
    pub fn add_entries(&mut self, tally: &Tally, entries: u64, bytes: u64) {
        self.tally = self.tally.plus(tally);
        self.entries += entries;
        self.bytes += bytes;
    }

    fn take(&mut self, part: &Figures) {
        self.tally = self.tally.without(&part.tally);
        self.counters = self.counters.without(&part.counters);
        self.entries = self.entries.saturating_sub(part.entries);
        self.bytes = self.bytes.saturating_sub(part.bytes);
        self.leases = self.leases.saturating_sub(part.leases);
    }
}

/// The namespaces that are shown.
#[derive(Debug, Default)]
pub struct Shown(HashSet<Box<[u8]>, Xxh3DefaultBuilder>);

impl Shown {
    /// Whether one is.
    pub fn has(&self, name: &[u8]) -> bool {
        self.0.contains(name)
    }

    /// Shows more of them, up to so many: those that are used the most, and of those
    /// that are used alike the largest. `others` tells of each by its name, its uses
    /// and its bytes, of one in several databases several times; it is asked only
    /// while there is room.
    pub fn admit(&mut self, most: usize, others: impl FnOnce(&mut dyn FnMut(&[u8], u64, u64))) {
        let room = most.saturating_sub(self.0.len());
        if room == 0 {
            return;
        }
        let mut found: HashMap<Box<[u8]>, (u64, u64), Xxh3DefaultBuilder> = HashMap::default();
        others(&mut |name, uses, bytes| {
            if name.len() <= LONGEST_NAME && name != REST.as_bytes() && !self.has(name) {
                let sum = found.entry_ref(name).or_default();
                *sum = (sum.0 + uses, sum.1 + bytes);
            }
        });
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_unstable_by(|(a, one), (b, other)| other.cmp(one).then(a.cmp(b)));
        self.0.extend(found.into_iter().take(room).map(|(name, _)| name));
    }

    /// Those that are.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|name| &**name)
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.0.iter().map(|name| block(name.len())).sum::<usize>() + block(self.0.allocation_size())
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
