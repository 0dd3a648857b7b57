//! `CACHE.STATS [NAMESPACE name]` · `CACHE.STATS RESET`
//!
//! ```text
//! > CACHE.STATS NAMESPACE user
//!  1) "hits"         2) (integer) 1200
//!  3) "stale-hits"   4) (integer) 3
//!  …
//! ```
//! Counters since the start or the last RESET, and gauges. Of a namespace:
//! those of all databases together; of `*`, those of the namespaces past
//! `cacheflow.max-namespaces`. `origin-ms-saved` is what the reads that were answered
//! would have taken to recompute: of an entry that was measured its own time, else
//! what is usual in its namespace.

use cacheflow_core::leases::Counters;
use cacheflow_core::origin::State;
use cacheflow_core::request::RequestError;
use cacheflow_core::tally::Tally;

use super::{Command, Error};
use crate::evict::EVICTED;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;
use crate::memory;
use crate::metrics;
use crate::shard;
use crate::state::COUNTERS;

pub struct Stats;

/// What those namespaces are called that are told apart from no other.
const SHARED: &[u8] = b"*";

impl Command for Stats {
    const SPEC: Spec = Spec {
        name: c"cache.stats",
        summary:
            c"Returns counters and gauges as a map, of all or of a namespace, or sets the counters to zero.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of namespaces, O(1) for one of them",
        flags: c"readonly",
        cluster_flags: None,
        acl: c"read slow",
        arity: -1,
        keys: Keys::None,
        tips: Some(c"nondeterministic_output request_policy:all_shards response_policy:special"),
        args: &[Arg::one_of(
            c"what",
            &[Arg::text(c"namespace").after(c"NAMESPACE"), Arg::word(c"reset", c"RESET")],
        )],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let is = |i: usize, word: &[u8]| args.get(i).bytes().eq_ignore_ascii_case(word);
        match args.len() {
            1 => reply(ctx, &totals()),
            2 if is(1, b"RESET") => {
                reset();
                ctx.reply_ok();
            }
            3 if is(1, b"NAMESPACE") => reply(ctx, &of_namespace(args.get(2).bytes())),
            _ => return Err(RequestError::Syntax.into()),
        }
        Ok(())
    }
}

fn reply(ctx: Ctx, fields: &[(&str, u64)]) {
    ctx.reply_map(fields.len());
    for (name, n) in fields {
        ctx.reply_bytes(name.as_bytes());
        ctx.reply_integer(*n);
    }
}

/// What the table of leases counts.
fn of_leases(counters: &Counters) -> [(&'static str, u64); 12] {
    [
        ("busy", counters.busy),
        ("waits", counters.waits),
        ("wait-ms", counters.wait_times.sum().0),
        ("coalesced", counters.coalesced),
        ("grants", counters.grants),
        ("early-elections", counters.early_elections),
        ("fills", counters.fills),
        ("refused-fills", counters.refusals().map(|(_, count)| count).sum()),
        ("promotions", counters.promotions),
        ("failed-fills", counters.failed_fills),
        ("protected", counters.protected),
        ("breaker-opened", counters.breaker_opened),
    ]
}

fn totals() -> Vec<(&'static str, u64)> {
    let counts = shard::counts();
    let (held, counters) = leases::look(|table| (table.counts(), table.totals()));
    let mut fields = vec![
        ("hits", COUNTERS.hits.get()),
        ("stale-hits", COUNTERS.stale_hits.get()),
        ("misses", COUNTERS.misses.get()),
        ("writes", COUNTERS.writes.get()),
        ("invalidations", COUNTERS.invalidations.get()),
        ("invalidated-entries", COUNTERS.invalidated.get()),
        ("evictions", EVICTED.total()),
        ("expired", COUNTERS.expired.get()),
        ("origin-ms-saved", shard::tallies().saved().0),
        ("entries", counts.entries),
        ("bytes", memory::total()),
        ("tags", counts.tags),
        ("memberships", counts.memberships),
        ("leases", held.leases as u64),
        ("locks", held.locks as u64),
        ("waiters", held.waiters as u64),
        ("sweep-queued", counts.backlog),
    ];
    fields.extend(of_leases(&counters));
    fields.push(("open-breakers", leases::open_breakers() as u64));
    fields
}

fn of_namespace(name: &[u8]) -> Vec<(&'static str, u64)> {
    shard::settle();
    let (mut entries, mut bytes, mut sum) = (0, 0, Tally::default());
    shard::with(|index| {
        for db in 0..index.extent() {
            let shared = if name == SHARED { index.shared(db) } else { None };
            for view in index.namespace(db, name).into_iter().chain(shared) {
                entries += view.entries;
                bytes += view.bytes;
                sum = sum.plus(&view.tally);
            }
        }
    });
    let mut fields = vec![
        ("hits", sum.hits),
        ("stale-hits", sum.stale_hits),
        ("misses", sum.misses),
        ("writes", sum.writes),
        ("invalidations", sum.invalidations),
        ("invalidated-entries", sum.invalidated),
        ("evictions", sum.evictions),
        ("expired", sum.expired),
        ("origin-ms-saved", sum.saved().0),
        ("entries", entries),
        ("bytes", bytes),
    ];
    fields.extend(of_leases(&leases::counters_of(name)));
    let (state, out) = leases::origin_of(name);
    let (open, rest) = match state {
        State::Closed => (0, 0),
        State::Resting(left) => (1, left.0),
        State::Probing => (1, 0),
    };
    fields.extend([("leases", out), ("open-breakers", open), ("breaker-rest-ms", rest)]);
    fields
}

fn reset() {
    let all = [
        &COUNTERS.hits,
        &COUNTERS.stale_hits,
        &COUNTERS.misses,
        &COUNTERS.writes,
        &COUNTERS.invalidations,
        &COUNTERS.invalidated,
        &COUNTERS.expired,
        &COUNTERS.slices,
        &COUNTERS.swept,
        &COUNTERS.longest_slice,
    ];
    all.iter().for_each(|counter| counter.set(0));
    EVICTED.reset();
    shard::with(|index| index.reset_tallies());
    leases::reset_counters();
    metrics::reset();
}
