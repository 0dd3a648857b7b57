//! The directives, `cacheflow.*`. Each stands in redis.conf.example as a
//! trade-off.
//!
//! A value comes from, the later winning: the default here, the module's
//! arguments (`loadmodule libcacheflow.so max-value-size 1mb`), redis.conf,
//! CONFIG SET.

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicI64, AtomicU8};

use cacheflow_core::companion;
use cacheflow_core::entry::LONGEST_VALUE;
use cacheflow_core::leases::queue::MOST_WAITERS;
use cacheflow_core::number::{parse_bytes, parse_decimal, parse_i64};
use cacheflow_core::tag::{Limits, LONGEST_TAG, MOST_TAGS};
use cacheflow_core::times::Jitter;

use crate::evict;
use crate::ffi::args::Args;
use crate::ffi::choice::Choice;
use crate::ffi::config::{self, Byte, Decimal, Number};
use crate::ffi::ctx::Ctx;
use crate::ffi::text::Text;
use crate::state;

/// The longest value that SET takes.
pub static MAX_VALUE_SIZE: Number = Number {
    name: c"max-value-size",
    value: AtomicI64::new(LONGEST_VALUE as i64),
    default: LONGEST_VALUE as i64,
    min: 1,
    max: LONGEST_VALUE as i64,
    bytes: true,
    changed: None,
};

/// From how many bytes on a value is packed where that saves memory; 0: none is.
pub static COMPRESS_MIN_SIZE: Number =
    Number { bytes: true, ..count(c"compress-min-size", 0, 0, LONGEST_VALUE as i64) };
/// Up to how many: a byte takes some 5 ns (`bench compression`), on the server's one
/// thread, and nothing of ours is to hold that up for a millisecond.
pub static COMPRESS_MAX_SIZE: Number =
    Number { bytes: true, ..count(c"compress-max-size", 128 << 10, 1, LONGEST_VALUE as i64) };
/// How many µs of each millisecond the sweep may have.
pub static SWEEP_BUDGET_US: Number = count(c"sweep-budget-us", 100, 10, 1000);
/// How long an invalidation is remembered of which no entry reminds, in ms.
pub static TOMBSTONE_TTL: Number = count(c"tombstone-ttl", 300_000, 1, i64::MAX / 1000);
/// How many of those are remembered at most.
pub static MAX_TOMBSTONES: Number = count(c"max-tombstones", 1 << 18, 0, i64::MAX);
/// The most tags that SET and TAG give an entry.
pub static MAX_TAGS_PER_ENTRY: Number = count(c"max-tags-per-entry", 256, 0, MOST_TAGS as i64);
/// The longest tag that they take, in bytes.
pub static MAX_TAG_LENGTH: Number = count(c"max-tag-length", 1024, 0, LONGEST_TAG as i64);
/// By how much the clocks of a cluster's nodes may differ, in ms.
pub static MAX_CLOCK_SKEW: Number = count(c"max-clock-skew", 500, 0, i64::MAX / 1000);
/// How many invalidations CACHE.LOG remembers.
pub static LOG_MAX_LEN: Number = count(c"log-max-len", 128, 0, 1_000_000);

/// The longest lease of FETCH, and how long a token is remembered, in ms.
pub static LEASE_MAX: Number = count(c"lease-max", 600_000, 1, i64::MAX / 1000);
/// Keys that may have leases, locks and waiters, or are remembered for some.
pub static MAX_LEASES: Number = count(c"max-leases", 100_000, 1, 100_000_000);
/// Clients that may wait at once.
pub static MAX_WAITERS: Number = count(c"max-waiters", 10_000, 0, MOST_WAITERS as i64);
/// The same, for one key.
pub static MAX_WAITERS_PER_KEY: Number = count(c"max-waiters-per-key", 10_000, 0, MOST_WAITERS as i64);
/// How long INVALIDATE waits for the other primaries without TIMEOUT, in ms; 0:
/// without an end.
pub static INVALIDATE_TIMEOUT: Number = count(c"invalidate-timeout", 1000, 0, i64::MAX / 1000);
/// How many replicas of a primary must have an invalidation before the primary
/// acknowledges it.
pub static INVALIDATE_MIN_REPLICAS: Number = count(c"invalidate-min-replicas", 0, 0, 1000);
/// Candidates of CACHE.REFRESH that are kept; 0: none.
pub static REFRESH_KEYS: Number = count(c"refresh-keys", 4096, 0, 65_536);
/// XFetch's beta where FETCH names none.
pub static XFETCH_BETA: Decimal = Decimal::new(c"xfetch-beta", c"1");
/// The share of reads that EXAUTO's TTLs let be stale.
pub static STALE_TARGET: Decimal = Decimal::new(c"stale-target", c"0.01");
/// By how many percent TTLs vary.
pub static TTL_JITTER: Number = count(c"ttl-jitter", 0, 0, 50);

