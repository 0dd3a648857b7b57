//! Keys whose TTL may be another than the entry's own times say: EXPIRE, and
//! what brings an entry under a key with a TTL of its own (RENAME, COPY, RESTORE,
//! loading).
//!
//! Why: asking the server for a key's TTL is a look-up in a table of its own,
//! a tenth of what reading an entry costs, and hardly ever says anything new.
//! So it is asked only where it may. Native keys are marked too (their `SET … EX`
//! sends the same event): bits, one for many names, which are taken back
//! once many are set; what was born before that is always asked for.

use xxhash_rust::xxh3::xxh3_64;

use crate::units::Stamp;

const BITS: usize = 1 << 17;
/// Marks after which they are taken back: one in eight answers wrongly then.
const MOST: usize = BITS / 8;

/// See the module's text.
#[derive(Debug, Default)]
pub struct TtlMarks {
    /// Allocated with the first mark.
    bits: Vec<u64>,
    set: usize,
    floor: Stamp,
}

fn place(name: &[u8]) -> (usize, u64) {
    let bit = xxh3_64(name) as usize % BITS;
    (bit / 64, 1 << (bit % 64))
}

impl TtlMarks {
    /// None.
    pub const fn new() -> TtlMarks {
        TtlMarks { bits: Vec::new(), set: 0, floor: Stamp(0) }
    }

    /// The TTL of the key of that name is what somebody says. `last`: the last
    /// stamp drawn.
    pub fn mark(&mut self, name: &[u8], last: Stamp) {
        if self.set >= MOST {
            self.mark_all(last);
        }
        if self.bits.is_empty() {
            self.bits = vec![0; BITS / 64];
        }
        let (word, bit) = place(name);
        if let Some(word) = self.bits.get_mut(word) {
            self.set += usize::from(*word & bit == 0);
            *word |= bit;
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
        let (word, bit) = place(name);
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
                    1 => (0..20_000u32).for_each(|n| marks.mark(&(n + 1_000_000).to_le_bytes(), Stamp(stamp))),
                    2..=20 => { born.insert(name % 50, stamp); }
                    _ => {
                        marks.mark(&(name % 50).to_le_bytes(), Stamp(stamp));
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
        (0..MOST as u64 - 1).for_each(|n| marks.mark(&n.to_le_bytes(), Stamp(5)));
        let wrong =
            (0..1000u64).filter(|n| marks.may_differ(&(n + (1 << 40)).to_le_bytes(), Stamp(6))).count();
        assert!(wrong < 200, "{wrong}");
        (0..10 * MOST as u64).for_each(|n| marks.mark(&n.to_le_bytes(), Stamp(9)));
        assert!(marks.may_differ(b"b", Stamp(9)), "taken back: older ones are asked for");
        assert_eq!(marks.allocated(), BITS / 8);
    }
}
