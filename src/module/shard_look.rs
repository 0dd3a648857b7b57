//! Looking at the index, and counting in its namespaces.

use super::*;

/// The entry in a slot of a database.
pub fn at(db: Db, slot: Slot) -> Option<Stored> {
    with(|index| index.at(db, slot)).map(stored)
}

/// Counts in a namespace by its number.
pub fn tally_numbered(db: Db, number: u16, count: impl FnOnce(&mut Tally)) {
    with(|index| {
        if let Some(tally) = index.tally(db, number) {
            count(tally);
        }
    });
}

/// Counts in the namespace of an entry.
#[inline]
pub fn tally(db: Db, entry: Stored, count: impl FnOnce(&mut Tally)) {
    tally_numbered(db, entry.head().namespace(), count);
}

/// Counts in the namespace of a key without an entry, if it has had any.
pub fn tally_by_name(db: Db, name: &[u8], count: impl FnOnce(&mut Tally)) {
    with(|index| {
        if let Some(tally) = index.tally_of(db, namespace_of(name)) {
            count(tally);
        }
    });
}

/// What is counted of all namespaces, settled. Walks them.
pub fn tallies() -> Tally {
    settle();
    with(|index| index.tallies())
}

/// Values the reads that wait for it ([`Tally::settle`]). Walks the namespaces.
pub fn settle() {
    with(|index| index.settle(leases::typical_of));
}

/// How much there is.
pub fn counts() -> Counts {
    with(|index| index.counts())
}

/// Bytes that the index holds, and what is kept beside it.
pub fn allocated() -> usize {
    with(|index| index.allocated()) + ttl::allocated() + settings::allocated() + adaptive::allocated()
}

/// The entries that the index holds in a database.
pub fn entries(db: Db) -> Vec<Stored> {
    with(|index| index.handles(db).map(stored).collect())
}

/// What is wrong inside of the index.
pub fn problems() -> Vec<String> {
    with(|index| index.validate(&Memory))
}
