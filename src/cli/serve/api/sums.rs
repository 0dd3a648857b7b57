//! What is summed up from CACHE.METRICS and INFO of all nodes.
//!
//! Reads are answered by replicas too, and counted there: they are summed over all
//! nodes. What there is, is on the primaries, and on their replicas once more: it is
//! summed over the primaries. So is all that only a primary does.

use super::super::exporter::engine;
use super::super::fleet::{Look, NodeLook, Seen};
use super::super::health;
use super::super::scrape::Sample;
use super::super::Shared;
use crate::connect::{Kind, Role};
use axum::extract::State;
use axum::Json;
use cacheflow_core::metrics::REST;
use serde_json::{json, Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::UNIX_EPOCH;
use xxhash_rust::xxh3::xxh3_64;

/// Over which nodes it is summed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    All,
    Primaries,
}

/// (field, metric, over which nodes): sums of samples, by namespace or not.
const READS: [(&str, &str, Over); 5] = [
    ("hits", "cacheflow_hits_total", Over::All),
    ("staleHits", "cacheflow_stale_hits_total", Over::All),
    ("misses", "cacheflow_misses_total", Over::All),
    ("busy", "cacheflow_busy_total", Over::All),
    ("originSavedSeconds", "cacheflow_origin_saved_seconds_total", Over::All),
];
const REST_OF_NAMESPACE: [(&str, &str, Over); 14] = [
    ("writes", "cacheflow_writes_total", Over::Primaries),
    ("grants", "cacheflow_grants_total", Over::Primaries),
    ("earlyElections", "cacheflow_early_elections_total", Over::Primaries),
    ("promotions", "cacheflow_promotions_total", Over::Primaries),
    ("waits", "cacheflow_waits_total", Over::Primaries),
    ("coalesced", "cacheflow_coalesced_total", Over::Primaries),
    ("fills", "cacheflow_fills_total", Over::Primaries),
    ("refusedFills", "cacheflow_refused_fills_total", Over::Primaries),
    ("failedFills", "cacheflow_failed_fills_total", Over::Primaries),
    ("protected", "cacheflow_protected_total", Over::Primaries),
    ("breakerOpened", "cacheflow_breaker_opened_total", Over::Primaries),
    ("expired", "cacheflow_expired_total", Over::Primaries),
    ("leases", "cacheflow_leases", Over::Primaries),
    ("entries", "cacheflow_entries", Over::Primaries),
];
const OF_ALL: [(&str, &str, Over); 12] = [
    ("invalidations", "cacheflow_invalidations_total", Over::Primaries),
    ("invalidatedEntries", "cacheflow_invalidated_entries_total", Over::Primaries),
    ("evictions", "cacheflow_evictions_total", Over::Primaries),
    ("bytes", "cacheflow_memory_bytes", Over::Primaries),
    ("limitBytes", "cacheflow_memory_limit_bytes", Over::Primaries),
    ("tags", "cacheflow_tags", Over::Primaries),
    ("memberships", "cacheflow_memberships", Over::Primaries),
    ("locks", "cacheflow_locks", Over::Primaries),
    ("waiters", "cacheflow_waiters", Over::Primaries),
    ("openBreakers", "cacheflow_open_breakers", Over::Primaries),
    ("sweepQueued", "cacheflow_sweep_queued", Over::Primaries),
    ("panics", "cacheflow_panics_total", Over::All),
];
const OF_NAMESPACE: [(&str, &str, Over); 4] = [
    ("evictions", "cacheflow_namespace_evictions_total", Over::Primaries),
    ("bytes", "cacheflow_namespace_bytes", Over::Primaries),
    ("limitBytes", "cacheflow_namespace_limit_bytes", Over::Primaries),
    ("breakerOpen", "cacheflow_breaker_open", Over::Primaries),
];

/// The samples of a metric, of the nodes that it is summed over.
fn samples<'a>(look: &'a Look, metric: &'a str, over: Over) -> impl Iterator<Item = &'a Sample> {
    let counts =
        move |one: &&NodeLook| over == Over::All || one.role == Role::Primary || look.kind == Kind::Single;
    let seen = look.nodes.iter().filter(counts).filter_map(|one| one.seen.as_ref().ok());
    let families = seen.flat_map(|seen| &seen.families);
    // Of a histogram by the name of what is meant of it.
    let of = move |name: &str| {
        metric.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
    };
    families
        .filter(move |family| of(&family.name))
        .flat_map(|family| &family.samples)
        .filter(move |sample| sample.name == metric)
}

