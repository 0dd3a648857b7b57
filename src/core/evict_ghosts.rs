//! Ghosts: how often keys were used that are gone, and when last, in 4 bytes
//! each.
//!
//! ```text
//! ┌──── 18 ─────┬─ 3 ─┬──── 11 ─────┐
//! │ fingerprint │ f+1 │ coarse time │    0: none
//! └─────────────┴─────┴─────────────┘
//! ```
//!
//! In sets of four; who comes takes the place of the oldest of its set. A unit of
//! coarse time is a 32nd of the table in operations, and a ghost past half of
//! what 11 bits can tell counts as none; a hand clears those before they look
//! young again ([`Ghosts::clean`]).
//!
//! The table has a power of two of places, at most as many as there are
//! entries. It grows into a new one that begins empty while the old is still
//! asked, and each chunk of the old goes when those that follow it have come:
//! no step copies, makes or frees more than a chunk of 16 KB. Nothing is lost by
//! that but ghosts of a time when fewer entries had room.
//!
//! A stranger is taken for a ghost in about one of 60,000 cases: four
//! fingerprints of 18 bits.

use crate::evict_class::Op;
use crate::units::block;

const WAYS: usize = 4;
const TIME_BITS: u32 = 11;
const TIME: u32 = (1 << TIME_BITS) - 1;
const FREQUENCY: u32 = 7;
const FINGERPRINT_AT: u32 = TIME_BITS + 3;
/// Units after which a ghost counts as none.
const OLDEST: u32 = 1 << (TIME_BITS - 1);
/// Units in as many operations as there are places.
const FINENESS_BITS: u32 = 5;
/// The logarithm of the longest unit: all 11 bits are then of use.
const COARSEST: u32 = 20;
/// Places of a chunk: 16 KB.
const CHUNK: usize = 1 << 12;
/// Keys that go for each chunk past the first.
const PUTS_A_CHUNK: usize = 256;
/// The fewest places and the most.
const LEAST: usize = 1 << 8;
const MOST: usize = 1 << 30;

/// What is known of a key that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ghost {
    /// Its bucket of frequency; `None`: used once.
    pub frequency: Option<u8>,
    /// Operations since its last use, in whole units.
    pub age: u32,
}

#[derive(Debug, Default)]
struct Places {
    /// A power of two, or 0.
    many: usize,
    /// Made when first written to.
    chunks: Vec<Option<Box<[u32]>>>,
    /// Chunks that are there.
    made: usize,
    /// The logarithm of a unit of time.
    unit: u32,
}

impl Places {
    fn new(many: usize) -> Places {
        let mut chunks = Vec::new();
        chunks.resize_with(many.div_ceil(CHUNK), || None);
        Places { many, chunks, made: 0, unit: (many.ilog2() - FINENESS_BITS).min(COARSEST) }
    }

    fn coarse(&self, at: Op) -> u32 {
        // All units divide 2^31, so coarse time wraps where operations do.
        at.since(Op::default()) >> self.unit & TIME
    }

    fn set(&self, hash: u64) -> (usize, usize) {
        let first = (hash as usize).wrapping_mul(WAYS) & self.many.wrapping_sub(1);
        (first / CHUNK, first % CHUNK)
    }

    fn first(&self, hash: u64) -> Option<&u32> {
        let (chunk, first) = self.set(hash);
        self.chunks.get(chunk)?.as_deref()?.get(first)
    }

    fn ways(&mut self, hash: u64) -> Option<&mut [u32]> {
        let (chunk, first) = self.set(hash);
        self.chunks.get_mut(chunk)?.as_deref_mut()?.get_mut(first..first + WAYS)
    }

    fn take(&mut self, hash: u64, now: Op) -> Option<Ghost> {
        let unit = self.unit;
        let wanted = fingerprint(hash);
        let coarse = self.coarse(now);
        let place =
            self.ways(hash)?.iter_mut().find(|way| **way != 0 && **way >> FINGERPRINT_AT == wanted)?;
        let ghost = std::mem::take(place);
        let age = coarse.wrapping_sub(ghost) & TIME;
        let frequency = (ghost >> TIME_BITS & FREQUENCY) as u8;
        (age < OLDEST).then_some(Ghost { frequency: frequency.checked_sub(2), age: age << unit })
    }

