//! The clock that stamps are drawn from: `max(last + 1, now)` in microseconds.
//!
//! Guarantees: strictly increasing whatever the wall clock does, provided that
//! [`StampClock::observe`] is told of every stamp that arrives from elsewhere
//! (RDB, AOF, replication). Does not guarantee closeness to the wall clock
//! after it stepped back: stamps then advance by one until it has caught up.

use crate::units::{Stamp, STAMP_LIMIT};

/// How far ahead another server's clock may be, in µs.
const MOST_SKEW: u64 = 10_000_000;

/// The source of a shard's stamps.
#[derive(Clone, Debug, Default)]
pub struct StampClock {
    last: u64,
}

impl StampClock {
    /// A clock that has drawn nothing yet.
    pub const fn new() -> StampClock {
        StampClock { last: 0 }
    }

    /// Draws the next stamp, given the wall clock in microseconds.
    ///
    /// At the end of the stamps' range (the year 2255, or a hostile payload
    /// that the codec should have refused) it stays at the last one.
    #[inline]
    pub fn draw(&mut self, now_micros: u64) -> Stamp {
        self.last = (self.last + 1).max(now_micros).min(STAMP_LIMIT - 1);
        Stamp(self.last)
    }

    /// Takes note of a stamp that was drawn elsewhere: none drawn here from
    /// now on will be as low.
    #[inline]
    pub fn observe(&mut self, seen: Stamp) {
        if seen.0 < STAMP_LIMIT {
            self.last = self.last.max(seen.0);
        }
    }

    /// Whether a stamp may have been drawn by now: no further ahead than clocks
    /// differ.
    pub fn may_be(&self, stamp: Stamp, now_micros: u64) -> bool {
        stamp.0 <= self.last.max(now_micros.saturating_add(MOST_SKEW))
    }

    /// The birth stamp of an entry that a payload brings (RESTORE, RDB). One
    /// from further ahead than clocks differ is a lie, and then the entry is
    /// taken as older than anything that was invalidated: no payload can push
    /// the clock, and what is replayed (AOF, replicas) comes out the same.
    pub fn admit(&mut self, born: Stamp, now_micros: u64) -> Stamp {
        if !self.may_be(born, now_micros) {
            return Stamp(0);
        }
        self.observe(born);
        born
    }

    /// The last stamp drawn or observed.
    pub fn last(&self) -> Stamp {
        Stamp(self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn grows_whatever_the_wall_clock_does(
            steps in proptest::collection::vec((any::<bool>(), 0u64..STAMP_LIMIT / 2), 1..200)
        ) {
            let mut clock = StampClock::default();
            let mut highest = 0;
            for (observe, value) in steps {
                if observe {
                    clock.observe(Stamp(value));
                    highest = highest.max(value);
                } else {
                    let stamp = clock.draw(value);
                    prop_assert!(stamp.0 > highest);
                    prop_assert!(stamp.0 >= value);
                    highest = stamp.0;
                }
            }
        }
    }

    #[test]
    fn a_payload_cannot_push_the_clock() {
        let mut clock = StampClock::new();
        let now = 1_000_000_000;
        assert_eq!(clock.admit(Stamp(70), now), Stamp(70));
        assert_eq!(clock.last(), Stamp(70), "the past is observed, should the clock step back");
        assert_eq!(clock.admit(Stamp(STAMP_LIMIT - 1), now), Stamp(0));
        assert_eq!(clock.admit(Stamp(now + MOST_SKEW), now), Stamp(now + MOST_SKEW));
        assert_eq!(clock.admit(Stamp(now + MOST_SKEW + 1), now), Stamp(0));
        assert_eq!(clock.admit(Stamp(now + MOST_SKEW), 5), Stamp(now + MOST_SKEW), "the shard is as far");
    }

    #[test]
    fn a_hostile_stamp_does_not_stop_the_clock() {
        let mut clock = StampClock::default();
        clock.observe(Stamp(u64::MAX));
        assert_eq!(clock.draw(5), Stamp(5));
    }
}