fn sums(look: &Look, fields: &[(&str, &str, Over)], namespace: Option<&str>) -> Map<String, Value> {
    let mut out = Map::new();
    for (field, metric, over) in fields {
        let own = |sample: &&Sample| namespace.is_none() || sample.label("namespace") == namespace;
        let mut found = samples(look, metric, *over).filter(own).peekable();
        let value = if found.peek().is_some() {
            json!(found.map(|sample| sample.value).sum::<f64>())
        } else {
            Value::Null
        };
        out.insert((*field).to_string(), value);
    }
    out
}

/// Sums by a label other than the namespace.
fn by(look: &Look, metric: &str, label: &str) -> Value {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for sample in samples(look, metric, Over::Primaries) {
        *sums.entry(sample.label(label).unwrap_or_default()).or_default() += sample.value;
    }
    json!(sums)
}

/// A histogram of all: how many, how long together, and quantiles as Prometheus would
/// estimate them, within the bucket by a line. `buckets` are (no longer than so many
/// seconds, how many of them so far); the last has no end, which JSON has no number for.
fn times(look: &Look, metric: &str) -> Value {
    let sum = |suffix: &str| -> f64 {
        samples(look, &format!("{metric}{suffix}"), Over::Primaries).map(|sample| sample.value).sum()
    };
    let name = format!("{metric}_bucket");
    let mut buckets: Vec<(f64, f64)> = Vec::new();
    for sample in samples(look, &name, Over::Primaries) {
        let bound = match sample.label("le") {
            Some("+Inf") => f64::INFINITY,
            Some(bound) => bound.parse().unwrap_or(f64::INFINITY),
            None => continue,
        };
        match buckets.iter_mut().find(|(of, _)| *of == bound) {
            Some((_, count)) => *count += sample.value,
            None => buckets.push((bound, sample.value)),
        }
    }
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (count, seconds) = (sum("_count"), sum("_sum"));
    let of = |share: f64| quantile(&buckets, count, share);
    json!({ "count": count, "seconds": seconds, "p50": of(0.5), "p90": of(0.9), "p99": of(0.99), "buckets": buckets })
}

fn quantile(buckets: &[(f64, f64)], count: f64, share: f64) -> Option<f64> {
    let wanted = count * share;
    let (mut lower, mut below) = (0.0, 0.0);
    for &(bound, cumulative) in buckets {
        if cumulative >= wanted && count > 0.0 {
            if bound.is_infinite() {
                return Some(lower);
            }
            let within = (wanted - below) / (cumulative - below).max(f64::MIN_POSITIVE);
            return Some(lower + (bound - lower) * within.clamp(0.0, 1.0));
        }
        (lower, below) = (bound, cumulative);
    }
    None
}

/// When it was looked, and at whom: a node that starts anew, goes or changes its role
/// makes another sum, of which the last one is no part.
pub fn stamped(look: &Look) -> Map<String, Value> {
    let since = look.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut over = String::new();
    for one in &look.nodes {
        if let Ok(seen) = &one.seen {
            let run = seen.info.get("run_id").map_or("", String::as_str);
            over.extend([one.node.name.as_str(), " ", one.role.word(), " ", run, "\n"]);
        }
    }
    let mut out = Map::new();
    out.insert("atMs".into(), json!(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)));
    out.insert("over".into(), json!(format!("{:016x}", xxh3_64(over.as_bytes()))));
    out
}

/// `/api/overview`.
pub async fn overview(State(served): Shared) -> Json<Value> {
    let mut out = overview_of(&*served.fleet.look().await);
    out.insert("readOnly".into(), json!(!served.guard.is_armed()));
    out.insert("showsValues".into(), json!(served.show_values));
    Json(Value::Object(out))
}

/// The sums of all.
pub fn overview_of(look: &Look) -> Map<String, Value> {
    let mut out = stamped(look);
    for fields in [&READS[..], &REST_OF_NAMESPACE, &OF_ALL] {
        out.append(&mut sums(look, fields, None));
    }
    let up = look.nodes.iter().filter(|one| one.seen.is_ok()).count();
    out.insert("kind".into(), json!(look.kind));
    out.insert("failure".into(), json!(look.failure));
    out.insert("nodes".into(), json!({ "up": up, "all": look.nodes.len() }));
    out.insert("refusedByReason".into(), by(look, "cacheflow_refused_fills_total", "reason"));
    out.insert("evictionsByReason".into(), by(look, "cacheflow_evictions_total", "reason"));
    out.insert("bytesByPart".into(), by(look, "cacheflow_memory_bytes", "part"));
    out.insert("version".into(), json!(env!("CARGO_PKG_VERSION")));
    out
}

/// `/api/namespaces`.
pub async fn namespaces(State(served): Shared) -> Json<Value> {
    let look = served.fleet.look().await;
    let mut out = stamped(&look);
    out.insert("namespaces".into(), json!(namespaces_of(&look)));
    Json(Value::Object(out))
}

