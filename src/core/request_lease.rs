//! The options of FETCH, LOCK, UNLOCK and EXTEND, from raw arguments, as
//! [`crate::request`] reads those of the data commands.

use crate::number::{parse_decimal, parse_u64};
use crate::request::{once, token, RequestError};
use crate::units::{Millis, Stamp, LAST_TIME};

/// `CACHE.FETCH key …`, the options.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FetchOptions {
    /// `LEASE`.
    pub lease: Option<Millis>,
    /// `KEEP`.
    pub keep: bool,
    /// `BLOCK`; zero: without a limit.
    pub block: Option<Millis>,
    /// `MAXSTALE`.
    pub maxstale: Option<Millis>,
    /// `BETA`: finite, not negative, and no `-0`.
    pub beta: Option<f64>,
    /// `WITHTAGS`.
    pub with_tags: bool,
}

/// `CACHE.LOCK key ms [BLOCK ms]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOptions {
    /// The lock's length.
    pub length: Millis,
    /// `BLOCK`; zero: without a limit.
    pub block: Option<Millis>,
}

/// `CACHE.UNLOCK key token [RETRY ms]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnlockOptions {
    /// The token.
    pub token: Stamp,
    /// `RETRY`.
    pub retry: Option<Millis>,
}

/// `CACHE.EXTEND key token ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtendOptions {
    /// The token.
    pub token: Stamp,
    /// From now.
    pub length: Millis,
}

/// A length of time that may be zero.
pub(crate) fn length(text: &[u8]) -> Result<Millis, RequestError> {
    let ms = parse_u64(text).filter(|&ms| ms <= LAST_TIME);
    ms.map(Millis).ok_or(RequestError::NotAnInteger)
}

/// A length of time that must be positive.
pub(crate) fn positive(text: &[u8]) -> Result<Millis, RequestError> {
    length(text).and_then(|ms| if ms == Millis::ZERO { Err(RequestError::NotAnInteger) } else { Ok(ms) })
}

/// Sets a flag that was not set before.
fn flag(place: &mut bool) -> Result<(), RequestError> {
    match std::mem::replace(place, true) {
        false => Ok(()),
        true => Err(RequestError::Syntax),
    }
}

pub(crate) fn is(arg: &[u8], word: &str) -> bool {
    arg.eq_ignore_ascii_case(word.as_bytes())
}

/// The one option a command takes, with its value.
fn only<'a>(
    word: &str,
    read: fn(&[u8]) -> Result<Millis, RequestError>,
    mut args: impl Iterator<Item = &'a [u8]>,
) -> Result<Option<Millis>, RequestError> {
    let Some(arg) = args.next() else { return Ok(None) };
    match (is(arg, word), args.next(), args.next()) {
        (true, Some(text), None) => read(text).map(Some),
        _ => Err(RequestError::Syntax),
    }
}

impl FetchOptions {
    /// Reads what follows the key.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<FetchOptions, RequestError> {
        let mut options = FetchOptions::default();
        while let Some(arg) = args.next() {
            if is(arg, "KEEP") {
                flag(&mut options.keep)?;
            } else if is(arg, "WITHTAGS") {
                flag(&mut options.with_tags)?;
            } else {
                let known = ["BLOCK", "LEASE", "MAXSTALE", "BETA"];
                let word = known.into_iter().find(|word| is(arg, word)).ok_or(RequestError::Syntax)?;
                let text = args.next().ok_or(RequestError::Syntax)?;
                match word {
                    "BLOCK" => once(&mut options.block, length(text)?)?,
                    "LEASE" => once(&mut options.lease, positive(text)?)?,
                    "MAXSTALE" => once(&mut options.maxstale, length(text)?)?,
                    _ => once(&mut options.beta, parse_decimal(text).ok_or(RequestError::NotAnInteger)?)?,
                }
            }
        }
        Ok(options)
    }
}

impl LockOptions {
    /// Reads what follows the key.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<LockOptions, RequestError> {
        let length_text = args.next().ok_or(RequestError::Syntax)?;
        let block = only("BLOCK", length, args)?;
        Ok(LockOptions { length: positive(length_text)?, block })
    }
}

impl UnlockOptions {
    /// Reads what follows the key.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<UnlockOptions, RequestError> {
        let text = args.next().ok_or(RequestError::Syntax)?;
        let retry = only("RETRY", length, args)?;
        Ok(UnlockOptions { token: token(text)?, retry })
    }
}

