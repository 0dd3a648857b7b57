//! `cacheflow bench stampede`: many clients miss the same key at once.
//!
//! Four questions, each on servers of its own and each explained in its file:
//! what a cold key costs (`stampede_cold.rs`), how fast very many waiters are
//! answered and what others see of it (`stampede_wake.rs`), who computes when
//! the one who did was killed (`stampede_killed.rs`), and what leases cost that
//! are only held (`stampede_idle.rs`). The first three are asked of what
//! applications do without the module too, on servers without it and in fewer
//! rounds: these differ by factors. A round has a key that nobody knows.
//!
//! The figures are medians of the rounds; each round is printed. Clients,
//! origin and server share the machine, so that what is measured is also how
//! fast the clients can ask: those that poll would be slower still over a
//! network, those that wait would not.

use super::ratio::{self, Figure};
use super::server::{Recipe, Server};
use super::stampede_ways::Way;
use super::{stampede_cold, stampede_idle, stampede_killed, stampede_wake};
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Lets many clients miss one key on servers started for it, by CACHE.FETCH and
/// by locks that applications make, and prints how often the value was computed
/// and how soon all had it.
#[derive(Args)]
pub struct Options {
    /// The server to start.
    #[arg(long, default_value = "redis-server", value_name = "PROGRAM")]
    server: PathBuf,
    /// The module to load into it.
    #[arg(long, default_value = "target/release/libcacheflow.so", value_name = "FILE")]
    module: PathBuf,
    /// How many clients ask for a cold key.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=9000))]
    clients: u32,
    /// How many wait for one key while another client sends PINGs.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    waiters: u32,
    /// How many leases are held while nothing is done.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    leases: u32,
    /// For how many seconds nothing is done, three times a round.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// How often each is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// In how many of the rounds the other ways are measured too.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    compared: u32,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Also write the figures, and every round, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Without the module: the other ways alone.
    #[arg(long)]
    plain: bool,
}

/// What can be asked for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// A cold key and a slow origin.
    Cold,
    /// Very many waiters for one key.
    Wake,
    /// A holder that is killed.
    Killed,
    /// Leases that are only held.
    Idle,
}

/// What a part came to.
#[derive(Default)]
struct Report {
    figures: Vec<Figure>,
    rounds: serde_json::Value,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let recipe = Recipe::new(&options.server, (!options.plain).then_some(options.module.as_path()));
    let mut server = recipe.start()?;
    let version = server.info("server")?.version();
    ensure!(
        options.plain || server.knows("CACHE.FETCH")?,
        "the module at {} has no CACHE.FETCH: build a newer one, or measure the other ways alone with --plain",
        options.module.display()
    );
    drop(server);
    println!(
        "{version}{}: clients miss one key, in {} rounds ({} by the other ways).",
        if options.plain { " without the module" } else { "" },
        options.rounds,
        options.compared.min(options.rounds),
    );
    let mut figures = Vec::new();
    let mut document = serde_json::json!({ "server": version });
    for part in Part::value_variants() {
        if options.only.is_empty() || options.only.contains(part) {
            let report = match part {
                Part::Cold => cold(options, &recipe),
                Part::Wake => wake(options, &recipe),
                Part::Killed => killed(options, &recipe),
                Part::Idle => idle(options, &recipe),
            };
            let report = report.with_context(|| part.name())?;
            figures.extend(report.figures);
            document[part.name()] = report.rounds;
        }
    }
    ratio::conclude(&figures, document, options.json.as_deref())
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Wake => "wake",
            Self::Killed => "killed",
            Self::Idle => "idle",
        }
    }
}

impl Options {
    fn measures(&self, way: Way, round: u32) -> bool {
        match way {
            Way::Fetch => !self.plain,
            Way::Spin | Way::Lock | Way::List => round < self.compared,
        }
    }
}

