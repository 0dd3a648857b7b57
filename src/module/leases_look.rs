//! The table looked at.

use cacheflow_core::leases::Counters;
use cacheflow_core::origin::State;

use super::*;

/// Runs `body` on the table, for looking.
pub fn look<R>(body: impl FnOnce(&Leases) -> R) -> R {
    SHARD.with(|shard| body(&shard.leases))
}

/// The counters of a namespace by its name.
pub fn counters_of(name: &[u8]) -> Counters {
    SHARD
        .with(|shard| shard.fills.known(name).map(|number| shard.leases.counters(number)).unwrap_or_default())
}

/// The same, where it shares them with no other.
pub fn own_counters_of(name: &[u8]) -> Option<Counters> {
    SHARD.with(|shard| match shard.fills.known(name) {
        Some(SHARED) => None,
        number => Some(number.map(|number| shard.leases.counters(number)).unwrap_or_default()),
    })
}

/// How the breaker of a namespace is, and how many FETCH leases are out in it.
pub fn origin_of(name: &[u8]) -> (State, u64) {
    SHARD.with(|shard| {
        let number = shard.fills.known(name);
        number.map_or((State::Closed, 0), |number| shard.leases.origin(number, steady()))
    })
}

/// Breakers that are not closed.
pub fn open_breakers() -> usize {
    SHARD.with(|shard| shard.leases.open_breakers(steady()))
}

/// Counters anew.
pub fn reset_counters() {
    SHARD.with(|shard| shard.leases.reset_counters());
}

/// Time left on a lease or lock, and waiters, of a key.
pub fn about(db: Db, name: &[u8]) -> (Millis, usize) {
    SHARD.with(|shard| match shard.known(db, name) {
        Some(at) => shard.leases.about(at, steady()),
        None => (Millis::ZERO, 0),
    })
}

/// Bytes allocated.
pub fn allocated() -> usize {
    SHARD.with(|shard| shard.leases.allocated() + shard.fills.allocated())
}
