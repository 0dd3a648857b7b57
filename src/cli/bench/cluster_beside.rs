//! What the other shards' readers notice while one shard's node is asked for
//! invalidations at a steady rate: CACHE.GET's p99 there, against the same
//! without.
//!
//! Slices alternate as those of `bench hot` do, quiet and busy, on the same
//! entries. A reader sends one CACHE.GET and rests, so that on few cores it is
//! not the readers who keep them busy. It is measured twice: with the tags'
//! entries where the node is asked, so that the others have nothing to do but to
//! acknowledge, and with as many spread over all shards, which then all have a
//! third of them to sweep.
//!
//! All nodes and their replicas share the machine: where it has few cores, the
//! sweep of one takes time from the others, which on machines of their own it
//! would not.

use super::cluster_client::connect;
use super::cluster_nodes::{await_that, Cluster, SHARDS};
use super::load::{Load, Template};
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
const REST: Duration = Duration::from_micros(500);
/// For the replicas to have what was written.
const SETTLE: Duration = Duration::from_millis(200);

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Invalidations a second.
    pub rate: u32,
    /// Of a tag.
    pub entries: u32,
    /// A slice.
    pub time: Duration,
    /// Whether the entries are on all shards, or on the one that is asked.
    pub spread: bool,
}

/// A pair of slices: the 99th percentiles in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    spread: bool,
    quiet: f64,
    busy: f64,
    /// How many GETs the two had.
    gets: (u64, u64),
    /// Invalidations a second that there were.
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
                spread: setup.spread,
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

    /// Writes the tags' entries, if they are not there.
    fn fill(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.filled, true) {
            for number in 0..self.tags() {
                for (shard, load) in self.loads.iter_mut().enumerate() {
                    let share = self.setup.share(shard);
                    if share > 0 {
                        let prefix = self.cluster.prefix(shard, &format!("b{number}"))?;
                        let words = ["CACHE.SET", "{key}", "{value}", "EX", "3600", "TAGS", &tag(number)];
                        load.fill(&Template::new(&words, &prefix, 100), share)?;
                    }
                }
            }
            std::thread::sleep(SETTLE);
        }
        Ok(())
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

    /// What the readers saw, and how many invalidations a second there were.
    fn busy(&mut self) -> Result<(Histogram<u64>, f64)> {
        self.fill()?;
        let (setup, tags) = (self.setup, self.tags());
        let asked = &mut self.asked;
        self.filled = false;
        let outcome = during(&mut self.probes, || {
            let start = Instant::now();
            for number in 0..tags {
                let due = Duration::from_secs_f64(f64::from(number) / f64::from(setup.rate));
                std::thread::sleep(due.saturating_sub(start.elapsed()));
                let command =
                    redis::cmd("CACHE.INVALIDATE").arg("TAGS").arg(tag(number)).get_packed_command();
                let hits: u32 =
                    redis::from_owned_redis_value(asked.req_packed_command(&command)?.extract_error()?)?;
                ensure!(hits == setup.entries, "an invalidation hit {hits} of {} entries", setup.entries);
            }
            std::thread::sleep(setup.time.saturating_sub(start.elapsed()));
            Ok(f64::from(tags) / start.elapsed().as_secs_f64())
        });
        let (rate, times) = outcome?;
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

/// What both see while it is done.
fn during<T>(probes: &mut [Probe; 2], work: impl FnOnce() -> Result<T>) -> Result<(T, Histogram<u64>)> {
    let [one, other] = probes;
    let ((done, theirs), mut times) = one.during(|| other.during(work))?;
    times.add(theirs)?;
    Ok((done, times))
}

fn tag(number: u32) -> String {
    format!("bench:beside:{number}")
}

impl Setup {
    /// Entries of a tag that are on a shard.
    fn share(&self, shard: usize) -> u32 {
        let (all, shards) = (self.entries, SHARDS as u32);
        match (self.spread, shard == ASKED) {
            (false, true) => all,
            (false, false) => 0,
            (true, true) => all - all / shards * (shards - 1),
            (true, false) => all / shards,
        }
    }
}

fn place(spread: bool) -> &'static str {
    match spread {
        true => "entries on all shards",
        false => "entries on the shard that is asked",
    }
}

impl Pair {
    /// For people.
    pub fn line(&self) -> String {
        let text = |seconds| Duration::try_from_secs_f64(seconds).map_or("?".into(), time_text);
        format!(
            "  {:.0} invalidations/s, {}: the other shards' CACHE.GET p99 {} -> {}, {} -> {} of them",
            self.rate,
            place(self.spread),
            text(self.quiet),
            text(self.busy),
            grouped(self.gets.0),
            grouped(self.gets.1),
        )
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "entries": place(self.spread),
            "invalidations-per-second": self.rate,
            "quiet-p99": self.quiet,
            "busy-p99": self.busy,
        })
    }
}

/// The median of the pairs; the target is for shards that have nothing to sweep.
pub fn figures(pairs: &[Pair], rate: u32) -> Vec<Figure> {
    let figure = |spread: bool| {
        let ours = || pairs.iter().filter(move |pair| pair.spread == spread);
        let median = |of: fn(&Pair) -> f64| Some(Spread::of(ours().map(of))?.median);
        Some(Figure {
            name: match spread {
                false => format!("other shards, {rate} INVALIDATE/s / none"),
                true => "the same, entries on all shards".into(),
            },
            metric: "CACHE.GET p99",
            spread: Spread::of(ours().map(|pair| pair.busy / pair.quiet))?,
            sides: median(|pair| pair.quiet).zip(median(|pair| pair.busy)),
            unit: Unit::Times,
            target: if spread { Target::None } else { UNAFFECTED },
        })
    };
    [false, true].into_iter().filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_of_a_tag() {
        let setup = |spread, entries| Setup { rate: 1, entries, time: Duration::from_secs(1), spread };
        for entries in [0, 1, 2, 1000] {
            for spread in [false, true] {
                let shares: Vec<_> = (0..SHARDS).map(|shard| setup(spread, entries).share(shard)).collect();
                assert_eq!(shares.iter().sum::<u32>(), entries);
            }
        }
        assert_eq!(setup(true, 1000).share(2), 333);
        assert_eq!(setup(false, 1000).share(2), 0);
    }

    #[test]
    fn the_figure_is_the_median_of_pairs() {
        let pair = |spread, quiet, busy| Pair { spread, quiet, busy, gets: (1, 1), rate: 200.0 };
        let all = [
            pair(false, 1e-4, 1.1e-4),
            pair(false, 2e-4, 2e-4),
            pair(false, 1e-4, 3e-4),
            pair(true, 1e-4, 4e-4),
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
