//! What leases cost that nobody does anything about: the CPU of a server that
//! is asked nothing, while one connection holds thousands of them and while it
//! holds none.
//!
//! A round is three slices on one server: without leases, without, and with,
//! beginning with another one each time. What the second is to the first is
//! noise, and is shown; the figure is the third to the mean of both. In each
//! slice a connection is open that has sent as many commands.
//!
//! An idle Redis 7.0 takes 1.7 ms a second, and slices of 5 s differ by a tenth
//! on a machine that does other things, medians of five rounds by a few
//! percent: hence a target of 1.10 and none closer. It is close enough: a walk
//! over ten thousand leases in each of the server's ten ticks a second, at 50 ns
//! a lease, would make it 4, and one walk a second 1.3.

use super::load::{Load, Template};
use super::ratio::{Figure, Spread, Target, Unit};
use super::server::Server;
use super::summary::{grouped, time_text};
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The longest a lease may be by default, so that none ends meanwhile.
const LEASED: &[&str] = &["CACHE.FETCH", "{key}", "LEASE", "600000"];
const FREE: &[&str] = &["CACHE.GET", "{key}"];
/// For what the commands before a slice left to be done.
const SETTLE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(10);
const TARGET: Target = Target::AtMost(1.10);

/// What one round saw: the server's CPU seconds a second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Round {
    /// Without leases.
    pub none: f64,
    /// Without leases again.
    pub again: f64,
    /// With them.
    pub leased: f64,
}

/// Measures each for so long.
pub fn round(number: u32, leases: u32, time: Duration, server: &mut Server) -> Result<Round> {
    let mut round = Round::default();
    for turn in 0..3 {
        match (turn + number) % 3 {
            0 => round.none = slice(FREE, leases, time, server)?,
            1 => round.again = slice(FREE, leases, time, server)?,
            _ => round.leased = slice(LEASED, leases, time, server)?,
        }
    }
    Ok(round)
}

fn slice(words: &[&str], leases: u32, time: Duration, server: &mut Server) -> Result<f64> {
    let mut connection = Load::connect(server.address(), 1, 1)?;
    connection.fill(&Template::new(words, "bench:l:", 0), leases)?;
    let expected = if words == LEASED { u64::from(leases) } else { 0 };
    ensure!(held(server)? == expected, "{} leases are held, not {expected}", held(server)?);
    interrupt::sleep(SETTLE);
    let (before, start) = (server.cpu()?, Instant::now());
    interrupt::sleep(time);
    let (used, time) = (server.cpu()?.saturating_sub(before), start.elapsed());
    if interrupt::asked() {
        bail!("stopped");
    }
    ensure!(held(server)? == expected, "leases came or went while nothing was done");
    drop(connection);
    let closed = Instant::now();
    while held(server)? > 0 {
        ensure!(closed.elapsed() < PATIENCE, "a closed connection's leases are held");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(used.as_secs_f64() / time.as_secs_f64())
}

fn held(server: &mut Server) -> Result<u64> {
    let stats: HashMap<String, redis::Value> = server.query(&redis::cmd("CACHE.STATS"))?;
    let leases = stats.get("leases").context("CACHE.STATS does not say how many leases there are")?;
    Ok(redis::from_redis_value(leases)?)
}

impl Round {
    /// For people.
    pub fn line(&self, leases: u32) -> String {
        let text = |seconds| Duration::try_from_secs_f64(seconds).map_or("?".into(), time_text);
        format!(
            "  an idle server's CPU a second: {} and {} without leases, {} with {}",
            text(self.none),
            text(self.again),
            text(self.leased),
            grouped(u64::from(leases)),
        )
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({ "none": self.none, "again": self.again, "leased": self.leased })
    }
}

/// With leases against without, and without against without.
pub fn figures(rounds: &[Round], leases: u32) -> Vec<Figure> {
    let without = |round: &Round| (round.none + round.again) / 2.0;
    let figure = |name: String, target, a: &dyn Fn(&Round) -> f64, b: fn(&Round) -> f64| {
        let median = |of: &dyn Fn(&Round) -> f64| Some(Spread::of(rounds.iter().map(of))?.median);
        Some(Figure {
            name,
            metric: "idle server CPU/s",
            spread: Spread::of(rounds.iter().map(|round| b(round) / a(round)))?,
            sides: median(a).zip(median(&b)),
            unit: Unit::Times,
            target,
        })
    };
    [
        figure(format!("{} leases / none", grouped(u64::from(leases))), TARGET, &without, |round| {
            round.leased
        }),
        figure("no leases / none (noise)".into(), Target::None, &|round| round.none, |round| round.again),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_compared_with_both_slices_without() {
        let round = |leased| Round { none: 1e-3, again: 2e-3, leased };
        let figures = figures(&[round(1.5e-3), round(1.2e-3), round(1.8e-3)], 10_000);
        let line = figures[0].line();
        assert!(
            line.starts_with("10,000 leases / none") && line.contains("1.5 ms -> 1.5 ms   1.000"),
            "{line}"
        );
        assert!(line.ends_with("0.800-1.200  <= 1.10   reached"), "{line}");
        assert!(figures[1].line().ends_with("1.0 ms -> 2.0 ms   2.000"), "{}", figures[1].line());
    }
}
