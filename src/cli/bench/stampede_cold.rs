//! Many clients ask for a key that is not there, at once, and the origin takes
//! 200 ms: how often it is asked, how soon after its answer the last client has
//! the value, and what the server is asked meanwhile.
//!
//! A client counts as answered when it is done: with a lock it has let go of.
//! Commands are the server's count, without what scripts call. Those while
//! waiting are taken from 80 to 185 ms of the origin's 200, which is longer than
//! any client sleeps, when each has asked its first question: where the server
//! holds replies, it is looked first whether it holds all but one. Where a busy
//! machine comes too late for that, the round says nothing of them.

use super::ratio::{Figure, Spread, Target, Unit};
use super::server::Server;
use super::stampede_calls::Calls;
use super::stampede_crowd::{Crowd, Seen};
use super::stampede_ways::Way;
use super::summary::{grouped, time_text};
use anyhow::{anyhow, ensure, Result};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const ORIGIN: Duration = Duration::from_millis(200);
/// The part of it in which commands are counted.
const FROM: Duration = Duration::from_millis(80);
const UNTIL: Duration = Duration::from_millis(185);
const PATIENCE: Duration = Duration::from_secs(30);

const LOADS: Target = Target::AtMost(1.0);
const LAST: Target = Target::AtMost(30e-3);
const COMMANDS: Target = Target::AtMost(2.0);
const WAITING: Target = Target::AtMost(0.0);

/// What one round saw.
#[derive(Debug, Clone)]
pub struct Round {
    /// How they computed once.
    pub way: Way,
    /// How many asked.
    pub clients: u32,
    /// Readings of the origin.
    pub loads: u64,
    /// Seconds from its first answer until the last client was done; infinite
    /// if one never was.
    pub last: f64,
    /// Commands a client.
    pub commands: f64,
    /// Commands a second while all waited.
    pub waiting: Option<f64>,
}

/// Lets them ask for `key`, which nobody knows.
pub fn round(way: Way, clients: u32, key: &str, server: &mut Server) -> Result<Round> {
    let maker = way.prepare(server, key)?;
    let mut crowd = Crowd::connect(server.address(), clients as usize)?;
    let mut waiters: Vec<_> = (0..u64::from(clients)).map(|number| maker.client(number)).collect();
    let before = Calls::ask(server)?;
    let (seen, waiting) = std::thread::scope(|scope| {
        let (sender, asked) = mpsc::channel();
        let crowd = scope.spawn(|| {
            // It is of no matter to the crowd whether somebody listens.
            let told = move || {
                let _ = sender.send(Instant::now());
            };
            crowd.play(&mut waiters, ORIGIN, PATIENCE, told)
        });
        let waiting = asked.recv().ok().map(|since| watch(way, clients, since, server));
        let seen = crowd.join().map_err(|_| anyhow!("the thread of the clients panicked"))??;
        Ok::<_, anyhow::Error>((seen, waiting.transpose()?.flatten()))
    })?;
    ensure!(seen.loads > 0, "nobody asked the origin: the key was there");
    let sent = way.sent(&Calls::ask(server)?.since(&before));
    Ok(Round {
        way,
        clients,
        loads: seen.loads,
        last: last(&seen),
        commands: sent as f64 / f64::from(clients),
        waiting,
    })
}

