//! What the other shards' readers notice while one shard's node is asked for
//! invalidations at a steady rate: CACHE.GET's p99 there, against the same
//! without.
//!
//! Slices alternate as those of `bench hot` do, quiet and busy, on the same
//! entries. A reader sends one CACHE.GET and rests, so that on few cores it is
//! not the readers who keep them busy. It is measured with the tags' entries
//! where the node is asked, so that the others have nothing to do but to
//! acknowledge; and with as many spread over all shards, which then all have a
//! third of them to sweep.
//!
//! All nodes and their replicas share the machine: where it has few cores, what
//! one does takes time from the others, which on machines of their own it would
//! not. How much that is, a third measurement says: as many native keys, which
//! the node is told to UNLINK at the same rate.

use super::cluster_client::connect;
use super::cluster_nodes::{await_that, Cluster, SHARDS};
use super::load::{self, Load, Template};
use super::probe::Probe;
use super::ratio::{Figure, Spread, Target, Unit};
use super::summary::{grouped, time_text};
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use hdrhistogram::Histogram;
use redis::ConnectionLike;
use std::time::{Duration, Instant};

const UNAFFECTED: Target = Target::AtMost(1.2);
/// The shard whose node is asked.
const ASKED: usize = 0;
const REST: Duration = Duration::from_micros(250);
/// For the replicas to have what was written.
const SETTLE: Duration = Duration::from_millis(200);

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// How often a second the node is asked.
    pub rate: u32,
    /// How many entries it is to take away each time.
    pub entries: u32,
    /// How long a slice is.
    pub time: Duration,
    /// By what.
    pub work: Work,
}

/// What takes entries away.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Work {
    /// CACHE.INVALIDATE where all are on the node that is asked.
    Here,
    /// Where a third is on each.
    Everywhere,
    /// UNLINK of native keys on that node.
    Unlink,
}

/// A pair of slices: the 99th percentiles in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    work: Work,
    quiet: f64,
    busy: f64,
    /// How many GETs the two had.
    gets: (u64, u64),
    /// How often a second the node was asked.
    rate: f64,
}

/// Measures so many pairs.
pub fn pairs(setup: Setup, count: u32, cluster: &mut Cluster) -> Result<Vec<Pair>> {
    cluster.set("cacheflow.invalidate-min-replicas", 0)?;
    let mut scene = Scene::new(setup, cluster)?;
    (0..count)
        .map(|number| {
            let (mut busy, mut quiet) = (None, None);
            for turn in 0..2 {
                match (number + turn) % 2 {
                    0 => quiet = Some(scene.quiet()?),
                    _ => busy = Some(scene.busy()?),
                }
            }
            let ((busy, rate), quiet) = busy.zip(quiet).context("no pair")?;
            let p99 = |times: &Histogram<u64>| times.value_at_quantile(0.99) as f64 / 1e9;
            let pair = Pair {
                work: setup.work,
                quiet: p99(&quiet),
                busy: p99(&busy),
                gets: (quiet.len(), busy.len()),
                rate,
            };
            println!("{}", pair.line());
            Ok(pair)
        })
        .collect()
}

struct Scene<'a> {
    setup: Setup,
    cluster: &'a mut Cluster,
    asked: redis::Connection,
    probes: [Probe; 2],
    loads: Vec<Load>,
    /// Keys of each shard without the tags' entries.
    keys: Vec<u64>,
    filled: bool,
}

impl<'a> Scene<'a> {
    fn new(setup: Setup, cluster: &'a mut Cluster) -> Result<Self> {
        let primaries = cluster.primaries()?;
        let address = |shard: usize| primaries.get(shard).copied().context("no such shard");
        let probe = |shard| Probe::of_entries(address(shard)?, &cluster.prefix(shard, "n")?, REST);
        let probes = [probe(ASKED + 1)?, probe(ASKED + 2)?];
        let asked = connect(address(ASKED)?)?;
        let loads = primaries.iter().map(|&at| Load::connect(at, 1, 5)).collect::<Result<_>>()?;
        let keys = (0..SHARDS).map(|shard| cluster.primary(shard)?.keys()).collect::<Result<_>>()?;
        Ok(Self { setup, cluster, asked, probes, loads, keys, filled: false })
    }