/// Each namespace that is shown, by name.
pub fn namespaces_of(look: &Look) -> Vec<Map<String, Value>> {
    let names: BTreeSet<&str> = samples(look, "cacheflow_hits_total", Over::All)
        .filter_map(|sample| sample.label("namespace"))
        .collect();
    let rows = names.into_iter().map(|name| {
        let mut row = Map::new();
        row.insert("namespace".into(), json!(name));
        // What is in none that is shown, or in none at all.
        row.insert("rest".into(), json!(name == REST));
        for fields in [&READS[..], &REST_OF_NAMESPACE, &OF_NAMESPACE] {
            row.append(&mut sums(look, fields, Some(name)));
        }
        row
    });
    rows.collect()
}

/// `/api/leases`.
pub async fn leases(State(served): Shared) -> Json<Value> {
    let look = served.fleet.look().await;
    let mut out = stamped(&look);
    out.append(&mut leases_of(&look));
    Json(Value::Object(out))
}

/// Leases and waiters, and how long they take.
pub fn leases_of(look: &Look) -> Map<String, Value> {
    let mut out = sums(look, &[("leases", "cacheflow_leases", Over::Primaries), OF_ALL[7], OF_ALL[8]], None);
    let mut each: BTreeMap<&str, f64> = BTreeMap::new();
    for sample in samples(look, "cacheflow_leases", Over::Primaries).filter(|sample| sample.value > 0.0) {
        *each.entry(sample.label("namespace").unwrap_or_default()).or_default() += sample.value;
    }
    out.insert("leasesByNamespace".into(), json!(each));
    out.insert("fillTimes".into(), times(look, "cacheflow_fill_duration_seconds"));
    out.insert("waitTimes".into(), times(look, "cacheflow_wait_duration_seconds"));
    out
}

/// `/api/nodes`.
pub async fn nodes(State(served): Shared) -> Json<Value> {
    let look = served.fleet.look().await;
    let mut out = stamped(&look);
    out.insert("kind".into(), json!(look.kind));
    out.insert("failure".into(), json!(look.failure));
    out.insert("nodes".into(), json!(nodes_of(&look)));
    Json(Value::Object(out))
}

/// Each node, with what those that are up say of themselves.
pub fn nodes_of(look: &Look) -> Vec<Value> {
    let mut nodes = health::nodes(look);
    for (one, row) in look.nodes.iter().zip(&mut nodes) {
        if let (Ok(seen), Some(row)) = (&one.seen, row.as_object_mut()) {
            row.append(&mut about(seen));
        }
    }
    nodes
}

fn about(seen: &Seen) -> Map<String, Value> {
    let (engine, version) = engine(&seen.info);
    let number = |field: &str| seen.info.get(field).and_then(|text| text.parse::<u64>().ok());
    let metric = |name: &str| -> f64 {
        let families = seen.families.iter().filter(|family| family.name == name);
        families.flat_map(|family| &family.samples).map(|sample| sample.value).sum()
    };
    let module = seen.families.iter().find(|family| family.name == "cacheflow_info");
    let module = module.and_then(|family| family.samples.first()?.label("version"));
    let fields = json!({
        "engine": engine,
        "version": version,
        "module": module,
        "uptimeSeconds": number("uptime_in_seconds"),
        "clients": number("connected_clients"),
        "commands": number("total_commands_processed"),
        "link": seen.info.get("master_link_status"),
        "memoryBytes": number("used_memory"),
        "memoryLimitBytes": number("maxmemory"),
        "memoryPolicy": seen.info.get("maxmemory_policy"),
        "entries": metric("cacheflow_entries"),
        "bytes": metric("cacheflow_memory_bytes"),
        "sweepQueued": metric("cacheflow_sweep_queued"),
        "sweepLongestSliceSeconds": metric("cacheflow_sweep_longest_slice_seconds"),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_of_buckets() {
        let buckets = [(0.1, 10.0), (0.5, 90.0), (1.0, 100.0), (f64::INFINITY, 100.0)];
        for (share, value) in [(0.1, 0.1), (0.5, 0.3), (0.95, 0.75)] {
            let estimate = quantile(&buckets, 100.0, share).expect("counted");
            assert!((estimate - value).abs() < 1e-9, "{share}: {estimate}");
        }
        assert_eq!(quantile(&[(0.1, 0.0), (f64::INFINITY, 5.0)], 5.0, 0.5), Some(0.1), "longer than all");
        assert_eq!(quantile(&buckets, 0.0, 0.5), None);
        assert_eq!(quantile(&[], 0.0, 0.5), None);
    }
}
