//! When a fresh entry is refreshed early, and how long a lease is when nobody
//! says: both from what filling was measured to take.
//!
//! # Early election
//! XFetch: Vattani, Chierichetti, Lowenstein, "Optimal Probabilistic Cache
//! Stampede Prevention", PVLDB 8(8), 2015. A read elects itself when the
//! freshness left is no more than −β·Δ·ln u, Δ being the recompute time and u
//! uniform in (0, 1]. Capped here at 3Δ and at a fifth of the fresh length:
//! uncapped, a hot and slow key refreshes far too early, since among many reads
//! one draws a tiny u (simulated: 54 % of the TTL lost at 100 reads/s with
//! Δ = 5 s, capped 10 %).
//!
//! # Fill times
//! A histogram of 80 quarter-octave buckets, from 1 ms to 17 minutes, that is halved
//! whenever it has counted [`KEPT`] fills: so the last few hundred decide, in
//! 320 bytes a namespace. A quantile is the upper edge of its bucket, at most
//! 19 % too high. A key's own mean and deviation are smoothed 0.7/0.3.

use crate::entry::Cost;
use crate::units::Millis;

const BUCKETS: usize = 80;
/// Buckets an octave.
const PARTS: u32 = 4;
/// Fills that a histogram counts before it is halved.
pub const KEPT: u32 = 1024;
/// The shortest lease that is derived.
pub const SHORTEST_LEASE: Millis = Millis(1000);
/// The longest lease that is derived.
pub const LONGEST_LEASE: Millis = Millis(60_000);
/// The lease where nothing has been measured.
pub const UNMEASURED_LEASE: Millis = Millis(10_000);
/// What the newest fill weighs in a key's mean.
const NEWEST: f64 = 0.3;

/// Whether any read may be elected, whatever the cost: the end is near.
#[inline]
pub fn may_elect(left: Millis, length: Millis) -> bool {
    left.0 <= length.0 / EARLIEST
}

/// The part of its length that an entry must have left at most.
const EARLIEST: u64 = 5;

