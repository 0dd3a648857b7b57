//! The ends of an entry's life, from the words of a request.
//!
//! ```text
//! written          fresh_until            key's TTL
//!    ├── length ────────┤├───── grace ───────┤
//!    │      FRESH       ││      STALE        │  gone
//! ```

use crate::adaptive::Bounds;
use crate::entry::Meta;
use crate::units::{Millis, Time};

/// Where freshness shall end, as a request says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expiry {
    /// Not said.
    #[default]
    Unsaid,
    /// `EX`, `PX`: after this long.
    After(Millis),
    /// `EXAT`, `PXAT`: then.
    At(Time),
    /// `KEEPTTL`: as it is.
    Keep,
    /// `PERSIST`: never.
    Never,
    /// `EXAUTO`: as the source turns out to change, within these.
    Auto(Bounds),
}

/// By how much lengths that are given vary, so that what was written together
/// does not end together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Jitter {
    /// Up to so many parts of a hundred, longer or shorter. Zero: not at all.
    pub percent: u8,
    /// Uniform in all of u32.
    pub dice: u32,
}

impl Jitter {
    /// The length of this entry, given the length for all; never nothing.
    pub fn of(self, length: Millis) -> Millis {
        if self.percent == 0 {
            return length;
        }
        let spread = 2.0 * f64::from(self.dice) / f64::from(u32::MAX) - 1.0;
        let factor = 1.0 + spread * f64::from(self.percent) / 100.0;
        Millis(((length.0 as f64 * factor).round() as u64).max(1))
    }
}

/// What holds of times beside the request: those that a namespace gives where
/// it is silent (zero: none), and what is done to lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The fresh length.
    pub ttl: Millis,
    /// The grace.
    pub grace: Millis,
    /// The bounds of `EXAUTO`, which goes before `ttl`.
    pub auto: Option<Bounds>,
    /// `cacheflow.ttl-jitter`.
    pub jitter: Jitter,
}

impl Defaults {
    /// Whether a time that is said like this, or left unsaid, is to be chosen by
    /// how often the source changes, and within what. The one place that knows
    /// what a request says against its namespace.
    pub fn bounds(&self, said: Expiry) -> Option<Bounds> {
        match said {
            Expiry::Auto(bounds) => Some(bounds),
            // KEEPTTL that finds nothing to keep.
            Expiry::Unsaid | Expiry::Keep => self.auto,
            Expiry::After(_) | Expiry::At(_) | Expiry::Never => None,
        }
    }
}

/// The times asked for are not positive or past what an entry can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTime;

/// The ends that an entry gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Where freshness ends.
    pub fresh_until: Option<Time>,
    /// The fresh length given.
    pub length: Option<Millis>,
    /// The grace given.
    pub grace: Millis,
    /// The key's own TTL: where the entry is gone.
    pub expire: Option<Time>,
}

impl Ends {
    /// No end at all.
    pub const NEVER: Ends = Ends { fresh_until: None, length: None, grace: Millis::ZERO, expire: None };

    /// Freshness up to `end`, then `grace`.
    fn at(end: Time, now: Time, grace: Millis) -> Result<Ends, InvalidTime> {
        Ok(Ends {
            fresh_until: Some(end),
            length: Some(end.since(now)),
            grace,
            expire: Some(end.after(grace).ok_or(InvalidTime)?),
        })
    }

    /// Fresh for `length`, then `grace`.
    ///
    /// # Errors
    /// [`InvalidTime`] for ends past what an entry can carry.
    pub fn after(length: Millis, now: Time, grace: Millis) -> Result<Ends, InvalidTime> {
        Ends::at(now.after(length).ok_or(InvalidTime)?, now, grace)
    }

    /// Whether nothing is left of it at `now`: neither freshness nor grace.
    pub fn are_past(&self, now: Time) -> bool {
        self.expire.is_some_and(|end| end <= now)
    }

