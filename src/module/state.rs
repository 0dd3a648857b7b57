//! What the module holds beside the entries themselves.
//!
//! Everything here belongs to the server's main thread, on which every command
//! and every callback but `free` runs. `free` (which may run on the lazy-free
//! thread) touches the atomics alone.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering::Relaxed};

use cacheflow_core::decide::Moment;
use cacheflow_core::stamp::StampClock;
use cacheflow_core::units::{Millis, Stamp, Time};
use lazy_static::lazy_static;

use crate::directives::MAX_CLOCK_SKEW;
use crate::stored::Stored;

/// A counter of the main thread's: an atomic only so that Rust lets it be
/// static, read and written without a locked instruction.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }

    /// Raises it to `n`.
    pub fn raise(&self, n: u64) {
        self.set(self.get().max(n));
    }

    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What is counted.
pub struct Counters {
    /// Reads answered with a fresh value.
    pub hits: Counter,
    /// Reads answered with a stale value.
    pub stale_hits: Counter,
    /// Reads answered with nothing.
    pub misses: Counter,
    /// Values written: SET, TOUCH, INCRBY.
    pub writes: Counter,
    /// Tags and namespaces invalidated.
    pub invalidations: Counter,
    /// What those hit.
    pub invalidated: Counter,
    /// Slices of the sweep.
    pub slices: Counter,
    /// Keys that it removed.
    pub swept: Counter,
    /// Its longest slice, in µs.
    pub longest_slice: Counter,
    /// Payloads refused: RESTORE, RDB, the internal carrier.
    pub refused_payloads: Counter,
}

pub static COUNTERS: Counters = Counters {
    hits: Counter::new(),
    stale_hits: Counter::new(),
    misses: Counter::new(),
    writes: Counter::new(),
    invalidations: Counter::new(),
    invalidated: Counter::new(),
    slices: Counter::new(),
    swept: Counter::new(),
    longest_slice: Counter::new(),
    refused_payloads: Counter::new(),
};

/// Entries that left a key: deleted, expired, evicted, overwritten, renamed.
pub static UNLINKED: Counter = Counter::new();
/// Entries allocated, those included that wait for the lazy-free thread.
pub static ENTRIES: AtomicI64 = AtomicI64::new(0);
/// Companions of native keys that are allocated.
pub static COMPANIONS: AtomicI64 = AtomicI64::new(0);
/// Bytes of their allocations.
pub static BYTES: AtomicI64 = AtomicI64::new(0);

/// How far `CACHE.DEBUG CLOCK` turns our clock, in ms.
pub static CLOCK_OFFSET: AtomicI64 = AtomicI64::new(0);

static PROCESS: AtomicU32 = AtomicU32::new(0);
static THREAD: AtomicU64 = AtomicU64::new(0);

fn thread() -> u64 {
    // SAFETY: takes nothing, never fails. A forked child's main thread keeps
    // the number.
    unsafe { libc::pthread_self() as u64 }
}

/// Remembers the process and the thread that the module was loaded in.
pub fn remember_process() {
    PROCESS.store(std::process::id(), Relaxed);
    THREAD.store(thread(), Relaxed);
}

/// Whether this is the server's main thread.
pub fn is_main_thread() -> bool {
    THREAD.load(Relaxed) == thread()
}

/// Whether this is the server itself, and not a child that it forked.
pub fn is_main_process() -> bool {
    PROCESS.load(Relaxed) == std::process::id()
}

/// Something that the main thread alone touches.
pub struct MainThread<T>(UnsafeCell<T>);

// SAFETY: see the module's text: only reached from commands and callbacks of
// the server's main thread, and by `with`, which hands no reference out.
unsafe impl<T> Sync for MainThread<T> {}

impl<T> MainThread<T> {
    pub const fn new(value: T) -> MainThread<T> {
        MainThread(UnsafeCell::new(value))
    }

    /// Runs `body` on it. `body` must not come back here: none of ours calls
    /// the server.
    #[inline]
    pub fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: one thread, and not re-entered (see above).
        body(unsafe { &mut *self.0.get() })
    }
}

struct Chance {
    clock: StampClock,
    dice: u64,
}

static CHANCE: MainThread<Chance> =
    MainThread::new(Chance { clock: StampClock::new(), dice: 0x9e37_79b9_7f4a_7c15 });