/// Whether a read of a fresh entry is elected to refresh it: `left` of its
/// `length`, `cost` to recompute it, `dice` uniform in all of u64.
///
/// An entry without an end, with an unknown cost or with a `beta` of zero
/// elects nobody.
#[inline]
pub fn elect(left: Millis, length: Millis, cost: Cost, beta: f64, dice: impl FnOnce() -> u64) -> bool {
    // First what rules most reads out, without a logarithm or a dice.
    if !may_elect(left, length) || left.0 > 3 * u64::from(cost.0) || cost.0 == 0 || beta <= 0.0 {
        return false;
    }
    // In (0, 1], all 53 bits of it.
    let u = ((dice() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    left.0 as f64 <= -beta * f64::from(cost.0) * u.ln()
}

/// The shortest time before the end of a freshness that is long enough for it, in
/// which a worker is given to recompute it ([`crate::refresh_ahead`]).
pub const LEAD: Millis = Millis(500);

/// How long before its end what is fresh for `length` is recomputed ahead of its
/// readers: as long as XFetch may elect, but [`LEAD`] at least, for a worker has
/// yet to hear of it.
pub fn window(length: Option<Millis>, cost: Cost) -> Millis {
    let wanted = Millis(3 * u64::from(cost.0)).max(LEAD);
    length.map_or(wanted, |length| wanted.min(Millis(length.0 / EARLIEST)))
}

/// The cost of a key after a fill that took this long; zero: unknown before.
pub fn smooth(before: Cost, took: Millis) -> Cost {
    // Measured, it is known: below a millisecond counts as one.
    let took = took.0.clamp(1, u64::from(u32::MAX)) as f64;
    match before {
        Cost(0) => Cost(took as u32),
        Cost(mean) => Cost((f64::from(mean) * (1.0 - NEWEST) + took * NEWEST).round() as u32),
    }
}

/// What filling a namespace was measured to take.
#[derive(Clone, Debug)]
pub struct FillTimes {
    counts: [u32; BUCKETS],
    sum: u32,
    /// The smoothed distance of a fill from its key's mean, in parts of the
    /// mean: of the namespace, because a key has no room for its own.
    deviation: f64,
}

impl Default for FillTimes {
    fn default() -> Self {
        FillTimes { counts: [0; BUCKETS], sum: 0, deviation: 0.0 }
    }
}

/// The bucket of a time: its octave and the quarter of that.
fn bucket(ms: u64) -> usize {
    let ms = ms.max(1);
    let octave = ms.ilog2();
    let quarter = if octave < 2 { (ms << (2 - octave)) & 3 } else { (ms >> (octave - 2)) & 3 };
    ((octave * PARTS) as usize + quarter as usize).min(BUCKETS - 1)
}

/// The longest time of a bucket.
fn edge(bucket: usize) -> u64 {
    let (octave, quarter) = (bucket as u32 / PARTS, bucket as u64 % 4);
    ((4 + quarter + 1) << octave).div_ceil(4) - 1
}

impl FillTimes {
    /// Counts a fill that took this long, of a key whose cost was `before`.
    pub fn record(&mut self, took: Millis, before: Cost) {
        if self.sum >= KEPT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.sum = self.counts.iter().sum();
        }
        self.counts[bucket(took.0)] += 1;
        self.sum += 1;
        if before.0 > 0 {
            let mean = f64::from(before.0);
            let distance = ((took.0 as f64 - mean).abs() / mean).min(10.0);
            self.deviation = self.deviation * (1.0 - NEWEST) + distance * NEWEST;
        }
    }

    /// The time that this share of fills does not exceed; `None`: none was
    /// measured.
    pub fn quantile(&self, share: f64) -> Option<Millis> {
        if self.sum == 0 {
            return None;
        }
        let wanted = (f64::from(self.sum) * share).ceil().max(1.0);
        let mut seen = 0;
        for (i, count) in self.counts.iter().enumerate() {
            seen += count;
            if f64::from(seen) >= wanted {
                return Some(Millis(edge(i)));
            }
        }
        None
    }

    /// What a fill usually takes: the median; zero where none was measured.
    pub fn typical(&self) -> Cost {
        self.quantile(0.5).map_or(Cost(0), |ms| Cost(u32::try_from(ms.0).unwrap_or(u32::MAX)))
    }

    /// The cost that election goes by: the key's own, else the namespace's.
    pub fn cost_of(&self, key: Cost) -> Cost {
        if key == Cost(0) {
            self.typical()
        } else {
            key
        }
    }

    /// The length of a lease where none is asked for: three times the
    /// namespace's p99, or the key's mean and four deviations if that is more.
    pub fn lease_length(&self, key: Cost) -> Millis {
        let Some(p99) = self.quantile(0.99) else { return UNMEASURED_LEASE };
        let of_key = f64::from(key.0) * (1.0 + 4.0 * self.deviation);
        let length = (3 * p99.0).max(of_key as u64);
        Millis(length.clamp(SHORTEST_LEASE.0, LONGEST_LEASE.0))
    }

    /// Bytes of it.
    pub fn allocated(&self) -> usize {
        size_of::<FillTimes>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A dice for tests: splitmix64.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    /// −β·Δ·ln u ≥ left exactly where u ≤ e^(−left/(β·Δ)): that share elects.
    #[test]
    fn the_rate_of_elections_is_the_formulas() {
        let (mut dice, many) = (Dice(4), 200_000);
        for (left, cost, beta) in [
            (0u64, 100u32, 1.0),
            (50, 100, 1.0),
            (100, 100, 1.0),
            (200, 100, 1.0),
            (299, 100, 2.0),
            (100, 100, 0.5),
        ] {
            let elected = (0..many)
                .filter(|_| elect(Millis(left), Millis(60_000), Cost(cost), beta, || dice.roll()))
                .count();
            let share = (-(left as f64) / (beta * f64::from(cost))).exp();
            let sigma = (share * (1.0 - share) / f64::from(many)).sqrt();
            let rate = elected as f64 / f64::from(many);
            assert!((rate - share).abs() <= 4.0 * sigma, "left {left} beta {beta}: {rate}, not {share}");
        }
    }

    #[test]
    fn the_caps_hold_whatever_the_dice() {
        let least = || 0;
        assert!(elect(Millis(300), Millis(60_000), Cost(100), 1.0, least));
        assert!(!elect(Millis(301), Millis(60_000), Cost(100), 1.0, least), "three times the cost");
        assert!(elect(Millis(20), Millis(100), Cost(100), 1.0, least));
        assert!(!elect(Millis(21), Millis(100), Cost(100), 1.0, least), "a fifth of the length");
        assert!(!elect(Millis(0), Millis(100), Cost(100), 0.0, least), "no beta");
        assert!(!elect(Millis(0), Millis(100), Cost(0), 1.0, least), "no cost");
        assert!(!elect(Millis(1), Millis(60_000), Cost(100), 1.0, || u64::MAX), "u = 1");
    }

    #[test]
    fn no_dice_is_rolled_far_from_the_end() {
        assert!(!elect(Millis(1000), Millis(60_000), Cost(100), 1.0, || panic!("rolled")));
    }

    #[test]
    fn what_is_recomputed_ahead_has_a_fifth_of_its_life_at_most() {
        let of = |length, cost| window(Some(Millis(length)), Cost(cost)).0;
        assert_eq!([of(60_000, 0), of(60_000, 200), of(60_000, 90_000)], [500, 600, 12_000]);
        assert_eq!([of(1000, 0), of(4, 1)], [200, 0]);
        assert_eq!(window(None, Cost(u32::MAX)).0, 3 * u64::from(u32::MAX));
    }

    #[test]
    fn costs_are_smoothed() {
        assert_eq!(smooth(Cost(0), Millis(200)), Cost(200));
        assert_eq!(smooth(Cost(100), Millis(200)), Cost(130));
        assert_eq!(smooth(Cost(0), Millis(0)), Cost(1), "measured is known");
        assert_eq!(smooth(Cost(u32::MAX), Millis(u64::MAX)), Cost(u32::MAX));
    }

    #[test]
    fn lengths_of_leases() {
        let mut times = FillTimes::default();
        assert_eq!(times.lease_length(Cost(0)), UNMEASURED_LEASE);
        assert_eq!(times.typical(), Cost(0));
        times.record(Millis(10), Cost(0));
        assert_eq!(times.lease_length(Cost(0)), SHORTEST_LEASE, "not under a second");
        for _ in 0..200 {
            times.record(Millis(2000), Cost(2000));
        }
        let length = times.lease_length(Cost(0)).0;
        assert!((6000..=6000 * 119 / 100).contains(&length), "{length}");
        assert_eq!(times.cost_of(Cost(7)), Cost(7));
        assert!(times.cost_of(Cost(0)) >= Cost(2000));
        assert!(times.lease_length(Cost(15_000)) >= Millis(15_000), "a slow key's mean");
        for _ in 0..200 {
            times.record(Millis(500_000), Cost(500_000));
        }
        assert_eq!(times.lease_length(Cost(0)), LONGEST_LEASE);
    }

    #[test]
    fn deviations_lengthen_the_lease() {
        let (mut even, mut uneven) = (FillTimes::default(), FillTimes::default());
        for n in 0..100 {
            even.record(Millis(100), Cost(100));
            uneven.record(Millis(if n % 2 == 0 { 50 } else { 150 }), Cost(100));
        }
        assert_eq!(even.lease_length(Cost(5000)), Millis(5000));
        let length = uneven.lease_length(Cost(5000)).0;
        assert!((14_999..=15_001).contains(&length), "5000 × (1 + 4 × 0.5): {length}");
    }

    #[test]
    fn old_fills_are_forgotten() {
        let mut times = FillTimes::default();
        (0..KEPT).for_each(|_| times.record(Millis(9000), Cost(0)));
        (0..10 * KEPT).for_each(|_| times.record(Millis(10), Cost(0)));
        assert!(times.quantile(0.99).expect("measured") < Millis(15));
        assert!(times.sum <= KEPT);
    }

    #[test]
    fn every_bucket_has_its_edge() {
        for ms in 1..100_000 {
            let b = bucket(ms);
            assert!(ms <= edge(b), "{ms}: bucket {b} ends at {}", edge(b));
            assert!(b == 0 || ms > edge(b - 1), "{ms}: bucket {} ends at {}", b - 1, edge(b - 1));
        }
    }

    proptest! {
        #[test]
        fn any_numbers_are_answered(
            times in proptest::collection::vec((any::<u64>(), any::<u32>()), 0..50),
            left in any::<u64>(), length in any::<u64>(), cost in any::<u32>(), beta in any::<f64>(), dice in any::<u64>()
        ) {
            let mut fills = FillTimes::default();
            for (took, before) in times {
                fills.record(Millis(took), Cost(before));
            }
            let length_of = fills.lease_length(Cost(cost));
            prop_assert!(length_of >= SHORTEST_LEASE && length_of <= LONGEST_LEASE);
            let _ = (fills.typical(), elect(Millis(left), Millis(length), Cost(cost), beta, || dice));
            let _ = smooth(Cost(cost), Millis(left));
        }

        #[test]
        fn a_quantile_is_close(times in proptest::collection::vec(1u64..60_000, 1..500), share in 0.01f64..1.0) {
            let mut fills = FillTimes::default();
            times.iter().for_each(|&took| fills.record(Millis(took), Cost(0)));
            let mut sorted = times;
            sorted.sort_unstable();
            let exact = sorted[((sorted.len() as f64 * share).ceil() as usize).max(1) - 1];
            let got = fills.quantile(share).expect("measured").0;
            prop_assert!(got >= exact && got as f64 <= exact as f64 * 1.25 + 1.0, "{} for {}", got, exact);
        }
    }
}
