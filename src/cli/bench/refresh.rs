//! `cacheflow bench refresh`: what readers of hot keys see while everything
//! expires, with workers on CACHE.REFRESH and without.
//!
//! Entries are fresh for a second or so, without a grace, so that each end is a
//! miss for whoever reads next. Readers draw keys by Zipf's law, one CACHE.GET at a
//! time, and what they miss they compute (a sleep) and store, as applications do.
//! Beside them, in the second of each round's two slices, workers loop over
//! CACHE.REFRESH … BLOCK, compute as slowly, and store with the token. Counted are
//! the misses on the hottest hundredth of the keys, once all is as it is going to
//! be; what the origin is asked in all is shown beside.
//!
//! Readers that miss are held up by that, and so read less: misses are counted by
//! a million reads. With too few readers the hundredth key is read twice in its life,
//! and is not hot: nothing is offered more often than it is read.

use super::ratio::{self, Figure, Spread, Target, Unit};
use super::server::Recipe;
use super::summary::grouped;
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use rand::rngs::SmallRng;
use rand::SeedableRng;
use rand_distr::{Distribution, Zipf};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

const VALUE: [u8; 100] = [b'v'; 100];
const TARGET: Target = Target::AtMost(0.0);
/// Entries live so much longer or shorter: or all would end at once, for ever.
const SPREAD: f64 = 0.2;
/// How long a worker waits before it looks whether the slice is over.
const BLOCK: u64 = 50;

/// Reads by Zipf's law what expires within a second, with workers on
/// CACHE.REFRESH and without.
#[derive(Args)]
pub struct Options {
    /// The server to start.
    #[arg(long, default_value = "redis-server", value_name = "PROGRAM")]
    server: PathBuf,
    /// The module to load into it.
    #[arg(long, default_value = "target/release/libcacheflow.so", value_name = "FILE")]
    module: PathBuf,
    /// How many keys there are.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    keys: u32,
    /// The exponent of Zipf's law.
    #[arg(long, default_value_t = 1.0)]
    zipf: f64,
    /// For how many ms an entry is fresh, on average.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=3_600_000))]
    ttl: u32,
    /// How many ms computing a value takes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    latency: u32,
    /// How many readers there are.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    readers: u32,
    /// How many workers.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
    /// How many seconds a slice is measured, after as many that are not.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// How often each is measured.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Also write the figures, and every round, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What is counted in a slice.
#[derive(Default)]
struct Counted {
    on: AtomicBool,
    over: AtomicBool,
    reads: AtomicU64,
    misses: AtomicU64,
    hot_reads: AtomicU64,
    hot_misses: AtomicU64,
    refreshed: AtomicU64,
}

/// What a slice came to.
#[derive(Debug, Clone, Copy)]
struct Slice {
    reads: u64,
    misses: u64,
    hot_reads: u64,
    hot_misses: u64,
    refreshed: u64,
}

impl Counted {
    fn count(&self, of: &AtomicU64) {
        if self.on.load(Relaxed) {
            of.fetch_add(1, Relaxed);
        }
    }

    fn slice(&self) -> Slice {
        let [reads, misses, hot_reads, hot_misses, refreshed] =
            [&self.reads, &self.misses, &self.hot_reads, &self.hot_misses, &self.refreshed]
                .map(|of| of.load(Relaxed));
        Slice { reads, misses, hot_reads, hot_misses, refreshed }
    }
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let recipe = Recipe::new(&options.server, Some(&options.module));
    let version = recipe.start()?.info("server")?.version();
    println!(
        "{version}: {} keys that are fresh for {} ms, computed in {} ms, read by Zipf's law; {} rounds.",
        grouped(u64::from(options.keys)),
        options.ttl,
        options.latency,
        options.rounds,
    );
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for round in 0..options.rounds {
        without.push(slice(options, &recipe, round, 0)?);
        with.push(slice(options, &recipe, round, options.workers)?);
        for (name, slices) in [("without", &without), ("with", &with)] {
            slices.last().iter().for_each(|slice| println!("  {name:<8} {}", slice.line()));
        }
    }
    let rounds = |slices: &[Slice]| slices.iter().map(Slice::json).collect::<serde_json::Value>();
    let document = serde_json::json!({
        "server": version, "keys": options.keys, "ttl-ms": options.ttl, "latency-ms": options.latency,
        "without": rounds(&without), "with": rounds(&with),
    });
    ratio::conclude(&figures(&without, &with), document, options.json.as_deref())
}

fn slice(options: &Options, recipe: &Recipe, round: u32, workers: u32) -> Result<Slice> {
    let server = recipe.start()?;
    let (address, counted) = (server.address(), Counted::default());
    let time = Duration::from_secs(u64::from(options.seconds));
    let outcomes = std::thread::scope(|scope| -> Result<Vec<_>> {
        let counted = &counted;
        let mut threads = Vec::new();
        for number in 0..options.readers {
            let seed = u64::from(round) << 32 | u64::from(number);
            threads.push(scope.spawn(move || counted.ends(|| read(options, address, seed, counted))));
        }
        for number in 0..workers {
            let seed = u64::MAX - u64::from(number);
            threads.push(scope.spawn(move || counted.ends(|| work(options, address, seed, counted))));
        }
        interrupt::sleep(time);
        counted.on.store(true, Relaxed);
        interrupt::sleep(time);
        counted.on.store(false, Relaxed);
        counted.over.store(true, Relaxed);
        threads.into_iter().map(|thread| thread.join().ok().context("a client has died")).collect()
    })?;
    outcomes.into_iter().collect::<Result<()>>()?;
    if interrupt::asked() {
        bail!("stopped");
    }
    ensure!(counted.hot_reads.load(Relaxed) > 0, "nothing was read");
    Ok(counted.slice())
}

impl Counted {
    /// One that fails ends the others too.
    fn ends(&self, body: impl FnOnce() -> Result<()>) -> Result<()> {
        body().inspect_err(|_| self.over.store(true, Relaxed))
    }

