//! Keys that somebody computes or waits for now.
//!
//! The server has no list of its leases to give. Those that matter are of keys that are
//! waited for, or that the origin is spared the most by: of these it is asked, with
//! CACHE.META, which leaves LRU and statistics as they are.

use super::super::Shared;
use super::lists::is_primary;
use super::{named, parted};
use crate::connect::Node;
use anyhow::{Context, Result};
use axum::extract::State;
use axum::Json;
use redis::{Connection, Value as Reply};
use serde_json::{json, Value};
use std::collections::BTreeSet;

/// By which figures keys are chosen, and how many by each.
const BY: [&str; 2] = ["WAITS", "COST"];
const LOOKED_AT: usize = 100;
/// Rows of the answer.
const MOST: usize = 50;

/// A key that is in progress.
struct Busy {
    key: Vec<u8>,
    state: String,
    lease: i64,
    waiters: i64,
}

/// `/api/progress`.
pub async fn progress(State(served): Shared) -> Json<Value> {
    let (said, errors) = parted(served.fleet.ask_each(is_primary, in_progress).await);
    let each = |(node, busy): (Node, Vec<Busy>)| busy.into_iter().map(move |one| (node.name.clone(), one));
    let mut all: Vec<(String, Busy)> = said.into_iter().flat_map(each).collect();
    all.sort_by(|(_, one), (_, other)| (other.waiters, &one.key).cmp(&(one.waiters, &other.key)));
    all.truncate(MOST);
    let row = |(node, busy): (String, Busy)| {
        let (text, id) = named(&busy.key);
        json!({
            "key": text,
            "id": id,
            "node": node,
            "state": busy.state,
            "leaseMs": busy.lease,
            "waiters": busy.waiters,
        })
    };
    let keys: Vec<Value> = all.into_iter().map(row).collect();
    Json(json!({ "keys": keys, "lookedAt": LOOKED_AT * BY.len(), "errors": errors }))
}

fn in_progress(connection: &mut Connection) -> Result<Vec<Busy>> {
    let mut keys = BTreeSet::new();
    for by in BY {
        let mut command = redis::cmd("CACHE.HOTKEYS");
        command.arg("BY").arg(by).arg("COUNT").arg(LOOKED_AT);
        let hot: Vec<(Vec<u8>, u64)> = command.query(connection).context("CACHE.HOTKEYS")?;
        keys.extend(hot.into_iter().map(|(key, _)| key));
    }
    let mut pipe = redis::pipe();
    for key in &keys {
        pipe.cmd("CACHE.META").arg(key);
    }
    let metas: Vec<Option<Vec<(String, Reply)>>> =
        if keys.is_empty() { Vec::new() } else { pipe.query(connection).context("CACHE.META")? };
    Ok(keys.into_iter().zip(metas).filter_map(|(key, meta)| busy(key, &meta?)).collect())
}

fn busy(key: Vec<u8>, meta: &[(String, Reply)]) -> Option<Busy> {
    let of = |name: &str| meta.iter().find(|(of, _)| of == name).map(|(_, value)| value);
    let number = |name: &str| of(name).and_then(|value| redis::from_redis_value(value).ok()).unwrap_or(0);
    let (lease, waiters) = (number("lease-ms"), number("waiters"));
    let state = redis::from_redis_value(of("state")?).ok()?;
    (lease > 0 || waiters > 0).then_some(Busy { key, state, lease, waiters })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_in_progress() {
        let meta = |lease, waiters| -> Vec<(String, Reply)> {
            vec![
                ("state".into(), Reply::BulkString(b"stale".to_vec())),
                ("lease-ms".into(), Reply::Int(lease)),
                ("waiters".into(), Reply::Int(waiters)),
            ]
        };
        let of = |meta: &[(String, Reply)]| busy(b"k".to_vec(), meta).map(|one| (one.lease, one.waiters));
        assert_eq!(of(&meta(5, 0)), Some((5, 0)));
        assert_eq!(of(&meta(0, 2)), Some((0, 2)), "an origin that rests, and who waits for it");
        assert_eq!(of(&meta(0, 0)), None);
        assert_eq!(of(&[]), None);
    }
}
