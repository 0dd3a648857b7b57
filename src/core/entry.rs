//! The bytes of an entry in memory: one allocation, no padding, no pointers.
//!
//! ```text
//! byte 0        8                16    20    24        27     29
//! ┌────────────┬────────────────┬─────┬─────┬─────────┬──────┬────┬──────────┬──────┬───────┬──────┐
//! │ born 53    │ fresh-until 48 │last │slot │ hits 20 │value │name│ optional │ name │ value │ tags │
//! │ fields 7   │ namespace 16   │ u32 │ u32 │ evict 4 │ u16  │ u8 │ fields   │      │       │      │
//! │ tags 2     │                │     │     │         │      │    │          │      │       │      │
//! │ evict 2    │                │     │     │         │      │    │          │      │       │      │
//! └────────────┴────────────────┴─────┴─────┴─────────┴──────┴────┴──────────┴──────┴───────┴──────┘
//!  BASE = 30 bytes, little endian                      lengths      as `fields` says
//!
//! fields, in this order:   GRACE  u48 ms          the grace given
//!                          TIMES  u48 + u48 ms    written; fresh length (all ones: none)
//!                          STALED u48 ms          when it was made stale by hand
//!                          COST   u32 ms          recompute time
//!                          WIDE   u32 + u32       lengths of value and name past u16 and u8
//!                          MANY   u16             how many tags, where `tags` does not say it
//!                          DEAD   nothing         invalidated before it came to lie here
//!                          and the first of MARKS
//!
//! tags: pairs of tag id and position, u32 + u32 each
//! ```
//!
//! Why so tight: jemalloc has size classes, and with a 100-byte value and a
//! 30-byte name 30 bytes are what the class of 160 leaves; one more byte costs
//! 32 an entry. So what most entries do not have is an optional field, and
//! what can be derived is not stored: the time of writing is the birth stamp's
//! millisecond and the fresh length is what is between it and fresh-until,
//! unless the field TIMES says otherwise (a clock that stepped back, KEEPTTL,
//! INCRBY). The end of the grace is the key's own TTL and is not here at all.
//!
//! `namespace`, `last`, `slot` and the `evict` bits are the index's and the
//! eviction's ([`crate::evict_class`]); an entry that no index holds has zeros
//! there. `hits` is exact to 2^17 and then counts by chance (a 16-bit mantissa;
//! Morris, CACM 1978), with a relative error of some 0.3 %, up to 2 billion.
//!
//! # More fields than bits
//! All 64 bits of the first word are taken. Where the field MANY says how many
//! tags there are, the two bits `tags` say nothing: they are marks there, of
//! fields that few entries have. So such a field costs 2 bytes more than itself,
//! and what has none of them costs nothing.
//!
//! ```text
//! MARKS: 1  ADAPTIVE  17 bytes  EXAUTO: drawn in `adaptive`
//!        2  PACKED     4 bytes  u32, the value's length unpacked: see `packing`
//! ```
//!
//! A companion is none of this: its marks of eviction, which it does not have, say a
//! class that there is not ([`companion`] draws it).
//!
//! When you add a field: `FIELDS` (or a mark, and `extent`), `Meta`,
//! `Meta::fields`, [`build`], the accessor in [`View`], the codec, and the
//! drawing above.

use std::collections::TryReserveError;

use crate::adaptive::{self, Adaptive};
use crate::hits;
use crate::packing::Content;
use crate::refresh::may_elect;
use crate::units::{Millis, Stamp, Time, LAST_TIME, STAMP_LIMIT};

/// The bytes every entry has.
pub const BASE: usize = 30;
/// The longest value that can be stored (Redis's own limit on a string).
pub const LONGEST_VALUE: usize = 512 << 20;

/// Where an entry's slot lies.
const SLOT_AT: usize = 20;
const STAMP_BITS: u32 = 53;
const NO_END: u64 = LAST_TIME + 1;
const TIME_BYTES: usize = 6;

