//! Very many clients wait for one key: how long after the fill the last of
//! them is answered, and whether anybody else notices. Beside them a client
//! sends one PING after the other, first while all wait and nothing happens,
//! then from the fill until the last is answered.
//!
//! Client, waiters and server share the machine: on few cores the longest PING
//! is also the scheduler's. That is why the idle one stands beside it, and the
//! server's CPU time beside the last answer: on a free core they are about the
//! same.

use super::probe::Probe;
use super::ratio::{Figure, Spread, Target, Unit};
use super::server::Server;
use super::stampede_crowd::{Client, Crowd, Event, Step};
use super::stampede_ways::Way;
use super::summary::{grouped, time_text};
use crate::interrupt;
use anyhow::{anyhow, bail, ensure, Context, Result};
use std::time::{Duration, Instant};

const IDLE: Duration = Duration::from_millis(250);
/// Until all wait, and until all are answered.
const PATIENCE: Duration = Duration::from_secs(20);
/// Room beside the waiters.
const OTHERS: u32 = 500;

const LAST: Target = Target::AtMost(250e-3);
const LONGEST: Target = Target::AtMost(10e-3);

/// What one round saw, in seconds.
#[derive(Debug, Clone)]
pub struct Round {
    /// How they waited.
    pub way: Way,
    /// How many.
    pub waiters: u32,
    /// Until all waited.
    pub gathered: f64,
    /// What the one who filled waited for its reply.
    pub fill: f64,
    /// From when it was sent until the last was answered; infinite if one never was.
    pub last: f64,
    /// The server's CPU time from then to then.
    pub cpu: f64,
    /// The longest PING while all waited.
    pub idle: f64,
    /// The longest PING from the fill on.
    pub longest: f64,
    /// PINGs of that time.
    pub pings: u64,
}

/// Lets a server take so many clients, and hold the replies of all.
pub fn prepare(server: &mut Server, waiters: u32, module: bool) -> Result<()> {
    let mut set = |name: &str, number: u32| {
        server
            .query::<()>(redis::cmd("CONFIG").arg("SET").arg(name).arg(number))
            .with_context(|| format!("{name} {number}"))
    };
    set("maxclients", waiters + OTHERS)?;
    if module {
        set("cacheflow.max-waiters", 2 * waiters)?;
        set("cacheflow.max-waiters-per-key", 2 * waiters)?;
    }
    Ok(())
}

/// Lets them wait for `key`, which nobody knows, and fills it.
pub fn round(way: Way, waiters: u32, key: &str, server: &mut Server) -> Result<Round> {
    let mut ping = Probe::of_pings(server.address())?;
    let maker = way.prepare(server, key)?;
    let mut holder = maker.client(u64::from(waiters));
    ensure!(speak(server, &mut holder, Event::Begin)? == Step::Origin, "the key is there already");
    let mut crowd = Crowd::connect(server.address(), waiters as usize)?;
    let mut clients: Vec<_> = (0..u64::from(waiters)).map(|number| maker.client(number)).collect();
    let start = Instant::now();
    std::thread::scope(|scope| {
        let crowd = scope.spawn(|| crowd.play(&mut clients, Duration::ZERO, 2 * PATIENCE, || ()));
        while server.blocked()? < u64::from(waiters) {
            // If it ended, it says why, below.
            if crowd.is_finished() {
                break;
            }
            ensure!(start.elapsed() < PATIENCE, "{} of {waiters} clients wait", server.blocked()?);
            std::thread::sleep(Duration::from_millis(20));
        }
        let gathered = start.elapsed().as_secs_f64();
        let (_, idle) = ping.during(|| {
            interrupt::sleep(IDLE);
            Ok(())
        })?;
        let used = server.cpu()?;
        let ((filled, fill, seen), wake) = ping.during(|| {
            let filled = Instant::now();
            ensure!(speak(server, &mut holder, Event::Loaded)? == Step::Done, "the fill did not end");
            let fill = filled.elapsed().as_secs_f64();
            let seen = crowd.join().map_err(|_| anyhow!("the thread of the waiters panicked"))??;
            Ok((filled, fill, seen))
        })?;
        let used = server.cpu()?.saturating_sub(used);
        ensure!(seen.loads == 0, "{} of those who waited were to compute", seen.loads);
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        Ok(Round {
            way,
            waiters,
            gathered,
            fill,
            last: seen.last.map_or(f64::INFINITY, |last| last.duration_since(filled).as_secs_f64()),
            cpu: used.as_secs_f64(),
            idle: seconds(idle.max()),
            longest: seconds(wake.max()),
            pings: wake.len(),
        })
    })
}

