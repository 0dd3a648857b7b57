use super::*;
use crate::entry::tests::any_meta;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn encoded(meta: &Meta, unpacked: Option<u32>, tags: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(meta, unpacked, tags.iter().copied(), true, &mut out);
    out
}

fn any_tags() -> impl Strategy<Value = BTreeSet<Vec<u8>>> {
    proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 0..5), 0..4)
}

fn slices(tags: &BTreeSet<Vec<u8>>) -> Vec<&[u8]> {
    tags.iter().map(Vec::as_slice).collect()
}

type Owned = (Meta, Option<u32>, Vec<Vec<u8>>);

/// What was decoded, with tags of its own.
fn owned(bytes: &[u8]) -> Result<Owned, CodecError> {
    let own = |tags: &Names<'_>| tags.iter().map(|tag| tag.to_vec()).collect();
    decode(bytes).map(|Decoded { meta, tags, unpacked }| (meta, unpacked, own(&tags)))
}

/// How long a value may be said to be: often nothing, for most are not packed.
fn any_unpacked() -> impl Strategy<Value = Option<u32>> {
    proptest::option::of(any::<u32>())
}

fn own(tags: &[&[u8]]) -> Vec<Vec<u8>> {
    tags.iter().map(|tag| tag.to_vec()).collect()
}

