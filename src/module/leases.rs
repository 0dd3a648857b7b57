//! The table of leases, locks and waiters at work: told what happens to keys,
//! one timer for all that is due, locks replicated.
//!
//! ```text
//! a command, an event ──► the table ──► due: now (somebody is to be answered)
//!                                         or at its next deadline
//!                                           │
//!        timer ◀── armed for the earlier ───┘
//!          └──► a turn: deadlines, then a batch of waiters
//!                 ▲                           │ more
//!                 └── the next turn of the event loop, and the timer
//! ```
//! Nobody is answered from within a command: what waits is answered between the
//! commands of one turn of the event loop and those of the next, a batch each
//! time, so that a batch is all that others wait for.
//!
//! # What the server does not say
//! That an entry left its key is told by `unlink2`, but not why: expiry and
//! eviction void nothing, a native command that overwrites does. Of the first
//! two a notification follows at once; where none has come by the time the
//! table is next asked, it was the last ([`entry_leaves`]).
//!
//! What happens to keys, databases and connections is told in `leases_told.rs`,
//! origins are protected in `leases_origins.rs`.

use std::os::raw::c_void;

use cacheflow_core::decide::Moment;
use cacheflow_core::entry::Cost;
use cacheflow_core::fills::{Fills, SHARED};
use cacheflow_core::index::{Db, Stamps};
use cacheflow_core::leases::{
    Answer, Ask, At, Change, Event, Evidence, Filled, Leases, Limits, Lock, Refusal, Sight, WaiterId,
};
use cacheflow_core::units::{Millis, Stamp, Time};
use lazy_static::lazy_static;

use crate::ahead as refresh_ahead;
use crate::border::cross;
use crate::directives;
use crate::ffi::args::Str;
use crate::ffi::ctx::Ctx;
use crate::ffi::key::Key;
use crate::ffi::owned::Owned;
use crate::ffi::raw;
use crate::ffi::timer::{self, Timer};
use crate::hooks;
use crate::locks::{tell_end, tell_lock};
use crate::shard;
use crate::sight::see_any;
use crate::slots;
use crate::state::{self, steady, MainThread};
use crate::turns::{self, Who};
use crate::waiters;

/// What there is of it.
#[derive(Default)]
struct Shard {
    leases: Leases,
    fills: Fills,
    /// An entry that left its key, we do not know yet why.
    left: Option<(Db, Vec<u8>)>,
    /// Locks whose key expired or was evicted: others hear of that as of a
    /// deletion, which breaks a fence, and are to be told that it was none.
    /// Later, for the server tells them of the deletion after telling us.
    retell: Vec<(Db, Vec<u8>)>,
    /// The timer, and when it is due.
    armed: Option<(Time, Timer)>,
    /// LOCKs to be answered once the pause is over.
    paused: Vec<WaiterId>,
    /// Locks that went with their slots: others are to be told.
    lost: Vec<(Db, Box<[u8]>, Stamp)>,
    /// When the log was last told of breakers.
    logged: Option<Time>,
}

lazy_static! {
    static ref SHARD: MainThread<Shard> = MainThread::new(Shard::default());
}

/// Waiters answered in a turn: some 20 µs each, what sending takes included.
const BATCH: usize = 100;
/// Deadlines worked off in a turn.
const STEPS: usize = 2000;
/// When it is looked again whether a pause is over.
const PAUSE: Millis = Millis(10);

fn limits() -> Limits {
    let of = |number: &crate::ffi::config::Number| usize::try_from(number.get()).unwrap_or(0);
    Limits {
        lease_max: Millis(directives::LEASE_MAX.get().unsigned_abs()),
        keys: of(&directives::MAX_LEASES),
        remembered: Limits::remembered_in(directives::MAX_MEMORY.get().unsigned_abs()),
        waiters: of(&directives::MAX_WAITERS),
        waiters_per_key: of(&directives::MAX_WAITERS_PER_KEY),
        ..Limits::default()
    }
}

