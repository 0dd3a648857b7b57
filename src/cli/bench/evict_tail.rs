//! What a client sees that reads while others' writes make a server evict.
//!
//! Millions of small entries; writes of new keys come at a steady rate. In one of two slices that
//! alternate the budget is just what is held when the slice begins, so that
//! entries go all through it; in the other it is far away. Then as many are
//! written again as went. Who reads asks for entries that are never evicted (POLICY
//! none), one at a time with a pause after each, so that all are hits.
//!
//! A 99.9th percentile of one slice is its few worst reads: slices are put
//! together to rounds, and the figure is the median of the rounds' ratios.

use super::load::{Load, Template};
use super::probe::Probe;
use super::ratio::{Figure, Spread, Target, Unit};
use super::rounds::Gets;
use super::server::{Recipe, Server};
use super::summary::{grouped, time_text};
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use hdrhistogram::Histogram;
use std::time::Duration;

const VALUE: usize = 20;
const TAIL: Target = Target::AtMost(2.0);
const PREFIX: &str = "bench:e:";
const READ: &str = "probe:";
const PAUSE: Duration = Duration::from_micros(100);
const WRITERS: usize = 8;
/// A budget that is never full.
const FAR: u64 = 1 << 50;

/// Of what is measured while others evict.
#[derive(Args)]
pub struct TailOptions {
    /// How many entries there are while a client's reads are timed.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(u32).range(1000..=100_000_000))]
    tail_entries: u32,
    /// How many writes there are a second meanwhile.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    writes: u32,
    /// How many ms a slice is.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=600_000))]
    slice: u32,
    /// How many pairs of slices are a round.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slices: u32,
    /// How many rounds there are.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// What a round's slices of one kind came to.
struct Side {
    times: Histogram<u64>,
    writes: u64,
    evicted: f64,
}

impl Side {
    fn none() -> Result<Side> {
        let times = Histogram::new_with_bounds(1, 600_000_000_000, 3)?;
        Ok(Side { times, writes: 0, evicted: 0.0 })
    }

    fn line(&self, name: &str) -> String {
        let gets = Gets::of(&self.times);
        let text = |seconds| time_text(Duration::from_secs_f64(seconds));
        format!(
            "  {name:<8} {} GETs, p99.9 {}, longest {}; {} writes, {} evicted",
            grouped(gets.count),
            text(gets.p999),
            text(gets.longest),
            grouped(self.writes),
            grouped(self.evicted as u64),
        )
    }
}

/// Loads the entries, and measures.
pub fn measure(options: &TailOptions, recipe: &Recipe) -> Result<Vec<Figure>> {
    println!(
        "{} entries of {VALUE} bytes, {} writes a second, {} rounds of {} slices of {} ms.",
        grouped(u64::from(options.tail_entries)),
        grouped(u64::from(options.writes)),
        options.rounds,
        2 * options.slices,
        options.slice,
    );
    let mut scene = Scene::set(options, recipe)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (mut a, mut b) = (Side::none()?, Side::none()?);
        for pair in 0..options.slices {
            if pair % 2 == 0 {
                scene.slice(options, false, &mut a)?;
            }
            scene.slice(options, true, &mut b)?;
            if pair % 2 == 1 {
                scene.slice(options, false, &mut a)?;
            }
        }
        println!("{}\n{}", a.line("without"), b.line("evicting"));
        without.push(a);
        with.push(b);
    }
    figures(&without, &with)
}

fn figures(without: &[Side], with: &[Side]) -> Result<Vec<Figure>> {
    let p999 = |side: &Side| Gets::of(&side.times).p999;
    let median = |sides: &[Side]| Some(Spread::of(sides.iter().map(p999))?.median);
    let spread = Spread::of(without.iter().zip(with).map(|(a, b)| p999(b) / p999(a)));
    Ok(vec![Figure {
        name: "no eviction / evicting, CACHE.GET".into(),
        metric: "p99.9",
        spread: spread.context("nothing was measured")?,
        sides: median(without).zip(median(with)),
        unit: Unit::Times,
        target: TAIL,
    }])
}

/// The server, who writes and who reads.
struct Scene {
    server: Server,
    probe: Probe,
    writers: Load,
    write: Template,
    next: u32,
}

impl Scene {
    fn set(options: &TailOptions, recipe: &Recipe) -> Result<Scene> {
        let mut server = recipe.start()?;
        let mut keep = redis::cmd("CACHE.NAMESPACE");
        keep.arg("SET").arg(READ.trim_end_matches(':')).arg("POLICY").arg("none");
        server.query::<()>(&keep)?;
        let probe = Probe::of_entries(server.address(), READ, PAUSE)?;
        let mut writers = Load::connect(server.address(), WRITERS, 7)?;
        let write = Template::new(&["CACHE.SET", "{key}", "{value}", "EX", "3600"], PREFIX, VALUE);
        writers.fill(&write, options.tail_entries)?;
        let mut scene = Scene { server, probe, writers, write, next: options.tail_entries };
        scene.limit(FAR)?;
        Ok(scene)
    }

    fn limit(&mut self, bytes: u64) -> Result<()> {
        let mut set = redis::cmd("CONFIG");
        self.server.query(set.arg("SET").arg("cacheflow.max-memory").arg(bytes))
    }

    /// Entries evicted so far, and bytes held.
    fn evicted(&mut self) -> Result<(f64, u64)> {
        let evicted = self.server.info("cacheflow_stats")?.number("cacheflow_evicted_max_memory")?;
        let held = self.server.info("cacheflow_memory")?.number("cacheflow_total_bytes")? as u64;
        Ok((evicted, held))
    }

    fn slice(&mut self, options: &TailOptions, evicting: bool, side: &mut Side) -> Result<()> {
        let (before, held) = self.evicted()?;
        if evicting {
            self.limit(held)?;
        }
        let time = Duration::from_millis(u64::from(options.slice));
        let Scene { probe, writers, write, next, .. } = self;
        let (written, times) = probe.during(|| writers.pace(write, options.writes, next, time))?;
        self.limit(FAR)?;
        let evicted = self.evicted()?.0 - before;
        ensure!(evicting == (evicted > 0.0), "{evicted} entries were evicted in a slice");
        side.times.add(&times)?;
        side.writes += written.commands;
        side.evicted += evicted;
        let first = self.next;
        self.next += (evicted as u32).saturating_sub(written.commands as u32);
        if first < self.next {
            self.writers.each(&self.write, 64, first..self.next)?;
        }
        match interrupt::asked() {
            true => bail!("stopped"),
            false => Ok(()),
        }
    }
}
