//! Entries that end by their time, or because the server evicts them: counted.
//!
//! `unlink2` tells that an entry leaves its key, and not why. Where it was one of
//! these the server says so right after ([`ended`]), of this key and before it takes
//! any other away. Of what ended an invalidation has counted already: not here.
//!
//! A replica's entries end by its primary's DEL: they are the primary's to count.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cacheflow_core::index::Db;
use xxhash_rust::xxh3::xxh3_64;

use crate::evict::EVICTED;
use crate::shard;
use crate::state::COUNTERS;
use crate::stored::Stored;

/// The entry that left its key last: the name's hash, which decides nothing but a
/// count, and database and namespace in one number.
static NAME: AtomicU64 = AtomicU64::new(0);
static PLACE: AtomicU64 = AtomicU64::new(NOWHERE);
const NOWHERE: u64 = u64::MAX;

/// An entry that is not dead leaves its key.
pub fn left(db: Db, entry: Stored) {
    NAME.store(xxh3_64(entry.view().name()), Relaxed);
    PLACE.store((db as u64) << 16 | u64::from(entry.head().namespace()), Relaxed);
}

/// A key's time was up, or the server has evicted it.
pub fn ended(db: Db, name: &[u8], evicted: bool) {
    let place = PLACE.swap(NOWHERE, Relaxed);
    if place >> 16 != db as u64 || NAME.load(Relaxed) != xxh3_64(name) {
        return;
    }
    if evicted { &EVICTED.by_server } else { &COUNTERS.expired }.add(1);
    // The lower half.
    shard::tally_numbered(db, place as u16, |tally| {
        *if evicted { &mut tally.evictions } else { &mut tally.expired } += 1;
    });
}