    fn tags(&self) -> u32 {
        (f64::from(self.setup.rate) * self.setup.time.as_secs_f64()).ceil() as u32
    }

    /// Writes what is to be taken away, if it is not there.
    fn fill(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.filled, true) {
            let Setup { work, .. } = self.setup;
            for name in (0..self.tags()).map(|number| work.name(number)) {
                let entry = ["CACHE.SET", "{key}", "{value}", "EX", "3600", "TAGS", &name];
                let native = ["SET", "{key}", "{value}", "EX", "3600"];
                let words = if work == Work::Unlink { native.as_slice() } else { entry.as_slice() };
                for (shard, load) in self.loads.iter_mut().enumerate() {
                    let share = self.setup.share(shard);
                    if share > 0 {
                        load.fill(&Template::new(words, &self.cluster.prefix(shard, &name)?, 100), share)?;
                    }
                }
            }
            std::thread::sleep(SETTLE);
        }
        Ok(())
    }

    /// Takes a tag's entries away, or as many native keys.
    fn command(&self, number: u32) -> Result<Vec<u8>> {
        let Setup { work, entries, .. } = self.setup;
        let name = work.name(number);
        Ok(match work {
            Work::Unlink => unlink(&self.cluster.prefix(ASKED, &name)?, entries),
            Work::Here | Work::Everywhere => {
                redis::cmd("CACHE.INVALIDATE").arg("TAGS").arg(name).get_packed_command()
            }
        })
    }

    fn quiet(&mut self) -> Result<Histogram<u64>> {
        self.fill()?;
        let time = self.setup.time;
        let ((), times) = during(&mut self.probes, || {
            std::thread::sleep(time);
            Ok(())
        })?;
        Ok(times)
    }

    /// What the readers saw, and how often a second the node was asked.
    fn busy(&mut self) -> Result<(Histogram<u64>, f64)> {
        self.fill()?;
        self.filled = false;
        let Setup { rate, entries, time, .. } = self.setup;
        let commands = (0..self.tags()).map(|number| self.command(number)).collect::<Result<Vec<_>>>()?;
        let asked = &mut self.asked;
        let (rate, times) = during(&mut self.probes, || {
            let start = Instant::now();
            for (number, command) in (0..).zip(&commands) {
                let due = Duration::from_secs_f64(f64::from(number) / f64::from(rate));
                std::thread::sleep(due.saturating_sub(start.elapsed()));
                let reply = asked.req_packed_command(command)?.extract_error()?;
                let hits: u32 = redis::from_owned_redis_value(reply)?;
                ensure!(hits == entries, "{hits} entries were taken away, not {entries}");
            }
            std::thread::sleep(time.saturating_sub(start.elapsed()));
            Ok(commands.len() as f64 / start.elapsed().as_secs_f64())
        })?;
        for (shard, keys) in self.keys.iter().enumerate() {
            let server = self.cluster.primary(shard)?;
            await_that("the sweep", || Ok(server.keys()? <= *keys))?;
        }
        if interrupt::asked() {
            bail!("stopped");
        }
        Ok((times, rate))
    }
}

impl Drop for Scene<'_> {
    /// What is left is no affair of the next.
    fn drop(&mut self) {
        let numbers = if self.filled { 0..self.tags() } else { 0..0 };
        for number in numbers {
            if let Ok(command) = self.command(number) {
                let _ = self.asked.req_packed_command(&command);
            }
        }
    }
}

/// What both see while it is done.
fn during<T>(probes: &mut [Probe; 2], work: impl FnOnce() -> Result<T>) -> Result<(T, Histogram<u64>)> {
    let [one, other] = probes;
    let ((done, theirs), mut times) = one.during(|| other.during(work))?;
    times.add(theirs)?;
    Ok((done, times))
}

/// The command that takes away what a load has filled.
fn unlink(prefix: &str, keys: u32) -> Vec<u8> {
    let mut command = redis::cmd("UNLINK");
    for number in 0..keys {
        command.arg(load::key(prefix, number));
    }
    command.get_packed_command()
}

impl Work {
    /// All of it.
    pub const ALL: [Self; 3] = [Self::Here, Self::Everywhere, Self::Unlink];