const GRACE: u8 = 1;
const TIMES: u8 = 1 << 1;
const STALED: u8 = 1 << 2;
const COST: u8 = 1 << 3;
const WIDE: u8 = 1 << 4;
const MANY: u8 = 1 << 5;
const DEAD: u8 = 1 << 6;
/// Optional fields and their sizes, in their order in memory.
const FIELDS: [(u8, usize); 7] = [
    (GRACE, TIME_BYTES),
    (TIMES, 2 * TIME_BYTES),
    (STALED, TIME_BYTES),
    (COST, 4),
    (WIDE, 8),
    (MANY, 2),
    (DEAD, 0),
];
const FIELD_BITS: u8 = (1 << FIELDS.len()) - 1;
/// The number of tags up to [`FEW`], above the fields.
const TAGS_AT: u32 = STAMP_BITS + FIELDS.len() as u32;
const FEW: u64 = 3;
/// The mark of an entry with `EXAUTO`, in place of that number.
const ADAPTIVE: u64 = 1;
/// That of an entry whose value is packed.
const PACKED: u64 = 1 << 1;
const PACKED_BYTES: usize = 4;
/// The bits of the fields and those above them, which together say how long the
/// head is.
const SHAPES: usize = 1 << (FIELDS.len() + 2);
/// Bytes a tag membership takes in the entry.
const TAG_BYTES: usize = 8;

/// Bytes of the optional fields.
const fn extent(shape: usize) -> usize {
    let mut sum = 0;
    let mut i = 0;
    while i < FIELDS.len() {
        if shape & FIELDS[i].0 as usize != 0 {
            sum += FIELDS[i].1;
        }
        i += 1;
    }
    if shape & MANY as usize != 0 {
        let marks = shape >> FIELDS.len();
        sum += if marks & ADAPTIVE as usize != 0 { adaptive::BYTES } else { 0 };
        sum += if marks & PACKED as usize != 0 { PACKED_BYTES } else { 0 };
    }
    sum
}

/// [`extent`] of all shapes, looked up: on the path of every read.
const EXTENTS: [u8; SHAPES] = {
    let mut table = [0; SHAPES];
    let mut shape = 0;
    while shape < table.len() {
        table[shape] = extent(shape) as u8;
        shape += 1;
    }
    table
};

/// Why an entry could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The value is longer than [`LONGEST_VALUE`], or the name is.
    TooLong,
    /// The allocator had no room.
    OutOfMemory,
}

impl From<TryReserveError> for BuildError {
    fn from(_: TryReserveError) -> Self {
        BuildError::OutOfMemory
    }
}

/// A tag, as the index numbers them.
pub type TagId = u32;
/// The position of a membership that stands in no tag's vector.
pub const NO_POSITION: u32 = u32::MAX;

/// The bytes to look at before [`size`] can be told, given the first
/// [`BASE`] of them.
#[inline]
pub fn head_size(base: &[u8; BASE]) -> usize {
    View { bytes: base }.names_at()
}

/// The size of the whole entry, given its first [`head_size`] bytes.
#[inline]
pub fn size(head: &[u8]) -> usize {
    let view = View { bytes: head };
    let (value, name) = view.lengths();
    let size = view.names_at() + name + value + view.tag_count() * TAG_BYTES;
    // A companion may be smaller than what is read of whatever it is.
    size.max(BASE)
}

/// Whether a read at `now` is answered with a fresh value.
#[inline]
pub fn is_fresh(base: &[u8; BASE], now: Time) -> bool {
    let end = word(base, 8) & NO_END;
    (now.0 < end || end == NO_END) && fields_of(base) & (STALED | DEAD) == 0
}

/// For how long a read at `now` finds an entry fresh (`Some(None)`: without an
/// end), where its first bytes alone tell, and tell that nobody is elected to
/// refresh it. `None`: look closer.
#[inline]
pub fn left_at_a_glance(base: &[u8; BASE], now: Time) -> Option<Option<Millis>> {
    let end = word(base, 8) & NO_END;
    if now.0 >= end || fields_of(base) & (STALED | DEAD | TIMES) != 0 {
        return None;
    }
    if end == NO_END {
        return Some(None);
    }
    let written = View { bytes: base }.born().time();
    let (left, length) = (Millis(end - now.0), Time(end).since(written));
    (!may_elect(left, length)).then_some(Some(left))
}

