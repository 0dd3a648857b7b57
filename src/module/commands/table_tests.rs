//! What must hold of every line of the table.

use std::collections::HashSet;

use cacheflow_core::times::InvalidTime;

use super::*;
use crate::ffi::register::{Arg, ArgKind, Keys};

fn all() -> impl Iterator<Item = &'static Spec> {
    TABLE.iter().chain(DEBUG_TABLE).map(|entry| entry.spec)
}

/// Whether a command is nothing but its subcommands.
fn is_container(spec: &Spec) -> bool {
    let prefix = [spec.name.to_bytes(), b"|"].concat();
    all().any(|other| other.name.to_bytes().starts_with(&prefix))
}

fn words(text: &'static CStr) -> HashSet<&'static str> {
    text.to_str().expect("text").split(' ').collect()
}

#[test]
fn names_are_unique_and_lower_case() {
    let mut seen = HashSet::new();
    for spec in all() {
        let name = spec.name.to_str().expect("text");
        assert!(name.starts_with("cache.") && name == name.to_lowercase(), "{name}");
        assert!(seen.insert(name), "{name} twice");
    }
}

#[test]
fn a_write_denies_oom_or_says_why_not() {
    // These free or must be done whatever memory is left; their files say so.
    let without = [
        "cache.del",
        "cache.stale",
        "cache.lock",
        "cache.unlock",
        "cache.extend",
        "cache.applylock",
        "cache.untag",
        "cache.invalidate",
        "cache.apply",
        "cache.applystate",
        "cache.invalidated",
        "cache.namespace|set",
        "cache.namespace|del",
    ];
    for spec in all() {
        let (flags, name) = (words(spec.flags), spec.name.to_str().expect("text"));
        let exempt = without.contains(&name);
        assert_eq!(flags.contains("write") && !exempt, flags.contains("deny-oom"), "{name}");
    }
}

#[test]
fn flags_and_categories_agree() {
    for spec in all() {
        let (flags, acl) = (words(spec.flags), words(spec.acl));
        for (flag, category) in [("readonly", "read"), ("write", "write"), ("fast", "fast")] {
            assert_eq!(flags.contains(flag), acl.contains(category), "{:?}: {flag}", spec.name);
        }
        assert!(!flags.contains("admin") || acl.contains("admin"), "{:?}", spec.name);
        assert!(!acl.contains("admin") || acl.contains("dangerous"), "{:?}", spec.name);
        assert!(!(acl.contains("fast") && acl.contains("slow")), "{:?}", spec.name);
        if is_container(spec) {
            assert!(spec.flags.is_empty() && spec.acl.is_empty(), "{:?}", spec.name);
            continue;
        }
        let kinds = ["readonly", "write", "admin"].iter().filter(|kind| flags.contains(**kind)).count();
        assert_eq!(kinds, 1, "{:?}", spec.name);
    }
}

#[test]
fn every_key_is_under_a_key_spec_and_writes_say_so() {
    use crate::ffi::raw::*;
    for spec in all() {
        let keys = spec.args.iter().filter(|arg| matches!(arg.kind, ArgKind::Key)).count();
        let multiple = spec.args.iter().any(|arg| matches!(arg.kind, ArgKind::Key) && arg.multiple);
        match spec.keys {
            Keys::None => assert_eq!(keys, 0, "{:?}", spec.name),
            Keys::First(flags) | Keys::All(flags) => {
                assert_eq!(keys, 1, "{:?}", spec.name);
                assert_eq!(multiple, matches!(spec.keys, Keys::All(_)), "{:?}", spec.name);
                let reads_only = flags & REDISMODULE_CMD_KEY_RO != 0;
                assert_eq!(reads_only, words(spec.flags).contains("readonly"), "{:?}", spec.name);
            }
        }
    }
}

/// What shows or changes more than keys that are named in it cannot be bound
/// by key patterns: it is for operators, or (CACHE.INVALIDATE) bound by channel
/// permissions, or (CACHE.STATS, what is set for namespaces) tells of no key.
#[test]
fn what_names_no_key_is_for_operators_or_says_why_not() {
    let for_all = ["cache.invalidate", "cache.stats", "cache.namespace|get", "cache.namespace|list"];
    for spec in all().filter(|spec| spec.keys == Keys::None && !is_container(spec)) {
        let name = spec.name.to_str().expect("text");
        assert_eq!(!for_all.contains(&name), words(spec.acl).contains("dangerous"), "{name}");
    }
}

/// The words that an argument takes at least, and whether it may take more.
fn words_of(arg: &Arg) -> (i32, bool) {
    let (least, open) = match arg.kind {
        ArgKind::OneOf(args) => {
            let each: Vec<(i32, bool)> = args.iter().map(words_of).collect();
            let least = each.iter().map(|(least, _)| *least).min().expect("a choice");
            (least, each.iter().any(|(words, open)| *open || *words != least))
        }
        ArgKind::Block(args) => {
            let each: Vec<(i32, bool)> = args.iter().map(words_of).collect();
            let all = each.iter().map(|(least, _)| least).sum::<i32>();
            (all + i32::from(arg.token.is_some()), each.iter().any(|(_, open)| *open))
        }
        ArgKind::Word => (1, false),
        _ => (1 + i32::from(arg.token.is_some()), false),
    };
    (if arg.optional { 0 } else { least }, open || arg.optional || arg.multiple)
}

#[test]
fn the_arity_counts_the_words_that_must_be_there() {
    for spec in all() {
        let names = spec.name.to_bytes().split(|&byte| byte == b'|').count() as i32;
        if is_container(spec) {
            assert_eq!(spec.arity, -2, "{:?}", spec.name);
            continue;
        }
        let needed = names + spec.args.iter().map(|arg| words_of(arg).0).sum::<i32>();
        let open = spec.args.iter().any(|arg| words_of(arg).1);
        assert_eq!(spec.arity, if open { -needed } else { needed }, "{:?}", spec.name);
    }
}

#[test]
fn errors_begin_with_their_stable_prefix() {
    let too_big = Error::TooBig { bytes: 9, limit: 5 }.text("cache.set");
    assert!(too_big.starts_with("TOOBIG value of 9 bytes exceeds cacheflow.max-value-size"), "{too_big}");
    let time = Error::from(InvalidTime).text("cache.set");
    assert_eq!(time, "ERR invalid expire time in 'cache.set' command");
}
