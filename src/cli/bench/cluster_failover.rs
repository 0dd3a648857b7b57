//! What a manual failover costs: answers that are wrong, and for how long the
//! shard takes no writes.
//!
//! ```text
//! writers   the origin has version n ─► CACHE.INVALIDATE, at any node ─► acknowledged: n
//! readers   acknowledged? ─► CACHE.FETCH ─► older than that: wrong
//!             elected: read the origin, be slow, CACHE.SET … LEASE
//! gap       CACHE.SET, and a native SET, one after the other on the shard
//! ```
//! A gap is the longest time between two acknowledged writes of one client, from
//! the command that asks for the failover until all nodes agree again. The
//! native write is beside it in the same failover. And rounds alternate with
//! those on a cluster without the module, on which the others do the same by SET
//! and GET: what the server takes when the module is not there.
//!
//! Clients go where MOVED sends them, and rest a little after each command. All
//! share the machine, so that a gap has the scheduler's part in it too; the
//! longest gap before the failover is shown beside it.

use super::cluster_client::{Answer, Follower};
use super::cluster_nodes::{Cluster, SHARDS};
use super::cluster_truth::{longest_gap, version, Truth};
use super::ratio::{Figure, Spread, Target, Unit};
use super::stampede_ways::Lease;
use super::summary::{grouped, time_text};
use crate::interrupt;
use anyhow::{anyhow, bail, Result};
use redis::{Cmd, Value};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const KEYS_A_SHARD: usize = 8;
/// Enough for one to be at each node, also at the one that is promoted.
const WRITERS: usize = 2 * SHARDS;
/// After each command of a client, and after each invalidation of a writer.
const REST: Duration = Duration::from_micros(200);
const CHANGE: Duration = Duration::from_millis(1);
/// How long the origin takes.
const ORIGIN: Duration = Duration::from_millis(1);
/// Before the failover, which is asked for after so long, and after it.
const CALM: Duration = Duration::from_millis(500);

/// No value older than what was acknowledged.
const WRONG: Target = Target::AtMost(0.0);
const GAP: Target = Target::AtMost(1.2);

/// With which commands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// The module's.
    Cache,
    /// The server's, on a cluster without the module.
    Plain,
}

/// What one failover did.
#[derive(Debug, Clone)]
pub struct Round {
    kind: Kind,
    /// Seconds without a CACHE.SET; without the module a SET.
    gap: f64,
    /// And without a native SET.
    native: f64,
    /// The longest without the first before the failover.
    before: f64,
    counts: Counts,
}

/// What clients counted.
#[derive(Debug, Clone, Default)]
struct Counts {
    reads: u64,
    wrong: u64,
    /// What the first of them was.
    first: Option<String>,
    changes: u64,
    partial: u64,
    /// Seconds until the slowest change was acknowledged.
    longest: f64,
}

/// A key, and what may be read of it.
struct Key {
    name: String,
    shard: usize,
    truth: Truth,
}

/// What the clients share.
struct Scene {
    kind: Kind,
    keys: Vec<Key>,
    primaries: Vec<SocketAddr>,
    nodes: Vec<SocketAddr>,
    start: Instant,
    stop: AtomicBool,
}

/// Hands a shard over to its replica while clients read and write.
pub fn round(kind: Kind, shard: usize, cluster: &mut Cluster) -> Result<Round> {
    let prefixes = (0..SHARDS).map(|shard| cluster.prefix(shard, "f")).collect::<Result<Vec<_>>>()?;
    let key = |(shard, prefix): (usize, &String), number| Key {
        name: format!("{prefix}{number}"),
        shard,
        truth: Truth::default(),
    };
    let scene = Scene {
        kind,
        keys: prefixes
            .iter()
            .enumerate()
            .flat_map(|of| (0..KEYS_A_SHARD).map(move |number| key(of, number)))
            .collect(),
        primaries: cluster.primaries()?,
        nodes: cluster.addresses(),
        start: Instant::now(),
        stop: AtomicBool::new(false),
    };
    // What an earlier round left is no version of this one.
    for shard in 0..SHARDS {
        cluster.primary(shard)?.query::<()>(&redis::cmd("FLUSHALL"))?;
    }
    let prefix = cluster.prefix(shard, "g")?;
    let set = |command: &str| {
        let mut set = redis::cmd(command);
        set.arg(format!("{prefix}{command}")).arg("v").arg("EX").arg(3600);
        set
    };
    let (first, native) = (set(if kind == Kind::Cache { "CACHE.SET" } else { "SET" }), set("SET"));
    let join = |outcome: std::thread::Result<Result<Counts>>| {
        outcome.map_err(|_| anyhow!("a client's thread panicked"))?
    };
    std::thread::scope(|scope| {
        let scene = &scene;
        let gaps = [&first, &native].map(|command| scope.spawn(move || scene.write(shard, command)));
        let readers = (0..SHARDS).map(|shard| scope.spawn(move || scene.read(shard)));
        let writers = (0..WRITERS).map(|writer| scope.spawn(move || scene.change(writer)));
        let clients: Vec<_> = readers.collect::<Vec<_>>().into_iter().chain(writers).collect();
        let window = handover(shard, cluster, scene.start);
        scene.stop.store(true, Relaxed);
        let mut counts = Counts::default();
        for client in clients {
            counts.add(&join(client.join())?);
        }
        let [acks, natives] = gaps.map(|gap| gap.join().map_err(|_| anyhow!("a client's thread panicked")));
        let (acks, natives, (begun, settled)) = (acks??, natives??, window?);
        if interrupt::asked() {
            bail!("stopped");
        }
        Ok(Round {
            kind,
            gap: longest_gap(&acks, begun, settled),
            native: longest_gap(&natives, begun, settled),
            before: longest_gap(&acks, begun.saturating_sub(CALM * 4 / 5), begun),
            counts,
        })
    })
}

