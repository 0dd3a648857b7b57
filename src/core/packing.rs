//! Values kept packed: in fewer bytes than they came in (LZ4's block format, by
//! lz4_flex in its safe form).
//!
//! Guarantees:
//! - What is unpacked is, byte for byte, as long as was said before, or an error.
//!   Whatever the bytes are, nothing panics.
//! - No room is made for more than that length, which [`Packed::new`] admits only
//!   where that many bytes can have become of these: up to [`LONGEST_VALUE`], and
//!   [`MOST_OF_A_BYTE`] for each. So a payload of a kilobyte cannot ask for more
//!   than a quarter of a megabyte.
//! - A value is packed only where the *allocator* gives it an eighth less. What
//!   does not compress is found out by a sample of 2 KB where it is long.
//! - Who packs and unpacks again and again allocates nothing: the tables and the
//!   buffers are given, and kept.
//!
//! Not here: that bytes which unpack to the right length are the right ones. Files
//! and payloads have checksums for that.
//!
//! # Why LZ4
//! A read pays for unpacking, and writes are on the server's one thread. Its
//! decoder needs no tables and no allocation, and its block format has no header:
//! the length stands in the entry (`crate::entry`, the field PACKED).

use std::collections::TryReserveError;
use std::fmt;

use lz4_flex::block::{compress_into_with_table, decompress_into, get_maximum_output_size, CompressTable};

use crate::entry::LONGEST_VALUE;
use crate::footprint::Classes;

/// The shortest value that is packed. No integer is that long: what INCRBY adds to
/// is never packed.
pub const LEAST: usize = 64;
/// What a byte of LZ4 can become at the most.
pub const MOST_OF_A_BYTE: usize = 255;

/// The sample that decides whether a long value is worth a try.
const SAMPLE: usize = 2048;
/// From here on one is taken: it is an eighth of the work then, or less.
const SAMPLED_FROM: usize = 8 * SAMPLE;
/// The largest buffer that is kept.
const KEPT: usize = 1 << 19;

/// A value as an entry has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// As it came.
    Plain(&'a [u8]),
    /// Packed.
    Packed(Packed<'a>),
}

impl<'a> Content<'a> {
    /// The empty value.
    pub const NOTHING: Content<'static> = Content::Plain(&[]);

    /// What lies in an entry; `unpacked`: how long it was, where it is packed.
    #[inline]
    pub fn kept(bytes: &'a [u8], unpacked: Option<u32>) -> Content<'a> {
        match unpacked {
            None => Content::Plain(bytes),
            Some(length) => Content::Packed(Packed { bytes, length }),
        }
    }

    /// The same of what comes from elsewhere; `None`: it cannot be.
    pub fn arrived(bytes: &'a [u8], unpacked: Option<u32>) -> Option<Content<'a>> {
        match unpacked {
            None => Some(Content::Plain(bytes)),
            Some(length) => Packed::new(bytes, length).map(Content::Packed),
        }
    }

    /// The bytes that are stored.
    pub fn stored(self) -> &'a [u8] {
        match self {
            Content::Plain(bytes) | Content::Packed(Packed { bytes, .. }) => bytes,
        }
    }

    /// How long the value is to whoever reads it.
    pub fn length(self) -> usize {
        self.unpacked().map_or(self.stored().len(), |length| length as usize)
    }

    /// The same, where it is packed.
    pub fn unpacked(self) -> Option<u32> {
        match self {
            Content::Plain(_) => None,
            Content::Packed(packed) => Some(packed.length),
        }
    }
}

/// A packed value: its bytes, and how many they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed<'a> {
    bytes: &'a [u8],
    length: u32,
}

/// Why a value is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpackError {
    /// It is not what was packed.
    Corrupt,
    /// There was no room for it.
    OutOfMemory,
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UnpackError::Corrupt => "the packed value does not unpack to what it is said to be",
            UnpackError::OutOfMemory => "there is no memory to unpack the value",
        })
    }
}

impl From<TryReserveError> for UnpackError {
    fn from(_: TryReserveError) -> Self {
        UnpackError::OutOfMemory
    }
}

