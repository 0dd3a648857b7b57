//! `cacheflow bench native`: what tags on native keys cost those who use them,
//! and those who do not.
//!
//! - **Commands** of a server with the module, on which no native key has a
//!   tag, against one without it: server CPU a command, in slices that
//!   alternate as in `bench hot`, and for the same reasons. What a key's end
//!   costs (DEL, a GET that finds it expired, the server's own expiry) is
//!   measured over keys that are written anew before each slice. The same on a
//!   server where one native key has a tag is shown beside: from then on the
//!   module has to be told how keys end.
//! - **Bytes**: what CACHE.TAG adds to hashes of one field, by `used_memory`.
//! - **Invalidation** of a tag on hashes of five fields, against the script
//!   that applications have for it, which reads a set of their names and
//!   unlinks them where they are; each on a server of its own, in turns. Beside
//!   the time to the reply, what it takes the server until every key is gone:
//!   companions are swept afterwards.
//!
//! What it does not say: latency, anything about a network, and what values
//! cost whose freeing is left to another thread.

use super::hot;
use super::load::{Load, Template};
use super::memory;
use super::methods::{Method, PREFIX, TAG};
use super::ratio::{self, Figure, Spread, Target, Unit};
use super::server::{Recipe, Server};
use super::summary::grouped;
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Connections, and commands that go a round trip on each.
const DEEP: (usize, usize) = (4, 16);
const VALUE: usize = 100;
/// How long keys that the server is to expire by itself live: longer than it
/// takes to write them.
const LIFE: &str = "400";
/// How long keys may take to go.
const PATIENCE: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(5);

/// Figures that are asked for together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Native commands with the module against without it.
    Commands,
    /// Bytes that tags take.
    Bytes,
    /// Forgetting a tag.
    Invalidate,
}

/// Compares servers with the module, whose native keys have tags or none, with
/// servers without it, and prints ratios, their targets, and whether they are
/// reached.
#[derive(Args)]
pub struct Options {
    /// The server to start.
    #[arg(long, default_value = "redis-server", value_name = "PROGRAM")]
    server: PathBuf,
    /// The module to load into it.
    #[arg(long, default_value = "target/release/libcacheflow.so", value_name = "FILE")]
    module: PathBuf,
    /// How many pairs of slices for each command.
    #[arg(long, default_value_t = 192, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pairs: u32,
    /// How often the servers are started anew within them.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    starts: u32,
    /// Over how many keys a slice goes.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    keys: u32,
    /// Over how many keys bytes are measured. By default nearly a power of two:
    /// with companions there are twice as many, so that the server's tables are
    /// as full before as after.
    #[arg(long, default_value_t = 250_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    memory_keys: u32,
    /// How many hashes the tag has that is invalidated.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    hashes: u32,
    /// How often it is.
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Only these figures.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Commands alone, without the module on both sides: shows the noise.
    #[arg(long)]
    plain: bool,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        (part == Part::Commands || !self.plain) && (self.only.is_empty() || self.only.contains(&part))
    }

    /// How many pairs a row is given.
    fn pairs(&self, row: &Row) -> u32 {
        (self.pairs / if matches!(row.how, How::Expire) { 8 } else { 1 }).max(1)
    }
}

/// How a slice of commands is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    /// Over keys that are there, and stay.
    Stay,
    /// Over keys that are written before each slice and that it ends. So many
    /// of its answers are nil: none, or all.
    End {
        /// Whether they are, because what is asked for has expired.
        nil: bool,
    },
    /// Nothing is asked: the server's own expiry until none is left.
    Expire,
}

/// A command that is compared with itself.
struct Row {
    name: &'static str,
    /// Writes a key.
    fill: &'static [&'static str],
    /// What is measured.
    run: &'static [&'static str],
    how: How,
    /// Whether one native key has a tag, on the server with the module.
    tagged: bool,
    target: Target,
}

const SET: &[&str] = &["SET", "{key}", "{value}"];
const SET_EX: &[&str] = &["SET", "{key}", "{value}", "EX", "3600"];
const HSET: &[&str] = &["HSET", "{key}", "field", "{value}"];
const DEL: &[&str] = &["DEL", "{key}"];
const GET: &[&str] = &["GET", "{key}"];
const UNTOUCHED: Target = Target::AtMost(1.02);
const ENDED: Target = Target::AtMost(1.15);

