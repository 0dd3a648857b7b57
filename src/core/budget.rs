//! How much is to be evicted, and by whom: of a shard, of a namespace, or of the
//! server's own memory.
//!
//! ```text
//!            low: −3 %          high: −1 %        limit
//! ──────────────┼──────────────────┼────────────────┼────────────▶ used
//!   nobody      │ slices, once they│ slices; a write│ a write evicts until it
//!   evicts      │ have begun       │ evicts up to 4 │ fits, up to 256
//! ```
//!
//! Guarantees: a write evicts at most [`MOST`] entries, so that it is answered in
//! about a millisecond whatever it brings; slices end at −3 %, whatever is
//! asked.
//!
//! What a write is told that is larger than the whole budget: no. It could not
//! stay, and all others would have gone for it. (Redis answers a write that finds
//! no room with -OOM as well.) Any other is let in: where 256 of the least worth
//! do not make the room that one of a million times their size takes, the
//! budget is passed by what is missing, and the slices bring it back. To
//! refuse it would refuse every large write into a full cache, and to go on would
//! hold up everybody else.

use std::time::Duration;

/// Below the limit by so many thousandths evictions begin…
const HIGH: u64 = 10;
/// …and by so many slices end.
const LOW: u64 = 30;
/// What a write evicts while it fits.
pub const FEW: usize = 4;
/// What a write evicts at most.
pub const MOST: usize = 256;
/// How long a slice takes at most.
pub const SLICE: Duration = Duration::from_micros(200);

/// What is to be done before a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Nothing.
    Enough,
    /// So many evictions, or fewer if no more than so many bytes are used.
    Evict {
        /// At most.
        most: usize,
        /// Used bytes, before the write, at which to stop.
        until: u64,
    },
    /// It is to be refused: it is larger than all that may be used.
    Refused,
}

/// A limit, and whether slices are on their way below it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Budget {
    /// 0: none.
    limit: u64,
    trims: bool,
}

impl Budget {
    /// So many bytes; 0: no limit.
    pub fn new(limit: u64) -> Budget {
        Budget { limit, trims: false }
    }

    /// A share of the server's maxmemory; without one there is no limit, nor at
    /// 0 percent.
    pub fn of_server(maxmemory: u64, percent: u64) -> Budget {
        let limit = u128::from(maxmemory) * u128::from(percent) / 100;
        Budget::new(u64::try_from(limit).unwrap_or(u64::MAX))
    }

