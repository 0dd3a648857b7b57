//! `cacheflow bench replay`: a workload read through the cache in front of a
//! slow source, and what the cache did for it.
//!
//! Every answer of the cache is compared with what the origin would have said.
//! Clients are closed loops: one request at a time, so a slow answer delays
//! what its client would have asked next.

use super::cache::{Cache, Holding, Lifetime};
use super::clients::{self, Progress, Requests};
use super::summary::{bytes_text, grouped, percent, Summary};
use crate::catalogue::Catalogue;
use crate::interrupt;
use crate::origin::{Keyspace, Latency, Simulated};
use crate::records::Records;
use crate::trace::Trace;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A server without a maxmemory is not given more than this.
const UNBOUNDED_SERVER: f64 = 1e9;
/// Beside the value: entry, key, dictionary, allocator, roughly.
const OVERHEAD: f64 = 200.0;
const DEMO_TIME: f64 = 20.0;
const DEMO_LATENCY: f64 = 35.0;

/// Replays a workload through the cache, in front of a slow source, and sums
/// up hits, origin reads saved, times and bytes. It adds keys (`pkg-...` or
/// `t:...`) to the server and removes none: they go as their time ends.
#[derive(Args)]
#[command(group(clap::ArgGroup::new("workload").required(true).args(["demo", "trace"])))]
pub struct Options {
    /// Real records: Debian's package catalogue in SQLite, asked for by Zipf's law.
    #[arg(long)]
    demo: bool,
    /// The requests of a trace file in the format CFT1, packed by zstd or not.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// The server.
    #[arg(long, default_value = "redis://127.0.0.1:6379")]
    url: String,
    /// How many clients ask at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// How long at most [default: 20 for the demo, to its end for a trace]
    #[arg(long, value_parser = positive)]
    seconds: Option<f64>,
    /// Decides which records are popular, what is drawn, and the origin's times.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The median of the origin's times in milliseconds, log-normal by key [default: 35 for the demo, 0 for a trace]
    #[arg(long, value_name = "MS", value_parser = natural)]
    origin_ms: Option<f64>,
    /// Seconds that a value is fresh.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=315_360_000))]
    ex: u64,
    /// Seconds of grace after that, 0 for none.
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(0..=315_360_000))]
    grace: u64,
    /// By GET and SET EX instead: what the server does without the module.
    #[arg(long)]
    plain: bool,
    /// The demo's exponent of Zipf's law: 0 is uniform.
    #[arg(long, default_value_t = 1.0, value_parser = natural, conflicts_with = "trace")]
    zipf: f64,
    /// So many of the demo's records only.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "trace")]
    keys: Option<u32>,
    /// Packages for the demo, as `apt-cache dumpavail` prints them.
    #[arg(long, value_name = "FILE", conflicts_with = "trace")]
    catalogue: Option<PathBuf>,
    /// So many of the trace's requests only.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "demo")]
    limit: Option<u32>,
    /// Follow the trace's times, so much faster [default: as fast as possible]
    #[arg(long, value_parser = positive, conflicts_with = "demo")]
    speed: Option<f64>,
    /// Bytes of a value where the trace has no sizes.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(0..=1 << 29), conflicts_with = "demo")]
    value: u32,
    /// Cut the trace's sizes to this many bytes.
    #[arg(long, default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(0..=1 << 29), conflicts_with = "demo")]
    max_value: u32,
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 1e6 => Ok(number),
        _ => Err("a number above 0, up to 1000000".into()),
    }
}

fn natural(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=60_000.0).contains(&number) => Ok(number),
        _ => Err("a number from 0 to 60000".into()),
    }
}

/// Replays and prints the summary.
pub fn run(options: &Options) -> Result<()> {
    let lifetime = Lifetime { fresh: options.ex, grace: options.grace, plain: options.plain };
    let mut caches = Vec::new();
    for _ in 0..options.clients {
        caches.push(Cache::connect(&options.url, lifetime)?);
    }
    let Job { title, keys, requests, bytes } = match &options.trace {
        Some(path) => options.trace(path)?,
        None => options.demo()?,
    };
    let before = held(&mut caches)?;
    if before.limit == 0.0 && bytes > UNBOUNDED_SERVER {
        bail!(
            "this would put some {} into a server without a limit: give it one (CONFIG SET maxmemory 512mb, CONFIG SET maxmemory-policy allkeys-lru), or use --limit or --max-value",
            bytes_text(bytes)
        );
    }
    println!("{title}");
    let meter = Meter::new(&requests)?;
    let (tally, time) = clients::run(&requests, keys.as_ref(), &mut caches, |progress| meter.show(progress))?;
    meter.bar.finish_and_clear();
    let after = held(&mut caches)?;
    let commands = if options.plain { "GET and SET" } else { "CACHE.FETCH and CACHE.SET … LEASE" };
    let title = format!(
        "{} by {} clients with {commands}",
        if interrupt::asked() { "stopped early; so far" } else { "done" },
        options.clients
    );
    let (wrong, errors) = (tally.wrong, tally.errors);
    println!("{}", Summary { title, tally, time, before, after });
    ensure!(
        wrong == 0,
        "{wrong} values in the cache are not the origin's (does the server hold keys of another run?)"
    );
    ensure!(errors == 0, "the server answered {errors} errors");
    Ok(())
}

