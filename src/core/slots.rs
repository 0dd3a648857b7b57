//! The table of a database's entries: slot → entry. Slots are stable (an
//! entry keeps its own for life) and dense enough to sample from: a free slot
//! is reused before a new one is made, and free ones at the end are given
//! back.
//!
//! A slot is 8 bytes: the entry's handle, or, with the lowest bit set (handles
//! are even), the number of the next free slot.

use crate::segments::Segments;

/// An entry, as whoever holds the entries names it: not 0, and even (an
/// address is both).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(pub u64);

/// The number of a slot. 0 is none: an entry with it is in no table.
pub type Slot = u32;

const NO_SLOT: Slot = 0;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Slots {
    /// That of slot n at n − 1.
    table: Segments<u64>,
    /// The head of the list of free slots.
    free: Slot,
    taken: usize,
}

fn place(slot: Slot) -> usize {
    (slot as usize).wrapping_sub(1)
}

fn free_mark(next: Slot) -> u64 {
    u64::from(next) << 1 | 1
}

impl Slots {
    /// Entries in the table.
    pub fn len(&self) -> usize {
        self.taken
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Slots, the free ones included.
    pub fn extent(&self) -> usize {
        self.table.len()
    }

    /// The entry in a slot.
    #[inline]
    pub fn get(&self, slot: Slot) -> Option<Handle> {
        self.table.get(place(slot)).filter(|mark| mark & 1 == 0).map(Handle)
    }

    /// Where a slot's 8 bytes lie, for whoever has them fetched ahead.
    #[inline]
    pub fn place_of(&self, slot: Slot) -> Option<&u64> {
        self.table.place(place(slot))
    }

    /// Puts an entry in a slot of its own. `None` where all 2^32 − 1 are taken.
    pub fn insert(&mut self, handle: Handle) -> Option<Slot> {
        let slot = if self.free == NO_SLOT {
            let slot = Slot::try_from(self.table.len() + 1).ok()?;
            self.table.push(handle.0);
            slot
        } else {
            let slot = self.free;
            let mark = self.table.get_mut(place(slot))?;
            self.free = (*mark >> 1) as Slot;
            *mark = handle.0;
            slot
        };
        self.taken += 1;
        Some(slot)
    }

    /// Takes an entry out of its slot.
    pub fn remove(&mut self, slot: Slot) -> Option<Handle> {
        let handle = self.get(slot)?;
        self.taken -= 1;
        if self.taken == 0 {
            *self = Slots::default();
        } else if let Some(mark) = self.table.get_mut(place(slot)) {
            *mark = free_mark(self.free);
            self.free = slot;
        }
        Some(handle)
    }

    /// Tells that an entry has moved.
    pub fn relocate(&mut self, slot: Slot, to: Handle) -> bool {
        match self.table.get_mut(place(slot)) {
            Some(mark) if *mark & 1 == 0 => {
                *mark = to.0;
                true
            }
            _ => false,
        }
    }

    /// All entries with their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, Handle)> + '_ {
        (1..)
            .zip(self.table.iter())
            .filter(|(_, mark)| mark & 1 == 0)
            .map(|(slot, mark)| (slot, Handle(mark)))
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.table.allocated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn slots_are_stable_and_reused(steps in proptest::collection::vec((any::<bool>(), any::<u32>()), 0..3000)) {
            let (mut slots, mut model) = (Slots::default(), HashMap::new());
            for (i, (insert, dice)) in steps.into_iter().enumerate() {
                if insert || model.is_empty() {
                    let handle = Handle(2 * (i as u64 + 1));
                    let slot = slots.insert(handle).expect("room");
                    prop_assert!(slot != NO_SLOT);
                    prop_assert_eq!(model.insert(slot, handle), None);
                } else {
                    let slot = *model.keys().nth(dice as usize % model.len()).expect("one");
                    prop_assert_eq!(slots.remove(slot), model.remove(&slot));
                    prop_assert_eq!(slots.get(slot), None);
                    prop_assert_eq!(slots.remove(slot), None);
                }
                prop_assert_eq!(slots.len(), model.len());
            }
            prop_assert_eq!(slots.iter().collect::<HashMap<_, _>>(), model);
        }
    }

    #[test]
    fn an_empty_table_holds_nothing() {
        let mut slots = Slots::default();
        let all: Vec<_> = (1..5000).map(|n| slots.insert(Handle(2 * n)).expect("room")).collect();
        for slot in all {
            slots.remove(slot);
        }
        assert_eq!(slots.allocated(), 0);
        assert_eq!(slots.get(0), None);
    }
}