const fn row(
    name: &'static str,
    fill: &'static [&'static str],
    run: &'static [&'static str],
    how: How,
    target: Target,
) -> Row {
    Row { name, fill, run, how, tagged: false, target }
}

const EXPIRED: &[&str] = &["SET", "{key}", "{value}", "PX", "1"];
const SOON: &[&str] = &["SET", "{key}", "{value}", "PX", LIFE];

const ROWS: &[Row] = &[
    row("GET with / without", SET_EX, GET, How::Stay, UNTOUCHED),
    row("SET EX with / without", SET_EX, SET_EX, How::Stay, UNTOUCHED),
    row("HSET with / without", HSET, HSET, How::Stay, UNTOUCHED),
    row("DEL with / without", SET, DEL, How::End { nil: false }, ENDED),
    row("GET of what expired with / without", EXPIRED, GET, How::End { nil: true }, ENDED),
    row("expiry by the server with / without", SOON, &[], How::Expire, ENDED),
    Row { tagged: true, ..row("GET, a key has a tag", SET_EX, GET, How::Stay, Target::None) },
    Row { tagged: true, ..row("HSET, a key has a tag", HSET, HSET, How::Stay, Target::None) },
    Row { tagged: true, ..row("DEL, a key has a tag", SET, DEL, How::End { nil: false }, Target::None) },
    Row {
        tagged: true,
        ..row("expiry by the server, a key has a tag", SOON, &[], How::Expire, Target::None)
    },
];

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let recipe = Recipe::new(&options.server, (!options.plain).then_some(options.module.as_path()));
    let version = recipe.start()?.info("server")?.version();
    println!(
        "{version}{}: commands over {} keys in {} pairs of slices and {} starts. B/A is the median of the pairs' ratios; min-max is over the starts' own medians, or the rounds.",
        if options.plain { " without the module on both sides" } else { "" },
        grouped(u64::from(options.keys)),
        options.pairs,
        options.starts.min(options.pairs),
    );
    println!("{}", Figure::heading());
    let mut figures = Vec::new();
    let mut show = |figure: Figure| {
        println!("{}", figure.line());
        figures.push(figure);
    };
    if options.wants(Part::Commands) {
        for row in ROWS.iter().filter(|row| !(row.tagged && options.plain)) {
            show(compare(row, &recipe, options).with_context(|| row.name)?);
        }
    }
    if options.wants(Part::Bytes) {
        bytes(&recipe, options.memory_keys)?.into_iter().for_each(&mut show);
    }
    if options.wants(Part::Invalidate) {
        invalidation(&recipe, options)?.into_iter().for_each(&mut show);
    }
    println!("{}", ratio::verdict(&figures));
    let measured =
        serde_json::json!({ "server": version, "keys": options.keys, "memory-keys": options.memory_keys });
    options.json.as_deref().map_or(Ok(()), |path| ratio::write(path, measured, &figures))
}

// --- commands ------------------------------------------------------------------------------------

/// A server, at work on a row.
struct Side {
    server: Server,
    load: Load,
    fill: Template,
    run: Template,
}

fn compare(row: &Row, recipe: &Recipe, options: &Options) -> Result<Figure> {
    let pairs = options.pairs(row);
    let starts = options.starts.min(pairs);
    let bar = ProgressBar::new(u64::from(pairs))
        .with_style(ProgressStyle::with_template("{bar:30} {pos}/{len} pairs, {eta} left  {msg}")?)
        .with_message(row.name);
    let mut series: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut done = 0;
    for start in 0..starts {
        let mut sides =
            [Side::prepare(&recipe.without_module(), row, options)?, Side::prepare(recipe, row, options)?];
        let mut measured = Vec::new();
        while done < pairs * (start + 1) / starts {
            let [a, b] = &mut sides;
            let (x, y) = if done % 2 == 0 {
                let x = a.measure(row, options)?;
                (x, b.measure(row, options)?)
            } else {
                let y = b.measure(row, options)?;
                (a.measure(row, options)?, y)
            };
            measured.push((x, y));
            done += 1;
            bar.inc(1);
        }
        series.push(measured);
    }
    bar.finish_and_clear();
    let ratios: Vec<Vec<f64>> =
        series.iter().map(|pairs| pairs.iter().map(|(a, b)| b / a).collect()).collect();
    let middle = |of: fn(&(f64, f64)) -> f64| Spread::of(series.iter().flatten().map(of)).context("no pairs");
    Ok(Figure {
        name: row.name.to_string(),
        metric: if row.how == How::Expire { "server CPU a key" } else { "server CPU, P16" },
        spread: Spread::over(&ratios).context("no pairs")?,
        sides: Some((middle(|pair| pair.0)?.median, middle(|pair| pair.1)?.median)),
        unit: Unit::Micros,
        target: row.target,
    })
}

