//! The options of the commands that invalidate, list and look, from raw
//! arguments.

use crate::index::Mode;
use crate::number::parse_u64;
use crate::request::RequestError;
use crate::units::Millis;

/// `CACHE.INVALIDATE …`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidateOptions {
    /// Hard, or `SOFT`.
    pub mode: Mode,
    /// `LOCAL`: this shard alone.
    pub local: bool,
    /// `TIMEOUT`.
    pub timeout: Option<Millis>,
    /// `NAMESPACE`, not `TAGS`.
    pub namespaces: bool,
    /// How many arguments at the end are names.
    pub names: usize,
}

impl InvalidateOptions {
    /// Reads what follows the command.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse<'a>(
        mut args: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> Result<InvalidateOptions, RequestError> {
        let (mut soft, mut local, mut timeout) = (None, None, None);
        while let Some(arg) = args.next() {
            let is = |word: &[u8]| arg.eq_ignore_ascii_case(word);
            let place = match () {
                () if is(b"TAGS") || is(b"NAMESPACE") => {
                    if args.len() == 0 {
                        return Err(RequestError::Syntax);
                    }
                    return Ok(InvalidateOptions {
                        mode: if soft.is_some() { Mode::Soft } else { Mode::Hard },
                        local: local.is_some(),
                        timeout,
                        namespaces: is(b"NAMESPACE"),
                        names: args.len(),
                    });
                }
                () if is(b"SOFT") => &mut soft,
                () if is(b"LOCAL") => &mut local,
                () if is(b"TIMEOUT") && timeout.is_none() => {
                    let ms = args.next().ok_or(RequestError::Syntax)?;
                    timeout = Some(Millis(parse_u64(ms).ok_or(RequestError::NotAnInteger)?));
                    continue;
                }
                () => return Err(RequestError::Syntax),
            };
            if place.replace(()).is_some() {
                return Err(RequestError::Syntax);
            }
        }
        Err(RequestError::Syntax)
    }
}

/// `… cursor [MATCH pattern] [COUNT n]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page<'a> {
    /// Where to go on; 0: the start.
    pub cursor: u64,
    /// `MATCH`.
    pub pattern: Option<&'a [u8]>,
    /// `COUNT`: steps to take.
    pub count: usize,
}

/// SCAN's default.
const COUNT: usize = 10;
/// Steps that one call takes at most, whatever is asked for: some
/// milliseconds' worth.
const MOST_STEPS: usize = 10_000;

impl<'a> Page<'a> {
    /// Reads the cursor and what follows; `matches`: whether MATCH is known.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse(mut args: impl Iterator<Item = &'a [u8]>, matches: bool) -> Result<Page<'a>, RequestError> {
        let cursor = args.next().and_then(parse_u64).ok_or(RequestError::Cursor)?;
        let mut page = Page { cursor, pattern: None, count: COUNT };
        let mut counted = false;
        while let Some(word) = args.next() {
            let value = args.next().ok_or(RequestError::Syntax)?;
            if word.eq_ignore_ascii_case(b"COUNT") && !counted {
                counted = true;
                page.count = match parse_u64(value) {
                    Some(0) => return Err(RequestError::Syntax),
                    Some(n) => usize::try_from(n).map_or(MOST_STEPS, |n| n.min(MOST_STEPS)),
                    None => return Err(RequestError::NotAnInteger),
                };
            } else if word.eq_ignore_ascii_case(b"MATCH") && matches && page.pattern.is_none() {
                page.pattern = Some(value);
            } else {
                return Err(RequestError::Syntax);
            }
        }
        Ok(page)
    }
}

/// `CACHE.LOG [count]` · `CACHE.LOG RESET`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRequest {
    /// So many records, the newest first.
    Show(usize),
    /// Forget them.
    Reset,
}

