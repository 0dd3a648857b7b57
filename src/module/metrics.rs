//! The figures that CACHE.METRICS writes (`cacheflow_core::metrics`), gathered.
//!
//! An operator's command: it walks the namespaces, once.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use cacheflow_core::metrics::{Figures, Shard, Shown};
use cacheflow_core::origin::State;
use lazy_static::lazy_static;

use crate::ahead;
use crate::border::PANICS;
use crate::directives::{MAX_MEMORY, METRICS_NAMESPACES};
use crate::evict::EVICTED;
use crate::leases;
use crate::memory;
use crate::relay;
use crate::relay_bus::BUS;
use crate::settings;
use crate::shard;
use crate::state::{MainThread, COUNTERS};

lazy_static! {
    static ref SHOWN: MainThread<Shown> = MainThread::new(Shown::default());
}

/// All of them.
pub fn gather() -> Shard {
    shard::settle();
    let most = usize::try_from(METRICS_NAMESPACES.get()).unwrap_or(0);
    let (mut all, mut each) = (Figures::default(), BTreeMap::new());
    shard::with(|index| {
        SHOWN.with(|shown| {
            shown.admit(most, |candidate| {
                index.each_namespace(|name, view| candidate(name, view.tally.uses(), view.bytes));
            });
            each.extend(shown.names().map(|name| (name.to_vec(), Figures::default())));
        });
        index.each_namespace(|name, view| {
            all.add_entries(&view.tally, view.entries, view.bytes);
            if let Some(figures) = each.get_mut(name) {
                figures.add_entries(&view.tally, view.entries, view.bytes);
            }
        });
        for view in (0..index.extent()).filter_map(|db| index.shared(db)) {
            all.add_entries(&view.tally, view.entries, view.bytes);
        }
    });
    // Of keys that are in no namespace, and of native ones, these alone know.
    all.tally.hits = COUNTERS.hits.get();
    all.tally.stale_hits = COUNTERS.stale_hits.get();
    all.tally.misses = COUNTERS.misses.get();
    all.tally.writes = COUNTERS.writes.get();
    all.tally.evictions = EVICTED.total();
    all.tally.expired = COUNTERS.expired.get();
    let held = leases::look(|table| {
        all.counters = table.totals();
        table.counts()
    });
    all.leases = held.leases as u64;
    for (name, figures) in &mut each {
        let set = settings::of(name);
        figures.limit = set.max_memory;
        // What it shares with others is in the rest.
        let Some(counters) = leases::own_counters_of(name) else { continue };
        let (state, out) = leases::origin_of(name);
        figures.counters = counters;
        figures.leases = out;
        figures.open = set.breaker.map(|_| state != State::Closed);
    }
    let counts = shard::counts();
    let (candidates, workers) = ahead::counts();
    Shard {
        version: env!("CARGO_PKG_VERSION"),
        all,
        namespaces: each.into_iter().collect(),
        invalidations: COUNTERS.invalidations.get(),
        invalidated: COUNTERS.invalidated.get(),
        evicted: EVICTED.each().map(|(reason, counter)| (reason, counter.get())),
        memory: memory::parts(),
        memory_limit: MAX_MEMORY.get().unsigned_abs(),
        tags: counts.tags,
        memberships: counts.memberships,
        tombstones: counts.tombstones,
        locks: held.locks as u64,
        waiters: held.waiters as u64,
        open_breakers: leases::open_breakers() as u64,
        refresh_candidates: candidates as u64,
        refresh_workers: workers as u64,
        sweep_queued: counts.backlog,
        sweep_removed: COUNTERS.swept.get(),
        sweep_slices: COUNTERS.slices.get(),
        sweep_longest: COUNTERS.longest_slice.get(),
        relay_incomplete: relay::counts().incomplete as u64,
        relay_partial: BUS.partial.get(),
        refused_payloads: COUNTERS.refused_payloads.get(),
        panics: PANICS.load(Relaxed),
    }
}

/// Counters begin anew: so may what is shown.
pub fn reset() {
    SHOWN.with(|shown| *shown = Shown::default());
}

/// Bytes allocated.
pub fn allocated() -> usize {
    SHOWN.with(|shown| shown.allocated())
}
