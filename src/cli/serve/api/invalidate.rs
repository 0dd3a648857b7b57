//! Invalidation by hand, in two steps.
//!
//! ```text
//! POST {kind, names, soft, preview: true}     ─▶ {hits, confirm: "…"}
//! POST {kind, names, soft, confirm: "…"}      ─▶ {hits}
//! ```
//! The second is of the same names within a minute, and by what the first answered: so
//! nobody invalidates what he has not been told the size of. What it hits may differ by
//! what has happened in between.

use super::super::{Served, Shared};
use super::lists::is_primary;
use super::{parted, Failed};
use crate::connect::Node;
use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::Json;
use percent_encoding::percent_decode_str;
use rand::Rng;
use redis::Connection;
use serde::Deserialize;
use serde_json::{json, Value};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a preview may be confirmed.
const VALID: Duration = Duration::from_secs(60);
/// Previews at once.
const MOST: usize = 1000;
/// Names in one request.
const MOST_NAMES: usize = 100;
/// Entries of a tag that are counted on a node, and how many in a call.
const COUNTED: u64 = 100_000;
const A_CALL: usize = 5000;

/// What is to be invalidated.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    kind: What,
    /// Percent-encoded, as `id` is.
    names: Vec<String>,
    #[serde(default)]
    soft: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Tags,
    Namespace,
}

#[derive(Deserialize)]
pub struct Request {
    #[serde(flatten)]
    target: Target,
    #[serde(default)]
    preview: bool,
    confirm: Option<String>,
}

/// Previews that may be confirmed.
#[derive(Default)]
pub struct Previews(Mutex<HashMap<String, (Target, Instant)>>);

impl Previews {
    fn add(&self, target: Target) -> Option<String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (_, at)| at.elapsed() < VALID);
        if all.len() >= MOST {
            return None;
        }
        let bytes: [u8; 16] = rand::rng().random();
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        all.insert(id.clone(), (target, Instant::now()));
        Some(id)
    }

    /// Takes one: it confirms once.
    fn take(&self, id: &str, target: &Target) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = all.get(id).is_some_and(|(of, at)| of == target && at.elapsed() < VALID);
        fits && all.remove(id).is_some()
    }
}

/// `/api/invalidate`.
pub async fn invalidate(State(served): Shared, headers: HeaderMap, Json(request): Json<Request>) -> Response {
    if let Err(refused) = served.guard.admit(&headers) {
        return refused.into_response();
    }
    match answer(&served, request).await {
        Ok(answer) => Json(answer).into_response(),
        Err(failed) => failed.into_response(),
    }
}

async fn answer(served: &Served, request: Request) -> Result<Value, Failed> {
    let target = request.target;
    let names: Vec<Vec<u8>> = target.names.iter().map(|name| percent_decode_str(name).collect()).collect();
    if names.is_empty() || names.len() > MOST_NAMES {
        return Err(Failed::wrong(format!("names are 1 to {MOST_NAMES}")));
    }
    if request.preview {
        let (hits, at_least, errors) = preview(served, &target, names).await;
        if !errors.is_empty() {
            return Ok(json!({ "hits": hits, "atLeast": true, "confirm": null, "errors": errors }));
        }
        let confirm = served.previews.add(target);
        let confirm = confirm.ok_or(Failed(StatusCode::TOO_MANY_REQUESTS, "too many previews".into()))?;
        return Ok(json!({ "hits": hits, "atLeast": at_least, "confirm": confirm, "errors": [] }));
    }
    let confirmed = request.confirm.as_deref().is_some_and(|id| served.previews.take(id, &target));
    if !confirmed {
        return Err(Failed(StatusCode::CONFLICT, "ask for a preview first, and confirm that".into()));
    }
    let members = served.fleet.members();
    let Some(node) = members.nodes().find(|node| is_primary(node) && !node.down) else {
        return Err(Failed(StatusCode::BAD_GATEWAY, "no primary is known".into()));
    };
    let (node, what, soft) = (node.name.clone(), target.kind, target.soft);
    tracing::info!(names = target.names.join(" "), ?what, soft, "invalidating, by hand");
    let question = move |connection: &mut Connection| perform(connection, what, soft, &names);
    match served.fleet.ask(&node, question).await {
        Ok(hits) => Ok(json!({ "hits": hits, "node": node })),
        // PARTIAL is one: the server goes on with the rest.
        Err(error) => Err(Failed::of_server(&error)),
    }
}

