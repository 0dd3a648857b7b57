//! What happens to keys, databases and connections, as the table is told of it.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cacheflow_core::index::Verdict;

use super::*;
use crate::ffi::blocked;
use crate::ffi::ctx::Level;
use crate::ffi::events::subscribe;
use crate::stored::Stored;

/// Whether nothing is held, remembered or waited for: nobody need be told.
#[inline]
pub fn is_quiet() -> bool {
    SHARD.with(|shard| shard.leases.is_empty())
}

/// Whether anything is known of a key.
pub fn knows(db: Db, name: &[u8]) -> bool {
    !is_quiet() && SHARD.with(|shard| shard.known(db, name).is_some())
}

/// Something happened to a key, and is done.
#[inline]
pub fn changed(db: Db, name: &[u8], change: Change) {
    if !is_quiet() {
        tell(db, name, change);
    }
}

#[cold]
fn tell(db: Db, name: &[u8], change: Change) {
    // If the key's entry has left, this says why.
    explained(db, name);
    with(|shard| {
        if let Some(at) = shard.known(db, name) {
            shard.leases.change(at, change, steady());
        }
    });
}

/// An entry leaves its key, and is in the index still: what had become of it.
#[cold]
pub fn entry_leaves(db: Db, entry: Stored) {
    let (view, name) = (entry.view(), entry.view().name());
    let (verdict, last) = shard::with(|index| {
        (index.verdict(db, view), index.invalidated_at(db, shard::namespace_of(name), Some(view)))
    });
    if verdict != Verdict::Untouched {
        changed(db, name, Change::Invalidated(last));
    }
    if verdict != Verdict::Dead {
        entry_left(db, name);
    }
}

/// An entry left its key alive, by whatever way.
fn entry_left(db: Db, name: &[u8]) {
    if knows(db, name) {
        with(|shard| shard.left = Some((db, name.to_vec())));
    }
}

/// Why the entry of a key left is known.
pub fn explained(db: Db, name: &[u8]) {
    SHARD.with(|shard| shard.left = shard.left.take().filter(|(of, key)| (*of, &**key) != (db, name)));
}

/// A database was emptied, or all were.
pub fn flushed(db: Option<Db>) {
    if !is_quiet() {
        with(|shard| {
            shard.left = None;
            shard.leases.flush(db, steady());
        });
    }
}

/// A namespace was invalidated. An entry's lease is void when the sweep comes by
/// it; where there is none, nothing else would tell who waits.
pub fn namespace_invalidated(db: Db, namespace: &[u8], stamp: Stamp) {
    if !is_quiet() {
        with(|shard| {
            let those = |name: &[u8]| shard::namespace_of(name) == namespace;
            shard.leases.outdate_awaited(db, those, stamp, steady());
        });
    }
}

/// Two databases were exchanged.
pub fn swapped(one: Db, other: Db) {
    if !is_quiet() {
        with(|shard| shard.leases.swap(one, other, steady()));
    }
}

/// The server has become a replica.
pub fn demoted() {
    with(|shard| shard.leases.demote(steady()));
}

/// Subscribes to what only matters once something is held: the ends of
/// connections.
pub(super) fn listen() {
    static LISTENS: AtomicBool = AtomicBool::new(false);
    if LISTENS.swap(true, Relaxed) {
        return;
    }
    hooks::on_entry();
    let own = hooks::own();
    if let Err(why) = subscribe(own, raw::REDISMODULE_EVENT_CLIENT_CHANGE, on_client) {
        own.log(Level::Warning, why);
    }
}

unsafe extern "C" fn on_client(
    _: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    subevent: u64,
    data: *mut c_void,
) {
    cross("client_event", (), || {
        // SAFETY: what the server passes with this event.
        if let Some(client) = unsafe { blocked::client_that_left(subevent, data) } {
            if !is_quiet() {
                with(|shard| shard.leases.disconnect(client, steady()));
            }
        }
    });
}

/// A key's time was up, or the server has evicted it.
pub fn ended(db: Db, name: &[u8], is_replica: bool) {
    if SHARD.with(|shard| shard.left.is_some()) {
        explained(db, name);
    }
    if !is_quiet() && !is_replica && with_lock(db, name, |lock| lock.whole) == Some(true) {
        with(|shard| shard.retell.push((db, name.to_vec())));
    }
}
