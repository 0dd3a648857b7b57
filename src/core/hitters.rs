//! The heaviest of very many keys, in bounded memory.
//!
//! Weighted Space-Saving: Metwally, Agrawal, El Abbadi, "Efficient Computation
//! of Frequent and Top-k Elements in Data Streams", ICDT 2005. K counters; a key
//! that has none takes the place of the lightest and begins with its weight.
//!
//! Guarantees, W being all weight that was added since the table was last empty,
//! decayed as the counters are:
//! - No figure is too low, and none is more than W/K too high; by how much at most
//!   is known of each ([`Hitter::error`]).
//! - Every key that has more than W/K is there.
//! - An addition is a look-up and a walk of the heap: O(log K).
//!
//! What [`Hitters::decay`] drops for being next to nothing is under its floor: by
//! that much a figure may be too low if the key comes back. Names longer than
//! [`LONGEST_NAME`] are left out, so that K counters have a bound in bytes.
//!
//! ```text
//! names: hash ─▶ id      hitters: id ─▶ weight, place, what else is known
//! heap:  ids, the lightest first; a hitter knows its place in it
//! ```

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::index::Db;
use crate::slab::Slab;
use crate::units::{block, Millis, Time};

/// The longest name that has a counter.
pub const LONGEST_NAME: usize = 1024;
/// The most that is added at once: what is beyond no double counts exactly.
const HEAVIEST: f64 = (1u64 << 53) as f64;

/// A hitter's number, while it is there.
pub type Id = u32;

/// A key with a counter.
#[derive(Debug)]
pub struct Hitter<T> {
    /// Its database.
    pub db: Db,
    /// Its name.
    pub name: Box<[u8]>,
    /// What was added, [`Hitter::error`] too high at most.
    pub weight: f64,
    /// What it may have inherited.
    pub error: f64,
    /// What else is known of it.
    pub of: T,
    place: usize,
}

/// What an addition did.
#[derive(Debug)]
pub enum Added<T> {
    /// The key had a counter.
    Known(Id),
    /// It has one now.
    New(Id),
    /// It has the place of another, whose number this was.
    Replaced(Id, Id, Hitter<T>),
    /// It gets none.
    Refused,
}

/// See the module's text.
#[derive(Debug)]
pub struct Hitters<T> {
    capacity: usize,
    hitters: Slab<Hitter<T>>,
    heap: Vec<Id>,
    names: HashTable<Id>,
    /// Bytes of the names.
    bytes: usize,
    /// What a key without a counter has at most.
    missed: f64,
}

fn hash(db: Db, name: &[u8]) -> u64 {
    xxh3_64_with_seed(name, db as u64)
}

impl<T> Hitters<T> {
    /// An empty table of so many counters.
    pub fn new(capacity: usize) -> Hitters<T> {
        Hitters {
            capacity,
            hitters: Slab::default(),
            heap: Vec::new(),
            names: HashTable::new(),
            bytes: 0,
            missed: 0.0,
        }
    }

    /// Changes how many counters there are; the lightest are told to `gone`.
    pub fn resize(&mut self, capacity: usize, mut gone: impl FnMut(Id, Hitter<T>)) {
        self.capacity = capacity;
        while self.heap.len() > capacity {
            let Some(lightest) = self.heap.first().copied() else { return };
            if let Some(hitter) = self.remove(lightest) {
                self.missed = self.missed.max(hitter.weight);
                gone(lightest, hitter);
            }
        }
    }

    /// How many counters there may be.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Whether there is room for nobody that is not heavier than this.
    pub fn is_full_of_heavier(&self, weight: u64) -> bool {
        self.len() >= self.capacity && self.weight(0).is_none_or(|lightest| lightest >= weight as f64)
    }

    /// The number of a key.
    pub fn find(&self, db: Db, name: &[u8]) -> Option<Id> {
        let bears = |id: &Id| self.hitters.get(*id).is_some_and(|of| of.db == db && *of.name == *name);
        self.names.find(hash(db, name), bears).copied()
    }

    /// A hitter.
    pub fn get(&self, id: Id) -> Option<&Hitter<T>> {
        self.hitters.get(id)
    }

    /// What else is known of one, to change.
    pub fn of_mut(&mut self, id: Id) -> Option<&mut T> {
        self.hitters.get_mut(id).map(|hitter| &mut hitter.of)
    }

    /// Adds weight to a key; `of` is what is known of one that is new.
    pub fn add(&mut self, db: Db, name: &[u8], weight: u64, of: impl FnOnce() -> T) -> Added<T> {
        let weight = (weight as f64).min(HEAVIEST);
        if let Some(id) = self.find(db, name) {
            if let Some(hitter) = self.hitters.get_mut(id) {
                hitter.weight += weight;
                let place = hitter.place;
                self.sink(place);
            }
            return Added::Known(id);
        }
        if self.capacity == 0 || name.len() > LONGEST_NAME {
            return Added::Refused;
        }
        let mut replaced = None;
        if self.heap.len() >= self.capacity {
            let Some(lightest) = self.heap.first().copied() else { return Added::Refused };
            if let Some(hitter) = self.remove(lightest) {
                self.missed = self.missed.max(hitter.weight);
                replaced = Some((lightest, hitter));
            }
        }
        let (error, place) = (self.missed, self.heap.len());
        let hitter = Hitter { db, name: name.into(), weight: error + weight, error, of: of(), place };
        self.bytes += block(name.len());
        let id = self.hitters.insert(hitter);
        let hitters = &self.hitters;
        let again = |id: &Id| hitters.get(*id).map_or(0, |hitter| hash(hitter.db, &hitter.name));
        self.names.insert_unique(hash(db, name), id, again);
        self.heap.push(id);
        self.rise(place);
        match replaced {
            Some((gone, hitter)) => Added::Replaced(id, gone, hitter),
            None => Added::New(id),
        }
    }