impl Shard {
    fn at<'a>(&mut self, db: Db, key: &'a [u8]) -> At<'a> {
        At { db, key, namespace: self.fills.number(shard::namespace_of(key)) }
    }

    /// As [`Shard::at`], for what grants nothing: no number is given for it.
    fn looked_up<'a>(&self, db: Db, key: &'a [u8]) -> At<'a> {
        let namespace = self.fills.known(shard::namespace_of(key)).unwrap_or(SHARED);
        At { db, key, namespace }
    }

    /// As [`Shard::at`], of a key that the table may know; `None`: it does not.
    fn known<'a>(&self, db: Db, key: &'a [u8]) -> Option<At<'a>> {
        let at = self.looked_up(db, key);
        self.leases.knows(at).then_some(at)
    }

    /// What left its key and was neither said to have expired nor to have been
    /// evicted was overwritten.
    fn settle(&mut self) {
        if let Some((db, key)) = self.left.take() {
            if let Some(at) = self.known(db, &key) {
                self.leases.change(at, Change::Written, steady());
            }
        }
    }

    fn due(&self) -> Option<Time> {
        if self.left.is_some() || !self.retell.is_empty() || self.leases.has_events() {
            return Some(Time(0));
        }
        let paused = !self.paused.is_empty() || !self.lost.is_empty();
        let paused = paused.then(|| steady().after(PAUSE).unwrap_or_default());
        let look = if self.leases.is_empty() { None } else { slots::next_look(self.somebody_waits()) };
        let log = self.next_log();
        self.leases.next_deadline().into_iter().chain(paused).chain(look).chain(log).min()
    }

    fn somebody_waits(&self) -> bool {
        self.leases.counts().waiters > 0
    }
}

/// Runs `body` on the table, what is not known of yet being settled, and has
/// the timer come in time.
fn with<R>(body: impl FnOnce(&mut Shard) -> R) -> R {
    let answer = SHARD.with(|shard| {
        shard.settle();
        shard.leases.set_limits(limits());
        let answer = body(shard);
        if shard.leases.is_empty() {
            slots::forget();
        }
        answer
    });
    schedule();
    answer
}

