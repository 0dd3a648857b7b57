//! The table of what `bench hot` compares. A new comparison is a new entry.

use super::load::Template;
use super::ratio::Target;
use clap::ValueEnum;

/// Rows that are asked for together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// CACHE.GET against GET.
    Get,
    /// CACHE.FETCH, where it hits, against GET.
    Fetch,
    /// CACHE.SET against SET.
    Set,
    /// Native commands with the module against without it.
    Native,
    /// Entries with tags, their memory too.
    Tags,
    /// Memory a key, and a tag.
    Bytes,
}

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Side {
    /// On a server with the module, or on one without. Sides that agree share
    /// a server, each with keys of its own.
    pub module: bool,
    /// Writes every key before the measurement.
    pub fill: &'static [&'static str],
    /// What is measured. `{key}` and `{value}` are filled in.
    pub run: &'static [&'static str],
}

/// Two commands that are compared.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// For `--only`.
    pub group: Group,
    /// For people.
    pub name: &'static str,
    /// Bytes of a value.
    pub value: usize,
    /// What is measured against.
    pub a: Side,
    /// What is measured.
    pub b: Side,
    /// B's commands a second ÷ A's, one command a round trip.
    pub throughput: Target,
    /// B's server CPU a command ÷ A's, sixteen commands a round trip.
    pub cpu: Target,
}

const GET: Side =
    Side { module: true, fill: &["SET", "{key}", "{value}", "EX", "3600"], run: &["GET", "{key}"] };
const CACHE_GET: Side = Side {
    module: true,
    fill: &["CACHE.SET", "{key}", "{value}", "EX", "3600"],
    run: &["CACHE.GET", "{key}"],
};
const FETCH: Side = Side { run: &["CACHE.FETCH", "{key}"], ..CACHE_GET };
const SET: Side = Side { module: true, fill: SET_EX_60, run: SET_EX_60 };
const TAGGED_GET: Side = Side { fill: TAGGED, ..CACHE_GET };
const TAGGED: &[&str] = &["CACHE.SET", "{key}", "{value}", "EX", "3600", "TAGS", "{tag}", "{tag2}"];
const TAGGED_EX_60: &[&str] = &["CACHE.SET", "{key}", "{value}", "EX", "60", "TAGS", "{tag}", "{tag2}"];
const SET_EX_60: &[&str] = &["SET", "{key}", "{value}", "EX", "60"];
const CACHE_SET_EX_60: &[&str] = &["CACHE.SET", "{key}", "{value}", "EX", "60"];

/// Every comparison.
pub const ROWS: &[Row] = &[
    Row {
        group: Group::Get,
        name: "CACHE.GET hit / GET, 100 B",
        value: 100,
        a: GET,
        b: CACHE_GET,
        throughput: Target::AtLeast(0.98),
        cpu: Target::AtMost(1.08),
    },
    Row {
        group: Group::Get,
        name: "CACHE.GET hit / GET, 1 KB",
        value: 1024,
        a: GET,
        b: CACHE_GET,
        throughput: Target::AtLeast(0.98),
        cpu: Target::AtMost(1.08),
    },
    Row {
        group: Group::Fetch,
        name: "CACHE.FETCH hit / GET, 100 B",
        value: 100,
        a: GET,
        b: FETCH,
        throughput: Target::AtLeast(0.97),
        cpu: Target::AtMost(1.15),
    },
    Row {
        group: Group::Fetch,
        name: "CACHE.FETCH hit / GET, 1 KB",
        value: 1024,
        a: GET,
        b: FETCH,
        throughput: Target::AtLeast(0.97),
        cpu: Target::AtMost(1.15),
    },
    Row {
        group: Group::Set,
        name: "CACHE.SET EX 60 / SET EX 60, 100 B",
        value: 100,
        a: SET,
        b: Side { module: true, fill: CACHE_SET_EX_60, run: CACHE_SET_EX_60 },
        throughput: Target::AtLeast(0.97),
        cpu: Target::AtMost(1.10),
    },
    Row {
        group: Group::Tags,
        name: "CACHE.SET EX 60 TAGS a b / SET EX 60",
        value: 100,
        a: SET,
        b: Side { module: true, fill: TAGGED_EX_60, run: TAGGED_EX_60 },
        throughput: Target::AtLeast(0.95),
        cpu: Target::AtMost(1.30),
    },
    Row {
        group: Group::Tags,
        name: "CACHE.GET hit with two tags / GET",
        value: 100,
        a: GET,
        b: TAGGED_GET,
        throughput: Target::AtLeast(0.98),
        cpu: Target::AtMost(1.12),
    },
    Row {
        group: Group::Native,
        name: "GET with the module / without, 100 B",
        value: 100,
        a: Side { module: false, ..GET },
        b: GET,
        throughput: Target::None,
        cpu: Target::AtMost(1.02),
    },
    Row {
        group: Group::Native,
        name: "SET EX 60 with / without, 100 B",
        value: 100,
        a: Side { module: false, ..SET },
        b: SET,
        throughput: Target::None,
        cpu: Target::AtMost(1.02),
    },
];

/// What keys take, on servers that hold nothing else.
pub struct MemoryRow {
    /// For `--only`, beside `bytes`.
    pub group: Group,
    /// For people.
    pub name: &'static str,
    /// Bytes of a value.
    pub value: usize,
    /// What is compared with.
    pub a: &'static [&'static str],
    /// What is measured.
    pub b: &'static [&'static str],
    /// What of it.
    pub weigh: Weigh,
    /// What that should reach.
    pub target: Target,
}

