//! Adaptive TTL (`EXAUTO min max`): how long an entry is fresh, from how often
//! its source was found changed when it was refilled.
//!
//! # The estimate
//! A refill after the interval x tells whether the source changed within x, and
//! not how often: so the number of changes seen falls short of the number there
//! were, the more the longer x is. This is the problem of Cho and Garcia-Molina,
//! "Estimating frequency of change", TOIT 3(3), 2003. Changes are taken for a
//! Poisson process whose rate λ has a Gamma prior; X counts changes, T is the
//! time in which they were seen:
//!
//! ```text
//! unchanged   T ← T + x
//! changed     X ← 0.8·X + 1     T ← 0.8·T + 1/λ − x/(e^(λx) − 1)
//! λ = (1 + X) / (1/λ_prior + T)           TTL = 2ε/λ, within [min, max]
//! ```
//! What a change adds to T is when the first change within x is to be expected.
//! 0.8 forgets: X stays below 5, so that some five changes decide, and a source
//! that has become livelier is noticed within as many. A TTL of 2ε/λ has, with
//! reads spread evenly over it, the share ε of them answered with what has
//! changed already (the directive `cacheflow.stale-target`). λ_prior is what the
//! entry's tag and its namespace were found to do ([`crate::rates`]).
//!
//! # What is an example
//! A SET or TOUCH over an entry that is there, fresh or stale, or that went at
//! the end of its time and is remembered ([`Past`]). An explicit invalidation in
//! between is none: whoever invalidates takes care of those changes himself, and
//! the TTL is for the others. The first TTL is min.
//!
//! # The bits
//! ```text
//! byte 0        4        8        12         14        16
//! ┌────────────┬────────┬────────┬──────────┬─────────┬──────────────┐
//! │ min u32 s  │ max    │ digest │ T u16    │ refills │ why 3, X 5   │
//! └────────────┴────────┴────────┴──────────┴─────────┴──────────────┘
//! ```
//! X is a function of how many changes were seen, which is what 5 bits hold. T
//! has a mantissa of 11 bits and an exponent of 5, in ms up to 139 years;
//! rounding it takes dice, for a step too small to be held would never be taken.

use xxhash_rust::xxh3::xxh3_64;

use crate::entry::Meta;
use crate::packing::Content;
use crate::units::{Millis, Stamp, Time};

/// Bytes of it in an entry.
pub const BYTES: usize = 17;

/// The weight of what was seen before, once a change is seen.
const KEPT: f64 = 0.8;
/// The most changes that are told apart: X is within 0.1 % of its limit then.
const MOST_CHANGES: u8 = 31;
const MANTISSA: u32 = 11;
/// The longest T.
const LONGEST: u64 = ((2 << MANTISSA) - 1) << 30;
/// Means are kept in this range, in ms: a rate is then neither 0 nor infinite.
const MEANS: (f64, f64) = (1.0, LONGEST as f64);

/// `min` and `max` in whole seconds, 1 ≤ min ≤ max.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    min: u32,
    max: u32,
}

impl Bounds {
    /// The bounds of so many seconds; `None` where they are none.
    pub fn new(min: u32, max: u32) -> Option<Bounds> {
        (1 <= min && min <= max).then_some(Bounds { min, max })
    }

    /// In seconds, as they were given.
    pub fn seconds(self) -> [u32; 2] {
        [self.min, self.max]
    }

    /// The shortest TTL.
    pub fn min(self) -> Millis {
        Millis(u64::from(self.min) * 1000)
    }

    /// The longest TTL.
    pub fn max(self) -> Millis {
        Millis(u64::from(self.max) * 1000)
    }
}

/// What tells one value from another: two that differ agree once in 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(pub u32);

/// The digest of a value.
pub fn digest(value: &[u8]) -> Digest {
    // The low half: all bits of xxh3 are as good.
    Digest(xxh3_64(value) as u32)
}

/// The same of a value in an entry: packed or not, of what it is to a reader. One
/// that does not unpack is another than any refill brings.
fn digest_of(value: Content<'_>) -> Digest {
    match value {
        Content::Plain(bytes) => digest(bytes),
        Content::Packed(packed) => digest(packed.unpack(&mut Vec::new()).unwrap_or(value.stored())),
    }
}

/// Why a TTL is what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Why {
    /// Nothing has been seen yet: min.
    #[default]
    First,
    /// By what was seen of the tag or the namespace more than of the entry.
    Prior,
    /// By what was seen of the entry.
    Estimate,
    /// It would have been shorter.
    Min,
    /// It would have been longer.
    Max,
}

impl Why {
    const ALL: [Why; 5] = [Why::First, Why::Prior, Why::Estimate, Why::Min, Why::Max];