/// Has the timer come when something is due.
fn schedule() {
    tell_of_breakers();
    SHARD.with(|shard| {
        let Some(due) = shard.due() else { return };
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

/// `CACHE.DEBUG CLOCK` has turned the clock that deadlines are told by.
pub fn clock_turned() {
    slots::clock_turned();
    let armed = SHARD.with(|shard| shard.armed.take());
    if let Some((_, timer)) = armed {
        timer::stop(hooks::own(), timer);
    }
    schedule();
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    SHARD.with(|shard| shard.armed = None);
    cross("leases", (), || {
        // SAFETY: what the server passed.
        let ctx = unsafe { Ctx::new(ctx) };
        turn(ctx);
        turns::want(ctx, Who::Waiters, SHARD.with(|shard| shard.leases.has_events()));
    });
    cross("leases_again", (), schedule);
}

/// Works on in a turn of the event loop, if there is anything to be done.
pub fn work_on(ctx: Ctx) {
    if SHARD.with(|shard| shard.leases.has_events()) {
        turn(ctx);
    }
}

/// Does what is due, and answers a batch of waiters.
fn turn(ctx: Ctx) {
    let paused = ctx.is_paused();
    if !is_quiet() {
        slots::look(ctx, SHARD.with(|shard| shard.somebody_waits()));
        lose_slots();
    }
    if !paused {
        tell_again(ctx);
    }
    // From here on each is done on its own: nothing may keep the others from it.
    let mut events = SHARD.with(|shard| {
        shard.settle();
        shard.leases.tick(steady(), STEPS);
        shard.leases.take_events(BATCH)
    });
    if !paused {
        events.extend(SHARD.with(|shard| std::mem::take(&mut shard.paused)).into_iter().map(Event::Look));
    }
    let mut values = waiters::Values::default();
    for event in events {
        // One that cannot be answered must not take the others with it.
        let answered = cross("wake", false, || {
            waiters::perform(ctx, event, paused, &mut values);
            true
        });
        if !answered {
            cross("wake_lost", (), || waiters::abandon(event));
        }
    }
}

/// What is another node's now is forgotten here, and who waits for it sent on.
fn lose_slots() {
    if let Some(lost) = slots::take_lost() {
        SHARD.with(|shard| {
            let locks = shard.leases.lose(&lost, steady());
            shard.lost.extend(locks);
        });
    }
}

/// Tells others of locks as they are, behind what they were told of their keys.
fn tell_again(ctx: Ctx) {
    for (db, name, token) in SHARD.with(|shard| std::mem::take(&mut shard.lost)) {
        ctx.select(db);
        tell_end(ctx, Owned::new(&name).get(), token);
    }
    for (db, name) in SHARD.with(|shard| std::mem::take(&mut shard.retell)) {
        ctx.select(db);
        tell_lock(ctx, db, Owned::new(&name).get());
    }
}

// ── the commands' ───────────────────────────────────────────────────────────

/// What FETCH asks for, beside what its options say.
pub fn fetch(
    db: Db,
    name: &[u8],
    sight: Sight,
    cost: Cost,
    client: u64,
    ask: impl FnOnce(Millis, Millis) -> Ask,
) -> Answer {
    listen();
    slots::depends_on(name);
    let moment = state::steady_moment();
    with(|shard| {
        let at = shard.at(db, name);
        let length = shard.lease_length(at, cost);
        let times = shard.fills.times(at.namespace);
        let typical = times.map_or(Millis::ZERO, |times| Millis(u64::from(times.typical().0)));
        shard.leases.fetch(at, sight, ask(length, typical), client, moment)
    })
}

/// `CACHE.LOCK`.
pub fn lock(ctx: Ctx, name: Str<'_>, sight: Sight, length: Millis, block: Option<Millis>) -> Answer {
    listen();
    slots::depends_on(name.bytes());
    let (db, client, moment) = (ctx.database(), ctx.client_id(), state::steady_moment());
    let answer = with(|shard| {
        let at = shard.at(db, name.bytes());
        shard.leases.lock(at, sight, length, block, client, moment)
    });
    if matches!(answer, Answer::Locked { .. }) {
        tell_lock(ctx, db, name);
    }
    answer
}

/// Voids what an invalidation has outdated: of that the table hears only when
/// somebody looks at the key, or the sweep comes by.
fn outdate(ctx: Ctx, db: Db, name: Str<'_>) {
    if knows(db, name.bytes()) {
        let sight = see_any(db, name.bytes(), &Key::look(ctx, name));
        changed(db, name.bytes(), Change::Invalidated(sight.invalidated));
    }
}

/// `CACHE.UNLOCK`.
pub fn unlock(ctx: Ctx, name: Str<'_>, token: Stamp, retry: Option<Millis>) -> bool {
    let db = ctx.database();
    outdate(ctx, db, name);
    let (done, locked) = with(|shard| {
        let at = shard.looked_up(db, name.bytes());
        let locked = shard.leases.lock_on(at, steady()).is_some();
        (shard.leases.unlock(at, token, retry, steady()), locked)
    });
    if done && locked {
        tell_end(ctx, name, token);
    }
    if done && retry.is_none() {
        refresh_ahead::due(db, name.bytes());
    }
    done
}

/// `CACHE.EXTEND`.
pub fn extend(ctx: Ctx, name: Str<'_>, token: Stamp, length: Millis) -> bool {
    let db = ctx.database();
    outdate(ctx, db, name);
    let done = with(|shard| {
        let at = shard.looked_up(db, name.bytes());
        shard.leases.extend(at, token, length, steady())
    });
    if done {
        tell_lock(ctx, db, name);
    }
    done
}

/// A SET or a TOUCH with a token.
pub struct Fill {
    token: Stamp,
    evidence: Evidence,
    stamps: Vec<Option<Stamps>>,
    verdict: Result<Filled, Refusal>,
    /// When it was judged: it is ended by the same clock.
    now: Time,
}

impl Fill {
    /// Judges it. `tags`: those it names, or that the entry has, for TOUCH.
    pub fn judge(
        db: Db,
        name: &[u8],
        token: Stamp,
        evidence: Evidence,
        tags: &mut dyn Iterator<Item = &[u8]>,
    ) -> Fill {
        let stamps: Vec<Option<Stamps>> =
            shard::with(|index| tags.map(|tag| index.stamps(db, tag)).collect());
        let now = steady();
        let verdict = with(|shard| {
            let at = shard.looked_up(db, name);
            shard.leases.judge(at, token, &evidence, stamps.iter().copied(), now)
        });
        Fill { token, evidence, stamps, verdict, now }
    }

    /// What it would be stored by: `None` where it is refused.
    pub fn accepted(&self) -> Option<Filled> {
        self.verdict.ok()
    }

    /// Ends the grant, the value being stored or refused.
    pub fn end(self, ctx: Ctx, name: Str<'_>, cost_before: Cost) {
        let db = ctx.database();
        let (locked, refused) = with(|shard| {
            let at = shard.looked_up(db, name.bytes());
            let locked = shard.leases.lock_on(at, steady()).is_some_and(|lock| lock.token == self.token);
            let filled =
                shard.leases.fill(at, self.token, &self.evidence, self.stamps.iter().copied(), self.now);
            if let (Ok(Filled { took: Some(took) }), Some(times)) =
                (filled, shard.fills.times_mut(at.namespace))
            {
                times.record(took, cost_before);
            }
            (locked, filled.is_err())
        });
        if locked {
            tell_end(ctx, name, self.token);
        }
        if refused {
            refresh_ahead::due(db, name.bytes());
        }
    }
}

// ── waiters' ────────────────────────────────────────────────────────────────

/// Whom a waiter waits for, if it still does: database, key, whether it is a
/// LOCK's.
pub fn waiting(id: WaiterId) -> Option<(Db, Vec<u8>, bool)> {
    SHARD.with(|shard| {
        let waiting = shard.leases.waiting(id)?;
        Some((waiting.at.db, waiting.at.key.to_vec(), waiting.lock))
    })
}

/// A LOCK that is to be answered once the pause is over.
pub fn postpone(id: WaiterId) {
    SHARD.with(|shard| shard.paused.push(id));
}

/// See [`Leases::resume`].
pub fn resume(id: WaiterId, sight: Sight, moment: Moment) -> Option<Answer> {
    SHARD.with(|shard| shard.leases.resume(id, sight, moment))
}

/// See [`Leases::forget`].
pub fn forget(id: WaiterId) {
    with(|shard| shard.leases.forget(id, steady()));
}

/// See [`Leases::cut_short`].
pub fn cut_short(id: WaiterId) -> Millis {
    with(|shard| shard.leases.cut_short(id, steady())).unwrap_or(Millis::ZERO)
}

// ── locks' ──────────────────────────────────────────────────────────────────

/// The lock that is held on a key, as `body` has it.
pub fn with_lock<R>(db: Db, name: &[u8], body: impl FnOnce(&Lock<'_>) -> R) -> Option<R> {
    SHARD.with(|shard| {
        let at = shard.known(db, name)?;
        shard.leases.lock_on(at, steady()).map(|lock| body(&lock))
    })
}

/// A lock as another server had it, or this one before.
pub fn apply_lock(db: Db, name: &[u8], token: Stamp, left: Millis, whole: bool, native: bool) {
    listen();
    with(|shard| {
        let at = shard.at(db, name);
        shard.leases.apply_lock(&Lock { at, token, left, whole, native }, steady());
    });
}

/// A lock that came to nothing here: others are to hear that it has ended.
pub fn tell_end_later(db: Db, name: &[u8], token: Stamp) {
    with(|shard| shard.lost.push((db, name.into(), token)));
}

/// Whether one more lock may be known of.
pub fn has_room(db: Db, name: &[u8]) -> bool {
    with(|shard| shard.leases.has_room(shard.looked_up(db, name)))
}

/// The end of one.
pub fn apply_end(db: Db, name: &[u8], token: Stamp) {
    with(|shard| {
        if let Some(at) = shard.known(db, name) {
            shard.leases.apply_unlock(at, token, steady());
        }
    });
}

/// Each lock that is held.
pub fn each_lock(mut each: impl FnMut(&Lock<'_>)) {
    SHARD.with(|shard| shard.leases.locks(steady()).for_each(|lock| each(&lock)));
}

#[path = "leases_ahead.rs"]
mod ahead;
#[path = "leases_look.rs"]
mod look;
#[path = "leases_origins.rs"]
mod origins;
#[path = "leases_told.rs"]
mod told;

pub use ahead::{refresh, typical_cost, typical_of};
pub use look::*;
pub use origins::*;
pub use told::*;
