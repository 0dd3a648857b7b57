//! `cacheflow bench hot`: ratios that hold on a noisy machine.
//!
//! A and B are measured in short slices that alternate (A B, B A, A B, …), and
//! the figure is the median of the ratios of neighbours: what slows the machine
//! slows both. Many short slices beat few long ones: on a loaded machine with
//! two cores, GET against itself (`--plain`) for 8 s came within 4 % in slices
//! of 250 ms and within 1 % in slices of 20 or 10 ms. Servers are started anew several times in a run, because a
//! process's luck with its memory (addresses, hash seeds) lasts as long as it
//! does and would otherwise be taken for a difference.
//!
//! Keys are drawn uniformly from many, so that both sides miss the CPU's caches
//! as a cache in use does. Throughput is taken with one command a round trip on
//! many connections, server CPU with sixteen on few. Both sides' keys have a
//! TTL. What it does not say: latency, and anything about a network.

use super::load::{Load, Slice, Template};
use super::memory::Scales;
use super::ratio::{self, Figure, Spread, Unit};
use super::rows::{self, Group, Row, Side, MEMORY_ROWS, ROWS};
use super::server::{Recipe, Server};
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::Duration;

/// Connections while one command goes a round trip, and while sixteen do.
const SHALLOW: (usize, usize) = (50, 1);
const DEEP: (usize, usize) = (4, 16);
const WARM_UP: Duration = Duration::from_millis(50);

/// Compares the module's commands with the server's own on servers started
/// for it, and prints ratios, their targets, and whether they are reached.
#[derive(Args)]
pub struct Options {
    /// The server to start.
    #[arg(long, default_value = "redis-server", value_name = "PROGRAM")]
    server: PathBuf,
    /// The module to load into it.
    #[arg(long, default_value = "target/release/libcacheflow.so", value_name = "FILE")]
    module: PathBuf,
    /// How long to measure each row at each pipeline depth.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// How many pairs of slices that time is cut into.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pairs: u32,
    /// How often the servers are started anew within a row; twice that where A and B have a server each.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    starts: u32,
    /// Over how many keys a row goes.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    keys: u32,
    /// Over how many keys bytes a key are measured.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    memory_keys: u32,
    /// Only these rows.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Group>,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Without the module, GET in CACHE.GET's place and so on: shows the noise.
    #[arg(long)]
    plain: bool,
}

/// So long as can be measured.
pub fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.01..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.01 to 86400".into()),
    }
}

impl Options {
    fn wants(&self, group: Group) -> bool {
        self.only.is_empty() || self.only.contains(&group)
    }

    /// Two processes have two lots of luck: such a row needs more of them.
    fn starts(&self, row: &Row) -> u32 {
        let servers = if row.a.module == row.b.module { 1 } else { 2 };
        (self.starts * servers).min(self.pairs)
    }

    fn slice(&self) -> Duration {
        Duration::from_secs_f64(self.seconds / f64::from(2 * self.pairs))
    }
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let recipe = Recipe::new(&options.server, (!options.plain).then_some(options.module.as_path()));
    let version = recipe.start()?.info("server")?.version();
    let rows: Vec<&Row> = ROWS.iter().filter(|row| options.wants(row.group)).collect();
    let header = format!(
        "{version}{}: {} keys, {} pairs of slices of {:.0} ms in {} starts or more. B/A is the median of the pairs' ratios; min-max is over the starts' own medians.",
        if options.plain { " without the module on both sides" } else { "" },
        options.keys,
        options.pairs,
        options.slice().as_secs_f64() * 1e3,
        options.starts.min(options.pairs),
    );
    println!("{header}\n{}", Figure::heading());
    let bar = ProgressBar::new(rows.len() as u64 * u64::from(options.pairs))
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} pairs, {eta} left  {msg}")?);
    let mut figures = Vec::new();
    for row in rows {
        bar.set_message(row.name);
        for figure in compare(row, &recipe, options, &bar).with_context(|| row.name)? {
            bar.suspend(|| println!("{}", figure.line()));
            figures.push(figure);
        }
    }
    bar.finish_and_clear();
    let mut scales = Scales::new(&recipe, options.memory_keys, options.plain);
    for row in MEMORY_ROWS.iter().filter(|row| options.wants(Group::Bytes) || options.wants(row.group)) {
        if let Some(figure) = scales.measure(row).with_context(|| row.name)? {
            println!("{}", figure.line());
            figures.push(figure);
        }
    }
    println!("{}", ratio::verdict(&figures));
    if let Some(path) = &options.json {
        let measured = serde_json::json!({ "server": version, "keys": options.keys, "pairs": options.pairs });
        ratio::write(path, measured, &figures)?;
    }
    Ok(())
}

/// One side, at work on a server.
struct Runner {
    /// Which of the servers it is on.
    server: usize,
    template: Template,
    shallow: Load,
    deep: Load,
}

/// Throughput and CPU of one side in one pair.
#[derive(Clone, Copy)]
struct Measured {
    per_second: f64,
    micros: f64,
}

