//! Eviction: which entry is to go, by how many hits it would bring for the room
//! that it takes.
//!
//! Guarantees:
//! - A read costs some twenty instructions and no look-up: [`Eviction::used`] reads and
//!   writes six bytes' worth of marks in the entry ([`crate::evict_class`]).
//! - A choice looks at no more than [`PROBES`] entries and passes over no more
//!   than [`FREE`] free slots; a tick looks at no more than `steps` times [`STEP`]
//!   keys. Nothing walks all entries at once.
//! - Never chosen: an entry with a lease or a lock, one of a namespace with the
//!   policy none. Chosen before others: one that is expired or dead.
//! - Memory: 0.4 MB, and at most 4 bytes an entry for ghosts; two bytes a slot more
//!   where a namespace has a budget of its own.
//!
//! Not here: when to evict ([`crate::budget`]), the entries ([`Population`]),
//! the dice.
//!
//! # The life of a key
//! It comes ([`Eviction::inserted`]) as a stranger or as a ghost that was used
//! before ([`crate::evict_ghosts`]); it is used; it is written anew, and its
//! marks are handed on as they are ([`crate::entry::take_marks`]): a write is no
//! use, for nothing was gained by having kept it. It leaves
//! ([`Eviction::left`]) and is a ghost. Some are followed throughout
//! ([`crate::evict_follow`]); what befalls them is what the worth of all is
//! learned from ([`crate::evict_table`]), in a rebuild every [`LAP`] times as many
//! operations as there are entries.
//!
//! # The choice
//! Twenty entries drawn from the dense table of slots and those that came since are
//! looked at, the sixteen worth the least of all looked at are kept, and the first of
//! these goes, once a second look has shown that it still is ([`crate::evict_choice`]).
//! Lists would cost 16 bytes an entry and a write to three entries with every read.
//! Where a namespace must keep a budget of its own, its slots are found by
//! [`crate::evict_share`].
//!
//! # Operations
//! Time is the number of uses, of which 31 bits lie in an entry. A hand goes
//! around all slots in 2^29 operations and makes entries that are older than
//! 2^30 just that old: none ever looks young again.

use crate::evict_ahead::{Ahead, Drawn};
use crate::evict_choice::{Pool, Weigher, Weight};
use crate::evict_class::{Class, Cuts, Marks, Op};
use crate::evict_follow::{Follow, Followed, Spot, PLACES};
use crate::evict_ghosts::Ghosts;
use crate::evict_newest::Newest;
use crate::evict_population::{next_taken, Extents, Population, FREE};
use crate::evict_share::Shares;
use crate::evict_table::Table;
use crate::index::Db;
use crate::units::block;

/// Whose entries one is chosen among.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Those of the namespace whose budget has this number, from 1 on.
    Share(u16),
}

/// Why an entry leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// It was evicted: had it stayed, its next use had been a hit.
    Evicted,
    /// It was deleted, it expired, it was invalidated: nothing is learned from
    /// when it is asked for again.
    Died,
}

/// Entries drawn in a choice, the runners-up and the newest aside.
pub const SAMPLE: usize = 20;
/// Where there are no more slots than these, all are looked at.
const FEW: usize = 16;
/// Draws in a choice, at most.
pub const PROBES: usize = 64;
/// Lines of 64 slots read past in a choice among the entries of one namespace.
const LINES: usize = 1536;
/// Followed keys, or slots, that are looked at in one step of a tick.
pub const STEP: usize = 64;
/// A rebuild every so many times the number of entries, in operations…
const LAP: u64 = 2;
/// …and never sooner than after so many, nor later.
const SHORTEST_LAP: u64 = 1 << 10;
const LONGEST_LAP: u64 = 1 << 29;
/// For so many times the number of entries a key that was evicted is followed.
const MEMORY: u64 = 32;
/// An age that no entry is much older than.
const OLDEST: u32 = 1 << 30;
/// The logarithm of the operations in which the hand goes around.
const ROUND_BITS: u32 = 29;
/// Operations that a set of ghosts may wait for its turn.
const GHOSTS_TURN: u64 = 128;

#[derive(Clone, Copy, Debug)]
enum Rebuild {
    /// None until so many operations.
    Due(u64),
    /// Looks at what is followed, from this place on.
    Look(usize),
    /// Learns, from this class on.
    Learn(usize),
}

/// A number below `of`.
fn draw(of: usize, dice: &mut impl FnMut() -> u64) -> usize {
    ((u128::from(dice()) * of as u128) >> 64) as usize
}