fn perform(connection: &mut Connection, what: What, soft: bool, names: &[Vec<u8>]) -> Result<u64> {
    let mut command = redis::cmd("CACHE.INVALIDATE");
    if soft {
        command.arg("SOFT");
    }
    command.arg(match what {
        What::Tags => "TAGS",
        What::Namespace => "NAMESPACE",
    });
    command.arg(names).query(connection).context("CACHE.INVALIDATE")
}

/// How many it would hit; whether they are at least so many; who did not say.
async fn preview(served: &Served, target: &Target, names: Vec<Vec<u8>>) -> (u64, bool, Vec<Value>) {
    let what = target.kind;
    let question = move |connection: &mut Connection| -> Result<(u64, bool)> {
        let (mut sum, mut more) = (0, false);
        for name in &names {
            let (hits, at_least) = match what {
                What::Tags => members_of(connection, name)?,
                What::Namespace => (entries_of(connection, name)?, false),
            };
            sum += hits;
            more |= at_least;
        }
        Ok((sum, more))
    };
    let answers: Vec<(Node, Result<(u64, bool)>)> = served.fleet.ask_each(is_primary, question).await;
    let (said, errors) = parted(answers);
    let sum = said.iter().map(|(_, (hits, _))| hits).sum();
    (sum, said.iter().any(|(_, (_, more))| *more), errors)
}

/// The entries of a tag, counted up to [`COUNTED`]: the server has no number of them to
/// give for one tag.
fn members_of(connection: &mut Connection, tag: &[u8]) -> Result<(u64, bool)> {
    let (mut cursor, mut count) = ("0".to_string(), 0);
    loop {
        let mut command = redis::cmd("CACHE.KEYS");
        command.arg(tag).arg(&cursor).arg("COUNT").arg(A_CALL);
        let (next, keys): (String, Vec<Vec<u8>>) = command.query(connection).context("CACHE.KEYS")?;
        count += keys.len() as u64;
        cursor = next;
        if cursor == "0" {
            return Ok((count, false));
        }
        if count >= COUNTED {
            return Ok((count, true));
        }
    }
}

fn entries_of(connection: &mut Connection, namespace: &[u8]) -> Result<u64> {
    let mut command = redis::cmd("CACHE.STATS");
    let fields: HashMap<String, u64> =
        command.arg("NAMESPACE").arg(namespace).query(connection).context("CACHE.STATS")?;
    fields.get("entries").copied().context("CACHE.STATS lacks 'entries'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(names: &[&str], soft: bool) -> Target {
        Target { kind: What::Tags, names: names.iter().map(|&name| name.into()).collect(), soft }
    }

    #[test]
    fn a_preview_confirms_its_own_target_once() {
        let previews = Previews::default();
        let id = previews.add(target(&["a"], false)).expect("room");
        assert!(!previews.take(&id, &target(&["a", "b"], false)));
        assert!(!previews.take(&id, &target(&["a"], true)));
        assert!(!previews.take("", &target(&["a"], false)));
        assert!(previews.take(&id, &target(&["a"], false)));
        assert!(!previews.take(&id, &target(&["a"], false)), "once");
        let many = (0..2 * MOST).filter_map(|_| previews.add(target(&["a"], false))).count();
        assert_eq!(many, MOST);
    }

    #[test]
    fn requests_as_they_are_sent() {
        let read = |text: &str| serde_json::from_str::<Request>(text);
        let request = read(r#"{"kind":"tags","names":["a%3Ab"],"preview":true}"#).expect("valid");
        assert!(request.preview && request.confirm.is_none() && !request.target.soft);
        assert!(read(r#"{"kind":"keys","names":[]}"#).is_err());
        assert!(read(r#"{"names":["a"]}"#).is_err());
    }
}
