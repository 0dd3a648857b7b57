//! Which keys are worth recomputing now: the candidates of CACHE.REFRESH.
//!
//! A candidate is a heavy hitter ([`crate::hitters`]) by hits times recompute
//! time, a hit of what has no measured time counting as one of a millisecond.
//!
//! Guarantees:
//! - Bounded by the capacity; nothing is kept where it is 0.
//! - [`Ahead::best`] answers the heaviest that is due in a database, or in a
//!   namespace of it, in O(log K).
//! - Nothing is offered more often than it was read, both halved alike: ahead of
//!   its readers an entry costs the origin at most as much again as they do, and
//!   what nobody reads any more is given up.
//! - A candidate outlives its entry: what was lost while it was hot is due.
//!
//! Not here: whether a candidate is really to be recomputed. Of what happens to
//! a key less is told than happens (EXPIRE, a tag's invalidation until the sweep
//! comes by), so whoever is offered one looks at the key first, and says what was
//! found: [`Ahead::offered`], [`Ahead::later`], [`Ahead::never`].
//!
//! # The life of a candidate
//! ```text
//!          read, written               its time comes
//!  NEVER ───────────────▶ WAITING until ─────────────▶ READY ── best ──▶ looked at
//!    ▲                       ▲   ▲   its entry leaves ───▲                │ │ │
//!    │                       │   └──── offered: leased, looked at again ──┘ │ │
//!    │                       └──────── later: not yet, leased by another ───┘ │
//!    └── never: no end of freshness, read less often than it was offered ─────┘
//!  deleted by hand, no entry any more, room needed, weight gone ─▶ no candidate
//! ```
//! While nobody calls CACHE.REFRESH ([`Ahead::is_used`]) nobody need tell of
//! writes and of entries that leave; at the first call all are due.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64;

use crate::entry::{Cost, Meta};
use crate::hitters::{Added, HalfLife, Hitter, Hitters, Id};
use crate::hotkeys::FLOOR;
use crate::index::Db;
use crate::refresh;
use crate::units::{block, Millis, Time};

/// After so long without a call of CACHE.REFRESH nobody uses it.
pub const FORGOTTEN: Millis = Millis(300_000);
/// What a hit of an unmeasured entry counts, in ms.
const UNMEASURED: u32 = 1;

/// Candidates that may be offered: of all of a database, or of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group {
    db: Db,
    /// The namespace's hash; 0: all.
    space: u64,
}

impl Group {
    /// Of a database, or of a namespace in it.
    pub fn new(db: Db, namespace: Option<&[u8]>) -> Group {
        Group { db, space: namespace.map_or(0, space) }
    }

    /// Its database.
    pub fn db(&self) -> Db {
        self.db
    }
}

/// Never 0.
fn space(namespace: &[u8]) -> u64 {
    xxh3_64(namespace).max(1)
}

/// When a candidate is due.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Due {
    Never,
    At(Time),
    /// Now, and it stands among the ready with this weight.
    Ready(u64),
}

/// What is known of a candidate beside its weight.
#[derive(Debug)]
struct Candidate {
    space: u64,
    hits: f64,
    offers: f64,
    due: Due,
}

/// A candidate as it is saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved<'a> {
    /// Its database.
    pub db: Db,
    /// Its key.
    pub name: &'a [u8],
    /// Hits times recompute time.
    pub weight: u64,
    /// Hits.
    pub hits: u64,
}

/// See the module's text.
#[derive(Debug)]
pub struct Ahead {
    hitters: Hitters<Candidate>,
    places: Places,
    life: HalfLife,
    /// When CACHE.REFRESH was last called.
    used: Option<Time>,
}

impl Default for Ahead {
    fn default() -> Self {
        Ahead { hitters: Hitters::new(0), places: Places::default(), life: HalfLife::default(), used: None }
    }
}