/// From when to when.
fn handover(shard: usize, cluster: &mut Cluster, start: Instant) -> Result<(Duration, Duration)> {
    interrupt::sleep(CALM);
    let begun = start.elapsed();
    cluster.failover(shard)?;
    cluster.settle()?;
    let settled = start.elapsed();
    interrupt::sleep(CALM);
    Ok((begun, settled))
}

impl Scene {
    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed) && !interrupt::asked()
    }

    fn follower(&self, shard: usize) -> Result<Follower> {
        match self.primaries.get(shard) {
            Some(&address) => Follower::at(address),
            None => bail!("no such shard"),
        }
    }

    /// Writes to a shard all the time; when each was acknowledged.
    fn write(&self, shard: usize, command: &Cmd) -> Result<Vec<Duration>> {
        let mut follower = self.follower(shard)?;
        let mut acks = Vec::new();
        while self.goes_on() {
            if let Answer::Done(()) = follower.ask(command)? {
                acks.push(self.start.elapsed());
            }
            std::thread::sleep(REST);
        }
        Ok(acks)
    }

    /// Reads the keys of a shard in turn.
    fn read(&self, shard: usize) -> Result<Counts> {
        let mut follower = self.follower(shard)?;
        let mut counts = Counts::default();
        for key in self.keys.iter().filter(|key| key.shard == shard).cycle() {
            if !self.goes_on() {
                break;
            }
            let least = key.truth.acknowledged();
            let value = match self.kind {
                Kind::Cache => self.fetch(&mut follower, key)?,
                Kind::Plain => match follower.ask(redis::cmd("GET").arg(&key.name))? {
                    Answer::Done(value) => version(&value)?,
                    _ => None,
                },
            };
            counts.reads += u64::from(value.is_some());
            if let Some(version) = value.filter(|version| *version < least) {
                counts.wrong += 1;
                counts.first.get_or_insert_with(|| {
                    let at = time_text(self.start.elapsed());
                    format!("{} was {version} at {at}, {least} being acknowledged", key.name)
                });
            }
            std::thread::sleep(REST);
        }
        Ok(counts)
    }

    /// The version that was read; who is elected puts another there.
    fn fetch(&self, follower: &mut Follower, key: &Key) -> Result<Option<u64>> {
        let Answer::Done(reply) = follower.ask::<Value>(redis::cmd("CACHE.FETCH").arg(&key.name))? else {
            return Ok(None);
        };
        let lease = Lease::of(&reply)?;
        if let Some(token) = lease.token {
            let loaded = key.truth.origin();
            std::thread::sleep(ORIGIN);
            let mut set = redis::cmd("CACHE.SET");
            set.arg(&key.name)
                .arg(loaded)
                .arg("LEASE")
                .arg(token)
                .arg("EX")
                .arg(3600)
                .arg("TAGS")
                .arg(&key.name);
            while self.goes_on() && follower.ask::<Value>(&set)? == Answer::NotNow {
                std::thread::sleep(REST);
            }
        }
        version(&lease.value)
    }

    /// Changes the origin of some of the keys in turn, and says so, each time
    /// at another node.
    fn change(&self, writer: usize) -> Result<Counts> {
        let mut counts = Counts::default();
        let addresses = match self.kind {
            Kind::Cache => &self.nodes,
            Kind::Plain => &self.primaries,
        };
        let mut nodes = addresses.iter().map(|&at| Follower::at(at)).collect::<Result<Vec<_>>>()?;
        let keys = self.keys.iter().skip(writer).step_by(WRITERS).cycle();
        for (turn, key) in (writer..).zip(keys) {
            let Some(node) = (match self.kind {
                Kind::Cache => nodes.get_mut(turn % addresses.len()),
                Kind::Plain => nodes.get_mut(key.shard),
            }) else {
                bail!("no such node")
            };
            let new = key.truth.change();
            let command = match self.kind {
                Kind::Cache => redis::cmd("CACHE.INVALIDATE").arg("TAGS").arg(&key.name).clone(),
                Kind::Plain => redis::cmd("SET").arg(&key.name).arg(new).clone(),
            };
            let asked = Instant::now();
            loop {
                if !self.goes_on() {
                    return Ok(counts);
                }
                match node.ask::<Value>(&command)? {
                    Answer::Done(_) => break,
                    Answer::Partial => counts.partial += 1,
                    Answer::NotNow => std::thread::sleep(REST),
                }
            }
            key.truth.acknowledge(new);
            counts.changes += 1;
            counts.longest = counts.longest.max(asked.elapsed().as_secs_f64());
            std::thread::sleep(CHANGE);
        }
        Ok(counts)
    }
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.wrong += other.wrong;
        self.first = self.first.take().or_else(|| other.first.clone());
        self.changes += other.changes;
        self.partial += other.partial;
        self.longest = self.longest.max(other.longest);
    }
}

