use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::entry::Cost;
use crate::units::Millis;

#[test]
fn the_table_is_as_names_of_metrics_are() {
    let mut names = BTreeSet::new();
    for metric in TABLE {
        let name = metric.name;
        assert!(names.insert(name), "{name}: twice");
        assert!(
            name.starts_with("cacheflow_") && name.bytes().all(|c| c == b'_' || c.is_ascii_lowercase()),
            "{name}"
        );
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        assert!(metric.kind != Kind::Histogram || metric.unit() == "seconds", "{name}");
        assert!(metric.help.ends_with('.') && metric.help.len() > 10, "{name}: {}", metric.help);
        assert!(metric.help.contains(metric.unit()), "{name}: the unit is not told");
        // A prefix of another's with a suffix of a histogram would be taken for a part of it.
        for suffix in ["_bucket", "_sum", "_count"] {
            assert!(!name.ends_with(suffix), "{name}");
        }
    }
}

/// Samples by their name and labels; panics where one comes twice.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(found.insert(name.to_string(), value.parse().expect("a number")).is_none(), "twice: {line}");
    }
    found
}

/// A shard of which nothing is known but the names of its labels.
fn blank() -> Shard {
    let named = |names: &'static str| names.split(' ').map(|name| (name, 0));
    let mut shard = Shard { version: "1", ..Shard::default() };
    shard.evicted.iter_mut().zip(named("a b c d")).for_each(|(place, of)| *place = of);
    shard.memory.iter_mut().zip(named("a b c d e f")).for_each(|(place, of)| *place = of);
    shard
}

fn figures(seed: u64) -> Figures {
    let mut of = Figures { entries: seed, bytes: 100 * seed, leases: seed % 3, ..Figures::default() };
    of.tally.misses = seed;
    of.tally.hit(Cost(seed as u32 + 1));
    of.counters.busy = 2 * seed;
    of.counters.refused[seed as usize % 12] = seed;
    of.counters.fill_times.record(Millis(seed * 7));
    of.open = (seed % 2 == 0).then_some(seed % 4 == 0);
    of
}

proptest! {
    #[test]
    fn namespaces_sum_up_to_all(
        shown in proptest::collection::btree_map(proptest::collection::vec(any::<u8>(), 0..4), 0u64..1000, 0..6),
        other in 0u64..1000
    ) {
        let mut shard = Shard { all: figures(other), ..blank() };
        for (name, seed) in shown {
            let of = figures(seed);
            shard.all.add_entries(&of.tally, of.entries, of.bytes);
            shard.all.counters.add(&of.counters);
            shard.all.leases += of.leases;
            if name != REST.as_bytes() {
                shard.namespaces.push((name, of));
            }
        }
        let samples = samples(&write(&shard));
        let sum = |name: &str| -> f64 {
            let of = |(key, value): (&String, &f64)| key.starts_with(&format!("{name}{{")).then_some(*value);
            samples.iter().filter_map(of).sum()
        };
        prop_assert_eq!(sum("cacheflow_hits_total"), shard.all.tally.hits as f64);
        prop_assert_eq!(sum("cacheflow_misses_total"), shard.all.tally.misses as f64);
        prop_assert_eq!(sum("cacheflow_namespace_bytes"), shard.all.bytes as f64);
        prop_assert_eq!(sum("cacheflow_busy_total"), shard.all.counters.busy as f64);
        prop_assert_eq!(sum("cacheflow_leases"), shard.all.leases as f64);
        let refused: u64 = shard.all.counters.refused.iter().sum();
        prop_assert_eq!(sum("cacheflow_refused_fills_total"), refused as f64);
        prop_assert_eq!(sum("cacheflow_fill_duration_seconds_count"), shard.all.counters.fill_times.count() as f64);
        let saved = sum("cacheflow_origin_saved_seconds_total") * 1000.0;
        prop_assert!((saved - shard.all.tally.saved().0 as f64).abs() < 0.01);
    }

    #[test]
    fn the_most_used_are_shown_and_stay(
        rounds in proptest::collection::vec((0usize..6, proptest::collection::vec((0u8..12, 0u64..5), 0..12)), 1..6)
    ) {
        let mut shown = Shown::default();
        for (most, seen) in rounds {
            let names: Vec<([u8; 1], u64)> = seen.iter().map(|&(name, uses)| ([name], uses)).collect();
            let before: BTreeSet<Vec<u8>> = shown.names().map(<[u8]>::to_vec).collect();
            shown.admit(most, |each| names.iter().for_each(|(name, uses)| each(name, *uses, 0)));
            let now: BTreeSet<Vec<u8>> = shown.names().map(<[u8]>::to_vec).collect();
            prop_assert!(now.is_superset(&before) && now.len() <= most.max(before.len()));
            let uses = |name: &[u8]| names.iter().filter(|(of, _)| of == name).map(|&(_, uses)| uses).sum::<u64>();
            let least = now.difference(&before).map(|name| uses(name)).min();
            let missed = names.iter().filter(|(name, _)| !shown.has(name)).map(|(name, _)| uses(name)).max();
            if let (Some(least), Some(missed)) = (least, missed) {
                prop_assert!(least >= missed);
            }
            prop_assert!(missed.is_none() || now.len() >= most);
        }
    }
}

#[test]
fn what_cannot_be_a_label_is_in_the_rest() {
    let mut shown = Shown::default();
    let long = vec![b'a'; LONGEST_NAME + 1];
    shown.admit(10, |each| [&long[..], b"*", b""].into_iter().for_each(|name| each(name, 9, 9)));
    assert_eq!(shown.names().collect::<Vec<_>>(), [b""]);
    assert!(shown.allocated() > 0);
}

#[test]
fn every_metric_has_a_sample_where_everything_is_set() {
    let mut shard = Shard { memory_limit: 1, ..blank() };
    let of = Figures { limit: 7, open: Some(true), ..Figures::default() };
    shard.namespaces.push((b"n".to_vec(), of));
    let text = write(&shard);
    let samples = samples(&text);
    for metric in TABLE {
        let of = |key: &&String| key.starts_with(metric.name);
        let found: Vec<&String> = samples.keys().filter(of).collect();
        assert!(!found.is_empty(), "{}", metric.name);
        for label in metric.labels() {
            assert!(found.iter().all(|key| key.contains(&format!("{label}=\""))), "{}: {label}", metric.name);
        }
        assert!(text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.word())));
    }
}
