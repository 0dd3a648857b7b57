//! The options of HOTKEYS and REFRESH, from raw arguments, as
//! [`crate::request`] reads those of the data commands.

use crate::hotkeys::{Metric, KEPT};
use crate::number::parse_u64;
use crate::request::{once, RequestError};
use crate::request_lease::{is, length, positive};
use crate::units::Millis;

/// `CACHE.HOTKEYS [BY HITS|COST|BYTES|WAITS] [COUNT n]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HotKeysOptions {
    /// `BY`.
    pub by: Metric,
    /// `COUNT`.
    pub count: usize,
}

/// Keys that HOTKEYS shows without COUNT.
const SHOWN: usize = 10;

/// `CACHE.REFRESH [NAMESPACE name] [COUNT n] [LEASE ms] [BLOCK ms]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshOptions<'a> {
    /// `NAMESPACE`.
    pub namespace: Option<&'a [u8]>,
    /// `COUNT`.
    pub count: usize,
    /// `LEASE`.
    pub lease: Option<Millis>,
    /// `BLOCK`; zero: without a limit.
    pub block: Option<Millis>,
}

/// Keys that one REFRESH is given at most: a worker that takes more than it can
/// compute within a lease keeps others from them.
const MOST_OFFERED: usize = 1000;

/// A number of things; what is more than `most` is that.
fn count(text: &[u8], most: usize) -> Result<usize, RequestError> {
    match parse_u64(text) {
        Some(0) => Err(RequestError::Syntax),
        Some(n) => Ok(usize::try_from(n).map_or(most, |n| n.min(most))),
        None => Err(RequestError::NotAnInteger),
    }
}

impl HotKeysOptions {
    /// Reads what follows the command.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<HotKeysOptions, RequestError> {
        let (mut by, mut counted) = (None, None);
        while let Some(word) = args.next() {
            let value = args.next().ok_or(RequestError::Syntax)?;
            if is(word, "BY") {
                let metrics = [
                    ("HITS", Metric::Hits),
                    ("COST", Metric::Cost),
                    ("BYTES", Metric::Bytes),
                    ("WAITS", Metric::Waits),
                ];
                let named = metrics.into_iter().find(|(name, _)| is(value, name));
                once(&mut by, named.ok_or(RequestError::Syntax)?.1)?;
            } else if is(word, "COUNT") {
                once(&mut counted, count(value, KEPT)?)?;
            } else {
                return Err(RequestError::Syntax);
            }
        }
        Ok(HotKeysOptions { by: by.unwrap_or(Metric::Hits), count: counted.unwrap_or(SHOWN) })
    }
}

impl<'a> RefreshOptions<'a> {
    /// Reads what follows the command.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse(mut args: impl Iterator<Item = &'a [u8]>) -> Result<RefreshOptions<'a>, RequestError> {
        let (mut namespace, mut counted, mut lease, mut block) = (None, None, None, None);
        while let Some(word) = args.next() {
            let value = args.next().ok_or(RequestError::Syntax)?;
            match () {
                () if is(word, "NAMESPACE") => once(&mut namespace, value)?,
                () if is(word, "COUNT") => once(&mut counted, count(value, MOST_OFFERED)?)?,
                () if is(word, "LEASE") => once(&mut lease, positive(value)?)?,
                () if is(word, "BLOCK") => once(&mut block, length(value)?)?,
                () => return Err(RequestError::Syntax),
            }
        }
        Ok(RefreshOptions { namespace, count: counted.unwrap_or(1), lease, block })
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

    #[test]
    fn hotkeys() {
        let hotkeys = |line| HotKeysOptions::parse(words(line)).map(|of| (of.by, of.count));
        assert_eq!(hotkeys(""), Ok((Metric::Hits, 10)));
        assert_eq!(hotkeys("by cost count 3"), Ok((Metric::Cost, 3)));
        assert_eq!(hotkeys("COUNT 99999999999 BY Waits"), Ok((Metric::Waits, KEPT)));
        for line in ["BY", "BY KEYS", "COUNT", "COUNT 0", "BY HITS BY HITS", "COUNT 1 COUNT 1", "x y", "HITS"]
        {
            assert_eq!(hotkeys(line), Err(Syntax), "{line}");
        }
        for line in ["COUNT -1", "COUNT x", "COUNT 1.5"] {
            assert_eq!(hotkeys(line), Err(NotAnInteger), "{line}");
        }
    }

    #[test]
    fn refresh() {
        let refresh = |line| RefreshOptions::parse(words(line));
        let none = RefreshOptions { namespace: None, count: 1, lease: None, block: None };
        assert_eq!(refresh(""), Ok(none));
        let all = RefreshOptions {
            namespace: Some(b"n"),
            count: 5,
            lease: Some(Millis(9)),
            block: Some(Millis(0)),
        };
        assert_eq!(refresh("BLOCK 0 lease 9 Count 5 namespace n"), Ok(all));
        assert_eq!(refresh("COUNT 1001").map(|of| of.count), Ok(1000));
        for line in
            ["NAMESPACE", "COUNT 0", "LEASE", "BLOCK 1 BLOCK 1", "NAMESPACE a NAMESPACE b", "a b", "a"]
        {
            assert_eq!(refresh(line), Err(Syntax), "{line}");
        }
        for line in ["LEASE 0", "LEASE x", "BLOCK -1", "COUNT -1"] {
            assert_eq!(refresh(line), Err(NotAnInteger), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_words_are_answered(words in proptest::collection::vec(
            "(BY|HITS|COST|BYTES|WAITS|COUNT|NAMESPACE|LEASE|BLOCK|-?[0-9]{1,20}|\\PC{0,4})", 0..8
        )) {
            let args = || words.iter().map(|word| word.as_bytes());
            prop_assert!(HotKeysOptions::parse(args()).map_or(true, |of| (1..=KEPT).contains(&of.count)));
            prop_assert!(RefreshOptions::parse(args()).map_or(true, |of| (1..=MOST_OFFERED).contains(&of.count)));
        }
    }
}
