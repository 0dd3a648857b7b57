//! What a command does with what it finds under a key. The module looks the
//! key up, asks here, and performs the answer.

use crate::adaptive::{self, digest, Adaptive, Bounds, Lesson, Outlook, Past, Refilled};
use crate::entry::{Cost, Meta};
use crate::index::{Stamps, Verdict};
use crate::leases::There;
use crate::number::parse_i64;
use crate::packing::Content;
use crate::refresh::{may_elect, smooth};
use crate::request::{Condition, SetOptions, TouchOptions};
use crate::times::{Defaults, Ends, Expiry, InvalidTime};
use crate::units::{Millis, Stamp, Time};

/// What lies under a key.
#[derive(Clone, Copy)]
pub enum Found<'a> {
    /// Nothing.
    Absent,
    /// A key of another type.
    Native,
    /// An entry that no hard invalidation has killed.
    Entry(Live<'a>),
}

/// A live entry: its metadata as invalidations have left it ([`settle`]), and
/// its value.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// What is known of it.
    pub meta: Meta,
    /// The value.
    pub value: Content<'a>,
}

/// What the invalidations since its birth leave of an entry: nothing, the
/// entry as it was, or a stale one. By hand or softly, the first that made it
/// stale counts.
pub fn settle(meta: Meta, verdict: Verdict) -> Option<Meta> {
    match verdict {
        _ if meta.dead => None,
        Verdict::Dead => None,
        Verdict::Untouched => Some(meta),
        Verdict::Stale(since) => {
            let since = since.time();
            let staled_at = Some(meta.staled_at.map_or(since, |at| at.min(since)));
            Some(Meta { staled_at, ..meta })
        }
    }
}

/// An entry that came under another key, or into another database: what was
/// invalidated where it was goes with it, what had been invalidated where it
/// comes to does not touch it (`last` is the last stamp there).
pub fn moved(meta: Meta, verdict: Verdict, last: Stamp) -> Meta {
    match settle(meta, verdict) {
        None => Meta { dead: true, ..meta },
        Some(settled) => Meta { born: settled.born.max(last), ..settled },
    }
}

/// An entry that another server brings into this one (RESTORE, MIGRATE, a slot
/// that is migrated here), as what was invalidated here leaves it: `stamps` are
/// those of its namespace and of each of its tags. Its birth was told by the
/// other's clock, which may be ahead of ours by `skew`; so it must have been born
/// that much later to be believed younger than an invalidation. With no skew this
/// says what [`settle`] would say of it.
pub fn arrived(meta: Meta, stamps: impl IntoIterator<Item = Stamps>, skew: Millis) -> Meta {
    let skew = skew.0.saturating_mul(1000);
    let hits = |stamp: Stamp| stamp > Stamp(0) && meta.born.0 < stamp.0.saturating_add(skew);
    let mut arrived = meta;
    for Stamps { hard, soft } in stamps {
        arrived.dead |= hits(hard);
        if hits(soft) {
            let since = soft.time();
            arrived.staled_at = Some(arrived.staled_at.map_or(since, |at| at.min(since)));
        }
    }
    arrived
}

/// An entry that got or lost tags: it is born anew, for it was valid just now,
/// and what was invalidated before does not touch it; all else stays.
pub fn retagged(settled: Meta, at: Moment) -> Meta {
    Meta { born: at.stamp, ..settled }
}

/// The moment of a write: the wall clock, and the stamp drawn for it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The wall clock.
    pub now: Time,
    /// The stamp that what is written now is born with.
    pub stamp: Stamp,
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Nothing: the condition does not hold, or there is nothing to write to.
    Nothing,
    /// Remove what is there: nothing would be left of what was to be written.
    Remove,
    /// Store an entry with this metadata; the key's TTL becomes `expire`.
    Store {
        /// The new metadata.
        meta: Meta,
        /// The key's own TTL; `None`: none.
        expire: Option<Time>,
        /// What is to be learnt from it, once it is stored.
        lesson: Option<Lesson>,
    },
}

fn store(meta: Meta, ends: Ends, lesson: Option<Lesson>) -> Write {
    let Ends { fresh_until, length, grace, expire } = ends;
    Write::Store { meta: Meta { fresh_until, length, grace, ..meta }, expire, lesson }
}

/// An entry refilled within bounds, and its ends. Whether they can be is told by
/// the longest that might be chosen, so that no request fails by what was learnt.
fn choose(
    bounds: Bounds,
    grace: Millis,
    at: Moment,
    defaults: Defaults,
    refill: impl FnOnce() -> Refilled,
) -> Result<(Refilled, Ends), InvalidTime> {
    Ends::after(bounds.max(), at.now, grace)?;
    let refilled = refill();
    let length = defaults.jitter.of(refilled.length).clamp(bounds.min(), bounds.max());
    Ok((refilled, Ends::after(length, at.now, grace)?))
}

