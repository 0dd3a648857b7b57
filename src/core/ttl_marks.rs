//! Keys whose TTL may be another than the entry's own times say: EXPIRE, and
//! what brings an entry under a key with a TTL of its own (RENAME, COPY, RESTORE,
//! loading).
//!
//! Why: asking the server for a key's TTL is a look-up in a table of its own,
//! a tenth of what reading an entry costs, and hardly ever says anything new.
//! So it is asked only where it may. Native keys are marked too (their `SET … EX`
//! sends the same event): bits, one for many names, of which there are enough
//! for twice as many keys as there are entries. Past that they are taken back,
//! and of what was born before that is always asked.

use xxhash_rust::xxh3::xxh3_64;

use crate::units::Stamp;

/// Bits an entry.
const BITS: usize = 16;
/// The fewest and the most bits.
const LEAST: usize = 1 << 17;
const MOST: usize = 1 << 27;
/// A mark in so many bits, and they are taken back: so many answers are wrong
/// then.
const DENSEST: usize = 8;

fn bits_for(entries: usize) -> usize {
    entries.saturating_mul(BITS).clamp(LEAST, MOST).next_power_of_two()
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct TtlMarks {
    /// Allocated with the first mark.
    bits: Vec<u64>,
    set: usize,
    floor: Stamp,
}

impl TtlMarks {
    /// None.
    pub const fn new() -> TtlMarks {
        TtlMarks { bits: Vec::new(), set: 0, floor: Stamp(0) }
    }

    /// Where a name's bit is; there are bits.
    #[inline]
    fn place(&self, name: &[u8]) -> (usize, u64) {
        let hash = xxh3_64(name) as usize;
        // A power of two.
        ((hash / 64) & (self.bits.len() - 1), 1 << (hash % 64))
    }

    /// The TTL of the key of that name is what somebody says. `last`: the last
    /// stamp drawn; `entries`: how many there are.
    pub fn mark(&mut self, name: &[u8], last: Stamp, entries: usize) {
        if self.set * DENSEST >= self.bits.len() * 64 && self.set > 0 {
            self.mark_all(last);
        }
        if self.bits.is_empty() {
            self.bits = vec![0; bits_for(entries) / 64];
        }
        let (word, bit) = self.place(name);
        if let Some(word) = self.bits.get_mut(word) {
            self.set += usize::from(*word & bit == 0);
            *word |= bit;
        }
    }

    /// Gives bits back that so few entries do not need. `last`: as above.
    pub fn trim(&mut self, last: Stamp, entries: usize) {
        if entries == 0 {
            (self.bits, self.set) = (Vec::new(), 0);
        } else if self.bits.len() * 64 > 4 * bits_for(entries) {
            self.mark_all(last);
        }
    }

    /// Those of all keys may be.
    pub fn mark_all(&mut self, last: Stamp) {
        self.floor = self.floor.max(last);
        self.bits = Vec::new();
        self.set = 0;
    }

    /// Whether the TTL of an entry's key may be another than its times say.
    #[inline]
    pub fn may_differ(&self, name: &[u8], born: Stamp) -> bool {
        if born <= self.floor {
            return true;
        }
        if self.set == 0 {
            return false;
        }
        let (word, bit) = self.place(name);
        self.bits.get(word).is_some_and(|word| word & bit != 0)
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.bits.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn no_mark_is_ever_missed(steps in proptest::collection::vec((0u32..60_000, 0u8..40), 1..400)) {
            let (mut marks, mut stamp) = (TtlMarks::default(), 0u64);
            // When each name was last born, and last marked.
            let (mut born, mut marked): (HashMap<u32, u64>, HashMap<u32, u64>) = Default::default();
            for (name, what) in steps {
                stamp += 1;
                match what {
                    0 => {
                        marks.mark_all(Stamp(stamp));
                        born.keys().for_each(|&name| { marked.insert(name, stamp); });
                    }
                    1 => (0..20_000u32).for_each(|n| marks.mark(&(n + 1_000_000).to_le_bytes(), Stamp(stamp), 0)),
                    2..=20 => { born.insert(name % 50, stamp); }
                    _ => {
                        marks.mark(&(name % 50).to_le_bytes(), Stamp(stamp), name as usize);
                        marked.insert(name % 50, stamp);
                    }
                }
                for (name, &born) in &born {
                    let since = marked.get(name).is_some_and(|&at| at > born);
                    prop_assert!(!since || marks.may_differ(&name.to_le_bytes(), Stamp(born)));
                }
            }
        }
    }

    #[test]
    fn most_are_told_apart_and_memory_is_bounded() {
        let mut marks = TtlMarks::default();
        assert!(!marks.may_differ(b"a", Stamp(1)) && marks.allocated() == 0);
        let most = (LEAST / DENSEST) as u64;
        (0..most - 1).for_each(|n| marks.mark(&n.to_le_bytes(), Stamp(5), 0));
        let wrong = |marks: &TtlMarks| {
            (0..1000u64).filter(|n| marks.may_differ(&(n + (1 << 40)).to_le_bytes(), Stamp(6))).count()
        };
        assert!(wrong(&marks) < 200, "{}", wrong(&marks));
        (0..10 * most).for_each(|n| marks.mark(&n.to_le_bytes(), Stamp(9), 0));
        assert!(marks.may_differ(b"b", Stamp(9)), "taken back: older ones are asked for");
        assert_eq!(marks.allocated(), LEAST / 8);

        // Where there are as many native keys as entries, most are told apart.
        let mut marks = TtlMarks::default();
        (0..100_000u64).for_each(|n| marks.mark(&n.to_le_bytes(), Stamp(5), 100_000));
        assert!(wrong(&marks) < 100, "{}", wrong(&marks));
        assert_eq!(marks.allocated(), 1 << 18);
        marks.trim(Stamp(7), 50_000);
        assert!(marks.allocated() == 1 << 18 && !marks.may_differ(b"b", Stamp(7)), "worth keeping");
        marks.trim(Stamp(7), 5_000);
        assert!(marks.allocated() == 0 && marks.may_differ(b"b", Stamp(7)));
        marks.mark(b"c", Stamp(8), 5_000);
        marks.trim(Stamp(9), 0);
        assert!(marks.allocated() == 0 && !marks.may_differ(b"c", Stamp(8)), "there are none");
    }
}
