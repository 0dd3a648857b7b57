//! Budgets kept: `cacheflow.max-memory`, MAXMEMORY of namespaces, and
//! `cacheflow.evict-at`, the share of the server's own maxmemory. When
//! (`cacheflow_core::budget`) and who (`cacheflow_core::evict`) is the core's to
//! say.
//!
//! ```text
//! CACHE.SET, INCRBY ── admit ──► no room: evict for it, or refuse (OOM)
//! each turn of the event loop ──► close to a limit: evict for a slice
//! cron ──► are there limits at all? Turns are heard of while there are.
//! ```
//! Where there is no limit nothing is done and nothing noted: a read looks at
//! one flag. A replica evicts nothing by itself: its primary's UNLINKs come.
//!
//! A write evicts before it opens its key, which may be the one to go.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cacheflow_core::budget::{self, Admission, Budget};
use cacheflow_core::evict::{Eviction, Leaving, Scope};
use cacheflow_core::evict_choice::{Candidate, Standing, Weight};
use cacheflow_core::evict_class::Marks;
use cacheflow_core::evict_follow::Spot;
use cacheflow_core::evict_population::Population;
use cacheflow_core::index::{Db, Index, Share, Verdict};
use cacheflow_core::settings::Policy;
use cacheflow_core::units::{Millis, Time};
use lazy_static::lazy_static;
use xxhash_rust::xxh3::xxh3_64;

use crate::commands::Error;
use crate::directives::{EVICT_AT, EVICT_POLICY, EVICT_WEIGHT, MAX_MEMORY};
use crate::ffi::ctx::Ctx;
use crate::ffi::prefetch;
use crate::leases;
use crate::memory;
use crate::removal;
use crate::shard;
use crate::state::{self, dice, wide_dice, Counter, MainThread};
use crate::stored::Stored;
use crate::turns::{self, Who};

/// Whether there is any limit.
static ON: AtomicBool = AtomicBool::new(false);
/// Whether an entry that leaves just now is evicted.
static EVICTING: AtomicBool = AtomicBool::new(false);

/// Entries evicted, by the limit that they went for.
pub struct Evicted {
    pub namespace: Counter,
    pub max_memory: Counter,
    pub server: Counter,
    /// By the server itself, for its `maxmemory-policy`.
    pub by_server: Counter,
}

impl Evicted {
    /// Each with its reason's name.
    pub fn each(&self) -> [(&'static str, &Counter); 4] {
        [
            ("namespace", &self.namespace),
            ("max-memory", &self.max_memory),
            ("evict-at", &self.server),
            ("maxmemory-policy", &self.by_server),
        ]
    }

    pub fn total(&self) -> u64 {
        self.each().iter().map(|(_, counter)| counter.get()).sum()
    }

    pub fn reset(&self) {
        self.each().iter().for_each(|(_, counter)| counter.set(0));
    }
}

pub static EVICTED: Evicted = Evicted {
    namespace: Counter::new(),
    max_memory: Counter::new(),
    server: Counter::new(),
    by_server: Counter::new(),
};

#[derive(Default)]
struct State {
    /// None where there is no limit.
    eviction: Option<Eviction>,
    weight: Weight,
    all: Budget,
    /// By share, from 1.
    shares: Vec<Budget>,
}

lazy_static! {
    static ref STATE: MainThread<State> = MainThread::new(State::default());
}

/// Choices whose entry turns out to be leased before it is left at that.
const TRIES: usize = 8;
/// What is done between two looks at the clock.
const STRIDE: u32 = 4;

/// Whether uses are to be noted.
#[inline]
pub fn is_on() -> bool {
    ON.load(Relaxed)
}

// ── entries as they are used ────────────────────────────────────────────────

fn with_eviction<R>(body: impl FnOnce(&mut Eviction) -> R) -> Option<R> {
    STATE.with(|state| state.eviction.as_mut().map(body))
}

/// An entry was read.
#[cold]
#[inline(never)]
pub fn used(entry: Stored) {
    if let Some(marks) = with_eviction(|eviction| eviction.used(entry.marks(), dice())) {
        entry.set_marks(marks);
    }
}

/// A value was written over another, whose marks it takes over, and whose slot or
/// another.
pub fn succeeded(db: Db, new: Stored, marks: Marks, same_slot: bool) {
    if is_on() && !new.is_companion() {
        new.set_marks(marks);
        if !same_slot {
            let (spot, share) = place_of(db, new);
            with_eviction(|eviction| eviction.moved(xxh3_64(new.view().name()), marks, spot, share));
        }
    }
}

/// It will soon be asked or noted what was known of this key.
fn expect_ghost(name: &[u8]) {
    with_eviction(|eviction| eviction.ghosts_of(xxh3_64(name)).for_each(|place| prefetch(place)));
}

fn place_of(db: Db, entry: Stored) -> (Spot, Share) {
    let head = entry.head();
    (Spot { db, slot: head.slot() }, shard::with(|index| index.share_of(db, head.namespace())))
}

/// An entry came under a key that had none.
pub fn came(db: Db, entry: Stored) {
    if is_on() && !entry.is_companion() {
        let (spot, share) = place_of(db, entry);
        let hash = xxh3_64(entry.view().name());
        if let Some(marks) = with_eviction(|eviction| eviction.inserted(hash, spot, share, dice())) {
            entry.set_marks(marks);
        }
    }
}

/// An entry leaves its key, and is in the index still.
pub fn leaves(entry: Stored) {
    if is_on() {
        let why = if EVICTING.load(Relaxed) { Leaving::Evicted } else { Leaving::Died };
        let hash = xxh3_64(entry.view().name());
        with_eviction(|eviction| eviction.left(hash, entry.marks(), why));
    }
}

/// The entries of a database, or of all, are gone, or are others.
pub fn flushed(db: Option<Db>) {
    let many = shard::with(|index| index.extent());
    with_eviction(|eviction| db.map_or(0..many, |db| db..db + 1).for_each(|db| eviction.flushed(db)));
}

/// Entries have come, or count to other limits, and nobody has told.
pub fn survey() {
    with_eviction(|eviction| eviction.survey(&Entries::now()));
}

// ── limits ──────────────────────────────────────────────────────────────────

/// Looks whether there are limits, and has turns heard of if so. Not from within
/// one.
pub fn on_limits(ctx: Ctx) {
    let weight = WEIGHTS[EVICT_WEIGHT.get()];
    let is_any = MAX_MEMORY.get() > 0
        || shard::with(|index| index.shares()) > 0
        || (EVICT_AT.get() > 0 && ctx.memory_ratio() > 0.0);
    if ON.swap(is_any, Relaxed) != is_any {
        STATE.with(|state| state.eviction = is_any.then(|| Eviction::new(weight)));
        turns::want(ctx, Who::Evict, is_any);
        survey();
    }
}

const WEIGHTS: [Weight; 4] = [Weight::None, Weight::Size, Weight::Cost, Weight::CostSize];

/// Bytes that the table of uses takes.
pub fn allocated() -> usize {
    with_eviction(|eviction| eviction.allocated()).unwrap_or(0)
}

/// A limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    All,
    Share(Share),
    Server,
}

