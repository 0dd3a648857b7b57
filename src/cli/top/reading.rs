//! What the servers said at one time, and what has happened between two times.
//!
//! The sums are those of the dashboard's API: counters since the start or a reset. A rate
//! is their difference over the time between. There is none (`None`, never a guess)
//! - before the second reading,
//! - where another set of nodes answered: what a node had counted would come or go at once,
//! - where a counter fell: it was reset, or its server was started anew.

use crate::serve::{self, Fleet};
use serde::Serialize;
use serde_json::{json, Map, Value};
use std::sync::Arc;

/// Fields with names, as the API has them.
pub type Fields = Map<String, Value>;

/// What the servers said at one time.
#[derive(Clone, Default)]
pub struct Reading {
    /// The sums of all.
    pub overview: Fields,
    /// Each namespace.
    pub namespaces: Vec<Fields>,
    /// Leases and waiters.
    pub leases: Fields,
    /// Each node, up or down.
    pub nodes: Vec<Value>,
    /// What keys are hot by, and those.
    pub by: String,
    pub hot_keys: Vec<Value>,
}

/// Reads. `by` is one of [`serve::BY`].
pub async fn read(fleet: &Arc<Fleet>, by: &str, keys: usize) -> Reading {
    let look = fleet.look().await;
    // Who did not answer is shown among the nodes.
    let (hot_keys, _) = serve::hot_keys_of(fleet, by, keys).await;
    Reading {
        overview: serve::overview_of(&look),
        namespaces: serve::namespaces_of(&look),
        leases: serve::leases_of(&look),
        nodes: serve::nodes_of(&look),
        by: by.into(),
        hot_keys,
    }
}

/// A field that is a number.
pub fn number(fields: &Fields, name: &str) -> Option<f64> {
    fields.get(name).and_then(Value::as_f64)
}

/// A field of a node or a key that is text; what is missing is empty.
pub fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a node answered.
pub fn is_up(node: &Value) -> bool {
    node.get("up") == Some(&Value::Bool(true))
}

impl Reading {
    fn answered(&self) -> Vec<&str> {
        self.nodes.iter().filter(|node| is_up(node)).map(|node| text(node, "node")).collect()
    }

    fn namespace(&self, name: &str) -> Option<&Fields> {
        self.namespaces.iter().find(|row| row.get("namespace").and_then(Value::as_str) == Some(name))
    }
}

/// What has happened, a second, of all or of a namespace; ratios are shares of 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// Reads that were answered, with a value or with nothing.
    pub reads: Option<f64>,
    pub misses: Option<f64>,
    /// The share of reads answered with a fresh value, and with a stale one.
    pub fresh_ratio: Option<f64>,
    pub stale_ratio: Option<f64>,
    pub origin_saved_seconds: Option<f64>,
    pub writes: Option<f64>,
    pub fills: Option<f64>,
    pub refused_fills: Option<f64>,
    pub failed_fills: Option<f64>,
    pub coalesced: Option<f64>,
    pub evictions: Option<f64>,
    pub expired: Option<f64>,
    pub invalidations: Option<f64>,
    pub invalidated_entries: Option<f64>,
}

impl Rates {
    /// The share of reads answered with a value.
    pub fn hit_ratio(&self) -> Option<f64> {
        Some(self.fresh_ratio? + self.stale_ratio?)
    }

    fn between(before: &Fields, now: &Fields, seconds: f64) -> Self {
        let rate = |name: &str| {
            let (from, to) = (number(before, name)?, number(now, name)?);
            (to >= from && seconds > 0.0).then(|| (to - from) / seconds)
        };
        let (hits, stale, misses) = (rate("hits"), rate("staleHits"), rate("misses"));
        let reads = hits.zip(stale).zip(misses).map(|((hits, stale), misses)| hits + stale + misses);
        let share = |part: Option<f64>| Some(part? / reads.filter(|reads| *reads > 0.0)?);
        Self {
            reads,
            misses,
            fresh_ratio: share(hits),
            stale_ratio: share(stale),
            origin_saved_seconds: rate("originSavedSeconds"),
            writes: rate("writes"),
            fills: rate("fills"),
            refused_fills: rate("refusedFills"),
            failed_fills: rate("failedFills"),
            coalesced: rate("coalesced"),
            evictions: rate("evictions"),
            expired: rate("expired"),
            invalidations: rate("invalidations"),
            invalidated_entries: rate("invalidatedEntries"),
        }
    }
}

/// A namespace, now and since the reading before.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub name: String,
    pub now: Fields,
    pub rates: Rates,
}

