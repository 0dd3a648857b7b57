//! How much of the event loop's time the sweep may take, and in what pieces.

use std::time::Duration;

/// The longest slice there is, in µs: nothing of ours may hold the event loop
/// up for longer than a millisecond.
pub const LONGEST: u64 = 1000;
/// The share of `maxmemory` past which it hurries.
const FULL: f64 = 0.9;
/// How many times the share is where memory is used up.
const HURRY: f64 = 8.0;

/// The backlog that doubles the sweep's share.
const LONG: usize = 500_000;

/// How many µs of a millisecond the sweep may have: `base`, the directive; up to
/// twice that where much is queued, so that a million keys are gone in less
/// than ten seconds;
/// and up to eight times that as memory fills from nine tenths to all of
/// `maxmemory` (`ratio`: its share in use; 0 where there is no limit), for what
/// is dead is the cheapest to evict.
pub fn budget(base: u64, ratio: f64, backlog: usize) -> u64 {
    let pressure = ((ratio - FULL) / (1.0 - FULL)).clamp(0.0, 1.0);
    let queued = backlog.min(LONG) as f64 / LONG as f64;
    let times = (1.0 + (HURRY - 1.0) * pressure).max(1.0 + queued);
    ((base as f64 * times).round() as u64).clamp(base.min(LONGEST), LONGEST)
}

/// A slice that is worth its overhead.
const LEAST: i64 = 20_000;

/// What is paid back of a slice that took too long: who stopped the process in
/// the midst of one for an hour did not mean to stop the sweep for ten.
const MOST_DEBT: i64 = 20_000_000;

/// Spreads the sweep's time over the turns of the event loop: it has a claim
/// that grows as time passes, by the budget, and that slices use up. So where
/// the loop turns often, for clients are served, slices are short and many, and
/// who comes meanwhile waits for one of them and not for a whole budget; where
/// the loop sleeps, the claim is a budget by the next millisecond.
///
/// A slice that took longer than it might is paid back.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the claim was last looked at, by a clock that never steps back.
    last: Option<Duration>,
    /// In ns; below zero: what slices took too much.
    claim: i64,
}

impl Pace {
    /// How long a slice may take now; `None`: too short to begin one. `budget`
    /// as [`budget`] answers.
    pub fn slice(&mut self, now: Duration, budget: u64) -> Option<Duration> {
        let most = i64::try_from(budget.min(LONGEST)).unwrap_or(0) * 1000;
        let passed = now.saturating_sub(self.last.replace(now).unwrap_or(now));
        // Past a second the claim is full, whatever the budget.
        let passed = i64::try_from(passed.as_nanos()).unwrap_or(i64::MAX).min(1_000_000_000);
        self.claim = (self.claim + passed * most / 1_000_000).clamp(-MOST_DEBT, most);
        let length = u64::try_from(self.claim).ok().filter(|_| self.claim >= LEAST.min(most))?;
        Some(Duration::from_nanos(length))
    }

    /// A slice has taken so long.
    pub fn spent(&mut self, time: Duration) {
        self.claim = self.claim.saturating_sub(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::{budget, Pace, LONGEST};
    use proptest::prelude::*;
    use std::time::Duration;

    proptest! {
        /// Whatever the loop's turns and however far slices overrun: over any
        /// time the sweep has had its share of it, a budget and the last
        /// overrun aside.
        #[test]
        fn it_takes_its_share(
            turns in proptest::collection::vec((1u64..3000, 0u64..50), 1..500),
            budget in 10u64..=LONGEST,
        ) {
            let (mut pace, mut now, mut used) = (Pace::default(), Duration::ZERO, Duration::ZERO);
            prop_assert_eq!(pace.slice(now, budget), None, "nothing has passed yet");
            let mut longest_overrun = Duration::ZERO;
            for (turn, overrun) in turns {
                now += Duration::from_micros(turn);
                let share = |time: Duration| time * budget as u32 / 1000;
                if let Some(length) = pace.slice(now, budget) {
                    prop_assert!(length <= Duration::from_micros(budget));
                    let overrun = Duration::from_micros(overrun);
                    longest_overrun = longest_overrun.max(overrun);
                    pace.spent(length + overrun);
                    now += length + overrun;
                    used += length + overrun;
                }
                // Each look may round by a nanosecond.
                let slack = Duration::from_micros(1);
                prop_assert!(used <= share(now) + share(longest_overrun) + longest_overrun + slack);
            }
        }
    }

    #[test]
    fn short_turns_short_slices_long_sleep_a_whole_budget() {
        let mut pace = Pace::default();
        let mut at = |micros, spent| {
            let slice = pace.slice(Duration::from_micros(micros), 100);
            if slice.is_some() {
                pace.spent(Duration::from_micros(spent));
            }
            slice.map(|slice| slice.as_micros())
        };
        assert_eq!(at(5000, 0), None, "the first look");
        assert_eq!([at(5100, 0), at(5199, 0)], [None, None]);
        assert_eq!(at(5200, 20), Some(20));
        assert_eq!(at(5400, 40), Some(20));
        assert_eq!(at(5600, 0), None, "it pays back");
        assert_eq!(at(5800, 20), Some(20));
        assert_eq!(at(9000, 0), Some(100));
        assert_eq!(at(8000, 0), Some(100), "a clock that steps back takes nothing away");
    }

    #[test]
    fn a_small_budget_is_used_whole() {
        let mut pace = Pace::default();
        assert_eq!(pace.slice(Duration::ZERO, 10), None);
        assert_eq!(pace.slice(Duration::from_micros(999), 10), None);
        assert_eq!(pace.slice(Duration::from_millis(1), 10), Some(Duration::from_micros(10)));
    }

    #[test]
    fn it_hurries_as_memory_fills() {
        assert_eq!([0.0, 0.5, 0.9].map(|ratio| budget(100, ratio, 1)), [100; 3]);
        assert_eq!(budget(100, 0.95, 1), 450);
        assert_eq!([1.0, 1.5, f64::INFINITY].map(|ratio| budget(100, ratio, 1)), [800; 3]);
        assert_eq!(budget(100, f64::NAN, 1), 100);
        assert_eq!(budget(500, 1.0, 1), 1000, "never over a millisecond");
        assert_eq!(budget(5000, 0.0, 1), 1000);
    }

    #[test]
    fn it_hurries_where_much_is_queued() {
        assert_eq!([0, 250_000, 500_000, usize::MAX].map(|n| budget(100, 0.0, n)), [100, 150, 200, 200]);
        assert_eq!(budget(100, 1.0, usize::MAX), 800);
    }
}
