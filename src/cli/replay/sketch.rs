//! How often keys were asked for lately, roughly, in a few bits each: what
//! W-TinyLFU decides by.
//!
//! ```text
//! a key ─ first ─▶ doorkeeper, a Bloom filter: 1 if it is there
//!       └ again ─▶ count-min sketch: 4 rows of 4-bit counters, the least of
//!                  its four counts; only those that are the least are raised
//! ```
//! Once ten requests for each entry that the cache holds are counted, all
//! counters are halved and the doorkeeper is emptied, so that what was is
//! forgotten. Einziger, Friedman, Manes: "TinyLFU: A Highly Efficient Cache
//! Admission Policy", ACM Transactions on Storage 13 (4), 2017.

use xxhash_rust::xxh3::xxh3_64_with_seed;

const ROWS: usize = 4;
/// Requests that are counted for each entry before they are halved.
const SAMPLE: u64 = 10;
/// Counters of a row for each entry: as roomy as Caffeine's, where a collision
/// in all rows is rare.
const COUNTERS: u64 = 4;
/// Bits of the doorkeeper for each entry: six and more for each request counted.
const DOOR_BITS: u64 = 64;
const DOOR_PROBES: u64 = 3;
const MOST: u64 = 15;
/// The lower three bits of each of the sixteen counters in a word.
const HALVES: u64 = 0x7777_7777_7777_7777;

/// Counts of all keys.
pub struct Sketch {
    /// Sixteen counters in a word, one row after the other.
    counters: Vec<u64>,
    /// Counters of a row, a power of two.
    width: u64,
    doorkeeper: Vec<u64>,
    counted: u64,
    sample: u64,
}

impl Sketch {
    /// For a cache of so many entries.
    pub fn new(entries: u64) -> Self {
        let entries = entries.max(16);
        let width = (entries * COUNTERS).next_power_of_two();
        let door = (entries * DOOR_BITS).next_power_of_two();
        Self {
            counters: vec![0; ROWS * width as usize / 16],
            width,
            doorkeeper: vec![0; door as usize / 64],
            counted: 0,
            sample: entries * SAMPLE,
        }
    }

    /// Counts a request.
    pub fn count(&mut self, key: u32) {
        if !self.is_new(key) {
            let counts = self.counts(key);
            let least = counts.iter().map(|(.., count)| *count).min().unwrap_or(MOST);
            for (word, shift, count) in counts {
                if count == least && count < MOST {
                    self.counters[word] += 1 << shift;
                }
            }
        }
        self.counted += 1;
        if self.counted >= self.sample {
            self.forget();
        }
    }

    /// How often a key was asked for, or more.
    pub fn estimate(&self, key: u32) -> u64 {
        let (base, step) = halves(key, 1);
        let door = self.door(base, step).all(|(word, bit)| self.doorkeeper[word] & bit != 0);
        self.counts(key).iter().map(|(.., count)| *count).min().unwrap_or(0) + u64::from(door)
    }

    /// Whether the doorkeeper does not know a key. It does from now on.
    fn is_new(&mut self, key: u32) -> bool {
        let (base, step) = halves(key, 1);
        let bits: [_; DOOR_PROBES as usize] = {
            let mut bits = self.door(base, step);
            std::array::from_fn(|_| bits.next().unwrap_or((0, 0)))
        };
        let new = bits.iter().any(|(word, bit)| self.doorkeeper[*word] & bit == 0);
        for (word, bit) in bits {
            self.doorkeeper[word] |= bit;
        }
        new
    }

    fn door(&self, base: u64, step: u64) -> impl Iterator<Item = (usize, u64)> {
        let bits = self.doorkeeper.len() as u64 * 64;
        (0..DOOR_PROBES).map(move |probe| {
            let bit = base.wrapping_add(probe.wrapping_mul(step)) & (bits - 1);
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }

    /// Word, shift and value of a key's counter in each row.
    fn counts(&self, key: u32) -> [(usize, u64, u64); ROWS] {
        let (base, step) = halves(key, 0);
        std::array::from_fn(|row| {
            let place = base.wrapping_add((row as u64).wrapping_mul(step)) & (self.width - 1);
            let place = row as u64 * self.width + place;
            let (word, shift) = ((place / 16) as usize, place % 16 * 4);
            (word, shift, self.counters[word] >> shift & MOST)
        })
    }

    fn forget(&mut self) {
        for word in &mut self.counters {
            *word = *word >> 1 & HALVES;
        }
        self.doorkeeper.fill(0);
        self.counted /= 2;
    }
}

/// Two hashes in one, for double hashing; the second is odd.
fn halves(key: u32, seed: u64) -> (u64, u64) {
    let hash = xxh3_64_with_seed(&key.to_le_bytes(), seed);
    (hash & 0xFFFF_FFFF, hash >> 32 | 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{rngs::SmallRng, Rng, SeedableRng};

    #[test]
    fn never_says_less_and_seldom_more_than_a_map_would() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut sketch = Sketch::new(1000);
        let mut exact = vec![0; 2000];
        for _ in 0..9_999 {
            let key = random.random_range(0..2000u32).min(random.random_range(0..2000));
            sketch.count(key);
            exact[key as usize] += 1;
        }
        let exact: Vec<u64> = exact.into_iter().map(|count: u64| count.min(MOST + 1)).collect();
        let estimates: Vec<u64> = (0..2000).map(|key| sketch.estimate(key)).collect();
        assert!(estimates.iter().zip(&exact).all(|(estimate, exact)| estimate >= exact));
        let wrong = estimates.iter().zip(&exact).filter(|(estimate, exact)| estimate != exact).count();
        assert!(wrong < 40, "{wrong} of 2000");
    }

    #[test]
    fn counts_end_at_sixteen_and_are_halved() {
        let mut sketch = Sketch::new(16);
        for asked in 1..=159 {
            sketch.count(7);
            assert_eq!(sketch.estimate(7), asked.min(MOST + 1));
        }
        sketch.count(7); // the 160th: 15 of the counters halved, the doorkeeper's gone
        assert_eq!(sketch.estimate(7), 7);
        sketch.count(7); // seen by the doorkeeper anew
        assert_eq!(sketch.estimate(7), 8);
    }
}
