//! What a series of pairs says, and how it is shown.

use super::summary::time_text;
use anyhow::{Context, Result};
use std::path::Path;
use std::time::Duration;

/// The middle of a series, and how far it spreads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// Half lie below.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of groups of a series: the median of all, and the lowest and highest of
    /// the groups' own medians. Single values of a noisy machine lie anywhere;
    /// how far groups agree is how far the median can be trusted.
    pub fn over(groups: &[Vec<f64>]) -> Option<Self> {
        let all = Self::of(groups.iter().flatten().copied())?;
        let medians =
            Self::of(groups.iter().filter_map(|group| Some(Self::of(group.iter().copied())?.median)))?;
        Some(Self { median: all.median, ..medians })
    }

    /// Of a series that is not empty.
    pub fn of(series: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = series.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let half = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            1 => sorted[half],
            _ => (sorted[half - 1] + sorted[half]) / 2.0,
        };
        Some(Self { median, min, max })
    }
}

/// What a figure should reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// This much or more.
    AtLeast(f64),
    /// This much or less.
    AtMost(f64),
    /// From the one to the other.
    Between(f64, f64),
    /// Shown for itself.
    None,
}

impl Target {
    /// Whether a figure reaches it, if there is anything to reach.
    pub fn reached(self, figure: f64) -> Option<bool> {
        match self {
            Self::AtLeast(target) => Some(figure >= target),
            Self::AtMost(target) => Some(figure <= target),
            Self::Between(low, high) => Some((low..=high).contains(&figure)),
            Self::None => None,
        }
    }
}

/// A figure of the report.
pub struct Figure {
    /// What was compared.
    pub name: String,
    /// What was measured of it.
    pub metric: &'static str,
    /// The figure: a ratio B/A by pairs, a difference in bytes, or a time.
    pub spread: Spread,
    /// Medians of the measure itself, A and B, where two are compared.
    pub sides: Option<(f64, f64)>,
    /// How `sides` and `spread` are shown.
    pub unit: Unit,
    /// What it should reach.
    pub target: Target,
}

/// Of which kind a figure is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unit {
    /// Sides in commands a second, figure their ratio.
    PerSecond,
    /// Sides in microseconds, figure their ratio.
    Micros,
    /// Sides in bytes, figure their difference.
    Bytes,
    /// Sides in bytes, figure their ratio.
    BytesRatio,
    /// Sides in seconds, figure their ratio.
    Times,
    /// Sides in seconds, figure in seconds: the time itself. Infinite: it never was.
    Time,
    /// Sides and figure in numbers of something.
    Count,
    /// Sides in parts of all that was asked for, figure their ratio.
    Misses,
}

impl Figure {
    /// The line under which figures stand.
    pub fn heading() -> String {
        format!(
            "{:<40} {:<18} {:>20} {:>7} {:>15}  {:<9} {}",
            "B against A", "measure", "A -> B", "B/A", "min-max", "target", ""
        )
    }

    /// One line.
    pub fn line(&self) -> String {
        let number = |value: f64| match self.unit {
            Unit::Bytes => format!("{value:+.1}"),
            Unit::Time => time(value),
            Unit::Count => count(value),
            _ if value >= 1e3 => format!("{value:.0}"),
            _ => format!("{value:.3}"),
        };
        let side = |value: f64| match self.unit {
            Unit::PerSecond => format!("{:.1}k/s", value / 1e3),
            Unit::Micros => format!("{value:.3}us"),
            Unit::Bytes | Unit::BytesRatio => format!("{value:.1}"),
            Unit::Times | Unit::Time => time(value),
            Unit::Count => count(value),
            Unit::Misses => format!("{value:.3}"),
        };
        let target = match self.target {
            Target::AtLeast(target) => format!(">= {target:.2}"),
            Target::AtMost(target) if self.unit == Unit::Bytes => format!("<= +{target:.0}"),
            Target::AtMost(target) if self.unit == Unit::Time => format!("<= {}", time(target)),
            Target::AtMost(target) if self.unit == Unit::Count => format!("<= {}", count(target)),
            Target::AtMost(target) => format!("<= {target:.2}"),
            Target::Between(low, high) => format!("{low:.2}-{high:.2}"),
            Target::None => String::new(),
        };
        let range = match self.spread.min == self.spread.max {
            true => String::new(),
            false => format!("{}-{}", number(self.spread.min), number(self.spread.max)),
        };
        let verdict = match self.target.reached(self.spread.median) {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "",
        };
        let sides = self.sides.map(|(a, b)| format!("{} -> {}", side(a), side(b))).unwrap_or_default();
        format!(
            "{:<40} {:<18} {sides:>20} {:>7} {range:>15}  {target:<9} {verdict}",
            self.name,
            self.metric,
            number(self.spread.median),
        )
        .trim_end()
        .to_string()
    }