impl Side {
    fn prepare(recipe: &Recipe, row: &Row, options: &Options) -> Result<Self> {
        let mut server = recipe.start()?;
        if row.tagged && recipe.module.is_some() {
            server.query::<()>(redis::cmd("HSET").arg("tagged").arg("field").arg("value"))?;
            server.query::<()>(redis::cmd("CACHE.TAG").arg("tagged").arg(TAG))?;
        }
        if row.how != How::Expire {
            // What expired is to be found by who asks for it, and not before.
            server.query::<()>(redis::cmd("CONFIG").arg("SET").arg("hz").arg(1))?;
        }
        let template = |words| Template::new(words, "bench:n:", VALUE);
        let load = Load::connect(server.address(), DEEP.0, 2)?;
        let mut side = Self { server, load, fill: template(row.fill), run: template(row.run) };
        if row.how == How::Stay {
            side.load.fill(&side.fill, options.keys)?;
        }
        side.measure(row, options)?; // to warm it up
        Ok(side)
    }

    /// Microseconds of server CPU a command, or a key that the server expired.
    fn measure(&mut self, row: &Row, options: &Options) -> Result<f64> {
        let keys = options.keys;
        if row.how != How::Stay {
            self.load.fill(&self.fill, keys)?;
            std::thread::sleep(GLANCE);
        }
        let before = self.server.cpu()?;
        let commands = match row.how {
            How::Stay => hot::checked(self.load.each(&self.run, DEEP.1, 0..keys)?)?.commands,
            How::End { nil } => {
                let slice = self.load.each(&self.run, DEEP.1, 0..keys)?;
                let nils = if nil { slice.commands } else { 0 };
                ensure!(slice.nils == nils, "{} of {} answers were nil", slice.nils, slice.commands);
                slice.commands
            }
            How::Expire => {
                // A tagged key and its companion stay.
                await_keys(&mut self.server, if row.tagged { 2 } else { 0 })?;
                u64::from(keys)
            }
        };
        let used = self.server.cpu()?.saturating_sub(before);
        if interrupt::asked() {
            bail!("stopped");
        }
        Ok(used.as_secs_f64() * 1e6 / commands as f64)
    }
}

/// Waits until a server has no more than so many keys.
fn await_keys(server: &mut Server, stay: u64) -> Result<()> {
    let start = Instant::now();
    while server.keys()? > stay {
        if interrupt::asked() {
            bail!("stopped");
        }
        ensure!(start.elapsed() < PATIENCE, "keys are there long after their time");
        std::thread::sleep(GLANCE);
    }
    Ok(())
}

// --- bytes ---------------------------------------------------------------------------------------

/// Bytes that one tag adds to a key, and each of three more.
fn bytes(recipe: &Recipe, keys: u32) -> Result<[Figure; 2]> {
    let one = weigh(recipe, keys, &["CACHE.TAG", "{key}", "{tag}"])?;
    let four = weigh(recipe, keys, &["CACHE.TAG", "{key}", "{tag}", "{tag2}", "{tag3}", "{tag4}"])?;
    let figure = |name: &str, metric, bytes, sides, target| Figure {
        name: name.to_string(),
        metric,
        spread: Spread { median: bytes, min: bytes, max: bytes },
        sides: Some(sides),
        unit: Unit::Bytes,
        target: Target::AtMost(target),
    };
    Ok([
        figure("hash, 30-B key, 1 tag of 10,000 / none", "bytes a key, B-A", one.1 - one.0, one, 160.0),
        figure(
            "hash, 30-B key, 4 tags of 10,000 / 1",
            "bytes a membership",
            (four.1 - four.0 - (one.1 - one.0)) / 3.0,
            (one.1, four.1),
            16.0,
        ),
    ])
}