    /// Of a tag, or of the beginning of keys.
    fn name(self, number: u32) -> String {
        match self {
            Self::Here => format!("h{number}"),
            Self::Everywhere => format!("e{number}"),
            Self::Unlink => format!("u{number}"),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Here => "INVALIDATE, entries on the shard asked",
            Self::Everywhere => "INVALIDATE, entries on all shards",
            Self::Unlink => "UNLINK of native keys",
        }
    }
}

impl Setup {
    /// What of the entries is on a shard.
    fn share(&self, shard: usize) -> u32 {
        let (all, shards) = (self.entries, SHARDS as u32);
        match (self.work, shard == ASKED) {
            (Work::Everywhere, true) => all - all / shards * (shards - 1),
            (Work::Everywhere, false) => all / shards,
            (Work::Here | Work::Unlink, true) => all,
            (Work::Here | Work::Unlink, false) => 0,
        }
    }
}

impl Pair {
    /// For people.
    pub fn line(&self) -> String {
        let text = |seconds| Duration::try_from_secs_f64(seconds).map_or("?".into(), time_text);
        format!(
            "  {:.0} a second of {}: the other shards' CACHE.GET p99 {} -> {}, {} -> {} of them",
            self.rate,
            self.work.text(),
            text(self.quiet),
            text(self.busy),
            grouped(self.gets.0),
            grouped(self.gets.1),
        )
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "work": self.work.text(),
            "per-second": self.rate,
            "quiet-p99": self.quiet,
            "busy-p99": self.busy,
        })
    }
}

/// The median of the pairs; the target is for shards that have nothing to sweep.
pub fn figures(pairs: &[Pair], rate: u32) -> Vec<Figure> {
    let figure = |work: Work| {
        let ours = || pairs.iter().filter(move |pair| pair.work == work);
        let median = |of: fn(&Pair) -> f64| Some(Spread::of(ours().map(of))?.median);
        Some(Figure {
            name: match work {
                Work::Here => format!("other shards, {rate} INVALIDATE/s / none"),
                Work::Everywhere => "the same, entries on all shards".into(),
                Work::Unlink => format!("other shards, {rate} native UNLINK/s / none"),
            },
            metric: "CACHE.GET p99",
            spread: Spread::of(ours().map(|pair| pair.busy / pair.quiet))?,
            sides: median(|pair| pair.quiet).zip(median(|pair| pair.busy)),
            unit: Unit::Times,
            target: if work == Work::Here { UNAFFECTED } else { Target::None },
        })
    };
    Work::ALL.into_iter().filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_of_a_tag() {
        let setup = |work, entries| Setup { rate: 1, entries, time: Duration::from_secs(1), work };
        for entries in [0, 1, 2, 1000] {
            for work in Work::ALL {
                let shares = (0..SHARDS).map(|shard| setup(work, entries).share(shard));
                assert_eq!(shares.sum::<u32>(), entries);
            }
        }
        assert_eq!(setup(Work::Everywhere, 1000).share(2), 333);
        assert_eq!(setup(Work::Here, 1000).share(2), 0);
    }

    #[test]
    fn unlink_names_what_was_filled() {
        let text = String::from_utf8(unlink("{c1}:u7:", 2)).unwrap();
        let word = |number| format!("$30\r\n{{c1}}:u7:0000000000000{number:09}\r\n");
        assert_eq!(text, format!("*3\r\n$6\r\nUNLINK\r\n{}{}", word(0), word(1)));
    }

    #[test]
    fn the_figure_is_the_median_of_pairs() {
        let pair = |work, quiet, busy| Pair { work, quiet, busy, gets: (1, 1), rate: 200.0 };
        let all = [
            pair(Work::Here, 1e-4, 1.1e-4),
            pair(Work::Here, 2e-4, 2e-4),
            pair(Work::Here, 1e-4, 3e-4),
            pair(Work::Everywhere, 1e-4, 4e-4),
        ];
        let figures = figures(&all, 200);
        let line = figures[0].line();
        assert!(
            line.contains("100 us -> 200 us") && line.ends_with("1.000-3.000  <= 1.20   reached"),
            "{line}"
        );
        assert!(figures[1].line().ends_with("4.000"), "{}", figures[1].line());
    }
}
