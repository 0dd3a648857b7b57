use super::*;
use proptest::prelude::*;

/// Every sound [`Adaptive`].
pub fn any_adaptive() -> impl Strategy<Value = Adaptive> {
    let seconds = || 1u32..=u32::MAX;
    (seconds(), seconds(), any::<u32>(), any::<(u16, u16)>(), 0u8..5 << 5).prop_map(
        |(one, other, digest, (exposure, refills), marks)| {
            let bounds = Bounds::new(one.min(other), one.max(other)).expect("in order");
            Adaptive::of_marks(bounds, Digest(digest), (exposure, refills, marks)).expect("marks")
        },
    )
}

fn bounds(min: u32, max: u32) -> Bounds {
    Bounds::new(min, max).expect("bounds")
}

const ALL: (u32, u32) = (1, u32::MAX);

fn outlook(prior: f64) -> Outlook {
    Outlook { target: 0.01, prior: Mean::new(prior), past: None, dice: 1 << 31 }
}

/// Splitmix64: a dice for tests.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Exponential of that mean.
    fn wait(&mut self, mean: f64) -> f64 {
        -mean * (((self.roll() >> 11) + 1) as f64 / (1u64 << 53) as f64).ln()
    }
}

#[test]
fn bounds_are_positive_and_in_order() {
    assert_eq!(bounds(5, 60).seconds(), [5, 60]);
    assert_eq!((bounds(5, 60).min(), bounds(5, 60).max()), (Millis(5000), Millis(60_000)));
    assert_eq!([(0, 5), (0, 0), (6, 5)].map(|(min, max)| Bounds::new(min, max)), [None; 3]);
}

#[test]
fn the_first_ttl_is_the_shortest_and_so_is_it_while_nothing_was_seen() {
    let first = refill(bounds(5, 60), Digest(1), None, Time(1000), &outlook(1e12));
    assert_eq!((first.length, first.adaptive.why, first.lesson), (Millis(5000), Why::First, None));
    let past = Past { digest: Digest(1), record: first.adaptive.record, written: Time(1000), teaches: false };
    let again = refill(bounds(5, 60), Digest(2), Some(past), Time(9000), &outlook(1e12));
    assert_eq!((again.length, again.adaptive.why, again.lesson), (Millis(5000), Why::First, None));
    assert_eq!(again.adaptive.digest, Digest(2), "the next is compared with what lies there now");
}

/// The formulas of the module's text, followed by hand.
#[test]
fn the_estimate_is_the_formulas() {
    let prior = 1_000_000.0;
    let mut past = Past { digest: Digest(1), record: Record::default(), written: Time(0), teaches: true };
    let mut step = |digest, now| {
        let done = refill(bounds(ALL.0, ALL.1), Digest(digest), Some(past), Time(now), &outlook(prior));
        past =
            Past { digest: done.adaptive.digest, record: done.adaptive.record, written: Time(now), ..past };
        done
    };
    let unchanged = step(1, 60_000);
    assert_eq!(unchanged.lesson, Some(Lesson { changed: false, exposure: Millis(60_000) }));
    assert_eq!((unchanged.length, unchanged.adaptive.why), (Millis(21_200), Why::Prior), "0.02 × 1,060 s");
    assert_eq!(unchanged.adaptive.record.seen(), None);

    // λ = 1/1,060 s; x = 600 s: 1,060 − 600/(e^(600/1060) − 1) = 271.9 s.
    let changed = step(2, 660_000);
    let Some(Lesson { changed: true, exposure }) = changed.lesson else { panic!("{changed:?}") };
    let expected = 1_060_000.0 - 600_000.0 / (600.0f64 / 1060.0).exp_m1();
    assert!((exposure.0 as f64 - expected).abs() < 200.0, "{exposure:?}, not {expected}");
    let t = 0.8 * 60_000.0 + expected;
    let ttl = 0.02 * (prior + t) / 2.0;
    assert!((changed.length.0 as f64 / ttl - 1.0).abs() < 1e-3, "{:?}, not {ttl}", changed.length);
    assert_eq!((changed.adaptive.why, changed.adaptive.record.refills()), (Why::Estimate, 2));
    let seen = changed.adaptive.record.seen().expect("a change");
    assert!((seen.0 as f64 / t - 1.0).abs() < 1e-3);

    // X = 0.8 + 1.
    let again = step(3, 660_000);
    assert_eq!(again.lesson.map(|lesson| lesson.exposure), Some(Millis(0)), "within the same millisecond");
    let ttl = 0.02 * (prior + 0.8 * t) / 2.8;
    assert!((again.length.0 as f64 / ttl - 1.0).abs() < 1e-3, "{:?}, not {ttl}", again.length);
}

