//! What `bench eviction` counted: a row for each trace, capacity and policy, and
//! over all of them the mean and the worst.
//!
//! Means are of the rows' ratios to exact LRU, each row as much as another: a
//! long trace counts no more than a short one.

use super::ratio::{Figure, Spread, Target, Unit};
use crate::replay::{Kind, Misses, Share, POLICIES};

/// What a policy missed of a trace.
pub struct Row {
    /// Which trace.
    pub trace: String,
    /// The capacity in percent of the footprint.
    pub percent: f64,
    /// In bytes.
    pub capacity: u64,
    /// In entries of the mean size.
    pub entries: u64,
    /// Which policy.
    pub kind: &'static Kind,
    /// What it missed.
    pub misses: Misses,
    /// What exact LRU missed.
    pub lru: Misses,
    /// What anybody must miss, one by one.
    pub bound: Misses,
}

/// What is counted of misses.
#[derive(Clone, Copy)]
pub struct Measure {
    /// For people.
    pub name: &'static str,
    of: fn(&Misses) -> Share,
}

const OBJECTS: Measure = Measure { name: "object misses", of: |misses| misses.objects };
const BYTES: Measure = Measure { name: "byte misses", of: |misses| misses.bytes };
const COSTS: Measure = Measure { name: "cost of misses", of: |misses| misses.costs };

/// All of it.
pub const MEASURES: [Measure; 3] = [OBJECTS, BYTES, COSTS];

/// What a policy is to reach: the mean of its rows, and the worst of them.
pub struct Goal {
    policy: &'static str,
    measure: Measure,
    mean: f64,
    worst: f64,
}

/// CacheFlow's own policy, by number and by cost; the others are there to
/// compare with.
pub const GOALS: &[Goal] = &[
    Goal { policy: "cacheflow", measure: OBJECTS, mean: 0.93, worst: 1.02 },
    Goal { policy: "cacheflow-cost", measure: COSTS, mean: 0.76, worst: 1.0 },
];

impl Measure {
    /// A row's ratio to exact LRU.
    pub fn against_lru(&self, row: &Row) -> f64 {
        self.ratio(row) / self.lru(row)
    }

    /// What the policy missed, of all that was asked for.
    pub fn ratio(&self, row: &Row) -> f64 {
        (self.of)(&row.misses).ratio()
    }

    /// What exact LRU did.
    pub fn lru(&self, row: &Row) -> f64 {
        (self.of)(&row.lru).ratio()
    }

    /// Of what exact LRU did, what anybody must.
    pub fn bound(&self, row: &Row) -> f64 {
        (self.of)(&row.bound).ratio() / self.lru(row)
    }

    /// The mean of the ratios to exact LRU, and the ends.
    pub fn spread(&self, rows: &[&Row]) -> Option<Spread> {
        let ends = Spread::of(rows.iter().map(|row| self.against_lru(row)))?;
        Some(Spread { median: mean(rows, |row| self.against_lru(row)), ..ends })
    }
}

fn mean(rows: &[&Row], of: impl Fn(&Row) -> f64) -> f64 {
    rows.iter().map(|row| of(row)).sum::<f64>() / rows.len() as f64
}

impl Row {
    /// One line, under its trace.
    pub fn line(&self) -> String {
        let measures = MEASURES.map(|measure| {
            let (ratio, against) = (measure.ratio(self), measure.against_lru(self));
            format!("{} {ratio:.4} {:+6.1} %", measure.name, (against - 1.0) * 100.0)
        });
        format!("{:>5} %  {:<10} {}", self.percent, self.kind.name, measures.join("  "))
    }

    /// The same for programs.
    pub fn json(&self) -> serde_json::Value {
        let [objects, bytes, costs] = MEASURES.map(|measure| {
            serde_json::json!({ "missed": measure.ratio(self), "against-lru": measure.against_lru(self) })
        });
        serde_json::json!({
            "trace": self.trace,
            "percent": self.percent,
            "capacity": self.capacity,
            "entries": self.entries,
            "policy": self.kind.name,
            "objects": objects,
            "bytes": bytes,
            "costs": costs,
        })
    }
}

