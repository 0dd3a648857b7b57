//! An entry's metadata as it travels: in RDB files, DUMP payloads, the AOF and
//! the replication stream. The value travels beside it, as it is stored.
//!
//! ```text
//! version   u8      1; 2: with ADAPTIVE; 3: with PACKED, be there ADAPTIVE or not
//! fields    varint  which of the following are there
//! born      varint  stamp, µs
//! END       varint  fresh until, Unix ms
//! TIMES     varint  written, Unix ms; with END: then the fresh length, ms
//! GRACE     varint  ms, not 0
//! STALED    varint  Unix ms
//! COST      varint  ms, not 0
//! HITS      varint  not 0
//! DEAD      nothing: it was invalidated
//! ADAPTIVE  varints min and max, s; digest; T, refills, marks as in `adaptive`
//! PACKED    varint  the value's length unpacked: it is packed (`packing`)
//! TAGS      varint  how many; each: varint length, bytes
//! ```
//!
//! Varints are LEB128, at most 10 bytes, and in their shortest form: one
//! metadata has one encoding. The decoder is total: it answers any bytes with
//! metadata that is sound ([`Meta::is_sound`]) or with an error, allocates
//! nothing and looks at nothing past the end.
//!
//! A new version gets a new number and an arm in [`decode`]; the old arm stays
//! for as long as files of it may be about. An entry of a later version is
//! refused, never misread. What needs no later version is written in the
//! earlier: a build that does not know EXAUTO reads every entry without it, and one
//! that does not know packing every entry that is not packed.

use std::fmt;

use crate::adaptive::{Adaptive, Bounds, Digest};
use crate::entry::{Cost, Meta};
use crate::packing::Content;
use crate::tag::{self, Names, LONGEST_TAG, MOST_TAGS};
use crate::units::{Millis, Stamp, Time};

const VERSION: u8 = 1;
/// That of entries with `EXAUTO`.
const VERSION_ADAPTIVE: u8 = 2;
/// That of entries whose value is packed.
const VERSION_PACKED: u8 = 3;

const END: u64 = 1;
const TIMES: u64 = 1 << 1;
const GRACE: u64 = 1 << 2;
const STALED: u64 = 1 << 3;
const COST: u64 = 1 << 4;
const HITS: u64 = 1 << 5;
const DEAD: u64 = 1 << 6;
const TAGS: u64 = 1 << 7;
const ADAPTIVE: u64 = 1 << 8;
const PACKED: u64 = 1 << 9;
const KNOWN: u64 = (1 << 10) - 1;

/// What stands in place of metadata that could not be saved.
pub const UNSAVED: &[u8] = &[0];

/// Why metadata was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodecError {
    /// The bytes end in the middle.
    Truncated,
    /// It could not be saved: [`UNSAVED`].
    Unsaved,
    /// A version that this build does not know.
    Version(u8),
    /// A field that this version does not have.
    Field,
    /// A number that is too long, not in its shortest form, or out of range.
    Number,
    /// Fields that contradict each other, or a tag that is there twice.
    Unsound,
    /// More tags, or a longer one, than an entry can carry.
    Tags,
    /// A value that does not unpack to what the metadata says, or is packed where
    /// there is none.
    Packed,
    /// Bytes behind the end.
    Trailing,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Truncated => f.write_str("metadata is truncated"),
            CodecError::Unsaved => f.write_str("the entry could not be saved where this comes from"),
            CodecError::Version(v) => write!(f, "metadata of version {v}, which this build does not know"),
            CodecError::Field => f.write_str("metadata has an unknown field"),
            CodecError::Number => f.write_str("a number in the metadata is malformed or out of range"),
            CodecError::Unsound => f.write_str("metadata contradicts itself"),
            CodecError::Tags => f.write_str("more or longer tags than an entry can carry"),
            CodecError::Packed => f.write_str("the packed value is not what its metadata says"),
            CodecError::Trailing => f.write_str("bytes behind the metadata"),
        }
    }
}

/// Metadata read, with the names of the entry's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// All but the tags.
    pub meta: Meta,
    /// The tags' names, all different, in the entry's order.
    pub tags: Names<'a>,
    /// How long the value is unpacked, where it is packed.
    pub unpacked: Option<u32>,
}

impl Decoded<'_> {
    /// The value that came with it. Whether it unpacks is not looked at.
    ///
    /// # Errors
    /// Where it cannot be.
    pub fn content<'v>(&self, value: &'v [u8]) -> Result<Content<'v>, CodecError> {
        Content::arrived(value, self.unpacked).ok_or(CodecError::Packed)
    }
}