impl LogRequest {
    /// Reads what follows the command.
    ///
    /// # Errors
    /// [`RequestError`] names what is wrong.
    pub fn parse(option: Option<&[u8]>) -> Result<LogRequest, RequestError> {
        match option {
            None => Ok(LogRequest::Show(COUNT)),
            Some(word) if word.eq_ignore_ascii_case(b"RESET") => Ok(LogRequest::Reset),
            Some(count) => {
                let count = parse_u64(count).ok_or(RequestError::NotAnInteger)?;
                Ok(LogRequest::Show(usize::try_from(count).unwrap_or(usize::MAX)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn invalidate(line: &str) -> Result<InvalidateOptions, RequestError> {
        let words: Vec<&[u8]> = line.split_whitespace().map(str::as_bytes).collect();
        InvalidateOptions::parse(words.into_iter())
    }

    fn page(line: &str) -> Result<Page<'_>, RequestError> {
        Page::parse(line.split_whitespace().map(str::as_bytes), true)
    }

    #[test]
    fn invalidations() {
        let plain =
            InvalidateOptions { mode: Mode::Hard, local: false, timeout: None, namespaces: false, names: 2 };
        assert_eq!(invalidate("TAGS a b"), Ok(plain));
        assert_eq!(invalidate("tags SOFT LOCAL"), Ok(plain), "the rest of the line are names");
        assert_eq!(
            invalidate("timeout 5 Local SOFT namespace n"),
            Ok(InvalidateOptions {
                mode: Mode::Soft,
                local: true,
                timeout: Some(Millis(5)),
                namespaces: true,
                names: 1
            })
        );
        for line in [
            "",
            "TAGS",
            "SOFT",
            "SOFT SOFT TAGS a",
            "a",
            "TIMEOUT",
            "TIMEOUT 1",
            "TIMEOUT 1 TIMEOUT 2 TAGS a",
        ] {
            assert_eq!(invalidate(line), Err(RequestError::Syntax), "{line}");
        }
        assert_eq!(invalidate("TIMEOUT x TAGS a"), Err(RequestError::NotAnInteger));
        assert_eq!(invalidate("TIMEOUT -1 TAGS a"), Err(RequestError::NotAnInteger));
    }

    #[test]
    fn pages() {
        assert_eq!(page("0"), Ok(Page { cursor: 0, pattern: None, count: COUNT }));
        assert_eq!(page("7 count 5 Match a*"), Ok(Page { cursor: 7, pattern: Some(b"a*"), count: 5 }));
        assert_eq!(page("0 COUNT 99999999999").map(|page| page.count), Ok(MOST_STEPS));
        for line in ["0 COUNT", "0 COUNT 0", "0 MATCH", "0 x y", "0 COUNT 1 COUNT 2", "0 MATCH a MATCH b"] {
            assert_eq!(page(line), Err(RequestError::Syntax), "{line}");
        }
        assert_eq!(page("x"), Err(RequestError::Cursor));
        assert_eq!(page(""), Err(RequestError::Cursor));
        assert_eq!(page("0 COUNT -1"), Err(RequestError::NotAnInteger));
        assert_eq!(Page::parse([&b"0"[..], b"MATCH", b"a"].into_iter(), false), Err(RequestError::Syntax));
    }

    #[test]
    fn logs() {
        assert_eq!(LogRequest::parse(None), Ok(LogRequest::Show(COUNT)));
        assert_eq!(LogRequest::parse(Some(b"3")), Ok(LogRequest::Show(3)));
        assert_eq!(LogRequest::parse(Some(b"reset")), Ok(LogRequest::Reset));
        assert_eq!(LogRequest::parse(Some(b"-1")), Err(RequestError::NotAnInteger));
    }

    proptest! {
        #[test]
        fn any_words_are_answered(words in proptest::collection::vec("(SOFT|LOCAL|TIMEOUT|TAGS|NAMESPACE|MATCH|COUNT|-?[0-9]{1,20}|\\PC{0,4})", 0..8)) {
            let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
            let _ = InvalidateOptions::parse(words.iter().copied());
            let _ = Page::parse(words.iter().copied(), true);
            let _ = LogRequest::parse(words.first().copied());
        }
    }
}
