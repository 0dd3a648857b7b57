//! The table of what `bench hot` compares. A new comparison is a new entry.

use super::load::Template;
use super::ratio::Target;
use clap::ValueEnum;

/// Rows that are asked for together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// CACHE.GET against GET.
    Get,
    /// CACHE.SET against SET.
    Set,
    /// Native commands with the module against without it.
    Native,
    /// Memory a key.
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
const SET: Side = Side { module: true, fill: SET_EX_60, run: SET_EX_60 };
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
        group: Group::Set,
        name: "CACHE.SET EX 60 / SET EX 60, 100 B",
        value: 100,
        a: SET,
        b: Side { module: true, fill: CACHE_SET_EX_60, run: CACHE_SET_EX_60 },
        throughput: Target::AtLeast(0.97),
        cpu: Target::AtMost(1.10),
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

/// Bytes a key: the group `bytes`.
pub struct MemoryRow {
    /// For people.
    pub name: &'static str,
    /// Bytes of a value.
    pub value: usize,
    /// What is compared with.
    pub a: &'static [&'static str],
    /// What is measured.
    pub b: &'static [&'static str],
    /// Bytes a key that B may take beyond A.
    pub beyond: Target,
}

/// Every comparison of memory.
pub const MEMORY_ROWS: &[MemoryRow] = &[MemoryRow {
    name: "CACHE.SET EX / SET EX, 100 B, 30-B key",
    value: 100,
    a: &["SET", "{key}", "{value}", "EX", "3600"],
    b: &["CACHE.SET", "{key}", "{value}", "EX", "3600"],
    beyond: Target::AtMost(80.0),
}];

/// Encodes a row's command. `plain` takes the module's native counterpart, so
/// that a run without the module compares like with like: the bench's noise.
pub fn template(words: &[&'static str], prefix: &str, value: usize, plain: bool) -> Template {
    let mut words = words.to_vec();
    if let Some((command, native)) = words.first_mut().and_then(|word| {
        let native = word.strip_prefix("CACHE.")?;
        Some((word, native))
    }) {
        if plain {
            *command = native;
        }
    }
    Template::new(&words, prefix, value)
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
}
