//! `cacheflow warm`: recomputes what CACHE.REFRESH says is worth it, by a command
//! or an HTTP source.
//!
//! ```text
//! shards ── each primary ──▶ workers, each with a connection of its own:
//!            CACHE.REFRESH BLOCK ──▶ source ──▶ CACHE.SET … LEASE token
//!                    ▲                  └─ failed ─▶ CACHE.UNLOCK … RETRY
//!                    └──────────────────────────────────────┘
//! ```
//! Any number of these may run at once, on any machines: the server gives each
//! key to one worker, and takes it back should that die. Without `--follow` it
//! ends when nothing is due, and fails if any key could not be recomputed: what a
//! deployment runs before it lets traffic in.

mod progress;
mod shards;
mod source;
mod worker;

use crate::connect::Place;
use crate::interrupt;
use crate::times::length;
use anyhow::{bail, Context, Result};
use clap::{ArgGroup, Args};
use progress::Progress;
use shards::Shards;
use source::Source;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use worker::{Lengths, Worker};

/// How often it is looked again which primaries there are.
const LOOK: Duration = Duration::from_secs(5);

/// Recomputes the keys that are most worth it, until nothing is due, or for as
/// long as it runs (--follow).
#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["exec", "http"])))]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// Only keys of this namespace.
    #[arg(long, value_name = "NAME")]
    namespace: Option<String>,
    /// How many keys are recomputed at once, on each shard.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
    /// End when nothing is due: the default.
    #[arg(long, conflicts_with = "follow")]
    once: bool,
    /// Go on until stopped.
    #[arg(long)]
    follow: bool,
    /// The command that prints a key's value: words, `{key}` among them, and no
    /// shell between.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// Have a shell run the command; `{key}` is "$1" to it, whatever is in the key.
    #[arg(long, conflicts_with = "http")]
    shell: bool,
    /// Where a key's value is got, over HTTP or HTTPS; `{key}` is percent-encoded.
    #[arg(long, value_name = "URL")]
    http: Option<String>,
    /// How long a value is fresh (500ms, 30s, 5m, 2h, 1d). Without it an entry that
    /// is still fresh keeps its length and grace, any other has its namespace's.
    #[arg(long, value_parser = length)]
    ttl: Option<Duration>,
    /// How long it is stale after that.
    #[arg(long, value_parser = length, requires = "ttl")]
    grace: Option<Duration>,
    /// The tags it gets, with commas between. Without it those that the entry has.
    #[arg(long, value_delimiter = ',', value_name = "TAG")]
    tags: Option<Vec<String>>,
    /// How long recomputing one may take; the lease is a second longer.
    #[arg(long, default_value = "30s", value_parser = length)]
    timeout: Duration,
    /// For how long nobody tries again what failed.
    #[arg(long, default_value = "1s", value_parser = length)]
    retry: Duration,
    /// Say nothing of what goes well.
    #[arg(long, short)]
    quiet: bool,
    /// Say at the end what was done as JSON.
    #[arg(long)]
    json: bool,
}

/// Warms.
pub fn run(options: &Options) -> Result<()> {
    let source = match (&options.exec, &options.http) {
        (Some(command), _) if options.shell => Source::shell(command),
        (Some(command), _) => Source::command(command)?,
        (None, Some(url)) => Source::http(url, options.timeout)?,
        (None, None) => bail!("neither --exec nor --http"),
    };
    let mut shards = Shards::new(options.place.reach()?);
    let primaries = shards.primaries()?;
    let progress = Arc::new(Progress::new(options.quiet, options.follow));
    let worker = Worker {
        source: Arc::new(source),
        progress: progress.clone(),
        current: shards.current(),
        namespace: options.namespace.clone(),
        follow: options.follow,
        timeout: options.timeout,
        retry: options.retry,
        times: options.ttl.map(|ttl| Lengths { ttl, grace: options.grace.unwrap_or_default() }),
        tags: options.tags.clone(),
    };
    let began = Instant::now();
    let mut running: BTreeMap<String, Vec<JoinHandle<Result<()>>>> = BTreeMap::new();
    let mut outcome = Ok(());
    let (mut found, mut first) = (primaries, true);
    loop {
        for primary in found {
            let address = primary.name.clone();
            if let Entry::Vacant(place) = running.entry(address.clone()) {
                match shards::candidates(&primary) {
                    Ok(candidates) => progress.expect(candidates),
                    Err(error) if first => return Err(error),
                    // It has just become one: it is asked again.
                    Err(error) => {
                        progress.away(&address, &error);
                        continue;
                    }
                }
                let start = |_| worker.clone().start(address.clone(), primary.clone());
                place.insert((0..options.workers).map(start).collect::<Result<_>>()?);
            }
        }
        first = false;
        let looked = Instant::now();
        while looked.elapsed() < LOOK && !interrupt::asked() && !running.is_empty() {
            std::thread::sleep(Duration::from_millis(20));
            outcome = outcome.and(reap(&mut running));
            if outcome.is_err() {
                break;
            }
        }
        if interrupt::asked() || outcome.is_err() || (running.is_empty() && !options.follow) {
            break;
        }
        // A primary that has gone is seen by its replicas first; until then there is
        // nobody to ask.
        found = if options.follow { shards.primaries().unwrap_or_default() } else { Vec::new() };
    }
    shards.close();
    for thread in running.into_values().flatten() {
        outcome = outcome.and(join(thread));
    }
    progress.end(began.elapsed(), options.json);
    outcome?;
    match progress.failed_so_far() {
        0 => Ok(()),
        _ if options.follow => Ok(()),
        failed => bail!("{failed} keys could not be recomputed"),
    }
}

fn join(thread: JoinHandle<Result<()>>) -> Result<()> {
    thread.join().ok().context("a worker has died")?
}

/// Takes out the shards whose workers have all ended.
fn reap(running: &mut BTreeMap<String, Vec<JoinHandle<Result<()>>>>) -> Result<()> {
    let mut outcome = Ok(());
    for threads in running.values_mut() {
        for at in (0..threads.len()).rev() {
            if threads[at].is_finished() {
                outcome = outcome.and(join(threads.swap_remove(at)));
            }
        }
    }
    running.retain(|_, threads| !threads.is_empty());
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn line(words: &str) -> Result<Options, clap::Error> {
        Line::try_parse_from(["warm"].into_iter().chain(words.split(' '))).map(|line| line.options)
    }

    #[test]
    fn one_source_and_no_more() {
        assert!(line("--exec x --ttl 5m --grace 1h --tags a,b").is_ok());
        for wrong in [
            "--workers 2",
            "--exec x --http y",
            "--http x --shell",
            "--exec x --once --follow",
            "--exec x --grace 1s",
        ] {
            assert!(line(wrong).is_err(), "{wrong}");
        }
    }
}