/// What everything of ours may take, in bytes; 0: no limit.
pub static MAX_MEMORY: Number = Number {
    name: c"max-memory",
    value: AtomicI64::new(0),
    default: 0,
    min: 0,
    max: i64::MAX,
    bytes: true,
    changed: Some(evict::on_limits),
};
/// The percentage of the server's own maxmemory past which entries go; 0: never.
pub static EVICT_AT: Number = Number { changed: Some(evict::on_limits), ..count(c"evict-at", 0, 0, 100) };
/// Who is evicted, where the namespace does not say.
pub static EVICT_POLICY: Choice = Choice::new(c"evict-policy", &[c"cost", c"lru", c"none"], 0);
/// What an entry's worth is multiplied by.
pub static EVICT_WEIGHT: Choice = Choice::new(c"evict-weight", &[c"none", c"size", c"cost", c"cost-size"], 3);

const fn count(name: &'static CStr, default: i64, min: i64, max: i64) -> Number {
    Number { name, value: AtomicI64::new(default), default, min, max, bytes: false, changed: None }
}

/// The limits on tags.
pub fn tag_limits() -> Limits {
    let of = |number: &Number| usize::try_from(number.get()).unwrap_or(0);
    Limits { tags: of(&MAX_TAGS_PER_ENTRY), length: of(&MAX_TAG_LENGTH) }
}

/// The jitter of an entry that is written now.
pub fn jitter() -> Jitter {
    match u8::try_from(TTL_JITTER.get()) {
        Err(_) | Ok(0) => Jitter::default(),
        Ok(percent) => Jitter { percent, dice: state::dice() },
    }
}

/// What ends a key's namespace.
pub static NAMESPACE_DELIMITER: Byte =
    Byte { name: c"namespace-delimiter", value: AtomicU8::new(b':'), default: b':' };

/// What names of companions begin with.
pub static COMPANION_PREFIX: Text = Text::new(
    c"companion-prefix",
    c"~cf",
    companion::is_prefix,
    "must be 1 to 32 printable ASCII characters without blanks and braces",
);

/// The key that this is the name of the companion of.
#[inline]
pub fn key_of_companion(name: &[u8]) -> Option<&[u8]> {
    companion::key_of(COMPANION_PREFIX.get(), name)
}

/// The name of a native key's companion.
pub fn companion_of(key: &[u8]) -> Vec<u8> {
    companion::name(COMPANION_PREFIX.get(), key)
}

/// Whether a name is reserved for companions.
#[inline]
pub fn is_reserved(name: &[u8]) -> bool {
    companion::is_reserved(COMPANION_PREFIX.get(), name)
}

static NUMBERS: &[&Number] = &[
    &MAX_VALUE_SIZE,
    &COMPRESS_MIN_SIZE,
    &COMPRESS_MAX_SIZE,
    &SWEEP_BUDGET_US,
    &TOMBSTONE_TTL,
    &MAX_TOMBSTONES,
    &MAX_CLOCK_SKEW,
    &MAX_TAGS_PER_ENTRY,
    &MAX_TAG_LENGTH,
    &LOG_MAX_LEN,
    &LEASE_MAX,
    &MAX_LEASES,
    &MAX_WAITERS,
    &MAX_WAITERS_PER_KEY,
    &REFRESH_KEYS,
    &INVALIDATE_TIMEOUT,
    &INVALIDATE_MIN_REPLICAS,
    &MAX_MEMORY,
    &EVICT_AT,
    &TTL_JITTER,
];
static DECIMALS: &[&Decimal] = &[&XFETCH_BETA, &STALE_TARGET];
static CHOICES: &[&Choice] = &[&EVICT_POLICY, &EVICT_WEIGHT];
static BYTES: &[&Byte] = &[&NAMESPACE_DELIMITER];
static TEXTS: &[&Text] = &[&COMPANION_PREFIX];

/// What the module's arguments say.
#[derive(Debug, Default, PartialEq)]
pub struct Arguments {
    numbers: Vec<(usize, i64)>,
    bytes: Vec<(usize, u8)>,
    decimals: Vec<(usize, CString)>,
    choices: Vec<(usize, usize)>,
    texts: Vec<(usize, CString)>,
    /// `debug yes`: the commands for tests are there.
    pub debug: bool,
}

