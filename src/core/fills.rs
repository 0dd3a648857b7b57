//! Namespaces as the table of leases knows them, and what filling each was
//! measured to take.
//!
//! A number is the same in all databases, and a namespace keeps it: the first
//! [`MOST`] that a lease is granted in have one each, the rest share
//! [`SHARED`]. One whose origin is protected has one of its own in any case
//! ([`Fills::reserve`]), past [`MOST`] as long as it is ([`Fills::release`]).

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::leases::NamespaceId;
use crate::refresh::FillTimes;
use crate::units::block;

/// Namespaces that are told apart.
pub const MOST: usize = 1000;
/// The number of all others.
pub const SHARED: NamespaceId = 0;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Fills {
    numbers: HashMap<Box<[u8]>, NamespaceId, Xxh3DefaultBuilder>,
    /// By number.
    times: Vec<FillTimes>,
    /// Bytes of the names.
    bytes: usize,
    /// Numbers past [`MOST`] that were given back.
    spare: Vec<NamespaceId>,
}

impl Fills {
    /// The number of a namespace, given if it has none yet.
    pub fn number(&mut self, name: &[u8]) -> NamespaceId {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        if self.numbers.len() >= MOST {
            return SHARED;
        }
        self.give(name)
    }

    /// As [`Fills::number`], and never one that is shared. How many are past
    /// [`MOST`] is bounded by the caller.
    pub fn reserve(&mut self, name: &[u8]) -> NamespaceId {
        match self.numbers.get(name) {
            Some(&number) => number,
            None => self.give(name),
        }
    }

    /// Takes a number back that is there by [`Fills::reserve`] alone: the
    /// namespace shares one from now on. Answers which number it was.
    pub fn release(&mut self, name: &[u8]) -> Option<NamespaceId> {
        let number = self.numbers.get(name).copied().filter(|&number| number as usize > MOST)?;
        self.numbers.remove(name);
        self.bytes -= block(name.len());
        if let Some(times) = self.times.get_mut(number as usize) {
            *times = FillTimes::default();
        }
        self.spare.push(number);
        Some(number)
    }

    fn give(&mut self, name: &[u8]) -> NamespaceId {
        if self.times.is_empty() {
            self.times.push(FillTimes::default());
        }
        let number = self.spare.pop().unwrap_or_else(|| {
            self.times.push(FillTimes::default());
            // At most MOST, and those that are reserved.
            (self.times.len() - 1) as NamespaceId
        });
        self.bytes += block(name.len());
        self.numbers.insert(name.into(), number);
        number
    }

    /// The number of a namespace, if one was ever given.
    pub fn known(&self, name: &[u8]) -> Option<NamespaceId> {
        let shared = self.numbers.len() >= MOST;
        self.numbers.get(name).copied().or(shared.then_some(SHARED))
    }

    /// What filling a namespace was measured to take.
    pub fn times(&self, number: NamespaceId) -> Option<&FillTimes> {
        self.times.get(number as usize)
    }

    /// The same, to count a fill.
    pub fn times_mut(&mut self, number: NamespaceId) -> Option<&mut FillTimes> {
        self.times.get_mut(number as usize)
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.bytes
            + block(self.numbers.allocation_size())
            + block(self.times.capacity() * size_of::<FillTimes>())
            + block(self.spare.capacity() * size_of::<NamespaceId>())
    }

    /// The name of a number that is not shared. Walks them.
    pub fn name(&self, number: NamespaceId) -> Option<&[u8]> {
        self.numbers.iter().find(|(_, of)| **of == number).map(|(name, _)| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Cost;
    use crate::units::Millis;

    #[test]
    fn namespaces_keep_their_numbers_and_the_rest_share_one() {
        let mut fills = Fills::default();
        assert_eq!(fills.known(b"a"), None);
        let (a, b) = (fills.number(b"a"), fills.number(b""));
        assert!(a != b && a != SHARED && b != SHARED);
        assert_eq!((fills.number(b"a"), fills.known(b"a")), (a, Some(a)));
        for n in 0..2 * MOST {
            fills.number(&n.to_be_bytes());
        }
        assert_eq!(fills.number(b"another"), SHARED);
        assert_eq!(fills.known(b"yet another"), Some(SHARED));
        assert_eq!(fills.number(b"a"), a);
        assert_eq!(fills.numbers.len(), MOST);
    }

    #[test]
    fn who_must_have_a_number_has_one_and_gives_it_back() {
        let mut fills = Fills::default();
        let early = fills.reserve(b"early");
        assert_eq!(fills.number(b"early"), early);
        assert_eq!(fills.release(b"early"), None, "one as any");
        for n in 1..MOST {
            fills.number(&n.to_be_bytes());
        }
        assert_eq!(fills.number(b"late"), SHARED);
        let late = fills.reserve(b"late");
        assert!(late as usize > MOST);
        assert_eq!(
            (fills.number(b"late"), fills.reserve(b"late"), fills.known(b"late")),
            (late, late, Some(late))
        );
        assert_eq!((fills.name(late), fills.name(early)), (Some(&b"late"[..]), Some(&b"early"[..])));
        fills.times_mut(late).expect("there").record(Millis(500), Cost(0));
        assert_eq!(fills.release(b"late"), Some(late));
        assert_eq!((fills.known(b"late"), fills.name(late)), (Some(SHARED), None));
        let size = fills.allocated();
        for n in 0..100u32 {
            assert_eq!(fills.reserve(&n.to_be_bytes()), late, "given again");
            assert_eq!(fills.times(late).expect("there").typical(), Cost(0), "and nothing of before");
            assert_eq!(fills.release(&n.to_be_bytes()), Some(late));
        }
        assert_eq!(fills.allocated(), size);
    }

    #[test]
    fn each_has_its_times() {
        let mut fills = Fills::default();
        let (a, b) = (fills.number(b"a"), fills.number(b"b"));
        fills.times_mut(a).expect("there").record(Millis(500), Cost(0));
        assert!(fills.times(a).expect("there").typical() >= Cost(500));
        assert_eq!(fills.times(b).expect("there").typical(), Cost(0));
        assert!(fills.times(7).is_none());
    }
}