fn held(caches: &mut [Cache]) -> Result<Holding> {
    caches.first_mut().context("there are no clients")?.holding()
}

struct Job {
    title: String,
    keys: Box<dyn Keyspace>,
    requests: Requests,
    /// What all of its keys may take in the server.
    bytes: f64,
}

impl Options {
    fn latency(&self, default: f64) -> Latency {
        let median = Duration::from_secs_f64(self.origin_ms.unwrap_or(default) / 1e3);
        Latency { median, seed: self.seed }
    }

    fn demo(&self) -> Result<Job> {
        let catalogue = Catalogue::find(self.catalogue.as_deref())?;
        let source = catalogue.source.clone();
        let latency = self.latency(DEMO_LATENCY);
        let records = Records::build(catalogue, latency, self.keys.map(|keys| keys as usize))?;
        let title = format!(
            "{} records of {source} in SQLite, made slow ({} ms in the median, 90 % within a factor of 1.64, no queue), asked for by Zipf's law with exponent {}",
            grouped(u64::from(records.len())),
            latency.median.as_secs_f64() * 1e3,
            self.zipf,
        );
        let time = Duration::from_secs_f64(self.seconds.unwrap_or(DEMO_TIME));
        let requests = Requests::Zipf { exponent: self.zipf, seed: self.seed, time };
        let bytes = records.bytes() as f64 + f64::from(records.len()) * OVERHEAD;
        Ok(Job { title, keys: Box::new(records), requests, bytes })
    }

    fn trace(&self, path: &std::path::Path) -> Result<Job> {
        let mut trace = Trace::open(path, self.limit.map(|limit| limit as usize))
            .with_context(|| format!("the trace {}", path.display()))?;
        let due = match (self.speed, trace.gaps.take()) {
            (None, _) => None,
            (Some(_), None) => bail!("the trace {} has no times: leave out --speed", path.display()),
            (Some(speed), Some(gaps)) => Some(due(&gaps, speed)),
        };
        let (sizes, told) = match trace.sizes.take() {
            None => (vec![self.value; trace.keys() as usize], format!("{} bytes each", self.value)),
            Some(sizes) => {
                let cut = sizes.iter().filter(|size| **size > self.max_value).count();
                let told = format!(
                    "with their sizes, {} of them cut to {} bytes",
                    grouped(cut as u64),
                    self.max_value
                );
                (sizes.into_iter().map(|size| size.min(self.max_value)).collect(), told)
            }
        };
        let latency = self.latency(0.0);
        let name = Trace::name(path);
        let title = format!(
            "{} requests for {} keys of {}, {told}; an origin that takes {} ms in the median",
            grouped(trace.ids.len() as u64),
            grouped(sizes.len() as u64),
            path.display(),
            latency.median.as_secs_f64() * 1e3,
        );
        let bytes = sizes.iter().map(|size| f64::from(*size) + OVERHEAD).sum();
        let requests = Requests::Trace { trace, due, time: self.seconds.map(Duration::from_secs_f64) };
        Ok(Job { title, keys: Box::new(Simulated::new(name, sizes, latency)), requests, bytes })
    }
}

/// When each request is due after the start.
fn due(gaps: &[u32], speed: f64) -> Vec<Duration> {
    let mut at = 0u64;
    gaps.iter()
        .map(|gap| {
            at += u64::from(*gap);
            Duration::try_from_secs_f64(at as f64 / 1e3 / speed).unwrap_or(Duration::MAX)
        })
        .collect()
}

/// A bar where there is a terminal, else a line now and then.
struct Meter {
    bar: ProgressBar,
    /// A run that ends by the clock, rather than by its last request.
    time: Option<Duration>,
    start: Instant,
    lines: AtomicU64,
}

impl Meter {
    const EVERY: u64 = 5;

    fn new(requests: &Requests) -> Result<Self> {
        let (length, time) = match requests {
            Requests::Zipf { time, .. } => (time.as_millis() as u64, Some(*time)),
            Requests::Trace { trace, .. } => (trace.ids.len() as u64, None),
        };
        let style = ProgressStyle::with_template("  {bar:40} {percent:>3} %  {msg}")?;
        Ok(Self {
            bar: ProgressBar::new(length).with_style(style),
            time,
            start: Instant::now(),
            lines: AtomicU64::new(0),
        })
    }

    fn show(&self, progress: &Progress) {
        let (requests, hits) = (progress.requests.load(Relaxed), progress.hits.load(Relaxed));
        let text = format!("{} requests, hit ratio {}", grouped(requests), percent(hits, requests));
        let elapsed = self.start.elapsed();
        self.bar.set_position(if self.time.is_some() { elapsed.as_millis() as u64 } else { requests });
        let due = elapsed.as_secs() / Self::EVERY;
        if !std::io::stderr().is_terminal() && self.lines.swap(due, Relaxed) < due {
            eprintln!("  {:>3} s: {text}", elapsed.as_secs());
        }
        self.bar.set_message(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_by_the_sum_of_their_gaps() {
        assert_eq!(due(&[0, 100, 300], 2.0), [0, 50, 200].map(Duration::from_millis));
        assert_eq!(due(&[u32::MAX; 3], 1e6).len(), 3);
        assert_eq!(due(&[u32::MAX], 1e-300), [Duration::MAX]);
    }
}
