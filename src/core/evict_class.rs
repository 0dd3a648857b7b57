//! What eviction knows of an entry by itself: its marks, six bytes' worth of
//! which lie in the entry.
//!
//! ```text
//! last   u32   ┌─ 1 ─┬──────────── 31 ────────────┐
//!              │ fol │ operation of the last use  │   fol: the learner follows it
//!              └─────┴────────────────────────────┘
//! class  6 bits, 0..=42:  0            used once
//!                         1 + 7·f + i  f: how often (6), i: how long between
//!                                      the last two uses (7)
//! ```
//!
//! Operations are counted modulo 2^31, and an age is a difference modulo 2^31:
//! right as long as no entry grows older than that, which the hand of
//! [`crate::evict`] sees to.
//!
//! f is a bucket of the number of uses: 1–2, 3–4, 5–8, 9–16, 17–48, more. The
//! number itself has no room (the counter of an entry's reads begins anew with
//! each value), so a use moves f up by chance, with the inverse of the bucket's
//! width (Morris, CACM 1978). An exact count saves 0.01 % of the misses and
//! 0.05 % of their cost, on eleven traces in three sizes.

/// Classes there are.
pub const CLASSES: usize = 1 + FREQUENCIES * INTERVALS;
/// Buckets of frequency.
pub const FREQUENCIES: usize = 6;
/// Buckets of the interval.
pub const INTERVALS: usize = 7;
/// Buckets of age: quarter octaves of 31 bits, no interpolation between them.
pub const BUCKETS: usize = 120;

const FOLLOWED: u32 = 1 << 31;
/// Operations are counted modulo this and one.
const LAST: u32 = FOLLOWED - 1;
/// Where the interval's buckets end, in parts of the number of entries.
const CUTS: [f32; INTERVALS - 1] = [0.02, 0.1, 0.3, 0.8, 1.6, 4.0];
/// Of 2^32 dice, how many make a use move the frequency up: of what was used
/// once all, then one in the bucket's width, and none from the last bucket.
const RISES: [u64; 1 + FREQUENCIES] = [1 << 32, 1 << 31, 1 << 31, 1 << 30, 1 << 29, 1 << 27, 0];

/// A point in operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Op(u32);

impl Op {
    /// The `n`th operation.
    #[inline]
    pub fn new(n: u64) -> Op {
        Op(n as u32 & LAST)
    }

    /// Operations since `earlier`, which was less than 2^31 of them ago.
    #[inline]
    pub fn since(self, earlier: Op) -> u32 {
        self.0.wrapping_sub(earlier.0) & LAST
    }

    /// The operation so many before this one.
    #[inline]
    pub fn before(self, age: u32) -> Op {
        Op(self.0.wrapping_sub(age) & LAST)
    }
}

/// See the module's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    last: u32,
    class: u8,
}

impl Marks {
    /// Those of an entry that eviction was not told of.
    pub const UNUSED: Marks = Marks { last: 0, class: 0 };

    /// The marks of an entry that was used `at` last.
    pub fn new(at: Op, class: Class, followed: bool) -> Marks {
        Marks { last: at.0 | if followed { FOLLOWED } else { 0 }, class: class.0 }
    }

    /// From what lies in an entry. Six bits say more classes than there are:
    /// what is none counts as the first.
    #[inline]
    pub fn from_bits(last: u32, class: u8) -> Marks {
        Marks { last, class: if usize::from(class) < CLASSES { class } else { 0 } }
    }

    /// What is to lie in an entry.
    #[inline]
    pub fn bits(self) -> (u32, u8) {
        (self.last, self.class)
    }

    /// When it was used last.
    #[inline]
    pub fn last(self) -> Op {
        Op(self.last & LAST)
    }

    /// How it has been used until then.
    #[inline]
    pub fn class(self) -> Class {
        Class(self.class)
    }

    /// Whether the learner follows it.
    #[inline]
    pub fn is_followed(self) -> bool {
        self.last & FOLLOWED != 0
    }
}

/// How an entry has been used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class(u8);

impl Class {
    /// Used once.
    pub const FIRST: Class = Class(0);

    /// Its number, below [`CLASSES`].
    #[inline]
    pub fn number(self) -> usize {
        usize::from(self.0)
    }

    /// The class of a number.
    pub fn of(number: usize) -> Option<Class> {
        u8::try_from(number).ok().filter(|_| number < CLASSES).map(Class)
    }

    /// The bucket of frequency; `None`: used once.
    #[inline]
    pub fn frequency(self) -> Option<u8> {
        self.0.checked_sub(1).map(|above| above / INTERVALS as u8)
    }

    /// The class after one more use. `dice` must be uniform.
    ///
    /// Without a branch, for nobody could guess which way it goes.
    #[inline]
    pub fn used(self, interval: u8, dice: u32) -> Class {
        // 0 for used once, else one more than the bucket.
        let before = self.0.div_ceil(INTERVALS as u8);
        Class::next(before, interval, dice)
    }

