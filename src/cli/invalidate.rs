//! `cacheflow invalidate`: CACHE.INVALIDATE from a shell, a cron job, a deployment.

use crate::connect::{Discovery, Place};
use crate::times::length;
use anyhow::{Context, Result};
use clap::{ArgGroup, Args};
use serde_json::json;
use std::time::Duration;

/// Invalidates tags or namespaces, on all primaries of a cluster: by one request, which
/// reaches them all. Fails if not all have acknowledged it in time; the server goes on
/// trying.
#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["tags", "namespaces"])))]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// The tags.
    #[arg(long, value_name = "TAG", num_args = 1..)]
    tags: Vec<String>,
    /// The namespaces.
    #[arg(long, value_name = "NAME", num_args = 1..)]
    namespaces: Vec<String>,
    /// Entries become stale, and are served until they are recomputed.
    #[arg(long)]
    soft: bool,
    /// How long the primaries have to acknowledge it.
    #[arg(long, default_value = "5s", value_parser = length)]
    timeout: Duration,
    /// Answer JSON.
    #[arg(long)]
    json: bool,
}

/// What the connection may take longer than the command.
const SPARE: Duration = Duration::from_secs(5);

/// Invalidates.
pub fn run(options: &Options) -> Result<()> {
    let mut discovery = Discovery::new(options.place.reach()?, options.timeout + SPARE);
    let primaries = discovery.primaries()?;
    let primary = primaries.first().context("there is no primary now")?;
    let mut connection = primary.open(options.timeout + SPARE)?;
    let mut command = redis::cmd("CACHE.INVALIDATE");
    if options.soft {
        command.arg("SOFT");
    }
    command.arg("TIMEOUT").arg(u64::try_from(options.timeout.as_millis()).unwrap_or(u64::MAX));
    let (word, names) = match options.tags.as_slice() {
        [] => ("NAMESPACE", &options.namespaces),
        tags => ("TAGS", &tags.to_vec()),
    };
    let hits: u64 = command.arg(word).arg(names).query(&mut connection).context("CACHE.INVALIDATE")?;
    if options.json {
        println!("{}", json!({ "hits": hits, "node": primary.name }));
    } else {
        println!("{hits} entries were hit");
    }
    Ok(())
}