impl Limit {
    fn scope(self) -> Scope {
        match self {
            Limit::Share(share) => Scope::Share(share),
            Limit::All | Limit::Server => Scope::All,
        }
    }

    fn counter(self) -> &'static Counter {
        match self {
            Limit::All => &EVICTED.max_memory,
            Limit::Share(_) => &EVICTED.namespace,
            Limit::Server => &EVICTED.server,
        }
    }

    /// What it is, and what is held under it; `beside`: [`memory::beside`], asked
    /// for once where many go.
    fn figures(self, beside: u64) -> (u64, u64) {
        match self {
            Limit::All => (MAX_MEMORY.get().unsigned_abs(), memory::of_entries() + beside),
            Limit::Share(share) => shard::with(|index| index.share(share)).unwrap_or_default(),
            Limit::Server => (0, 0),
        }
    }
}

/// Makes room for a write of a value of that size, with so many tags.
///
/// # Errors
/// [`Error::OverBudget`] where there is none; nothing is written then.
pub fn admit(ctx: Ctx, name: &[u8], value: usize, tags: usize) -> Result<(), Error> {
    if !is_on() || !ctx.is_deciding() {
        return Ok(());
    }
    expect_ghost(name);
    let db = ctx.database();
    let share = shard::with(|index| index.share_of_name(shard::namespace_of(name)));
    let namespace = Some(Limit::Share(share)).filter(|_| share > 0);
    for limit in namespace.into_iter().chain([Limit::All]) {
        let admitted = make_room(ctx, limit, memory::expected(name.len(), value, tags));
        ctx.select(db);
        admitted?;
    }
    Ok(())
}

fn make_room(ctx: Ctx, limit: Limit, need: u64) -> Result<(), Error> {
    let beside = memory::beside();
    for _ in 0..=budget::MOST_A_WRITE {
        let (most, held) = limit.figures(beside);
        match budget::admit(most, held, need) {
            Admission::Fits => return Ok(()),
            Admission::Evict(_) if evict(ctx, limit) => {}
            Admission::Evict(_) | Admission::Never => return Err(Error::OverBudget),
        }
    }
    // The turns go on with it.
    Ok(())
}

// ── evicting ────────────────────────────────────────────────────────────────

