//! `cacheflow bench cluster`: what a cluster makes of invalidations, and they of it.
//!
//! Four questions, each explained in its file: how long a caller waits until an
//! invalidation is on every shard (`cluster_calls.rs`), what the readers of other
//! shards notice of many (`cluster_beside.rs`), what a manual failover costs and
//! whether anybody reads what is no longer true (`cluster_failover.rs`), and what
//! three shards answer against one (`cluster_shards.rs`). All on one cluster of
//! three primaries with a replica each, and for failovers a second one without
//! the module.
//!
//! Six servers and their clients share one machine. Bare times are therefore
//! upper bounds; ratios are of neighbouring slices or rounds.

use super::cluster_beside::Work;
use super::cluster_calls::{self, Variant};
use super::cluster_failover::{self, Kind};
use super::cluster_nodes::{Cluster, SHARDS};
use super::ratio::{self, Figure};
use super::server::Recipe;
use super::{cluster_beside, cluster_shards, hot};
use anyhow::{ensure, Context, Result};
use clap::{Args, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;

/// Forms a cluster of three primaries and three replicas on this machine, and
/// prints how long invalidations take there, what others notice of them and of
/// failovers, and what three shards answer against one.
#[derive(Args)]
pub struct Options {
    /// The server to start.
    #[arg(long, default_value = "redis-server", value_name = "PROGRAM")]
    server: PathBuf,
    /// The module to load into it.
    #[arg(long, default_value = "target/release/libcacheflow.so", value_name = "FILE")]
    module: PathBuf,
    /// How many clients invalidate at once, beside one alone.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=1000))]
    clients: u32,
    /// How many entries each of their tags has, over all shards.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    entries: u32,
    /// How many invalidations a second other shards' readers are beside.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How many entries each of those tags has.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tagged: u32,
    /// How long a slice is; half of that where slices are compared.
    #[arg(long, default_value_t = 1.0, value_parser = hot::seconds)]
    seconds: f64,
    /// How many slices of invalidations there are of each kind, and failovers.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How many pairs of slices there are where two are compared.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pairs: u32,
    /// Only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Also write the figures, and every round, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What can be asked for alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// How long an invalidation takes.
    Calls,
    /// What other shards' readers notice.
    Beside,
    /// A manual failover.
    Failover,
    /// Three shards against one.
    Shards,
}

/// What a part came to.
struct Report {
    figures: Vec<Figure>,
    rounds: serde_json::Value,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let recipe = Recipe::new(&options.server, Some(&options.module));
    let mut cluster = Cluster::start(&recipe)?;
    let first = cluster.primary(0)?;
    let version = first.info("server")?.version();
    ensure!(
        first.knows("CACHE.INVALIDATE")?,
        "the module at {} has no CACHE.INVALIDATE: build a newer one",
        options.module.display()
    );
    println!(
        "{version}: {SHARDS} primaries with a replica each, slices of {} s, {} rounds or {} pairs.",
        options.seconds, options.rounds, options.pairs,
    );
    let mut figures = Vec::new();
    let mut document = serde_json::json!({ "server": version });
    for part in Part::value_variants() {
        if options.only.is_empty() || options.only.contains(part) {
            let report = match part {
                Part::Calls => calls(options, &mut cluster),
                Part::Beside => beside(options, &mut cluster),
                Part::Failover => failover(options, &recipe, &mut cluster),
                Part::Shards => shards(options, &mut cluster),
            };
            let report = report.with_context(|| part.name())?;
            figures.extend(report.figures);
            document[part.name()] = report.rounds;
        }
    }
    drop(cluster);
    ratio::conclude(&figures, document, options.json.as_deref())
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Beside => "beside",
            Self::Failover => "failover",
            Self::Shards => "shards",
        }
    }
}

impl Options {
    fn slice(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn variants(&self) -> [Variant; 4] {
        [(1, 0), (self.clients, 0), (1, 1), (self.clients, 1)]
            .map(|(clients, replicas)| Variant { clients, replicas })
    }
}

fn calls(options: &Options, cluster: &mut Cluster) -> Result<Report> {
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        for variant in options.variants() {
            let round = cluster_calls::round(variant, options.entries, options.slice(), cluster)?;
            println!("{}", round.line());
            rounds.push(round);
        }
    }
    Ok(Report {
        figures: cluster_calls::figures(&rounds, &options.variants()),
        rounds: rounds.iter().map(cluster_calls::Round::json).collect(),
    })
}

fn beside(options: &Options, cluster: &mut Cluster) -> Result<Report> {
    let mut pairs = Vec::new();
    for work in Work::ALL {
        let setup = cluster_beside::Setup {
            rate: options.rate,
            entries: options.tagged,
            time: options.slice() / 2,
            work,
        };
        pairs.extend(cluster_beside::pairs(setup, options.pairs, cluster)?);
    }
    Ok(Report {
        figures: cluster_beside::figures(&pairs, options.rate),
        rounds: pairs.iter().map(cluster_beside::Pair::json).collect(),
    })
}

fn failover(options: &Options, recipe: &Recipe, cluster: &mut Cluster) -> Result<Report> {
    let mut plain = Cluster::start(&recipe.without_module())?;
    cluster.set("cacheflow.invalidate-min-replicas", 0)?;
    let mut rounds = Vec::new();
    for number in 0..options.rounds {
        let shard = number as usize % SHARDS;
        for (kind, cluster) in [(Kind::Cache, &mut *cluster), (Kind::Plain, &mut plain)] {
            let round = cluster_failover::round(kind, shard, cluster)?;
            println!("{}", round.line());
            rounds.push(round);
        }
    }
    Ok(Report {
        figures: cluster_failover::figures(&rounds),
        rounds: rounds.iter().map(cluster_failover::Round::json).collect(),
    })
}

fn shards(options: &Options, cluster: &mut Cluster) -> Result<Report> {
    let pairs = cluster_shards::pairs(options.pairs, options.slice() / 2, cluster)?;
    Ok(Report {
        figures: cluster_shards::figures(&pairs),
        rounds: pairs.iter().map(cluster_shards::Pair::json).collect(),
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

    #[test]
    fn calls_are_measured_alone_and_together_with_replicas_and_without() {
        let options = Line::try_parse_from(["bench", "--clients", "7", "--seconds", "0.5"]).unwrap().options;
        assert_eq!(options.slice(), Duration::from_millis(500));
        let variants = options.variants().map(|variant| (variant.clients, variant.replicas));
        assert_eq!(variants, [(1, 0), (7, 0), (1, 1), (7, 1)]);
    }

    #[test]
    fn parts_are_named_as_they_are_asked_for() {
        for part in Part::value_variants() {
            assert_eq!(part.to_possible_value().unwrap().get_name(), part.name());
        }
    }
}