/// Appends the encoding of `meta` and the names of its tags to `out`; `unpacked`:
/// how long the value that goes with it is, where that is packed.
/// `with_hits` is false where two servers must agree (replication, digests):
/// each counts its own reads.
pub fn encode<'a>(
    meta: &Meta,
    unpacked: Option<u32>,
    tags: impl ExactSizeIterator<Item = &'a [u8]>,
    with_hits: bool,
    out: &mut Vec<u8>,
) {
    let hits = if with_hits { meta.hits } else { 0 };
    let times = !meta.times_are_implied();
    let mut fields = 0;
    let mut set = |field, present| fields |= if present { field } else { 0 };
    set(END, meta.fresh_until.is_some());
    set(TIMES, times);
    set(GRACE, meta.grace.0 != 0);
    set(STALED, meta.staled_at.is_some());
    set(COST, meta.cost.0 != 0);
    set(HITS, hits != 0);
    set(DEAD, meta.dead);
    set(TAGS, tags.len() != 0);
    set(ADAPTIVE, meta.adaptive.is_some());
    set(PACKED, unpacked.is_some());
    out.push(match (unpacked, meta.adaptive) {
        (Some(_), _) => VERSION_PACKED,
        (None, Some(_)) => VERSION_ADAPTIVE,
        (None, None) => VERSION,
    });
    put(out, fields);
    put(out, meta.born.0);
    if let Some(end) = meta.fresh_until {
        put(out, end.0);
    }
    if times {
        put(out, meta.written.0);
        if let Some(length) = meta.length {
            put(out, length.0);
        }
    }
    if meta.grace.0 != 0 {
        put(out, meta.grace.0);
    }
    if let Some(at) = meta.staled_at {
        put(out, at.0);
    }
    if meta.cost.0 != 0 {
        put(out, u64::from(meta.cost.0));
    }
    if hits != 0 {
        put(out, hits);
    }
    if let Some(adaptive) = meta.adaptive {
        adaptive.bounds.seconds().into_iter().for_each(|seconds| put(out, u64::from(seconds)));
        put(out, u64::from(adaptive.digest.0));
        let (exposure, refills, marks) = adaptive.marks();
        [exposure, refills, u16::from(marks)].into_iter().for_each(|n| put(out, u64::from(n)));
    }
    if let Some(length) = unpacked {
        put(out, u64::from(length));
    }
    if tags.len() != 0 {
        put(out, tags.len() as u64);
        for tag in tags {
            put(out, tag.len() as u64);
            out.extend_from_slice(tag);
        }
    }
}

/// Metadata from bytes that may be anything.
///
/// # Errors
/// [`CodecError`] says what is wrong with them.
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, CodecError> {
    match bytes {
        [] => Err(CodecError::Truncated),
        UNSAVED => Err(CodecError::Unsaved),
        [VERSION, rest @ ..] => decode_fields(rest, KNOWN & !ADAPTIVE & !PACKED),
        // Each says nothing that the one before could not, but for that field.
        [VERSION_ADAPTIVE, rest @ ..] => match decode_fields(rest, KNOWN & !PACKED) {
            Ok(Decoded { meta: Meta { adaptive: None, .. }, .. }) => Err(CodecError::Field),
            other => other,
        },
        [VERSION_PACKED, rest @ ..] => match decode_fields(rest, KNOWN) {
            Ok(Decoded { unpacked: None, .. }) => Err(CodecError::Field),
            other => other,
        },
        [version, ..] => Err(CodecError::Version(*version)),
    }
}

fn decode_fields(bytes: &[u8], known: u64) -> Result<Decoded<'_>, CodecError> {
    let mut rest = bytes;
    let fields = take(&mut rest)?;
    if fields & !known != 0 {
        return Err(CodecError::Field);
    }
    let mut number = |field| -> Result<Option<u64>, CodecError> {
        if field != 0 && fields & field == 0 {
            return Ok(None);
        }
        take(&mut rest).map(Some)
    };
    let born = Stamp(number(0)?.unwrap_or(0));
    let fresh_until = number(END)?.map(Time);
    let written = number(TIMES)?.map(Time);
    let length = match (written, fresh_until) {
        (Some(_), Some(_)) => number(0)?.map(Millis),
        (None, Some(end)) => Some(end.since(born.time())),
        (_, None) => None,
    };
    let grace = nonzero(number(GRACE)?)?;
    let staled_at = number(STALED)?.map(Time);
    let cost = nonzero(number(COST)?)?;
    let hits = nonzero(number(HITS)?)?;
    let adaptive = if fields & ADAPTIVE == 0 { None } else { Some(take_adaptive(&mut rest)?) };
    let unpacked = if fields & PACKED == 0 { None } else { Some(take(&mut rest)?) };
    let unpacked = unpacked.map(u32::try_from).transpose().map_err(|_| CodecError::Number)?;
    let tags = if fields & TAGS == 0 { Names::new() } else { take_tags(&mut rest)? };
    if !rest.is_empty() {
        return Err(CodecError::Trailing);
    }
    let meta = Meta {
        born,
        written: written.unwrap_or(born.time()),
        fresh_until,
        length,
        grace: Millis(grace),
        staled_at,
        cost: Cost(u32::try_from(cost).map_err(|_| CodecError::Number)?),
        hits,
        dead: fields & DEAD != 0,
        adaptive,
    };
    if !meta.is_sound() || (written.is_some() && meta.times_are_implied()) {
        return Err(CodecError::Unsound);
    }
    Ok(Decoded { meta, tags, unpacked })
}

