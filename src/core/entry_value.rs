//! Where an entry's value lies, and whether it is packed: the path of every read.

use super::*;

/// Where the value lies, given the entry's first [`head_size`] bytes: its offset,
/// its length there, and the one it has unpacked where it is packed.
#[inline]
pub fn value_span(head: &[u8]) -> (usize, usize, Option<u32>) {
    let view = View::new(head);
    if view.is_companion() {
        return (head.len(), 0, None);
    }
    // A packed value is marked under MANY: so one question, which is WIDE's too,
    // tells that neither is to be looked at, and most reads pay for no other.
    if view.fields() & (WIDE | MANY) == 0 {
        let (value, name) = view.narrow_lengths();
        return (head.len() + name, value, None);
    }
    let (value, name) = view.lengths();
    (head.len() + name, value, view.unpacked())
}

impl<'a> View<'a> {
    /// The value.
    #[inline]
    pub fn content(&self) -> Content<'a> {
        let at = self.names_at();
        let (from, length, unpacked) = value_span(&self.bytes[..at]);
        Content::kept(&self.bytes[from..from + length], unpacked)
    }

    /// How long the value is unpacked; `None`: it is not packed.
    fn unpacked(&self) -> Option<u32> {
        if self.fields() & MANY == 0 || word(self.bytes, 0) >> TAGS_AT & PACKED == 0 {
            return None;
        }
        // Behind all others.
        Some(half(self.bytes, self.names_at() - PACKED_BYTES))
    }
}