    /// The same for programs.
    pub fn json(&self) -> serde_json::Value {
        let target = match self.target {
            Target::AtLeast(target) => serde_json::json!({ "at-least": target }),
            Target::AtMost(target) => serde_json::json!({ "at-most": target }),
            Target::Between(low, high) => serde_json::json!({ "at-least": low, "at-most": high }),
            Target::None => serde_json::Value::Null,
        };
        serde_json::json!({
            "name": self.name,
            "metric": self.metric,
            "a": self.sides.map(|sides| sides.0),
            "b": self.sides.map(|sides| sides.1),
            "median": self.spread.median,
            "min": self.spread.min,
            "max": self.spread.max,
            "target": target,
            "reached": self.target.reached(self.spread.median),
        })
    }
}

/// How many targets were reached, of how many, as a sentence.
pub fn verdict(figures: &[Figure]) -> String {
    let verdicts: Vec<_> =
        figures.iter().filter_map(|figure| figure.target.reached(figure.spread.median)).collect();
    format!("{} of {} targets reached", verdicts.iter().filter(|reached| **reached).count(), verdicts.len())
}

/// Prints figures with their heading and the verdict, and writes them to a file
/// if one is named.
pub fn conclude(figures: &[Figure], measured: serde_json::Value, path: Option<&Path>) -> Result<()> {
    println!("{}", Figure::heading());
    for figure in figures {
        println!("{}", figure.line());
    }
    println!("{}", verdict(figures));
    path.map_or(Ok(()), |path| write(path, measured, figures))
}

/// Writes figures, and what they were measured with, for programs.
pub fn write(path: &Path, measured: serde_json::Value, figures: &[Figure]) -> Result<()> {
    let mut document = measured;
    document["figures"] = figures.iter().map(Figure::json).collect();
    std::fs::write(path, format!("{document:#}\n"))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn time(seconds: f64) -> String {
    if seconds.is_infinite() {
        return "never".into();
    }
    time_text(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// Whole where it is, or large.
fn count(number: f64) -> String {
    match number {
        n if n.fract() == 0.0 || n >= 1e3 => format!("{n:.0}"),
        n => format!("{n:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_odd_and_even_series() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).map(|s| s.median), Some(2.5));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn groups_spread_by_their_medians() {
        let groups = [vec![1.0, 9.0, 2.0], vec![3.0], vec![]];
        assert_eq!(Spread::over(&groups), Some(Spread { median: 2.5, min: 2.0, max: 3.0 }));
        assert_eq!(Spread::over(&[]), None);
    }

    #[test]
    fn targets_are_reached_on_their_side() {
        assert_eq!(Target::AtLeast(0.98).reached(0.98), Some(true));
        assert_eq!(Target::AtLeast(0.98).reached(0.97), Some(false));
        assert_eq!(Target::AtMost(80.0).reached(81.0), Some(false));
        assert_eq!(Target::Between(0.95, 1.05).reached(0.95), Some(true));
        assert_eq!(Target::Between(0.95, 1.05).reached(1.06), Some(false));
        assert_eq!(Target::None.reached(1.0), None);
    }

    #[test]
    fn a_line_shows_figure_target_and_verdict() {
        let figure = Figure {
            name: "CACHE.GET hit / GET, 100 B".into(),
            metric: "server CPU, P16",
            spread: Spread { median: 1.0512, min: 1.01, max: 1.1 },
            sides: Some((0.951, 1.0)),
            unit: Unit::Micros,
            target: Target::AtMost(1.08),
        };
        let line = figure.line();
        assert!(line.contains("0.951us -> 1.000us"), "{line}");
        assert!(line.ends_with("1.051     1.010-1.100  <= 1.08   reached"), "{line}");
        assert_eq!(figure.json()["reached"], true);
    }

    #[test]
    fn a_time_stands_alone() {
        let figure = Figure {
            name: "CACHE.INVALIDATE of 1,000".into(),
            metric: "server time",
            spread: Spread { median: 41e-6, min: 40e-6, max: 1.2e-3 },
            sides: None,
            unit: Unit::Time,
            target: Target::AtMost(1e-3),
        };
        let line = figure.line();
        assert!(line.ends_with("41 us    40 us-1.2 ms  <= 1.0 ms reached"), "{line}");
        assert!(figure.json()["a"].is_null());
        assert_eq!(verdict(&[figure]), "1 of 1 targets reached");
        assert_eq!(time(f64::INFINITY), "never");
    }

    #[test]
    fn counts_are_whole_where_they_can_be() {
        assert_eq!([0.0, 1.0, 1.001, 61_234.5].map(count), ["0", "1", "1.001", "61234"]);
    }
}
