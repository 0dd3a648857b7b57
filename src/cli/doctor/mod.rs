//! `cacheflow doctor`: looks at servers as an operator would who knows what goes wrong,
//! and says what to do.
//!
//! Nothing is changed. It ends with 1 where anything is wrong, so that a deployment may
//! ask it. What is only worth a thought does not count.

mod checks;

use crate::connect::{Discovery, Place};
use crate::times::length;
use anyhow::{bail, Context, Result};
use checks::{Finding, Health, Seen};
use clap::Args;
use redis::Connection;
use serde_json::json;
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Looks whether servers are as they should be for CacheFlow, and says what to do.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// How long a server may take to answer.
    #[arg(long, default_value = "5s", value_parser = length)]
    timeout: Duration,
    /// Answer JSON.
    #[arg(long)]
    json: bool,
}

/// Looks.
pub fn run(options: &Options) -> Result<()> {
    let mut discovery = Discovery::new(options.place.reach()?, options.timeout);
    let nodes = discovery.nodes()?;
    let kind = discovery.kind();
    let mut findings = Vec::new();
    let mut seen = Vec::new();
    for node in &nodes {
        match node.open(options.timeout).and_then(|mut connection| see(&mut connection)) {
            Ok(one) => {
                findings.extend(checks::of_node(node, &one));
                seen.push((node, one));
            }
            Err(error) => findings.push(Finding {
                node: node.name.clone(),
                health: Health::Bad,
                what: format!("it does not answer: {error:#}"),
                todo: "start it, or take it out of the cluster; look at the network, TLS and the ACL user"
                    .into(),
            }),
        }
    }
    findings.extend(checks::of_all(kind, &nodes, &seen));
    let bad = findings.iter().filter(|finding| finding.health == Health::Bad).count();
    if options.json {
        println!("{}", json!({ "kind": kind, "nodes": nodes.len(), "bad": bad, "findings": findings }));
    } else {
        for finding in &findings {
            println!("{:5} {}: {}", finding.health.word(), finding.node, finding.what);
            if !finding.todo.is_empty() {
                println!("      → {}", finding.todo);
            }
        }
        println!("{} servers, {bad} findings to mend", nodes.len());
    }
    if bad > 0 {
        bail!("{bad} findings to mend");
    }
    Ok(())
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What was answered; `None` where the server answers an error. Any other is ours: of the
/// connection, or of an answer that cannot be read.
fn unless_refused<T>(answer: redis::RedisResult<T>) -> redis::RedisResult<Option<T>> {
    match answer {
        Err(error) if error.code().is_some() => Ok(None),
        other => other.map(Some),
    }
}

/// What a server says of itself. What the ACL user may not ask is missing.
fn see(connection: &mut Connection) -> Result<Seen> {
    // Its clock first, and ours on both sides of it.
    let before = now_ms();
    let time: (i64, i64) = redis::cmd("TIME").query(connection).context("TIME")?;
    let after = now_ms();
    let text: String = redis::cmd("INFO").arg("everything").query(connection).context("INFO")?;
    let info = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    let stats: Option<HashMap<String, i64>> =
        unless_refused(redis::cmd("CACHE.STATS").query(connection)).context("CACHE.STATS")?;
    let config: Option<HashMap<String, String>> =
        unless_refused(redis::cmd("CONFIG").arg("GET").arg("maxmemory*").query(connection))
            .context("CONFIG GET")?;
    let mut may = HashMap::new();
    for command in ["CACHE.METRICS", "CACHE.HOTKEYS", "CACHE.LOG", "CACHE.TAGS"] {
        let mut ask = redis::cmd(command);
        if command == "CACHE.TAGS" {
            ask.arg("0").arg("COUNT").arg(1);
        }
        let may_ask = match ask.query::<redis::Value>(connection) {
            Err(error) if error.code().is_none() => return Err(error).context(command),
            answer => {
                answer.err().and_then(|error| error.code().map(String::from)).as_deref() != Some("NOPERM")
            }
        };
        may.insert(command, may_ask);
    }
    Ok(Seen {
        info: info.map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        stats,
        config,
        may,
        clock: time.0 * 1000 + time.1 / 1000 - (before + after) / 2,
        around: after - before,
    })
}
