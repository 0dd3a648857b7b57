//! CACHE.REFRESH at work: candidates told what happens to their keys, looked at
//! when they are due, and offered with a lease each
//! (`cacheflow_core::refresh_ahead`).
//!
//! ```text
//! reads (counted ones) ─┐
//! writes, fills         ├─▶ candidates ─ due ─▶ looked at ─▶ leased: offered
//! entries that leave ───┘        ▲                 │
//!                                └── not yet ──────┘
//!        timer: armed while workers wait, for the next that is due or whose
//!        time is up; the cron arms it again should a turn have been lost
//! ```
//! Of a key that was deleted by hand (DEL, UNLINK, CACHE.DEL, RENAME and MOVE
//! away) the candidate goes too. A replica hears of expiry, eviction and the sweep
//! as of deletions, and keeps it.
//!
//! Workers that wait are held by `ahead_workers.rs`.

use std::os::raw::c_void;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cacheflow_core::entry::{Cost, Meta};
use cacheflow_core::index::Db;
use cacheflow_core::leases::{Sight, There};
use cacheflow_core::refresh;
use cacheflow_core::refresh_ahead::{self, Ahead, Group, Saved};
use cacheflow_core::saved::SavedError;
use cacheflow_core::saved_hot;
use cacheflow_core::units::{Millis, Stamp, Time};
use cacheflow_core::workers::{Work, WorkerId, Workers};
use lazy_static::lazy_static;

use crate::ahead_workers;
use crate::border::cross;
use crate::directives::{MAX_WAITERS, REFRESH_KEYS};
use crate::ffi::ctx::Ctx;
use crate::ffi::key::Key;
use crate::ffi::owned::Owned;
use crate::ffi::raw;
use crate::ffi::timer::{self, Timer};
use crate::hooks;
use crate::leases;
use crate::shard;
use crate::sight::{invalidated, see};
use crate::slots;
use crate::state::{self, steady, MainThread};

#[derive(Default)]
struct Shard {
    ahead: Ahead,
    workers: Workers,
    armed: Option<(Time, Timer)>,
}

lazy_static! {
    static ref SHARD: MainThread<Shard> = MainThread::new(Shard::default());
}

/// Whether anybody uses it: else nobody tells of writes and of what leaves.
static USED: AtomicBool = AtomicBool::new(false);

/// Candidates that a call or a turn looks at, at 1.3 µs each.
const LOOKS: usize = 200;
/// When it is gone on with those that were not reached.
const SOON: Millis = Millis(1);
/// When a lease is looked after that was offered and neither filled nor given up.
const PATIENCE: Millis = Millis(1000);

/// A key to be recomputed, and the lease for it.
pub struct Offer {
    pub name: Box<[u8]>,
    pub token: Stamp,
    pub length: Millis,
}

fn with<R>(body: impl FnOnce(&mut Shard) -> R) -> R {
    SHARD.with(|shard| {
        shard.ahead.resize(usize::try_from(REFRESH_KEYS.get()).unwrap_or(0));
        body(shard)
    })
}

// ── what happens to keys ────────────────────────────────────────────────────

/// Whether anybody calls CACHE.REFRESH.
#[inline]
pub fn is_used() -> bool {
    USED.load(Relaxed)
}

/// Reads were answered with an entry.
pub fn read(db: Db, name: &[u8], reads: u64, cost: Cost, meta: &Meta) {
    let due_in = refresh_ahead::due_in(meta, cost, state::now());
    let namespace = shard::namespace_of(name);
    with(|shard| shard.ahead.read(db, name, namespace, reads, cost, due_in, steady()));
    schedule();
}

/// An entry was stored.
pub fn written(db: Db, name: &[u8], cost: Cost, meta: &Meta) {
    let due_in = refresh_ahead::due_in(meta, cost, state::now());
    with(|shard| shard.ahead.written(db, name, due_in, steady()));
    schedule();
}

