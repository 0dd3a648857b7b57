//! The companion of a native key ([`crate::companion`]) in memory: the key's name and
//! its tags, and nothing that only a value has.
//!
//! ```text
//! byte 0        8      12     14     16
//! ┌────────────┬──────┬──────┬──────┬──────┬──────┬──────┐
//! │ born,      │ slot │ tags │ name │ name │ room │ tags │
//! │ as entries │ u32  │ u16  │ u16  │      │      │      │
//! └────────────┴──────┴──────┴──────┴──────┴──────┴──────┘
//! with the field WIDE: name u32 in place of u16
//! ```
//! Why not as entries are: 14 bytes less are one size class of the allocator, and a
//! tagged key costs the server four allocations beside this one.
//! The room: whatever is smaller than an entry's base is made as large, for that
//! much is read of everything before it is known what it is.

use super::*;

/// The namespace's number of what is no entry to users: a companion. No namespace
/// gets it.
pub const COMPANION: u16 = u16::MAX;

/// Both bits of eviction in the first word: the classes end before.
const MARK: u64 = 0b11 << 62;

pub(super) const SLOT_AT: usize = 8;
const TAGS_AT: usize = 12;
const NAME_AT: usize = 14;
const NARROW_HEAD: usize = 16;
const WIDE_HEAD: usize = 18;

pub(super) const fn head(fields: u8) -> usize {
    if fields & WIDE != 0 {
        WIDE_HEAD
    } else {
        NARROW_HEAD
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn name_len(bytes: &[u8]) -> usize {
    if fields_of(bytes) & WIDE != 0 {
        half(bytes, NAME_AT) as usize
    } else {
        usize::from(u16_at(bytes, NAME_AT))
    }
}

pub(super) fn tag_count(bytes: &[u8]) -> usize {
    usize::from(u16_at(bytes, TAGS_AT))
}

pub(super) fn meta(born: Stamp, dead: bool) -> Meta {
    Meta { born, written: born.time(), dead, ..Meta::default() }
}

impl View<'_> {
    /// Whether this is the companion of a native key, whose name it has then.
    #[inline]
    pub fn is_companion(&self) -> bool {
        word(self.bytes, 0) >= MARK
    }
}

/// Lays a companion out, in no index yet: of `meta` it keeps the birth, and whether
/// it is dead. The caller guarantees tags that differ.
///
/// # Errors
/// [`BuildError`]; nothing is allocated then.
pub fn build_companion(meta: &Meta, name: &[u8], tags: &[TagId]) -> Result<Box<[u8]>, BuildError> {
    let count = u16::try_from(tags.len()).map_err(|_| BuildError::TooLong)?;
    if name.len() > LONGEST_VALUE {
        return Err(BuildError::TooLong);
    }
    let narrow = u16::try_from(name.len()).ok();
    let fields = if narrow.is_none() { WIDE } else { 0 } | if meta.dead { DEAD } else { 0 };
    let pairs = tags.len() * TAG_BYTES;
    let size = (head(fields) + name.len() + pairs).max(BASE);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size)?;
    bytes.extend_from_slice(&(meta.born.0 | u64::from(fields) << STAMP_BITS | MARK).to_le_bytes());
    bytes.extend_from_slice(&[0; TAGS_AT - SLOT_AT]);
    bytes.extend_from_slice(&count.to_le_bytes());
    match narrow {
        Some(len) => bytes.extend_from_slice(&len.to_le_bytes()),
        // Below 2^32.
        None => bytes.extend_from_slice(&(name.len() as u32).to_le_bytes()),
    }
    bytes.extend_from_slice(name);
    bytes.resize(size - pairs, 0);
    for tag in tags {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&NO_POSITION.to_le_bytes());
    }
    Ok(bytes.into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{self, set_namespace, set_position, set_slot};
    use crate::evict_class::{Marks, CLASSES};
    use crate::packing::Content;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_laid_out_is_read(
            born in 0..STAMP_LIMIT,
            dead in any::<bool>(),
            name in prop_oneof![proptest::collection::vec(any::<u8>(), 0..40), Just(vec![7; 70_000])],
            tags in proptest::collection::hash_set(any::<u32>(), 0..20),
        ) {
            let tags: Vec<TagId> = tags.into_iter().collect();
            let meta = Meta { born: Stamp(born), dead, cost: Cost(7), hits: 9, ..Meta::default() };
            let mut bytes = build_companion(&meta, &name, &tags).expect("memory");
            let base = *bytes.first_chunk::<BASE>().expect("room for it");
            let head = entry::head_size(&base);
            prop_assert_eq!(entry::size(&bytes[..head]), bytes.len());
            set_slot(&mut bytes, 77);
            set_namespace(&mut bytes, 5);
            for i in 0..tags.len() {
                set_position(&mut bytes, i, i as u32);
            }
            let view = View::new(&bytes);
            prop_assert!(view.is_companion() && view.content().stored().is_empty());
            prop_assert_eq!((view.name(), view.slot(), view.namespace()), (&name[..], 77, COMPANION));
            prop_assert!(view.tags().eq(tags.iter().copied()));
            prop_assert!((0..tags.len()).all(|i| view.position(i) == i as u32));
            prop_assert!(!view.is_timed() && !view.is_over(Time(LAST_TIME)));
            let expected = Meta { born: Stamp(born), dead, written: Stamp(born).time(), ..Meta::default() };
            prop_assert_eq!(view.meta(), expected);
            entry::mark_dead(&mut bytes);
            prop_assert!(View::new(&bytes).is_marked_dead() && View::new(&bytes).is_companion());
        }

        /// No entry is taken for one.
        #[test]
        fn an_entry_is_none(count in 0u32..10, class in 0..CLASSES, last in any::<u32>()) {
            let tags: Vec<TagId> = (0..count).collect();
            let mut bytes = entry::build(&Meta::default(), b"k", Content::Plain(b"v"), &tags).expect("memory");
            let base = bytes.first_chunk_mut::<BASE>().expect("an entry");
            entry::set_marks(base, Marks::from_bits(last, class as u8));
            prop_assert!(!View::new(&bytes).is_companion());
        }
    }
}
