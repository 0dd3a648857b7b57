//! Patterns as Redis's KEYS and SCAN know them: `*`, `?`, `[a-z]`, `[^a]`,
//! `\` before what is meant as it is.
//!
//! Why not as Redis does it (`stringmatchlen`, src/util.c): that recurses at
//! each star, and needs a limit on its depth (CVE-2022-36021, CVE-2024-31228).
//! Here only the last star is gone back to, which is enough, since an earlier
//! one that took more would leave less for a later one to find: time is
//! pattern × text at the worst, and nothing recurses.

/// Whether the whole text is what the pattern says.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // The last star, and how much of the text it has taken.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match step(&pattern[p..], text[t]) {
            Step::Star => {
                star = Some((p, t));
                p += 1;
                continue;
            }
            Step::Yes(len) => {
                p += len;
                t += 1;
                continue;
            }
            Step::No => {}
        }
        let Some((at, taken)) = star else { return false };
        star = Some((at, taken + 1));
        (p, t) = (at + 1, taken + 1);
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

enum Step {
    Star,
    /// The byte is what so many bytes of the pattern say.
    Yes(usize),
    No,
}

/// What the pattern's beginning says of a byte.
fn step(pattern: &[u8], byte: u8) -> Step {
    match *pattern {
        [] => Step::No,
        [b'*', ..] => Step::Star,
        [b'?', ..] => Step::Yes(1),
        [b'[', ref class @ ..] => {
            let (holds, len) = in_class(class, byte);
            if holds {
                Step::Yes(1 + len)
            } else {
                Step::No
            }
        }
        [b'\\', c, ..] if c == byte => Step::Yes(2),
        [b'\\', _, ..] => Step::No,
        [c, ..] if c == byte => Step::Yes(1),
        [..] => Step::No,
    }
}

/// Whether a byte is in the class behind a `[`, and the class's length with
/// its `]`; one that is not closed ends with the pattern.
fn in_class(class: &[u8], byte: u8) -> (bool, usize) {
    let (negated, mut i) = match class {
        [b'^', ..] => (true, 1),
        _ => (false, 0),
    };
    let mut found = false;
    while let Some(&c) = class.get(i) {
        match (c, class.get(i + 1), class.get(i + 2)) {
            (b']', _, _) => return (found != negated, i + 1),
            (b'\\', Some(&escaped), _) => {
                found |= escaped == byte;
                i += 2;
            }
            (from, Some(b'-'), Some(&to)) => {
                found |= (from.min(to)..=from.max(to)).contains(&byte);
                i += 3;
            }
            (c, _, _) => {
                found |= c == byte;
                i += 1;
            }
        }
    }
    (found != negated, class.len())
}

#[cfg(test)]
mod tests {
    use super::matches;
    use proptest::prelude::*;

    /// The meaning, by recursion: stars and question marks alone.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
            ([b'?', p @ ..], [_, t @ ..]) => naive(p, t),
            ([c, p @ ..], [d, t @ ..]) => c == d && naive(p, t),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn means_what_recursion_means(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), naive(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_pattern_is_answered(pattern in proptest::collection::vec(any::<u8>(), 0..40), text in proptest::collection::vec(any::<u8>(), 0..40)) {
            matches(&pattern, &text);
        }
    }

    #[test]
    fn classes_and_escapes() {
        let yes: [(&[u8], &[u8]); 9] = [
            (b"h[ae]llo", b"hallo"),
            (b"h[^e]llo", b"hallo"),
            (b"h[a-c]llo", b"hbllo"),
            (b"h[c-a]llo", b"hbllo"),
            (b"a\\*b", b"a*b"),
            (b"[\\]]", b"]"),
            (b"[-a]", b"-"),
            (b"x[ab", b"xb"),
            (b"", b""),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern, text), "{pattern:?} {text:?}");
        }
        let no: [(&[u8], &[u8]); 6] = [
            (b"h[^e]llo", b"hello"),
            (b"h[a-c]llo", b"hdllo"),
            (b"a\\*b", b"axb"),
            (b"a", b""),
            (b"?", b""),
            (b"a", b"ab"),
        ];
        for (pattern, text) in no {
            assert!(!matches(pattern, text), "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let (pattern, text) = (b"*a".repeat(2000), b"a".repeat(1024));
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text));
    }
}