/// A policy's rows.
pub fn rows_of<'a>(rows: &'a [Row], kind: &Kind) -> Vec<&'a Row> {
    rows.iter().filter(|row| row.kind.name == kind.name).collect()
}

/// The mean of every policy that was measured, but LRU's own; and the worst,
/// where there is a goal for it.
pub fn figures(rows: &[Row], goals: &[Goal]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for kind in POLICIES.iter().skip(1) {
        let rows = rows_of(rows, kind);
        for measure in &MEASURES {
            let Some(spread) = measure.spread(&rows) else { continue };
            let goal =
                goals.iter().find(|goal| (goal.policy, goal.measure.name) == (kind.name, measure.name));
            let figure = |metric, spread, target| Figure {
                name: format!("{}, {} of {} rows", kind.name, measure.name, rows.len()),
                metric,
                spread,
                sides: Some((mean(&rows, |row| measure.lru(row)), mean(&rows, |row| measure.ratio(row)))),
                unit: Unit::Misses,
                target,
            };
            match goal {
                None => figures.push(figure("mean", spread, Target::None)),
                Some(goal) => {
                    let worst = Spread { median: spread.max, ..spread };
                    figures.push(figure("mean", spread, Target::AtMost(goal.mean)));
                    figures.push(figure("worst", worst, Target::AtMost(goal.worst)));
                }
            }
        }
    }
    figures
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::replay::{replay, Terms, Workload};
    use crate::trace::Trace;

    /// Rows of all policies: a loop of four keys in a cache of two and of four.
    pub fn rows() -> Vec<Row> {
        let trace = Trace { ids: (0..4).cycle().take(40).collect(), sizes: None, gaps: None };
        let workload = Workload::new("loop", trace, 1);
        let row = |percent: f64, kind: &'static Kind| {
            let capacity = (40.0 * percent) as u64;
            let misses = |kind| replay(kind, &workload, capacity, Terms { rate: 1, seed: 1 }).unwrap();
            let entries = workload.entries(capacity);
            let (misses, lru) = (misses(kind), misses(&POLICIES[0]));
            let bound = crate::replay::bound(&workload, capacity);
            Row { trace: "loop".into(), percent, capacity, entries, kind, misses, lru, bound }
        };
        [50.0, 100.0].iter().flat_map(|percent| POLICIES.iter().map(|kind| row(*percent, kind))).collect()
    }

    #[test]
    fn figures_are_means_and_ends_against_lru() {
        let rows = rows();
        let figures = figures(&rows, &[]);
        assert_eq!(figures.len(), 3 * (POLICIES.len() - 1));
        let belady = figures.iter().find(|figure| figure.name.starts_with("belady, object")).unwrap();
        // LRU misses all of the loop where it does not fit; Belady keeps two of the
        // four, and misses the others in each of nine rounds after the first.
        assert_eq!((belady.spread.min, belady.spread.max), (22.0 / 40.0, 1.0));
        assert_eq!(belady.spread.median, (1.0 + belady.spread.min) / 2.0);
        assert_eq!(belady.sides.unwrap().0, (1.0 + 0.1) / 2.0);
    }

    #[test]
    fn a_policy_with_a_goal_is_told_by_its_worst_too() {
        let goals = [Goal { policy: "sieve", measure: COSTS, mean: 1.0, worst: 0.5 }];
        let figures = figures(&rows(), &goals);
        let judged: Vec<_> = figures
            .iter()
            .filter_map(|figure| Some((figure.metric, figure.target.reached(figure.spread.median)?)))
            .collect();
        assert_eq!(judged, [("mean", true), ("worst", false)]);
    }

    #[test]
    fn a_row_is_a_line_and_an_object() {
        let rows = rows();
        let row = rows.iter().find(|row| row.kind.name == "sieve" && row.percent == 100.0).unwrap();
        assert!(
            row.line().starts_with("  100 %  sieve      object misses 0.1000   +0.0 %"),
            "{}",
            row.line()
        );
        assert_eq!(row.json()["objects"]["missed"], 0.1);
        assert_eq!(row.json()["costs"]["against-lru"], 1.0);
    }
}