    fn allocated(&self) -> usize {
        let chunk = block(CHUNK.min(self.many) * size_of::<u32>());
        self.made * chunk + block(self.chunks.capacity() * size_of::<Option<Box<[u32]>>>())
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Ghosts {
    places: Places,
    /// Those before it grew.
    old: Places,
    /// Keys gone since it grew.
    puts: usize,
    /// Where [`Ghosts::clean`] goes on.
    hand: usize,
}

fn fingerprint(hash: u64) -> u32 {
    (hash >> 46) as u32
}

/// Places for so many entries: no more, and not under half.
fn room(entries: usize) -> usize {
    let most = entries.clamp(LEAST, MOST);
    1 << most.ilog2()
}

impl Ghosts {
    /// Notes a key that goes.
    pub fn put(&mut self, hash: u64, frequency: Option<u8>, last: Op, now: Op, entries: usize) {
        self.fit(entries);
        self.make(hash);
        let coarse = self.places.coarse(last);
        // One more than `checked_sub` takes off: 0 would make a ghost of no
        // fingerprint none.
        let frequency = frequency.map_or(1, |f| u32::from(f) + 2);
        let ghost = fingerprint(hash) << FINGERPRINT_AT | frequency << TIME_BITS | coarse;
        let at = self.places.coarse(now);
        let Some(ways) = self.places.ways(hash) else { return };
        // The one of the same fingerprint, a free one, the oldest.
        let rank = |way: u32| match way {
            way if way != 0 && way >> FINGERPRINT_AT == ghost >> FINGERPRINT_AT => u32::MAX,
            0 => u32::MAX - 1,
            way => at.wrapping_sub(way) & TIME,
        };
        if let Some(place) = ways.iter_mut().max_by_key(|way| rank(**way)) {
            *place = ghost;
        }
    }

    /// Where what is known of a key lies, for whoever can have it fetched ahead.
    pub fn places_of(&self, hash: u64) -> impl Iterator<Item = &u32> {
        [&self.places, &self.old].into_iter().filter_map(move |places| places.first(hash))
    }

    /// What is known of a key that comes; it is a ghost no longer.
    pub fn take(&mut self, hash: u64, now: Op) -> Option<Ghost> {
        self.places.take(hash, now).or_else(|| self.old.take(hash, now))
    }

    /// Makes the table fit so many entries. It shrinks only where it is four
    /// times too large: a number that sways costs nothing.
    fn fit(&mut self, entries: usize) {
        let room = room(entries);
        if room > self.places.many || room * 4 <= self.places.many {
            self.old = std::mem::replace(&mut self.places, Places::new(room));
            self.hand = 0;
            self.puts = 0;
        }
        self.puts = self.puts.saturating_add(1);
    }

    /// Makes the chunk that a key belongs to, and lets go of what it replaces.
    fn make(&mut self, hash: u64) {
        let (chunk, _) = self.places.set(hash);
        let many = CHUNK.min(self.places.many);
        if self.puts < self.places.made * PUTS_A_CHUNK {
            return;
        }
        let Some(place) = self.places.chunks.get_mut(chunk).filter(|place| place.is_none()) else { return };
        *place = Some(vec![0; many].into_boxed_slice());
        self.places.made += 1;
        // Of two new chunks for an old one, the second ends it.
        let before = self.old.chunks.len();
        let all = self.places.made == self.places.chunks.len();
        if before > 0 {
            let is_made = |chunk: usize| self.places.chunks.get(chunk).is_none_or(Option::is_some);
            let replaced = chunk % before;
            if is_made(replaced) && is_made(replaced + before) {
                self.old.made -= usize::from(self.old.chunks[replaced].take().is_some());
            }
        }
        if all {
            self.old = Places::default();
        }
    }

    /// Clears ghosts too old to be told, in the next `sets` sets. All sets must
    /// have their turn before time has gone half around: in as many operations
    /// as 32 times the places.
    pub fn clean(&mut self, sets: usize, now: Op) {
        // What is left of a larger table is of little use and much room.
        if self.old.many > self.places.many {
            let last = self.old.chunks.pop().flatten();
            self.old.made -= usize::from(last.is_some());
            if self.old.chunks.is_empty() {
                self.old = Places::default();
            }
        }
        for _ in 0..sets.min(self.places.many / WAYS) {
            let first = self.hand;
            self.hand = (first + WAYS) & (self.places.many - 1);
            let coarse = self.places.coarse(now);
            let chunk = self.places.chunks.get_mut(first / CHUNK).and_then(|chunk| chunk.as_deref_mut());
            let Some(ways) = chunk.and_then(|chunk| chunk.get_mut(first % CHUNK..first % CHUNK + WAYS))
            else {
                continue;
            };
            for way in ways {
                if coarse.wrapping_sub(*way) & TIME >= OLDEST {
                    *way = 0;
                }
            }
        }
    }

    /// Bytes allocated: at most 4 an entry, 17 KB aside, but for a while after
    /// most entries have gone.
    pub fn allocated(&self) -> usize {
        self.places.allocated() + self.old.allocated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use xxhash_rust::xxh3::xxh3_64;

    fn hash(key: u32) -> u64 {
        xxh3_64(&key.to_le_bytes())
    }

    proptest! {
        /// Keys come and go as time passes, across the wrap too: what is told of
        /// a key is what was noted, or it was forgotten, and hardly any is
        /// while there is room.
        #[test]
        fn tells_what_was_noted_or_nothing(
            begin in (0u64..4, 0u64..100_000).prop_map(|(wraps, ops)| (wraps << 31).wrapping_sub(ops)),
            steps in proptest::collection::vec((0u32..150, proptest::option::of(0u8..6), 0u64..60, any::<bool>()), 1..400),
        ) {
            let (mut ghosts, mut model, mut at) = (Ghosts::default(), HashMap::new(), begin);
            let (mut asked, mut missed) = (0, 0);
            for (key, frequency, passed, put) in steps {
                at = at.wrapping_add(passed);
                let now = Op::new(at);
                // A quarter of the operations have passed since its last use.
                let last = Op::new(at.wrapping_sub(passed / 4));
                if put {
                    ghosts.put(hash(key), frequency, last, now, 1000);
                    model.insert(key, (frequency, last));
                    continue;
                }
                let (found, noted) = (ghosts.take(hash(key), now), model.remove(&key));
                if let Some(found) = found {
                    let (frequency, last) = noted.expect("no stranger is taken for one of so few");
                    prop_assert_eq!(found.frequency, frequency);
                    let unit = 512 >> FINENESS_BITS;
                    prop_assert!(found.age.abs_diff(now.since(last)) < unit, "{} for {}", found.age, now.since(last));
                }
                asked += usize::from(noted.is_some());
                missed += usize::from(noted.is_some() && found.is_none());
            }
            prop_assert!(missed * 20 <= asked + 20, "{missed} of {asked}");
        }
    }

    #[test]
    fn the_oldest_of_a_set_makes_room() {
        let mut ghosts = Ghosts::default();
        // All in the first set, told apart by their fingerprints.
        let key = |n: u64| n << 46;
        for n in 1..=5 {
            ghosts.put(key(n), None, Op::new(n * 100), Op::new(500), 256);
        }
        let known = [1, 2, 3, 4, 5].map(|n| ghosts.take(key(n), Op::new(500)).is_some());
        assert_eq!(known, [false, true, true, true, true]);
        assert_eq!(ghosts.take(key(2), Op::new(500)), None, "it is an entry again");
    }

    #[test]
    fn none_looks_young_again() {
        let (mut ghosts, entries) = (Ghosts::default(), 256u64);
        ghosts.put(hash(1), Some(3), Op::new(0), Op::new(0), entries as usize);
        let (oldest, around) = (entries * 32, entries * 64);
        assert_eq!(ghosts.take(hash(1), Op::new(oldest)), None, "too old to be told");
        ghosts.put(hash(1), Some(3), Op::new(0), Op::new(0), entries as usize);
        for at in (0..=around).step_by(128) {
            ghosts.clean(1, Op::new(at));
        }
        assert_eq!(ghosts.take(hash(1), Op::new(around + 9)), None);
    }

    #[test]
    fn it_grows_by_and_by_and_takes_four_bytes_an_entry() {
        let (mut ghosts, now) = (Ghosts::default(), Op::new(1));
        for key in 0..400_000u32 {
            let (entries, before) = (key as usize, ghosts.allocated());
            ghosts.put(hash(key), Some(1), now, now, entries);
            let held = ghosts.allocated();
            assert!(held <= 4 * entries + (17 << 10) + 4096, "{held} bytes for {entries} entries");
            assert!(held.abs_diff(before) <= 2 * (CHUNK * 4) + 4096, "in small steps");
        }
        let known = (390_000..400_000).filter(|&key| ghosts.take(hash(key), now).is_some()).count();
        assert!(known > 9_500, "{known}");
        for key in 0..2000 {
            ghosts.put(hash(key), None, now, now, 1000);
            ghosts.clean(1, now);
        }
        assert!(ghosts.allocated() <= 4 * 1000 + 1024, "given back: {}", ghosts.allocated());
        assert_eq!(ghosts.take(hash(1999), now), Some(Ghost { frequency: None, age: 0 }));
    }

    #[test]
    fn it_grows_no_faster_than_keys_go() {
        let (mut ghosts, now) = (Ghosts::default(), Op::new(1));
        ghosts.put(hash(0), None, now, now, 5_000_000);
        let first = ghosts.allocated();
        for key in 1..10_000u32 {
            ghosts.put(hash(key), None, now, now, 5_000_000);
            let grown = ghosts.allocated() - first;
            assert!(grown <= (key as usize / PUTS_A_CHUNK + 1) * block(CHUNK * 4), "{grown} after {key}");
        }
        assert!(ghosts.allocated() > first + 30 * CHUNK * 4, "but it does");
    }

    #[test]
    fn hardly_a_stranger_is_taken_for_a_ghost() {
        let (mut ghosts, now) = (Ghosts::default(), Op::new(1));
        (0..65_536u32).for_each(|key| ghosts.put(hash(key), None, now, now, 65_536));
        let taken = (1_000_000..2_000_000u32).filter(|&key| ghosts.take(hash(key), now).is_some()).count();
        assert!(taken < 60, "{taken} of a million");
    }
}