    /// The ends of a SET that finds nothing to keep: KEEPTTL is as if not
    /// given, the namespace's times hold where the request is silent, and
    /// grace without an end of freshness is ignored. Of times to be chosen it is
    /// the shortest ([`crate::adaptive`] chooses).
    ///
    /// # Errors
    /// [`InvalidTime`] for ends past what an entry can carry.
    pub fn of_set(
        expiry: Expiry,
        grace: Option<Millis>,
        now: Time,
        defaults: Defaults,
    ) -> Result<Ends, InvalidTime> {
        let grace = grace.unwrap_or(defaults.grace);
        match expiry {
            Expiry::Never => Ok(Ends::NEVER),
            Expiry::At(end) => Ends::at(end, now, grace),
            Expiry::After(length) => Ends::after(defaults.jitter.of(length), now, grace),
            Expiry::Auto(bounds) => Ends::after(bounds.min(), now, grace),
            Expiry::Unsaid | Expiry::Keep => match (defaults.auto, defaults.ttl) {
                (Some(bounds), _) => Ends::after(bounds.min(), now, grace),
                (None, Millis::ZERO) => Ok(Ends::NEVER),
                (None, ttl) => Ends::after(defaults.jitter.of(ttl), now, grace),
            },
        }
    }

    /// The ends of a TOUCH: without a time it repeats the entry's last
    /// lengths (as they are: jitter upon jitter would have them walk away), a
    /// grace named beside it in place of the last one.
    ///
    /// # Errors
    /// [`InvalidTime`] for ends past what an entry can carry.
    pub fn of_touch(
        expiry: Expiry,
        grace: Option<Millis>,
        now: Time,
        defaults: Defaults,
        old: &Meta,
    ) -> Result<Ends, InvalidTime> {
        match (expiry, old.length) {
            (Expiry::Unsaid, None) => Ok(Ends::NEVER),
            (Expiry::Unsaid, Some(length)) => Ends::after(length, now, grace.unwrap_or(old.grace)),
            _ => Ends::of_set(expiry, grace, now, defaults),
        }
    }

    /// The ends that an entry has and keeps; `expire` is its key's own TTL,
    /// which EXPIRE and PERSIST may have moved.
    pub fn kept(old: &Meta, expire: Option<Time>) -> Ends {
        Ends { fresh_until: old.fresh_until, length: old.length, grace: old.grace, expire }
    }

