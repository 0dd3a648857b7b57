//! Which keys are asked for most, cost most, move most bytes and are waited for
//! most: a table of heavy hitters each ([`crate::hitters`]), of [`KEPT`]
//! counters, halved in five minutes.
//!
//! A figure is never too low, and too high by 1/1024 of all that was counted at
//! most, beside what sampling does to it: up to 500 reads and writes a second every
//! one counts; under load one in many does ([`Sampler`]), for all of them.

use crate::entry::Cost;
use crate::hitters::{HalfLife, Hitters};
use crate::index::Db;
use crate::units::{Millis, Time};

/// Counters of each table.
pub const KEPT: usize = 1024;
/// Figures below it are next to nothing.
pub const FLOOR: f64 = 0.5;

/// What is counted of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Reads answered with the value.
    Hits,
    /// Those, times what recomputing it takes, in ms.
    Cost,
    /// Bytes of values, sent and stored.
    Bytes,
    /// FETCHes and LOCKs that waited.
    Waits,
}

/// See the module's text.
#[derive(Debug)]
pub struct HotKeys {
    tables: [Hitters<()>; 4],
    life: HalfLife,
}

impl Default for HotKeys {
    fn default() -> Self {
        HotKeys { tables: [(); 4].map(|()| Hitters::new(KEPT)), life: HalfLife::default() }
    }
}

impl HotKeys {
    /// Reads of an entry's value, each of so many bytes.
    pub fn read(&mut self, db: Db, name: &[u8], reads: u64, cost: Cost, bytes: usize) {
        self.add(Metric::Hits, db, name, reads);
        self.add(Metric::Cost, db, name, reads.saturating_mul(u64::from(cost.0)));
        self.add(Metric::Bytes, db, name, reads.saturating_mul(bytes as u64));
    }

    /// Writes of a value of so many bytes.
    pub fn written(&mut self, db: Db, name: &[u8], writes: u64, bytes: usize) {
        self.add(Metric::Bytes, db, name, writes.saturating_mul(bytes as u64));
    }

    /// Somebody waits for a key.
    pub fn waited(&mut self, db: Db, name: &[u8]) {
        self.add(Metric::Waits, db, name, 1);
    }

    fn add(&mut self, metric: Metric, db: Db, name: &[u8], weight: u64) {
        if weight > 0 {
            self.tables[metric as usize].add(db, name, weight, || ());
        }
    }

    /// Lets time pass. To be called before what is counted first, too: its first
    /// minute begins then.
    pub fn decay(&mut self, now: Time) {
        if self.tables.iter().all(Hitters::is_empty) {
            return self.life.restart(now);
        }
        if let Some(factor) = self.life.factor(now) {
            self.tables.iter_mut().for_each(|table| table.decay(factor, FLOOR, |_, _| ()));
        }
    }

    /// The keys of a database with their figures, the highest first.
    pub fn listed(&self, metric: Metric, db: Db) -> impl Iterator<Item = (&[u8], u64)> {
        let sorted = self.tables[metric as usize].sorted();
        sorted.into_iter().filter(move |of| of.db == db).map(|of| (&*of.name, of.weight.round() as u64))
    }

    /// A database was emptied, or all were.
    pub fn flush(&mut self, db: Option<Db>) {
        self.tables.iter_mut().for_each(|table| table.flush(db, |_, _| ()));
    }

    /// Two databases were exchanged.
    pub fn swap(&mut self, one: Db, other: Db) {
        self.tables.iter_mut().for_each(|table| table.swap(one, other));
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.tables.iter().map(Hitters::allocated).sum()
    }
}