/// `CACHE.SET` of `value`. `expire` asks for the TTL of the key found, which costs
/// a look-up: only KEEPTTL needs it. `outlook` is asked where the TTL is to be
/// chosen.
///
/// # Errors
/// [`InvalidTime`] for ends past what an entry can carry.
pub fn set(
    options: &SetOptions,
    value: &[u8],
    found: Found<'_>,
    expire: impl FnOnce() -> Option<Time>,
    at: Moment,
    defaults: Defaults,
    outlook: impl FnOnce(Bounds) -> Outlook,
) -> Result<Write, InvalidTime> {
    let old = match found {
        Found::Entry(live) => Some(live),
        Found::Absent | Found::Native => None,
    };
    let keep = options.expiry == Expiry::Keep;
    let kept = old.map(|live| live.meta).filter(|meta| keep && meta.is_fresh(at.now));
    let native = keep && matches!(found, Found::Native);
    let bounds = match kept {
        Some(meta) => meta.adaptive.map(|adaptive| adaptive.bounds),
        None if native => None,
        None => defaults.bounds(options.expiry),
    };
    let refill = |bounds| {
        let outlook = outlook(bounds);
        let past = match found {
            Found::Entry(live) => Some(Past::of(&live.meta, live.value)),
            Found::Absent => outlook.past,
            Found::Native => None,
        };
        adaptive::refill(bounds, digest(value), past, at.now, &outlook)
    };
    let holds = match options.condition {
        Condition::Always => true,
        Condition::Absent => matches!(found, Found::Absent),
        Condition::Present => !matches!(found, Found::Absent),
    };
    let (refilled, ends) = match (kept, bounds) {
        // Whoever keeps the times keeps the reason for them.
        (Some(meta), _) => (bounds.map(refill).map(|of| of.because(&meta)), Ends::kept(&meta, expire())),
        (None, Some(bounds)) => {
            let grace = options.grace.unwrap_or(defaults.grace);
            let (refilled, ends) = choose(bounds, grace, at, defaults, || refill(bounds))?;
            (Some(refilled), ends)
        }
        (None, None) if native => (None, Ends::kept_from_native(expire(), at.now)),
        (None, None) => (None, Ends::of_set(options.expiry, options.grace, at.now, defaults)?),
    };
    if !holds {
        return Ok(Write::Nothing);
    }
    if ends.are_past(at.now) {
        return Ok(Write::Remove);
    }
    let kept_cost = old.map(|live| live.meta.cost).unwrap_or_default();
    let meta = Meta {
        born: at.stamp,
        written: at.now,
        cost: options.cost.unwrap_or(kept_cost),
        adaptive: refilled.map(|of| of.adaptive),
        ..Meta::default()
    };
    Ok(store(meta, ends, refilled.and_then(|of| of.lesson)))
}

/// `CACHE.TOUCH` on an entry: the same value, born and written anew. To one with
/// `EXAUTO`, or with it, it says that the source has not changed; without a time
/// such an entry repeats its bounds, and not the length that they led to.
///
/// # Errors
/// [`InvalidTime`] for ends past what an entry can carry.
pub fn touch(
    options: &TouchOptions,
    old: Live<'_>,
    at: Moment,
    defaults: Defaults,
    outlook: impl FnOnce(Bounds) -> Outlook,
) -> Result<Write, InvalidTime> {
    let Live { meta, value } = old;
    let (bounds, grace) = match (options.expiry, meta.adaptive) {
        (Expiry::Unsaid, adaptive) => (adaptive.map(|adaptive| adaptive.bounds), meta.grace),
        (said, _) => (defaults.bounds(said), defaults.grace),
    };
    let (refilled, ends) = match bounds {
        Some(bounds) => {
            let grace = options.grace.unwrap_or(grace);
            let (refilled, ends) = choose(bounds, grace, at, defaults, || {
                let past = Past::of(&meta, value);
                adaptive::refill(bounds, past.digest, Some(past), at.now, &outlook(bounds))
            })?;
            (Some(refilled), ends)
        }
        None => (None, Ends::of_touch(options.expiry, options.grace, at.now, defaults, &meta)?),
    };
    if ends.are_past(at.now) {
        return Ok(Write::Remove);
    }
    let adaptive = refilled.map(|of| of.adaptive);
    let meta = Meta { born: at.stamp, written: at.now, staled_at: None, adaptive, ..meta };
    Ok(store(meta, ends, refilled.and_then(|of| of.lesson)))
}

/// `CACHE.STALE` on an entry: nothing where it is stale already, else stale
/// from now on with all else as it was.
pub fn stale(old: &Meta, expire: Option<Time>, now: Time) -> Write {
    if !ages(old, expire, now).fresh {
        return Write::Nothing;
    }
    Write::Store { meta: Meta { staled_at: Some(now), ..*old }, expire, lesson: None }
}

/// Why an increment was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncrError {
    /// The value is no 64-bit integer.
    NotAnInteger,
    /// The sum is none.
    Overflow,
    /// A key of another type.
    WrongType,
}

