//! The clock that stamps are drawn from: `max(last + 1, now)` in microseconds.
//!
//! Guarantees: strictly increasing whatever the wall clock does, provided that
//! [`StampClock::observe`] is told of every stamp that arrives from elsewhere
//! (RDB, AOF, replication). Does not guarantee closeness to the wall clock
//! after it stepped back: stamps then advance by one until it has caught up.

use crate::units::{Stamp, STAMP_LIMIT};

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
    fn a_hostile_stamp_does_not_stop_the_clock() {
        let mut clock = StampClock::default();
        clock.observe(Stamp(u64::MAX));
        assert_eq!(clock.draw(5), Stamp(5));
    }
}