/// Bytes a hash, before and after it is tagged.
fn weigh(recipe: &Recipe, keys: u32, tag: &[&str]) -> Result<(f64, f64)> {
    let mut server = recipe.start()?;
    let empty = memory::among(&mut server, 1.0)?.number("used_memory")?;
    let mut held = |words: &[&str]| -> Result<f64> {
        Load::connect(server.address(), 1, 0)?.fill(&Template::new(words, "bench:m:", 8), keys)?;
        Ok((memory::among(&mut server, 1.0)?.number("used_memory")? - empty) / f64::from(keys))
    };
    let (before, after) = (held(HSET)?, held(tag)?);
    ensure!(server.keys()? == 2 * u64::from(keys), "not every hash has a companion");
    Ok((before, after))
}

// --- invalidation --------------------------------------------------------------------------------

/// Until the reply, and the server's work until memory is back.
#[derive(Clone, Copy)]
struct Forgotten {
    reply: f64,
    cpu: f64,
}

/// The time to the reply, and the server CPU with what is swept afterwards:
/// companions are left to the sweep.
fn invalidation(recipe: &Recipe, options: &Options) -> Result<[Figure; 2]> {
    let (mut without, mut with) = (recipe.without_module().start()?, recipe.start()?);
    let mut script = || forget(Method::Lua, &mut without, options);
    let mut ours = || forget(Method::Invalidate, &mut with, options);
    let mut pairs = Vec::new();
    for round in 0..=options.rounds {
        pairs.push(if round % 2 == 0 {
            let script = script()?;
            (script, ours()?)
        } else {
            let ours = ours()?;
            (script()?, ours)
        });
    }
    pairs.remove(0); // to warm up
    let figure = |metric, target, of: fn(&Forgotten) -> f64| {
        let middle = |of: &dyn Fn(&(Forgotten, Forgotten)) -> f64| {
            Spread::of(pairs.iter().map(of)).context("no rounds")
        };
        Ok(Figure {
            name: format!("INVALIDATE of {} hashes / script", grouped(u64::from(options.hashes))),
            metric,
            spread: middle(&|(script, ours)| of(ours) / of(script))?,
            sides: Some((middle(&|pair| of(&pair.0))?.median, middle(&|pair| of(&pair.1))?.median)),
            unit: Unit::Times,
            target,
        })
    };
    let reply: Result<Figure> = figure("time to the reply", Target::AtMost(0.7), |one| one.reply);
    Ok([reply?, figure("server CPU in all", Target::None, |one| one.cpu)?])
}

/// Writes hashes of five fields, with the tag or in a set, and forgets them.
fn forget(method: Method, server: &mut Server, options: &Options) -> Result<Forgotten> {
    const FIELDS: &[&str] =
        &["HSET", "{key}", "name", "Chair", "price", "79", "stock", "12", "colour", "oak", "shelf", "{tag}"];
    let tag = match method {
        Method::Invalidate => ["CACHE.TAG", "{key}", TAG],
        _ => ["SADD", TAG, "{key}"],
    };
    let mut load = Load::connect(server.address(), 4, 2)?;
    for words in [FIELDS, &tag] {
        load.fill(&Template::new(words, PREFIX, VALUE), options.hashes)?;
    }
    let (before, start) = (server.cpu()?, Instant::now());
    method.forget(server, options.hashes)?;
    let reply = start.elapsed().as_secs_f64();
    await_keys(server, 0).with_context(|| method.name())?;
    let cpu = server.cpu()?.saturating_sub(before).as_secs_f64();
    Ok(Forgotten { reply, cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_of_one_key_and_has_its_name() {
        let mut names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
        for row in ROWS {
            assert_eq!(row.fill.get(1), Some(&"{key}"), "{}", row.name);
            assert_eq!(row.run.is_empty(), row.how == How::Expire, "{}", row.name);
        }
    }

    #[test]
    fn only_what_no_key_is_tagged_for_has_a_target() {
        for row in ROWS {
            assert_eq!(row.target == Target::None, row.tagged, "{}", row.name);
        }
    }
}
