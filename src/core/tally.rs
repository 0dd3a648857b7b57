//! What is counted of a namespace.
//!
//! Guarantees: a counter only grows, until it is reset as a whole.
//!
//! # The origin's time that was saved
//! Each read that is answered by the cache saves what recomputing would have
//! taken. An entry that knows its own cost says it as it is read. Of one that does
//! not, the read is only counted, and valued by what is usual in its namespace
//! when somebody looks ([`Tally::settle`]): to look that up in a read would cost it
//! a hash. So between two looks nothing is lost, and what is usual may have
//! changed; where nothing has ever been measured, such reads are worth nothing.

use crate::entry::Cost;
use crate::units::Millis;

/// See the module's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads answered with a fresh value.
    pub hits: u64,
    /// Reads answered with a stale value.
    pub stale_hits: u64,
    /// Reads answered with nothing.
    pub misses: u64,
    /// Values written.
    pub writes: u64,
    /// Invalidations of the namespace itself.
    pub invalidations: u64,
    /// Entries that those hit.
    pub invalidated: u64,
    /// Entries evicted, by us or by the server.
    pub evictions: u64,
    /// Entries whose time was up.
    pub expired: u64,
    saved_ms: u64,
    /// Reads of entries that do not know their cost, since the last look.
    unpriced: u64,
}

impl Tally {
    /// A read answered with a fresh value that costs this to recompute.
    #[inline]
    pub fn hit(&mut self, cost: Cost) {
        self.hits += 1;
        self.save(cost);
    }

    /// A read answered with a stale value.
    #[inline]
    pub fn stale_hit(&mut self, cost: Cost) {
        self.stale_hits += 1;
        self.save(cost);
    }

    #[inline]
    fn save(&mut self, cost: Cost) {
        if cost == Cost(0) {
            self.unpriced += 1;
        } else {
            self.saved_ms = self.saved_ms.wrapping_add(u64::from(cost.0));
        }
    }

    /// Reads and writes.
    pub fn uses(&self) -> u64 {
        self.hits + self.stale_hits + self.misses + self.writes
    }

    /// Whether [`Tally::settle`] would do anything.
    pub fn is_unsettled(&self) -> bool {
        self.unpriced > 0
    }

    /// Values what was read without a cost of its own.
    pub fn settle(&mut self, typical: Cost) {
        let unpriced = std::mem::take(&mut self.unpriced);
        self.saved_ms = self.saved_ms.wrapping_add(unpriced.saturating_mul(u64::from(typical.0)));
    }

    /// The origin's time that was saved, as far as it is settled.
    pub fn saved(&self) -> Millis {
        Millis(self.saved_ms)
    }

    /// What is left of it without what another has counted, which is part of it.
    #[must_use]
    pub fn without(&self, part: &Tally) -> Tally {
        Tally {
            hits: self.hits.saturating_sub(part.hits),
            stale_hits: self.stale_hits.saturating_sub(part.stale_hits),
            misses: self.misses.saturating_sub(part.misses),
            writes: self.writes.saturating_sub(part.writes),
            invalidations: self.invalidations.saturating_sub(part.invalidations),
            invalidated: self.invalidated.saturating_sub(part.invalidated),
            evictions: self.evictions.saturating_sub(part.evictions),
            expired: self.expired.saturating_sub(part.expired),
            saved_ms: self.saved_ms.saturating_sub(part.saved_ms),
            unpriced: self.unpriced.saturating_sub(part.unpriced),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Tally) -> Tally {
        Tally {
            hits: self.hits + other.hits,
            stale_hits: self.stale_hits + other.stale_hits,
            misses: self.misses + other.misses,
            writes: self.writes + other.writes,
            invalidations: self.invalidations + other.invalidations,
            invalidated: self.invalidated + other.invalidated,
            evictions: self.evictions + other.evictions,
            expired: self.expired + other.expired,
            saved_ms: self.saved_ms.wrapping_add(other.saved_ms),
            unpriced: self.unpriced + other.unpriced,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_the_naive_sum(steps in proptest::collection::vec((any::<bool>(), 0u32..3, 0u32..1000), 0..200)) {
            let (mut tally, mut saved, mut waiting) = (Tally::default(), 0, 0);
            for (look, kind, number) in steps {
                if look {
                    tally.settle(Cost(number));
                    saved += waiting * u64::from(number);
                    waiting = 0;
                    prop_assert_eq!(tally.saved(), Millis(saved));
                } else {
                    let cost = if kind == 0 { Cost(0) } else { Cost(number) };
                    if kind == 1 { tally.stale_hit(cost) } else { tally.hit(cost) };
                    saved += u64::from(cost.0);
                    waiting += u64::from(cost == Cost(0));
                }
                prop_assert_eq!(tally.is_unsettled(), waiting > 0);
            }
            let both = tally.plus(&tally);
            prop_assert_eq!(both.hits + both.stale_hits, 2 * (tally.hits + tally.stale_hits));
            prop_assert_eq!(both.saved(), Millis(2 * tally.saved().0));
            prop_assert_eq!(both.without(&tally), tally);
        }
    }
}