fn take_adaptive(bytes: &mut &[u8]) -> Result<Adaptive, CodecError> {
    let mut word = || u32::try_from(take(bytes)?).map_err(|_| CodecError::Number);
    let bounds = Bounds::new(word()?, word()?).ok_or(CodecError::Unsound)?;
    let digest = Digest(word()?);
    let mut half = || u16::try_from(word()?).map_err(|_| CodecError::Number);
    let (exposure, refills) = (half()?, half()?);
    let marks = u8::try_from(half()?).map_err(|_| CodecError::Number)?;
    Adaptive::of_marks(bounds, digest, (exposure, refills, marks)).ok_or(CodecError::Number)
}

fn take_tags<'a>(bytes: &mut &'a [u8]) -> Result<Names<'a>, CodecError> {
    let count = match usize::try_from(nonzero(Some(take(bytes)?))?) {
        Ok(count) if count <= MOST_TAGS => count,
        _ => return Err(CodecError::Tags),
    };
    // Each takes a byte at least: no room is made for what cannot be there.
    let mut tags = Names::with_capacity(count.min(bytes.len()));
    for _ in 0..count {
        let len = usize::try_from(take(bytes)?).unwrap_or(usize::MAX);
        if len > LONGEST_TAG {
            return Err(CodecError::Tags);
        }
        let (tag, rest) = bytes.split_at_checked(len).ok_or(CodecError::Truncated)?;
        *bytes = rest;
        tags.push(tag);
    }
    if tag::repeats(&tags) {
        return Err(CodecError::Unsound);
    }
    Ok(tags)
}

/// A field that is only written where it is not zero.
fn nonzero(field: Option<u64>) -> Result<u64, CodecError> {
    match field {
        Some(0) => Err(CodecError::Unsound),
        other => Ok(other.unwrap_or(0)),
    }
}

/// The longest value that lies in one string with its metadata in a file:
/// loading one string less saves more than copying that much costs.
const TOGETHER: usize = 4096;

/// An entry's strings in a file or a DUMP payload: a varint, twice the length
/// of the metadata, and 1 more where the value is the second string; the
/// metadata; the value.
pub fn pack<'a>(meta: &[u8], value: &'a [u8]) -> (Vec<u8>, Option<&'a [u8]>) {
    let apart = value.len() > TOGETHER;
    let mut first = Vec::with_capacity(10 + meta.len() + if apart { 0 } else { value.len() });
    put(&mut first, meta.len() as u64 * 2 + u64::from(apart));
    first.extend_from_slice(meta);
    if apart {
        return (first, Some(value));
    }
    first.extend_from_slice(value);
    (first, None)
}

/// What [`pack`] has packed: the metadata, and the value, which is in the next
/// string where it is `None`. It takes any bytes, and looks at neither.
///
/// # Errors
/// Where they are no such string.
pub fn unpack(mut first: &[u8]) -> Result<(&[u8], Option<&[u8]>), CodecError> {
    let head = take(&mut first)?;
    let size = usize::try_from(head / 2).unwrap_or(usize::MAX);
    let (meta, value) = first.split_at_checked(size).ok_or(CodecError::Truncated)?;
    match (head & 1, value) {
        (0, value) => Ok((meta, Some(value))),
        (_, []) => Ok((meta, None)),
        _ => Err(CodecError::Trailing),
    }
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u64, CodecError> {
    let mut n = 0u64;
    for shift in (0..).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or(CodecError::Truncated)?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if shift > 63 || (shift == 63 && low > 1) || (shift > 0 && byte == 0) {
            return Err(CodecError::Number);
        }
        n |= low << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Ok(n)
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