/// A client on the control connection, until it does something else than ask.
fn speak(server: &mut Server, client: &mut impl Client, event: Event) -> Result<Step> {
    let mut step = client.next(event)?;
    while let Step::Ask(command) = step {
        if interrupt::asked() {
            bail!("stopped");
        }
        step = client.next(Event::Reply(server.raw(&command)?))?;
    }
    Ok(step)
}

impl Round {
    /// For people.
    pub fn line(&self) -> String {
        let text = |seconds| Duration::try_from_secs_f64(seconds).map_or("never".into(), time_text);
        format!(
            "  {}, {} waiters, all there after {}: fill answered after {}, the last of them after {}, server CPU {}; longest PING {} -> {}, {} PINGs",
            self.way.name(),
            grouped(u64::from(self.waiters)),
            text(self.gathered),
            text(self.fill),
            text(self.last),
            text(self.cpu),
            text(self.idle),
            text(self.longest),
            grouped(self.pings),
        )
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "way": self.way.name(),
            "waiters": self.waiters,
            "gathered": self.gathered,
            "fill": self.fill,
            "last": self.last,
            "cpu": self.cpu,
            "idle-longest-ping": self.idle,
            "longest-ping": self.longest,
            "pings": self.pings,
        })
    }
}

/// The module's with targets, then the other's.
pub fn figures(rounds: &[Round], waiters: u32) -> Vec<Figure> {
    let median = |way: Way, of: fn(&Round) -> f64| {
        Some(Spread::of(rounds.iter().filter(|round| round.way == way).map(of))?.median)
    };
    let figure = |way: Way, metric, target, of: fn(&Round) -> f64, idle: Option<fn(&Round) -> f64>| {
        let spread = Spread::of(rounds.iter().filter(|round| round.way == way).map(of))?;
        Some(Figure {
            name: format!("{} waiters, {}", grouped(u64::from(waiters)), way.name()),
            metric,
            spread,
            sides: idle.and_then(|idle| Some((median(way, idle)?, spread.median))),
            unit: Unit::Time,
            target: if way == Way::Fetch { target } else { Target::None },
        })
    };
    let of_way = |way| {
        [
            figure(way, "last after fill", LAST, |round| round.last, None),
            figure(way, "server CPU", Target::None, |round| round.cpu, None),
            figure(way, "longest PING", LONGEST, |round| round.longest, Some(|round| round.idle)),
        ]
    };
    Way::ALL.into_iter().filter(|way| way.blocks()).flat_map(of_way).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_show_the_idle_ping_beside_the_other() {
        let round = |way, last, longest| Round {
            way,
            waiters: 10_000,
            gathered: 1.0,
            fill: 1e-3,
            last,
            cpu: 0.15,
            idle: 2e-3,
            longest,
            pings: 900,
        };
        let rounds = [
            round(Way::Fetch, 0.1, 4e-3),
            round(Way::Fetch, 0.3, 6e-3),
            round(Way::Fetch, 0.2, 12e-3),
            round(Way::List, f64::INFINITY, 0.1),
        ];
        let lines: Vec<_> = figures(&rounds, 10_000).iter().map(Figure::line).collect();
        assert_eq!(lines.len(), 6);
        assert!(lines[0].contains(" 200.0 ms 100.0 ms-300.0 ms"), "{}", lines[0]);
        assert!(lines[0].ends_with("<= 250.0 ms reached"), "{}", lines[0]);
        assert!(lines[2].contains("2.0 ms -> 6.0 ms") && lines[2].ends_with("reached"), "{}", lines[2]);
        assert!(lines[3].ends_with("never"), "{}", lines[3]);
        assert!(rounds[3]
            .line()
            .contains("the last of them after never, server CPU 150.0 ms; longest PING 2.0 ms -> 100.0 ms"));
    }
}