    fn is_over(&self) -> bool {
        self.over.load(Relaxed) || interrupt::asked()
    }
}

fn connect(address: SocketAddr) -> Result<redis::Connection> {
    Ok(redis::Client::open(format!("redis://{address}"))?.get_connection()?)
}

/// A value is computed, and how long it is fresh.
fn compute(options: &Options, dice: &mut SmallRng) -> u64 {
    std::thread::sleep(Duration::from_millis(u64::from(options.latency)));
    let spread = rand::Rng::random_range(dice, 1.0 - SPREAD..=1.0 + SPREAD);
    (f64::from(options.ttl) * spread) as u64
}

fn read(options: &Options, address: SocketAddr, seed: u64, counted: &Counted) -> Result<()> {
    let (mut connection, mut dice) = (connect(address)?, SmallRng::seed_from_u64(seed));
    let zipf = Zipf::new(f64::from(options.keys), options.zipf).context("no such law of Zipf's")?;
    while !counted.is_over() {
        let rank = zipf.sample(&mut dice) as u32;
        let is_hot = rank <= options.keys / 100;
        let key = format!("bench:refresh:{rank}");
        let value: Option<Vec<u8>> = redis::cmd("CACHE.GET").arg(&key).query(&mut connection)?;
        counted.count(&counted.reads);
        if is_hot {
            counted.count(&counted.hot_reads);
        }
        if value.is_some() {
            continue;
        }
        counted.count(&counted.misses);
        if is_hot {
            counted.count(&counted.hot_misses);
        }
        let ttl = compute(options, &mut dice);
        redis::cmd("CACHE.SET").arg(&key).arg(&VALUE).arg("PX").arg(ttl).query::<()>(&mut connection)?;
    }
    Ok(())
}

fn work(options: &Options, address: SocketAddr, seed: u64, counted: &Counted) -> Result<()> {
    let (mut connection, mut dice) = (connect(address)?, SmallRng::seed_from_u64(seed));
    while !counted.is_over() {
        let mut ask = redis::cmd("CACHE.REFRESH");
        let offers: Vec<(Vec<u8>, u64, u64)> = ask.arg("BLOCK").arg(BLOCK).query(&mut connection)?;
        for (key, token, _) in offers {
            let ttl = compute(options, &mut dice);
            let mut set = redis::cmd("CACHE.SET");
            set.arg(key).arg(&VALUE).arg("LEASE").arg(token).arg("PX").arg(ttl);
            // Refused where a reader was faster.
            let stored: Option<String> = set.query(&mut connection)?;
            if stored.is_some() {
                counted.count(&counted.refreshed);
            }
        }
    }
    Ok(())
}

fn a_million(part: u64, of: u64) -> f64 {
    part as f64 * 1e6 / of.max(1) as f64
}

impl Slice {
    /// For people.
    fn line(&self) -> String {
        format!(
            "{} reads, {} missed; of the hottest 1 % {} and {}; {} refreshed",
            grouped(self.reads),
            grouped(self.misses),
            grouped(self.hot_reads),
            grouped(self.hot_misses),
            grouped(self.refreshed),
        )
    }

    /// For programs.
    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "reads": self.reads, "misses": self.misses, "hot-reads": self.hot_reads,
            "hot-misses": self.hot_misses, "refreshed": self.refreshed,
        })
    }
}

/// With workers against without.
fn figures(without: &[Slice], with: &[Slice]) -> Vec<Figure> {
    let figure = |name: &str, metric, target, of: &dyn Fn(&Slice) -> f64| {
        let spread = Spread::of(with.iter().map(of))?;
        let before = Spread::of(without.iter().map(of))?.median;
        let sides = Some((before, spread.median));
        Some(Figure { name: name.into(), metric, spread, sides, unit: Unit::Count, target })
    };
    let per_read = |slice: &Slice| a_million(slice.misses + slice.refreshed, slice.reads);
    [
        figure("no workers / CACHE.REFRESH, hottest 1 %", "misses/million", TARGET, &|slice| {
            a_million(slice.hot_misses, slice.hot_reads)
        }),
        figure("no workers / CACHE.REFRESH, all keys", "misses/million", Target::None, &|slice| {
            a_million(slice.misses, slice.reads)
        }),
        figure("no workers / CACHE.REFRESH, all keys", "computed/million", Target::None, &per_read),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_counted_by_reads() {
        let slice = |hot_misses| Slice {
            reads: 4_000_000,
            misses: 40,
            hot_reads: 2_000_000,
            hot_misses,
            refreshed: 8,
        };
        let figures = figures(&[slice(20), slice(30), slice(40)], &[slice(0), slice(0), slice(2)]);
        let line = figures[0].line();
        assert!(line.contains("15 -> 0") && line.ends_with("reached"), "{line}");
        assert!(figures[2].line().contains("12 -> 12"), "{}", figures[2].line());
        assert!(slice(0).line().ends_with("of the hottest 1 % 2,000,000 and 0; 8 refreshed"));
    }
}
