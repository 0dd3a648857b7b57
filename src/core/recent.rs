//! A table of bounded size that keeps what was used last: for what is worth
//! remembering and no loss if it is not.
//!
//! Sets of eight places, of which a key has one; where all are taken, the one
//! that was not used for longest makes room. No list to keep in order, and
//! nothing is ever looked through. It grows by doubling as it fills, up to the
//! number it was made for. Keys are hashes: two that agree are taken for one.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::units::{block, Time};

const WAYS: usize = 8;
/// Places that the first one to come is given.
const LEAST: usize = 64;

/// The key of a name among those `of` one kind.
pub fn key(name: &[u8], of: u64) -> u64 {
    xxh3_64_with_seed(name, of)
}

#[derive(Clone, Copy, Debug)]
struct Place<T> {
    key: u64,
    used: Time,
    held: T,
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Recent<T> {
    places: Vec<Option<Place<T>>>,
    len: usize,
    most: usize,
}

impl<T: Copy> Recent<T> {
    /// An empty one, that will hold no more than `most`, a power of two.
    pub const fn new(most: usize) -> Recent<T> {
        Recent { places: Vec::new(), len: 0, most }
    }

    /// Where a key's set begins; there are places.
    fn set(&self, key: u64) -> usize {
        key as usize & (self.places.len() - 1) & !(WAYS - 1)
    }

    fn find(&self, key: u64) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let set = self.set(key);
        (set..set + WAYS).find(|&at| self.places[at].as_ref().is_some_and(|place| place.key == key))
    }

    /// What is held under a key.
    pub fn get(&self, key: u64) -> Option<&T> {
        self.find(key).and_then(|at| self.places[at].as_ref()).map(|place| &place.held)
    }

    /// The same, taken out.
    pub fn take(&mut self, key: u64) -> Option<T> {
        let place = self.find(key).and_then(|at| self.places[at].take())?;
        self.len -= 1;
        Some(place.held)
    }

    /// Holds it under a key, used at `now`.
    pub fn put(&mut self, key: u64, now: Time, held: T) {
        if self.len * 2 >= self.places.len() && self.places.len() < self.most {
            self.grow();
        }
        let at = self.find(key).unwrap_or_else(|| self.room(key));
        self.len += usize::from(self.places[at].is_none());
        self.places[at] = Some(Place { key, used: now, held });
    }

    /// The place of a key's set that is free, or else was not used for longest.
    fn room(&self, key: u64) -> usize {
        let set = self.set(key);
        let used = |at: &usize| self.places[*at].as_ref().map(|place| place.used);
        (set..set + WAYS).min_by_key(used).unwrap_or(set)
    }

    fn grow(&mut self) {
        let size = (self.places.len() * 2).max(LEAST).min(self.most.max(WAYS));
        let before = std::mem::replace(&mut self.places, vec![None; size]);
        self.len = 0;
        for place in before.into_iter().flatten() {
            // A set is divided in two: there is room for all that were in it.
            let at = self.room(place.key);
            self.len += usize::from(self.places[at].is_none());
            self.places[at] = Some(place);
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        (self.places, self.len) = (Vec::new(), 0);
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        block(self.places.capacity() * size_of::<Option<Place<T>>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn key(n: u64) -> u64 {
        super::key(&n.to_le_bytes(), 0)
    }

    proptest! {
        #[test]
        fn it_holds_what_was_put_last_or_nothing(steps in proptest::collection::vec((0u64..200, 0u8..10), 1..600)) {
            let (mut recent, mut model) = (Recent::new(128), HashMap::new());
            for (now, (name, what)) in steps.into_iter().enumerate() {
                let key = key(name);
                match what {
                    0 => {
                        let taken = recent.take(key);
                        let put = model.remove(&key);
                        prop_assert!(taken.is_none() || taken == put);
                    }
                    1 => prop_assert!(recent.get(key).is_none() || recent.get(key) == model.get(&key)),
                    _ => {
                        recent.put(key, Time(now as u64), now);
                        model.insert(key, now);
                        prop_assert_eq!(recent.get(key), Some(&now));
                    }
                }
                prop_assert_eq!(recent.len(), recent.places.iter().flatten().count());
                prop_assert!(recent.len() <= 128 && recent.places.len() <= 128);
            }
            recent.clear();
            prop_assert!(recent.is_empty() && recent.allocated() == 0);
        }
    }

    #[test]
    fn few_are_all_kept_and_of_many_the_latest() {
        let mut recent = Recent::new(1 << 10);
        (0..500u64).for_each(|n| recent.put(key(n), Time(n), n));
        let kept = (0..500).filter(|&n| recent.get(key(n)) == Some(&n)).count();
        assert!(kept > 450, "{kept}");
        (0..10_000u64).for_each(|n| recent.put(key(n), Time(n), n));
        let late = (9_700..10_000).filter(|&n| recent.get(key(n)) == Some(&n)).count();
        assert!(late > 270, "{late}");
        assert!((0..5_000).all(|n| recent.get(key(n)).is_none()), "the oldest made room");
        assert_eq!(recent.places.len(), 1 << 10);
    }
}
