use super::*;
use crate::adaptive::tests::any_adaptive;
use proptest::option;
use proptest::prelude::*;

/// Every sound [`Meta`], the implied times as likely as others.
pub fn any_meta() -> impl Strategy<Value = Meta> {
    let time = 0..=LAST_TIME;
    (
        (0..STAMP_LIMIT, option::of(time.clone()), option::of(time.clone()), time.clone()),
        (option::of(time.clone()), time, any::<u32>(), 0u64..1 << 31),
        option::of(any_adaptive()),
    )
        .prop_map(|((born, end, written, length), (staled, grace, cost, hits), adaptive)| {
            let born = Stamp(born);
            let written = written.map_or(born.time(), Time);
            let fresh_until = end.map(Time);
            let implied = length % 2 == 0;
            let length = fresh_until.map(|end| if implied { end.since(written) } else { Millis(length) });
            Meta {
                born,
                written,
                fresh_until,
                length,
                grace: Millis(if fresh_until.is_some() && grace % 3 != 0 { grace } else { 0 }),
                staled_at: staled.map(Time),
                cost: Cost(if cost % 2 == 0 { cost } else { 0 }),
                hits: hits::decode(hits::encode(hits)),
                dead: hits % 5 == 0,
                adaptive: adaptive.filter(|_| fresh_until.is_some()),
            }
        })
}

fn bytes(longest: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..longest)
}

proptest! {
    #[test]
    fn reads_what_was_built(
        meta in any_meta(), name in bytes(300), value in bytes(70_000), tags in proptest::collection::vec(any::<u32>(), 0..5),
        unpacked in option::of(any::<u32>()),
    ) {
        let content = Content::kept(&value, unpacked);
        prop_assert!(meta.is_sound());
        let entry = build(&meta, &name, content, &tags).expect("memory");
        prop_assert_eq!(size_of(&meta, name.len(), value.len(), unpacked.is_some(), tags.len()), Some(entry.len()));
        let base: &[u8; BASE] = entry[..BASE].try_into().expect("a base");
        prop_assert_eq!(size(&entry[..head_size(base)]), entry.len());
        let (at, len, long) = value_span(&entry[..head_size(base)]);
        prop_assert_eq!((&entry[at..at + len], long), (&value[..], unpacked));
        let view = View::new(&entry);
        prop_assert_eq!(view.meta(), meta);
        prop_assert_eq!(view.name(), &name[..]);
        prop_assert_eq!(view.content(), content);
        prop_assert_eq!(view.tags().collect::<Vec<_>>(), tags.clone());
        let mut entry = entry.clone();
        set_slot(&mut entry, 7);
        set_namespace(&mut entry, 65_535);
        for i in 0..tags.len() {
            prop_assert_eq!(View::new(&entry).position(i), NO_POSITION);
            set_position(&mut entry, i, i as u32);
        }
        let view = View::new(&entry);
        prop_assert_eq!((view.slot(), view.namespace()), (7, 65_535));
        prop_assert_eq!(view.meta(), meta);
        prop_assert_eq!((view.name(), view.content()), (&name[..], content));
        prop_assert!((0..tags.len()).all(|i| view.position(i) == i as u32));
        for now in [0, meta.fresh_until.map_or(5, |end| end.0), LAST_TIME] {
            prop_assert_eq!(is_fresh(base, Time(now)), meta.is_fresh(Time(now)));
        }
    }

    #[test]
    fn the_counter_rounds_down_to_what_it_can_hold(count in 0u64..1 << 31) {
        let held = hits::decode(hits::encode(count));
        prop_assert!(held <= count && count - held <= count >> 16);
    }
}

#[test]
fn the_plain_entry_fits_the_size_class_of_160() {
    let meta = Meta {
        born: Stamp(1_700_000_000_000_000),
        written: Time(1_700_000_000_000),
        fresh_until: Some(Time(1_700_000_060_000)),
        length: Some(Millis(60_000)),
        ..Meta::default()
    };
    let entry = build(&meta, &[b'k'; 30], Content::Plain(&[b'v'; 100]), &[]).expect("memory");
    assert_eq!(entry.len(), 160, "one byte more costs 32 an entry");
    let kept = build(&Meta { cost: Cost(7), grace: Millis(9), ..meta }, b"", Content::Plain(b""), &[])
        .expect("memory");
    assert_eq!(kept.len(), BASE + 4 + 6);
    let adaptive = crate::adaptive::Bounds::new(1, 2)
        .and_then(|bounds| Adaptive::of_marks(bounds, Default::default(), (0, 0, 0)));
    let length = |meta, value, tags: &[TagId]| build(&meta, b"", value, tags).expect("memory").len();
    assert_eq!(length(Meta { adaptive, ..meta }, Content::NOTHING, &[1]), BASE + 2 + 17 + 8);
    let packed = Content::kept(b"", Some(64));
    assert_eq!(length(meta, packed, &[]), BASE + 2 + 4);
    assert_eq!(length(Meta { adaptive, ..meta }, packed, &[1, 2, 3, 4]), BASE + 2 + 17 + 4 + 4 * 8);
}