    /// Its name on the wire.
    pub fn label(self) -> &'static str {
        match self {
            Why::First => "first",
            Why::Prior => "prior",
            Why::Estimate => "estimate",
            Why::Min => "min",
            Why::Max => "max",
        }
    }
}

/// What the refills of an entry have told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    changes: u8,
    exposure: u16,
    refills: u16,
}

/// The mean time between two changes, in ms.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Mean(pub f64);

impl Mean {
    /// So long, within what can be reckoned with; no number is the longest.
    pub fn new(ms: f64) -> Mean {
        Mean(if ms.is_nan() { MEANS.1 } else { ms.clamp(MEANS.0, MEANS.1) })
    }
}

/// What one refill told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lesson {
    /// The source had changed.
    pub changed: bool,
    /// For how long it had been seen unchanged.
    pub exposure: Millis,
}

impl Record {
    /// Refills that told something, up to 65,535.
    pub fn refills(self) -> u16 {
        self.refills
    }

    /// The weight of the changes seen: X.
    fn weight(self) -> f64 {
        (1.0 - KEPT.powi(i32::from(self.changes))) / (1.0 - KEPT)
    }

    /// The time that was seen: T.
    fn exposure(self) -> f64 {
        let (m, e) = (u64::from(self.exposure & ((1 << MANTISSA) - 1)), self.exposure >> MANTISSA);
        let ms = if e == 0 { m } else { (m + (1 << MANTISSA)) << (e - 1) };
        ms as f64
    }

    fn set_exposure(&mut self, ms: f64, dice: u32) {
        let ms = ms.clamp(0.0, LONGEST as f64);
        let exponent = if ms < f64::from(2u32 << MANTISSA) { 0 } else { (ms as u64).ilog2() - MANTISSA };
        let steps = ms / (1u64 << exponent) as f64;
        let up = steps.fract() * 2f64.powi(32) > f64::from(dice);
        let whole = steps as u64 + u64::from(up);
        // The mantissa's leading one is the exponent's last bit. Past the longest
        // it stays that.
        let bits = whole + (u64::from(exponent) << MANTISSA);
        self.exposure = u16::try_from(bits).unwrap_or(u16::MAX);
    }

    /// The mean time between changes as this entry has shown it; `None`: none
    /// was seen.
    pub fn seen(self) -> Option<Millis> {
        (self.changes > 0).then(|| Millis((self.exposure() / self.weight()).round() as u64))
    }

    /// The mean time between changes, given what to expect of the like.
    pub fn mean(self, prior: Mean) -> Mean {
        Mean::new((prior.0 + self.exposure()) / (1.0 + self.weight()))
    }

    /// Takes note of a refill after `interval`.
    fn learn(&mut self, changed: bool, interval: Millis, prior: Mean, dice: u32) -> Lesson {
        let x = interval.0 as f64;
        let exposure = if changed { until_change(self.mean(prior), x) } else { x };
        let before = self.exposure();
        if changed {
            self.changes = (self.changes + 1).min(MOST_CHANGES);
        }
        self.set_exposure(before * if changed { KEPT } else { 1.0 } + exposure, dice);
        self.refills = self.refills.saturating_add(1);
        Lesson { changed, exposure: Millis(exposure.round() as u64) }
    }

    /// The TTL that has the share `target` of reads stale, and why it is that.
    fn choose(self, bounds: Bounds, prior: Mean, target: f64) -> (Millis, Why) {
        if self.refills == 0 {
            return (bounds.min(), Why::First);
        }
        // What is no number is 0.
        let ttl = (2.0 * target * self.mean(prior).0).max(0.0);
        if ttl <= bounds.min().0 as f64 {
            (bounds.min(), Why::Min)
        } else if ttl >= bounds.max().0 as f64 {
            (bounds.max(), Why::Max)
        } else if self.changes == 0 && self.exposure() < prior.0 {
            (Millis(ttl as u64), Why::Prior)
        } else {
            (Millis(ttl as u64), Why::Estimate)
        }
    }
}

/// When the first change is to be expected that came within x.
fn until_change(mean: Mean, x: f64) -> f64 {
    let y = x / mean.0;
    if y < 1e-4 {
        // The difference of two large numbers; its series begins so.
        return x / 2.0;
    }
    mean.0 - x / y.exp_m1()
}

/// What an entry with `EXAUTO` carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// What was asked for.
    pub bounds: Bounds,
    /// Of the value that the last refill brought.
    pub digest: Digest,
    /// What the refills have told.
    pub record: Record,
    /// Why the TTL is what it is.
    pub why: Why,
}

impl Adaptive {
    /// T and refills, and why and X in a byte: what lies and travels behind the
    /// bounds and the digest.
    pub fn marks(&self) -> (u16, u16, u8) {
        let why = Why::ALL.iter().position(|why| *why == self.why).unwrap_or(0) as u8;
        (self.record.exposure, self.record.refills, self.record.changes | why << 5)
    }

