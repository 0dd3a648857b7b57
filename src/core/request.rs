//! The options of the data commands, from raw arguments. Option words are
//! case-insensitive and come in any order; one that takes a value may come
//! once.

use crate::adaptive::Bounds;
use crate::entry::Cost;
use crate::number::{parse_i64, parse_u64};
use crate::times::Expiry;
use crate::units::{Millis, Stamp, Time, STAMP_LIMIT};

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// An unknown word, a word without its value, or words that exclude each
    /// other.
    Syntax,
    /// A value that is no integer, or one out of its range.
    NotAnInteger,
    /// A time that is not positive, or past what can be carried.
    InvalidTime,
    /// A cursor that is no number.
    Cursor,
}

/// When SET stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    #[default]
    Always,
    /// `NX`: only where no live entry or key is.
    Absent,
    /// `XX`: only where one is.
    Present,
}

/// `CACHE.SET key value …`, the options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetOptions {
    /// `NX`, `XX`.
    pub condition: Condition,
    /// `EX`, `PX`, `EXAT`, `PXAT`, `EXAUTO`, `KEEPTTL`, `PERSIST`.
    pub expiry: Expiry,
    /// `GRACE`, `PGRACE`.
    pub grace: Option<Millis>,
    /// `COST`.
    pub cost: Option<Cost>,
    /// `LEASE`: the token that this fills.
    pub lease: Option<Stamp>,
    /// How many arguments at the end are tags; zero: `TAGS` is not there.
    pub tags: usize,
}

/// `CACHE.TOUCH key …`, the options.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TouchOptions {
    /// `EX`, `PX`, `EXAT`, `PXAT`, `EXAUTO`.
    pub expiry: Expiry,
    /// `GRACE`, `PGRACE`.
    pub grace: Option<Millis>,
    /// `LEASE`: the token that this fills.
    pub lease: Option<Stamp>,
}

/// The words that SET and TOUCH take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Nx,
    Xx,
    Ex,
    Px,
    ExAt,
    PxAt,
    ExAuto,
    KeepTtl,
    Persist,
    Grace,
    PGrace,
    Cost,
    Lease,
    Tags,
}

impl Word {
    fn read(word: &[u8]) -> Option<Word> {
        // By length first: the common words have two letters.
        let known: &[(&[u8], Word)] = match word.len() {
            2 => &[(b"EX", Word::Ex), (b"PX", Word::Px), (b"NX", Word::Nx), (b"XX", Word::Xx)],
            4 => {
                &[(b"TAGS", Word::Tags), (b"COST", Word::Cost), (b"EXAT", Word::ExAt), (b"PXAT", Word::PxAt)]
            }
            5 => &[(b"GRACE", Word::Grace), (b"LEASE", Word::Lease)],
            6 => &[(b"PGRACE", Word::PGrace), (b"EXAUTO", Word::ExAuto)],
            7 => &[(b"KEEPTTL", Word::KeepTtl), (b"PERSIST", Word::Persist)],
            _ => &[],
        };
        known.iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|&(_, word)| word)
    }
}

const SECOND: u64 = 1000;

/// A time that must be positive, in units of `unit` milliseconds.
fn positive(text: &[u8], unit: u64) -> Result<u64, RequestError> {
    let n = parse_i64(text).ok_or(RequestError::NotAnInteger)?;
    let n = u64::try_from(n).map_err(|_| RequestError::InvalidTime)?;
    match n.checked_mul(unit) {
        None | Some(0) => Err(RequestError::InvalidTime),
        Some(ms) => Ok(ms),
    }
}

/// A grace: like [`positive`], but zero says "none".
fn grace(text: &[u8], unit: u64) -> Result<Millis, RequestError> {
    match text {
        b"0" => Ok(Millis::ZERO),
        _ => positive(text, unit).map(Millis),
    }
}

