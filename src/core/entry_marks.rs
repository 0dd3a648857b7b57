//! What is written into an entry where it lies: the index's numbers, the mark of
//! the dead, the count of reads, the marks of eviction. All else is laid out anew.

use super::*;
use crate::evict_class::Marks;

/// Sets the slot that the index gave an entry.
pub fn set_slot(bytes: &mut [u8], slot: u32) {
    let at = if View::new(bytes).is_companion() { companion::SLOT_AT } else { SLOT_AT };
    bytes[at..at + 4].copy_from_slice(&slot.to_le_bytes());
}

/// Sets the number of an entry's namespace; that of a companion stays.
pub fn set_namespace(bytes: &mut [u8], namespace: u16) {
    if View::new(bytes).is_companion() {
        return;
    }
    bytes[14..16].copy_from_slice(&namespace.to_le_bytes());
}

/// Sets the position of an entry's `i`th tag.
pub fn set_position(bytes: &mut [u8], i: usize, position: u32) {
    let at = View::new(bytes).tags_at() + i * TAG_BYTES + 4;
    bytes[at..at + 4].copy_from_slice(&position.to_le_bytes());
}

/// Gives an entry the positions of another with the same tags in the same
/// order.
pub fn take_positions(bytes: &mut [u8], from: &[u8]) {
    let pairs = View::new(bytes).tag_count() * TAG_BYTES;
    let (to, from) = (bytes.len() - pairs, &from[from.len() - pairs..]);
    bytes[to..].copy_from_slice(from);
}

/// Whether two entries carry the same tags in the same order.
pub fn tags_agree(one: View<'_>, other: View<'_>) -> bool {
    one.tag_count() == other.tag_count() && (one.tag_count() == 0 || one.tags().eq(other.tags()))
}

/// Marks an entry dead where it lies.
pub fn mark_dead(bytes: &mut [u8]) {
    let marked = word(bytes, 0) | u64::from(DEAD) << STAMP_BITS;
    bytes[..8].copy_from_slice(&marked.to_le_bytes());
}

/// Counts a read answered with the entry's value. `dice` is asked only past
/// 2^17 reads, and must be uniform.
#[inline]
pub fn count_hit(base: &mut [u8; BASE], dice: impl FnOnce() -> u32) {
    let stored = u32::from_le_bytes([base[24], base[25], base[26], 0]);
    let raised = hits::raise(stored, dice).to_le_bytes();
    base[24..27].copy_from_slice(&raised[..3]);
}

/// Where the bits of a class lie that the counter's bytes have: above it.
const CLASS_SHIFT: u32 = 4;
/// The others: above the number of tags, in the first word's last byte.
const CLASS_REST_SHIFT: u32 = 6;
const REST: u8 = 0b11 << CLASS_REST_SHIFT;
const COUNTER_TOP: u8 = (1 << CLASS_SHIFT) - 1;

/// An entry's marks of eviction.
#[inline]
pub fn marks(base: &[u8; BASE]) -> Marks {
    let class = base[26] >> CLASS_SHIFT | base[7] >> CLASS_REST_SHIFT << 4;
    Marks::from_bits(half(base, 16), class)
}

/// Sets them.
#[inline]
pub fn set_marks(base: &mut [u8; BASE], marks: Marks) {
    let (last, class) = marks.bits();
    base[16..20].copy_from_slice(&last.to_le_bytes());
    base[26] = base[26] & COUNTER_TOP | class << CLASS_SHIFT;
    base[7] = base[7] & !REST | class >> 4 << CLASS_REST_SHIFT;
}

/// Gives an entry the marks of the one that it replaces: how often a key is
/// used does not begin anew with each of its values.
pub fn take_marks(base: &mut [u8; BASE], from: &[u8; BASE]) {
    set_marks(base, marks(from));
}