impl<'a> Packed<'a> {
    /// These bytes as a value of that length; `None` where they cannot be one.
    pub fn new(bytes: &'a [u8], length: u32) -> Option<Packed<'a>> {
        let unpacked = length as usize;
        let can_be = (LEAST..=LONGEST_VALUE).contains(&unpacked)
            && bytes.len() < unpacked
            && unpacked <= bytes.len().saturating_mul(MOST_OF_A_BYTE);
        can_be.then_some(Packed { bytes, length })
    }

    /// The value, unpacked into the beginning of a buffer that grows where it is too
    /// short and is overwritten where it is not.
    ///
    /// # Errors
    /// [`UnpackError`]; what is in the buffer then means nothing.
    pub fn unpack(self, into: &mut Vec<u8>) -> Result<&[u8], UnpackError> {
        let length = self.length as usize;
        if into.len() < length {
            into.try_reserve_exact(length - into.len())?;
            into.resize(length, 0);
        }
        let room = &mut into[..length];
        match decompress_into(self.bytes, room) {
            Ok(written) if written == length => Ok(room),
            _ => Err(UnpackError::Corrupt),
        }
    }
}

/// Which values are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// From so many bytes on; 0: none.
    pub min: usize,
    /// Up to so many: packing takes time, and nothing else is done meanwhile.
    pub max: usize,
}

impl Limits {
    /// Whether packing a value of so many bytes is worth a try.
    #[inline]
    pub fn admit(self, length: usize) -> bool {
        self.min != 0 && (self.min.max(LEAST)..=self.max).contains(&length)
    }
}

/// Whether an entry of `plain` bytes that could be one of `packed` is to be that:
/// by what the allocator makes of both, for that is what memory is made of.
pub fn pays(classes: Classes, plain: usize, packed: usize) -> bool {
    classes.block(packed).saturating_mul(8) <= classes.block(plain).saturating_mul(7)
}

/// What packing needs, kept from one value to the next.
pub struct Packer {
    /// Up to 64 KB, with half the size to be cleared.
    small: CompressTable,
    large: Option<CompressTable>,
    out: Vec<u8>,
}

impl Default for Packer {
    fn default() -> Self {
        Packer { small: CompressTable::small(), large: None, out: Vec::new() }
    }
}

/// Bytes of the two tables: 4096 entries each.
const TABLES: [usize; 2] = [4096 * 2, 4096 * 4];
/// Inputs from here on need the large one.
const LARGE_FROM: usize = u16::MAX as usize;

impl Packer {
    /// A value packed, if the number of bytes that it would then take `pays`.
    pub fn pack(&mut self, value: &[u8], pays: impl FnOnce(usize) -> bool) -> Option<Packed<'_>> {
        let length = u32::try_from(value.len()).ok()?;
        if value.len() >= SAMPLED_FROM {
            // From the middle: what is at the beginning is a head, of a picture too.
            let from = (value.len() - SAMPLE) / 2;
            let sample = self.squeeze(&value[from..from + SAMPLE])?;
            if sample > SAMPLE / 16 * 15 {
                return None;
            }
        }
        let packed = self.squeeze(value)?;
        if !pays(packed) {
            return None;
        }
        Packed::new(&self.out[..packed], length)
    }

    /// Compresses into the buffer; `None` where there is no room for it.
    fn squeeze(&mut self, value: &[u8]) -> Option<usize> {
        let most = get_maximum_output_size(value.len());
        if self.out.len() < most {
            self.out.try_reserve_exact(most - self.out.len()).ok()?;
            self.out.resize(most, 0);
        }
        let table = if value.len() < LARGE_FROM {
            &mut self.small
        } else {
            self.large.get_or_insert_with(CompressTable::large)
        };
        compress_into_with_table(value, &mut self.out, table).ok()
    }

    /// Lets go of a buffer that only an unusually long value needs.
    pub fn rest(&mut self) {
        trim(&mut self.out);
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        let [small, large] = TABLES;
        small + if self.large.is_some() { large } else { 0 } + self.out.capacity()
    }
}

/// Lets go of a buffer that is larger than what is kept.
pub fn trim(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEPT {
        *buffer = Vec::new();
    }
}

#[cfg(test)]
#[path = "packing_tests.rs"]
mod tests;