#[test]
fn the_bounds_bind_and_say_so() {
    let past = Past { digest: Digest(1), record: Record::default(), written: Time(0), teaches: true };
    let chosen = |min, max, prior, target| {
        let outlook = Outlook { target, ..outlook(prior) };
        let done = refill(bounds(min, max), Digest(1), Some(past), Time(1000), &outlook);
        (done.length.0, done.adaptive.why)
    };
    assert_eq!(chosen(10, 20, 499_000.0, 0.01), (10_000, Why::Min));
    assert_eq!(chosen(10, 20, 749_000.0, 0.01), (15_000, Why::Prior));
    assert_eq!(chosen(10, 20, 999_000.0, 0.01), (20_000, Why::Max));
    assert_eq!(chosen(10, 20, 749_000.0, 0.0), (10_000, Why::Min));
    assert_eq!(chosen(10, 20, 749_000.0, f64::MAX), (20_000, Why::Max));
    assert_eq!(chosen(10, 20, f64::NAN, 0.01), (20_000, Why::Max));
}

/// The estimator alone, on a source that changes every `mean` on average and is
/// looked at every `look`. It settles where five changes at the truth's pace and
/// one at the prior's put it, also where most looks find several changes in one.
#[test]
fn it_finds_the_rate() {
    for (look, mean, prior) in
        [(1.0, 100.0, 10.0), (1.0, 100.0, 100.0), (1.0, 100.0, 1000.0), (50.0, 40.0, 80.0), (1.0, 1.0, 1.0)]
    {
        let (look, mean, prior) = (look * 60_000.0, mean * 60_000.0, Mean::new(prior * 60_000.0));
        let mut dice = Dice(7);
        let (mut record, mut sum, mut counted) = (Record::default(), 0.0, 0);
        for turn in 0..60_000 {
            let changed = dice.wait(mean) < look;
            record.learn(changed, Millis(look as u64), prior, dice.roll() as u32);
            if turn > 5_000 {
                sum += record.mean(prior).0;
                counted += 1;
            }
        }
        let (found, expected) = (sum / f64::from(counted), (prior.0 + 5.5 * mean) / 6.0);
        assert!(
            (0.8..1.25).contains(&(found / expected)),
            "{look} {mean} {prior:?}: {found}, not {expected}"
        );
    }
}

#[test]
fn a_change_of_pace_is_noticed_within_a_few_changes() {
    let (mut record, mut dice) = (Record::default(), Dice(5));
    let prior = Mean::new(1e6);
    for _ in 0..10_000 {
        record.learn(false, Millis(1_000_000), prior, dice.roll() as u32);
    }
    assert!(record.mean(prior).0 > 9e9);
    let mut times = 0;
    while record.mean(prior).0 > 1e8 {
        record.learn(true, Millis(1_000_000), prior, dice.roll() as u32);
        times += 1;
    }
    assert!(times <= 14, "{times}");
}

#[test]
fn steps_too_small_to_be_held_add_up_all_the_same() {
    let (mut record, mut dice) = (Record::default(), Dice(3));
    record.set_exposure(1e9, 0);
    let begun = record.exposure();
    for _ in 0..20_000 {
        let next = record.exposure() + 10_000.0; // a fifth of what the mantissa tells apart
        record.set_exposure(next, dice.roll() as u32);
    }
    let grown = (record.exposure() - begun) / 2e8;
    assert!((grown - 1.0).abs() < 0.05, "{grown}");
}