/// See the module's text.
#[derive(Debug)]
pub struct Eviction {
    ops: u64,
    /// Those up to which the hands have moved.
    ticked: u64,
    entries: usize,
    cuts: Cuts,
    table: Table,
    follow: Follow,
    ghosts: Ghosts,
    weigher: Weigher,
    shares: Shares,
    /// That of all entries first, then by share.
    pools: Vec<Pool>,
    ahead: Ahead,
    newest: Newest,
    rebuild: Rebuild,
    /// Where the hand goes on.
    hand: Spot,
    /// Slots that the hand owes, times 2^[`ROUND_BITS`].
    owed: u64,
    /// Slots whose share is yet to be looked at.
    survey: usize,
}

impl Eviction {
    /// Nothing is known.
    pub fn new(weight: Weight) -> Eviction {
        Eviction {
            ops: 0,
            ticked: 0,
            entries: 0,
            cuts: Cuts::new(0),
            table: Table::default(),
            follow: Follow::default(),
            ghosts: Ghosts::default(),
            weigher: Weigher::new(weight),
            shares: Shares::default(),
            // Made now: what a choice allocates is past a limit that is full.
            pools: vec![Pool::default()],
            ahead: Ahead::default(),
            newest: Newest::default(),
            rebuild: Rebuild::Due(0),
            hand: Spot { db: 0, slot: 1 },
            owed: 0,
            survey: 0,
        }
    }

    /// Goes by another weight from now on.
    pub fn set_weight(&mut self, weight: Weight) {
        self.weigher = Weigher::new(weight);
    }

    fn now(&self) -> Op {
        Op::new(self.ops)
    }

    /// A read was answered with an entry's value: its marks from now on. `dice`
    /// must be uniform.
    #[inline]
    pub fn used(&mut self, marks: Marks, dice: u32) -> Marks {
        self.ops += 1;
        let now = self.now();
        let age = now.since(marks.last());
        if marks.is_followed() {
            self.table.ended(marks.class(), age);
        }
        let class = marks.class().used(self.cuts.interval(age), dice);
        Marks::new(now, class, marks.is_followed())
    }

    /// A key has come that was no entry: the marks of its entry. `hash`: of its
    /// name, 64 bits of it; `share`: as in
    /// [`crate::evict_choice::Candidate`]; `dice`: as for
    /// [`Eviction::used`].
    pub fn inserted(&mut self, hash: u64, spot: Spot, share: u16, dice: u32) -> Marks {
        self.ops += 1;
        let now = self.now();
        self.shares.set(spot, share);
        self.newest.came(spot);
        let ghost = self.ghosts.take(hash, now);
        let before = match self.follow.get(hash) {
            Some(Followed::Gone(marks)) => {
                let age = now.since(marks.last());
                self.table.ended(marks.class(), age);
                Some((marks.class().frequency(), age))
            }
            Some(Followed::Here(_)) | None => ghost.map(|ghost| (ghost.frequency, ghost.age)),
        };
        let class = before
            .map_or(Class::FIRST, |(frequency, age)| Class::after(frequency, self.cuts.interval(age), dice));
        let (followed, lost) = self.follow.here(hash, spot);
        if let Some(marks) = lost {
            self.table.lost(marks.class(), now.since(marks.last()));
        }
        Marks::new(now, class, followed)
    }

    /// Where it will be looked or noted what is known of a key that is gone: of one that
    /// is about to come or to leave.
    pub fn ghosts_of(&self, hash: u64) -> impl Iterator<Item = &u32> {
        self.ghosts.places_of(hash)
    }

    /// An entry lies in another slot now (or in another database), or counts to
    /// another budget.
    pub fn moved(&mut self, hash: u64, marks: Marks, spot: Spot, share: u16) {
        self.shares.set(spot, share);
        if let (true, Some(_)) = (marks.is_followed(), self.follow.get(hash)) {
            self.follow.here(hash, spot);
        }
    }

    /// An entry has left.
    pub fn left(&mut self, hash: u64, marks: Marks, why: Leaving) {
        let now = self.now();
        self.ghosts.put(hash, marks.class().frequency(), marks.last(), now, self.entries);
        if !marks.is_followed() {
            return;
        }
        match why {
            Leaving::Evicted => self.follow.gone(hash, marks),
            Leaving::Died => {
                self.table.lost(marks.class(), now.since(marks.last()));
                self.follow.forget(hash);
            }
        }
    }

