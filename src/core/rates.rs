//! How often what bears a tag, or lies in a namespace, was found changed: what to
//! expect of an entry whose own refills have told little yet.
//!
//! Changes ÷ exposure ([`Lesson`]) of the first tag of an entry where three
//! changes have been seen of it; else of the namespace, itself reckoned as an
//! entry of which nothing is known, so that its first change does not decide. An
//! entry of which nothing at all is known is expected to change as often as suits
//! the shortest TTL.
//!
//! Memory: [`MOST`] tags and namespaces, those used last, 40 bytes each and 160 KB
//! together; one that had to make room begins anew. Where [`ENOUGH`] changes were
//! seen the past is halved, so that what the like do now decides. It is this
//! server's own: neither saved nor replicated, for the entries' records are.

use crate::adaptive::{Bounds, Lesson, Mean};
use crate::index::Db;
use crate::recent::{self, Recent};
use crate::units::Time;

/// Tags and namespaces that are told apart.
pub const MOST: usize = 1 << 12;
/// Changes that a tag must have shown to be asked in the namespace's place.
const FEWEST: f64 = 3.0;
/// Changes past which the past is halved.
const ENOUGH: f64 = 512.0;

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    changes: f64,
    /// In ms.
    exposure: f64,
}

/// The namespace of an entry and its first tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kin {
    namespace: u64,
    tag: Option<u64>,
}

impl Kin {
    /// Of these names, in a database.
    pub fn new(db: Db, namespace: &[u8], tag: Option<&[u8]>) -> Kin {
        let key = |name, kind| recent::key(name, (db as u64) << 1 | kind);
        Kin { namespace: key(namespace, 0), tag: tag.map(|tag| key(tag, 1)) }
    }
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Rates {
    seen: Recent<Tally>,
}

impl Default for Rates {
    fn default() -> Rates {
        Rates::new()
    }
}

impl Rates {
    /// Nothing was seen.
    pub const fn new() -> Rates {
        Rates { seen: Recent::new(MOST) }
    }

    /// Takes note of a refill.
    pub fn learn(&mut self, kin: Kin, lesson: Lesson, now: Time) {
        for key in [Some(kin.namespace), kin.tag].into_iter().flatten() {
            let mut tally = self.seen.get(key).copied().unwrap_or_default();
            tally.changes += f64::from(u8::from(lesson.changed));
            tally.exposure += lesson.exposure.0 as f64;
            if tally.changes > ENOUGH {
                tally = Tally { changes: tally.changes / 2.0, exposure: tally.exposure / 2.0 };
            }
            self.seen.put(key, now, tally);
        }
    }

    /// What to expect of an entry with these bounds, `target` being the share of
    /// reads that may be stale.
    pub fn prior(&self, kin: Kin, bounds: Bounds, target: f64) -> Mean {
        let of = |key| self.seen.get(key).copied().unwrap_or_default();
        match kin.tag.map(of) {
            Some(Tally { changes, exposure }) if changes >= FEWEST => Mean::new(exposure / changes),
            _ => {
                let Tally { changes, exposure } = of(kin.namespace);
                let unknown = Mean::new(bounds.min().0 as f64 / (2.0 * target));
                Mean::new((unknown.0 + exposure) / (1.0 + changes))
            }
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.seen.clear();
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.seen.allocated()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Millis;

    const BOUNDS: (u32, u32) = (10, 100);

    fn bounds() -> Bounds {
        Bounds::new(BOUNDS.0, BOUNDS.1).expect("bounds")
    }

    fn lesson(changed: bool, ms: u64) -> Lesson {
        Lesson { changed, exposure: Millis(ms) }
    }

    fn mean(rates: &Rates, kin: Kin) -> f64 {
        rates.prior(kin, bounds(), 0.01).0
    }

    #[test]
    fn nothing_known_suits_the_shortest_ttl() {
        let kin = Kin::new(0, b"n", Some(b"t"));
        assert_eq!(mean(&Rates::new(), kin), 10_000.0 / 0.02);
        assert!(Rates::new().prior(kin, bounds(), 0.0).0.is_finite());
        assert!(Rates::new().prior(kin, bounds(), f64::MAX).0 >= 1.0);
    }

    #[test]
    fn the_tag_decides_from_three_changes_on_and_the_namespace_before() {
        let mut rates = Rates::new();
        let kin = Kin::new(0, b"n", Some(b"t"));
        let sibling = Kin::new(0, b"n", Some(b"other"));
        for n in 1..=2 {
            rates.learn(kin, lesson(true, 1000), Time(n));
            rates.learn(kin, lesson(false, 5000), Time(n));
        }
        assert_eq!(mean(&rates, kin), (500_000.0 + 12_000.0) / 3.0);
        rates.learn(kin, lesson(true, 3000), Time(3));
        assert_eq!(mean(&rates, kin), 5000.0);
        assert_eq!(mean(&rates, sibling), (500_000.0 + 15_000.0) / 4.0);
        assert_eq!(mean(&rates, Kin::new(0, b"n", None)), mean(&rates, sibling));
        for strange in [Kin::new(1, b"n", Some(b"t")), Kin::new(0, b"t", Some(b"n"))] {
            assert_eq!(mean(&rates, strange), 500_000.0, "another database; a tag is no namespace");
        }
        rates.clear();
        assert_eq!((mean(&rates, kin), rates.allocated()), (500_000.0, 0));
    }

    #[test]
    fn the_past_is_forgotten_and_memory_is_bounded() {
        let mut rates = Rates::new();
        let kin = Kin::new(0, b"n", None);
        (0..2000).for_each(|n| rates.learn(kin, lesson(true, 1000), Time(n)));
        (0..3000).for_each(|n| rates.learn(kin, lesson(true, 9000), Time(n)));
        assert!(mean(&rates, kin) > 8500.0, "{}", mean(&rates, kin));
        for n in 0..50_000u64 {
            rates.learn(Kin::new(0, b"n", Some(&n.to_le_bytes())), lesson(true, 9000), Time(n));
        }
        assert_eq!(rates.allocated(), 40 * MOST);
        assert!(mean(&rates, kin) > 8500.0, "used with each of them");
    }
}