proptest! {
    #[test]
    fn bytes_and_marks_are_read_as_they_were_written(adaptive in any_adaptive()) {
        prop_assert_eq!(Adaptive::of_bytes(&adaptive.to_bytes()), Some(adaptive));
        prop_assert_eq!(Adaptive::of_marks(adaptive.bounds, adaptive.digest, adaptive.marks()), Some(adaptive));
    }

    #[test]
    fn any_bytes_are_answered(bytes in any::<[u8; BYTES]>()) {
        if let Some(adaptive) = Adaptive::of_bytes(&bytes) {
            prop_assert_eq!(adaptive.to_bytes(), bytes);
        }
    }

    #[test]
    fn a_time_is_held_within_what_the_mantissa_tells(ms in 0u64..1 << 41, dice in any::<u32>()) {
        let mut record = Record::default();
        record.set_exposure(ms as f64, dice);
        prop_assert!((record.exposure() - ms as f64).abs() <= ms as f64 / 2048.0);
        let held = record;
        record.set_exposure(held.exposure(), dice);
        prop_assert_eq!(record, held, "what is held is held exactly");
    }

    /// Whatever is there and whatever is asked: a TTL within the bounds.
    #[test]
    fn any_numbers_are_answered(
        adaptive in any_adaptive(), other in any::<bool>(), teaches in any::<bool>(), written in 0..=crate::units::LAST_TIME,
        now in 0..=crate::units::LAST_TIME, target in any::<f64>(), prior in any::<f64>(), dice in any::<u32>(),
    ) {
        let past = Past { digest: adaptive.digest, record: adaptive.record, written: Time(written), teaches };
        let digest = Digest(adaptive.digest.0 ^ u32::from(other));
        let outlook = Outlook { target, prior: Mean::new(prior), past: None, dice };
        let done = refill(adaptive.bounds, digest, Some(past), Time(now), &outlook);
        prop_assert!(done.length >= adaptive.bounds.min() && done.length <= adaptive.bounds.max());
        prop_assert_eq!(done.lesson.is_some(), teaches);
        prop_assert_eq!(done.adaptive.record == adaptive.record || teaches, true);
    }
}

#[test]
fn what_leaves_teaches_where_its_time_was_over_and_nobody_had_touched_it() {
    let adaptive = Adaptive::of_marks(bounds(1, 9), Digest(5), (77, 3, 2));
    let meta = Meta {
        written: Time(100),
        fresh_until: Some(Time(1100)),
        length: Some(Millis(1000)),
        grace: Millis(500),
        adaptive,
        ..Meta::default()
    };
    let leaving =
        |meta: &Meta, touched, now| Past::of_leaving(meta, touched, Time(now)).map(|past| past.teaches);
    assert_eq!(leaving(&meta, false, 1600), Some(true));
    assert_eq!(leaving(&meta, false, 1599), Some(false), "deleted, evicted or overwritten");
    assert_eq!(leaving(&meta, true, 1600), Some(false), "invalidated");
    assert_eq!(leaving(&Meta { dead: true, ..meta }, false, 1600), Some(false));
    assert_eq!(leaving(&Meta { staled_at: Some(Time(900)), ..meta }, false, 1600), Some(false), "by hand");
    assert_eq!(leaving(&Meta { adaptive: None, ..meta }, false, 1600), None);
    let past = Past::of_leaving(&meta, false, Time(1600)).expect("adaptive");
    let hit = |stamp| past.invalidated(Stamp(stamp)).teaches;
    assert_eq!([hit(0), hit(99_999), hit(100_000), hit(200_000)], [true, true, false, false]);
    assert_eq!((past.written, past.digest), (Time(100), Digest(5)));
    assert_eq!(Some(past.record), adaptive.map(|adaptive| adaptive.record));
}
