//! What a series of pairs says, and how it is shown.

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
    /// Shown for itself.
    None,
}

impl Target {
    /// Whether a figure reaches it, if there is anything to reach.
    pub fn reached(self, figure: f64) -> Option<bool> {
        match self {
            Self::AtLeast(target) => Some(figure >= target),
            Self::AtMost(target) => Some(figure <= target),
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
    /// The figure: a ratio B/A by pairs, or a difference in bytes.
    pub spread: Spread,
    /// Medians of the measure itself, A and B.
    pub sides: (f64, f64),
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
}

impl Figure {
    /// The line under which figures stand.
    pub fn heading() -> String {
        format!(
            "{:<40} {:<18} {:>20} {:>7} {:>13}  {:<8} {}",
            "B against A", "measure", "A -> B", "B/A", "min-max", "target", ""
        )
    }

    /// One line.
    pub fn line(&self) -> String {
        let number = |value: f64| match self.unit {
            Unit::Bytes => format!("{value:+.1}"),
            _ => format!("{value:.3}"),
        };
        let side = |value: f64| match self.unit {
            Unit::PerSecond => format!("{:.1}k/s", value / 1e3),
            Unit::Micros => format!("{value:.3}us"),
            Unit::Bytes => format!("{value:.1}"),
        };
        let target = match self.target {
            Target::AtLeast(target) => format!(">= {target:.2}"),
            Target::AtMost(target) if self.unit == Unit::Bytes => format!("<= +{target:.0}"),
            Target::AtMost(target) => format!("<= {target:.2}"),
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
        let sides = format!("{} -> {}", side(self.sides.0), side(self.sides.1));
        format!(
            "{:<40} {:<18} {sides:>20} {:>7} {range:>13}  {target:<8} {verdict}",
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
            Target::None => serde_json::Value::Null,
        };
        serde_json::json!({
            "name": self.name,
            "metric": self.metric,
            "a": self.sides.0,
            "b": self.sides.1,
            "median": self.spread.median,
            "min": self.spread.min,
            "max": self.spread.max,
            "target": target,
            "reached": self.target.reached(self.spread.median),
        })
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
        assert_eq!(Target::None.reached(1.0), None);
    }

    #[test]
    fn a_line_shows_figure_target_and_verdict() {
        let figure = Figure {
            name: "CACHE.GET hit / GET, 100 B".into(),
            metric: "server CPU, P16",
            spread: Spread { median: 1.0512, min: 1.01, max: 1.1 },
            sides: (0.951, 1.0),
            unit: Unit::Micros,
            target: Target::AtMost(1.08),
        };
        let line = figure.line();
        assert!(line.contains("0.951us -> 1.000us"), "{line}");
        assert!(line.ends_with("1.051   1.010-1.100  <= 1.08  reached"), "{line}");
        assert_eq!(figure.json()["reached"], true);
    }
}
