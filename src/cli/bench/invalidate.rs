//! `cacheflow bench invalidate`: what forgetting a tag costs who asks for it,
//! and everybody else.
//!
//! A round is a fresh server with so many entries of one tag, and a client
//! that reads native keys one at a time: first while nothing happens (idle),
//! then from the invalidation until memory is back. Both times the bench asks
//! for DBSIZE every 5 ms, so that what its own questions cost is in both.
//! Memory is back when all but 2 % of what the entries took (or 64 KB, where
//! that is more: connections' buffers) is returned. The idle time is as long
//! as the sweep was the last time, by the entries, within bounds.
//!
//! The figures are medians of the rounds; each round is printed. Other methods
//! are measured the same way, in fewer rounds: they differ by factors. What
//! this does not say: a client in a closed loop asks nothing while it waits, so
//! that a long block is one slow GET; see the longest. And the longest GET of
//! an idle server on a busy machine says what the longest of a sweep is worth.

use super::memory;
use super::methods::Method;
use super::probe::Probe;
use super::ratio::{self, Figure, Spread, Target, Unit};
use super::server::{Recipe, Server};
use super::summary::{grouped, time_text};
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use hdrhistogram::Histogram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Targets of CACHE.INVALIDATE.
const SERVER_TIME: Target = Target::AtMost(1e-3);
const TAIL: Target = Target::AtMost(2.0);
const LONGEST: Target = Target::AtMost(5e-3);
const MEMORY: Target = Target::AtMost(10.0);

/// Under so many GETs a 99.9th percentile is the maximum by another name.
const ENOUGH: u64 = 1000;
const IDLE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(6));
const GLANCE: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(20);
/// How long keys may take to go, and memory after them.
const KEYS_GO: Duration = Duration::from_secs(60);
const MEMORY_GOES: Duration = Duration::from_secs(10);
/// Of what the entries took, and at least so many bytes.
const BACK: (f64, f64) = (0.02, 65_536.0);

/// Invalidates a tag with many entries on servers started for it, while a
/// client reads native keys, and does the same by sets and by a script.
#[derive(Args)]
pub struct Options {
    /// The server to start.
    #[arg(long, default_value = "redis-server", value_name = "PROGRAM")]
    server: PathBuf,
    /// The module to load into it.
    #[arg(long, default_value = "target/release/libcacheflow.so", value_name = "FILE")]
    module: PathBuf,
    /// How many entries the tag has.
    #[arg(long, value_delimiter = ',', default_value = "1000,100000,1000000", value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    entries: Vec<u32>,
    /// How often CACHE.INVALIDATE is measured for each.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// In how many of the rounds the other methods are measured too.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    compared: u32,
    /// Also write the figures, and every round, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Without the module: the other methods alone.
    #[arg(long)]
    plain: bool,
}

/// What one round saw. Times are seconds, infinite for what never happened.
#[derive(Debug, Clone)]
struct Round {
    method: Method,
    entries: u32,
    /// The one command, by the server's clock, where there is one.
    server_time: Option<f64>,
    /// Until no entry was there for a reader.
    done: f64,
    /// Until no key was.
    keys_gone: f64,
    /// Until the memory was back.
    memory_back: f64,
    /// Of what the entries took, the part that was not back at last.
    held: f64,
    idle: Gets,
    sweep: Gets,
}

/// One of its measures.
type Measure = fn(&Round) -> f64;

/// What a client saw.
#[derive(Debug, Clone, Copy)]
struct Gets {
    count: u64,
    p999: f64,
    longest: f64,
}

impl Gets {
    fn of(times: &Histogram<u64>) -> Self {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        Self {
            count: times.len(),
            p999: seconds(times.value_at_quantile(0.999)),
            longest: seconds(times.max()),
        }
    }

    fn json(self) -> serde_json::Value {
        serde_json::json!({ "gets": self.count, "p99.9": self.p999, "longest": self.longest })
    }
}

