//! Whose TTL may be another than its entry's times say: `cacheflow_core::ttl_marks`
//! told of what happens to keys.

use cacheflow_core::index::Db;
use cacheflow_core::ttl_marks::TtlMarks;
use cacheflow_core::units::Stamp;

use crate::shard::{self, namespace_of};
use crate::state::{self, MainThread};

static MARKS: MainThread<TtlMarks> = MainThread::new(TtlMarks::new());

/// The TTL of a key was set by another than us, or may have been.
pub fn changed(name: &[u8]) {
    let entries = shard::with(|index| index.entries());
    MARKS.with(|marks| marks.mark(name, state::last_stamp(), entries));
}

/// The TTL of a key was set, perhaps of a native one: such is every key of a
/// namespace without entries.
pub fn was_set(db: Db, name: &[u8]) {
    if shard::with(|index| index.namespace(db, namespace_of(name)).is_some_and(|of| of.entries > 0)) {
        changed(name);
    }
}

/// Gives memory back that so few entries do not need.
pub fn trim() {
    let entries = shard::with(|index| index.entries());
    MARKS.with(|marks| marks.trim(state::last_stamp(), entries));
}

/// A file was loaded, with whatever TTLs.
pub fn all_may_differ() {
    MARKS.with(|marks| marks.mark_all(state::last_stamp()));
}

/// Whether the TTL of an entry's key may be another than its times say.
#[inline]
pub fn may_differ(name: &[u8], born: Stamp) -> bool {
    MARKS.with(|marks| marks.may_differ(name, born))
}

/// Bytes allocated.
pub fn allocated() -> usize {
    MARKS.with(|marks| marks.allocated())
}
