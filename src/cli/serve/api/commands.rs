//! How often each of our commands has run, and how long: INFO's commandstats and
//! latencystats of all nodes.
//!
//! Of the quantiles of several nodes there is no sum: they are the slowest node's. A
//! client that waits is not counted as running.

use super::super::Shared;
use super::sums::stamped;
use axum::extract::State;
use axum::Json;
use serde_json::{json, Value};
use std::collections::{BTreeMap, HashMap};

/// What INFO has before a command's name.
const STATS: &str = "cmdstat_cache.";
const QUANTILES: &str = "latency_percentiles_usec_cache.";

/// A command's figures, in microseconds.
#[derive(Default, PartialEq, Debug)]
struct Ran {
    calls: f64,
    took: f64,
    failed: f64,
    p50: Option<f64>,
    p99: Option<f64>,
}

impl Ran {
    fn add(&mut self, line: &str) {
        let of = |name| figure(line, name).unwrap_or(0.0);
        self.calls += of("calls");
        self.took += of("usec");
        self.failed += of("failed_calls") + of("rejected_calls");
    }

    fn add_quantiles(&mut self, line: &str) {
        for (slowest, name) in [(&mut self.p50, "p50"), (&mut self.p99, "p99")] {
            if let Some(own) = figure(line, name) {
                *slowest = Some(slowest.map_or(own, |other| other.max(own)));
            }
        }
    }
}

/// A figure of a line of INFO: `calls=6,usec=30`.
fn figure(line: &str, name: &str) -> Option<f64> {
    let pairs = line.split(',').filter_map(|pair| pair.split_once('='));
    pairs.into_iter().find(|(of, _)| *of == name)?.1.parse().ok()
}

fn sum<'a>(infos: impl Iterator<Item = &'a HashMap<String, String>>) -> BTreeMap<String, Ran> {
    let mut sums: BTreeMap<String, Ran> = BTreeMap::new();
    for (field, line) in infos.flatten() {
        let title = |name: &str| format!("CACHE.{}", name.to_uppercase().replace('|', " "));
        if let Some(name) = field.strip_prefix(STATS) {
            sums.entry(title(name)).or_default().add(line);
        } else if let Some(name) = field.strip_prefix(QUANTILES) {
            sums.entry(title(name)).or_default().add_quantiles(line);
        }
    }
    sums
}

/// `/api/commands`.
pub async fn commands(State(served): Shared) -> Json<Value> {
    let look = served.fleet.look().await;
    let infos = look.nodes.iter().filter_map(|one| one.seen.as_ref().ok());
    let seconds = |micros: f64| micros / 1e6;
    let row = |(name, ran): (String, Ran)| {
        json!({
            "command": name,
            "calls": ran.calls,
            "seconds": seconds(ran.took),
            "failed": ran.failed,
            "p50": ran.p50.map(seconds),
            "p99": ran.p99.map(seconds),
        })
    };
    let rows: Vec<Value> = sum(infos.map(|seen| &seen.info)).into_iter().map(row).collect();
    let mut out = stamped(&look);
    out.insert("commands".into(), json!(rows));
    Json(Value::Object(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_several_nodes() {
        let node = |calls: u32, p99: &str| -> HashMap<String, String> {
            let ran = format!("calls={calls},usec=30,usec_per_call=5.00,rejected_calls=1,failed_calls=2");
            [
                ("cmdstat_cache.namespace|get", ran.as_str()),
                ("latency_percentiles_usec_cache.namespace|get", p99),
                ("cmdstat_get", "calls=9,usec=9"),
                ("cmdstat_cache.get", "nonsense"),
            ]
            .map(|(name, line)| (name.to_string(), line.to_string()))
            .into()
        };
        let sums = sum([node(6, "p50=1.0,p99=4.0"), node(1, "p50=2.0,p99=3.0")].iter());
        let of = &sums["CACHE.NAMESPACE GET"];
        assert_eq!((of.calls, of.took, of.failed, of.p50, of.p99), (7.0, 60.0, 6.0, Some(2.0), Some(4.0)));
        assert_eq!(sums["CACHE.GET"], Ran::default());
        assert_eq!(sums.len(), 2);
    }
}