    /// The class after one more use of what was used so often, which need not
    /// have been an entry throughout.
    pub fn after(frequency: Option<u8>, interval: u8, dice: u32) -> Class {
        Class::next(frequency.map_or(0, |f| f.saturating_add(1)), interval, dice)
    }

    #[inline]
    fn next(before: u8, interval: u8, dice: u32) -> Class {
        let before = before.min(FREQUENCIES as u8);
        let rises = u64::from(dice) < RISES[usize::from(before)];
        let (width, longest) = (INTERVALS as u8, INTERVALS as u8 - 1);
        Class(1 + width * (before + u8::from(rises) - 1) + interval.min(longest))
    }
}

/// Where the interval's buckets end, in operations: kept up to date with the
/// number of entries, so that a read neither divides nor multiplies.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    ends: [u32; INTERVALS - 1],
    entries: usize,
}

impl Cuts {
    /// For so many entries.
    pub fn new(entries: usize) -> Cuts {
        // A float that is too large becomes the largest integer.
        Cuts { ends: CUTS.map(|cut| (cut * entries.max(1) as f32).ceil() as u32), entries }
    }

    /// The number of entries is another now. Moves in steps of a 32nd.
    #[inline]
    pub fn follow(&mut self, entries: usize) {
        if entries.abs_diff(self.entries) > self.entries / 32 {
            *self = Cuts::new(entries);
        }
    }

    /// The bucket of an interval.
    #[inline]
    pub fn interval(&self, ops: u32) -> u8 {
        self.ends.iter().map(|&end| u8::from(ops >= end)).sum()
    }
}

/// The bucket of an age below 2^31.
#[inline]
pub fn bucket(age: u32) -> usize {
    if age < 4 {
        return age as usize;
    }
    let octave = age.ilog2();
    let quarter = (age >> (octave - 2)) & 3;
    ((4 * (octave - 1) + quarter) as usize).min(BUCKETS - 1)
}

/// The least age of a bucket; of the one past the last: 2^31.
pub const fn start(bucket: usize) -> u64 {
    if bucket < 4 {
        return bucket as u64;
    }
    (4 + bucket as u64 % 4) << (bucket / 4 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_begin_where_they_say() {
        for b in 0..BUCKETS {
            assert!(start(b) < start(b + 1));
            assert_eq!(bucket(start(b) as u32), b);
            assert_eq!(bucket((start(b + 1) - 1) as u32), b);
        }
        assert_eq!(start(BUCKETS), 1 << 31);
        assert_eq!(bucket(LAST), BUCKETS - 1);
    }

    #[test]
    fn frequencies_rise_in_the_mean_as_buckets_are_wide() {
        let mut state = 7u64;
        let mut dice = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 32) as u32
        };
        // The first use after the one that brought it is the first of bucket 0.
        let (mut uses, keys) = ([0u64; FREQUENCIES], 20_000);
        for _ in 0..keys {
            let mut class = Class::FIRST;
            while class.frequency() != Some(FREQUENCIES as u8 - 1) {
                class = class.used(3, dice());
                uses[usize::from(class.frequency().expect("used"))] += 1;
            }
        }
        for (f, width) in [2.0, 2.0, 4.0, 8.0, 32.0].into_iter().enumerate() {
            let mean = uses[f] as f64 / f64::from(keys);
            assert!((mean / width - 1.0).abs() < 0.03, "bucket {f}: {mean} uses, not {width}");
        }
    }

    #[test]
    fn cuts_follow_the_number_of_entries() {
        let mut cuts = Cuts::new(1000);
        assert_eq!([0, 19, 20, 99, 100, 3999, 4000].map(|ops| cuts.interval(ops)), [0, 0, 1, 1, 2, 5, 6]);
        cuts.follow(1031);
        assert_eq!(cuts.interval(20), 1, "not worth it yet");
        cuts.follow(2000);
        assert_eq!([39, 40].map(|ops| cuts.interval(ops)), [0, 1]);
        cuts.follow(0);
        assert_eq!(cuts.interval(4), 6);
        assert_eq!(Cuts::new(usize::MAX).interval(LAST), 0);
    }

    proptest! {
        #[test]
        fn any_bits_are_marks(last in any::<u32>(), class in any::<u8>(), interval in any::<u8>(), dice in any::<u32>()) {
            let marks = Marks::from_bits(last, class);
            let next = marks.class().used(interval, dice);
            prop_assert!(marks.class().number() < CLASSES && next.number() < CLASSES);
            prop_assert!(next.frequency() >= marks.class().frequency(), "never down");
            prop_assert_eq!(Class::of(next.number()), Some(next));
        }

        #[test]
        fn ages_are_right_across_the_wrap(at in any::<u64>(), age in 0u64..1 << 31) {
            let (now, then) = (Op::new(at.wrapping_add(age)), Op::new(at));
            prop_assert_eq!(u64::from(now.since(then)), age);
            prop_assert_eq!(now.before(age as u32), then);
            let marks = Marks::new(then, Class::FIRST, age % 2 == 0);
            prop_assert_eq!((marks.last(), marks.is_followed()), (then, age % 2 == 0));
        }
    }
}