/// Two readings, and what has happened between them.
#[derive(Clone, Default)]
pub struct Span {
    pub now: Reading,
    pub rates: Rates,
    pub rows: Vec<Row>,
    seconds: f64,
}

impl Span {
    /// `before`: the reading before, if there was one.
    pub fn new(before: Option<&Reading>, now: Reading) -> Self {
        let at = |of: &Reading| number(&of.overview, "atMs");
        let before = before.filter(|before| before.answered() == now.answered());
        let seconds = before.and_then(|before| Some((at(&now)? - at(before)?) / 1000.0)).unwrap_or(0.0);
        let rates = before.map(|before| Rates::between(&before.overview, &now.overview, seconds));
        let row = |fields: &Fields| {
            let name = fields.get("namespace").and_then(Value::as_str).unwrap_or_default();
            let then = before.and_then(|before| before.namespace(name));
            let rates = then.map(|then| Rates::between(then, fields, seconds));
            Row { name: name.into(), now: fields.clone(), rates: rates.unwrap_or_default() }
        };
        let rows = now.namespaces.iter().map(row).collect();
        Self { rates: rates.unwrap_or_default(), rows, seconds, now }
    }

    /// All of it: what the API answers, with the rates beside it.
    pub fn json(&self) -> Value {
        let namespaces: Vec<Value> = self.rows.iter().map(|row| with(&row.now, &row.rates)).collect();
        json!({
            "seconds": self.seconds,
            "overview": with(&self.now.overview, &self.rates),
            "leases": self.now.leases,
            "namespaces": namespaces,
            "hotKeys": { "by": self.now.by, "keys": self.now.hot_keys },
            "nodes": self.now.nodes,
        })
    }
}

fn with(fields: &Fields, rates: &Rates) -> Value {
    let mut fields = fields.clone();
    fields.insert("rates".into(), json!(rates));
    Value::Object(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(of: Value) -> Fields {
        of.as_object().cloned().expect("an object")
    }

    fn reading(at: u64, hits: u64, misses: u64, up: &[bool]) -> Reading {
        let sums = json!({ "atMs": at, "hits": hits, "staleHits": hits / 10, "misses": misses, "fills": 5 });
        let mut row = sums.clone();
        row["namespace"] = json!("page");
        let node = |(n, up): (usize, &bool)| json!({ "node": format!("n{n}"), "up": up });
        Reading {
            overview: fields(sums),
            namespaces: vec![fields(row)],
            nodes: up.iter().enumerate().map(node).collect(),
            ..Reading::default()
        }
    }

    #[test]
    fn what_happened_between() {
        let before = reading(1000, 100, 10, &[true, true]);
        let span = Span::new(Some(&before), reading(3000, 300, 190, &[true, true]));
        assert_eq!(span.rates.reads, Some((200.0 + 20.0 + 180.0) / 2.0));
        assert_eq!((span.rates.fresh_ratio, span.rates.stale_ratio), (Some(0.5), Some(0.05)));
        assert_eq!(span.rates.hit_ratio(), Some(0.55));
        assert_eq!((span.rates.fills, span.rates.writes), (Some(0.0), None), "nobody said how many writes");
        assert_eq!(span.rows[0].name, "page");
        assert_eq!(span.rows[0].rates.misses, Some(90.0));
        let json = span.json();
        assert_eq!(json["seconds"], json!(2.0));
        assert_eq!(json["namespaces"][0]["rates"]["freshRatio"], json!(0.5));
        assert_eq!(json["overview"]["hits"], json!(300));
    }

    #[test]
    fn where_there_is_no_rate_there_is_none() {
        let now = || reading(3000, 300, 10, &[true, false]);
        assert_eq!(Span::new(None, now()).rates, Rates::default());
        let whole = reading(1000, 100, 10, &[true, true]);
        assert_eq!(Span::new(Some(&whole), now()).rates, Rates::default(), "a node is gone with its counts");
        let later = reading(1000, 301, 10, &[true, false]);
        let reset = Span::new(Some(&later), now()).rates;
        assert_eq!((reset.reads, reset.misses), (None, Some(0.0)));
        let same = Span::new(Some(&now()), now()).rates;
        assert_eq!(same.reads, None, "no time has passed");
        let quiet = Span::new(Some(&reading(1000, 300, 10, &[true, false])), now()).rates;
        assert_eq!((quiet.reads, quiet.hit_ratio()), (Some(0.0), None), "of no reads there is no ratio");
    }
}
