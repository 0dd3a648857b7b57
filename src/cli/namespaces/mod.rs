//! `cacheflow namespaces apply FILE`: the settings of namespaces as a file says, on every
//! primary.
//!
//! ```toml
//! [product]
//! maxmemory = "512mb"
//! ttl = "5m"
//! grace = "1h"
//! maxfills = 20
//! breaker = { percent = 50, cooldown = "10s" }
//! policy = "cost"
//!
//! [session]
//! exauto = { min = "30s", max = "1h" }
//! ```
//! What a namespace of the file does not name is unset there. Namespaces that the file does
//! not have are left as they are, but with `--prune`, which deletes their settings. To
//! apply a file twice changes nothing.

mod file;
mod plan;

use crate::connect::{Discovery, Node, Place};
use crate::times::length;
use anyhow::{bail, ensure, Context, Result};
use clap::{Args, Subcommand};
use plan::{changes, Change, Settings};
use redis::Connection;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Settings of namespaces.
#[derive(Subcommand)]
pub enum Namespaces {
    /// Sets what a file says, on all primaries.
    Apply(Apply),
}

/// Sets what a file says.
#[derive(Args)]
pub struct Apply {
    #[command(flatten)]
    place: Place,
    /// The file, TOML: a table for each namespace, of maxmemory, ttl, grace, exauto, maxfills,
    /// breaker and policy.
    file: PathBuf,
    /// Change nothing: show what would be.
    #[arg(long)]
    dry_run: bool,
    /// Delete the settings of namespaces that the file does not have.
    #[arg(long)]
    prune: bool,
    /// How long a server may take to answer.
    #[arg(long, default_value = "5s", value_parser = length)]
    timeout: Duration,
    /// Answer JSON.
    #[arg(long)]
    json: bool,
}

/// Applies.
pub fn run(command: &Namespaces) -> Result<()> {
    let Namespaces::Apply(options) = command;
    let text = std::fs::read_to_string(&options.file);
    let text = text.with_context(|| format!("cannot read {}", options.file.display()))?;
    let wanted = file::read(&text).with_context(|| options.file.display().to_string())?;
    let mut discovery = Discovery::new(options.place.reach()?, options.timeout);
    let primaries = discovery.primaries()?;
    ensure!(!primaries.is_empty(), "there is no primary now");
    // All are looked at before any is changed: who is down is known first.
    let mut planned = Vec::new();
    for primary in &primaries {
        let mut connection = primary.open(options.timeout)?;
        let changes = changes(&wanted, &found(&mut connection)?, options.prune);
        planned.push((primary, connection, changes));
    }
    let mut rows = Vec::new();
    for (primary, connection, changes) in &mut planned {
        for change in changes.iter() {
            if !options.dry_run {
                perform(connection, change).with_context(|| primary.name.clone())?;
            }
            show(options, primary, change);
            rows.push(json!({ "node": primary.name, "namespace": change.namespace, "before": change.before, "after": change.after }));
        }
    }
    if options.json {
        println!("{}", json!({ "applied": !options.dry_run, "changes": rows }));
    } else {
        let what = if options.dry_run { "would be changed" } else { "changed" };
        println!("{} settings of namespaces {what} on {} primaries", rows.len(), primaries.len());
    }
    Ok(())
}

fn show(options: &Apply, primary: &Node, change: &Change) {
    if !options.json {
        println!("{}: {}", primary.name, change.namespace);
        change.before.iter().for_each(|text| println!("  - {text}"));
        change.after.iter().for_each(|text| println!("  + {text}"));
    }
}

/// What is set on a server.
fn found(connection: &mut Connection) -> Result<BTreeMap<String, Settings>> {
    let names: Vec<Vec<u8>> =
        redis::cmd("CACHE.NAMESPACE").arg("LIST").query(connection).context("CACHE.NAMESPACE LIST")?;
    let mut found = BTreeMap::new();
    for name in names {
        // A name that is no text can be in no file: it is left alone.
        let Ok(text) = String::from_utf8(name) else { continue };
        let mut get = redis::cmd("CACHE.NAMESPACE");
        let set: Option<BTreeMap<String, redis::Value>> =
            get.arg("GET").arg(&text).query(connection).context("CACHE.NAMESPACE GET")?;
        if let Some(set) = set {
            found.insert(text, Settings::of_reply(&set)?);
        }
    }
    Ok(found)
}

fn perform(connection: &mut Connection, change: &Change) -> Result<()> {
    let mut command = redis::cmd("CACHE.NAMESPACE");
    if change.after.is_none() {
        command.arg("DEL").arg(&change.namespace).query::<u64>(connection).context("CACHE.NAMESPACE DEL")?;
        return Ok(());
    }
    command.arg("SET").arg(&change.namespace).arg(&change.words);
    let answer: String = command.query(connection).context("CACHE.NAMESPACE SET")?;
    if answer != "OK" {
        bail!("CACHE.NAMESPACE SET answers {answer}");
    }
    Ok(())
}
