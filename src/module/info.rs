//! The INFO sections: `cacheflow_stats`, `cacheflow_memory`,
//! `cacheflow_leases`, `cacheflow_sweep`.

use std::ffi::CStr;
use std::os::raw::c_int;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use cacheflow_core::leases::Refusal;

use crate::ahead;
use crate::border::{cross, PANICS};
use crate::evict::EVICTED;
use crate::ffi::ctx::Ctx;
use crate::ffi::info::Info;
use crate::ffi::{api, raw};
use crate::hot;
use crate::leases;
use crate::memory;
use crate::packing;
use crate::relay;
use crate::relay_bus::BUS;
use crate::relay_clients;
use crate::shard;
use crate::state::{COUNTERS, ENTRIES, UNLINKED};

/// Registers the sections.
///
/// # Errors
/// Where the server refuses.
pub fn register(ctx: Ctx) -> Result<(), &'static str> {
    // SAFETY: the context is live.
    let done = unsafe { api!(RedisModule_RegisterInfoFunc)(ctx.raw(), Some(info)) };
    if done == raw::REDISMODULE_OK as c_int {
        Ok(())
    } else {
        Err("the server refused the INFO sections")
    }
}

/// Fills refused, by reason, in the order of `Refusal::ALL`.
const REFUSED: [&CStr; Refusal::ALL.len()] = [
    c"refused_unknown",
    c"refused_superseded",
    c"refused_written",
    c"refused_deleted",
    c"refused_staled",
    c"refused_invalidated",
    c"refused_namespace",
    c"refused_tag",
    c"refused_forgotten",
    c"refused_native",
    c"refused_absent",
    c"refused_given_up",
];

unsafe extern "C" fn info(info: *mut raw::RedisModuleInfoCtx, _for_crash_report: c_int) {
    cross("info", (), || {
        // SAFETY: what the server passed.
        let info = unsafe { Info::new(info) };
        if info.section(c"stats") {
            info.number(c"hits", COUNTERS.hits.get());
            info.number(c"stale_hits", COUNTERS.stale_hits.get());
            info.number(c"misses", COUNTERS.misses.get());
            info.number(c"writes", COUNTERS.writes.get());
            info.number(c"invalidations", COUNTERS.invalidations.get());
            info.number(c"invalidated_entries", COUNTERS.invalidated.get());
            info.number(c"evicted_namespace", EVICTED.namespace.get());
            info.number(c"evicted_max_memory", EVICTED.max_memory.get());
            info.number(c"evicted_server", EVICTED.server.get());
            info.number(c"unlinked", UNLINKED.get());
            info.number(c"refused_payloads", COUNTERS.refused_payloads.get());
            info.number(c"corrupt_values", packing::CORRUPT.get());
            info.number(c"panics", PANICS.load(Relaxed));
        }
        if info.section(c"memory") {
            // Under a key; allocated, those included that wait for the
            // lazy-free thread.
            info.number(c"entries", shard::counts().entries);
            info.number(c"allocated_entries", u64::try_from(ENTRIES.load(Relaxed)).unwrap_or(0));
            info.number(c"bytes", memory::entries());
            // Packed values: entries, bytes of them as stored and as they came.
            let of = |count: &AtomicI64| u64::try_from(count.load(Relaxed)).unwrap_or(0);
            info.number(c"packed_entries", of(&packing::COUNTS.entries));
            info.number(c"packed_bytes", of(&packing::COUNTS.packed));
            info.number(c"unpacked_bytes", of(&packing::COUNTS.unpacked));
            info.number(c"packing_bytes", packing::allocated() as u64);
            info.number(c"keyspace_bytes", memory::keyspace());
            info.number(c"index_bytes", shard::allocated() as u64);
            info.number(c"hot_bytes", (hot::allocated() + ahead::allocated()) as u64);
            info.number(c"total_bytes", memory::total());
            let counts = shard::counts();
            info.number(c"tagged_native_keys", counts.companions);
            info.number(c"tags", counts.tags);
            info.number(c"memberships", counts.memberships);
            info.number(c"tombstones", counts.tombstones);
        }
        if info.section(c"leases") {
            let (counts, totals) = leases::look(|table| (table.counts(), table.totals()));
            info.number(c"leases", counts.leases as u64);
            info.number(c"locks", counts.locks as u64);
            info.number(c"waiters", counts.waiters as u64);
            info.number(c"lease_keys", counts.keys as u64);
            info.number(c"lease_bytes", leases::allocated() as u64);
            info.number(c"grants", totals.grants);
            info.number(c"early_elections", totals.early_elections);
            info.number(c"promotions", totals.promotions);
            info.number(c"fills", totals.fills);
            info.number(c"refused_fills", totals.refusals().map(|(_, count)| count).sum());
            for (name, (_, count)) in REFUSED.iter().zip(totals.refusals()) {
                info.number(name, count);
            }
            info.number(c"waits", totals.waits);
            info.number(c"wait_ms", totals.wait_ms);
            info.number(c"busy", totals.busy);
            info.number(c"coalesced", totals.coalesced);
            info.number(c"failed_fills", totals.failed_fills);
            info.number(c"protected", totals.protected);
            info.number(c"breaker_opened", totals.breaker_opened);
            info.number(c"open_breakers", leases::open_breakers() as u64);
            let (candidates, workers) = ahead::counts();
            info.number(c"refresh_candidates", candidates as u64);
            info.number(c"refresh_workers", workers as u64);
        }
        if info.section(c"cluster") {
            let counts = relay::counts();
            info.number(c"bus_sent", BUS.sent.get());
            info.number(c"bus_received", BUS.received.get());
            info.number(c"bus_refused", BUS.refused.get());
            info.number(c"relay_primaries", counts.peers as u64);
            info.number(c"relay_waiting", relay_clients::count() as u64);
            info.number(c"relay_incomplete", counts.incomplete as u64);
            info.number(c"relay_remembered", counts.kept as u64);
            info.number(c"relay_bytes", counts.bytes as u64);
            info.number(c"relay_partial", BUS.partial.get());
        }
        if info.section(c"sweep") {
            info.number(c"sweep_queued", shard::counts().backlog);
            info.number(c"sweep_slices", COUNTERS.slices.get());
            info.number(c"sweep_removed", COUNTERS.swept.get());
            info.number(c"sweep_longest_slice_us", COUNTERS.longest_slice.get());
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_field() {
        for (refusal, name) in Refusal::ALL.into_iter().zip(REFUSED) {
            let label = refusal.label().replace('-', "_");
            assert_eq!(name.to_str(), Ok(format!("refused_{label}").as_str()));
        }
    }
}