fn compare(row: &Row, recipe: &Recipe, options: &Options, bar: &ProgressBar) -> Result<[Figure; 2]> {
    let mut starts: Vec<Vec<(Measured, Measured)>> = Vec::new();
    let mut done = 0;
    let count = options.starts(row);
    for start in 0..count {
        let mut servers = servers(row, recipe)?;
        let on_b = servers.len() - 1;
        let prepare = |server, side, prefix| runner(&servers, server, side, prefix, row, options);
        // Who is filled first has the more compact memory: take turns.
        let (mut a, mut b) = match start % 2 {
            0 => {
                let a = prepare(0, &row.a, "bench:a:")?;
                (a, prepare(on_b, &row.b, "bench:b:")?)
            }
            _ => {
                let b = prepare(on_b, &row.b, "bench:b:")?;
                (prepare(0, &row.a, "bench:a:")?, b)
            }
        };
        let mut pairs = Vec::new();
        let share = u64::from(options.pairs) * u64::from(start + 1) / u64::from(count);
        while done < share {
            pairs.push(if done % 2 == 0 {
                pair(&mut servers, &mut a, &mut b, options)?
            } else {
                let (b, a) = pair(&mut servers, &mut b, &mut a, options)?;
                (a, b)
            });
            done += 1;
            bar.inc(1);
        }
        starts.push(pairs);
    }
    let figure = |metric, unit, target, of: fn(&Measured) -> f64| {
        let ratios = |pairs: &Vec<(Measured, Measured)>| pairs.iter().map(|(a, b)| of(b) / of(a)).collect();
        let spread = Spread::over(&starts.iter().map(ratios).collect::<Vec<_>>()).context("no pairs")?;
        let a = Spread::of(starts.iter().flatten().map(|(a, _)| of(a))).context("no pairs")?;
        let b = Spread::of(starts.iter().flatten().map(|(_, b)| of(b))).context("no pairs")?;
        Ok(Figure {
            name: row.name.to_string(),
            metric,
            spread,
            sides: Some((a.median, b.median)),
            unit,
            target,
        })
    };
    let throughput: Result<Figure> =
        figure("throughput, P1", Unit::PerSecond, row.throughput, |measured| measured.per_second);
    Ok([throughput?, figure("server CPU, P16", Unit::Micros, row.cpu, |measured| measured.micros)?])
}

fn servers(row: &Row, recipe: &Recipe) -> Result<Vec<Server>> {
    let of = |side: &Side| if side.module { recipe.start() } else { recipe.without_module().start() };
    let mut servers = vec![of(&row.a)?];
    if row.a.module != row.b.module {
        servers.push(of(&row.b)?);
    }
    Ok(servers)
}

fn runner(
    servers: &[Server],
    server: usize,
    side: &Side,
    prefix: &str,
    row: &Row,
    options: &Options,
) -> Result<Runner> {
    let address = servers.get(server).context("no server")?.address();
    let template = |words| rows::template(words, prefix, row.value, options.plain);
    let mut runner = Runner {
        server,
        template: template(side.run),
        shallow: Load::connect(address, SHALLOW.0, 1)?,
        deep: Load::connect(address, DEEP.0, 2)?,
    };
    runner.deep.fill(&template(side.fill), options.keys)?;
    for (load, pipeline) in [(&mut runner.shallow, SHALLOW.1), (&mut runner.deep, DEEP.1)] {
        load.run(&runner.template, pipeline, options.keys, WARM_UP)?;
    }
    Ok(runner)
}

fn pair(
    servers: &mut [Server],
    first: &mut Runner,
    second: &mut Runner,
    options: &Options,
) -> Result<(Measured, Measured)> {
    let (keys, time) = (options.keys, options.slice());
    let per_second = |runner: &mut Runner| {
        let slice = runner.shallow.run(&runner.template, SHALLOW.1, keys, time)?;
        checked(slice).map(|slice| slice.commands as f64 / slice.time.as_secs_f64())
    };
    let (x, y) = (per_second(first)?, per_second(second)?);
    let mut micros = |runner: &mut Runner| {
        let server = servers.get_mut(runner.server).context("no server")?;
        let before = server.cpu()?;
        let slice = runner.deep.run(&runner.template, DEEP.1, keys, time)?;
        let used = server.cpu()?.saturating_sub(before);
        checked(slice).map(|slice| used.as_secs_f64() * 1e6 / slice.commands as f64)
    };
    let (u, v) = (micros(first)?, micros(second)?);
    Ok((Measured { per_second: x, micros: u }, Measured { per_second: y, micros: v }))
}

/// A slice that nobody asked to stop.
pub fn checked_any(slice: Slice) -> Result<Slice> {
    if interrupt::asked() {
        bail!("stopped");
    }
    Ok(slice)
}

/// A slice in which every answer was a hit.
pub fn checked(slice: Slice) -> Result<Slice> {
    let slice = checked_any(slice)?;
    ensure!(
        slice.nils == 0,
        "{} of {} answers were nil: these should all be hits",
        slice.nils,
        slice.commands
    );
    Ok(slice)
}
