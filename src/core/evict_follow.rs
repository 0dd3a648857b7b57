//! The keys that the learner follows, chosen by their hashes: where their
//! entries lie, and, once they are evicted, since when and in what class. So a
//! read of one needs no look-up (its entry is marked and has all that is to be
//! learned), and one that is asked for after its eviction still tells how long
//! it should have been kept.
//!
//! 16,384 places of 16 bytes in sets of eight, whatever the number of keys: one
//! key in 2^`thinness` is followed, and that moves with how full the places are.

use crate::evict_class::Marks;
use crate::index::Db;
use crate::slots::Slot;
use crate::units::block;

/// Where an entry lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// Its database.
    pub db: Db,
    /// Its slot there; 0 is none.
    pub slot: Slot,
}

/// Places there are.
pub const PLACES: usize = 1 << 14;
const WAYS: usize = 8;
/// Where fewer keys would do, and where more would.
const FULL: usize = PLACES * 3 / 4;
const SPARSE: usize = PLACES / 4;
/// One key in 2^20 is the fewest.
const THINNEST: u32 = 20;

/// A key that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// It is an entry.
    Here(Spot),
    /// It was evicted.
    Gone(Marks),
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    /// The hash's upper half.
    print: u32,
    /// The slot; of a key that is gone, its last use.
    number: u32,
    /// Of thinness.
    bits: u32,
    /// The database; of a key that is gone, its class.
    aside: u16,
    state: u16,
}

const FREE: u16 = 0;
const HERE: u16 = 1;
const GONE: u16 = 2;

