//! Lists that primaries are asked for: hot keys, tags, breakers, the log.

use super::super::fleet::Fleet;
use super::super::Shared;
use super::{named, parted, Failed};
use crate::connect::{Node, Role};
use anyhow::{Context, Result};
use axum::extract::{Query, State};
use axum::Json;
use redis::Connection;
use serde::Deserialize;
use serde_json::{json, Value};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// How many rows a list has where nobody says, and at most.
const ROWS: usize = 50;
const MOST_ROWS: usize = 1000;
/// Of a node's tags: looked at in one request, and in all.
const TAGS_A_CALL: usize = 1000;
const TAG_CALLS: usize = 50;
/// Within this time two nodes' records are of one invalidation, in ms.
const SAME: u64 = 2000;

/// Who is asked: replicas count their own reads, but the figures of a key are the
/// primary's.
pub fn is_primary(node: &Node) -> bool {
    node.role == Role::Primary || node.shard.is_empty()
}

fn rows(count: Option<usize>) -> usize {
    count.unwrap_or(ROWS).clamp(1, MOST_ROWS)
}

/// Keys or tags, each with its figure.
type Figures = Vec<(Vec<u8>, u64)>;

#[derive(Deserialize)]
pub struct HotKeys {
    by: Option<String>,
    count: Option<usize>,
}

/// `/api/hotkeys`.
pub async fn hot_keys(State(served): Shared, Query(query): Query<HotKeys>) -> Result<Json<Value>, Failed> {
    let by = query.by.as_deref().unwrap_or("hits").to_ascii_lowercase();
    if !BY.contains(&by.as_str()) {
        return Err(Failed::wrong("by= is one of hits, cost, bytes, waits"));
    }
    let (keys, errors) = hot_keys_of(&served.fleet, &by, rows(query.count)).await;
    Ok(Json(json!({ "by": by, "keys": keys, "errors": errors })))
}

/// What hot keys are hot by.
pub const BY: [&str; 4] = ["hits", "cost", "bytes", "waits"];