/// An entry left its key, turned stale, or nobody computes it any more.
pub fn due(db: Db, name: &[u8]) {
    if is_used() {
        with(|shard| shard.ahead.due(db, name, steady()));
        schedule();
    }
}

/// A key was deleted by hand.
pub fn deleted(ctx: Ctx, db: Db, name: &[u8]) {
    if with(|shard| shard.ahead.knows(db, name)) && !ctx.is_replica() && !ctx.is_loading() {
        with(|shard| shard.ahead.forget(db, name));
    }
}

/// A database was emptied, or all were.
pub fn flushed(db: Option<Db>) {
    with(|shard| shard.ahead.flush(db));
}

/// Two databases were exchanged.
pub fn swapped(one: Db, other: Db) {
    with(|shard| shard.ahead.swap(one, other));
}

// ── CACHE.REFRESH ───────────────────────────────────────────────────────────

/// Takes what is due, those that waited before being served first.
pub fn refresh(ctx: Ctx, work: &Work) -> Vec<Offer> {
    USED.store(true, Relaxed);
    with(|shard| shard.ahead.used(steady()));
    let mut looks = LOOKS;
    serve(ctx, &mut looks);
    ctx.select(work.group.db());
    let offers = offer(ctx, work, &mut looks);
    schedule();
    offers
}

/// A worker begins to wait; `None` where too many do.
pub fn wait(work: Work, block: Millis) -> Option<WorkerId> {
    let most = usize::try_from(MAX_WAITERS.get()).unwrap_or(0);
    with(|shard| shard.workers.add(work, block, most, steady()))
}

/// A worker waits no more.
pub fn forget_worker(id: WorkerId) {
    with(|shard| shard.workers.remove(id));
}

/// Candidates, as many as are wanted and due, with a lease each.
fn offer(ctx: Ctx, work: &Work, looks: &mut usize) -> Vec<Offer> {
    let mut offers = Vec::new();
    while offers.len() < work.count && *looks > 0 {
        let Some((id, name)) = with(|shard| shard.ahead.best(work.group, steady())) else { break };
        *looks -= 1;
        let found = look(ctx, work, &name);
        let after = |length: Millis| steady().after(length).unwrap_or_default();
        with(|shard| match found {
            Found::Leased(_, length) => shard.ahead.offered(id, after(length.min(PATIENCE))),
            Found::NotYet(left) => shard.ahead.later(id, after(left)),
            Found::WithoutEnd => shard.ahead.never(id),
            Found::NotOurs => shard.ahead.drop(id),
        });
        if let Found::Leased(token, length) = found {
            offers.push(Offer { name, token, length });
        }
    }
    offers
}

/// What becomes of a candidate that is looked at.
#[derive(Clone, Copy)]
enum Found {
    Leased(Stamp, Millis),
    NotYet(Millis),
    WithoutEnd,
    NotOurs,
}

fn look(ctx: Ctx, work: &Work, name: &[u8]) -> Found {
    let db = work.group.db();
    let owned = Owned::new(name);
    if !slots::serves(ctx, owned.get()) {
        return Found::NotOurs;
    }
    let key = Key::look(ctx, owned.get());
    let Some(seen) = see(db, name, &key, 0.0) else { return Found::NotOurs };
    let there = match seen.there {
        There::Native => return Found::NotOurs,
        There::Fresh { .. } => {
            let Some(left) = seen.left else { return Found::WithoutEnd };
            let cost = if seen.cost == Cost(0) { leases::typical_cost(name) } else { seen.cost };
            let length = seen.entry.and_then(|entry| entry.view().meta().length);
            let window = refresh::window(length, cost);
            if left > window {
                return Found::NotYet(Millis(left.0 - window.0));
            }
            There::Fresh { elected: true }
        }
        other => other,
    };
    let sight = Sight { there, invalidated: invalidated(db, name, seen.entry) };
    match leases::refresh(db, name, sight, seen.cost, work.lease, work.client) {
        Ok((token, length)) => Found::Leased(token, length),
        Err(hint) => Found::NotYet(hint),
    }
}