/// When what was stored is to be recomputed: so long before the end of its
/// freshness. `None`: it has no end. `now` is by the wall clock, as the
/// entry's times are; the answer counts from it.
pub fn due_in(meta: &Meta, cost: Cost, now: Time) -> Option<Millis> {
    if meta.staled_at.is_some() {
        return Some(Millis::ZERO);
    }
    let left = meta.fresh_until?.since(now);
    Some(Millis(left.0.saturating_sub(refresh::window(meta.length, cost).0)))
}

impl Ahead {
    /// Changes how many candidates there may be; 0: none.
    pub fn resize(&mut self, capacity: usize) {
        if capacity == self.hitters.capacity() {
            return;
        }
        let places = &mut self.places;
        self.hitters.resize(capacity, |id, hitter| places.take_out(id, &hitter));
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.hitters.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hitters.is_empty()
    }

    /// Reads answered with an entry that is due after `due_in`; `None`: never.
    #[allow(clippy::too_many_arguments)] // what one look at an entry tells
    pub fn read(
        &mut self,
        db: Db,
        name: &[u8],
        namespace: &[u8],
        reads: u64,
        cost: Cost,
        due_in: Option<Millis>,
        now: Time,
    ) {
        self.decay(now);
        let weight = reads.saturating_mul(u64::from(cost.0.max(UNMEASURED)));
        if let Some(id) = self.add(db, name, namespace, weight, reads) {
            self.reschedule(id, due_in.and_then(|left| now.after(left)));
        }
    }

    fn add(&mut self, db: Db, name: &[u8], namespace: &[u8], weight: u64, hits: u64) -> Option<Id> {
        let new = || Candidate { space: space(namespace), hits: 0.0, offers: 0.0, due: Due::Never };
        let id = match self.hitters.add(db, name, weight, new) {
            Added::Known(id) | Added::New(id) => id,
            Added::Replaced(id, gone, hitter) => {
                self.places.take_out(gone, &hitter);
                id
            }
            Added::Refused => return None,
        };
        if let Some(candidate) = self.hitters.of_mut(id) {
            candidate.hits += hits as f64;
        }
        Some(id)
    }

    /// An entry was written that is due after `due_in`; `None`: never.
    pub fn written(&mut self, db: Db, name: &[u8], due_in: Option<Millis>, now: Time) {
        if let Some(id) = self.hitters.find(db, name) {
            self.reschedule(id, due_in.and_then(|left| now.after(left)));
        }
    }

    /// An entry left its key, was made stale, or a lease on the key was given up.
    pub fn due(&mut self, db: Db, name: &[u8], now: Time) {
        self.written(db, name, Some(Millis::ZERO), now);
    }

    /// Whether a key is a candidate.
    pub fn knows(&self, db: Db, name: &[u8]) -> bool {
        !self.is_empty() && self.hitters.find(db, name).is_some()
    }

    /// A key was deleted by hand, or is none of a candidate's any more.
    pub fn forget(&mut self, db: Db, name: &[u8]) {
        if let Some(id) = self.hitters.find(db, name) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: Id) {
        if let Some(hitter) = self.hitters.remove(id) {
            self.places.take_out(id, &hitter);
        }
    }

    /// A database was emptied, or all were.
    pub fn flush(&mut self, db: Option<Db>) {
        let places = &mut self.places;
        self.hitters.flush(db, |id, hitter| places.take_out(id, &hitter));
    }

    /// Two databases were exchanged.
    pub fn swap(&mut self, one: Db, other: Db) {
        self.hitters.swap(one, other);
        self.rank_anew();
    }

    /// Lets time pass.
    pub fn decay(&mut self, now: Time) {
        if self.hitters.is_empty() {
            return self.life.restart(now);
        }
        let Some(factor) = self.life.factor(now) else { return };
        let places = &mut self.places;
        self.hitters.decay(factor, FLOOR, |id, hitter| places.take_out(id, &hitter));
        let all: Vec<Id> = self.hitters.iter().map(|(id, _)| id).collect();
        for id in all {
            if let Some(candidate) = self.hitters.of_mut(id) {
                candidate.hits *= factor;
                candidate.offers *= factor;
            }
        }
        self.rank_anew();
    }