fn again(meta: &Meta, unpacked: Option<u32>, tags: &[Vec<u8>]) -> Vec<u8> {
    encoded(meta, unpacked, &tags.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn round_trip(meta in any_meta(), unpacked in any_unpacked(), tags in any_tags()) {
        let tags = slices(&tags);
        prop_assert_eq!(owned(&encoded(&meta, unpacked, &tags)), Ok((meta, unpacked, own(&tags))));
    }

    #[test]
    fn without_hits_nothing_else_is_lost(meta in any_meta(), tags in any_tags()) {
        let (mut out, tags) = (Vec::new(), slices(&tags));
        encode(&meta, None, tags.iter().copied(), false, &mut out);
        prop_assert_eq!(owned(&out), Ok((Meta { hits: 0, ..meta }, None, own(&tags))));
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok((meta, unpacked, tags)) = owned(&bytes) {
            prop_assert!(meta.is_sound());
            prop_assert_eq!(again(&meta, unpacked, &tags), bytes, "one metadata, one encoding");
        }
    }

    #[test]
    fn any_bytes_behind_a_right_head_are_answered(
        version in VERSION..=VERSION_PACKED,
        fields in 0..=KNOWN,
        rest in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut bytes = vec![version];
        put(&mut bytes, fields);
        bytes.extend_from_slice(&rest);
        if let Ok((meta, unpacked, tags)) = owned(&bytes) {
            prop_assert!(meta.is_sound());
            prop_assert_eq!(again(&meta, unpacked, &tags), bytes);
        }
    }

    #[test]
    fn every_truncation_and_every_flip_is_answered(
        meta in any_meta(), unpacked in any_unpacked(), tags in any_tags(), bit in 0usize..8,
    ) {
        let tags = slices(&tags);
        let good = encoded(&meta, unpacked, &tags);
        for end in 0..good.len() {
            prop_assert!(decode(&good[..end]).is_err());
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            if let Ok(other) = owned(&bad) {
                prop_assert!(other.0.is_sound());
                prop_assert_ne!(other, (meta, unpacked, own(&tags)));
            }
        }
    }
}

#[test]
fn a_short_value_lies_with_its_metadata_and_a_long_one_apart() {
    for (len, apart) in [(0, false), (1, false), (TOGETHER, false), (TOGETHER + 1, true)] {
        for meta in [&[][..], UNSAVED, &[7; 300]] {
            let value = vec![5; len];
            let (first, second) = pack(meta, &value);
            assert_eq!(second.is_some(), apart);
            let (read, together) = unpack(&first).unwrap();
            assert_eq!((read, together.or(second)), (meta, Some(&value[..])));
        }
    }
    assert_eq!(unpack(&[]), Err(CodecError::Truncated));
    assert_eq!(unpack(&[4, 1]), Err(CodecError::Truncated), "shorter than it says");
    assert_eq!(unpack(&[3, 1, 2]), Err(CodecError::Trailing), "a value here and one apart");
    assert_eq!(unpack(&[0x82, 0, 1]), Err(CodecError::Number));
    assert_eq!(unpack(&[0xff; 11]), Err(CodecError::Number));
}

#[test]
fn each_error_is_told() {
    assert_eq!(decode(&[]), Err(CodecError::Truncated));
    assert_eq!(decode(UNSAVED), Err(CodecError::Unsaved));
    assert_eq!(decode(&[9, 0, 0]), Err(CodecError::Version(9)));
    assert_eq!(decode(&[1, 0x80, 0x02, 0]), Err(CodecError::Field), "of a later version");
    assert_eq!(decode(&[2, 0x80, 0x04, 0, 64]), Err(CodecError::Field));
    assert_eq!(decode(&[3, 0x80, 0x08, 0]), Err(CodecError::Field));
    assert_eq!(decode(&[1, 0x80, 0x04, 0, 64]), Err(CodecError::Field), "packed, in a version before that");
    assert_eq!(decode(&[3, 0, 1]), Err(CodecError::Field));
    assert_eq!(decode(&[2, 0, 1]), Err(CodecError::Field), "what the version is for is not there");
    assert_eq!(decode(&[1, 0x80, 0x00, 0]), Err(CodecError::Number), "not the shortest form");
    assert_eq!(decode(&[1, 0, 0x80, 0x00]), Err(CodecError::Number));
    assert_eq!(decode(&[1, GRACE as u8, 1, 5]), Err(CodecError::Unsound), "grace without an end");
    assert_eq!(decode(&[1, 0, 1, 1]), Err(CodecError::Trailing));
    assert_eq!(decode(&[1, COST as u8, 1, 0x80, 0x80, 0x80, 0x80, 0x10]), Err(CodecError::Number));
    let adaptive = |rest: &[u8]| {
        let bytes = [&[2, 0x81, 0x02, 1, 9][..], rest].concat();
        decode(&bytes).map(|decoded| decoded.meta.adaptive.is_some())
    };
    assert_eq!(adaptive(&[5, 60, 7, 3, 1, 0x41]), Ok(true));
    assert_eq!(adaptive(&[0, 60, 7, 3, 1, 0]), Err(CodecError::Unsound), "no time at all");
    assert_eq!(adaptive(&[61, 60, 7, 3, 1, 0]), Err(CodecError::Unsound));
    assert_eq!(adaptive(&[5, 60, 7, 3, 1, 0xa0, 1]), Err(CodecError::Number), "a reason that is none");
    assert_eq!(adaptive(&[5, 60, 7, 3, 0x80, 0x80, 4, 0]), Err(CodecError::Number));
    assert_eq!(adaptive(&[5, 60, 7, 3]), Err(CodecError::Truncated));
    assert_eq!(decode(&[2, 0x80, 0x02, 1, 5, 60, 7, 3, 1, 0]), Err(CodecError::Unsound), "without an end");
    let packed = |rest: &[u8]| decode(&[&[3, 0x80, 0x04, 1], rest].concat()).map(|d| d.unpacked);
    assert_eq!(packed(&[0x40]), Ok(Some(64)));
    assert_eq!(packed(&[0x80, 0x80, 0x80, 0x80, 0x10]), Err(CodecError::Number), "2^32");
    assert_eq!(packed(&[]), Err(CodecError::Truncated));
    let tagged = |rest: &[u8]| {
        let bytes = [&[1, 0x80, 0x01, 7][..], rest].concat();
        decode(&bytes).map(|decoded| decoded.tags.len())
    };
    assert_eq!(tagged(&[0]), Err(CodecError::Unsound), "no tags, and the field is there");
    assert_eq!(tagged(&[2, 1, b'a', 1, b'a']), Err(CodecError::Unsound), "a tag twice");
    assert_eq!(tagged(&[2, 1, b'a', 1, b'b']), Ok(2));
    assert_eq!(tagged(&[1, 0]), Ok(1), "the empty tag is a tag");
    assert_eq!(tagged(&[2, 1, b'a']), Err(CodecError::Truncated));
    assert_eq!(tagged(&[1, 9, b'a']), Err(CodecError::Truncated));
    assert_eq!(tagged(&[0x80, 0x80, 0x04]), Err(CodecError::Tags), "2^16 of them");
    assert_eq!(tagged(&[1, 0x80, 0x80, 0x04]), Err(CodecError::Tags), "2^16 bytes");
}