/// A server for a way: the module where it is what is measured, and else none,
/// as it would be.
fn start(way: Way, recipe: &Recipe) -> Result<Server> {
    if interrupt::asked() {
        bail!("stopped");
    }
    match way {
        Way::Fetch => recipe.start(),
        Way::Spin | Way::Lock | Way::List => recipe.without_module().start(),
    }
}

fn cold(options: &Options, recipe: &Recipe) -> Result<Report> {
    let mut rounds = Vec::new();
    for number in 0..options.rounds {
        for way in Way::ALL.into_iter().filter(|way| options.measures(*way, number)) {
            let mut server = start(way, recipe)?;
            let round = stampede_cold::round(way, options.clients, "bench:cold", &mut server)
                .with_context(|| way.name())?;
            println!("{}", round.line());
            rounds.push(round);
        }
    }
    Ok(Report {
        figures: stampede_cold::figures(&rounds, options.clients),
        rounds: rounds.iter().map(stampede_cold::Round::json).collect(),
    })
}

fn wake(options: &Options, recipe: &Recipe) -> Result<Report> {
    let mut rounds = Vec::new();
    for number in 0..options.rounds {
        for way in Way::ALL.into_iter().filter(|way| way.blocks() && options.measures(*way, number)) {
            let mut server = start(way, recipe)?;
            stampede_wake::prepare(&mut server, options.waiters, way == Way::Fetch)?;
            let round = stampede_wake::round(way, options.waiters, "bench:wake", &mut server)
                .with_context(|| way.name())?;
            println!("{}", round.line());
            rounds.push(round);
        }
    }
    Ok(Report {
        figures: stampede_wake::figures(&rounds, options.waiters),
        rounds: rounds.iter().map(stampede_wake::Round::json).collect(),
    })
}

fn killed(options: &Options, recipe: &Recipe) -> Result<Report> {
    let (mut fetches, mut locks) = (Vec::new(), Vec::new());
    for number in 0..options.rounds {
        if options.measures(Way::Fetch, number) {
            let time = stampede_killed::fetch("bench:killed", &mut start(Way::Fetch, recipe)?)?;
            println!("{}", stampede_killed::line(Way::Fetch.name(), time));
            fetches.push(time);
        }
        if options.measures(Way::Spin, number) {
            let time = stampede_killed::lock("bench:killed", &mut start(Way::Spin, recipe)?)?;
            println!("{}", stampede_killed::line("SET NX PX", time));
            locks.push(time);
        }
    }
    Ok(Report {
        figures: stampede_killed::figures(&fetches, &locks),
        rounds: serde_json::json!({ "fetch": fetches, "lock": locks }),
    })
}

fn idle(options: &Options, recipe: &Recipe) -> Result<Report> {
    if options.plain {
        return Ok(Report::default());
    }
    let mut server = start(Way::Fetch, recipe)?;
    let mut rounds = Vec::new();
    for number in 0..options.rounds {
        let time = Duration::from_secs(u64::from(options.seconds));
        let round = stampede_idle::round(number, options.leases, time, &mut server)?;
        println!("{}", round.line(options.leases));
        rounds.push(round);
    }
    Ok(Report {
        figures: stampede_idle::figures(&rounds, options.leases),
        rounds: rounds.iter().map(stampede_idle::Round::json).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &[&str]) -> Options {
        Line::try_parse_from([&["bench"], words].concat()).unwrap().options
    }

    #[test]
    fn the_others_are_measured_in_the_first_rounds() {
        let some = options(&["--rounds", "5", "--compared", "2"]);
        assert!(some.measures(Way::Fetch, 4) && some.measures(Way::Lock, 1) && !some.measures(Way::Lock, 2));
        let plain = options(&["--plain"]);
        assert!(!plain.measures(Way::Fetch, 0) && plain.measures(Way::List, 0));
    }

    #[test]
    fn parts_are_named_as_they_are_asked_for() {
        for part in Part::value_variants() {
            assert_eq!(part.to_possible_value().unwrap().get_name(), part.name());
        }
    }
}
