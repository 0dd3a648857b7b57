//! The options of `CACHE.NAMESPACE SET`, from raw arguments, as
//! [`crate::request`] reads those of the data commands: case-insensitive, in
//! any order, each once. 0 unsets.

use crate::adaptive::Bounds;
use crate::number::{parse_bytes, parse_i64, parse_u64};
use crate::request::{bounds, once, RequestError};
use crate::settings::{Breaker, Changes, Policy, LARGEST, LONGEST};
use crate::units::Millis;

const SECOND: u64 = 1000;

/// A number within what may be set.
fn number(text: &[u8], read: fn(&[u8]) -> Option<u64>) -> Result<u64, RequestError> {
    read(text).filter(|&n| n <= LARGEST).ok_or(RequestError::NotAnInteger)
}

/// A time that may be zero, in units of `unit` milliseconds. What is wrong with
/// it is told as SET tells it.
fn time(text: &[u8], unit: u64) -> Result<Millis, RequestError> {
    let n = parse_i64(text).ok_or(RequestError::NotAnInteger)?;
    let n = u64::try_from(n).map_err(|_| RequestError::InvalidTime)?;
    let ms = n.checked_mul(unit).map(Millis).filter(|&ms| ms <= LONGEST);
    ms.ok_or(RequestError::InvalidTime)
}

/// Two bounds, in seconds as SET's EXAUTO has them; two zeros say "none".
fn exauto(min: &[u8], max: &[u8]) -> Result<Option<Bounds>, RequestError> {
    if (time(min, SECOND)?, time(max, SECOND)?) == (Millis::ZERO, Millis::ZERO) {
        return Ok(None);
    }
    bounds(min, max).map(Some)
}

/// A share and a rest; no share says "none", whatever the rest.
fn breaker(percent: &[u8], cooldown: &[u8]) -> Result<Option<Breaker>, RequestError> {
    let percent = parse_u64(percent).and_then(|n| u32::try_from(n).ok()).filter(|&n| n <= 100);
    let percent = percent.ok_or(RequestError::NotAnInteger)?;
    // Not an entry's time: out of range rather than an invalid expire time.
    let cooldown = Millis(number(cooldown, parse_u64)?);
    match percent {
        0 => Ok(None),
        _ if cooldown == Millis::ZERO || cooldown > LONGEST => Err(RequestError::NotAnInteger),
        _ => Ok(Some(Breaker { percent, cooldown })),
    }
}

fn policy(word: &[u8]) -> Result<Option<Policy>, RequestError> {
    match (word, Policy::read(word)) {
        (b"0", _) => Ok(None),
        (_, Some(policy)) => Ok(Some(policy)),
        (_, None) => Err(RequestError::Syntax),
    }
}

