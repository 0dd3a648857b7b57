//! A key looked up: CACHE.META, and with `--show-values` the value.

use super::super::Shared;
use super::lists::is_primary;
use super::{named, Failed};
use crate::connect::{Kind, Node};
use anyhow::{Context, Result};
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::Json;
use cacheflow_core::exposition::label_of;
use cacheflow_core::slot;
use percent_encoding::percent_decode_str;
use redis::{Connection, Value as Reply};
use serde_json::{json, Map, Value};

/// Bytes of a value that are shown.
const SHOWN: usize = 4096;

/// `/api/key?key=`. To show the value is a read as any other: it counts as a hit.
pub async fn key(State(served): Shared, RawQuery(query): RawQuery) -> Result<Json<Value>, Failed> {
    let key = asked_for(query.as_deref().unwrap_or_default())
        .ok_or_else(|| Failed::wrong("key= names the key, percent-encoded"))?;
    let members = served.fleet.members();
    let home = members.nodes().find(|node| is_home(node, members.kind, &key)).map(|node| node.name.clone());
    let Some(home) = home else {
        return Err(Failed(StatusCode::BAD_GATEWAY, "no primary is known for the key's slot".into()));
    };
    let (shows, name) = (served.show_values, key.clone());
    let question = move |connection: &mut Connection| look_up(connection, &name, shows);
    let found = served.fleet.ask(&home, question).await.map_err(|error| Failed::of_server(&error))?;
    let (text, id) = named(&key);
    Ok(Json(json!({ "key": text, "id": id, "node": home, "meta": found.0, "value": found.1 })))
}

/// The key, of any bytes: a `+` is a blank, as forms write it.
fn asked_for(query: &str) -> Option<Vec<u8>> {
    let pair = query.split('&').find_map(|pair| pair.strip_prefix("key="))?;
    Some(percent_decode_str(&pair.replace('+', " ")).collect())
}

/// Whether a node is the primary of a key.
pub fn is_home(node: &Node, kind: Kind, key: &[u8]) -> bool {
    match kind {
        Kind::Cluster => is_primary(node) && node.has_slot(slot::of(key)),
        Kind::Single | Kind::Sentinel => is_primary(node),
    }
}

fn look_up(connection: &mut Connection, key: &[u8], shows: bool) -> Result<(Option<Value>, Option<Value>)> {
    let meta: Reply = redis::cmd("CACHE.META").arg(key).query(connection).context("CACHE.META")?;
    let meta = match meta {
        Reply::Nil => None,
        meta => {
            let pairs: Vec<(String, Reply)> = redis::from_redis_value(&meta)?;
            let fields: Map<String, Value> =
                pairs.iter().map(|(name, value)| (name.clone(), shown(value))).collect();
            Some(Value::Object(fields))
        }
    };
    if !shows || meta.is_none() {
        return Ok((meta, None));
    }
    let mut get = redis::cmd("CACHE.GET");
    // Another type has no value to show.
    let value: Option<Vec<u8>> = match get.arg(key).arg("STALE").query(connection) {
        Err(error) if error.code() == Some("WRONGTYPE") => None,
        answer => answer.context("CACHE.GET")?,
    };
    let value = value.map(|value| {
        let part = &value[..value.len().min(SHOWN)];
        // A letter that was cut is no other byte.
        let whole = match std::str::from_utf8(part) {
            Err(error) if error.error_len().is_none() => &part[..error.valid_up_to()],
            _ => part,
        };
        json!({ "text": label_of(whole), "bytes": value.len(), "whole": whole.len() == value.len() })
    });
    Ok((meta, value))
}

/// A reply as JSON: bytes as text for the eye.
fn shown(reply: &Reply) -> Value {
    match reply {
        Reply::Int(n) => json!(n),
        Reply::BulkString(bytes) => json!(label_of(bytes)),
        Reply::SimpleString(text) => json!(text),
        Reply::Array(parts) | Reply::Set(parts) => parts.iter().map(shown).collect(),
        Reply::Double(n) => json!(n),
        Reply::Boolean(is) => json!(is),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::asked_for;

    #[test]
    fn keys_of_any_bytes() {
        assert_eq!(asked_for("key=a%3Ab%20c%ff%26+d").as_deref(), Some(&b"a:b c\xff& d"[..]));
        assert_eq!(asked_for("x=1&key=&y").as_deref(), Some(&b""[..]));
        assert_eq!(asked_for("keys=a"), None);
        assert_eq!(asked_for(""), None);
    }
}
