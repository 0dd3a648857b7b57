//! Eviction.
use crate::entry::{self, BASE};
use crate::evict_choice::{Candidate, Ranking, Weigher, Weight, RUNNERS_UP};
use crate::evict_class::{Class, Cuts, Marks, Op, CLASSES};
use crate::evict_follow::{Follow, Followed, Spot, PLACES};
use crate::evict_ghosts::Ghosts;
use crate::evict_table::Table;
use crate::index::Db;
use crate::slots::Slot;

/// The entries.
pub trait Population {
    /// entries
    fn entries(&self) -> usize;
    /// dbs
    fn databases(&self) -> Db;
    /// slots
    fn extent(&self, db: Db) -> usize;
    /// look
    fn look(&self, spot: Spot) -> Option<Candidate>;
    /// set
    fn set_marks(&mut self, spot: Spot, marks: Marks);
}

/// Why
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// ev
    Evicted,
    /// died
    Died,
}

const SAMPLE: usize = 12;
const PROBES: usize = 64;

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    Walk(usize),
    Learn(usize),
}

/// ev
#[derive(Debug)]
pub struct Eviction {
    ops: u64,
    entries: usize,
    cuts: Cuts,
    table: Table,
    follow: Follow,
    ghosts: Ghosts,
    weigher: Weigher,
    runners: Vec<Spot>,
    phase: Phase,
    due: u64,
}

/// tuning
pub static mut T: [f32; 8] = [0.0; 8];

impl Eviction {
    /// new
    pub fn new(weight: Weight) -> Eviction {
        Eviction {
            ops: 0,
            entries: 0,
            cuts: Cuts::new(0),
            table: Table::default(),
            follow: Follow::default(),
            ghosts: Ghosts::default(),
            weigher: Weigher::new(weight),
            runners: Vec::new(),
            phase: Phase::Idle,
            due: 0,
        }
    }

    pub fn weigh_by(&mut self, _: Weight) {}
    fn now(&self) -> Op {
        Op::new(self.ops)
    }

    /// used
    #[inline]
    pub fn used(&mut self, marks: Marks, dice: impl FnOnce() -> u32) -> Marks {
        self.ops += 1;
        let now = self.now();
        let age = now.since(marks.last());
        if marks.is_followed() {
            self.table.ended(marks.class(), age);
        }
        let class = marks.class().used(self.cuts.interval(age), dice);
        Marks::new(now, class, marks.is_followed())
    }

    /// ins
    pub fn inserted(&mut self, hash: u64, spot: Spot, dice: impl FnOnce() -> u32) -> Marks {
        self.ops += 1;
        let now = self.now();
        let ghost = self.ghosts.take(hash, now);
        let before = match self.follow.get(hash) {
            Some(Followed::Gone(marks)) => {
                let age = now.since(marks.last());
                self.table.ended(marks.class(), age);
                Some((marks.class().frequency(), age))
            }
            _ => ghost.map(|ghost| (ghost.frequency, ghost.age)),
        };
        let class = before
            .map_or(Class::FIRST, |(frequency, age)| Class::after(frequency, self.cuts.interval(age), dice));
        let (followed, lost) = self.follow.here(hash, spot);
        if let Some(marks) = lost {
            self.table.lost(marks.class(), now.since(marks.last()));
        }
        Marks::new(now, class, followed)
    }

    /// left
    pub fn left(&mut self, hash: u64, marks: Marks, why: Leaving) {
        let now = self.now();
        self.ghosts.put(hash, marks.class().frequency(), marks.last(), now, self.entries);
        if marks.is_followed() {
            match why {
                Leaving::Evicted => self.follow.gone(hash, marks),
                Leaving::Died => {
                    self.table.lost(marks.class(), now.since(marks.last()));
                    self.follow.forget(hash);
                }
            }
        }
    }

    /// choose
    pub fn choose(
        &mut self,
        population: &impl Population,
        _: crate::evict_choice::Scope,
        mut dice: impl FnMut() -> u64,
    ) -> Option<Spot> {
        let now = self.now();
        let mut ranking = Ranking::default();
        for spot in self.runners.drain(..) {
            if let Some(candidate) = population.look(spot) {
                ranking.look(spot, &candidate, now, &self.table, &mut self.weigher);
            }
        }
        let extent = population.extent(0);
        let mut found = 0;
        for probe in 0..PROBES {
            let n = if extent <= SAMPLE { probe } else { ((dice() >> 32) * extent as u64 >> 32) as usize };
            if n >= extent || found >= SAMPLE {
                break;
            }
            let spot = Spot { db: 0, slot: n as Slot + 1 };
            if let Some(candidate) = population.look(spot) {
                found += usize::from(ranking.look(spot, &candidate, now, &self.table, &mut self.weigher));
            }
        }
        self.runners.extend(ranking.runners_up());
        ranking.least()
    }

    /// tick
    pub fn tick(&mut self, population: &mut impl Population, steps: usize) {
        self.entries = population.entries();
        self.cuts.follow(self.entries);
        let now = self.now();
        for _ in 0..steps {
            match self.phase {
                Phase::Idle => {
                    if self.ops < self.due {
                        return;
                    }
                    self.phase = Phase::Walk(0);
                }
                Phase::Walk(from) => {
                    let horizon =
                        (self.entries as u64 * unsafe { T[0] } as u64).clamp(1 << 12, 1 << 30) as u32;
                    for place in from..from + 64 {
                        let Some((followed, spare)) = self.follow.at(place) else { continue };
                        match followed {
                            Followed::Here(spot) => {
                                let candidate = population.look(spot).filter(|c| c.marks.is_followed());
                                let Some(c) = candidate else {
                                    self.follow.clear(place);
                                    continue;
                                };
                                if spare {
                                    population
                                        .set_marks(spot, Marks::new(c.marks.last(), c.marks.class(), false));
                                    self.follow.clear(place);
                                } else {
                                    self.table.open(c.marks.class(), now.since(c.marks.last()));
                                }
                            }
                            Followed::Gone(marks) => {
                                let age = now.since(marks.last());
                                if age > horizon || spare {
                                    self.table.lost(marks.class(), age);
                                    self.follow.clear(place);
                                } else {
                                    self.table.open(marks.class(), age);
                                }
                            }
                        }
                    }
                    self.phase = Phase::Walk(from + 64);
                    if from + 64 >= PLACES || self.follow.is_empty() {
                        self.table.begin();
                        self.phase = Phase::Learn(0);
                    }
                }
                Phase::Learn(n) => {
                    if let Some(class) = Class::of(n) {
                        self.table.learn(class);
                        self.phase = Phase::Learn(n + 1);
                    } else {
                        self.follow.balance();
                        self.phase = Phase::Idle;
                        self.due = self.ops + ((self.entries * 2) as u64).max(unsafe { T[1] } as u64);
                    }
                }
            }
        }
    }

    /// Bytes
    pub fn allocated(&self) -> usize {
        self.table.allocated() + self.follow.allocated() + self.ghosts.allocated()
    }
}

impl Default for Eviction {
    fn default() -> Self {
        Eviction::new(Weight::CostSize)
    }
}