static SCRATCH: MainThread<Vec<u8>> = MainThread::new(Vec::new());

/// How far the coarse clock may be behind: it moves with the kernel's tick,
/// which is 10 ms at the longest (CONFIG_HZ=100).
const COARSE_LAG: Millis = Millis(20);

fn micros(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes the structure it is given; Linux has both clocks.
    unsafe { libc::clock_gettime(clock, &mut time) };
    // Before 1970 it is 1970.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let now = seconds.saturating_mul(1_000_000).saturating_add(time.tv_nsec as u64 / 1000);
    now.saturating_add_signed(CLOCK_OFFSET.load(Relaxed).saturating_mul(1000))
}

/// The wall clock.
#[inline]
pub fn now() -> Time {
    Time(micros(libc::CLOCK_REALTIME) / 1000)
}

/// A clock that no one turns (but `CACHE.DEBUG CLOCK`): the wall clock as it was
/// at load, and the time since then. What lasts is measured by it.
pub fn steady() -> Time {
    lazy_static! {
        static ref AHEAD: u64 = micros(libc::CLOCK_REALTIME).saturating_sub(micros(libc::CLOCK_BOOTTIME));
    }
    Time((micros(libc::CLOCK_BOOTTIME) + *AHEAD) / 1000)
}

/// As [`moment`], the time being [`steady`]'s: for leases.
pub fn steady_moment() -> Moment {
    Moment { now: steady(), stamp: moment().stamp }
}

/// Whether an entry is fresh now. The coarse clock (9 ns against 32) decides
/// unless the end is near; then the other one does, so that the answer is
/// always the precise clock's.
#[inline]
pub fn is_fresh(entry: Stored) -> bool {
    let at_the_latest = Time(micros(libc::CLOCK_REALTIME_COARSE) / 1000).after(COARSE_LAG);
    at_the_latest.is_some_and(|now| entry.is_fresh(now)) || entry.is_fresh(now())
}

/// The moment of a write: the wall clock, and a stamp drawn for it.
#[inline]
pub fn moment() -> Moment {
    let micros = micros(libc::CLOCK_REALTIME);
    Moment { now: Time(micros / 1000), stamp: CHANCE.with(|chance| chance.clock.draw(micros)) }
}

/// Takes note of a stamp that another server drew.
pub fn observe(stamp: Stamp) {
    CHANCE.with(|chance| chance.clock.observe(stamp));
}

/// See [`StampClock::admit`].
pub fn admit(born: Stamp) -> Stamp {
    let now = micros(libc::CLOCK_REALTIME);
    CHANCE.with(|chance| chance.clock.admit(born, now))
}

/// Whether a stamp may have been drawn by now, by a clock that differs from
/// ours as clocks do.
pub fn may_be(stamp: Stamp) -> bool {
    let now = micros(libc::CLOCK_REALTIME);
    CHANCE.with(|chance| chance.clock.may_be(stamp, now))
}

/// The stamp that the clock alone would give: nothing is drawn.
pub fn wall_stamp() -> Stamp {
    Stamp(micros(libc::CLOCK_REALTIME))
}

/// The server has become a primary, in a cluster or not. Of the tokens of FETCH
/// that the old one gave nobody has told us, and its clock may have been ahead of
/// ours: ours are going to be later all the same.
pub fn promoted(in_cluster: bool) {
    if in_cluster {
        let skew = MAX_CLOCK_SKEW.get().unsigned_abs().saturating_mul(1000);
        observe(Stamp(wall_stamp().0.saturating_add(skew)));
    }
}

/// The last stamp drawn or observed.
pub fn last_stamp() -> Stamp {
    CHANCE.with(|chance| chance.clock.last())
}

/// A uniform number (xorshift*, Vigna, TOMS 2016): it decides nothing that an
/// attacker would want to foresee.
pub fn dice() -> u32 {
    CHANCE.with(|chance| {
        let mut x = chance.dice;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        chance.dice = x;
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    })
}

/// The same, of 64 bits.
pub fn wide_dice() -> u64 {
    u64::from(dice()) << 32 | u64::from(dice())
}

/// Takes the buffer that encodings are written to, empty; [`give_back`] it, so
/// that a write allocates none.
pub fn scratch() -> Vec<u8> {
    SCRATCH.with(std::mem::take)
}

/// See [`scratch`].
pub fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    SCRATCH.with(|held| *held = buffer);
}