/// Which reads and writes are counted: each while they are few, one in so many
/// when they are more.
///
/// What it may cost is a budget: [`WANTED`] are counted a second in the mean, and
/// what was not needed is saved up to [`SAVED`], whatever comes: a server under
/// load, bursts, load that comes and goes.
///
/// The gaps are drawn from 1 up to twice the mean, so that no rhythm of the
/// clients' falls in with ours; each that is counted stands for the mean gap.
#[derive(Debug)]
pub struct Sampler {
    /// The mean gap.
    interval: u32,
    /// How many may be counted, in thousandths.
    budget: u64,
    /// Counted since the last tick, or since the gaps grew.
    taken: u32,
    /// What was counted since the last tick stands for.
    seen: u64,
    last: Time,
}

impl Default for Sampler {
    fn default() -> Self {
        Sampler { interval: 1, budget: SAVED * 1000, taken: 0, seen: 0, last: Time(0) }
    }
}

/// How many are counted a second, in the mean: up to so many, each.
const WANTED: u64 = 500;
/// How many of those that were not needed may be counted later.
const SAVED: u64 = 2000;
/// While more than that is saved, each is counted.
const PLENTY: u64 = SAVED * 1000 / 2;
/// The longest mean gap.
const LONGEST: u64 = 1024;
/// Counted between two ticks, after which the gaps grow at once: a burst is not to
/// wait for the next.
const BURST: u32 = 64;

impl Sampler {
    /// One is counted: for how many it stands, and after how many the next is to
    /// be (1: the very next).
    pub fn take(&mut self, dice: impl FnOnce() -> u32) -> (u64, u32) {
        let stands_for = u64::from(self.interval);
        self.seen += stands_for;
        self.budget = self.budget.saturating_sub(1000);
        if self.budget < PLENTY {
            self.taken += 1;
            if self.taken >= BURST {
                self.taken = 0;
                self.interval = (self.interval * 2).min(LONGEST as u32);
            }
        }
        (stands_for, self.gap(dice))
    }

    fn gap(&self, dice: impl FnOnce() -> u32) -> u32 {
        match self.interval {
            1 => 1,
            mean => 1 + dice() % (2 * mean - 1),
        }
    }