#[test]
fn hits_are_exact_to_two_to_the_seventeen() {
    let mut entry = build(&Meta::default(), b"", Content::Plain(b""), &[]).expect("memory");
    let base: &mut [u8; BASE] = (&mut entry[..]).try_into().expect("a base");
    for _ in 0..1 << 17 {
        count_hit(base, || unreachable!("no chance below 2^17"));
    }
    assert_eq!(View::new(&entry).meta().hits, 1 << 17);
}

#[test]
fn hits_past_that_are_right_in_the_mean() {
    let mut state = 42u64;
    let mut dice = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 32) as u32
    };
    let mut stored = 0;
    for _ in 0..4_000_000 {
        stored = hits::raise(stored, &mut dice);
    }
    let counted = hits::decode(stored) as f64;
    assert!((counted / 4e6 - 1.0).abs() < 0.02, "{counted}");
    let full = ((1 << 20) - 1) | (5 << 20);
    assert_eq!(hits::raise(full, || 0), full);
}

#[test]
fn the_extents_are_the_sums_of_their_fields() {
    for (shape, extent) in EXTENTS.into_iter().enumerate() {
        let sum: usize = FIELDS.iter().filter(|f| shape & usize::from(f.0) != 0).map(|f| f.1).sum();
        let marks = if shape & usize::from(MANY) != 0 { shape >> FIELDS.len() } else { 0 };
        assert_eq!(usize::from(extent), sum + [0, 17, 4, 21][marks]);
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let long = vec![0; LONGEST_VALUE + 1];
    assert_eq!(build(&Meta::default(), b"k", Content::Plain(&long), &[]), Err(BuildError::TooLong));
}

proptest! {
    #[test]
    fn a_glance_says_what_a_closer_look_does(meta in any_meta(), now in 0..=LAST_TIME, near in any::<bool>()) {
        let now = match (near, meta.fresh_until) {
            (true, Some(end)) => Time(end.0.saturating_sub(now % 3000)),
            _ => Time(now),
        };
        let bytes = build(&meta, b"name", Content::Plain(b"value"), &[]).expect("memory");
        let base = bytes.first_chunk::<BASE>().expect("an entry");
        if let Some(left) = left_at_a_glance(base, now) {
            let closely = crate::decide::fetch(&meta, false, || None, now, |_, _, _| panic!("near its end"));
            prop_assert_eq!(closely.left, left);
            prop_assert_eq!(closely.there, crate::leases::There::Fresh { elected: false });
        } else {
            let closer = meta.staled_at.is_some() || meta.dead || !meta.times_are_implied();
            let end = meta.fresh_until;
            let near = end.is_some_and(|end| may_elect(end.since(now), meta.length.unwrap_or_default()));
            prop_assert!(closer || near || end.is_some_and(|end| end <= now));
        }
    }
}

proptest! {
    /// The marks of eviction disturb nothing, and nothing disturbs them.
    #[test]
    fn marks_lie_beside_all_else(meta in any_meta(), last in any::<u32>(), class in 0u8..43, tags in 0usize..6) {
        use crate::evict_class::Marks;
        let tags: Vec<TagId> = (0..tags as u32).collect();
        let mut bytes = build(&meta, b"name", Content::Plain(b"value"), &tags).expect("memory");
        let base = bytes.first_chunk_mut::<BASE>().expect("an entry");
        prop_assert_eq!(marks(base), Marks::default());
        let given = Marks::from_bits(last, class);
        set_marks(base, given);
        let mut next = *base;
        count_hit(base, || u32::MAX);
        mark_dead(&mut base[..]);
        prop_assert_eq!(marks(base), given);
        let counted = hits::decode(hits::raise(hits::encode(meta.hits), || u32::MAX));
        let view = View::new(&bytes);
        prop_assert_eq!(view.meta(), Meta { hits: counted, dead: true, ..meta });
        prop_assert_eq!(view.tags().collect::<Vec<_>>(), tags);
        set_marks(&mut next, Marks::default());
        take_marks(&mut next, bytes.first_chunk().expect("an entry"));
        prop_assert_eq!(marks(&next), given);
    }
}