    /// Takes a hitter out.
    pub fn remove(&mut self, id: Id) -> Option<Hitter<T>> {
        let hitter = self.hitters.remove(id)?;
        self.bytes -= block(hitter.name.len());
        if let Ok(entry) = self.names.find_entry(hash(hitter.db, &hitter.name), |&other| other == id) {
            entry.remove();
        }
        self.heap.swap_remove(hitter.place);
        if let Some(&moved) = self.heap.get(hitter.place) {
            self.seat(moved, hitter.place);
            self.sink(hitter.place);
            self.rise(hitter.place);
        }
        self.tidy();
        Some(hitter)
    }

    /// Takes all of some database out (`None`: of all); each is told to `gone`.
    pub fn flush(&mut self, db: Option<Db>, mut gone: impl FnMut(Id, Hitter<T>)) {
        let those: Vec<Id> =
            self.iter().filter(|(_, of)| db.is_none_or(|db| of.db == db)).map(|(id, _)| id).collect();
        for id in those {
            if let Some(hitter) = self.remove(id) {
                gone(id, hitter);
            }
        }
    }

    /// Two databases were exchanged.
    pub fn swap(&mut self, one: Db, other: Db) {
        let those: Vec<Id> = self.iter().map(|(id, _)| id).collect();
        for id in those {
            if let Some(hitter) = self.hitters.get_mut(id) {
                hitter.db = match hitter.db {
                    db if db == one => other,
                    db if db == other => one,
                    db => db,
                };
            }
        }
        let hitters = &self.hitters;
        let again = |id: &Id| hitters.get(*id).map_or(0, |hitter| hash(hitter.db, &hitter.name));
        let ids: Vec<Id> = self.names.drain().collect();
        for id in ids {
            self.names.insert_unique(again(&id), id, again);
        }
    }

    /// Multiplies all by a factor, and takes out what is below `floor` then.
    pub fn decay(&mut self, factor: f64, floor: f64, mut gone: impl FnMut(Id, Hitter<T>)) {
        for &id in &self.heap {
            if let Some(hitter) = self.hitters.get_mut(id) {
                hitter.weight *= factor;
                hitter.error *= factor;
            }
        }
        self.missed *= factor;
        while let Some(&lightest) = self.heap.first() {
            if self.hitters.get(lightest).is_some_and(|hitter| hitter.weight >= floor) {
                break;
            }
            match self.remove(lightest) {
                Some(hitter) => gone(lightest, hitter),
                None => break,
            }
        }
    }

    /// All, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Hitter<T>)> {
        self.hitters.iter()
    }

    /// All, the heaviest first.
    pub fn sorted(&self) -> Vec<&Hitter<T>> {
        let mut all: Vec<&Hitter<T>> = self.iter().map(|(_, hitter)| hitter).collect();
        all.sort_by(|a, b| b.weight.total_cmp(&a.weight).then_with(|| a.name.cmp(&b.name)));
        all
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.hitters.allocated()
            + self.bytes
            + block(self.heap.capacity() * size_of::<Id>())
            + block(self.names.allocation_size())
    }

    /// Empty, it holds nothing, and nothing was missed.
    fn tidy(&mut self) {
        if self.heap.is_empty() {
            (self.heap, self.names, self.missed) = (Vec::new(), HashTable::new(), 0.0);
        }
    }

    fn weight(&self, place: usize) -> Option<f64> {
        self.heap.get(place).and_then(|&id| self.hitters.get(id)).map(|hitter| hitter.weight)
    }

    fn seat(&mut self, id: Id, place: usize) {
        if let Some(hitter) = self.hitters.get_mut(id) {
            hitter.place = place;
        }
    }

    fn exchange(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        for place in [one, other] {
            self.seat(self.heap[place], place);
        }
    }

    /// Moves one up while it is lighter than what is above it.
    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let above = (place - 1) / 2;
            if self.weight(above) <= self.weight(place) {
                return;
            }
            self.exchange(place, above);
            place = above;
        }
    }

    /// Moves one down while it is heavier than what is below it.
    fn sink(&mut self, mut place: usize) {
        loop {
            let (left, right) = (2 * place + 1, 2 * place + 2);
            let mut lightest = place;
            for below in [left, right] {
                if below < self.heap.len() && self.weight(below) < self.weight(lightest) {
                    lightest = below;
                }
            }
            if lightest == place {
                return;
            }
            self.exchange(place, lightest);
            place = lightest;
        }
    }
}

/// What halves in [`HalfLife::HALVED`], in steps of a minute: within one minute
/// from the first look figures are exact.
#[derive(Debug, Default)]
pub struct HalfLife {
    since: Option<Time>,
}

impl HalfLife {
    /// In which time a figure halves.
    pub const HALVED: Millis = Millis(300_000);
    const STEP: Millis = Millis(60_000);

    /// What figures are to be multiplied by at `now`; `None`: by nothing yet. A
    /// clock that was set back begins anew.
    pub fn factor(&mut self, now: Time) -> Option<f64> {
        let since = *self.since.get_or_insert(now);
        if now < since {
            self.since = Some(now);
            return None;
        }
        let steps = now.since(since).0 / Self::STEP.0;
        if steps == 0 {
            return None;
        }
        self.since = Some(Time(since.0 + steps * Self::STEP.0));
        Some((-((steps * Self::STEP.0) as f64) / Self::HALVED.0 as f64).exp2())
    }

    /// Begins anew at `now`: there is nothing to be halved.
    pub fn restart(&mut self, now: Time) {
        self.since = Some(now);
    }
}

#[cfg(test)]
#[path = "hitters_tests.rs"]
mod tests;