    /// Fits the gaps to what came since the last tick. Where they get shorter,
    /// the next one.
    pub fn tick(&mut self, now: Time, dice: impl FnOnce() -> u32) -> Option<u32> {
        let passed = now.since(self.last).max(Millis(1));
        let rate = self.seen.saturating_mul(1000) / passed.0;
        (self.last, self.seen, self.taken) = (now, 0, 0);
        self.budget = passed.0.saturating_mul(WANTED).saturating_add(self.budget).min(SAVED * 1000);
        let before = self.interval;
        self.interval = if self.budget > PLENTY {
            1
        } else {
            let wanted = if self.budget < PLENTY / 2 { WANTED / 2 } else { WANTED };
            // Halved at most: a load that paused may come back.
            ((rate / wanted).clamp(1, LONGEST) as u32).max(before / 2)
        };
        (self.interval < before).then(|| self.gap(dice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(hot: &HotKeys, metric: Metric, db: Db) -> Vec<(String, u64)> {
        hot.listed(metric, db).map(|(name, n)| (String::from_utf8_lossy(name).into(), n)).collect()
    }

    #[test]
    fn each_metric_has_its_own_order() {
        let mut hot = HotKeys::default();
        hot.read(0, b"often", 10, Cost(0), 5);
        hot.read(0, b"dear", 2, Cost(300), 5);
        hot.written(0, b"big", 1, 1000);
        hot.waited(0, b"cold");
        hot.read(1, b"elsewhere", 1, Cost(0), 0);
        let of = |metric| listed(&hot, metric, 0);
        assert_eq!(of(Metric::Hits), [("often".into(), 10), ("dear".into(), 2)]);
        assert_eq!(of(Metric::Cost), [("dear".into(), 600)]);
        assert_eq!(of(Metric::Bytes), [("big".into(), 1000), ("often".into(), 50), ("dear".into(), 10)]);
        assert_eq!(of(Metric::Waits), [("cold".into(), 1)]);
        hot.swap(0, 1);
        assert_eq!(listed(&hot, Metric::Hits, 0), [("elsewhere".into(), 1)]);
        hot.flush(Some(1));
        assert!(listed(&hot, Metric::Waits, 1).is_empty());
        hot.flush(None);
        assert_eq!(hot.allocated(), 0);
    }

    #[test]
    fn figures_halve_and_go() {
        let mut hot = HotKeys::default();
        hot.decay(Time(0));
        hot.read(0, b"k", 100, Cost(0), 0);
        hot.decay(Time(59_999));
        assert_eq!(listed(&hot, Metric::Hits, 0)[0].1, 100);
        hot.decay(Time(300_000));
        assert_eq!(listed(&hot, Metric::Hits, 0)[0].1, 50);
        hot.decay(Time(1 << 40));
        assert_eq!(hot.allocated(), 0);
    }

    #[test]
    fn few_are_counted_each() {
        let mut sampler = Sampler::default();
        for tick in 1..100 {
            for _ in 0..WANTED / 10 {
                assert_eq!(sampler.take(|| panic!("rolled")), (1, 1));
            }
            assert_eq!(sampler.tick(Time(tick * 100), || panic!("rolled")), None);
        }
        for _ in 0..SAVED / 2 {
            assert_eq!(sampler.take(|| panic!("rolled")), (1, 1), "what was saved");
        }
    }

    /// So many counted, and so many looked at, where `load` says how many come in
    /// each of the 100-ms ticks.
    fn counted(load: &[u64]) -> (u64, u64) {
        let (mut sampler, dice) = (Sampler::default(), std::cell::Cell::new(7u32));
        let roll = || {
            dice.set(dice.get().wrapping_mul(747_796_405).wrapping_add(2_891_336_453));
            dice.get() >> 3
        };
        let (mut next, mut counted, mut looks) = (1, 0, 0);
        for (tick, come) in (1..).zip(load) {
            for _ in 0..*come {
                next -= 1;
                if next == 0 {
                    let (stands_for, gap) = sampler.take(roll);
                    (counted, looks, next) = (counted + stands_for, looks + 1, gap);
                }
            }
            next = sampler.tick(Time(tick * 100), roll).unwrap_or(next);
        }
        (counted, looks)
    }

    /// As many as there were are counted, and the budget is kept, whatever comes.
    #[test]
    fn what_is_counted_stands_for_all() {
        let bursts = |of: u64, pause: u64| move |tick: u64| if tick / pause % 2 == 0 { of } else { 0 };
        let loads: [(&str, Box<dyn Fn(u64) -> u64>); 6] = [
            ("steady", Box::new(|_| 30_000)),
            ("little", Box::new(|_| 200)),
            ("growing", Box::new(|tick| 10 * tick)),
            ("short bursts", Box::new(bursts(30_000, 3))),
            ("long bursts", Box::new(bursts(10_000, 20))),
            ("now and then", Box::new(|tick| if tick % 50 == 0 { 50_000 } else { 1 })),
        ];
        for (name, load) in loads {
            let ticks = 1000;
            let load: Vec<u64> = (0..ticks).map(load).collect();
            let (counted, looks) = counted(&load);
            let share = counted as f64 / load.iter().sum::<u64>() as f64;
            assert!((0.97..1.03).contains(&share), "{name}: {share}");
            let most = SAVED + ticks * WANTED / 10 + 10 * u64::from(BURST);
            assert!(looks <= most, "{name}: {looks} of {most}");
            println!("{name}: {share:.3}, {looks} of {most}");
        }
    }

    #[test]
    fn after_a_load_each_is_counted_again() {
        let load: Vec<u64> = [30_000; 20].into_iter().chain([5; 40]).collect();
        let (mut before, _) = counted(&load);
        for more in 1..5 {
            let load: Vec<u64> = load.iter().copied().chain([more; 10]).collect();
            let (after, _) = counted(&load);
            assert_eq!(after - before, 10 * more);
            before = counted(&load[..load.len() - 10]).0;
        }
    }
}
