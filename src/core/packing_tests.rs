use super::*;
use proptest::prelude::*;

/// What pages and records are like: words, again and again in another order.
fn any_text(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 8] =
        ["{\"id\":", "\"name\":\"", "</li>\n<li>", "price", ",", "\"}", "class=\"item\"", " 4711 "];
    proptest::collection::vec((0..WORDS.len(), any::<u8>()), 0..longest / 6).prop_map(|words| {
        words.into_iter().flat_map(|(word, byte)| [WORDS[word].as_bytes(), &[byte]].concat()).collect()
    })
}

fn any_bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..longest)
}

fn packed(value: &[u8]) -> Option<(Vec<u8>, u32)> {
    let mut packer = Packer::default();
    packer.pack(value, |_| true).map(|packed| (packed.bytes.to_vec(), packed.length))
}

proptest! {
    /// The same packer and the same buffer for all, as the module has them: what
    /// one value leaves there is nothing to the next.
    #[test]
    fn what_is_packed_is_unpacked(values in proptest::collection::vec(any_text(24_000), 1..4)) {
        let (mut packer, mut room) = (Packer::default(), Vec::new());
        for value in values {
            let Some(packed) = packer.pack(&value, |_| true) else { continue };
            prop_assert!(packed.bytes.len() < value.len());
            prop_assert_eq!(Packed::new(packed.bytes, packed.length), Some(packed));
            prop_assert_eq!(packed.unpack(&mut room), Ok(&value[..]));
            packer.rest();
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in any_bytes(300), length in 0u32..100_000) {
        let mut room = Vec::new();
        match Packed::new(&bytes, length) {
            None => prop_assert!(
                (length as usize) < LEAST || bytes.len() >= length as usize || bytes.len() * 255 < length as usize
            ),
            Some(packed) => {
                if let Ok(value) = packed.unpack(&mut room) {
                    prop_assert_eq!(value.len(), length as usize);
                }
                prop_assert!(room.len() <= length as usize);
            }
        }
    }

    /// Of a value that was packed: bits turned, cut short, longer, said to be longer.
    #[test]
    fn what_was_falsified_is_answered(
        value in any_text(3000), flip in any::<prop::sample::Index>(), bit in 0u8..8, more in any_bytes(20), off in 1u32..40,
    ) {
        let Some((good, length)) = packed(&value) else { return Ok(()) };
        let mut room = Vec::new();
        let mut unpack = |bytes: &[u8], length| {
            Packed::new(bytes, length).map(|packed| packed.unpack(&mut room).map(<[u8]>::to_vec))
        };
        let mut flipped = good.clone();
        flipped[flip.index(good.len())] ^= 1 << bit;
        if let Some(Ok(other)) = unpack(&flipped, length) {
            prop_assert_eq!(other.len(), value.len());
        }
        let cut = flip.index(good.len());
        prop_assert!(!matches!(unpack(&good[..cut], length), Some(Ok(_))));
        for wrong in [length + off, length.saturating_sub(off)] {
            prop_assert!(!matches!(unpack(&good, wrong), Some(Ok(_))));
        }
        if let Some(Ok(other)) = unpack(&[&good[..], &more].concat(), length) {
            prop_assert_eq!(other.len(), value.len());
        }
    }
}

#[test]
fn a_length_that_cannot_be_is_refused_before_any_room_is_made() {
    let bytes = [0x1f; 1000];
    for (length, can_be) in
        [(63, false), (1000, false), (1001, true), (255_000, true), (255_001, false), (u32::MAX, false)]
    {
        assert_eq!(Packed::new(&bytes, length).is_some(), can_be, "{length}");
    }
    assert_eq!(Packed::new(&bytes[..63], 64).map(|packed| packed.length), Some(64));
    assert_eq!(Packed::new(&[], 64), None);
    let long = vec![0; 8 << 20];
    assert!(Packed::new(&long, LONGEST_VALUE as u32).is_some());
    assert!(Packed::new(&long, LONGEST_VALUE as u32 + 1).is_none());
    assert_eq!(Content::arrived(&bytes, Some(63)), None);
    assert_eq!(Content::arrived(&bytes, None), Some(Content::Plain(&bytes)));
}

#[test]
fn no_value_that_compresses_well_is_refused_when_it_comes_back() {
    for length in [64, 65, 255, 4096, SAMPLED_FROM, 65_534, 65_535, 65_536, 1 << 20] {
        let zeros = vec![0; length];
        let (bytes, said) = packed(&zeros).expect("zeros are packed");
        let arrived = Packed::new(&bytes, said).expect("and are what they can be");
        assert_eq!(arrived.unpack(&mut Vec::new()), Ok(&zeros[..]));
    }
}

#[test]
fn what_does_not_compress_is_left_after_the_sample() {
    let mut state = 1u64;
    let mut noise = |n: usize| -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u8
        };
        (0..n).map(|_| next()).collect()
    };
    let mut packer = Packer::default();
    for length in [64, 1000, SAMPLED_FROM - 1, SAMPLED_FROM, 1 << 20] {
        assert_eq!(packer.pack(&noise(length), |_| true), None, "{length}");
    }
    let sampled = get_maximum_output_size(SAMPLED_FROM);
    assert!(packer.out.len() <= sampled, "a long one was not tried: {}", packer.out.len());
    let mut pictures = [vec![b' '; 4000], noise(60_000)].concat();
    assert_eq!(packer.pack(&pictures, |_| true), None, "a head that compresses, and noise");
    pictures.reverse();
    assert_eq!(packer.pack(&pictures, |_| true), None);
}

#[test]
fn it_pays_by_what_is_allocated() {
    let classes = Classes::default();
    for (plain, packed, pays_off) in [
        (512, 448, true),
        (512, 449, false),
        // A quarter less, and in the same class.
        (160, 129, false),
        (161, 160, true),
        (5121, 5120, true),
        (6144, 5121, false),
        (100, 200, false),
    ] {
        assert_eq!(pays(classes, plain, packed), pays_off, "{plain} to {packed}");
    }
    assert_eq!(Packer::default().pack(&[0; 1000], |_| false), None);
}

#[test]
fn limits_admit_what_is_between_them() {
    let limits = |min, max| Limits { min, max };
    assert!(!Limits::default().admit(1000) && !limits(0, 1000).admit(500), "off");
    assert!(limits(1, 1000).admit(64) && !limits(1, 1000).admit(63), "no shorter than any");
    assert!(limits(500, 1000).admit(500) && !limits(500, 1000).admit(499));
    assert!(limits(500, 1000).admit(1000) && !limits(500, 1000).admit(1001));
    assert!(!limits(2000, 1000).admit(1500), "none is both");
}

#[test]
fn buffers_of_unusual_size_are_let_go() {
    let mut packer = Packer::default();
    let long = vec![7; 4 << 20];
    assert!(packer.pack(&long, |_| true).is_some());
    assert!(packer.allocated() > long.len());
    packer.rest();
    assert!(packer.allocated() < KEPT);
    assert!(packer.pack(&long[..100_000], |_| true).is_some());
    let held = packer.allocated();
    packer.rest();
    assert_eq!(packer.allocated(), held, "it is kept");
}