impl Place {
    fn followed(&self) -> Option<Followed> {
        match self.state {
            HERE => Some(Followed::Here(Spot { db: usize::from(self.aside), slot: self.number })),
            GONE => Some(Followed::Gone(Marks::from_bits(self.number, self.aside as u8))),
            _ => None,
        }
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Follow {
    /// None, or `PLACES`.
    places: Vec<Place>,
    taken: usize,
    thinness: u32,
}

/// The bits of a hash that choose whom to follow. The lower half's upper bits:
/// the lower ones choose the set, the upper half tells keys apart.
fn chooser(hash: u64) -> u32 {
    hash as u32 >> 12
}

impl Follow {
    fn chosen(&self, bits: u32) -> bool {
        bits & ((1 << self.thinness) - 1) == 0
    }

    fn set(&mut self, hash: u64) -> &mut [Place] {
        let first = (hash as usize).wrapping_mul(WAYS) & (PLACES - 1);
        self.places.get_mut(first..first + WAYS).unwrap_or_default()
    }

    fn find(&mut self, hash: u64) -> Option<&mut Place> {
        let (print, bits) = ((hash >> 32) as u32, chooser(hash));
        self.set(hash)
            .iter_mut()
            .find(|place| place.state != FREE && (place.print, place.bits) == (print, bits))
    }

    /// What is known of a key.
    pub fn get(&mut self, hash: u64) -> Option<Followed> {
        self.find(hash).and_then(|place| place.followed())
    }

    /// A key's entry lies there now. Whether the key is followed; what was
    /// given up to follow it.
    pub fn here(&mut self, hash: u64, spot: Spot) -> (bool, Option<Marks>) {
        let Ok(db) = u16::try_from(spot.db) else { return (false, None) };
        let bits = chooser(hash);
        if !self.chosen(bits) {
            return (false, None);
        }
        if self.places.is_empty() {
            self.places = vec![Place::default(); PLACES];
        }
        let new = Place { print: (hash >> 32) as u32, number: spot.slot, bits, aside: db, state: HERE };
        if let Some(place) = self.find(hash) {
            *place = new;
            return (true, None);
        }
        // A free place, else one of a key that is gone.
        let rank = |place: &Place| match place.state {
            FREE => 0,
            GONE => 1,
            _ => 2,
        };
        let Some(place) = self.set(hash).iter_mut().min_by_key(|place| rank(place)) else {
            return (false, None);
        };
        let lost = match place.followed() {
            Some(Followed::Here(_)) => return (false, None),
            Some(Followed::Gone(marks)) => Some(marks),
            None => None,
        };
        *place = new;
        self.taken += usize::from(lost.is_none());
        (true, lost)
    }

    /// A key that is followed was evicted.
    pub fn gone(&mut self, hash: u64, marks: Marks) {
        let (last, class) = marks.bits();
        if let Some(place) = self.find(hash) {
            (place.number, place.aside, place.state) = (last, u16::from(class), GONE);
        }
    }

    /// Follows a key no longer.
    pub fn forget(&mut self, hash: u64) {
        if let Some(place) = self.find(hash) {
            place.state = FREE;
            self.taken -= 1;
        }
    }

    /// What is followed in a place, and whether it is one of those that are
    /// followed no longer.
    pub fn at(&self, place: usize) -> Option<(Followed, bool)> {
        let place = self.places.get(place)?;
        place.followed().map(|followed| (followed, !self.chosen(place.bits)))
    }

    /// Empties a place.
    pub fn clear(&mut self, place: usize) {
        if let Some(place) = self.places.get_mut(place).filter(|place| place.state != FREE) {
            place.state = FREE;
            self.taken -= 1;
        }
    }

    /// Follows fewer keys or more, by how many there are.
    pub fn balance(&mut self) {
        if self.taken > FULL && self.thinness < THINNEST {
            self.thinness += 1;
        } else if self.taken < SPARSE && self.thinness > 0 {
            self.thinness -= 1;
        }
    }

    /// Keys followed.
    pub fn len(&self) -> usize {
        self.taken
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.taken == 0
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        block(self.places.capacity() * size_of::<Place>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evict_class::{Class, Op};
    use proptest::prelude::*;
    use std::collections::HashMap;
    use xxhash_rust::xxh3::xxh3_64;

    fn hash(key: u32) -> u64 {
        xxh3_64(&key.to_le_bytes())
    }

    proptest! {
        /// With few keys it is a map; the count of what is taken is that of a walk.
        #[test]
        fn few_keys_are_all_followed(steps in proptest::collection::vec((0u32..300, 0u8..4, 0usize..16, 1u32..99), 1..600)) {
            let (mut follow, mut model) = (Follow::default(), HashMap::new());
            for (key, what, db, slot) in steps {
                let marks = Marks::new(Op::new(u64::from(slot)), Class::FIRST, true);
                match what {
                    0 | 1 => {
                        let (followed, lost) = follow.here(hash(key), Spot { db, slot });
                        prop_assert!(followed && lost.is_none());
                        model.insert(key, Followed::Here(Spot { db, slot }));
                    }
                    2 => {
                        follow.gone(hash(key), marks);
                        model.entry(key).and_modify(|followed| *followed = Followed::Gone(marks));
                    }
                    _ => {
                        follow.forget(hash(key));
                        model.remove(&key);
                    }
                }
                prop_assert_eq!(follow.get(hash(key)), model.get(&key).copied());
                prop_assert_eq!(follow.len(), model.len());
            }
            let walked = (0..PLACES).filter_map(|place| follow.at(place)).count();
            prop_assert_eq!(walked, model.len());
            (0..PLACES).for_each(|place| follow.clear(place));
            prop_assert!(follow.is_empty());
        }
    }

    #[test]
    fn of_many_keys_a_share_is_followed() {
        let mut follow = Follow::default();
        for _ in 0..12 {
            (0..1_000_000).for_each(|key| {
                follow.here(hash(key), Spot { db: 0, slot: key + 1 });
            });
            follow.balance();
            for place in 0..PLACES {
                if follow.at(place).is_some_and(|(_, spare)| spare) {
                    follow.clear(place);
                }
            }
        }
        assert!(follow.len() > SPARSE && follow.len() <= FULL, "{}", follow.len());
        let held = follow.allocated();
        // The share rises again as there are fewer.
        (0..PLACES).for_each(|place| follow.clear(place));
        (0..30).for_each(|_| follow.balance());
        assert!(follow.here(hash(1), Spot { db: 0, slot: 1 }).0);
        assert_eq!(follow.allocated(), held);
    }

    #[test]
    fn who_is_gone_makes_room_for_who_comes() {
        let mut follow = Follow::default();
        // One set: the same low bits.
        let key = |n: u64| n << 32;
        let marks = Marks::new(Op::new(7), Class::FIRST, true);
        for n in 0..8 {
            assert_eq!(follow.here(key(n), Spot { db: 0, slot: 1 }), (true, None));
        }
        assert_eq!(follow.here(key(8), Spot { db: 0, slot: 1 }), (false, None), "all are here");
        follow.gone(key(3), marks);
        assert_eq!(follow.here(key(8), Spot { db: 0, slot: 1 }), (true, Some(marks)));
        assert_eq!((follow.get(key(3)), follow.len()), (None, 8));
        assert_eq!(follow.here(key(9), Spot { db: 1 << 16, slot: 1 }), (false, None), "no such database");
    }
}