impl Round {
    fn line(&self) -> String {
        let text = |seconds| Duration::try_from_secs_f64(seconds).map_or("never".into(), time_text);
        let server = match self.server_time {
            Some(time) => format!("server {}, ", text(time)),
            None => String::new(),
        };
        let held = match self.memory_back.is_infinite() {
            true => format!(" ({:.1} % is held)", 100.0 * self.held),
            false => String::new(),
        };
        format!(
            "  {}, {}: {server}done {}, keys gone {}, memory back {}{held}; GET's p99.9 {} -> {}, longest {} -> {}, {} GETs",
            self.method.name(),
            grouped(u64::from(self.entries)),
            text(self.done),
            text(self.keys_gone),
            text(self.memory_back),
            text(self.idle.p999),
            text(self.sweep.p999),
            text(self.idle.longest),
            text(self.sweep.longest),
            grouped(self.sweep.count),
        )
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "method": self.method.name(),
            "entries": self.entries,
            "server-time": self.server_time,
            "done": self.done,
            "keys-gone": self.keys_gone,
            "memory-back": self.memory_back,
            "held": self.held,
            "idle": self.idle.json(),
            "sweep": self.sweep.json(),
        })
    }
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let recipe =
        Recipe { program: options.server.clone(), module: (!options.plain).then(|| options.module.clone()) };
    let mut server = recipe.start()?;
    let version = server.info("server")?.version();
    ensure!(
        options.plain || server.knows("CACHE.INVALIDATE")?,
        "the module at {} has no CACHE.INVALIDATE: build a newer one, or measure the other methods alone with --plain",
        options.module.display()
    );
    drop(server);
    println!(
        "{version}{}: a tag's entries of 100 B with 30-B keys are invalidated while a client reads native keys, in {} rounds ({} by the other methods). idle -> from then until memory is back.",
        if options.plain { " without the module" } else { "" },
        options.rounds,
        options.compared.min(options.rounds),
    );
    let mut rounds: Vec<Round> = Vec::new();
    for &entries in &options.entries {
        for number in 0..options.rounds {
            for method in Method::ALL {
                if options.measures(method, number) {
                    let idle = idle(rounds.iter().rfind(|round| round.method == method), entries);
                    let round = round(method, entries, idle, &recipe)
                        .with_context(|| format!("{} of {entries} entries", method.name()))?;
                    println!("{}", round.line());
                    rounds.push(round);
                }
            }
        }
    }
    println!("{}", Figure::heading());
    let figures = figures(&rounds, &options.entries);
    for figure in &figures {
        println!("{}", figure.line());
    }
    println!("{}", ratio::verdict(&figures));
    if let Some(path) = &options.json {
        let rounds: Vec<_> = rounds.iter().map(Round::json).collect();
        ratio::write(path, serde_json::json!({ "server": version, "rounds": rounds }), &figures)?;
    }
    Ok(())
}

impl Options {
    fn measures(&self, method: Method, round: u32) -> bool {
        match method {
            Method::Invalidate => !self.plain,
            Method::Sets | Method::Lua => round < self.compared,
        }
    }
}

/// How long to watch the idle server: as long as memory took to come back the
/// last time, by the entries.
fn idle(last: Option<&Round>, entries: u32) -> Duration {
    let (least, most) = IDLE;
    let scaled = last.map(|last| {
        let seconds = last.memory_back.min(KEYS_GO.as_secs_f64());
        seconds * f64::from(entries) / f64::from(last.entries)
    });
    scaled.and_then(|time| Duration::try_from_secs_f64(time).ok()).unwrap_or(least).clamp(least, most)
}

fn round(method: Method, entries: u32, idle: Duration, recipe: &Recipe) -> Result<Round> {
    let mut server = match method {
        Method::Invalidate => recipe.start()?,
        // In a server without the module, as it would be.
        Method::Sets | Method::Lua => recipe.without_module().start()?,
    };
    // By default a script that takes longer lets others be answered BUSY.
    server.query::<()>(redis::cmd("CONFIG").arg("SET").arg("lua-time-limit").arg(0))?;
    let mut probe = Probe::open(server.address())?;
    let keys = server.keys()?;
    let memory = memory::among(&mut server, 2.0)?.number("used_memory")?;
    method.load(&mut server, entries)?;
    let loaded = memory::among(&mut server, 2.0)?.number("used_memory")?;
    ensure!(
        server.keys()? == keys + method.keys(entries) && method.finds_one(&mut server, entries)?,
        "the server does not hold what was written"
    );
    let before = Level { keys, memory, taken: loaded - memory };

    let (_, idle) = probe.during(|| {
        let start = Instant::now();
        while start.elapsed() < idle {
            server.keys()?;
            pause(GLANCE)?;
        }
        Ok(())
    })?;
    let ((done, keys_gone, (memory_back, held)), sweep) = probe.during(|| {
        let start = Instant::now();
        method.forget(&mut server, entries)?;
        let done = start.elapsed().as_secs_f64();
        ensure!(!method.finds_one(&mut server, entries)?, "an entry is there after its invalidation");
        before.await_keys(&mut server, start)?;
        let keys_gone = start.elapsed().as_secs_f64();
        Ok((done, keys_gone, before.await_memory(&mut server, start)?))
    })?;
    Ok(Round {
        method,
        entries,
        server_time: method.server_time(&mut server)?,
        done,
        keys_gone,
        memory_back,
        held,
        idle: Gets::of(&idle),
        sweep: Gets::of(&sweep),
    })
}

