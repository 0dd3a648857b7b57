//! Reads, writes and waits as they are counted for CACHE.HOTKEYS and for the
//! candidates of CACHE.REFRESH (`cacheflow_core::hotkeys`).
//!
//! A read pays one decrement and a branch, 9 instructions of a CACHE.GET's 5,070;
//! what is counted, another 1,400 (callgrind) and some microseconds where the tables
//! are not in the cache. Each is while they are few, one in up to 1024 under load:
//! 500 a second at most in the mean. The server's cron fits the gaps, ten times a
//! second.
//!
//! Counted are values of entries that were sent (GET, MGET, FETCH; stale ones
//! too) and stored. Not: native strings, and what comes from a file.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cacheflow_core::entry::{Cost, Meta};
use cacheflow_core::hotkeys::{HotKeys, Metric, Sampler};
use cacheflow_core::index::Db;
use lazy_static::lazy_static;

use crate::ahead;
use crate::ffi::ctx::Ctx;
use crate::leases;
use crate::shard;
use crate::state::{dice, steady, MainThread};
use crate::stored::Stored;

#[derive(Default)]
struct Hot {
    keys: HotKeys,
    sampler: Sampler,
}

lazy_static! {
    static ref HOT: MainThread<Hot> = MainThread::new(Hot::default());
}

/// Reads and writes until the next that is counted. An atomic as
/// [`crate::state::Counter`] is one.
static UNTIL_NEXT: AtomicU32 = AtomicU32::new(1);

#[inline]
fn is_counted() -> bool {
    let left = UNTIL_NEXT.load(Relaxed).wrapping_sub(1);
    UNTIL_NEXT.store(left, Relaxed);
    left == 0
}

/// For how many this one stands. The next is drawn first, so that a panic after
/// this is not the end of counting.
fn take() -> u64 {
    HOT.with(|hot| {
        let (stands_for, next) = hot.sampler.take(dice);
        UNTIL_NEXT.store(next, Relaxed);
        stands_for
    })
}

/// Counts in tables that are as old as they are.
fn counted(count: impl FnOnce(&mut HotKeys)) {
    let now = steady();
    HOT.with(|hot| {
        hot.keys.decay(now);
        count(&mut hot.keys);
    });
}

/// A read was answered with an entry's value.
#[inline]
pub fn read(db: Db, entry: Stored) {
    if is_counted() {
        count_read(db, entry);
    }
}

#[cold]
#[inline(never)]
fn count_read(db: Db, entry: Stored) {
    let reads = take();
    let (name, bytes) = (entry.view().name(), entry.content().length());
    let Some(meta) = shard::settled(db, name, entry) else { return };
    let cost = cost_of(&meta, name);
    counted(|keys| keys.read(db, name, reads, cost, bytes));
    ahead::read(db, name, reads, cost, &meta);
}

/// What recomputing an entry takes: its own time, else what is usual in its
/// namespace.
fn cost_of(meta: &Meta, name: &[u8]) -> Cost {
    match meta.cost {
        Cost(0) => leases::typical_cost(name),
        known => known,
    }
}

/// An entry was stored, with a value of so many bytes if that was new.
#[inline]
pub fn written(ctx: Ctx, db: Db, name: &[u8], meta: &Meta, bytes: Option<usize>) {
    if let Some(bytes) = bytes.filter(|_| is_counted()) {
        count_written(ctx, db, name, bytes);
    }
    if ahead::is_used() {
        ahead::written(db, name, cost_of(meta, name), meta);
    }
}

#[cold]
#[inline(never)]
fn count_written(ctx: Ctx, db: Db, name: &[u8], bytes: usize) {
    let writes = take();
    if !ctx.is_loading() {
        counted(|keys| keys.written(db, name, writes, bytes));
    }
}

/// Somebody begins to wait for a key.
pub fn waited(db: Db, name: &[u8]) {
    counted(|keys| keys.waited(db, name));
}

/// Lets time pass. Ten times a second.
pub fn tick() {
    let now = steady();
    HOT.with(|hot| {
        if let Some(next) = hot.sampler.tick(now, dice) {
            UNTIL_NEXT.store(next, Relaxed);
        }
        hot.keys.decay(now);
    });
}

/// The keys of a database with their figures, the highest first.
pub fn listed(metric: Metric, db: Db) -> Vec<(Vec<u8>, u64)> {
    HOT.with(|hot| {
        hot.keys.decay(steady());
        hot.keys.listed(metric, db).map(|(name, figure)| (name.to_vec(), figure)).collect()
    })
}

/// A database was emptied, or all were: then what comes is counted from the first
/// on, whatever there was before.
pub fn flushed(db: Option<Db>) {
    HOT.with(|hot| {
        hot.keys.flush(db);
        if db.is_none() {
            hot.sampler = Sampler::default();
            UNTIL_NEXT.store(1, Relaxed);
        }
    });
}

/// Two databases were exchanged.
pub fn swapped(one: Db, other: Db) {
    HOT.with(|hot| hot.keys.swap(one, other));
}

/// Bytes allocated.
pub fn allocated() -> usize {
    HOT.with(|hot| hot.keys.allocated())
}
