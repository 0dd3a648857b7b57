//! `/healthz`: the program lives. `/readyz`: so do the servers, by node.

use super::fleet::{Look, NodeLook};
use super::Shared;
use crate::connect::{Kind, Role};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::Json;
use serde_json::{json, Value};
use std::collections::BTreeSet;

/// Whoever can answer this is alive; a server that is down is no reason to restart it.
pub async fn healthz() -> impl IntoResponse {
    Json(json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") }))
}

/// 200 where every shard has a primary that answers, 503 else.
pub async fn readyz(State(served): Shared) -> impl IntoResponse {
    let look = served.fleet.look().await;
    let ready = is_ready(&look);
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "ready": ready, "failure": look.failure, "nodes": nodes(&look) })))
}

fn is_ready(look: &Look) -> bool {
    let shards = |up: bool| -> BTreeSet<&str> {
        let those = look.nodes.iter().filter(|one| !up || serves(one, look.kind));
        those.map(|one| one.node.shard.as_str()).collect()
    };
    look.failure.is_none() && !look.nodes.is_empty() && shards(true) == shards(false)
}

/// Whether a node does what its shard is there for. Who asks for one server means that,
/// be it a replica.
fn serves(one: &NodeLook, kind: Kind) -> bool {
    one.seen.is_ok() && (one.role == Role::Primary || kind == Kind::Single)
}

/// Each node, up or down.
pub fn nodes(look: &Look) -> Vec<Value> {
    let node = |one: &NodeLook| {
        json!({
            "node": one.node.name,
            "role": one.role,
            "shard": one.node.shard,
            "up": one.seen.is_ok(),
            "error": one.seen.as_ref().err(),
            "tookMs": one.took.as_secs_f64() * 1000.0,
        })
    };
    look.nodes.iter().map(node).collect()
}