    /// Another limit from now on.
    pub fn set(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Whether there is a limit.
    pub fn is_set(&self) -> bool {
        self.limit > 0
    }

    fn below(&self, thousandths: u64) -> u64 {
        // Both divided first: no limit is too large for that.
        self.limit - (self.limit / 1000 * thousandths + self.limit % 1000 * thousandths / 1000)
    }

    /// What a write has to do that needs so many bytes more; what it replaces
    /// is not to be counted.
    pub fn for_write(&self, used: u64, more: u64) -> Room {
        if !self.is_set() {
            return Room::Enough;
        }
        if more > self.limit {
            return Room::Refused;
        }
        let after = used.saturating_add(more);
        let high = self.below(HIGH);
        if after <= high {
            return Room::Enough;
        }
        if after > self.limit {
            return Room::Evict { most: MOST, until: self.limit - more };
        }
        Room::Evict { most: FEW, until: high.saturating_sub(more) }
    }

    /// Down to how many used bytes a slice is to evict, for [`SLICE`] at most;
    /// `None`: there is nothing to do.
    pub fn for_slice(&mut self, used: u64) -> Option<u64> {
        let low = self.below(LOW);
        self.trims = self.is_set() && used > if self.trims { low } else { self.below(HIGH) };
        self.trims.then_some(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Entries of some sizes, writes and slices: what is used never passes
        /// the limit by more than 256 entries could not make up for, no write
        /// evicts without need, and slices stop where they should.
        #[test]
        fn a_cache_that_obeys_keeps_its_limit(
            limit in 1000u64..1_000_000,
            steps in proptest::collection::vec((1u64..3000, any::<bool>()), 1..600),
        ) {
            let mut budget = Budget::new(limit);
            let (mut entries, mut used) = (std::collections::VecDeque::new(), 0u64);
            let (mut trims, mut owed) = (false, 0u64);
            for (size, write) in steps {
                let before = used;
                if write {
                    match budget.for_write(used, size) {
                        Room::Refused => {
                            prop_assert!(size > limit);
                            continue;
                        }
                        Room::Enough => prop_assert!((used + size) * 100 <= limit * 99 + 200),
                        Room::Evict { most, until } => {
                            prop_assert!((used + size) * 100 >= limit * 99);
                            prop_assert_eq!(most, if used + size > limit { 256 } else { 4 });
                            for _ in 0..most {
                                if used <= until {
                                    break;
                                }
                                used -= entries.pop_front().unwrap_or(0);
                            }
                            owed = if used > until { owed.max(used - until) } else { owed };
                        }
                    }
                    entries.push_back(size);
                    used += size;
                    prop_assert!(used <= limit.max(before) || owed > 0);
                } else {
                    trims = if trims { used * 1000 > limit * 970 } else { used * 1000 > limit * 990 };
                    let slice = budget.for_slice(used);
                    // Thousandths of the limit are rounded down to bytes.
                    if (used * 1000).abs_diff(limit * 970).min((used * 1000).abs_diff(limit * 990)) > 2000 {
                        prop_assert_eq!(slice.is_some(), trims);
                    }
                    trims = slice.is_some();
                    for _ in 0..50 {
                        if slice.is_none_or(|until| used <= until) {
                            break;
                        }
                        used -= entries.pop_front().unwrap_or(0);
                    }
                    prop_assert!(used >= before.min(limit * 97 / 100).saturating_sub(3000));
                }
            }
        }

        #[test]
        fn any_numbers_are_answered(limit in any::<u64>(), percent in any::<u64>(), used in any::<u64>(), more in any::<u64>()) {
            for mut budget in [Budget::new(limit), Budget::of_server(limit, percent)] {
                let slice = budget.for_slice(used);
                prop_assert!(slice.is_none_or(|until| until < used));
                match budget.for_write(used, more) {
                    Room::Evict { until, .. } => prop_assert!(until < used || more > until),
                    Room::Refused => prop_assert!(more > 0 && budget.is_set()),
                    Room::Enough => (),
                }
            }
        }
    }

    #[test]
    fn the_marks_are_where_they_are_drawn() {
        let mut budget = Budget::new(100_000);
        assert_eq!(budget.for_write(98_000, 1000), Room::Enough);
        assert_eq!(budget.for_write(98_500, 1000), Room::Evict { most: FEW, until: 98_000 });
        assert_eq!(budget.for_write(99_500, 1000), Room::Evict { most: MOST, until: 99_000 });
        assert_eq!(budget.for_write(0, 100_000), Room::Evict { most: FEW, until: 0 }, "it just fits");
        assert_eq!(budget.for_write(0, 100_001), Room::Refused);
        let slices =
            [98_000, 99_000, 99_001, 98_000, 97_001, 97_000, 98_000].map(|used| budget.for_slice(used));
        let to = Some(97_000);
        assert_eq!(slices, [None, None, to, to, to, None, None], "begun at -1 %, ended at -3 %");
    }

    #[test]
    fn without_a_limit_nothing_is_evicted() {
        let unlimited =
            [Budget::new(0), Budget::default(), Budget::of_server(0, 90), Budget::of_server(1 << 30, 0)];
        for mut budget in unlimited {
            assert_eq!(budget.for_write(u64::MAX, u64::MAX), Room::Enough);
            assert_eq!(budget.for_slice(u64::MAX), None);
        }
        assert!(Budget::of_server(1000, 90).for_slice(892).is_some());
        assert!(Budget::of_server(1000, 90).for_slice(891).is_none());
    }
}
