//! `cacheflow export`: the way out. Every entry becomes a plain string with its TTL.
//!
//! ```text
//! each primary ── SCAN TYPE cacheflow ──▶ META, GET … STALE ──▶ SET key value PX ttl
//!                                                             ├─▶ stdout or a file, as RESP
//!                                                             └─▶ another server (--to)
//! ```
//! What is written to stdout is what `redis-cli --pipe` takes. The TTL is the end of
//! freshness, or with `--with-grace` the end of the grace; an entry that is stale already
//! is left out without it. Tags, costs and statistics have no place in a plain string.
//! Of the database that the URL names. While it runs, entries may come and go: those that are there throughout are exported.
//! It reads as any reader does: each counts as a hit.

mod resp;

use crate::connect::{Discovery, Kind, Place};
use crate::interrupt;
use crate::times::length;
use anyhow::{bail, Context, Result};
use cacheflow_core::slot;
use clap::Args;
use redis::{Connection, ConnectionLike};
use serde_json::json;
use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

/// Writes all entries as plain SETs with their TTLs, for `redis-cli --pipe` or to another
/// server.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// Only entries of these namespaces.
    #[arg(long, value_name = "NAME")]
    namespace: Vec<String>,
    /// Stale entries too, and TTLs up to the end of the grace.
    #[arg(long)]
    with_grace: bool,
    /// Where to write, in place of stdout.
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    file: Option<PathBuf>,
    /// The server to store to, in place of stdout; its password is
    /// CACHEFLOW_TO_PASSWORD's. No cluster: to fill one, pipe the text to each node.
    #[arg(long, value_name = "URL")]
    to: Option<String>,
    /// How long a server may take to answer.
    #[arg(long, default_value = "10s", value_parser = length)]
    timeout: Duration,
    /// Say what was done as JSON, on stderr.
    #[arg(long)]
    json: bool,
}

/// Entries that are read at once.
const BATCH: usize = 200;

/// A plain string.
pub struct Plain {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// In ms; `None`: no end.
    pub ttl: Option<u64>,
}

/// Where they go.
enum Sink {
    Text(Box<dyn Write>),
    Server(Box<Connection>),
}

/// Exports.
pub fn run(options: &Options) -> Result<()> {
    let mut discovery = Discovery::new(options.place.reach()?, options.timeout);
    let primaries = discovery.primaries()?;
    let kind = discovery.kind();
    let mut sink = sink(options)?;
    let mut written = 0;
    for primary in &primaries {
        let mut connection = primary.open(options.timeout)?;
        let mut cursor = "0".to_string();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("COUNT").arg(BATCH).arg("TYPE").arg("cacheflow");
            let (next, keys): (String, Vec<Vec<u8>>) = scan.query(&mut connection).context("SCAN")?;
            // A key that is being migrated lies on two nodes: its owner's counts.
            let owned = |key: &Vec<u8>| kind != Kind::Cluster || primary.has_slot(slot::of(key));
            let keys: Vec<Vec<u8>> = keys.into_iter().filter(owned).collect();
            let plain = read(&mut connection, &keys, options)?;
            written += plain.len();
            sink.take(&plain)?;
            cursor = next;
            if cursor == "0" || interrupt::asked() {
                break;
            }
        }
    }
    sink.end()?;
    if interrupt::asked() {
        bail!("stopped: {written} entries were exported so far");
    }
    if options.json {
        eprintln!("{}", json!({ "exported": written }));
    } else {
        eprintln!("{written} entries exported");
    }
    Ok(())
}

/// Reads entries: those that are fresh, or with the grace stale.
fn read(connection: &mut Connection, keys: &[Vec<u8>], options: &Options) -> Result<Vec<Plain>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut pipe = redis::pipe();
    for key in keys {
        pipe.cmd("CACHE.META").arg(key);
        let get = pipe.cmd("CACHE.GET").arg(key);
        if options.with_grace {
            get.arg("STALE");
        }
    }
    // One by one: what is wrong with one key says nothing of the others.
    let replies = connection
        .req_packed_commands(&pipe.get_packed_pipeline(), 0, 2 * keys.len())
        .context("CACHE.META, CACHE.GET")?;
    let mut found = Vec::new();
    for (key, pair) in keys.iter().zip(replies.chunks_exact(2)) {
        let value: Option<Vec<u8>> = match pair[1].clone().extract_error() {
            // A native key's companion, or a key that was written over meanwhile: no entry.
            Err(error) if error.code() == Some("WRONGTYPE") => continue,
            answer => redis::from_redis_value(&answer.context("CACHE.GET")?)?,
        };
        let meta: Option<HashMap<String, redis::Value>> = redis::from_redis_value(&pair[0])?;
        let (Some(value), Some(meta)) = (value, meta) else { continue };
        // One that is no text is none of those that can be named.
        let namespace: Vec<u8> =
            meta.get("namespace").map(redis::from_redis_value).transpose()?.unwrap_or_default();
        if !options.namespace.is_empty() && !options.namespace.iter().any(|name| name.as_bytes() == namespace)
        {
            continue;
        }
        let field = if options.with_grace { "ttl-ms" } else { "fresh-ms" };
        let left: i64 = meta.get(field).map(redis::from_redis_value).transpose()?.unwrap_or(-1);
        match u64::try_from(left) {
            // Its time is up as it is read.
            Ok(0) => {}
            Ok(ttl) => found.push(Plain { key: key.clone(), value, ttl: Some(ttl) }),
            Err(_) => found.push(Plain { key: key.clone(), value, ttl: None }),
        }
    }
    Ok(found)
}

fn sink(options: &Options) -> Result<Sink> {
    if let Some(url) = &options.to {
        let place = Place::plain(url, "CACHEFLOW_TO_PASSWORD")?;
        return Ok(Sink::Server(Box::new(crate::connect::open(&place, options.timeout)?)));
    }
    let out: Box<dyn Write> = match &options.file {
        Some(path) => {
            let file = std::fs::File::create_new(path);
            Box::new(file.with_context(|| format!("cannot make {}", path.display()))?)
        }
        None => Box::new(std::io::stdout().lock()),
    };
    Ok(Sink::Text(Box::new(BufWriter::with_capacity(1 << 20, out))))
}

impl Sink {
    fn take(&mut self, plain: &[Plain]) -> Result<()> {
        match self {
            Sink::Text(out) => plain.iter().try_for_each(|one| resp::write(out, one)).context("cannot write"),
            Sink::Server(_) if plain.is_empty() => Ok(()),
            Sink::Server(connection) => {
                let mut pipe = redis::pipe();
                for one in plain {
                    let set = pipe.cmd("SET").arg(&one.key).arg(&one.value);
                    one.ttl.iter().for_each(|ttl| {
                        set.arg("PX").arg(ttl);
                    });
                    set.ignore();
                }
                pipe.query::<()>(connection).context("SET")
            }
        }
    }

    fn end(self) -> Result<()> {
        match self {
            Sink::Text(mut out) => out.flush().context("cannot write"),
            Sink::Server(_) => Ok(()),
        }
    }
}