    /// Puts the ready in order again. Walks all.
    fn rank_anew(&mut self) {
        self.places.ready.clear();
        let ready: Vec<Id> = self
            .hitters
            .iter()
            .filter(|(_, of)| matches!(of.of.due, Due::Ready(_)))
            .map(|(id, _)| id)
            .collect();
        ready.into_iter().for_each(|id| self.put(id, Due::Ready(0)));
    }

    // ── CACHE.REFRESH ───────────────────────────────────────────────────────

    /// Whether anybody uses it, or did so a moment ago.
    pub fn is_used(&self, now: Time) -> bool {
        self.used.is_some_and(|at| now.since(at) < FORGOTTEN)
    }

    /// Somebody uses it. Where nobody did, nobody told what happened meanwhile:
    /// all are due.
    pub fn used(&mut self, now: Time) {
        if !self.is_used(now) {
            let all: Vec<Id> = self.hitters.iter().map(|(id, _)| id).collect();
            all.into_iter().for_each(|id| self.reschedule(id, Some(now)));
        }
        self.used = Some(now);
    }

    /// The heaviest of a group that is due, to be looked at; it is due no more.
    pub fn best(&mut self, group: Group, now: Time) -> Option<(Id, Box<[u8]>)> {
        self.ripen(now);
        let &(of, _, id) = self.places.ready.range((group, Reverse(u64::MAX), 0)..).next()?;
        if of != group {
            return None;
        }
        self.put(id, Due::Never);
        self.hitters.get(id).map(|hitter| (id, hitter.name.clone()))
    }

    /// Has those whose time has come be ready, but those that were offered as
    /// often as they were read.
    fn ripen(&mut self, now: Time) {
        while let Some(&(at, id)) = self.places.waiting.first() {
            if at > now {
                return;
            }
            let worth = self.hitters.get(id).is_some_and(|hitter| hitter.of.hits > hitter.of.offers);
            self.put(id, if worth { Due::Ready(0) } else { Due::Never });
        }
    }

    /// It was offered, and is looked at again then at the latest.
    pub fn offered(&mut self, id: Id, again: Time) {
        if let Some(candidate) = self.hitters.of_mut(id) {
            candidate.offers += 1.0;
        }
        self.put(id, Due::At(again));
    }

    /// It is not to be offered before then.
    pub fn later(&mut self, id: Id, at: Time) {
        self.put(id, Due::At(at));
    }

    /// It has no end of freshness.
    pub fn never(&mut self, id: Id) {
        self.put(id, Due::Never);
    }

    /// It is none that can be recomputed: a native key.
    pub fn drop(&mut self, id: Id) {
        self.remove(id);
    }

    /// When the next is due; those that are ready aside.
    pub fn next_due(&self) -> Option<Time> {
        self.places.waiting.first().map(|(at, _)| *at)
    }

    fn reschedule(&mut self, id: Id, at: Option<Time>) {
        let Some(due) = self.hitters.get(id).map(|hitter| hitter.of.due) else { return };
        match (due, at) {
            // Told again, by clocks that tick a millisecond apart.
            (Due::At(old), Some(at)) if old.0.abs_diff(at.0) <= 2 => {}
            (_, Some(at)) => self.put(id, Due::At(at)),
            (_, None) => self.put(id, Due::Never),
        }
    }

    /// Puts a candidate where it stands from now on; where it is ready, by its
    /// weight.
    fn put(&mut self, id: Id, due: Due) {
        let Some(hitter) = self.hitters.get(id) else { return };
        self.places.take_out(id, hitter);
        let due = match due {
            Due::Ready(_) => Due::Ready(hitter.weight as u64),
            other => other,
        };
        self.places.put_in(id, hitter, due);
        if let Some(candidate) = self.hitters.of_mut(id) {
            candidate.due = due;
        }
    }

