//! The names of companions: which key is the companion of a native key, and back.
//!
//! ```text
//! prefix  {abc}  name of the native key, whatever it is
//!         three letters that hash to that key's slot
//! ```
//! Guarantees:
//! - A companion is in the slot of its key, for every name there is: with braces or
//!   without, empty ones, unbalanced ones, bytes of any kind. For the prefix has
//!   no brace, so that the first braces of the name are ours, and what stands in
//!   them is never empty.
//! - Two keys never share one, and a companion's name tells the key's.
//! - What begins with the prefix is reserved. No reserved name has a companion.
//!
//! Why always letters, where most names have no braces and some have a hash tag
//! that would do: one rule for every name, and names that look alike where they
//! are listed.
//!
//! # The letters
//! CRC16 is linear: a bit changed in a text changes the same bits of its checksum,
//! whatever the rest. The letters are `@` to `O` and `` ` `` to `o`: five free bits
//! each. Of the fifteen some combination changes each of the slot's fourteen bits
//! alone; those combinations ([`LETTERS`]) are worked out when this is compiled.

use crate::slot;

/// Bytes of the braces and of what stands in them.
pub const BRACED: usize = 5;
/// The longest prefix.
pub const LONGEST_PREFIX: usize = 32;

const SLOT_BITS: usize = 14;
/// The bits of a letter that are free.
const FREE: [u8; 5] = [1, 1 << 1, 1 << 2, 1 << 3, 1 << 5];
/// The letter with none of them.
const FIRST: u8 = b'@';

/// The letters' free bits, as one number.
type Bits = u16;

const fn letters(bits: Bits) -> [u8; 3] {
    let mut text = [FIRST; 3];
    let mut i = 0;
    while i < 3 * FREE.len() {
        if bits >> i & 1 != 0 {
            text[i / FREE.len()] |= FREE[i % FREE.len()];
        }
        i += 1;
    }
    text
}

const NO_BITS: u16 = slot::of_bytes(&letters(0));

/// For each bit of a slot, the free bits that change it alone: Gauss and Jordan's
/// elimination, over bits.
const LETTERS: [Bits; SLOT_BITS] = {
    let mut rows = [(0_u16, 0 as Bits); 3 * FREE.len()];
    let mut i = 0;
    while i < rows.len() {
        rows[i] = (slot::of_bytes(&letters(1 << i)) ^ NO_BITS, 1 << i);
        i += 1;
    }
    let mut bit = 0;
    while bit < SLOT_BITS {
        let mut pivot = bit;
        // Past the end, and so refused by the compiler, were there none.
        while rows[pivot].0 >> bit & 1 == 0 {
            pivot += 1;
        }
        let found = rows[pivot];
        rows[pivot] = rows[bit];
        rows[bit] = found;
        let mut other = 0;
        while other < rows.len() {
            if other != bit && rows[other].0 >> bit & 1 != 0 {
                rows[other] = (rows[other].0 ^ found.0, rows[other].1 ^ found.1);
            }
            other += 1;
        }
        bit += 1;
    }
    let mut combinations = [0; SLOT_BITS];
    let mut bit = 0;
    while bit < SLOT_BITS {
        combinations[bit] = rows[bit].1;
        bit += 1;
    }
    combinations
};

/// Three letters that hash to a slot.
fn tag_of(slot: u16) -> [u8; 3] {
    let change = slot ^ NO_BITS;
    let set = LETTERS.iter().enumerate().filter(|(bit, _)| change >> bit & 1 != 0);
    letters(set.fold(0, |all, (_, bits)| all ^ bits))
}

/// Whether a prefix will do.
pub fn is_prefix(text: &[u8]) -> bool {
    let printable = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'{' | b'}');
    (1..=LONGEST_PREFIX).contains(&text.len()) && text.iter().all(printable)
}

/// The name of a key's companion.
pub fn name(prefix: &[u8], key: &[u8]) -> Vec<u8> {
    let mut name = Vec::with_capacity(prefix.len() + BRACED + key.len());
    name.extend_from_slice(prefix);
    name.push(b'{');
    name.extend_from_slice(&tag_of(slot::of(key)));
    name.push(b'}');
    name.extend_from_slice(key);
    name
}

/// Whether a name is reserved for companions.
#[inline]
pub fn is_reserved(prefix: &[u8], name: &[u8]) -> bool {
    name.starts_with(prefix)
}

/// The key that this is the name of the companion of.
#[inline]
pub fn key_of<'a>(prefix: &[u8], name: &'a [u8]) -> Option<&'a [u8]> {
    let rest = name.strip_prefix(prefix)?;
    let (braced, key) = rest.split_at_checked(BRACED)?;
    if is_reserved(prefix, key) {
        return None;
    }
    let tag = tag_of(slot::of(key));
    (braced == [b'{', tag[0], tag[1], tag[2], b'}']).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PREFIX: &[u8] = b"~cf";

    #[test]
    fn letters_for_every_slot() {
        for slot in 0..slot::SLOTS {
            let tag = tag_of(slot);
            assert_eq!(slot::of(&tag), slot);
            assert!(tag.iter().all(|byte| matches!(byte, b'@'..=b'O' | b'`'..=b'o')), "{tag:?}");
        }
    }

    fn names() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"{".to_vec()),
            Just(b"}".to_vec()),
            Just(b"{}".to_vec()),
            Just(PREFIX.to_vec()),
            Just(b"\r\n\0\xff".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..6),
            "[a-z0-9:]{0,12}".prop_map(String::into_bytes),
        ];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// In the key's slot, told apart from every other, and back.
        #[test]
        fn every_key_has_one(one in names(), other in names()) {
            let companion = name(PREFIX, &one);
            prop_assert_eq!(slot::of(&companion), slot::of(&one));
            prop_assert!(is_reserved(PREFIX, &companion));
            let back = key_of(PREFIX, &companion);
            prop_assert_eq!(back, (!is_reserved(PREFIX, &one)).then_some(&one[..]));
            prop_assert_eq!(companion == name(PREFIX, &other), one == other);
        }

        /// What anybody may call a key is no companion but of the key it names.
        #[test]
        fn a_name_is_read_as_it_is_written(any in names()) {
            let reserved = [PREFIX, &any].concat();
            if let Some(key) = key_of(PREFIX, &reserved) {
                prop_assert_eq!(name(PREFIX, key), reserved);
            }
        }
    }

    #[test]
    fn prefixes() {
        for good in [&b"~cf"[..], b"_", &[b'x'; LONGEST_PREFIX]] {
            assert!(is_prefix(good));
        }
        for bad in [&b""[..], b"a{", b"}", b"a b", b"\n", "é".as_bytes(), &[b'x'; LONGEST_PREFIX + 1]] {
            assert!(!is_prefix(bad), "{bad:?}");
        }
    }
}