    /// The same, read. `None`: these are none.
    pub fn of_marks(bounds: Bounds, digest: Digest, marks: (u16, u16, u8)) -> Option<Adaptive> {
        let (exposure, refills, last) = marks;
        let why = *Why::ALL.get(usize::from(last >> 5))?;
        Some(Adaptive { bounds, digest, record: Record { changes: last & 31, exposure, refills }, why })
    }

    /// The bytes in an entry.
    pub fn to_bytes(&self) -> [u8; BYTES] {
        let [min, max] = self.bounds.seconds();
        let (exposure, refills, last) = self.marks();
        let mut bytes = [0; BYTES];
        bytes[..4].copy_from_slice(&min.to_le_bytes());
        bytes[4..8].copy_from_slice(&max.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.digest.0.to_le_bytes());
        bytes[12..14].copy_from_slice(&exposure.to_le_bytes());
        bytes[14..16].copy_from_slice(&refills.to_le_bytes());
        bytes[16] = last;
        bytes
    }

    /// What [`Adaptive::to_bytes`] has written.
    pub fn of_bytes(b: &[u8; BYTES]) -> Option<Adaptive> {
        let word = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let half = |at: usize| u16::from_le_bytes([b[at], b[at + 1]]);
        Adaptive::of_marks(Bounds::new(word(0), word(4))?, Digest(word(8)), (half(12), half(14), b[16]))
    }
}

/// The last filling of an entry, as the next one sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Past {
    /// Of the value that it brought.
    pub digest: Digest,
    /// What the refills before have told.
    pub record: Record,
    /// When it was.
    pub written: Time,
    /// Whether a refill is an example: nothing was invalidated in between.
    pub teaches: bool,
}

impl Past {
    /// That of an entry which is there.
    pub fn of(meta: &Meta, value: Content<'_>) -> Past {
        Past {
            digest: meta.adaptive.map_or_else(|| digest_of(value), |adaptive| adaptive.digest),
            record: meta.adaptive.map(|adaptive| adaptive.record).unwrap_or_default(),
            written: meta.written,
            teaches: meta.staled_at.is_none() && !meta.dead,
        }
    }

    /// The same, `stamp` being that of the last invalidation which hit the key when
    /// nothing lay there. Within the same millisecond it counts as later.
    pub fn invalidated(self, stamp: Stamp) -> Past {
        Past { teaches: self.teaches && stamp.time() < self.written, ..self }
    }

    /// That of an entry which goes at `now`, `touched` by an invalidation or not;
    /// `None`: of one that is not adaptive nothing is kept. One that goes before
    /// its time is deleted, evicted or overwritten: something happened that a
    /// refill does not tell of.
    pub fn of_leaving(meta: &Meta, touched: bool, now: Time) -> Option<Past> {
        let adaptive = meta.adaptive?;
        let over = meta.fresh_until.and_then(|end| end.after(meta.grace)).is_some_and(|end| end <= now);
        let teaches = over && !touched && !meta.dead && meta.staled_at.is_none();
        Some(Past { digest: adaptive.digest, record: adaptive.record, written: meta.written, teaches })
    }
}

/// What there is to go by beside the request and the entry.
#[derive(Clone, Copy, Debug)]
pub struct Outlook {
    /// The share of reads that may be stale.
    pub target: f64,
    /// What to expect of the like.
    pub prior: Mean,
    /// The past of the key where no entry is there.
    pub past: Option<Past>,
    /// Uniform in all of u32.
    pub dice: u32,
}

/// An entry refilled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refilled {
    /// What the entry carries from now on.
    pub adaptive: Adaptive,
    /// The TTL chosen.
    pub length: Millis,
    /// What is to be learnt from it of the like.
    pub lesson: Option<Lesson>,
}

impl Refilled {
    /// As the entry has it whose times are kept, and with them why they are so.
    pub fn because(self, kept: &Meta) -> Refilled {
        let why = kept.adaptive.map_or(self.adaptive.why, |adaptive| adaptive.why);
        Refilled { adaptive: Adaptive { why, ..self.adaptive }, ..self }
    }
}

/// A filling with a value of that digest at `now`.
pub fn refill(bounds: Bounds, digest: Digest, past: Option<Past>, now: Time, outlook: &Outlook) -> Refilled {
    let Outlook { target, prior, dice, .. } = *outlook;
    let mut record = past.map(|past| past.record).unwrap_or_default();
    let lesson = past
        .filter(|past| past.teaches)
        .map(|past| record.learn(past.digest != digest, now.since(past.written), prior, dice));
    let (length, why) = record.choose(bounds, prior, target);
    Refilled { adaptive: Adaptive { bounds, digest, record, why }, length, lesson }
}

#[cfg(test)]
#[path = "adaptive_tests.rs"]
pub(crate) mod tests;