/// What the server held before the entries were written, and they took.
struct Level {
    keys: u64,
    memory: f64,
    taken: f64,
}

impl Level {
    fn await_keys(&self, server: &mut Server, start: Instant) -> Result<()> {
        loop {
            let left = server.keys()?.saturating_sub(self.keys);
            if left == 0 {
                return Ok(());
            }
            ensure!(start.elapsed() < KEYS_GO, "{left} keys are there after {}", time_text(KEYS_GO));
            pause(GLANCE)?;
        }
    }

    /// Seconds from the start, infinite if it does not come; and the part of
    /// what the entries took that is held at last.
    fn await_memory(&self, server: &mut Server, start: Instant) -> Result<(f64, f64)> {
        let since = Instant::now();
        loop {
            let held = server.info("memory")?.number("used_memory")? - self.memory;
            if self.is_back(held) {
                return Ok((start.elapsed().as_secs_f64(), held / self.taken));
            }
            if since.elapsed() > MEMORY_GOES {
                return Ok((f64::INFINITY, held / self.taken));
            }
            pause(LOOK)?;
        }
    }

    fn is_back(&self, held: f64) -> bool {
        let (share, bytes) = BACK;
        held <= (share * self.taken).max(bytes)
    }
}

fn pause(time: Duration) -> Result<()> {
    if interrupt::asked() {
        bail!("stopped");
    }
    std::thread::sleep(time);
    Ok(())
}

/// The figures of each size: CACHE.INVALIDATE's with targets, then the other
/// methods' against them, or for themselves.
fn figures(rounds: &[Round], sizes: &[u32]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for &entries in sizes {
        let of = |method| -> Vec<&Round> {
            rounds.iter().filter(|round| round.method == method && round.entries == entries).collect()
        };
        let ours = of(Method::Invalidate);
        figures.extend(with_targets(&ours, entries));
        for method in [Method::Sets, Method::Lua] {
            figures.extend(compared(&of(method), &ours, method, entries));
        }
    }
    figures
}

fn median(rounds: &[&Round], of: impl Fn(&Round) -> f64) -> Option<f64> {
    Some(Spread::of(rounds.iter().map(|round| of(round)))?.median)
}

/// A time for itself, and the same of the idle server, if that is a measure.
fn time(
    name: String,
    metric: &'static str,
    rounds: &[&Round],
    target: Target,
    of: impl Fn(&Round) -> f64,
    idle: Option<Measure>,
) -> Option<Figure> {
    let spread = Spread::of(rounds.iter().map(|round| of(round)))?;
    let sides = idle.and_then(|idle| Some((median(rounds, idle)?, spread.median)));
    Some(Figure { name, metric, spread, sides, unit: Unit::Time, target })
}

fn tail(name: String, rounds: &[&Round], target: Target) -> Option<Figure> {
    let enough = rounds.iter().all(|round| round.sweep.count >= ENOUGH);
    Some(Figure {
        name,
        metric: "GET p99.9 / idle",
        spread: Spread::of(rounds.iter().map(|round| round.sweep.p999 / round.idle.p999))?,
        sides: median(rounds, |round| round.idle.p999).zip(median(rounds, |round| round.sweep.p999)),
        unit: Unit::Times,
        target: if enough { target } else { Target::None },
    })
}