impl Arguments {
    /// Reads the module's arguments: names of directives, each with a value.
    ///
    /// # Errors
    /// A sentence that names what is wrong.
    pub fn parse<'a>(mut args: impl Iterator<Item = &'a [u8]>) -> Result<Arguments, String> {
        let mut parsed = Arguments::default();
        while let Some(name) = args.next() {
            let shown = String::from_utf8_lossy(name);
            let value = args.next().ok_or(format!("module argument '{shown}' has no value"))?;
            let wrong = || {
                let value = String::from_utf8_lossy(value);
                format!("module argument '{shown}' has the invalid value '{value}'")
            };
            if name == b"debug" {
                parsed.debug = match value {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(wrong()),
                };
            } else if let Some(at) = NUMBERS.iter().position(|n| n.name.to_bytes() == name) {
                let number = NUMBERS[at];
                let read = if number.bytes {
                    parse_bytes(value).and_then(|n| i64::try_from(n).ok())
                } else {
                    parse_i64(value)
                };
                let read = read.filter(|n| (number.min..=number.max).contains(n)).ok_or_else(wrong)?;
                parsed.numbers.push((at, read));
            } else if let Some(at) = BYTES.iter().position(|b| b.name.to_bytes() == name) {
                let [byte] = value else { return Err(wrong()) };
                parsed.bytes.push((at, *byte));
            } else if let Some(at) = DECIMALS.iter().position(|d| d.name.to_bytes() == name) {
                parse_decimal(value).ok_or_else(wrong)?;
                parsed.decimals.push((at, CString::new(value).map_err(|_| wrong())?));
            } else if let Some(at) = CHOICES.iter().position(|c| c.name.to_bytes() == name) {
                let place = CHOICES[at].words.iter().position(|word| word.to_bytes() == value);
                parsed.choices.push((at, place.ok_or_else(wrong)?));
            } else if let Some(at) = TEXTS.iter().position(|t| t.name.to_bytes() == name) {
                let text = Some(value).filter(|value| (TEXTS[at].accepts)(value)).ok_or_else(wrong)?;
                parsed.texts.push((at, CString::new(text).map_err(|_| wrong())?));
            } else {
                return Err(format!("unknown module argument '{shown}'"));
            }
        }
        Ok(parsed)
    }

    /// Registers every directive, the arguments' values as defaults, and takes
    /// the values of redis.conf.
    ///
    /// # Errors
    /// Where the server refuses one; it has logged which.
    pub fn register(&self, ctx: Ctx) -> Result<(), &'static str> {
        for (i, number) in NUMBERS.iter().enumerate() {
            let given = self.numbers.iter().rev().find(|(at, _)| *at == i);
            number.register(ctx, given.map_or(number.default, |(_, value)| *value))?;
        }
        for (i, decimal) in DECIMALS.iter().enumerate() {
            let given = self.decimals.iter().rev().find(|(at, _)| *at == i);
            decimal.register(ctx, given.map_or(decimal.default, |(_, text)| text))?;
        }
        for (i, choice) in CHOICES.iter().enumerate() {
            let given = self.choices.iter().rev().find(|(at, _)| *at == i);
            choice.register(ctx, given.map_or(choice.default, |(_, place)| *place))?;
        }
        for (i, byte) in BYTES.iter().enumerate() {
            let given = self.bytes.iter().rev().find(|(at, _)| *at == i);
            byte.register(ctx, given.map_or(byte.default, |(_, value)| *value))?;
        }
        for (i, text) in TEXTS.iter().enumerate() {
            let given = self.texts.iter().rev().find(|(at, _)| *at == i);
            text.register(ctx, given.map_or(text.default, |(_, word)| word))?;
        }
        config::load(ctx)
    }
}

/// Reads the arguments that the module was loaded with.
///
/// # Errors
/// A sentence that names what is wrong.
pub fn arguments(args: Args<'_>) -> Result<Arguments, String> {
    Arguments::parse(args.from(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(str::as_bytes))
    }

    #[test]
    fn arguments_are_directives_with_values() {
        let parsed = parse(
            "max-value-size 1mb debug yes namespace-delimiter / xfetch-beta 1.5 companion-prefix _tags",
        )
        .expect("valid");
        assert_eq!(
            parsed,
            Arguments {
                numbers: vec![(0, 1 << 20)],
                bytes: vec![(0, b'/')],
                decimals: vec![(0, c"1.5".into())],
                choices: vec![],
                texts: vec![(0, c"_tags".into())],
                debug: true
            }
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, word) in [
            ("bogus 1", "unknown module argument 'bogus'"),
            ("max-value-size", "has no value"),
            ("max-value-size 0", "invalid value '0'"),
            ("max-value-size 1tb", "invalid value '1tb'"),
            ("namespace-delimiter ::", "invalid value '::'"),
            ("xfetch-beta -1", "invalid value '-1'"),
            ("evict-weight heavy", "invalid value 'heavy'"),
            ("evict-at 101", "invalid value '101'"),
            ("companion-prefix a{", "invalid value 'a{'"),
            ("debug maybe", "invalid value 'maybe'"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}