/// What is made of two weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weigh {
    /// Bytes a key that B takes beyond A.
    Key,
    /// The same, divided by the tags of a key.
    Membership(u32),
    /// What the module says it holds in B ÷ what B takes beyond A.
    Reported,
}

const UNTAGGED: &[&str] = &["CACHE.SET", "{key}", "{value}", "EX", "3600"];
const ONE_TAG: &[&str] = &["CACHE.SET", "{key}", "{value}", "EX", "3600", "TAGS", "{tag}"];
const FOUR_TAGS: &[&str] =
    &["CACHE.SET", "{key}", "{value}", "EX", "3600", "TAGS", "{tag}", "{tag2}", "{tag3}", "{tag4}"];

/// A native key that takes what a server takes for an entry's key by itself:
/// name, expiry, tables, and the two headers of 16 bytes each that it puts
/// around a module's value. This string's object has one block of 32 (header,
/// length, twelve bytes, end). So measured, entries without tags take what
/// INFO says within 0.1 % on Redis 7.0 to 8 and on Valkey, and within 1 % on
/// Redis 8.6, which keeps a key's name in the value's header.
const BARE: &[&str] = &["SET", "{key}", "twelve bytes", "EX", "3600"];

/// Every comparison of memory.
pub const MEMORY_ROWS: &[MemoryRow] = &[
    MemoryRow {
        group: Group::Bytes,
        name: "CACHE.SET EX / SET EX, 100 B, 30-B key",
        value: 100,
        a: &["SET", "{key}", "{value}", "EX", "3600"],
        b: UNTAGGED,
        weigh: Weigh::Key,
        target: Target::AtMost(80.0),
    },
    MemoryRow {
        group: Group::Bytes,
        name: "INFO's bytes / bytes taken, no tags",
        value: 100,
        a: BARE,
        b: UNTAGGED,
        weigh: Weigh::Reported,
        target: Target::Between(0.95, 1.05),
    },
    MemoryRow {
        group: Group::Tags,
        name: "1 tag of 10,000 / none, 100 to 124 B",
        value: 100,
        a: UNTAGGED,
        b: ONE_TAG,
        weigh: Weigh::Membership(1),
        target: Target::AtMost(16.0),
    },
    MemoryRow {
        group: Group::Tags,
        name: "4 tags of 10,000 / none, 100 to 124 B",
        value: 100,
        a: UNTAGGED,
        b: FOUR_TAGS,
        weigh: Weigh::Membership(4),
        target: Target::AtMost(16.0),
    },
    MemoryRow {
        group: Group::Tags,
        name: "INFO's bytes / bytes taken, 1 tag",
        value: 100,
        a: BARE,
        b: ONE_TAG,
        weigh: Weigh::Reported,
        target: Target::Between(0.95, 1.05),
    },
    MemoryRow {
        group: Group::Tags,
        name: "INFO's bytes / bytes taken, 4 tags",
        value: 100,
        a: BARE,
        b: FOUR_TAGS,
        weigh: Weigh::Reported,
        target: Target::Between(0.95, 1.05),
    },
];

/// Encodes a row's command. `plain` takes the module's native counterpart, so
/// that a run without the module compares like with like: the bench's noise.
pub fn template(words: &[&str], prefix: &str, value: usize, plain: bool) -> Template {
    match plain {
        true => Template::new(&native(words), prefix, value),
        false => Template::new(words, prefix, value),
    }
}

/// A command of the module as the server's own, which knows no tags.
fn native<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let Some((command, words)) = words.split_first() else { return Vec::new() };
    match command.strip_prefix("CACHE.") {
        None => [&[*command], words].concat(),
        Some("FETCH") => [&["GET"], words].concat(),
        Some(command) => {
            let untagged = words.iter().copied().take_while(|word| *word != "TAGS");
            std::iter::once(command).chain(untagged).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_commands_have_one_key() {
        let mut names: Vec<_> =
            ROWS.iter().map(|row| row.name).chain(MEMORY_ROWS.iter().map(|row| row.name)).collect();
        names.sort_unstable();
        let rows = names.len();
        names.dedup();
        assert_eq!(names.len(), rows);
        let sides = ROWS.iter().flat_map(|row| [row.a.fill, row.a.run, row.b.fill, row.b.run]);
        for words in sides.chain(MEMORY_ROWS.iter().flat_map(|row| [row.a, row.b])) {
            assert_eq!(words.get(1), Some(&"{key}"));
            assert_eq!(words.iter().filter(|word| **word == "{key}").count(), 1);
        }
    }

    #[test]
    fn every_group_has_rows() {
        for group in Group::value_variants() {
            assert!(*group == Group::Bytes || ROWS.iter().any(|row| row.group == *group));
        }
    }

    #[test]
    fn plain_commands_have_neither_prefix_nor_tags() {
        assert_eq!(native(TAGGED), ["SET", "{key}", "{value}", "EX", "3600"]);
        assert_eq!(native(GET.run), GET.run);
        assert_eq!(native(FETCH.run), GET.run);
    }

    #[test]
    fn a_row_of_memberships_has_so_many_tags() {
        for row in MEMORY_ROWS {
            let tags = |words: &[&str]| words.iter().filter(|word| word.starts_with("{tag")).count();
            if let Weigh::Membership(count) = row.weigh {
                assert_eq!((tags(row.a), tags(row.b)), (0, count as usize), "{}", row.name);
            }
        }
    }
}
