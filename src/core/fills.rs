//! Namespaces as the table of leases knows them, and what filling each was
//! measured to take.
//!
//! A number is the same in all databases, and a namespace keeps it: the first
//! [`MOST`] that a lease is granted in have one each, the rest share
//! [`SHARED`].

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
}

impl Fills {
    /// The number of a namespace, given if it has none yet.
    pub fn number(&mut self, name: &[u8]) -> NamespaceId {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        if self.times.is_empty() {
            self.times.push(FillTimes::default());
        }
        if self.numbers.len() >= MOST {
            return SHARED;
        }
        // At most MOST.
        let number = self.times.len() as NamespaceId;
        self.times.push(FillTimes::default());
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
    fn each_has_its_times() {
        let mut fills = Fills::default();
        let (a, b) = (fills.number(b"a"), fills.number(b"b"));
        fills.times_mut(a).expect("there").record(Millis(500), Cost(0));
        assert!(fills.times(a).expect("there").typical() >= Cost(500));
        assert_eq!(fills.times(b).expect("there").typical(), Cost(0));
        assert!(fills.times(7).is_none());
    }
}