/// Evicts what is over, or nearly, for as long as a turn may.
pub fn work_on(ctx: Ctx) {
    if !ctx.is_deciding() || ctx.is_paused() {
        return;
    }
    let began = Instant::now();
    let shares = shard::with(|index| index.shares());
    STATE.with(|state| state.shares.resize(usize::from(shares), Budget::default()));
    let at = EVICT_AT.get() as f64 / 100.0;
    let beside = memory::beside();
    for limit in (1..=shares).map(Limit::Share).chain([Limit::All]) {
        evict_while(ctx, limit, || slice(limit, beside).is_some_and(|slice| began.elapsed() < slice));
    }
    evict_while(ctx, Limit::Server, || {
        let ratio = f64::from(ctx.memory_ratio());
        budget::for_server(at, ratio).is_some_and(|slice| began.elapsed() < slice)
    });
    with_eviction(|eviction| eviction.tick(&mut Entries::now(), STEPS_A_TURN));
}

/// Steps of learning in a turn: some µs each.
const STEPS_A_TURN: usize = 4;

fn slice(limit: Limit, beside: u64) -> Option<Duration> {
    let (most, held) = limit.figures(beside);
    STATE.with(|state| match limit {
        Limit::All => state.all.slice(most, held),
        Limit::Share(share) => state.shares[usize::from(share) - 1].slice(most, held),
        Limit::Server => None,
    })
}

fn evict_while(ctx: Ctx, limit: Limit, wanted: impl Fn() -> bool) {
    while wanted() {
        for _ in 0..STRIDE {
            if !evict(ctx, limit) {
                return;
            }
        }
    }
}

fn weigh_by(weight: Weight) {
    STATE.with(|state| {
        if std::mem::replace(&mut state.weight, weight) != weight {
            state.eviction.iter_mut().for_each(|eviction| eviction.set_weight(weight));
        }
    });
}

/// Evicts the entry that is cheapest to lose; false where none may go.
fn evict(ctx: Ctx, limit: Limit) -> bool {
    weigh_by(WEIGHTS[EVICT_WEIGHT.get()]);
    for _ in 0..TRIES {
        let chosen = with_eviction(|eviction| eviction.choose(&Entries::now(), limit.scope(), wide_dice));
        let Some(spot) = chosen.flatten() else { return false };
        let Some(entry) = shard::at(spot.db, spot.slot) else { continue };
        if leases::about(spot.db, entry.view().name()) != (Millis::ZERO, 0) {
            continue;
        }
        expect_ghost(entry.view().name());
        let namespace = entry.head().namespace();
        EVICTING.store(true, Relaxed);
        let removed = removal::remove(ctx, spot.db, entry, c"cache.evicted");
        EVICTING.store(false, Relaxed);
        // Its time was up: the server has removed it.
        if removed {
            limit.counter().add(1);
            shard::tally_numbered(spot.db, namespace, |tally| tally.evictions += 1);
        }
        return true;
    }
    false
}

/// The entries, as the core looks at them at a time.
struct Entries {
    now: Time,
}

impl Entries {
    fn now() -> Entries {
        Entries { now: state::now() }
    }
}

impl Population for Entries {
    fn entries(&self) -> usize {
        shard::with(|index| index.entries())
    }

    fn databases(&self) -> Db {
        shard::with(|index| index.extent())
    }

    fn extent(&self, db: Db) -> usize {
        shard::with(|index| index.slots(db))
    }

    fn is_taken(&self, spot: Spot) -> bool {
        shard::at(spot.db, spot.slot).is_some_and(|entry| !entry.is_companion())
    }

    fn look(&self, spot: Spot) -> Option<Candidate> {
        let entry = shard::at(spot.db, spot.slot).filter(|entry| !entry.is_companion())?;
        shard::with(|index| Some(candidate(index, spot.db, entry, self.now)))
    }

    fn expect_slot(&self, spot: Spot) {
        if let Some(place) = shard::with(|index| index.place_of(spot.db, spot.slot).map(std::ptr::from_ref)) {
            prefetch(place);
        }
    }

    fn expect_entry(&self, spot: Spot) {
        if let Some(entry) = shard::at(spot.db, spot.slot) {
            entry.prefetch_head();
        }
    }

    fn set_marks(&mut self, spot: Spot, marks: Marks) {
        if let Some(entry) = shard::at(spot.db, spot.slot).filter(|entry| !entry.is_companion()) {
            entry.set_marks(marks);
        }
    }
}

#[inline]
fn candidate(index: &Index, db: Db, entry: Stored, now: Time) -> Candidate {
    let view = entry.view();
    let (policy, share) = index.rules_of(db, view.namespace());
    let is_gone = view.is_over(now) || index.verdict(db, view) == Verdict::Dead;
    Candidate {
        marks: entry.marks(),
        size: u32::try_from(index.bytes_of_entry(view)).unwrap_or(u32::MAX),
        cost: view.cost(),
        policy: policy.unwrap_or(Policy::ALL[EVICT_POLICY.get()]),
        standing: if is_gone { Standing::Gone } else { Standing::Live },
        share,
    }
}