impl ExtendOptions {
    /// Reads what follows the key.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<ExtendOptions, RequestError> {
        match (args.next(), args.next(), args.next()) {
            (Some(of), Some(ms), None) => Ok(ExtendOptions { token: token(of)?, length: positive(ms)? }),
            _ => Err(RequestError::Syntax),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use RequestError::{NotAnInteger, Syntax};

    fn words(line: &str) -> impl Iterator<Item = &[u8]> {
        line.split_whitespace().map(str::as_bytes)
    }

    fn fetch(line: &str) -> Result<FetchOptions, RequestError> {
        FetchOptions::parse(words(line))
    }

    #[test]
    fn every_word_of_fetch() {
        let all = fetch("lease 5000 Keep BLOCK 0 maxstale 0 beta 1.5 WITHTAGS").expect("valid");
        let expected = FetchOptions {
            lease: Some(Millis(5000)),
            keep: true,
            block: Some(Millis(0)),
            maxstale: Some(Millis(0)),
            beta: Some(1.5),
            with_tags: true,
        };
        assert_eq!(all, expected);
        assert_eq!(
            fetch("WITHTAGS beta 1.5 MAXSTALE 0 block 0 KEEP LEASE 5000"),
            Ok(expected),
            "in any order"
        );
        assert_eq!(fetch(""), Ok(FetchOptions::default()));
    }

    #[test]
    fn what_is_wrong_with_a_fetch_is_named() {
        for line in [
            "LEASE",
            "BLOCK",
            "BETA",
            "KEEP KEEP",
            "WITHTAGS WITHTAGS",
            "LEASE 1 LEASE 1",
            "BETA 1 BETA 1",
            "x",
        ] {
            assert_eq!(fetch(line), Err(Syntax), "{line}");
        }
        for line in [
            "LEASE 0",
            "LEASE -1",
            "LEASE x",
            "LEASE 1.5",
            "BLOCK -1",
            "BLOCK 9223372036854775807",
            "MAXSTALE -1",
            "MAXSTALE 281474976710655",
            "BETA x",
            "BETA -1",
            "BETA NaN",
            "BETA inf",
            "BETA -inf",
            "BETA infinity",
            "BETA 1e999",
            "BETA -0.0000001",
        ] {
            assert_eq!(fetch(line), Err(NotAnInteger), "{line}");
        }
        assert_eq!(FetchOptions::parse([&b"BETA"[..], b"\xff"].into_iter()), Err(NotAnInteger));
    }

    #[test]
    fn beta_has_one_zero() {
        for zero in ["0", "-0", "0.0", "-0.0", "0e5"] {
            let beta = fetch(&format!("BETA {zero}")).expect("valid").beta.expect("given");
            assert_eq!(beta.to_bits(), 0.0f64.to_bits(), "{zero}");
        }
    }

    #[test]
    fn locks() {
        let lock = |line| LockOptions::parse(words(line));
        assert_eq!(lock("100"), Ok(LockOptions { length: Millis(100), block: None }));
        assert_eq!(lock("100 block 0"), Ok(LockOptions { length: Millis(100), block: Some(Millis(0)) }));
        for line in ["", "100 BLOCK", "100 BLOCK 1 BLOCK 1", "100 RETRY 1", "100 x"] {
            assert_eq!(lock(line), Err(Syntax), "{line}");
        }
        for line in ["0", "-1", "x", "281474976710655", "5 BLOCK -1"] {
            assert_eq!(lock(line), Err(NotAnInteger), "{line}");
        }
        let unlock = |line| UnlockOptions::parse(words(line));
        assert_eq!(unlock("7"), Ok(UnlockOptions { token: Stamp(7), retry: None }));
        assert_eq!(unlock("7 retry 0"), Ok(UnlockOptions { token: Stamp(7), retry: Some(Millis(0)) }));
        assert_eq!(unlock("7 BLOCK 1"), Err(Syntax));
        assert_eq!(unlock("7 RETRY -1"), Err(NotAnInteger));
        assert_eq!(unlock("seven"), Err(NotAnInteger));
        for forged in ["0", "-5", "9007199254740992", "9223372036854775807"] {
            assert_eq!(unlock(forged).map(|o| o.token), Ok(Stamp(0)), "{forged}");
        }
        let extend = |line| ExtendOptions::parse(words(line));
        assert_eq!(extend("7 100"), Ok(ExtendOptions { token: Stamp(7), length: Millis(100) }));
        assert_eq!(extend("7"), Err(Syntax));
        assert_eq!(extend("7 1 1"), Err(Syntax));
        assert_eq!(extend("7 0"), Err(NotAnInteger));
    }

    proptest! {
        #[test]
        fn any_words_are_answered(words in proptest::collection::vec(
            "(LEASE|KEEP|BLOCK|MAXSTALE|BETA|WITHTAGS|RETRY|-?[0-9]{1,20}|-?[0-9.e]{1,6}|nan|inf|\\PC{0,4})", 0..8
        )) {
            let args = || words.iter().map(|word| word.as_bytes());
            if let Ok(options) = FetchOptions::parse(args()) {
                prop_assert!(options.beta.is_none_or(|b| b.is_finite() && b >= 0.0 && b.is_sign_positive()));
                prop_assert!(options.lease.is_none_or(|lease| lease > Millis::ZERO));
            }
            let _ = LockOptions::parse(args());
            let _ = UnlockOptions::parse(args());
            let _ = ExtendOptions::parse(args());
        }
    }
}