    /// All entries of a database have left at once.
    pub fn flushed(&mut self, db: Db) {
        self.shares.forget(db);
        self.pools.iter_mut().for_each(Pool::clear);
        self.newest.clear();
        self.ahead = Ahead::default();
    }

    /// A namespace has got a budget of its own: its entries are found as ticks
    /// pass.
    pub fn survey(&mut self, population: &impl Population) {
        self.survey = Extents::of(population).total();
    }

    /// The entry that is to go; `None`: none was found that may. It is still
    /// there: who evicts it tells by [`Eviction::left`]. `dice` must be
    /// uniform.
    pub fn choose(
        &mut self,
        population: &impl Population,
        scope: Scope,
        mut dice: impl FnMut() -> u64,
    ) -> Option<Spot> {
        let share = match scope {
            Scope::All => None,
            Scope::Share(share) => Some(share),
        };
        let number = usize::from(share.unwrap_or(0));
        let mut pools = std::mem::take(&mut self.pools);
        if pools.len() <= number {
            pools.reserve_exact(number + 1 - pools.len());
            pools.resize_with(number + 1, Pool::default);
        }
        let pool = &mut pools[number];
        pool.begin();
        let mut found = 0;
        for spot in self.newest.take_due() {
            self.consider(pool, population, spot, share);
        }
        let extents = Extents::of(population);
        let all = extents.total();
        let is_few = all <= FEW;
        let mut free = FREE;
        if share.is_none() && !is_few {
            for spot in self.ahead.take() {
                let taken = next_taken(population, spot, &mut free);
                found += usize::from(taken.is_some_and(|spot| self.consider(pool, population, spot, share)));
            }
        }
        let (enough, most) = if is_few { (all, all) } else { (SAMPLE, PROBES) };
        let (mut probe, mut lines) = (0, LINES);
        // An entry that is gone already is as good as any other of those.
        while found < enough && probe < most && !pool.is_settled() {
            let mut drawn = Drawn::new();
            let end = most.min(probe + enough - found);
            for probe in probe..end {
                let nth = if is_few { probe } else { draw(all, &mut dice) };
                drawn.extend(extents.nth(nth));
            }
            probe = end;
            let taken = drawn.into_iter().filter_map(|spot| match share.filter(|_| !is_few) {
                Some(share) => self.next_of(population, share, spot, &mut lines),
                None => next_taken(population, spot, &mut free),
            });
            let taken: Drawn = taken.collect();
            taken.iter().for_each(|&spot| population.expect_entry(spot));
            for spot in taken {
                found += usize::from(self.consider(pool, population, spot, share));
            }
        }
        while let Some(spot) = pool.unseen() {
            self.consider(pool, population, spot, share);
        }
        if share.is_none() && !is_few {
            self.ahead.advance(population, || extents.nth(draw(all, &mut dice)));
        }
        let least = pool.take();
        if let Some(next) = pool.next() {
            population.expect_entry(next);
        }
        self.pools = pools;
        least
    }

    /// The next slot of a share, in its database or in another.
    fn next_of(
        &self,
        population: &impl Population,
        share: u16,
        from: Spot,
        lines: &mut usize,
    ) -> Option<Spot> {
        let many = population.databases();
        let others = (1..=many).map(|n| Spot { db: (from.db + n) % many, slot: 1 });
        std::iter::once(from).chain(others).find_map(|from| self.shares.find(from, share, lines))
    }

    /// Whether a slot holds an entry that may be evicted for this share.
    fn consider(
        &mut self,
        pool: &mut Pool,
        population: &impl Population,
        spot: Spot,
        share: Option<u16>,
    ) -> bool {
        let candidate = population.look(spot);
        if let Some(share) = share {
            let is = candidate.as_ref().map_or(0, |candidate| candidate.share);
            if is != share {
                self.shares.set(spot, is);
                return false;
            }
        }
        let now = self.now();
        candidate.is_some_and(|candidate| pool.look(spot, &candidate, now, &self.table, &mut self.weigher))
    }

