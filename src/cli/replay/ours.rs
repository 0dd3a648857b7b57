//! The policy that ships: core's own code over a table of slots as the module
//! has it. What is due in the background is done a step a request, where the
//! module does it a step a tick of its timer.

use cacheflow_core::entry::Cost;
use cacheflow_core::evict::{Eviction, Leaving, Scope};
use cacheflow_core::evict_choice::{Candidate, Weight};
use cacheflow_core::evict_class::Marks;
use cacheflow_core::evict_follow::Spot;
use cacheflow_core::evict_population::Population;
use cacheflow_core::index::Db;
use cacheflow_core::slots::{Handle, Slots};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use xxhash_rust::xxh3::xxh3_64;

use super::policy::{Policy, Request};
use super::Setup;

#[derive(Clone, Copy, Default)]
struct Held {
    slot: u32,
    candidate: Candidate,
}

#[derive(Default)]
struct Entries {
    slots: Slots,
    by_key: Vec<Held>,
}

impl Population for Entries {
    fn entries(&self) -> usize {
        self.slots.len()
    }
    fn databases(&self) -> Db {
        1
    }
    fn extent(&self, _: Db) -> usize {
        self.slots.extent()
    }
    fn is_taken(&self, spot: Spot) -> bool {
        self.slots.get(spot.slot).is_some()
    }
    fn look(&self, spot: Spot) -> Option<Candidate> {
        self.slots.get(spot.slot).map(|handle| self.by_key[key_of(handle) as usize].candidate)
    }
    fn set_marks(&mut self, spot: Spot, marks: Marks) {
        if let Some(handle) = self.slots.get(spot.slot) {
            self.by_key[key_of(handle) as usize].candidate.marks = marks;
        }
    }
}

fn handle_of(key: u32) -> Handle {
    Handle((u64::from(key) + 1) * 2)
}

fn key_of(handle: Handle) -> u32 {
    (handle.0 / 2 - 1) as u32
}

/// See the module's text.
pub struct Ours {
    capacity: u64,
    used: u64,
    entries: Entries,
    eviction: Eviction,
    dice: SmallRng,
}

impl Ours {
    /// Empty. Misses are counted by [`Weight::Size`], their costs by
    /// [`Weight::CostSize`].
    pub fn new(setup: &Setup<'_>, weight: Weight) -> Ours {
        Ours {
            capacity: setup.capacity,
            used: 0,
            entries: Entries::default(),
            eviction: Eviction::new(weight),
            dice: SmallRng::seed_from_u64(setup.seed),
        }
    }
}

fn hash(key: u32) -> u64 {
    xxh3_64(&key.to_le_bytes())
}

impl Policy for Ours {
    fn request(&mut self, request: &Request, _tick: u64) -> bool {
        let key = request.key as usize;
        if self.entries.by_key.len() <= key {
            self.entries.by_key.resize(key + 1, Held::default());
        }
        self.eviction.tick(&mut self.entries, 1);
        let dice = &mut self.dice;
        let held = &mut self.entries.by_key[key];
        if held.slot != 0 {
            held.candidate.marks = self.eviction.used(held.candidate.marks, dice.random());
            return true;
        }
        let size = u64::from(request.size);
        if size > self.capacity {
            return false;
        }
        while self.used + size > self.capacity {
            let Some(spot) = self.eviction.choose(&self.entries, Scope::All, || dice.random()) else {
                return false;
            };
            let Some(handle) = self.entries.slots.remove(spot.slot) else { return false };
            let old = &mut self.entries.by_key[key_of(handle) as usize];
            old.slot = 0;
            self.used -= u64::from(old.candidate.size);
            self.eviction.left(hash(key_of(handle)), old.candidate.marks, Leaving::Evicted);
        }
        let Some(slot) = self.entries.slots.insert(handle_of(request.key)) else { return false };
        let marks = self.eviction.inserted(hash(request.key), Spot { db: 0, slot }, 0, dice.random());
        let candidate =
            Candidate { marks, size: request.size, cost: Cost(request.cost), ..Candidate::default() };
        self.entries.by_key[key] = Held { slot, candidate };
        self.used += size;
        false
    }

    fn used(&self) -> u64 {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop a tenth too long: LRU hits nothing, Belady nine in ten.
    #[test]
    fn keeps_most_of_a_loop_and_never_more_than_fits() {
        let mut ours = Ours::new(&Setup::plain(1000, 50_000), Weight::CostSize);
        let mut hits = 0;
        for tick in 0..60_000u64 {
            let key = (tick % 550) as u32;
            let hit = ours.request(&Request { key, size: 100, cost: 10 }, tick);
            hits += u64::from(hit && tick >= 30_000);
            assert!(ours.used() <= 50_000);
        }
        assert!(hits > 30_000 * 6 / 10, "{hits} of 30000");
        assert!(!ours.request(&Request { key: 999, size: 50_001, cost: 1 }, 60_000), "it has no room at all");
        assert!(ours.used() > 49_000, "and takes none from others");
    }
}