/// The bounds of a TTL in seconds, which end with u32: after 136 years.
///
/// # Errors
/// [`RequestError::InvalidTime`] for what is not positive, too large, or the
/// wrong way round.
pub fn bounds(min: &[u8], max: &[u8]) -> Result<Bounds, RequestError> {
    let (min, max) = (positive(min, 1)?, positive(max, 1)?);
    let seconds = u32::try_from(min).ok().zip(u32::try_from(max).ok());
    seconds.and_then(|(min, max)| Bounds::new(min, max)).ok_or(RequestError::InvalidTime)
}

fn cost(text: &[u8]) -> Result<Cost, RequestError> {
    let n = parse_u64(text).and_then(|n| u32::try_from(n).ok());
    n.map(Cost).ok_or(RequestError::NotAnInteger)
}

/// A token. Any integer may be asked about: one that is no stamp was granted to
/// nobody, and reads as 0, which no clock draws.
///
/// # Errors
/// [`RequestError::NotAnInteger`].
pub fn token(text: &[u8]) -> Result<Stamp, RequestError> {
    let n = parse_i64(text).ok_or(RequestError::NotAnInteger)?;
    Ok(Stamp(u64::try_from(n).ok().filter(|&n| n < STAMP_LIMIT).unwrap_or(0)))
}

/// Puts a value where none was put before.
pub(crate) fn once<T>(place: &mut Option<T>, value: T) -> Result<(), RequestError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(RequestError::Syntax),
    }
}

/// The time words that SET and TOUCH share; `None` for another word.
fn time_word(word: Word, text: &[u8]) -> Option<Result<Expiry, RequestError>> {
    let expiry = match word {
        Word::Ex => positive(text, SECOND).map(|ms| Expiry::After(Millis(ms))),
        Word::Px => positive(text, 1).map(|ms| Expiry::After(Millis(ms))),
        Word::ExAt => positive(text, SECOND).map(|ms| Expiry::At(Time(ms))),
        Word::PxAt => positive(text, 1).map(|ms| Expiry::At(Time(ms))),
        _ => return None,
    };
    Some(expiry)
}

/// What is collected of the words that may come once.
#[derive(Default)]
struct Once {
    expiry: Option<Expiry>,
    grace: Option<Millis>,
    cost: Option<Cost>,
    lease: Option<Stamp>,
}

impl Once {
    /// Takes a word that has a value.
    fn take<'a>(&mut self, word: Word, mut args: impl Iterator<Item = &'a [u8]>) -> Result<(), RequestError> {
        let text = args.next().ok_or(RequestError::Syntax)?;
        let time = match word {
            Word::ExAuto => Some(bounds(text, args.next().ok_or(RequestError::Syntax)?).map(Expiry::Auto)),
            _ => time_word(word, text),
        };
        if let Some(expiry) = time {
            // A second time word is a syntax error, whatever its value.
            return match self.expiry {
                Some(_) => Err(RequestError::Syntax),
                None => once(&mut self.expiry, expiry?),
            };
        }
        match word {
            Word::Grace => once(&mut self.grace, grace(text, SECOND)?),
            Word::PGrace => once(&mut self.grace, grace(text, 1)?),
            Word::Cost => once(&mut self.cost, cost(text)?),
            Word::Lease => once(&mut self.lease, token(text)?),
            _ => Err(RequestError::Syntax),
        }
    }
}

impl SetOptions {
    /// Reads what follows key and value.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse<'a>(mut args: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<SetOptions, RequestError> {
        let mut tags = 0;
        let mut condition = Condition::Always;
        let mut seen = Once::default();
        while let Some(arg) = args.next() {
            let word = Word::read(arg).ok_or(RequestError::Syntax)?;
            match word {
                Word::Nx if condition != Condition::Present => condition = Condition::Absent,
                Word::Xx if condition != Condition::Absent => condition = Condition::Present,
                Word::Nx | Word::Xx => return Err(RequestError::Syntax),
                Word::KeepTtl => once(&mut seen.expiry, Expiry::Keep)?,
                Word::Persist => once(&mut seen.expiry, Expiry::Never)?,
                // The rest of the line.
                Word::Tags if args.len() == 0 => return Err(RequestError::Syntax),
                Word::Tags => {
                    tags = args.len();
                    break;
                }
                _ => seen.take(word, &mut args)?,
            }
        }
        if seen.lease.is_some() && condition != Condition::Always {
            return Err(RequestError::Syntax);
        }
        if seen.expiry == Some(Expiry::Keep) && seen.grace.is_some() {
            return Err(RequestError::Syntax);
        }
        Ok(SetOptions {
            condition,
            expiry: seen.expiry.unwrap_or_default(),
            grace: seen.grace,
            cost: seen.cost,
            lease: seen.lease,
            tags,
        })
    }
}

