//! The sweep at work: what was invalidated is removed, key by key, in slices
//! of the event loop's time.
//!
//! ```text
//! INVALIDATE ── arm ──► timer, 1 ms ──► slice ──► more? timer again
//!                                       ▲  │ may not remove, paused: timer, later
//!       each turn of the event loop ────┘  (meanwhile; `Pace` says how long)
//! cron (10 times a second): arms it if anything is left, settles the debts of
//! the lazy-free thread, forgets old tombstones, lets what was counted grow old
//! ```
//!
//! A replica removes nothing: its primary's UNLINKs are on their way. It
//! follows, so that it can go on where the primary stopped should it be
//! promoted.

use std::os::raw::c_void;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cacheflow_core::index::{Db, Sweep};
use cacheflow_core::leases::Change;
use cacheflow_core::sweep::{budget, Pace};
use cacheflow_core::units::{Millis, Stamp};
use lazy_static::lazy_static;

use crate::ahead;
use crate::border::cross;
use crate::directives::{MAX_TOMBSTONES, SWEEP_BUDGET_US, TOMBSTONE_TTL};
use crate::evict;
use crate::ffi::ctx::Ctx;
use crate::ffi::events::subscribe;
use crate::ffi::key::Key;
use crate::ffi::{raw, timer};
use crate::hot;
use crate::leases;
use crate::natives_told;
use crate::removal;
use crate::shard::{self, Memory, Tagged};
use crate::sight;
use crate::state::{self, MainThread, COUNTERS};
use crate::stored::Stored;
use crate::ttl;
use crate::turns::{self, Who};

lazy_static! {
    static ref PACE: MainThread<Pace> = MainThread::new(Pace::default());
    /// What `Pace`'s time is counted from.
    static ref START: Instant = Instant::now();
}

static ARMED: AtomicBool = AtomicBool::new(false);
/// `CACHE.DEBUG SWEEP 0` holds it, so that a test can look at what is dead.
pub static HELD: AtomicBool = AtomicBool::new(false);

const SOON: Millis = Millis(1);
const LATER: Millis = Millis(50);
/// What a tick of the cron forgets at most: some 0.2 ms.
const FORGOTTEN_A_TICK: usize = 500;
/// What is done between two looks at the clock.
const STRIDE: u32 = 8;

/// Subscribes to the server's cron.
///
/// # Errors
/// Where the server refuses.
pub fn register(ctx: Ctx) -> Result<(), &'static str> {
    subscribe(ctx, raw::REDISMODULE_EVENT_CRON_LOOP, on_cron)
}

unsafe extern "C" fn on_cron(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    _: *mut c_void,
) {
    cross("cron", (), || {
        // SAFETY: what the server passed.
        let ctx = unsafe { Ctx::new(ctx) };
        if shard::is_in_debt() {
            let began = Instant::now();
            while shard::is_in_debt() && began.elapsed() < Duration::from_micros(200) {
                shard::settle_debts();
            }
        }
        forget(FORGOTTEN_A_TICK);
        ttl::trim();
        evict::on_limits(ctx);
        hot::tick();
        ahead::tick();
        natives_told::tick();
        if shard::with(|index| index.backlog()) > 0 {
            arm(ctx);
        }
    });
}

/// Forgets tombstones that are too old or too many.
pub fn forget(steps: usize) {
    let ttl = u64::try_from(TOMBSTONE_TTL.get()).unwrap_or(0).saturating_mul(1000);
    let before = Stamp(state::wall_stamp().0.saturating_sub(ttl));
    let most = usize::try_from(MAX_TOMBSTONES.get()).unwrap_or(usize::MAX);
    shard::with(|index| index.forget(before, most, steps));
}

/// Has the sweep begin, if it has not.
pub fn arm(ctx: Ctx) {
    arm_in(ctx, SOON);
}

fn arm_in(ctx: Ctx, after: Millis) {
    if !ARMED.swap(true, Relaxed) {
        timer::start(ctx, after.0 as i64, on_timer);
    }
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    ARMED.store(false, Relaxed);
    // A panic leaves the rest to the cron.
    cross("sweep", (), || {
        // SAFETY: what the server passed.
        let ctx = unsafe { Ctx::new(ctx) };
        let after = slice(ctx);
        turns::want(ctx, Who::Sweep, after == Some(SOON));
        if let Some(after) = after {
            arm_in(ctx, after);
        }
    });
}

/// Works on in a turn of the event loop.
pub fn work_on(ctx: Ctx) {
    slice(ctx);
}

/// Works for as long as a slice may take now; answers when to go on.
fn slice(ctx: Ctx) -> Option<Millis> {
    let backlog = shard::with(|index| index.backlog());
    let base = u64::try_from(SWEEP_BUDGET_US.get()).unwrap_or(0);
    let budget = budget(base, f64::from(ctx.memory_ratio()), backlog);
    let began = Instant::now();
    let Some(limit) = PACE.with(|pace| pace.slice(began.duration_since(*START), budget)) else {
        return Some(SOON);
    };
    if HELD.load(Relaxed) || ctx.is_paused() {
        return Some(LATER);
    }
    let may_remove = !ctx.is_replica();
    let mut steps = 0;
    let after = loop {
        match shard::with(|index| index.sweep(&Memory, may_remove)) {
            Sweep::Remove(db, handle) => {
                let entry = shard::stored(handle);
                let name = entry.view().name();
                // What watches it is told what it is told of any invalidation. A companion
                // that is to follow its key takes along that it is dead.
                let stays = entry.is_companion() && natives_told::is_to_be_sent(db, name);
                if !stays && removal::remove(ctx, db, entry, c"cache.invalidated") {
                    COUNTERS.swept.add(1);
                }
            }
            Sweep::Tell(db, handle) => tell(ctx, db, shard::stored(handle)),
            Sweep::Nothing => {}
            Sweep::Wait => break Some(LATER),
            Sweep::Done => break None,
        }
        steps += 1;
        if steps % STRIDE == 0 && began.elapsed() >= limit {
            break Some(SOON);
        }
    };
    let took = began.elapsed();
    PACE.with(|pace| pace.spent(took));
    COUNTERS.slices.add(1);
    COUNTERS.longest_slice.raise(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    after
}

/// Tells who watches an entry that it has become stale, and has it know since
/// when: a tag remembers the last soft invalidation alone.
fn tell(ctx: Ctx, db: Db, entry: Stored) {
    let Some((key, name)) = removal::open(ctx, db, entry) else { return };
    note_staleness(db, &key, name.get().bytes(), entry);
    drop(key);
    ahead::due(db, name.get().bytes());
    ctx.signal_modified(name.get());
    ctx.notify(c"cache.invalidated", name.get());
}

/// The longest value that is copied for that: some 10 µs.
const LONGEST_COPIED: usize = 1 << 16;

fn note_staleness(db: Db, key: &Key, name: &[u8], entry: Stored) {
    leases::changed(db, name, Change::Invalidated(sight::invalidated(db, name, Some(entry))));
    let view = entry.view();
    let Some(settled) = shard::settled(db, name, entry) else { return };
    if settled.staled_at == view.meta().staled_at || entry.content().stored().len() > LONGEST_COPIED {
        return;
    }
    // Without memory for it it stays as it is: stale by its tag.
    if let Ok(noted) = shard::heir(&settled, name, entry.content(), entry) {
        // SAFETY: a new entry; nothing looks at the old one after this.
        unsafe { shard::replace(db, name, key, noted, Tagged::AsHeir) };
    }
}