impl Changes {
    /// Reads what follows the name.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<Changes, RequestError> {
        let mut changes = Changes::default();
        while let Some(word) = args.next() {
            let is = |option: &str| word.eq_ignore_ascii_case(option.as_bytes());
            let mut value = || args.next().ok_or(RequestError::Syntax);
            match () {
                () if is("MAXMEMORY") => once(&mut changes.max_memory, number(value()?, parse_bytes)?)?,
                () if is("TTL") => once(&mut changes.ttl, time(value()?, 1)?)?,
                () if is("GRACE") => once(&mut changes.grace, time(value()?, 1)?)?,
                () if is("EXAUTO") => once(&mut changes.exauto, exauto(value()?, value()?)?)?,
                () if is("MAXFILLS") => once(&mut changes.max_fills, number(value()?, parse_u64)?)?,
                () if is("BREAKER") => once(&mut changes.breaker, breaker(value()?, value()?)?)?,
                () if is("POLICY") => once(&mut changes.policy, policy(value()?)?)?,
                () => return Err(RequestError::Syntax),
            }
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use proptest::prelude::*;
    use RequestError::{InvalidTime, NotAnInteger, Syntax};

    fn parse(line: &str) -> Result<Changes, RequestError> {
        Changes::parse(line.split_whitespace().map(str::as_bytes))
    }

    #[test]
    fn every_option() {
        let all = Changes {
            max_memory: Some(1 << 20),
            ttl: Some(Millis(5000)),
            grace: Some(Millis(0)),
            exauto: Some(Bounds::new(10, 60)),
            max_fills: Some(8),
            breaker: Some(Some(Breaker { percent: 100, cooldown: Millis(250) })),
            policy: Some(Some(Policy::None)),
        };
        let line = "maxmemory 1mb TTL 5000 Grace 0 exauto 10 60 MAXFILLS 8 breaker 100 250 POLICY None";
        assert_eq!(parse(line), Ok(all));
        let other = "POLICY none BREAKER 100 250 MAXFILLS 8 EXAUTO 10 60 GRACE 0 TTL 5000 MAXMEMORY 1048576";
        assert_eq!(parse(other), Ok(all), "in any order");
        assert_eq!(parse(""), Ok(Changes::default()));
        for policy in Policy::ALL {
            assert_eq!(
                parse(&format!("POLICY {}", policy.word())).map(|read| read.policy),
                Ok(Some(Some(policy)))
            );
        }
    }

    #[test]
    fn zeros_unset() {
        let zeros =
            parse("MAXMEMORY 0 TTL 0 GRACE 0 EXAUTO 0 0 MAXFILLS 0 BREAKER 0 0 POLICY 0").expect("valid");
        let set =
            parse("MAXMEMORY 1 TTL 1 GRACE 1 EXAUTO 1 1 MAXFILLS 1 BREAKER 1 1 POLICY cost").expect("valid");
        assert!(!Settings::default().with(&set).with(&zeros).is_any());
        assert_eq!(parse("BREAKER 0 500").map(|read| read.breaker), Ok(Some(None)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for line in [
            "TTL",
            "EXAUTO 1",
            "BREAKER 50",
            "POLICY",
            "POLICY lfu",
            "TTL 1 TTL 1",
            "BREAKER 1 1 BREAKER 1 1",
            "EX 5",
            "x",
        ] {
            assert_eq!(parse(line), Err(Syntax), "{line}");
        }
        for line in [
            "TTL x",
            "TTL 1.5",
            "GRACE 01",
            "MAXMEMORY -1",
            "MAXMEMORY 1tb",
            "MAXMEMORY 9223372036854775808",
            "MAXFILLS -1",
            "MAXFILLS 1k",
            "BREAKER 101 5",
            "BREAKER -1 5",
            "BREAKER 50 x",
            "BREAKER 50 0",
            "BREAKER 50 -1",
            "BREAKER 0 -1",
            "BREAKER 50 70368744177665",
            "EXAUTO 1 x",
            "EXAUTO TTL 5",
        ] {
            assert_eq!(parse(line), Err(NotAnInteger), "{line}");
        }
        for line in [
            "TTL -1",
            "GRACE -5",
            "EXAUTO 0 5",
            "EXAUTO 6 5",
            "EXAUTO -1 5",
            "EXAUTO 5 0",
            "TTL 70368744177665",
            "EXAUTO 1 4294967296",
            "EXAUTO 1 9223372036854775807",
        ] {
            assert_eq!(parse(line), Err(InvalidTime), "{line}");
        }
        assert!(parse("TTL 70368744177664 EXAUTO 1 4294967295").is_ok());
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_sound(
            words in proptest::collection::vec(
                "(MAXMEMORY|TTL|GRACE|EXAUTO|MAXFILLS|BREAKER|POLICY|cost|-?[0-9]{1,20}|[0-9]{1,2}|\\PC{0,4})",
                0..8,
            ),
        ) {
            if let Ok(changes) = Changes::parse(words.iter().map(|word| word.as_bytes())) {
                prop_assert!(Settings::default().with(&changes).is_sound());
            }
        }

        #[test]
        fn options_with_numbers_are_sound_or_refused(
            options in proptest::collection::vec(
                ("(MAXMEMORY|TTL|GRACE|EXAUTO|MAXFILLS|BREAKER)", any::<i64>(), -2i64..200), 0..4),
        ) {
            let mut words = Vec::new();
            for (option, wide, narrow) in &options {
                words.push(option.clone());
                words.push(narrow.to_string());
                if matches!(option.as_str(), "EXAUTO" | "BREAKER") {
                    words.push(wide.to_string());
                }
            }
            if let Ok(changes) = Changes::parse(words.iter().map(|word| word.as_bytes())) {
                prop_assert!(Settings::default().with(&changes).is_sound());
            }
        }
    }
}