// ── those who wait ──────────────────────────────────────────────────────────

/// Serves them in the order in which they came. Whether all were looked after.
fn serve(ctx: Ctx, looks: &mut usize) -> bool {
    // Groups that nothing is due in: who comes later gets nothing there either.
    let mut empty: std::collections::HashSet<Group> = Default::default();
    let mut last = 0;
    while let Some((id, work)) = with(|shard| shard.workers.after(last)) {
        last = id;
        if empty.contains(&work.group) {
            continue;
        }
        if *looks == 0 {
            return false;
        }
        ctx.select(work.group.db());
        let offers = offer(ctx, &work, looks);
        if offers.is_empty() {
            empty.insert(work.group);
        } else {
            forget_worker(id);
            ahead_workers::answer(id, offers);
        }
    }
    *looks > 0
}

/// Has the timer come while somebody waits, when something is due.
fn schedule() {
    schedule_by(None);
}

fn schedule_by(at_the_latest: Option<Time>) {
    with(|shard| {
        if shard.workers.is_empty() {
            return;
        }
        let times = [shard.ahead.next_due(), shard.workers.next_deadline(), at_the_latest];
        let Some(due) = times.into_iter().flatten().min() else { return };
        let own = hooks::own();
        match shard.armed {
            Some((at, _)) if at <= due => return,
            Some((_, timer)) => timer::stop(own, timer),
            None => {}
        }
        let after = i64::try_from(due.since(steady()).0).unwrap_or(i64::MAX);
        shard.armed = Some((due, timer::start(own, after, on_timer)));
    });
}

/// Somebody has begun to wait.
pub fn somebody_waits() {
    schedule();
}

/// The clock was turned that all of it is told by.
pub fn clock_turned() {
    let armed = with(|shard| shard.armed.take());
    if let Some((_, timer)) = armed {
        timer::stop(hooks::own(), timer);
    }
    schedule();
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    SHARD.with(|shard| shard.armed = None);
    // A panic leaves the rest to the cron.
    cross("refresh_turn", (), || {
        // SAFETY: what the server passed.
        let ctx = unsafe { Ctx::new(ctx) };
        let all = serve(ctx, &mut LOOKS.clone());
        while let Some(id) = with(|shard| shard.workers.overdue(steady())) {
            forget_worker(id);
            ahead_workers::answer(id, Vec::new());
        }
        schedule_by(if all { None } else { steady().after(SOON) });
    });
}

/// Lets time pass. Ten times a second.
pub fn tick() {
    let now = steady();
    with(|shard| {
        if !shard.workers.is_empty() {
            shard.ahead.used(now);
        }
        shard.ahead.decay(now);
        USED.store(shard.ahead.is_used(now), Relaxed);
    });
    schedule();
}

/// The server has become a replica: who waits is told so.
pub fn demoted() {
    while let Some((id, _)) = with(|shard| shard.workers.after(0)) {
        forget_worker(id);
        ahead_workers::unblock(id);
    }
}

// ── saving and looking ──────────────────────────────────────────────────────

/// What is saved of it; `None` where memory ran out.
pub fn saved() -> Option<Vec<Vec<u8>>> {
    with(|shard| saved_hot::parts(shard.ahead.saved()))
}

/// Takes in a part of what was saved.
///
/// # Errors
/// See [`saved_hot::decode`].
pub fn restore(part: &[u8]) -> Result<(), SavedError> {
    with(|shard| {
        saved_hot::decode(part, |saved: Saved<'_>| {
            shard.ahead.restore(&saved, shard::namespace_of(saved.name), steady());
        })
    })
}

/// Candidates, and workers that wait.
pub fn counts() -> (usize, usize) {
    with(|shard| (shard.ahead.len(), shard.workers.len()))
}

/// Bytes allocated.
pub fn allocated() -> usize {
    with(|shard| shard.ahead.allocated())
}

/// What is wrong inside.
pub fn problems() -> Vec<String> {
    with(|shard| shard.ahead.validate())
}