/// The hottest keys of all primaries, and who did not say.
pub async fn hot_keys_of(fleet: &Arc<Fleet>, by: &str, count: usize) -> (Vec<Value>, Vec<Value>) {
    let metric = by.to_ascii_uppercase();
    let question = move |connection: &mut Connection| -> Result<Figures> {
        let mut command = redis::cmd("CACHE.HOTKEYS");
        command.arg("BY").arg(&metric).arg("COUNT").arg(count).query(connection).context("CACHE.HOTKEYS")
    };
    let (said, errors) = parted(fleet.ask_each(is_primary, question).await);
    let each = |(node, keys): (Node, Vec<_>)| keys.into_iter().map(move |key| (node.name.clone(), key));
    let mut keys: Vec<(String, (Vec<u8>, u64))> = said.into_iter().flat_map(each).collect();
    keys.sort_by(|(_, one), (_, other)| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    keys.truncate(count);
    let row = |(node, (key, figure)): (String, (Vec<u8>, u64))| {
        let (text, id) = named(&key);
        json!({ "key": text, "id": id, "figure": figure, "node": node })
    };
    (keys.into_iter().map(row).collect(), errors)
}

#[derive(Deserialize)]
pub struct Tags {
    #[serde(rename = "match")]
    pattern: Option<String>,
    count: Option<usize>,
}

/// `/api/tags`.
pub async fn tags(State(served): Shared, Query(query): Query<Tags>) -> Json<Value> {
    let (pattern, count) = (query.pattern.unwrap_or_else(|| "*".into()), rows(query.count));
    let question = move |connection: &mut Connection| tags_of(connection, &pattern);
    let (said, errors) = parted(served.fleet.ask_each(is_primary, question).await);
    let whole = said.iter().all(|(_, (whole, _))| *whole);
    let mut sums: HashMap<Vec<u8>, u64> = HashMap::new();
    for (tag, entries) in said.into_iter().flat_map(|(_, (_, tags))| tags) {
        *sums.entry(tag).or_default() += entries;
    }
    let mut tags: Vec<(Vec<u8>, u64)> = sums.into_iter().collect();
    tags.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let found = tags.len();
    tags.truncate(count);
    let row = |(tag, entries): (Vec<u8>, u64)| {
        let (text, id) = named(&tag);
        json!({ "tag": text, "id": id, "entries": entries })
    };
    let tags: Vec<Value> = tags.into_iter().map(row).collect();
    // Of very many tags only some were looked at.
    Json(json!({ "tags": tags, "found": found, "whole": whole, "errors": errors }))
}

/// A node's tags that match, and whether all were looked at.
fn tags_of(connection: &mut Connection, pattern: &str) -> Result<(bool, Figures)> {
    let (mut cursor, mut found) = ("0".to_string(), Vec::new());
    for _ in 0..TAG_CALLS {
        let mut command = redis::cmd("CACHE.TAGS");
        command.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(TAGS_A_CALL);
        let (next, tags): (String, Figures) = command.query(connection).context("CACHE.TAGS")?;
        found.extend(tags);
        cursor = next;
        if cursor == "0" {
            return Ok((true, found));
        }
    }
    Ok((false, found))
}

/// `/api/breakers`.
pub async fn breakers(State(served): Shared) -> Json<Value> {
    let (said, errors) = parted(served.fleet.ask_each(is_primary, protected).await);
    let row = |(node, name, set, stats): (String, Vec<u8>, Fields, Fields)| {
        let (text, id) = named(&name);
        let of = |fields: &Fields, name: &str| fields.get(name).and_then(number);
        let rest = of(&stats, "breaker-rest-ms").unwrap_or(0);
        let state = match (of(&stats, "open-breakers").unwrap_or(0), rest) {
            (0, _) => "closed",
            (_, 0) => "probing",
            _ => "open",
        };
        json!({
            "namespace": text,
            "id": id,
            "node": node,
            "state": state,
            "restMs": rest,
            "maxFills": of(&set, "maxfills"),
            "hasBreaker": set.contains_key("breaker"),
            "leases": of(&stats, "leases"),
            "failedFills": of(&stats, "failed-fills"),
            "protected": of(&stats, "protected"),
            "opened": of(&stats, "breaker-opened"),
        })
    };
    let each = |(node, found): (Node, Vec<(Vec<u8>, Fields, Fields)>)| {
        found.into_iter().map(move |(name, set, stats)| (node.name.clone(), name, set, stats))
    };
    let rows: Vec<Value> = said.into_iter().flat_map(each).map(row).collect();
    Json(json!({ "breakers": rows, "errors": errors }))
}

type Fields = BTreeMap<String, redis::Value>;

fn number(value: &redis::Value) -> Option<i64> {
    redis::from_redis_value(value).ok()
}

/// Namespaces whose origin is protected: what is set for them, and how they are.
fn protected(connection: &mut Connection) -> Result<Vec<(Vec<u8>, Fields, Fields)>> {
    let names: Vec<Vec<u8>> =
        redis::cmd("CACHE.NAMESPACE").arg("LIST").query(connection).context("CACHE.NAMESPACE LIST")?;
    let mut found = Vec::new();
    for name in names {
        let mut get = redis::cmd("CACHE.NAMESPACE");
        let set: Option<Fields> =
            get.arg("GET").arg(&name).query(connection).context("CACHE.NAMESPACE GET")?;
        // It may have been taken away since.
        let Some(set) = set.filter(|set| set.contains_key("breaker") || set.contains_key("maxfills")) else {
            continue;
        };
        let mut stats = redis::cmd("CACHE.STATS");
        let stats: Fields = stats.arg("NAMESPACE").arg(&name).query(connection).context("CACHE.STATS")?;
        found.push((name, set, stats));
    }
    Ok(found)
}

#[derive(Deserialize)]
pub struct Log {
    count: Option<usize>,
}

/// A record of CACHE.LOG.
#[derive(Clone, PartialEq, Eq)]
struct Record {
    at: u64,
    command: String,
    target: Vec<u8>,
    hits: u64,
    user: String,
    client: String,
}

/// `/api/log`.
pub async fn log(State(served): Shared, Query(query): Query<Log>) -> Json<Value> {
    let count = rows(query.count);
    let question = move |connection: &mut Connection| records(connection, count);
    let (said, errors) = parted(served.fleet.ask_each(is_primary, question).await);
    let merged = merge(said.into_iter().map(|(node, records)| (node.name, records)).collect());
    let row = |(record, nodes): (Record, Vec<String>)| {
        let (text, id) = named(&record.target);
        json!({
            "atMs": record.at,
            "command": record.command,
            "target": text,
            "id": id,
            "hits": record.hits,
            "user": record.user,
            "client": record.client,
            "nodes": nodes,
        })
    };
    let rows: Vec<Value> = merged.into_iter().take(count).map(row).collect();
    Json(json!({ "log": rows, "errors": errors }))
}

fn records(connection: &mut Connection, count: usize) -> Result<Vec<Record>> {
    let found: Vec<Fields> = redis::cmd("CACHE.LOG").arg(count).query(connection).context("CACHE.LOG")?;
    let record = |fields: &Fields| -> Result<Record> {
        let bytes = |name: &str| -> Result<Vec<u8>> {
            let value = fields.get(name).with_context(|| format!("CACHE.LOG lacks '{name}'"))?;
            Ok(redis::from_redis_value(value)?)
        };
        let text = |name: &str| Ok::<_, anyhow::Error>(String::from_utf8_lossy(&bytes(name)?).into_owned());
        let count = |name: &str| Ok::<_, anyhow::Error>(text(name)?.parse().unwrap_or(0));
        Ok(Record {
            at: fields.get("at-ms").and_then(number).and_then(|at| u64::try_from(at).ok()).unwrap_or(0),
            command: text("command")?,
            target: bytes("target")?,
            hits: match fields.get("hits").and_then(number) {
                Some(hits) => u64::try_from(hits).unwrap_or(0),
                None => count("hits")?,
            },
            user: text("user")?,
            client: text("client")?,
        })
    };
    found.iter().map(record).collect()
}

/// One row of what a cluster's nodes each noted of one invalidation, the hits summed; the
/// newest first. Two of the same within [`SAME`] on different nodes are taken for one.
fn merge(said: Vec<(String, Vec<Record>)>) -> Vec<(Record, Vec<String>)> {
    let mut all: Vec<(String, Record)> = said
        .into_iter()
        .flat_map(|(node, records)| records.into_iter().map(move |one| (node.clone(), one)))
        .collect();
    all.sort_by_key(|(_, record)| std::cmp::Reverse(record.at));
    let mut merged: Vec<(Record, Vec<String>)> = Vec::new();
    for (node, record) in all {
        let near = merged.iter_mut().rev().take_while(|(other, _)| other.at - record.at <= SAME);
        let same = |(other, nodes): &&mut (Record, Vec<String>)| {
            (&other.command, &other.target, &other.user) == (&record.command, &record.target, &record.user)
                && !nodes.contains(&node)
        };
        match { near }.find(same) {
            Some((other, nodes)) => {
                other.hits += record.hits;
                nodes.push(node);
            }
            None => merged.push((record, vec![node])),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(at: u64, target: &str, hits: u64) -> Record {
        let text = |text: &str| text.to_string();
        Record { at, command: text("C"), target: target.into(), hits, user: text("u"), client: text("c") }
    }

    #[test]
    fn what_nodes_noted_of_one_invalidation_is_one() {
        let said = vec![
            ("a".to_string(), vec![record(9000, "t", 1), record(8999, "t", 2), record(1000, "u", 1)]),
            ("b".to_string(), vec![record(9100, "t", 10), record(8990, "t", 20), record(5000, "u", 7)]),
        ];
        let merged: Vec<_> = merge(said)
            .into_iter()
            .map(|(of, nodes)| (String::from_utf8_lossy(&of.target).into_owned(), of.hits, nodes.len()))
            .collect();
        let row = |target: &str, hits, nodes| (target.to_string(), hits, nodes);
        assert_eq!(merged, [row("t", 11, 2), row("t", 22, 2), row("u", 7, 1), row("u", 1, 1)]);
        assert!(merge(vec![]).is_empty());
    }
}
