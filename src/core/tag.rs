//! Tags as words: how many, how long, named once.

use std::collections::HashSet;

use smallvec::SmallVec;

/// The most tags that an entry can carry, whatever `max-tags-per-entry` says.
pub const MOST_TAGS: usize = u16::MAX as usize;
/// The longest tag there can be, whatever `max-tag-length` says.
pub const LONGEST_TAG: usize = u16::MAX as usize;

/// What the directives allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `cacheflow.max-tags-per-entry`.
    pub tags: usize,
    /// `cacheflow.max-tag-length`, in bytes.
    pub length: usize,
}

/// Names of tags, few of them in place: a write allocates none for them.
pub type Names<'a> = SmallVec<[&'a [u8]; 8]>;

/// Why tags were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagError {
    /// More than an entry may have.
    TooMany {
        /// Different ones named.
        count: usize,
        /// What is allowed.
        limit: usize,
    },
    /// One that is too long.
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// Past this many a set finds repetitions, below it a look at each pair.
const FEW: usize = 16;

/// Whether a tag is named twice.
pub fn repeats(tags: &[&[u8]]) -> bool {
    if tags.len() <= FEW {
        return tags.iter().enumerate().any(|(i, tag)| tags[..i].contains(tag));
    }
    let mut seen = HashSet::with_capacity(tags.len());
    !tags.iter().all(|tag| seen.insert(*tag))
}

/// The tags named, each once, in their order.
///
/// # Errors
/// [`TagError`] says which limit they pass.
pub fn once<'a>(
    named: impl Iterator<Item = &'a [u8]>,
    limits: Limits,
    into: &mut Names<'a>,
) -> Result<(), TagError> {
    let mut seen: Option<HashSet<&[u8]>> = None;
    for tag in named {
        if tag.len() > limits.length.min(LONGEST_TAG) {
            return Err(TagError::TooLong { bytes: tag.len(), limit: limits.length });
        }
        let repeated = if into.len() <= FEW {
            into.contains(&tag)
        } else {
            !seen.get_or_insert_with(|| into.iter().copied().collect()).insert(tag)
        };
        if !repeated {
            into.push(tag);
        }
    }
    check_count(into.len(), limits)
}

/// The names named, each once, in their order, however many and however long.
pub fn once_unlimited<'a>(named: impl Iterator<Item = &'a [u8]>, into: &mut Names<'a>) {
    let mut seen = HashSet::new();
    into.extend(named.filter(|name| seen.insert(*name)));
}

/// Whether an entry may carry so many.
///
/// # Errors
/// [`TagError::TooMany`].
pub fn check_count(count: usize, limits: Limits) -> Result<(), TagError> {
    if count > limits.tags.min(MOST_TAGS) {
        return Err(TagError::TooMany { count, limit: limits.tags });
    }
    Ok(())
}

/// What an entry's tags are once those named are added, and how many are new.
///
/// # Errors
/// [`TagError`] says which limit is passed. An entry that has more already
/// (the limit was lowered) may keep them.
pub fn added<'a>(
    there: &[&'a [u8]],
    named: impl Iterator<Item = &'a [u8]>,
    limits: Limits,
) -> Result<(Names<'a>, usize), TagError> {
    let mut all = Names::from_slice(there);
    let room = Limits { tags: limits.tags.max(there.len()), ..limits };
    match once(named, room, &mut all) {
        Ok(()) => {
            let new = all.len() - there.len();
            Ok((all, new))
        }
        Err(TagError::TooMany { count, .. }) => Err(TagError::TooMany { count, limit: limits.tags }),
        Err(other) => Err(other),
    }
}

/// What an entry's tags are without those named.
pub fn without<'a>(there: &[&'a [u8]], named: impl Iterator<Item = &'a [u8]>) -> Names<'a> {
    let named: HashSet<&[u8]> = named.collect();
    there.iter().copied().filter(|tag| !named.contains(tag)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { tags: 40, length: 3 };

    proptest! {
        #[test]
        fn each_once_and_in_order(named in proptest::collection::vec("[a-d]{0,3}", 0..60)) {
            let mut expected: Vec<&[u8]> = Vec::new();
            named.iter().map(|tag| tag.as_bytes()).for_each(|tag| if !expected.contains(&tag) { expected.push(tag) });
            let mut got = Names::new();
            let done = once(named.iter().map(|tag| tag.as_bytes()), LIMITS, &mut got);
            prop_assert_eq!(done.is_ok(), expected.len() <= LIMITS.tags);
            prop_assert_eq!(&got[..], &expected[..]);
            prop_assert!(!repeats(&got));
            let all: Vec<&[u8]> = named.iter().map(|tag| tag.as_bytes()).collect();
            prop_assert_eq!(repeats(&all), all.len() != expected.len());
        }
    }

    #[test]
    fn adding_and_taking_away() {
        let (there, limits): (Vec<&[u8]>, _) = (vec![b"a", b"b"], Limits { tags: 3, length: 1 });
        let add = |named: &[&'static [u8]], limits| added(&there, named.iter().copied(), limits);
        assert_eq!(add(&[b"b", b"c", b"c"], limits), Ok((Names::from_slice(&[b"a", b"b", b"c"]), 1)));
        assert_eq!(add(&[b"c", b"d"], limits), Err(TagError::TooMany { count: 4, limit: 3 }));
        let lowered = Limits { tags: 1, length: 1 };
        assert_eq!(
            add(&[b"a"], lowered),
            Ok((Names::from_slice(&there), 0)),
            "lowered since: it keeps what it has"
        );
        assert_eq!(add(&[b"c"], lowered), Err(TagError::TooMany { count: 3, limit: 1 }));
        assert_eq!(without(&there, [&b"b"[..], b"x", b"b"].into_iter())[..], [b"a"]);
    }

    #[test]
    fn limits() {
        let of = |named: &[&'static [u8]], limits| {
            let mut into = Names::new();
            once(named.iter().copied(), limits, &mut into).map(|()| into.len())
        };
        assert_eq!(of(&[b"a", b"b", b"a"], Limits { tags: 2, length: 1 }), Ok(2));
        assert_eq!(
            of(&[b"a", b"b"], Limits { tags: 1, length: 1 }),
            Err(TagError::TooMany { count: 2, limit: 1 })
        );
        assert_eq!(
            of(&[b"", b"aa"], Limits { tags: 9, length: 1 }),
            Err(TagError::TooLong { bytes: 2, limit: 1 })
        );
    }
}