impl TouchOptions {
    /// Reads what follows the key.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<TouchOptions, RequestError> {
        let mut seen = Once::default();
        while let Some(arg) = args.next() {
            match Word::read(arg) {
                None | Some(Word::Cost | Word::Tags) => return Err(RequestError::Syntax),
                Some(word) => seen.take(word, &mut args)?,
            }
        }
        Ok(TouchOptions { expiry: seen.expiry.unwrap_or_default(), grace: seen.grace, lease: seen.lease })
    }
}

/// Reads what follows `CACHE.GET key`: whether stale values will do.
///
/// # Errors
/// [`RequestError::Syntax`] for anything but one `STALE`.
pub fn accepts_stale(option: Option<&[u8]>) -> Result<bool, RequestError> {
    match option {
        None => Ok(false),
        Some(word) if word.eq_ignore_ascii_case(b"STALE") => Ok(true),
        Some(_) => Err(RequestError::Syntax),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(line: &str) -> Result<SetOptions, RequestError> {
        SetOptions::parse(line.split_whitespace().map(str::as_bytes).collect::<Vec<_>>().into_iter())
    }

    fn touch(line: &str) -> Result<TouchOptions, RequestError> {
        TouchOptions::parse(line.split_whitespace().map(str::as_bytes))
    }

    #[test]
    fn every_word() {
        let all = set("nx Ex 60 GRACE 300 cost 12").expect("valid");
        assert_eq!(all.condition, Condition::Absent);
        assert_eq!(all.expiry, Expiry::After(Millis(60_000)));
        assert_eq!(all.grace, Some(Millis(300_000)));
        assert_eq!(all.cost, Some(Cost(12)));
        assert_eq!(
            set("PX 5 PGRACE 7").map(|o| (o.expiry, o.grace)),
            Ok((Expiry::After(Millis(5)), Some(Millis(7))))
        );
        assert_eq!(set("EXAT 5").map(|o| o.expiry), Ok(Expiry::At(Time(5000))));
        assert_eq!(set("PXAT 5").map(|o| o.expiry), Ok(Expiry::At(Time(5))));
        assert_eq!(
            set("keepttl XX").map(|o| (o.expiry, o.condition)),
            Ok((Expiry::Keep, Condition::Present))
        );
        assert_eq!(set("PERSIST").map(|o| o.expiry), Ok(Expiry::Never));
        assert_eq!(set("GRACE 0").map(|o| o.grace), Ok(Some(Millis::ZERO)));
        assert_eq!(set(""), Ok(SetOptions::default()));
        assert_eq!(set("EX 5 tags a NX TAGS").map(|o| (o.tags, o.condition)), Ok((3, Condition::Always)));
        assert_eq!(
            touch("GRACE 5 PX 3"),
            Ok(TouchOptions {
                expiry: Expiry::After(Millis(3)),
                grace: Some(Millis(5000)),
                ..TouchOptions::default()
            })
        );
    }

    #[test]
    fn bounds_of_a_ttl() {
        let auto = |min, max| Ok(Expiry::Auto(Bounds::new(min, max).expect("bounds")));
        assert_eq!(set("EXAUTO 5 60 GRACE 7").map(|o| o.expiry), auto(5, 60));
        assert_eq!(set("NX exauto 5 5 TAGS a").map(|o| (o.expiry, o.tags)), auto(5, 5).map(|of| (of, 1)));
        assert_eq!(touch("EXAUTO 1 4294967295").map(|o| o.expiry), auto(1, u32::MAX));
        for line in ["EXAUTO", "EXAUTO 5", "EXAUTO 1 2 EX 1", "EX 1 EXAUTO 1 2", "EXAUTO 1 2 EXAUTO 1 2"] {
            assert_eq!(set(line), Err(RequestError::Syntax), "{line}");
            assert_eq!(touch(line), Err(RequestError::Syntax), "{line}");
        }
        for line in ["EXAUTO 1 2 KEEPTTL", "PERSIST EXAUTO 1 2", "EXAUTO 1 2 3"] {
            assert_eq!(set(line), Err(RequestError::Syntax), "{line}");
        }
        for line in ["EXAUTO x 2", "EXAUTO 1 x", "EXAUTO 1 GRACE", "EXAUTO 1.5 2"] {
            assert_eq!(set(line), Err(RequestError::NotAnInteger), "{line}");
        }
        for line in ["EXAUTO 0 2", "EXAUTO -1 2", "EXAUTO 3 2", "EXAUTO 1 0", "EXAUTO 1 4294967296"] {
            assert_eq!(set(line), Err(RequestError::InvalidTime), "{line}");
        }
    }

    #[test]
    fn leases_are_tokens() {
        assert_eq!(set("lease 17 EX 5").map(|o| o.lease), Ok(Some(Stamp(17))));
        assert_eq!(touch("LEASE 17").map(|o| o.lease), Ok(Some(Stamp(17))));
        for forged in ["0", "-5", "9007199254740992"] {
            assert_eq!(set(&format!("LEASE {forged}")).map(|o| o.lease), Ok(Some(Stamp(0))), "{forged}");
        }
        for line in ["LEASE", "LEASE 1 LEASE 1", "NX LEASE 1", "LEASE 1 XX"] {
            assert_eq!(set(line), Err(RequestError::Syntax), "{line}");
        }
        assert_eq!(set("LEASE x"), Err(RequestError::NotAnInteger));
        assert_eq!(touch("LEASE 1 LEASE 1"), Err(RequestError::Syntax));
    }

    #[test]
    fn what_is_wrong_is_named() {
        use RequestError::*;
        for line in [
            "EX",
            "GRACE",
            "COST",
            "NX XX",
            "XX NX",
            "EX 1 PX 1",
            "EX 1 EX 1",
            "EX 1 KEEPTTL",
            "EX 1 EX x",
            "PERSIST EX 1",
            "KEEPTTL KEEPTTL",
            "GRACE 1 PGRACE 1",
            "COST 1 COST 1",
            "KEEPTTL GRACE 1",
            "GRACE 1 KEEPTTL",
            "KEEPTTL GRACE 0",
            "bogus",
            "EX 1 x",
            "E",
            "TAG a",
            "TAGS",
            "EX 1 TAGS",
            "KEEPTTL GRACE 1 TAGS a",
        ] {
            assert_eq!(set(line), Err(Syntax), "{line}");
        }
        for line in
            ["EX x", "EX 1.5", "PX 9223372036854775808", "COST -1", "COST 4294967296", "GRACE +1", "EX 01"]
        {
            assert_eq!(set(line), Err(NotAnInteger), "{line}");
        }
        for line in
            ["EX 0", "EX -1", "PX 0", "EXAT 0", "PXAT -5", "GRACE -1", "PGRACE -1", "EX 9223372036854775807"]
        {
            assert_eq!(set(line), Err(InvalidTime), "{line}");
        }
        for line in ["NX", "XX", "KEEPTTL", "PERSIST", "COST 5", "EX 1 EX 1", "TAGS a"] {
            assert_eq!(touch(line), Err(Syntax), "{line}");
        }
        assert_eq!(accepts_stale(Some(b"stale")), Ok(true));
        assert_eq!(accepts_stale(Some(b"STALER")), Err(Syntax));
    }

    proptest! {
        #[test]
        fn any_words_are_answered(words in proptest::collection::vec("(EX|PX|NX|GRACE|KEEPTTL|COST|TAGS|-?[0-9]{1,20}|\\PC{0,4})", 0..8)) {
            let _ = SetOptions::parse(words.iter().map(|w| w.as_bytes()));
            let _ = TouchOptions::parse(words.iter().map(|w| w.as_bytes()));
        }
    }
}