    // ── saving and looking ──────────────────────────────────────────────────

    /// The heaviest first.
    pub fn saved(&self) -> impl Iterator<Item = Saved<'_>> {
        self.hitters.sorted().into_iter().map(|hitter| Saved {
            db: hitter.db,
            name: &hitter.name,
            weight: hitter.weight as u64,
            hits: hitter.of.hits as u64,
        })
    }

    /// Takes in what another server, or this one before, has saved: due now. Of
    /// what is known here already, the higher figures count.
    pub fn restore(&mut self, saved: &Saved<'_>, namespace: &[u8], now: Time) {
        self.decay(now);
        let known = self.hitters.find(saved.db, saved.name);
        let (weight, hits) = known
            .and_then(|id| self.hitters.get(id))
            .map_or((0, 0), |hitter| (hitter.weight as u64, hitter.of.hits as u64));
        if known.is_none() && self.hitters.is_full_of_heavier(saved.weight) {
            return;
        }
        let (more, hits) = (saved.weight.saturating_sub(weight), saved.hits.saturating_sub(hits));
        if let Some(id) = self.add(saved.db, saved.name, namespace, more, hits) {
            self.reschedule(id, Some(now));
        }
    }

    /// Bytes allocated: a set's nodes have room for eleven and are two thirds full.
    pub fn allocated(&self) -> usize {
        let set = |len: usize, each: usize| block((len * each * 3).div_ceil(2));
        self.hitters.allocated()
            + set(self.places.waiting.len(), size_of::<(Time, Id)>())
            + set(self.places.ready.len(), size_of::<(Group, Reverse<u64>, Id)>())
    }

    /// What is wrong inside.
    pub fn validate(&self) -> Vec<String> {
        let (mut problems, mut waiting, mut ready) = (Vec::new(), 0, 0);
        for (id, hitter) in self.hitters.iter() {
            let there = match hitter.of.due {
                Due::Never => true,
                Due::At(at) => {
                    waiting += 1;
                    self.places.waiting.contains(&(at, id))
                }
                Due::Ready(weight) => {
                    ready += 2;
                    groups(hitter)
                        .iter()
                        .all(|group| self.places.ready.contains(&(*group, Reverse(weight), id)))
                }
            };
            if !there {
                problems.push(format!("candidate {id} is not where it says: {:?}", hitter.of.due));
            }
        }
        if (waiting, ready) != (self.places.waiting.len(), self.places.ready.len()) {
            problems.push(format!("{waiting} wait and {ready} are ready, not {:?}", self.places));
        }
        problems
    }
}

/// Where candidates stand.
#[derive(Debug, Default)]
struct Places {
    waiting: BTreeSet<(Time, Id)>,
    /// Each twice: among all of its database, and in its namespace.
    ready: BTreeSet<(Group, Reverse<u64>, Id)>,
}

fn groups(hitter: &Hitter<Candidate>) -> [Group; 2] {
    [0, hitter.of.space].map(|space| Group { db: hitter.db, space })
}

impl Places {
    fn put_in(&mut self, id: Id, hitter: &Hitter<Candidate>, due: Due) {
        match due {
            Due::Never => {}
            Due::At(at) => {
                self.waiting.insert((at, id));
            }
            Due::Ready(weight) => {
                self.ready.extend(groups(hitter).map(|group| (group, Reverse(weight), id)));
            }
        }
    }

    fn take_out(&mut self, id: Id, hitter: &Hitter<Candidate>) {
        match hitter.of.due {
            Due::Never => {}
            Due::At(at) => {
                self.waiting.remove(&(at, id));
            }
            Due::Ready(weight) => {
                for group in groups(hitter) {
                    self.ready.remove(&(group, Reverse(weight), id));
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "refresh_ahead_tests.rs"]
mod tests;