/// Commands a second while all wait, and the origin has been asked `since`.
fn watch(way: Way, clients: u32, since: Instant, server: &mut Server) -> Result<Option<f64>> {
    let sleep_until = |time: Duration| std::thread::sleep(time.saturating_sub(since.elapsed()));
    sleep_until(FROM);
    while way.blocks() && server.blocked()? + 1 < u64::from(clients) {
        if since.elapsed() > UNTIL {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let (before, from) = (Calls::ask(server)?, since.elapsed());
    sleep_until(UNTIL);
    let (after, until) = (Calls::ask(server)?, since.elapsed());
    let time = until.saturating_sub(from);
    if until > ORIGIN || time < Duration::from_millis(10) {
        return Ok(None);
    }
    Ok(Some(after.since(&before).total() as f64 / time.as_secs_f64()))
}

/// Seconds between what was seen; infinite where the last is missing.
pub fn last(seen: &Seen) -> f64 {
    match (seen.filled, seen.last) {
        (Some(filled), Some(last)) => last.saturating_duration_since(filled).as_secs_f64(),
        _ => f64::INFINITY,
    }
}

impl Round {
    /// For people.
    pub fn line(&self) -> String {
        let last = Duration::try_from_secs_f64(self.last).map_or("never".into(), time_text);
        let waiting = match self.waiting {
            Some(waiting) => format!("{} a second while waiting", grouped(waiting as u64)),
            None => "the machine was too late to count those while waiting".into(),
        };
        format!(
            "  {}, {} clients: loads {}, the last {last} after the fill, {:.3} commands each, {waiting}",
            self.way.name(),
            grouped(u64::from(self.clients)),
            self.loads,
            self.commands,
        )
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "way": self.way.name(),
            "clients": self.clients,
            "loads": self.loads,
            "last": self.last,
            "commands": self.commands,
            "waiting": self.waiting,
        })
    }
}

/// The module's with targets, then the others'.
pub fn figures(rounds: &[Round], clients: u32) -> Vec<Figure> {
    let figure = |way: Way, metric, unit, target, of: fn(&Round) -> Option<f64>| {
        Some(Figure {
            name: format!("{} clients, {}", grouped(u64::from(clients)), way.name()),
            metric,
            spread: Spread::of(rounds.iter().filter(|round| round.way == way).filter_map(of))?,
            sides: None,
            unit,
            target: if way == Way::Fetch { target } else { Target::None },
        })
    };
    let of_way = |way| {
        [
            figure(way, "loads", Unit::Count, LOADS, |round| Some(round.loads as f64)),
            figure(way, "last after fill", Unit::Time, LAST, |round| Some(round.last)),
            figure(way, "commands a client", Unit::Count, COMMANDS, |round| Some(round.commands)),
            figure(way, "commands/s waiting", Unit::Count, WAITING, |round| round.waiting),
        ]
    };
    Way::ALL.into_iter().flat_map(of_way).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_the_module_s() {
        let round =
            |way, waiting| Round { way, clients: 1000, loads: 1, last: 0.02, commands: 1.001, waiting };
        let rounds = [
            round(Way::Fetch, Some(0.0)),
            round(Way::Fetch, None),
            Round { loads: 3, last: f64::INFINITY, ..round(Way::Spin, Some(61_000.0)) },
        ];
        let lines: Vec<_> = figures(&rounds, 1000).iter().map(Figure::line).collect();
        assert_eq!(lines.len(), 8);
        for (line, end) in lines.iter().zip([
            "<= 1      reached",
            "<= 30.0 ms reached",
            "<= 2      reached",
            "<= 0      reached",
        ]) {
            assert!(line.starts_with("1,000 clients, CACHE.FETCH") && line.ends_with(end), "{line}");
        }
        assert!(
            lines[2].contains(" 1.001 ") && lines[5].ends_with("never") && lines[7].ends_with("61000"),
            "{lines:?}"
        );
        assert!(rounds[1].line().ends_with("loads 1, the last 20.0 ms after the fill, 1.001 commands each, the machine was too late to count those while waiting"));
    }

    #[test]
    fn the_last_is_counted_from_the_origin_s_answer() {
        let now = Instant::now();
        let seen = Seen { loads: 1, filled: Some(now), last: Some(now + Duration::from_millis(7)) };
        assert!((last(&seen) - 7e-3).abs() < 1e-9);
        assert_eq!(last(&Seen { last: None, ..seen }), f64::INFINITY);
    }
}