impl Round {
    /// For people.
    pub fn line(&self) -> String {
        let text = |seconds| Duration::try_from_secs_f64(seconds).map_or("never".into(), time_text);
        let (gap, native, before) = (text(self.gap), text(self.native), text(self.before));
        let Counts { reads, wrong, first, changes, partial, longest } = &self.counts;
        let first = first.as_ref().map(|first| format!(" ({first})")).unwrap_or_default();
        match self.kind {
            Kind::Plain => {
                format!("  a failover without the module: no SET for {gap} and {native} ({before} before)")
            }
            Kind::Cache => format!(
                "  a failover: no CACHE.SET for {gap}, no SET for {native} ({before} before); {} reads, {wrong} wrong{first}; {} invalidations, the slowest {}, {partial} times PARTIAL",
                grouped(*reads),
                grouped(*changes),
                text(*longest),
            ),
        }
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "module": self.kind == Kind::Cache,
            "gap": self.gap,
            "native-gap": self.native,
            "longest-before": self.before,
            "reads": self.counts.reads,
            "wrong": self.counts.wrong,
            "first-wrong": self.counts.first,
            "changes": self.counts.changes,
            "partial": self.counts.partial,
            "slowest-change": self.counts.longest,
        })
    }
}

/// Wrong answers of all rounds; gaps by medians.
pub fn figures(rounds: &[Round]) -> Vec<Figure> {
    let of = |kind| rounds.iter().filter(move |round: &&Round| round.kind == kind);
    let ours = || of(Kind::Cache);
    let median = |kind, what: fn(&Round) -> f64| Some(Spread::of(of(kind).map(what))?.median);
    let wrong: u64 = ours().map(|round| round.counts.wrong).sum();
    let single = |value: f64| Spread { median: value, min: value, max: value };
    let against = |name: &str, spread, a: Option<f64>| {
        Some(Figure {
            name: name.into(),
            metric: "no writes for",
            spread: spread?,
            sides: a.zip(median(Kind::Cache, |round| round.gap)),
            unit: Unit::Times,
            target: GAP,
        })
    };
    let same = Spread::of(ours().map(|round| round.gap / round.native));
    let plain = Spread::of(ours().zip(of(Kind::Plain)).map(|(ours, plain)| ours.gap / plain.gap));
    [
        ours().next().map(|_| Figure {
            name: "failover under readers and writers".into(),
            metric: "wrong answers",
            spread: single(wrong as f64),
            sides: None,
            unit: Unit::Count,
            target: WRONG,
        }),
        against("failover, CACHE.SET / SET beside it", same, median(Kind::Cache, |round| round.native)),
        against("the same / SET without the module", plain, median(Kind::Plain, |round| round.gap)),
        Spread::of(ours().map(|round| round.counts.longest)).map(|spread| Figure {
            name: "failover, slowest INVALIDATE".into(),
            metric: "until acknowledged",
            spread,
            sides: None,
            unit: Unit::Time,
            target: Target::None,
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_answer_of_all_rounds_misses_the_target() {
        let round = |kind, gap, wrong| Round {
            kind,
            gap,
            native: 0.1,
            before: 1e-3,
            counts: Counts { wrong, longest: 2.0 * gap, ..Counts::default() },
        };
        let rounds = [
            round(Kind::Cache, 0.1, 0),
            round(Kind::Plain, 0.05, 7),
            round(Kind::Cache, 0.11, 1),
            round(Kind::Cache, 0.09, 0),
        ];
        let figures = figures(&rounds);
        let lines: Vec<_> = figures.iter().map(Figure::line).collect();
        assert!(lines[0].ends_with("1                  <= 0      MISSED"), "{}", lines[0]);
        assert!(
            lines[1].contains("100.0 ms -> 100.0 ms   1.000") && lines[1].ends_with("reached"),
            "{}",
            lines[1]
        );
        assert!(
            lines[2].contains("50.0 ms -> 100.0 ms   2.000") && lines[2].ends_with("MISSED"),
            "{}",
            lines[2]
        );
        assert!(lines[3].contains("200.0 ms"), "{}", lines[3]);
    }
}
