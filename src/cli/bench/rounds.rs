//! What rounds of an invalidation saw, and the figures that come of them.

use super::methods::Method;
use super::ratio::{Figure, Spread, Target, Unit};
use super::summary::{grouped, time_text};
use hdrhistogram::Histogram;
use std::time::Duration;

/// Targets of CACHE.INVALIDATE.
const SERVER_TIME: Target = Target::AtMost(1e-3);
const TAIL: Target = Target::AtMost(2.0);
const LONGEST: Target = Target::AtMost(5e-3);
const MEMORY: Target = Target::AtMost(10.0);

/// Under so many GETs a 99.9th percentile is the maximum by another name.
const ENOUGH: u64 = 1000;

/// What one round saw. Times are seconds, infinite for what never happened.
#[derive(Debug, Clone)]
pub struct Round {
    /// How the entries were forgotten.
    pub method: Method,
    /// How many the tag had.
    pub entries: u32,
    /// The one command, by the server's clock, where there is one.
    pub server_time: Option<f64>,
    /// What the module says of its longest slice, if it says anything.
    pub longest_slice: Option<f64>,
    /// Until no entry was there for a reader.
    pub done: f64,
    /// Until no key was.
    pub keys_gone: f64,
    /// Until the memory was back.
    pub memory_back: f64,
    /// Of what the entries took, the part that was not back at last.
    pub held: f64,
    /// What a client saw before.
    pub idle: Gets,
    /// And from the invalidation until memory was back.
    pub sweep: Gets,
}

/// One of its measures.
type Measure = fn(&Round) -> f64;

/// What a client saw.
#[derive(Debug, Clone, Copy)]
pub struct Gets {
    /// So many.
    pub count: u64,
    /// The 99.9th percentile in seconds.
    pub p999: f64,
    /// The maximum.
    pub longest: f64,
}

impl Gets {
    /// Of a client's times in nanoseconds.
    pub fn of(times: &Histogram<u64>) -> Self {
        let seconds = |nanos: u64| nanos as f64 / 1e9;
        Self {
            count: times.len(),
            p999: seconds(times.value_at_quantile(0.999)),
            longest: seconds(times.max()),
        }
    }

    fn json(self) -> serde_json::Value {
        serde_json::json!({ "gets": self.count, "p99.9": self.p999, "longest": self.longest })
    }
}

impl Round {
    /// For people.
    pub fn line(&self) -> String {
        let text = |seconds| Duration::try_from_secs_f64(seconds).map_or("never".into(), time_text);
        let server = match self.server_time {
            Some(time) => format!("server {}, ", text(time)),
            None => String::new(),
        };
        let slice = match self.longest_slice {
            Some(time) => format!("; longest slice {}", text(time)),
            None => String::new(),
        };
        let held = match self.memory_back.is_infinite() {
            true => format!(" ({:.1} % is held)", 100.0 * self.held),
            false => String::new(),
        };
        format!(
            "  {}, {}: {server}done {}, keys gone {}, memory back {}{held}; GET's p99.9 {} -> {}, longest {} -> {}, {} GETs{slice}",
            self.method.name(),
            grouped(u64::from(self.entries)),
            text(self.done),
            text(self.keys_gone),
            text(self.memory_back),
            text(self.idle.p999),
            text(self.sweep.p999),
            text(self.idle.longest),
            text(self.sweep.longest),
            grouped(self.sweep.count),
        )
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "method": self.method.name(),
            "entries": self.entries,
            "server-time": self.server_time,
            "longest-slice": self.longest_slice,
            "done": self.done,
            "keys-gone": self.keys_gone,
            "memory-back": self.memory_back,
            "held": self.held,
            "idle": self.idle.json(),
            "sweep": self.sweep.json(),
        })
    }
}

/// The figures of each size: CACHE.INVALIDATE's with targets, then the other
/// methods' against them, or for themselves.
pub fn figures(rounds: &[Round], sizes: &[u32]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for &entries in sizes {
        let of = |method| -> Vec<&Round> {
            rounds.iter().filter(|round| round.method == method && round.entries == entries).collect()
        };
        let ours = of(Method::Invalidate);
        figures.extend(with_targets(&ours, entries));
        for method in [Method::Sets, Method::Lua] {
            figures.extend(compared(&of(method), &ours, method, entries));
        }
    }
    figures
}

fn median(rounds: &[&Round], of: impl Fn(&Round) -> f64) -> Option<f64> {
    Some(Spread::of(rounds.iter().map(|round| of(round)))?.median)
}

/// A time for itself, and the same of the idle server, if that is a measure.
fn time(
    name: String,
    metric: &'static str,
    rounds: &[&Round],
    target: Target,
    of: impl Fn(&Round) -> f64,
    idle: Option<Measure>,
) -> Option<Figure> {
    let spread = Spread::of(rounds.iter().map(|round| of(round)))?;
    let sides = idle.and_then(|idle| Some((median(rounds, idle)?, spread.median)));
    Some(Figure { name, metric, spread, sides, unit: Unit::Time, target })
}

fn tail(name: String, rounds: &[&Round], target: Target) -> Option<Figure> {
    let enough = rounds.iter().all(|round| round.sweep.count >= ENOUGH);
    Some(Figure {
        name,
        metric: "GET p99.9 / idle",
        spread: Spread::of(rounds.iter().map(|round| round.sweep.p999 / round.idle.p999))?,
        sides: median(rounds, |round| round.idle.p999).zip(median(rounds, |round| round.sweep.p999)),
        unit: Unit::Times,
        target: if enough { target } else { Target::None },
    })
}

