//! Locks as others are told of them: replicas and the AOF by
//! `CACHE.APPLYLOCK`, files by the shard's saved state.
//!
//! To others a lock has an end by the wall clock; here it lasts by a clock that
//! nobody turns.

use cacheflow_core::index::Db;
use cacheflow_core::leases::{At, Lock};
use cacheflow_core::saved::SavedLock;
use cacheflow_core::units::{Millis, Stamp, Time, LAST_TIME};

use crate::commands::apply_lock;
use crate::ffi::args::Str;
use crate::ffi::ctx::Ctx;
use crate::leases;
use crate::state;

const WHOLE: u64 = 1;
const NATIVE: u64 = 2;

/// When a lock ends by the wall clock.
fn end(left: Millis) -> Time {
    state::now().after(left).unwrap_or(Time(LAST_TIME))
}

/// A lock as `CACHE.APPLYLOCK` says it.
pub fn of_numbers(db: Db, key: &[u8], token: Stamp, ends: Time, marks: u64) -> SavedLock<'_> {
    let (whole, native) = (marks & WHOLE != 0, marks & NATIVE != 0);
    SavedLock { db, key, token, ends, left: ends.since(state::now()), whole, native }
}

/// The lock on a key as it is now, if there is one: the numbers that
/// `CACHE.APPLYLOCK` takes.
pub fn numbers(db: Db, name: &[u8]) -> Option<[i64; 3]> {
    leases::with_lock(db, name, |lock| {
        let marks = if lock.whole { WHOLE } else { 0 } | if lock.native { NATIVE } else { 0 };
        // Stamps stay below 2^53, times below 2^48.
        [lock.token.0 as i64, end(lock.left).0 as i64, marks as i64]
    })
}

/// Tells replicas and the AOF of the lock on a key, if there is one.
pub fn tell_lock(ctx: Ctx, db: Db, name: Str<'_>) {
    if let Some(numbers) = numbers(db, name.bytes()) {
        ctx.replicate_numbers(apply_lock::NAME, name, numbers);
    }
}

/// Tells them that a lock has ended.
pub fn tell_end(ctx: Ctx, name: Str<'_>, token: Stamp) {
    ctx.replicate_numbers(apply_lock::NAME, name, [token.0 as i64, apply_lock::ENDED, 0]);
}

/// A lock as another server had it, or this one before.
pub fn apply(lock: &SavedLock<'_>) {
    state::observe(lock.token);
    let left = lock.left_at(state::now());
    leases::apply_lock(lock.db, lock.key, lock.token, left, lock.whole, lock.native);
}

/// Runs `body` on the locks that are held, to be saved.
pub fn with_all<R>(body: impl FnOnce(&[SavedLock<'_>]) -> R) -> R {
    let mut held = Vec::new();
    leases::each_lock(|lock| {
        let Lock { at: At { db, key, .. }, token, left, whole, native } = *lock;
        held.push((db, key.to_vec(), token, left, whole, native));
    });
    let saved: Vec<SavedLock<'_>> = held
        .iter()
        .map(|&(db, ref key, token, left, whole, native)| SavedLock {
            db,
            key,
            token,
            ends: end(left),
            left,
            whole,
            native,
        })
        .collect();
    body(&saved)
}
