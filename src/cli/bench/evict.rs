//! `cacheflow bench evict`: what it costs to make room.
//!
//! **Server CPU.** Every read misses and is followed by a write of that key, as in
//! a cache for which there is always more to keep. One server has a budget that
//! is full, so that each write evicts one entry in the mean; the other has none,
//! and what a slice has written there is deleted again after it, unmeasured: both
//! hold as many entries, and neither takes fresh memory from the kernel. So
//! the freeing of what is evicted counts as a cost of eviction, and so does that it
//! lies anywhere. Beside it, native strings with a maxmemory under
//! allkeys-lru, against as many without.
//!
//! Evicting comes in waves (from one percent below the limit to three), so slices
//! are not compared one by one: the figure is of a start's sums, and how many
//! were evicted for each write is shown.
//!
//! **GET beside it**: see [`evict_tail`].

use super::evict_tail;
use super::hot::{checked_any, seconds};
use super::load::{Load, Template};
use super::ratio::{self, Figure, Spread, Target, Unit};
use super::server::{Recipe, Server};
use super::summary::grouped;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;

const VALUE: usize = 100;
const PREFIX: &str = "bench:e:";
/// Connections while one command goes a round trip, and while sixteen do. Who misses
/// computes before it writes: the first is what caches see.
const DEPTHS: [(usize, usize); 2] = [(50, 1), (4, 16)];
const METRICS: [&str; 2] = ["CPU of both, P1", "CPU of both, P16"];
/// Of the entries so many are written anew before anything is measured: from
/// then on a budget's entries lie where they come to lie.
const WARM_UP: u32 = 8;
/// Eviction takes 15 % of the server's CPU at the most: that much more than
/// what is left.
const SHARE: Target = Target::AtMost(1.0 / 0.85);
/// Neither fewer nor more are evicted than written.
const STEADY: Target = Target::Between(0.9, 1.1);

/// Has a server evict, and prints what that costs it and those who read.
#[derive(Args)]
pub struct Options {
    /// The server to start.
    #[arg(long, default_value = "redis-server", value_name = "PROGRAM")]
    server: PathBuf,
    /// The module to load into it.
    #[arg(long, default_value = "target/release/libcacheflow.so", value_name = "FILE")]
    module: PathBuf,
    /// How many entries there are while server CPU is measured.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..=50_000_000))]
    entries: u32,
    /// How long to measure each row of those.
    #[arg(long, default_value_t = 16.0, value_parser = seconds)]
    seconds: f64,
    /// How many pairs of slices that time is cut into.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pairs: u32,
    /// How often the servers are started anew within a row.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    starts: u32,
    #[command(flatten)]
    tail: evict_tail::TailOptions,
    /// Only this.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Server CPU.
    Cpu,
    /// What a client sees that reads.
    Tail,
}

/// What is asked, and what is then written.
struct Row {
    name: &'static str,
    ask: &'static [&'static str],
    write: &'static [&'static str],
    module: bool,
    target: Target,
}

const ROWS: [Row; 2] = [
    Row {
        name: "no budget / max-memory, GET and SET",
        ask: &["CACHE.GET", "{key}"],
        write: &["CACHE.SET", "{key}", "{value}", "EX", "3600"],
        module: true,
        target: SHARE,
    },
    Row {
        name: "native: no maxmemory / allkeys-lru",
        ask: &["GET", "{key}"],
        write: &["SET", "{key}", "{value}", "EX", "3600"],
        module: false,
        target: Target::None,
    },
];

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let recipe = Recipe::new(&options.server, Some(&options.module));
    let version = recipe.start()?.info("server")?.version();
    let wants = |part| options.only.is_none_or(|only| only == part);
    let mut figures = Vec::new();
    if wants(Part::Cpu) {
        println!(
            "{version}: {} entries of {VALUE} bytes, every read misses; {} pairs of slices in {} starts.",
            grouped(u64::from(options.entries)),
            options.pairs,
            options.starts.min(options.pairs),
        );
        for row in &ROWS {
            figures.extend(row.measure(options, &recipe).with_context(|| row.name)?);
        }
    }
    if wants(Part::Tail) {
        figures.extend(evict_tail::measure(&options.tail, &recipe)?);
    }
    let document =
        serde_json::json!({ "server": version, "entries": options.entries, "pairs": options.pairs });
    ratio::conclude(&figures, document, options.json.as_deref())
}

impl Row {
    fn measure(&self, options: &Options, recipe: &Recipe) -> Result<Vec<Figure>> {
        let starts = options.starts.min(options.pairs);
        let pairs = options.pairs / starts;
        let time = Duration::from_secs_f64(options.seconds / f64::from(4 * starts * pairs));
        let bar = ProgressBar::new(u64::from(starts * pairs))
            .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} pairs, {eta} left  {msg}")?)
            .with_message(self.name);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for start in 0..starts {
            let mut sides = Vec::new();
            for limited in [false, true] {
                sides.push(Side::start(self, options, recipe, limited)?);
            }
            let mut sums = [[Sum::default(); 2]; 2];
            for pair in 0..pairs {
                let order = if (start + pair) % 2 == 0 { [0, 1] } else { [1, 0] };
                for (depth, side) in order.iter().flat_map(|&side| [(0, side), (1, side)]) {
                    sides[side].slice(depth, time, &mut sums[side][depth])?;
                }
                bar.inc(1);
            }
            let [a, b] = sums;
            without.push(a);
            with.push(b);
        }
        bar.finish_and_clear();
        figures(self, &without, &with)
    }

    fn template(&self, words: &[&str]) -> Template {
        Template::new(words, PREFIX, VALUE)
    }
}

