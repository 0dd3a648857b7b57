//! How long a caller of CACHE.INVALIDATE waits until all primaries have
//! acknowledged: one caller, and many at once, without waiting for replicas and
//! with one replica of each primary having it too.
//!
//! Each caller has a tag of its own with entries on all shards, which it writes
//! anew before it asks, and asks another primary each time. What is measured is
//! the one command. Many callers keep a small machine busy with their writes:
//! then it is the machine's scheduler that is measured, hence no target there.

use super::cluster_client::connect;
use super::cluster_nodes::{Cluster, SHARDS};
use super::ratio::{Figure, Spread, Target, Unit};
use super::summary::{grouped, time_text};
use crate::interrupt;
use anyhow::{anyhow, bail, ensure, Context, Result};
use hdrhistogram::Histogram;
use redis::ConnectionLike;
use std::sync::Barrier;
use std::time::{Duration, Instant};

const P99: Target = Target::AtMost(5e-3);
const WARM_UP: Duration = Duration::from_millis(200);

/// How it is called.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Variant {
    /// How many callers at once.
    pub clients: u32,
    /// `cacheflow.invalidate-min-replicas`.
    pub replicas: u32,
}

/// What callers saw, in seconds.
#[derive(Debug, Clone)]
pub struct Round {
    variant: Variant,
    count: u64,
    p50: f64,
    p99: f64,
    max: f64,
}

/// Measures for so long, with a tag of so many entries for each caller.
pub fn round(variant: Variant, entries: u32, time: Duration, cluster: &mut Cluster) -> Result<Round> {
    cluster.set("cacheflow.invalidate-min-replicas", variant.replicas)?;
    let mut callers = (0..variant.clients)
        .map(|number| Caller::new(number, entries, cluster))
        .collect::<Result<Vec<_>>>()?;
    let ready = Barrier::new(callers.len());
    let mut all = Histogram::new_with_bounds(1, 600_000_000_000, 3).context("no histogram")?;
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            callers.iter_mut().map(|caller| scope.spawn(|| caller.run(time, &ready))).collect();
        for thread in threads {
            all.add(thread.join().map_err(|_| anyhow!("a caller's thread panicked"))??)?;
        }
        anyhow::Ok(())
    })?;
    if interrupt::asked() {
        bail!("stopped");
    }
    let seconds = |nanos: u64| nanos as f64 / 1e9;
    Ok(Round {
        variant,
        count: all.len(),
        p50: seconds(all.value_at_quantile(0.5)),
        p99: seconds(all.value_at_quantile(0.99)),
        max: seconds(all.max()),
    })
}

struct Caller {
    /// To each shard's primary.
    connections: Vec<redis::Connection>,
    /// Writes what each shard has of the entries, and how many these are.
    fills: Vec<(Vec<u8>, usize)>,
    invalidate: Vec<u8>,
    entries: u32,
}

impl Caller {
    fn new(number: u32, entries: u32, cluster: &Cluster) -> Result<Self> {
        let tag = format!("bench:tag:{number}");
        let mut fills = vec![(Vec::new(), 0); SHARDS];
        for (entry, shard) in (0..entries).zip((0..SHARDS).cycle()) {
            let (bytes, count) = fills.get_mut(shard).context("no such shard")?;
            let key = format!("{}{number}:{entry}", cluster.prefix(shard, "i")?);
            let mut command = redis::cmd("CACHE.SET");
            command.arg(key).arg(&[b'v'; 100]).arg("EX").arg(3600).arg("TAGS").arg(&tag);
            bytes.extend(command.get_packed_command());
            *count += 1;
        }
        let connections = cluster.primaries()?.into_iter().map(connect).collect::<Result<_>>()?;
        let invalidate = redis::cmd("CACHE.INVALIDATE").arg("TAGS").arg(&tag).get_packed_command();
        Ok(Self { connections, fills, invalidate, entries })
    }

    /// How long each invalidation took, in nanoseconds.
    fn run(&mut self, time: Duration, ready: &Barrier) -> Result<Histogram<u64>> {
        let mut times = Histogram::new_with_bounds(1, 600_000_000_000, 3).context("no histogram")?;
        ready.wait();
        let start = Instant::now();
        for turn in (0..SHARDS).cycle() {
            let began = start.elapsed();
            if began > WARM_UP + time || interrupt::asked() {
                break;
            }
            for (connection, (bytes, count)) in self.connections.iter_mut().zip(&self.fills) {
                if *count > 0 {
                    for reply in connection.req_packed_commands(bytes, 0, *count)? {
                        reply.extract_error().context("an entry is not stored")?;
                    }
                }
            }
            let connection = self.connections.get_mut(turn).context("no such shard")?;
            let asked = Instant::now();
            let reply = connection.req_packed_command(&self.invalidate)?;
            let took = asked.elapsed();
            let hits: u32 = redis::from_owned_redis_value(reply.extract_error()?)?;
            ensure!(hits == self.entries, "an invalidation hit {hits} of {} entries", self.entries);
            if began > WARM_UP {
                times.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
        }
        Ok(times)
    }
}

impl Variant {
    fn name(self) -> String {
        let clients = match self.clients {
            1 => "1 client".to_string(),
            clients => format!("{clients} clients"),
        };
        match self.replicas {
            0 => format!("INVALIDATE, 3 primaries, {clients}"),
            _ => format!("the same, min-replicas 1, {clients}"),
        }
    }
}

impl Round {
    /// For people.
    pub fn line(&self) -> String {
        let text = |seconds| Duration::try_from_secs_f64(seconds).map_or("?".into(), time_text);
        format!(
            "  {}: p50 {}, p99 {}, longest {}, {} of them",
            self.variant.name(),
            text(self.p50),
            text(self.p99),
            text(self.max),
            grouped(self.count),
        )
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "clients": self.variant.clients,
            "min-replicas": self.variant.replicas,
            "invalidations": self.count,
            "p50": self.p50,
            "p99": self.p99,
            "longest": self.max,
        })
    }
}

/// Medians of the rounds; the target is one caller's.
pub fn figures(rounds: &[Round], variants: &[Variant]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for &variant in variants {
        let of = |metric, of: fn(&Round) -> f64, target| {
            let ours = rounds.iter().filter(|round| round.variant == variant);
            let spread = Spread::of(ours.map(of))?;
            Some(Figure { name: variant.name(), metric, spread, sides: None, unit: Unit::Time, target })
        };
        let p99 = if variant == (Variant { clients: 1, replicas: 0 }) { P99 } else { Target::None };
        figures.extend(of("p50", |round| round.p50, Target::None));
        figures.extend(of("p99", |round| round.p99, p99));
        figures.extend(of("longest", |round| round.max, Target::None));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_has_a_target() {
        let round = |clients, replicas, p99| Round {
            variant: Variant { clients, replicas },
            count: 1000,
            p50: p99 / 2.0,
            p99,
            max: 2.0 * p99,
        };
        let rounds = [round(1, 0, 1e-3), round(1, 0, 6e-3), round(1, 0, 2e-3), round(20, 1, 9e-3)];
        let variants = [Variant { clients: 1, replicas: 0 }, Variant { clients: 20, replicas: 1 }];
        let figures = figures(&rounds, &variants);
        assert_eq!(figures.len(), 6);
        let line = figures[1].line();
        assert!(line.starts_with("INVALIDATE, 3 primaries, 1 client "), "{line}");
        assert!(line.ends_with("2.0 ms   1.0 ms-6.0 ms  <= 5.0 ms reached"), "{line}");
        assert!(figures[4].line().ends_with("9.0 ms"), "{}", figures[4].line());
    }
}
