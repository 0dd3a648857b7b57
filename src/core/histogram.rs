//! How long things took: a histogram that only grows, for who asks now and then
//! and takes the difference himself.
//!
//! What decides within the server looks at recent times and needs finer ones:
//! [`crate::refresh::FillTimes`]. This is for graphs, 144 bytes; to count is a look
//! through its bounds.

use crate::units::Millis;

/// The longest time of each bucket; what is longer is counted in one more.
///
/// From a millisecond, the finest that is measured, to the longest lease that is
/// derived: 1, 2 or 2.5, and 5 in a decade, so that a quantile is off by a factor of
/// 3 at most.
pub const BOUNDS: [Millis; 15] = [
    Millis(1),
    Millis(2),
    Millis(5),
    Millis(10),
    Millis(25),
    Millis(50),
    Millis(100),
    Millis(250),
    Millis(500),
    Millis(1000),
    Millis(2500),
    Millis(5000),
    Millis(10_000),
    Millis(30_000),
    Millis(60_000),
];

/// See the module's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    sum: Millis,
}

impl Histogram {
    /// Counts one that took this long.
    pub fn record(&mut self, took: Millis) {
        self.counts[BOUNDS.partition_point(|bound| *bound < took)] += 1;
        self.sum = Millis(self.sum.0.saturating_add(took.0));
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What they took together.
    pub fn sum(&self) -> Millis {
        self.sum
    }

    /// Of each bound how many took that long or less.
    pub fn cumulative(&self) -> impl Iterator<Item = (Millis, u64)> + '_ {
        let mut seen = 0;
        BOUNDS.iter().zip(&self.counts).map(move |(&bound, count)| {
            seen += count;
            (bound, seen)
        })
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(other.counts).for_each(|(sum, count)| *sum += count);
        self.sum = Millis(self.sum.0.saturating_add(other.sum.0));
    }

    /// What is left of it without what another has counted, which is part of it.
    #[must_use]
    pub fn without(&self, part: &Histogram) -> Histogram {
        let mut rest = *self;
        rest.counts.iter_mut().zip(part.counts).for_each(|(all, count)| *all = all.saturating_sub(count));
        rest.sum = Millis(rest.sum.0.saturating_sub(part.sum.0));
        rest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_bound_is_in_its_bucket_and_bounds_rise() {
        assert!(BOUNDS.is_sorted() && BOUNDS.windows(2).all(|pair| pair[0] != pair[1]));
        for (i, bound) in BOUNDS.into_iter().enumerate() {
            let mut one = Histogram::default();
            one.record(bound);
            assert_eq!(one.counts[i], 1);
        }
    }

    proptest! {
        #[test]
        fn as_counted_by_hand(times in proptest::collection::vec(0u64..200_000, 0..100), split in 0usize..100) {
            let (mut all, mut some) = (Histogram::default(), Histogram::default());
            for (i, &took) in times.iter().enumerate() {
                all.record(Millis(took));
                if i < split {
                    some.record(Millis(took));
                }
            }
            prop_assert_eq!((all.count(), all.sum()), (times.len() as u64, Millis(times.iter().sum())));
            for (bound, count) in all.cumulative() {
                prop_assert_eq!(count, times.iter().filter(|&&took| took <= bound.0).count() as u64);
            }
            let mut rest = all.without(&some);
            rest.add(&some);
            prop_assert_eq!(rest, all);
            prop_assert_eq!(all.without(&all), Histogram::default());
        }
    }
}
