//! What three shards answer against one of them: pipelined CACHE.GETs, a load
//! generator's thread for each shard, in alternating slices.
//!
//! The load generators share the machine with the servers. Where there are fewer
//! cores than all of them want, throughput says how the cores are divided; what
//! a command costs the servers, and how much of the cores they had, says what
//! there would be with more.

use super::cluster_nodes::{Cluster, SHARDS};
use super::hot::checked;
use super::load::{Load, Template};
use super::ratio::{Figure, Spread, Target, Unit};
use anyhow::{anyhow, Context, Result};
use std::time::Duration;

const KEYS: u32 = 10_000;
const CONNECTIONS: usize = 4;
const PIPELINE: usize = 16;

/// A slice on one shard, and one on all.
#[derive(Debug, Clone, Copy)]
pub struct Pair {
    one: Side,
    all: Side,
}

/// What a slice saw.
#[derive(Debug, Clone, Copy)]
struct Side {
    /// Commands a second.
    per_second: f64,
    /// The servers' CPU for each, in microseconds.
    micros: f64,
    /// The servers' CPU seconds a second.
    cores: f64,
}

/// Measures so many pairs, for so long each slice.
pub fn pairs(count: u32, time: Duration, cluster: &mut Cluster) -> Result<Vec<Pair>> {
    let mut loads = Vec::new();
    for (shard, address) in cluster.primaries()?.into_iter().enumerate() {
        let prefix = cluster.prefix(shard, "t")?;
        let mut load = Load::connect(address, CONNECTIONS, 7)?;
        load.fill(&Template::new(&["CACHE.SET", "{key}", "{value}", "EX", "3600"], &prefix, 100), KEYS)?;
        loads.push((load, Template::new(&["CACHE.GET", "{key}"], &prefix, 0)));
    }
    let mut measure = |shards: usize| slice(loads.get_mut(..shards).context("no such shard")?, time, cluster);
    measure(SHARDS)?;
    (0..count)
        .map(|number| {
            let pair = match number % 2 {
                0 => Pair { one: measure(1)?, all: measure(SHARDS)? },
                _ => {
                    let all = measure(SHARDS)?;
                    Pair { one: measure(1)?, all }
                }
            };
            println!("{}", pair.line());
            Ok(pair)
        })
        .collect()
}

fn slice(loads: &mut [(Load, Template)], time: Duration, cluster: &mut Cluster) -> Result<Side> {
    let shards = loads.len();
    let mut cpu = || (0..shards).map(|shard| cluster.primary(shard)?.cpu()).sum::<Result<Duration>>();
    let before = cpu()?;
    let slices = std::thread::scope(|scope| {
        let threads: Vec<_> = loads
            .iter_mut()
            .map(|(load, get)| scope.spawn(|| load.run(get, PIPELINE, KEYS, time).and_then(checked)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a load generator's thread panicked"))?)
            .collect::<Result<Vec<_>>>()
    })?;
    let used = cpu()?.saturating_sub(before).as_secs_f64();
    let commands = slices.iter().map(|slice| slice.commands).sum::<u64>() as f64;
    let seconds = slices.iter().map(|slice| slice.time.as_secs_f64()).fold(0.0, f64::max);
    Ok(Side { per_second: commands / seconds, micros: used * 1e6 / commands, cores: used / seconds })
}

impl Pair {
    /// For people.
    fn line(&self) -> String {
        let text = |side: &Side| {
            format!(
                "{:.0}k/s with {:.2} cores for the servers, {:.2} us each",
                side.per_second / 1e3,
                side.cores,
                side.micros
            )
        };
        format!("  CACHE.GET, one shard {}; three {}", text(&self.one), text(&self.all))
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let side = |side: &Side| {
            serde_json::json!({
                "per-second": side.per_second,
                "server-micros": side.micros,
                "server-cores": side.cores,
            })
        };
        serde_json::json!({ "one": side(&self.one), "three": side(&self.all) })
    }
}

/// Medians of the pairs' ratios.
pub fn figures(pairs: &[Pair]) -> Vec<Figure> {
    let figure = |metric, unit, of: fn(&Side) -> f64| {
        let median =
            |side: fn(&Pair) -> Side| Some(Spread::of(pairs.iter().map(|pair| of(&side(pair))))?.median);
        Some(Figure {
            name: "CACHE.GET, three shards / one".into(),
            metric,
            spread: Spread::of(pairs.iter().map(|pair| of(&pair.all) / of(&pair.one)))?,
            sides: median(|pair| pair.one).zip(median(|pair| pair.all)),
            unit,
            target: Target::None,
        })
    };
    [
        figure("throughput, P16", Unit::PerSecond, |side| side.per_second),
        figure("server CPU, P16", Unit::Micros, |side| side.micros),
        figure("server CPUs busy", Unit::Count, |side| side.cores),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throughput_cost_and_cores_are_compared() {
        let side = |per_second, cores| Side { per_second, micros: cores * 1e6 / per_second, cores };
        let pair = Pair { one: side(5e5, 0.5), all: side(1e6, 1.2) };
        let figures = figures(&[pair]);
        assert!(figures[0].line().contains("500.0k/s -> 1000.0k/s   2.000"), "{}", figures[0].line());
        assert!(figures[1].line().contains("1.000us -> 1.200us   1.200"), "{}", figures[1].line());
        assert!(figures[2].line().contains("0.500 -> 1.200   2.400"), "{}", figures[2].line());
        assert!(pair.line().contains("one shard 500k/s with 0.50 cores"), "{}", pair.line());
    }
}
