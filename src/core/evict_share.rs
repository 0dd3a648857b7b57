//! Which slots hold entries of a namespace that has a budget of its own: two bytes
//! a slot, and none at all where no namespace has one.
//!
//! Why: the entries of a namespace are to be sampled, and where it is a
//! thousandth of all, a sample of twenty out of the whole table costs twenty
//! thousand looks at entries, a cache miss each. Read past one after the other,
//! a thousand slots are some 100 ns. (Lists of its entries by namespace were not
//! taken: leaving one needs a position in the entry, which has no byte left.)
//!
//! A mark may be out of date, for an entry that leaves does not clear it: whoever
//! finds a slot here looks whether the entry is what it should be, and corrects
//! it. An entry after a long gap is found more often than one in a crowd;
//! slots are given out as they become free, so that gaps say nothing about use.

use crate::evict_follow::Spot;
use crate::index::Db;
use crate::units::block;

/// Slots of a chunk.
const CHUNK: usize = 4096;
/// Slots looked at together.
const LINE: usize = 64;

/// A chunk's bytes; none where all are 0.
type Chunk = Option<Box<[u16]>>;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Shares {
    databases: Vec<Vec<Chunk>>,
    made: usize,
}

fn place(spot: Spot) -> (usize, usize) {
    let at = (spot.slot as usize).wrapping_sub(1);
    (at / CHUNK, at % CHUNK)
}

impl Shares {
    /// The entry there counts to this budget; 0: to none.
    pub fn set(&mut self, spot: Spot, share: u16) {
        let (chunk, at) = place(spot);
        if spot.slot == 0 || (share == 0 && self.databases.get(spot.db).is_none_or(|db| chunk >= db.len())) {
            return;
        }
        if self.databases.len() <= spot.db {
            self.databases.resize_with(spot.db + 1, Vec::new);
        }
        let chunks = &mut self.databases[spot.db];
        if chunks.len() <= chunk {
            chunks.resize_with(chunk + 1, || None);
        }
        match &mut chunks[chunk] {
            Some(bytes) => bytes[at] = share,
            None if share == 0 => (),
            none => {
                let bytes = none.insert(vec![0; CHUNK].into_boxed_slice());
                bytes[at] = share;
                self.made += 1;
            }
        }
    }

    /// The first slot from `from` on, in its database, that counts to a budget;
    /// of at most so many lines.
    pub fn find(&self, from: Spot, share: u16, lines: &mut usize) -> Option<Spot> {
        let chunks = self.databases.get(from.db)?;
        let (first, mut at) = place(from);
        for (number, chunk) in chunks.iter().enumerate().skip(first) {
            let Some(bytes) = chunk else {
                *lines = lines.checked_sub(1)?;
                at = 0;
                continue;
            };
            while at < CHUNK {
                *lines = lines.checked_sub(1)?;
                let end = (at / LINE + 1) * LINE;
                let line = &bytes[at..end];
                // Without a branch a byte, so that they are compared together.
                if line.iter().fold(false, |any, &byte| any | (byte == share)) {
                    let found = line.iter().position(|&byte| byte == share)?;
                    let slot = u32::try_from(number * CHUNK + at + found + 1).ok()?;
                    return Some(Spot { db: from.db, slot });
                }
                at = end;
            }
            at = 0;
        }
        None
    }

    /// A database's entries are gone.
    pub fn forget(&mut self, db: Db) {
        if let Some(chunks) = self.databases.get_mut(db) {
            self.made -= std::mem::take(chunks).iter().flatten().count();
        }
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        let tables: usize = self.databases.iter().map(|db| block(db.capacity() * size_of::<Chunk>())).sum();
        self.made * block(CHUNK * size_of::<u16>())
            + tables
            + block(self.databases.capacity() * size_of::<Vec<Chunk>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn finds_what_a_walk_finds(
            marks in proptest::collection::vec((0usize..3, 1u32..20_000, 0u16..4), 0..200),
            looks in proptest::collection::vec((0usize..4, 1u32..20_000, 1u16..4), 1..20),
        ) {
            let (mut shares, mut model) = (Shares::default(), BTreeMap::new());
            for (db, slot, share) in marks {
                shares.set(Spot { db, slot }, share);
                model.insert((db, slot), share);
            }
            for (db, slot, share) in looks {
                let walked = model.range((db, slot)..(db + 1, 0)).find(|(_, of)| **of == share);
                let walked = walked.map(|((db, slot), _)| Spot { db: *db, slot: *slot });
                prop_assert_eq!(shares.find(Spot { db, slot }, share, &mut 1000), walked);
                let mut lines = 3;
                let found = shares.find(Spot { db, slot }, share, &mut lines);
                prop_assert!(found.is_none() || found == walked);
            }
            (0..3).for_each(|db| shares.forget(db));
            prop_assert_eq!(shares.made, 0);
        }
    }

    #[test]
    fn nothing_is_held_where_there_is_no_budget() {
        let mut shares = Shares::default();
        (0..10_000).for_each(|slot| shares.set(Spot { db: 0, slot }, 0));
        shares.set(Spot { db: 0, slot: 0 }, 7);
        assert_eq!(shares.allocated(), 0);
        shares.set(Spot { db: 0, slot: 9000 }, 7);
        assert!(shares.allocated() < 2 * CHUNK + 512, "one chunk");
    }
}
