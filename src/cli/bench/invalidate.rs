//! `cacheflow bench invalidate`: what forgetting a tag costs who asks for it,
//! and everybody else.
//!
//! A round is a fresh server with so many entries of one tag, and a client
//! that reads native keys one at a time: first while nothing happens (idle),
//! then from the invalidation until memory is back. Both times the bench asks
//! for DBSIZE every 5 ms, so that what its own questions cost is in both.
//! Memory is back when all but 2 % of what the entries took (or 256 KB, where
//! that is more: buffers, a script's interpreter) is returned; where that has
//! not come 5 s after the last key went, the round says how much is held. The
//! idle time is as long as the sweep was the last time, by the entries, within
//! bounds.
//!
//! The figures are medians of the rounds; each round is printed. Other methods
//! are measured the same way, in fewer rounds: they differ by factors. What
//! this does not say: a client in a closed loop asks nothing while it waits, so
//! that a long block is one slow GET; see the longest. And the longest GET of
//! an idle server on a busy machine says what the longest of a sweep is worth.

use super::memory;
use super::methods::Method;
use super::probe::Probe;
use super::ratio;
use super::rounds::{self, Gets, Round};
use super::server::{Recipe, Server};
use super::summary::time_text;
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const IDLE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(6));
const GLANCE: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(20);
/// How long keys may take to go, and memory after them.
const KEYS_GO: Duration = Duration::from_secs(60);
const MEMORY_GOES: Duration = Duration::from_secs(5);
/// Of what the entries took, and at least so many bytes.
const BACK: (f64, f64) = (0.02, 262_144.0);

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

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let recipe = Recipe::new(&options.server, (!options.plain).then_some(options.module.as_path()));
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
    let figures = rounds::figures(&rounds, &options.entries);
    let rounds: Vec<_> = rounds.iter().map(Round::json).collect();
    let measured = serde_json::json!({ "server": version, "rounds": rounds });
    ratio::conclude(&figures, measured, options.json.as_deref())
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
        longest_slice: longest_slice(&mut server)?,
        done,
        keys_gone,
        memory_back,
        held,
        idle: Gets::of(&idle),
        sweep: Gets::of(&sweep),
    })
}

/// In the background, by the module's clock; None where it does not say.
fn longest_slice(server: &mut Server) -> Result<Option<f64>> {
    let micros = server.info("cacheflow_sweep")?.number("cacheflow_sweep_longest_slice_us");
    Ok(micros.ok().map(|micros| micros / 1e6))
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

#[cfg(test)]
mod tests {
    use super::super::rounds::tests::round;
    use super::*;

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
        assert!(little.is_back(262_144.0) && !little.is_back(263_000.0));
    }
}