    /// The ends of an entry that takes the place of a native key and keeps its
    /// TTL, without grace.
    pub fn kept_from_native(expire: Option<Time>, now: Time) -> Ends {
        match expire {
            None => Ends::NEVER,
            Some(end) => Ends {
                fresh_until: Some(end),
                length: Some(end.since(now)),
                grace: Millis::ZERO,
                expire: Some(end),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::LAST_TIME;

    const NOW: Time = Time(1_000_000);
    const NO_JITTER: Jitter = Jitter { percent: 0, dice: 0 };
    const NONE: Defaults = Defaults { ttl: Millis(0), grace: Millis(0), auto: None, jitter: NO_JITTER };
    const NAMESPACE: Defaults = Defaults { ttl: Millis(50), grace: Millis(7), ..NONE };

    fn ends(expiry: Expiry, grace: Option<u64>, defaults: Defaults) -> (Option<u64>, u64, Option<u64>) {
        let e = Ends::of_set(expiry, grace.map(Millis), NOW, defaults).expect("valid");
        (e.fresh_until.map(|t| t.0 - NOW.0), e.grace.0, e.expire.map(|t| t.0 - NOW.0))
    }

    #[test]
    fn set() {
        use Expiry::*;
        assert_eq!(ends(Unsaid, None, NONE), (None, 0, None));
        assert_eq!(ends(Unsaid, Some(9), NONE), (None, 0, None), "grace without an end is ignored");
        assert_eq!(ends(After(Millis(60)), Some(30), NONE), (Some(60), 30, Some(90)));
        assert_eq!(ends(At(Time(NOW.0 + 5)), None, NONE), (Some(5), 0, Some(5)));
        assert_eq!(ends(Keep, None, NONE), (None, 0, None));
        assert_eq!(ends(Unsaid, None, NAMESPACE), (Some(50), 7, Some(57)));
        assert_eq!(ends(Keep, None, NAMESPACE), (Some(50), 7, Some(57)));
        assert_eq!(ends(After(Millis(60)), None, NAMESPACE), (Some(60), 7, Some(67)));
        assert_eq!(ends(After(Millis(60)), Some(0), NAMESPACE), (Some(60), 0, Some(60)));
        assert_eq!(ends(Never, None, NAMESPACE), (None, 0, None), "PERSIST beats the namespace");
        assert_eq!(ends(Never, Some(4), NAMESPACE), (None, 0, None));
    }

    #[test]
    fn set_in_the_past_leaves_what_grace_leaves() {
        let past = Expiry::At(Time(NOW.0 - 10));
        let gone = Ends::of_set(past, None, NOW, NONE).expect("valid");
        assert!(gone.are_past(NOW));
        let stale = Ends::of_set(past, Some(Millis(11)), NOW, NONE).expect("valid");
        assert!(!stale.are_past(NOW));
        assert_eq!(stale.length, Some(Millis(0)));
    }

    #[test]
    fn what_an_entry_cannot_carry_is_invalid() {
        for (expiry, grace) in [
            (Expiry::After(Millis(u64::MAX)), 0),
            (Expiry::After(Millis(LAST_TIME - NOW.0 + 1)), 0),
            (Expiry::At(Time(LAST_TIME)), 1),
            (Expiry::At(Time(LAST_TIME + 1)), 0),
            (Expiry::After(Millis(1)), u64::MAX),
        ] {
            let got = Ends::of_set(expiry, Some(Millis(grace)), NOW, NONE);
            assert_eq!(got, Err(InvalidTime), "{expiry:?} {grace}");
        }
        assert!(Ends::of_set(Expiry::At(Time(LAST_TIME)), None, NOW, NONE).is_ok());
    }

    #[test]
    fn touch_repeats_the_last_lengths() {
        let old = Meta {
            fresh_until: Some(Time(500)),
            length: Some(Millis(60)),
            grace: Millis(30),
            ..Meta::default()
        };
        let touch = |expiry, grace: Option<u64>| {
            let e = Ends::of_touch(expiry, grace.map(Millis), NOW, NAMESPACE, &old).expect("valid");
            (e.length.map(|l| l.0), e.grace.0, e.expire.map(|t| t.0 - NOW.0))
        };
        assert_eq!(touch(Expiry::Unsaid, None), (Some(60), 30, Some(90)));
        assert_eq!(touch(Expiry::Unsaid, Some(5)), (Some(60), 5, Some(65)));
        assert_eq!(touch(Expiry::After(Millis(10)), None), (Some(10), 7, Some(17)));
        let endless = Meta::default();
        assert_eq!(Ends::of_touch(Expiry::Unsaid, None, NOW, NAMESPACE, &endless), Ok(Ends::NEVER));
    }

    #[test]
    fn who_says_that_times_are_chosen() {
        let (ours, theirs) = (Bounds::new(1, 2), Bounds::new(3, 4));
        let said = Expiry::Auto(ours.expect("bounds"));
        let namespace = Defaults { auto: theirs, ..NAMESPACE };
        assert_eq!([NONE, namespace].map(|of| of.bounds(said)), [ours; 2]);
        for silent in [Expiry::Unsaid, Expiry::Keep] {
            assert_eq!([NONE, NAMESPACE, namespace].map(|of| of.bounds(silent)), [None, None, theirs]);
            assert_eq!(ends(silent, None, namespace), (Some(3000), 7, Some(3007)), "before its TTL");
        }
        for other in [Expiry::After(Millis(5)), Expiry::At(Time(5)), Expiry::Never] {
            assert_eq!(namespace.bounds(other), None);
        }
    }

    #[test]
    fn jitter_spreads_what_is_named_and_nothing_else() {
        let jitter = |percent, dice| Jitter { percent, dice };
        let named = |jitter| ends(Expiry::After(Millis(1000)), Some(30), Defaults { jitter, ..NONE });
        assert_eq!(named(jitter(0, 77)), (Some(1000), 30, Some(1030)));
        assert_eq!(named(jitter(5, 0)), (Some(950), 30, Some(980)));
        assert_eq!(named(jitter(5, u32::MAX)), (Some(1050), 30, Some(1080)));
        assert_eq!(named(jitter(5, 1 << 31)).0, Some(1000));
        let most = Defaults { jitter: jitter(5, u32::MAX), ..NAMESPACE };
        assert_eq!(ends(Expiry::Unsaid, None, most), (Some(53), 7, Some(60)), "the namespace's TTL too");
        assert_eq!(ends(Expiry::At(Time(NOW.0 + 100)), None, most).0, Some(100), "a point in time is one");
        let old = Meta { fresh_until: Some(Time(5)), length: Some(Millis(100)), ..Meta::default() };
        let again = Ends::of_touch(Expiry::Unsaid, None, NOW, most, &old).expect("valid");
        assert_eq!(again.length, Some(Millis(100)));
        assert_eq!(jitter(50, 0).of(Millis(1)), Millis(1), "never nothing");
        let last = Expiry::After(Millis(LAST_TIME - NOW.0));
        assert_eq!(Ends::of_set(last, None, NOW, most), Err(InvalidTime), "past the last time");
    }
}