/// `CACHE.INCRBY`: the sum, and the entry to store it in. Tags and times stay;
/// an absent key counts from 0 and gets the namespace's times. It is no refill:
/// nothing is learnt, and the next refill is compared with the sum.
///
/// # Errors
/// [`IncrError`] says why nothing may be stored.
pub fn incr(
    by: i64,
    found: Found<'_>,
    expire: Option<Time>,
    at: Moment,
    defaults: Defaults,
) -> Result<(i64, Write), IncrError> {
    let (value, meta, ends) = match found {
        Found::Native => return Err(IncrError::WrongType),
        Found::Absent => {
            // The namespace's times were checked when they were set; past the
            // range they are no times.
            let ends = Ends::of_set(Expiry::Unsaid, None, at.now, defaults).unwrap_or(Ends::NEVER);
            (0, Meta::default(), ends)
        }
        Found::Entry(Live { meta, value }) => {
            // What is packed is longer than any integer.
            let Content::Plain(value) = value else { return Err(IncrError::NotAnInteger) };
            let value = parse_i64(value).ok_or(IncrError::NotAnInteger)?;
            (value, meta, Ends::kept(&meta, expire))
        }
    };
    let sum = value.checked_add(by).ok_or(IncrError::Overflow)?;
    let of_sum = |adaptive| Adaptive { digest: digest(sum.to_string().as_bytes()), ..adaptive };
    let adaptive = meta.adaptive.map(of_sum);
    let meta = Meta { born: at.stamp, written: at.now, hits: 0, adaptive, ..meta };
    Ok((sum, store(meta, ends, None)))
}

/// Where freshness ends in effect: a TTL that EXPIRE put before the entry's
/// own end shortens it. `None`: never.
pub fn fresh_end(meta: &Meta, expire: Option<Time>) -> Option<Time> {
    match (meta.fresh_until, expire) {
        (Some(end), Some(ttl)) => Some(end.min(ttl)),
        (end, ttl) => end.or(ttl),
    }
}

/// What a fill that took so long leaves of an entry's cost: named, it is that;
/// measured, it is smoothed into what it was; else it stays.
pub fn cost_of_fill(named: Option<Cost>, old: Option<Cost>, took: Option<Millis>) -> Option<Cost> {
    named.or_else(|| took.map(|took| smooth(old.unwrap_or_default(), took)))
}

/// What a FETCH finds in a live entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Fresh, perhaps to be refreshed early, or stale.
    pub there: There,
    /// Fresh or there for so long; `None`: no end.
    pub left: Option<Millis>,
}

/// A key's TTL where only what an entry's own times say is there.
pub fn own_expire(meta: &Meta) -> Option<Time> {
    meta.fresh_until.and_then(|end| end.after(meta.grace))
}

/// A live entry as FETCH finds it at `now`, `expire` asking for its key's TTL,
/// which may have been changed by EXPIRE where `may_differ` says so.
/// `elects` is asked only where the entry is fresh and its end is not far (see
/// [`crate::refresh::elect`]): with what is left, its length and its cost.
pub fn fetch(
    meta: &Meta,
    may_differ: bool,
    expire: impl FnOnce() -> Option<Time>,
    now: Time,
    elects: impl FnOnce(Millis, Millis, Cost) -> bool,
) -> Fetched {
    // Of a stale one it is said when it goes, and PERSIST may have changed that.
    let expire = if may_differ || !meta.is_fresh(now) { expire() } else { own_expire(meta) };
    let end = fresh_end(meta, expire);
    if meta.is_fresh(now) && end.is_none_or(|end| now < end) {
        let left = end.map(|end| end.since(now));
        let elected = match (left, meta.length) {
            (Some(left), Some(length)) => may_elect(left, length) && elects(left, length, meta.cost),
            _ => false,
        };
        return Fetched { there: There::Fresh { elected }, left };
    }
    // By time or by hand, whichever came first.
    let since = [meta.staled_at, end].into_iter().flatten().min();
    let age = since.map_or(Millis::ZERO, |since| now.since(since));
    Fetched { there: There::Stale { age }, left: expire.map(|end| end.since(now)) }
}

/// What `CACHE.META` says of an entry's times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// Fresh, not stale.
    pub fresh: bool,
    /// Fresh for this long yet; zero: stale; `None`: no end.
    pub fresh_for: Option<Millis>,
    /// Gone after this long; `None`: no end.
    pub gone_after: Option<Millis>,
    /// Since it was written or touched.
    pub age: Millis,
}

/// The times of an entry at `now`, `expire` being its key's TTL.
pub fn ages(meta: &Meta, expire: Option<Time>, now: Time) -> Ages {
    let end = fresh_end(meta, expire);
    let fresh = meta.is_fresh(now) && end.is_none_or(|end| now < end);
    Ages {
        fresh,
        fresh_for: if fresh { end.map(|end| end.since(now)) } else { Some(Millis::ZERO) },
        gone_after: expire.map(|end| end.since(now)),
        age: now.since(meta.written),
    }
}

#[cfg(test)]
#[path = "decide_auto_tests.rs"]
mod auto_tests;
#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
