//! Hash slots: which one a key is in, and which of them a node of a cluster has
//! lost since somebody last looked.
//!
//! The slot is CRC16 (CCITT, XMODEM's) of the key modulo 16384, or of what stands
//! between the first `{` and the first `}` behind it, if anything does: Redis
//! Cluster's specification.

/// How many slots there are.
pub const SLOTS: u16 = 16384;

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The slot of a key.
pub fn of(key: &[u8]) -> u16 {
    of_bytes(hashed(key))
}

/// The slot that these bytes hash to, braces being bytes like others.
pub(crate) const fn of_bytes(bytes: &[u8]) -> u16 {
    let (mut crc, mut i) = (0_u16, 0);
    while i < bytes.len() {
        crc = crc << 8 ^ TABLE[((crc >> 8) as u8 ^ bytes[i]) as usize];
        i += 1;
    }
    crc % SLOTS
}

/// The part of a key that its slot depends on.
fn hashed(key: &[u8]) -> &[u8] {
    let place = |of: &[u8], byte| of.iter().position(|&other| other == byte);
    let tag = place(key, b'{').map(|begin| &key[begin + 1..]);
    tag.and_then(|tag| place(tag, b'}').map(|end| &tag[..end])).filter(|tag| !tag.is_empty()).unwrap_or(key)
}

/// Some of the slots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set(Box<[u64; SLOTS as usize / 64]>);

impl Default for Set {
    fn default() -> Self {
        Set(Box::new([0; SLOTS as usize / 64]))
    }
}

impl Set {
    /// Adds the slots from `first` to `last`, both included; what is past the
    /// last one is none.
    pub fn add(&mut self, first: u16, last: u16) {
        for slot in first..=last.min(SLOTS - 1) {
            self.0[usize::from(slot / 64)] |= 1 << (slot % 64);
        }
    }

    /// Whether a slot is one of them.
    pub fn has(&self, slot: u16) -> bool {
        self.0.get(usize::from(slot / 64)).is_some_and(|word| word >> (slot % 64) & 1 != 0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }
}

/// What a node owned when somebody last looked, and what it has lost since.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    owned: Option<Set>,
    lost: Set,
}

impl Watch {
    /// Takes note of what is owned now. What was owned when last looked and is not
    /// now is lost, until it is owned again or [`Watch::take_lost`] tells of it.
    /// What was never seen to be owned (a slot that is being imported) is not lost.
    pub fn look(&mut self, now: Set) {
        let before = self.owned.take().unwrap_or_default();
        for (lost, (before, now)) in self.lost.0.iter_mut().zip(before.0.iter().zip(now.0.iter())) {
            *lost = (*lost | before) & !now;
        }
        self.owned = Some(now);
    }

    /// Takes note of one more slot that is owned.
    pub fn saw(&mut self, slot: u16) {
        self.owned.get_or_insert_with(Set::default).add(slot, slot);
    }

    /// Whether a slot was owned when last looked, or since.
    pub fn has_seen(&self, slot: u16) -> bool {
        self.owned.as_ref().is_some_and(|owned| owned.has(slot))
    }

    /// Whether it is not known what is owned.
    pub fn is_blind(&self) -> bool {
        self.owned.is_none()
    }

    /// Whether something was lost that nobody has been told of.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Forgets it all: a replica owns nothing, and loses nothing.
    pub fn forget(&mut self) {
        *self = Watch::default();
    }

    /// What was lost; told once.
    pub fn take_lost(&mut self) -> Option<Set> {
        (!self.lost.is_empty()).then(|| std::mem::take(&mut self.lost))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_slots() {
        // The specification's check value, and what CLUSTER KEYSLOT says.
        assert_eq!(of(b"123456789"), 0x31c3);
        for (key, slot) in [
            (&b""[..], 0),
            (b"foo", 12182),
            (b"bar", 5061),
            (b"{user1000}.following", 3443),
            (b"{user1000}.followers", 3443),
            (b"user1000", 3443),
            (b"foo{}{bar}", 8363),
            (b"foo{{bar}}zap", 4015),
            (b"{bar", 4015),
            (b"foo{bar}{zap}", 5061),
            (b"}{bar}", 5061),
        ] {
            assert_eq!(of(key), slot, "{}", String::from_utf8_lossy(key));
        }
    }

    proptest! {
        #[test]
        fn a_watch_is_as_the_naive_one(
            looks in proptest::collection::vec((any::<bool>(), proptest::collection::vec((0u16..40, 0u16..5), 0..4)), 1..30)
        ) {
            let mut watch = Watch::default();
            let (mut owned, mut lost): (Option<BTreeSet<u16>>, BTreeSet<u16>) = (None, BTreeSet::new());
            for (take, ranges) in looks {
                let (mut set, mut naive) = (Set::default(), BTreeSet::new());
                for (first, length) in ranges {
                    // Spread over all words, up to the last slot and past it.
                    let first = first * 420;
                    set.add(first, first + length);
                    naive.extend((first..=first + length).filter(|&slot| slot < SLOTS));
                }
                watch.look(set);
                lost.extend(owned.take().unwrap_or_default());
                lost = &lost - &naive;
                owned = Some(naive);
                if take {
                    let taken = watch.take_lost();
                    prop_assert_eq!(taken.is_none(), lost.is_empty());
                    let taken = taken.unwrap_or_default();
                    prop_assert!((0..SLOTS).all(|slot| taken.has(slot) == lost.contains(&slot)));
                    lost.clear();
                }
            }
            watch.forget();
            prop_assert!(watch.is_blind() && !watch.has_lost() && watch.take_lost().is_none());
        }
    }

    #[test]
    fn what_was_seen_between_two_looks_is_lost_too() {
        let mut watch = Watch::default();
        watch.saw(7);
        assert!(watch.has_seen(7) && !watch.has_seen(8));
        watch.look(Set::default());
        assert!(!watch.has_seen(7) && watch.take_lost().is_some_and(|lost| lost.has(7) && !lost.has(8)));
    }

    #[test]
    fn there_is_no_slot_past_the_last() {
        let mut set = Set::default();
        set.add(SLOTS - 1, u16::MAX);
        assert!(set.has(SLOTS - 1) && !set.has(SLOTS - 2) && !set.has(SLOTS) && !set.has(u16::MAX));
    }
}