fn with_targets(ours: &[&Round], entries: u32) -> Vec<Figure> {
    let name = || format!("CACHE.INVALIDATE, {} entries", grouped(u64::from(entries)));
    let server = |round: &Round| round.server_time.unwrap_or(f64::INFINITY);
    [
        time(name(), "server time", ours, SERVER_TIME, server, None),
        time(name(), "round trip", ours, Target::None, |round| round.done, None),
        tail(name(), ours, TAIL),
        time(
            name(),
            "longest GET",
            ours,
            LONGEST,
            |round| round.sweep.longest,
            Some(|round| round.idle.longest),
        ),
        time(name(), "memory back", ours, MEMORY, |round| round.memory_back, None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn compared(theirs: &[&Round], ours: &[&Round], method: Method, entries: u32) -> Vec<Figure> {
    let size = grouped(u64::from(entries));
    let measures: [(&'static str, Measure); 3] = [
        ("until done", |round| round.done),
        ("GET p99.9", |round| round.sweep.p999),
        ("longest GET", |round| round.sweep.longest),
    ];
    let figure = |(metric, of): (&'static str, Measure)| {
        let Some(our) = median(ours, of) else {
            return time(
                format!("{}, {size} entries", method.name()),
                metric,
                theirs,
                Target::None,
                of,
                None,
            );
        };
        Some(Figure {
            name: format!("{} / CACHE.INVALIDATE, {size}", method.name()),
            metric,
            spread: Spread::of(theirs.iter().map(|round| of(round) / our))?,
            sides: Some((our, median(theirs, of)?)),
            unit: Unit::Times,
            target: Target::None,
        })
    };
    measures.into_iter().filter_map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(method: Method, entries: u32, done: f64) -> Round {
        let gets = |p999| Gets { count: 5000, p999, longest: 10.0 * p999 };
        Round {
            method,
            entries,
            server_time: (method == Method::Invalidate).then_some(done / 2.0),
            done,
            keys_gone: 2.0,
            memory_back: 2.5,
            held: 0.01,
            idle: gets(1e-4),
            sweep: gets(done / 10.0),
        }
    }

    fn line(figures: &[Figure], name: &str, metric: &str) -> String {
        figures.iter().find(|figure| figure.name == name && figure.metric == metric).unwrap().line()
    }

    #[test]
    fn figures_are_medians_with_targets_and_ratios_to_ours() {
        let rounds: Vec<_> = [1e-3, 4e-3, 1.5e-3]
            .map(|done| round(Method::Invalidate, 1000, done))
            .into_iter()
            .chain([round(Method::Lua, 1000, 3.0)])
            .collect();
        let figures = figures(&rounds, &[1000]);
        let ours = "CACHE.INVALIDATE, 1,000 entries";
        assert!(line(&figures, ours, "server time").ends_with("750 us 500 us-2.0 ms  <= 1.0 ms reached"));
        let tail = line(&figures, ours, "GET p99.9 / idle");
        assert!(tail.contains("100 us -> 150 us   1.500") && tail.ends_with("<= 2.00   reached"), "{tail}");
        let longest = line(&figures, ours, "longest GET");
        assert!(longest.contains("1.0 ms -> 1.5 ms") && longest.ends_with("reached"), "{longest}");
        let lua = line(&figures, "Lua script / CACHE.INVALIDATE, 1,000", "until done");
        assert!(lua.contains("1.5 ms -> 3.0 s    2000"), "{lua}");
        assert_eq!(figures.len(), 5 + 3);
    }

    #[test]
    fn without_ours_the_others_stand_for_themselves() {
        let figures = figures(&[round(Method::Sets, 7, 3.0)], &[7, 8]);
        assert_eq!(figures.len(), 3);
        assert!(line(&figures, "sets and DEL, 7 entries", "until done").ends_with("3.0 s"));
    }

    #[test]
    fn a_few_gets_have_no_tail_to_judge() {
        let mut few = round(Method::Invalidate, 10, 1e-3);
        few.sweep.count = ENOUGH - 1;
        few.memory_back = f64::INFINITY;
        let figures = figures(&[few.clone()], &[10]);
        let ours = "CACHE.INVALIDATE, 10 entries";
        assert!(!line(&figures, ours, "GET p99.9 / idle").contains("<="));
        assert!(line(&figures, ours, "memory back").ends_with("MISSED"));
        assert!(few.line().contains("memory back never (1.0 % is held)"), "{}", few.line());
    }

    #[test]
    fn the_idle_time_follows_the_last_sweep() {
        assert_eq!(idle(None, 1000), IDLE.0);
        let mut last = round(Method::Invalidate, 1000, 1e-3);
        last.memory_back = 0.4;
        assert_eq!(idle(Some(&last), 2000), Duration::from_millis(800));
        assert_eq!(idle(Some(&last), 1_000_000), IDLE.1);
        last.memory_back = f64::INFINITY;
        assert_eq!(idle(Some(&last), 1000), IDLE.1);
    }

    #[test]
    fn memory_is_back_within_two_percent_or_some_buffers() {
        let level = Level { keys: 0, memory: 1e6, taken: 1e8 };
        assert!(level.is_back(2e6) && !level.is_back(2.1e6));
        let little = Level { taken: 1e4, ..level };
        assert!(little.is_back(65_536.0) && !little.is_back(70_000.0));
    }
}
