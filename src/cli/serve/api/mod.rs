//! The JSON that the dashboard is made of.
//!
//! | request | answers |
//! | --- | --- |
//! | `GET /api/overview` | the sums of all |
//! | `GET /api/nodes` | each node |
//! | `GET /api/namespaces` | each namespace that CACHE.METRICS shows |
//! | `GET /api/hotkeys?by=hits` | CACHE.HOTKEYS of all primaries |
//! | `GET /api/tags?match=*` | tags with their entries, the largest first |
//! | `GET /api/leases` | leases, locks, waiters, how long fills and waits take |
//! | `GET /api/progress` | hot keys that somebody computes or waits for now |
//! | `GET /api/commands` | how often and how long each command has run |
//! | `GET /api/breakers` | origins that are protected, and how they are |
//! | `GET /api/log` | CACHE.LOG of all primaries |
//! | `GET /api/key?key=` | CACHE.META of a key |
//! | `GET`, `POST`, `DELETE /api/session` | whether one may invalidate; the token for a session; its end |
//! | `POST /api/invalidate` | with the token: a preview, then the invalidation |
//!
//! Counters are since the start or a reset, as the server's are: the page takes the
//! differences. `atMs` is when the servers were asked, `over` stands for those that
//! answered: between two answers with different ones there is no difference to take. Keys and tags are bytes; `id` has them percent-encoded, as `key=` takes
//! them, and beside it they are text for the eye. What a node did not answer is missing,
//! and `errors` says of whom.

mod commands;
mod invalidate;
mod key;
mod lists;
mod progress;
mod sums;

pub use invalidate::Previews;
pub use lists::{hot_keys_of, BY};
pub use sums::{leases_of, namespaces_of, nodes_of, overview_of};

use super::{guard, Served, Shared};
use crate::connect::{sentence, Node};
use anyhow::Result;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{header, HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use cacheflow_core::exposition::label_of;
use percent_encoding::{percent_encode, NON_ALPHANUMERIC};
use serde::Deserialize;
use serde_json::{json, Value};
use std::sync::Arc;

/// The longest body of a request.
const LONGEST_BODY: usize = 1 << 20;

/// The routes below `/api`.
pub fn router() -> Router<Arc<Served>> {
    Router::new()
        .route("/overview", get(sums::overview))
        .route("/nodes", get(sums::nodes))
        .route("/namespaces", get(sums::namespaces))
        .route("/leases", get(sums::leases))
        .route("/commands", get(commands::commands))
        .route("/progress", get(progress::progress))
        .route("/hotkeys", get(lists::hot_keys))
        .route("/tags", get(lists::tags))
        .route("/breakers", get(lists::breakers))
        .route("/log", get(lists::log))
        .route("/key", get(key::key))
        .route("/session", get(session).post(begin).delete(end))
        .route("/invalidate", post(invalidate::invalidate))
        .fallback(|| async { Failed(StatusCode::NOT_FOUND, "there is no such request".into()) })
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
}

/// A request that cannot be answered.
pub struct Failed(StatusCode, String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl Failed {
    fn wrong(text: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, text.into())
    }

    /// A server did not answer, or not as it should.
    fn of_server(error: &anyhow::Error) -> Self {
        Self(StatusCode::BAD_GATEWAY, sentence(error))
    }
}

/// Bytes for the eye, and to be asked for again.
fn named(bytes: &[u8]) -> (String, String) {
    (label_of(bytes), percent_encode(bytes, NON_ALPHANUMERIC).to_string())
}

/// Parts the answers of nodes: what they said, and who said nothing.
fn parted<T>(answers: Vec<(Node, Result<T>)>) -> (Vec<(Node, T)>, Vec<Value>) {
    let (mut said, mut errors) = (Vec::new(), Vec::new());
    for (node, answer) in answers {
        match answer {
            Ok(answer) => said.push((node, answer)),
            Err(error) => errors.push(json!({ "node": node.name, "error": sentence(&error) })),
        }
    }
    (said, errors)
}

// ── sessions ────────────────────────────────────────────────────────────────

async fn session(State(served): Shared, headers: HeaderMap) -> impl IntoResponse {
    Json(json!({ "readOnly": !served.guard.is_armed(), "session": served.guard.knows(&headers) }))
}

#[derive(Deserialize)]
struct Begin {
    token: String,
}

async fn begin(
    State(served): Shared,
    headers: HeaderMap,
    Json(body): Json<Begin>,
) -> Result<Response, guard::Refused> {
    served.guard.same_origin(&headers)?;
    let cookie = served.guard.begin(&body.token, guard::is_secure(&headers)).await?;
    Ok(([(header::SET_COOKIE, cookie)], Json(json!({ "session": true }))).into_response())
}

async fn end(State(served): Shared, headers: HeaderMap) -> Result<Response, guard::Refused> {
    served.guard.same_origin(&headers)?;
    let cookie = served.guard.end(&headers)?;
    Ok(([(header::SET_COOKIE, cookie)], Json(json!({ "session": false }))).into_response())
}
