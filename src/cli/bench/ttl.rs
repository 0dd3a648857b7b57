//! `cacheflow bench ttl`: TTLs chosen by how often the source changes (`EXAUTO`),
//! against the best single TTL, in simulated time.
//!
//! No server is needed: what chooses is the code that the module ships, and what
//! it chooses for is simulated (`simulate_ttl.rs`). For each mixture of paces two
//! figures: how stale reads were, as a multiple of `cacheflow.stale-target`, and
//! the fetches, as a multiple of those of the one TTL for all that is exactly as
//! stale, found by bisection on the same reads and changes. Each round has other
//! dice.

use super::ratio::{self, Figure, Spread, Target, Unit};
use super::summary::{grouped, time_text};
use crate::interrupt;
use crate::simulate_ttl::{Comparison, Scale, MIXTURES};
use anyhow::{bail, Context, Result};
use cacheflow_core::adaptive::Bounds;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

/// Chooses TTLs for sources that change at different paces, in simulated time,
/// and counts stale reads and fetches.
#[derive(Args)]
pub struct Options {
    /// How many keys there are.
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    keys: u32,
    /// How many reads of them.
    #[arg(long, default_value_t = 3_000_000, value_parser = clap::value_parser!(u64).range(1000..=1_000_000_000))]
    reads: u64,
    /// The days that these are spread over.
    #[arg(long, default_value_t = 7.0, value_parser = positive)]
    days: f64,
    /// The exponent of the keys' popularity.
    #[arg(long, default_value_t = 0.9, value_parser = positive)]
    zipf: f64,
    /// The share of reads that may be stale.
    #[arg(long, default_value_t = 0.01, value_parser = positive)]
    target: f64,
    /// EXAUTO's min, in seconds.
    #[arg(long, default_value_t = 1)]
    min: u32,
    /// EXAUTO's max, in seconds.
    #[arg(long, default_value_t = 86_400)]
    max: u32,
    /// How often it is simulated.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "must be a positive number".into())
}

/// Simulates and prints.
pub fn run(options: &Options) -> Result<()> {
    let bounds = Bounds::new(options.min, options.max).context("min must be 1 or more, and max no less")?;
    println!(
        "{} reads of {} keys in {} days, a target of {} stale; {} rounds. The second half counts.",
        grouped(options.reads),
        grouped(u64::from(options.keys)),
        options.days,
        options.target,
        options.rounds,
    );
    let mut figures = Vec::new();
    let mut measured = serde_json::json!({ "target": options.target, "keys": options.keys });
    for mixture in MIXTURES {
        let mut rounds = Vec::new();
        for round in 0..options.rounds {
            if interrupt::asked() {
                bail!("stopped");
            }
            let Options { keys, reads, days, zipf, .. } = *options;
            let scale = Scale { keys, reads, days, zipf, seed: u64::from(round) * 1_000_003 + 7 };
            rounds.push(Comparison::of(mixture, scale, bounds, options.target));
        }
        for Comparison { ttl, fixed, adaptive } in &rounds {
            println!(
                "  {}: {} fetches, {:.2} % of hits stale; a TTL of {} for all: {} fetches, {:.2} %",
                mixture.name,
                grouped(adaptive.fetches),
                adaptive.staleness() * 100.0,
                time_text(Duration::from_millis(ttl.0)),
                grouped(fixed.fetches),
                fixed.staleness() * 100.0,
            );
        }
        let each: Vec<_> = rounds.iter().map(|of| [of.adaptive.staleness(), of.fetches()]).collect();
        measured[mixture.name] = serde_json::json!(each);
        figures.extend(figures_of(mixture.name, mixture.alike, &rounds, options.target));
    }
    ratio::conclude(&figures, measured, options.json.as_deref())
}

fn figures_of(name: &str, alike: bool, rounds: &[Comparison], target: f64) -> Vec<Figure> {
    let spread = |each: &dyn Fn(&Comparison) -> f64| Spread::of(rounds.iter().map(each));
    let fetches = if alike { Target::AtMost(1.03) } else { Target::AtMost(0.81) };
    let figure = |metric, spread: Option<Spread>, target| {
        spread.map(|spread| Figure {
            name: name.to_string(),
            metric,
            spread,
            sides: None,
            unit: Unit::Count,
            target,
        })
    };
    [
        figure("stale / target", spread(&|of| of.adaptive.staleness() / target), Target::Between(0.8, 1.2)),
        figure("fetches / fixed's", spread(&Comparison::fetches), fetches),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate_ttl::Outcome;
    use cacheflow_core::units::Millis;

    #[test]
    fn figures_have_their_targets() {
        let outcome = |fetches| Outcome { hits: 1000, stale: 10.0, fetches };
        let round = |fetches| Comparison { ttl: Millis(5), fixed: outcome(100), adaptive: outcome(fetches) };
        let rounds = [round(60), round(70), round(80)];
        let figures = figures_of("mixed", false, &rounds, 0.01);
        assert_eq!([figures[0].spread.median, figures[1].spread.median], [1.0, 0.7]);
        assert!(figures.iter().all(|figure| figure.target.reached(figure.spread.median) == Some(true)));
        let alike = figures_of("alike", true, &[round(102)], 0.01);
        assert_eq!(alike[1].target.reached(alike[1].spread.median), Some(true));
        let worse = figures_of("mixed", false, &[round(102)], 0.01);
        assert_eq!(worse[1].target.reached(worse[1].spread.median), Some(false));
    }

    #[test]
    fn what_is_no_positive_number_is_refused() {
        assert_eq!(positive("0.5"), Ok(0.5));
        assert!(["0", "-1", "x", "inf", "nan"].iter().all(|text| positive(text).is_err()));
    }
}
