//! The entries that eviction chooses among, as it sees them: slots of databases,
//! numbered through.

use crate::evict_choice::Candidate;
use crate::evict_class::Marks;
use crate::evict_follow::Spot;
use crate::index::Db;
use crate::slots::Slot;
use smallvec::SmallVec;

/// Free slots passed over in a choice, at most. Where most have become free (a
/// large entry has taken the room of many), a few draws would find hardly
/// anybody, and the one that they find is the one in use.
pub const FREE: usize = 8192;
/// Of those, after one draw.
const RUN: usize = 512;

/// The entries that may be evicted.
pub trait Population {
    /// How many there are.
    fn entries(&self) -> usize;
    /// Databases there are.
    fn databases(&self) -> Db;
    /// Slots of a database, from 1 on, the free ones included.
    fn extent(&self, db: Db) -> usize;
    /// Whether a slot holds an entry: as cheap as can be.
    fn is_taken(&self, spot: Spot) -> bool;
    /// What is to be known of the entry in a slot; `None`: the slot is free.
    fn look(&self, spot: Spot) -> Option<Candidate>;
    /// It will be looked soon whether this slot is taken: a hint, for whoever can
    /// have memory fetched ahead.
    fn expect_slot(&self, _: Spot) {}
    /// And at the entry in it.
    fn expect_entry(&self, _: Spot) {}
    /// Writes an entry's marks.
    fn set_marks(&mut self, spot: Spot, marks: Marks);
}

/// The slots of all databases, numbered through.
#[derive(Debug)]
pub struct Extents(SmallVec<[usize; 4]>);

impl Extents {
    /// As they are now.
    pub fn of(population: &impl Population) -> Extents {
        Extents((0..population.databases()).map(|db| population.extent(db)).collect())
    }

    /// How many there are.
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }

    /// The nth of them.
    pub fn nth(&self, nth: usize) -> Option<Spot> {
        let mut nth = nth;
        for (db, &extent) in self.0.iter().enumerate() {
            if nth < extent {
                return Slot::try_from(nth + 1).ok().map(|slot| Spot { db, slot });
            }
            nth -= extent;
        }
        None
    }
}

/// The first slot from `from` on that holds an entry, of the next few of its
/// database.
pub fn next_taken(population: &impl Population, from: Spot, free: &mut usize) -> Option<Spot> {
    let end = population.extent(from.db).min(from.slot as usize + RUN);
    for slot in from.slot..=Slot::try_from(end).ok()? {
        let spot = Spot { db: from.db, slot };
        if population.is_taken(spot) {
            return Some(spot);
        }
        *free = free.checked_sub(1)?;
    }
    None
}