/// What the slices of a start came to.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    /// Reads that missed, and writes.
    writes: u64,
    cpu: Duration,
    evicted: f64,
}

impl Sum {
    fn micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.writes.max(1) as f64
    }
}

/// Sums of starts, by depth.
type Sums = [[Sum; 2]];

fn figures(row: &Row, without: &Sums, with: &Sums) -> Result<Vec<Figure>> {
    let spread = |values: Vec<f64>| Spread::of(values).context("nothing was measured");
    let figure = |depth: usize| -> Result<Figure> {
        let median = |sums: &Sums| spread(sums.iter().map(|start| start[depth].micros()).collect());
        let ratios = without.iter().zip(with).map(|(a, b)| b[depth].micros() / a[depth].micros());
        Ok(Figure {
            name: row.name.into(),
            metric: METRICS[depth],
            spread: spread(ratios.collect())?,
            sides: Some((median(without)?.median, median(with)?.median)),
            unit: Unit::Micros,
            target: if depth == 0 { row.target } else { Target::None },
        })
    };
    let evicted = |start: &[Sum; 2]| {
        let sum = |of: fn(&Sum) -> f64| start.iter().map(of).sum::<f64>();
        sum(|sum| sum.evicted) / sum(|sum| sum.writes as f64)
    };
    let steady = Figure {
        name: row.name.into(),
        metric: "evicted a write",
        spread: spread(with.iter().map(evicted).collect())?,
        sides: None,
        unit: Unit::Micros,
        target: STEADY,
    };
    Ok(vec![figure(0)?, figure(1)?, steady])
}

/// A server and who loads it.
struct Side {
    server: Server,
    loads: [Load; 2],
    pair: [Template; 2],
    delete: Template,
    next: u32,
    limited: bool,
}

impl Side {
    fn start(row: &Row, options: &Options, recipe: &Recipe, limited: bool) -> Result<Side> {
        let server = if row.module { recipe.start()? } else { recipe.without_module().start()? };
        let address = server.address();
        let connect = |connections| Load::connect(address, connections, 5);
        let mut loads = [connect(DEPTHS[0].0)?, connect(DEPTHS[1].0)?];
        loads[1].fill(&row.template(row.write), options.entries)?;
        let pair = [row.template(row.ask), row.template(row.write)];
        let delete = row.template(&["UNLINK", "{key}"]);
        let next = options.entries;
        let mut side = Side { server, loads, pair, delete, next, limited };
        if limited {
            side.limit(row.module)?;
        }
        side.write_anew(options.entries / WARM_UP)?;
        Ok(side)
    }

    /// Allows what is there, and no more.
    fn limit(&mut self, module: bool) -> Result<()> {
        let (section, field) = match module {
            true => ("cacheflow_memory", "cacheflow_total_bytes"),
            false => ("memory", "used_memory"),
        };
        let held = self.server.info(section)?.number(field)? as u64;
        let mut set = redis::cmd("CONFIG");
        set.arg("SET");
        match module {
            true => set.arg("cacheflow.max-memory").arg(held),
            false => set.arg("maxmemory").arg(held).arg("maxmemory-policy").arg("allkeys-lru"),
        };
        self.server.query(&set)
    }

    /// Writes so many more and, where nothing evicts, deletes as many old ones.
    fn write_anew(&mut self, many: u32) -> Result<()> {
        let first = self.next;
        self.next += many;
        for template in &self.pair {
            self.loads[1].each(template, 64, first..self.next)?;
        }
        self.delete_since(first)
    }

    fn delete_since(&mut self, first: u32) -> Result<()> {
        if !self.limited && first < self.next {
            self.loads[1].each(&self.delete, 64, first..self.next)?;
        }
        Ok(())
    }

    fn evicted(&mut self) -> Result<f64> {
        let info = self.server.info("everything")?;
        Ok(info.number("evicted_keys")? + info.number("cacheflow_evicted_max_memory").unwrap_or(0.0))
    }

    fn slice(&mut self, depth: usize, time: Duration, sum: &mut Sum) -> Result<()> {
        let (first, evicted, before) = (self.next, self.evicted()?, self.server.cpu()?);
        let slice = self.loads[depth].run_on(&self.pair, DEPTHS[depth].1, &mut self.next, time)?;
        sum.cpu += self.server.cpu()?.saturating_sub(before);
        sum.writes += checked_any(slice)?.commands;
        sum.evicted += self.evicted()? - evicted;
        self.delete_since(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_of_the_sums_of_its_starts() {
        let sum =
            |micros: u64, evicted| Sum { writes: 1000, cpu: Duration::from_micros(1000 * micros), evicted };
        let start = |micros, evicted| [sum(micros, evicted), sum(micros / 2, evicted)];
        let figures =
            figures(&ROWS[0], &[start(10, 0.0), start(20, 0.0)], &[start(11, 980.0), start(23, 1040.0)]);
        let lines: Vec<_> = figures.unwrap().iter().map(Figure::line).collect();
        assert!(lines[0].contains("15.000us -> 17.000us   1.125     1.100-1.150"), "{}", lines[0]);
        assert!(lines[0].ends_with("<= 1.18   reached"), "{}", lines[0]);
        assert!(lines[1].contains("7.500us -> 8.000us") && !lines[1].contains("<="), "{}", lines[1]);
        assert!(lines[2].contains("1.010     0.980-1.040") && lines[2].ends_with("reached"), "{}", lines[2]);
    }
}