    /// Does what is due beside the commands, in at most so many steps of 2 to
    /// 50 µs.
    pub fn tick(&mut self, population: &mut impl Population, steps: usize) {
        self.entries = population.entries();
        self.cuts.follow(self.entries);
        let passed = self.ops - self.ticked;
        if passed >= GHOSTS_TURN {
            let turns = passed / GHOSTS_TURN;
            self.ghosts.clean(usize::try_from(turns).map_or(STEP, |turns| turns.min(STEP)), self.now());
            let all = Extents::of(population).total() as u64;
            self.owed = self.owed.saturating_add(passed.saturating_mul(all));
            self.ticked = self.ops;
        }
        for _ in 0..steps {
            if self.owed >> ROUND_BITS > 0 || self.survey > 0 {
                self.turn(population);
            }
            match self.rebuild {
                Rebuild::Due(at) if self.ops < at => {
                    if self.survey == 0 {
                        return;
                    }
                }
                Rebuild::Due(_) => self.rebuild = Rebuild::Look(0),
                Rebuild::Look(place) => self.look(population, place),
                Rebuild::Learn(class) => self.learn(class),
            }
        }
    }

    /// Moves the hand by a step: what is very old is made just that old, and
    /// shares are noted.
    fn turn(&mut self, population: &mut impl Population) {
        let now = self.now();
        for _ in 0..STEP {
            if self.owed >> ROUND_BITS == 0 && self.survey == 0 {
                return;
            }
            self.owed = self.owed.saturating_sub(1 << ROUND_BITS);
            let many = population.databases();
            // The next slot, in the next database that has any.
            for _ in 0..many {
                if self.hand.slot as usize <= population.extent(self.hand.db) && self.hand.db < many {
                    break;
                }
                self.hand = Spot { db: (self.hand.db + 1) % many, slot: 1 };
            }
            let spot = self.hand;
            self.hand.slot = spot.slot.saturating_add(1);
            let candidate = population.look(spot);
            if self.survey > 0 {
                self.survey -= 1;
                self.shares.set(spot, candidate.as_ref().map_or(0, |candidate| candidate.share));
            }
            if let Some(marks) = candidate.map(|candidate| candidate.marks) {
                if now.since(marks.last()) > OLDEST {
                    let marks = Marks::new(now.before(OLDEST), marks.class(), marks.is_followed());
                    population.set_marks(spot, marks);
                }
            }
        }
    }

    /// A step of looking at what is followed: which lives go on, and at what
    /// age; who is followed no longer.
    fn look(&mut self, population: &mut impl Population, from: usize) {
        let now = self.now();
        let memory = (self.entries as u64 * MEMORY).clamp(SHORTEST_LAP, u64::from(OLDEST)) as u32;
        let end = from + STEP;
        for place in from..end {
            let Some((followed, spare)) = self.follow.at(place) else { continue };
            match followed {
                Followed::Here(spot) => {
                    let marks = population.look(spot).map(|candidate| candidate.marks);
                    match marks.filter(|marks| marks.is_followed()) {
                        Some(marks) if !spare => self.table.open(marks.class(), now.since(marks.last())),
                        Some(marks) => {
                            population.set_marks(spot, Marks::new(marks.last(), marks.class(), false));
                            self.follow.clear(place);
                        }
                        // It was flushed, or is not what it was.
                        None => self.follow.clear(place),
                    }
                }
                Followed::Gone(marks) => {
                    let age = now.since(marks.last());
                    if spare || age > memory {
                        self.table.lost(marks.class(), age);
                        self.follow.clear(place);
                    } else {
                        self.table.open(marks.class(), age);
                    }
                }
            }
        }
        self.rebuild = if end < PLACES && !self.follow.is_empty() {
            Rebuild::Look(end)
        } else {
            self.table.begin();
            Rebuild::Learn(0)
        };
    }

    /// A step of the rebuild: a class.
    fn learn(&mut self, class: usize) {
        self.rebuild = match Class::of(class) {
            Some(learned) => {
                self.table.learn(learned);
                Rebuild::Learn(class + 1)
            }
            None => {
                self.follow.balance();
                let lap = (LAP * self.entries as u64).clamp(SHORTEST_LAP, LONGEST_LAP);
                Rebuild::Due(self.ops + lap)
            }
        };
    }

    /// What an entry of these marks is worth keeping now.
    pub fn worth(&self, marks: Marks) -> f32 {
        self.table.worth(marks.class(), self.now().since(marks.last()))
    }

    /// Uses so far.
    pub fn operations(&self) -> u64 {
        self.ops
    }

    /// Bytes allocated. Costs what there are of budgets and databases.
    pub fn allocated(&self) -> usize {
        self.table.allocated()
            + self.follow.allocated()
            + self.ghosts.allocated()
            + self.shares.allocated()
            + block(self.pools.capacity() * size_of::<Pool>())
    }
}

#[cfg(test)]
#[path = "evict_tests.rs"]
mod tests;