#[inline]
fn fields_of(bytes: &[u8]) -> u8 {
    // The stamp takes the low 53 bits, the fields come next.
    (word(bytes, 0) >> STAMP_BITS) as u8 & FIELD_BITS
}

/// The fields and the two bits above them.
#[inline]
fn shape_of(bytes: &[u8]) -> usize {
    (word(bytes, 0) >> STAMP_BITS) as usize & (SHAPES - 1)
}

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[inline]
fn half(bytes: &[u8], at: usize) -> u32 {
    let mut half = [0; 4];
    half.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(half)
}

fn time_bytes(ms: u64) -> [u8; TIME_BYTES] {
    let b = ms.to_le_bytes();
    [b[0], b[1], b[2], b[3], b[4], b[5]]
}

fn time_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word[..TIME_BYTES].copy_from_slice(&bytes[at..at + TIME_BYTES]);
    u64::from_le_bytes(word)
}

/// An entry, read. The caller guarantees that the bytes are whole and come
/// from [`build`]: entries never come from elsewhere (payloads go through the
/// codec).
#[derive(Clone, Copy)]
pub struct View<'a> {
    bytes: &'a [u8],
}

impl<'a> View<'a> {
    /// Looks at the bytes that [`build`] made.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> View<'a> {
        View { bytes }
    }

    #[inline]
    fn fields(&self) -> u8 {
        fields_of(self.bytes)
    }

    #[inline]
    fn field(&self, field: u8) -> Option<usize> {
        let fields = self.fields();
        // Their order in memory is that of their bits.
        (fields & field != 0).then(|| BASE + usize::from(EXTENTS[usize::from(fields & (field - 1))]))
    }

    #[inline]
    fn names_at(&self) -> usize {
        if self.is_companion() {
            return companion::head(self.fields());
        }
        BASE + usize::from(EXTENTS[shape_of(self.bytes)])
    }

    /// Lengths of the value and the name.
    #[inline]
    fn lengths(&self) -> (usize, usize) {
        if self.is_companion() {
            return (0, companion::name_len(self.bytes));
        }
        match self.field_wide() {
            None => self.narrow_lengths(),
            Some(at) => (half(self.bytes, at) as usize, half(self.bytes, at + 4) as usize),
        }
    }

    /// The same where WIDE is not there.
    #[inline]
    fn narrow_lengths(&self) -> (usize, usize) {
        let value = u16::from_le_bytes([self.bytes[27], self.bytes[28]]);
        (usize::from(value), usize::from(self.bytes[29]))
    }

    #[inline]
    fn field_wide(&self) -> Option<usize> {
        if self.fields() & WIDE == 0 {
            None
        } else {
            self.field(WIDE)
        }
    }

    #[inline]
    fn tag_count(&self) -> usize {
        if self.is_companion() {
            return companion::tag_count(self.bytes);
        }
        if self.fields() & MANY == 0 {
            return (word(self.bytes, 0) >> TAGS_AT & FEW) as usize;
        }
        self.field(MANY).map_or(0, |at| usize::from(u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])))
    }

    /// The key's name at the time when the entry was laid out.
    pub fn name(&self) -> &'a [u8] {
        let (_, name) = self.lengths();
        let at = self.names_at();
        &self.bytes[at..at + name]
    }

    /// The size of the entry in bytes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// When the value was born.
    #[inline]
    pub fn born(&self) -> Stamp {
        Stamp(word(self.bytes, 0) & (STAMP_LIMIT - 1))
    }

    /// Its recompute time.
    pub fn cost(&self) -> Cost {
        Cost(self.field(COST).map_or(0, |at| half(self.bytes, at)))
    }

    /// Whether at `now` its grace is over, going by the times that it was given:
    /// its key's TTL may have been changed.
    pub fn is_over(&self, now: Time) -> bool {
        if self.is_companion() {
            return false;
        }
        let end = word(self.bytes, 8) & NO_END;
        let grace = self.field(GRACE).map_or(0, |at| time_at(self.bytes, at));
        end != NO_END && now.0 >= end.saturating_add(grace)
    }

    /// Whether its freshness has an end, and so its key a TTL.
    #[inline]
    pub fn is_timed(&self) -> bool {
        word(self.bytes, 8) & NO_END != NO_END && !self.is_companion()
    }

    /// Whether it was dead when it came to lie here.
    #[inline]
    pub fn is_marked_dead(&self) -> bool {
        self.fields() & DEAD != 0
    }

    /// Its tags.
    #[inline]
    pub fn tags(&self) -> impl ExactSizeIterator<Item = TagId> + 'a {
        let (bytes, first) = (self.bytes, self.tags_at());
        (0..self.tag_count()).map(move |i| half(bytes, first + i * TAG_BYTES))
    }

    /// Its `i`th tag. (`tags().nth(i)` walks there.)
    pub fn tag(&self, i: usize) -> Option<TagId> {
        (i < self.tag_count()).then(|| half(self.bytes, self.tags_at() + i * TAG_BYTES))
    }

    /// Where the membership of its `i`th tag stands in that tag's vector.
    pub fn position(&self, i: usize) -> u32 {
        half(self.bytes, self.tags_at() + i * TAG_BYTES + 4)
    }

    fn tags_at(&self) -> usize {
        self.bytes.len() - self.tag_count() * TAG_BYTES
    }

    /// The slot that the index gave it; 0: it is in none.
    #[inline]
    pub fn slot(&self) -> u32 {
        half(self.bytes, if self.is_companion() { companion::SLOT_AT } else { SLOT_AT })
    }

    /// The number of its namespace; 0: none of its own.
    #[inline]
    pub fn namespace(&self) -> u16 {
        if self.is_companion() {
            return COMPANION;
        }
        u16::from_le_bytes([self.bytes[14], self.bytes[15]])
    }

    /// What it carries where it was written with `EXAUTO`.
    pub fn adaptive(&self) -> Option<Adaptive> {
        let fields = self.fields();
        if fields & MANY == 0 || word(self.bytes, 0) >> TAGS_AT & ADAPTIVE == 0 {
            return None;
        }
        // Behind all that have a bit.
        let at = BASE + usize::from(EXTENTS[usize::from(fields)]);
        self.bytes[at..].first_chunk().and_then(Adaptive::of_bytes)
    }

    /// Everything known beside name, value and tags.
    pub fn meta(&self) -> Meta {
        if self.is_companion() {
            return companion::meta(self.born(), self.is_marked_dead());
        }
        let end = |ms| (ms != NO_END).then_some(ms);
        let born = self.born();
        let fresh_until = end(word(self.bytes, 8) & NO_END).map(Time);
        let (written, length) = match self.field(TIMES) {
            Some(at) => {
                (Time(time_at(self.bytes, at)), end(time_at(self.bytes, at + TIME_BYTES)).map(Millis))
            }
            None => (born.time(), fresh_until.map(|end| end.since(born.time()))),
        };
        Meta {
            born,
            written,
            fresh_until,
            length,
            grace: Millis(self.field(GRACE).map_or(0, |at| time_at(self.bytes, at))),
            staled_at: self.field(STALED).map(|at| Time(time_at(self.bytes, at))),
            cost: self.cost(),
            hits: hits::decode(half(self.bytes, 24)),
            dead: self.fields() & DEAD != 0,
            adaptive: self.adaptive(),
        }
    }
}

#[path = "entry_build.rs"]
mod build;
#[path = "entry_companion.rs"]
mod companion;
#[path = "entry_marks.rs"]
mod marks;
#[path = "entry_meta.rs"]
mod meta;
#[path = "entry_value.rs"]
mod value;

pub use build::{build, size_of};
pub use companion::{build_companion, COMPANION};
pub use marks::*;
pub use meta::*;
pub use value::*;

#[cfg(test)]
#[path = "entry_tests.rs"]
pub(crate) mod tests;