fn with_targets(ours: &[&Round], entries: u32) -> Vec<Figure> {
    let name = || format!("CACHE.INVALIDATE, {} entries", size(entries));
    let server = |round: &Round| round.server_time.unwrap_or(f64::INFINITY);
    [
        time(name(), "server time", ours, SERVER_TIME, server, None),
        time(name(), "round trip", ours, Target::None, |round| round.done, None),
        tail(name(), ours, TAIL),
        time(
            name(),
            "longest GET",
            ours,
            LONGEST,
            |round| round.sweep.longest,
            Some(|round| round.idle.longest),
        ),
        time(name(), "memory back", ours, MEMORY, |round| round.memory_back, None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn compared(theirs: &[&Round], ours: &[&Round], method: Method, entries: u32) -> Vec<Figure> {
    let size = size(entries);
    let measures: [(&'static str, Measure); 3] = [
        ("until done", |round| round.done),
        ("GET p99.9", |round| round.sweep.p999),
        ("longest GET", |round| round.sweep.longest),
    ];
    let figure = |(metric, of): (&'static str, Measure)| {
        let Some(our) = median(ours, of) else {
            return time(
                format!("{}, {size} entries", method.name()),
                metric,
                theirs,
                Target::None,
                of,
                None,
            );
        };
        Some(Figure {
            name: format!("{} / CACHE.INVALIDATE, {size}", method.name()),
            metric,
            spread: Spread::of(theirs.iter().map(|round| of(round) / our))?,
            sides: Some((our, median(theirs, of)?)),
            unit: Unit::Times,
            target: Target::None,
        })
    };
    measures.into_iter().filter_map(figure).collect()
}

/// `1k`, `100k`, `1M`, and what is not round as it is.
fn size(entries: u32) -> String {
    match entries {
        0 => "0".into(),
        n if n % 1_000_000 == 0 => format!("{}M", n / 1_000_000),
        n if n % 1000 == 0 => format!("{}k", n / 1000),
        n => n.to_string(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn round(method: Method, entries: u32, done: f64) -> Round {
        let gets = |p999| Gets { count: 5000, p999, longest: 10.0 * p999 };
        Round {
            method,
            entries,
            server_time: (method == Method::Invalidate).then_some(done / 2.0),
            longest_slice: Some(1e-4),
            done,
            keys_gone: 2.0,
            memory_back: 2.5,
            held: 0.01,
            idle: gets(1e-4),
            sweep: gets(done / 10.0),
        }
    }

    fn line(figures: &[Figure], name: &str, metric: &str) -> String {
        figures.iter().find(|figure| figure.name == name && figure.metric == metric).unwrap().line()
    }

    #[test]
    fn figures_are_medians_with_targets_and_ratios_to_ours() {
        let rounds: Vec<_> = [1e-3, 4e-3, 1.5e-3]
            .map(|done| round(Method::Invalidate, 1000, done))
            .into_iter()
            .chain([round(Method::Lua, 1000, 3.0)])
            .collect();
        let figures = figures(&rounds, &[1000]);
        let ours = "CACHE.INVALIDATE, 1k entries";
        assert!(line(&figures, ours, "server time").ends_with("750 us   500 us-2.0 ms  <= 1.0 ms reached"));
        let tail = line(&figures, ours, "GET p99.9 / idle");
        assert!(tail.contains("100 us -> 150 us   1.500") && tail.ends_with("<= 2.00   reached"), "{tail}");
        let longest = line(&figures, ours, "longest GET");
        assert!(longest.contains("1.0 ms -> 1.5 ms") && longest.ends_with("reached"), "{longest}");
        let lua = line(&figures, "Lua script / CACHE.INVALIDATE, 1k", "until done");
        assert!(lua.contains("1.5 ms -> 3.0 s    2000"), "{lua}");
        assert_eq!(figures.len(), 5 + 3);
    }

    #[test]
    fn without_ours_the_others_stand_for_themselves() {
        let figures = figures(&[round(Method::Sets, 7, 3.0)], &[7, 8]);
        assert_eq!(figures.len(), 3);
        assert!(line(&figures, "sets and DEL, 7 entries", "until done").ends_with("3.0 s"));
    }

    #[test]
    fn a_few_gets_have_no_tail_to_judge() {
        let mut few = round(Method::Invalidate, 10, 1e-3);
        few.sweep.count = ENOUGH - 1;
        few.memory_back = f64::INFINITY;
        let figures = figures(&[few.clone()], &[10]);
        let ours = "CACHE.INVALIDATE, 10 entries";
        assert!(!line(&figures, ours, "GET p99.9 / idle").contains("<="));
        assert!(line(&figures, ours, "memory back").ends_with("MISSED"));
        let line = few.line();
        assert!(line.contains("memory back never (1.0 % is held)"), "{line}");
        assert!(line.ends_with("999 GETs; longest slice 100 us"), "{line}");
    }

    #[test]
    fn sizes_are_short_where_they_are_round() {
        assert_eq!([7, 1000, 1500, 100_000, 2_000_000].map(size), ["7", "1k", "1500", "100k", "2M"]);
    }
}
