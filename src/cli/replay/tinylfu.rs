//! W-TinyLFU: a window of LRU for what is new, before a main cache into which
//! only that is let which was asked for more often than what would have to go.
//!
//! ```text
//! new ─▶ window, 1 % ─ least recent ─▶ probation, a fifth of main ─ asked for ─▶ protected, the rest
//!         (LRU)                         (LRU)   ▲                                  (LRU)
//!                                         │     └────────── least recent ───────────┘
//!                                         └─ against the least recent: who was asked for less goes
//! ```
//! Einziger, Friedman, Manes (see `sketch`), with the window that the paper
//! calls W-TinyLFU at its fixed size of 1 %; Caffeine, which moves it, may do
//! better. In bytes it is done as Caffeine does: what leaves the window stands
//! for the main cache all the same; while the whole is over its capacity, the
//! candidates, first come first, meet the least recent of probation, and the one
//! who is asked for no more than the other goes, whatever the sizes. Without
//! candidates left, the least recent of probation, then of the protected go.

use super::held::Held;
use super::list::{Links, List};
use super::policy::{Policy, Request};
use super::sketch::Sketch;
use super::Setup;

const WINDOW_SHARE: u64 = 100;
/// In percent of main.
const PROTECTED_SHARE: u64 = 80;

#[derive(Clone, Copy, PartialEq)]
enum Region {
    Window,
    Probation,
    Protected,
}

/// The policy.
pub struct TinyLfu {
    held: Held,
    links: Links,
    sketch: Sketch,
    regions: Vec<Region>,
    window: List,
    probation: List,
    protected: List,
    /// Bytes in them, and the most that may be.
    in_window: u64,
    in_protected: u64,
    window_capacity: u64,
    protected_capacity: u64,
    /// What left the window in this request; kept for its memory.
    candidates: Vec<u32>,
}

impl TinyLfu {
    /// An empty cache.
    pub fn new(setup: &Setup) -> Self {
        // A byte at least: else what is new could never be the newest.
        let window_capacity = (setup.capacity / WINDOW_SHARE).max(1);
        Self {
            held: setup.held(),
            links: Links::new(setup.keys),
            sketch: Sketch::new(setup.entries),
            regions: vec![Region::Window; setup.keys as usize],
            window: List::EMPTY,
            probation: List::EMPTY,
            protected: List::EMPTY,
            in_window: 0,
            in_protected: 0,
            window_capacity,
            protected_capacity: (setup.capacity - window_capacity) * PROTECTED_SHARE / 100,
            candidates: Vec::new(),
        }
    }

    fn hit(&mut self, key: u32) {
        match self.regions[key as usize] {
            Region::Window => self.window.renew(&mut self.links, key),
            Region::Protected => self.protected.renew(&mut self.links, key),
            Region::Probation if u64::from(self.held.size(key)) > self.protected_capacity => {
                self.probation.renew(&mut self.links, key);
            }
            Region::Probation => {
                self.probation.remove(&mut self.links, key);
                self.protected.push(&mut self.links, key);
                self.regions[key as usize] = Region::Protected;
                self.in_protected += u64::from(self.held.size(key));
                while self.in_protected > self.protected_capacity {
                    let Some(least) = self.protected.pop(&mut self.links) else { break };
                    self.in_protected -= u64::from(self.held.size(least));
                    self.probation.push(&mut self.links, least);
                    self.regions[least as usize] = Region::Probation;
                }
            }
        }
    }

    fn drain_window(&mut self) {
        self.candidates.clear();
        while self.in_window > self.window_capacity {
            let Some(least) = self.window.pop(&mut self.links) else { break };
            self.in_window -= u64::from(self.held.size(least));
            self.probation.push(&mut self.links, least);
            self.regions[least as usize] = Region::Probation;
            self.candidates.push(least);
        }
        self.candidates.reverse();
    }

    fn drain_main(&mut self) {
        while self.held.is_over() {
            let victim =
                self.probation.tail().or_else(|| self.protected.tail()).or_else(|| self.window.tail());
            let Some(victim) = victim else { break };
            let goes = match self.candidates.pop() {
                Some(candidate) if self.sketch.estimate(candidate) <= self.sketch.estimate(victim) => {
                    candidate
                }
                _ => victim,
            };
            self.evict(goes);
            // A candidate that was the victim itself stands no more.
            self.candidates.retain(|candidate| *candidate != goes);
        }
    }

    fn evict(&mut self, key: u32) {
        let size = self.held.take(key);
        let list = match self.regions[key as usize] {
            Region::Window => {
                self.in_window -= size;
                &mut self.window
            }
            Region::Probation => &mut self.probation,
            Region::Protected => {
                self.in_protected -= size;
                &mut self.protected
            }
        };
        list.remove(&mut self.links, key);
    }
}

impl Policy for TinyLfu {
    fn request(&mut self, request: &Request, _tick: u64) -> bool {
        self.sketch.count(request.key);
        if self.held.has(request.key) {
            self.hit(request.key);
            return true;
        }
        if !self.held.could_fit(request) {
            return false;
        }
        self.held.put(request);
        self.window.push(&mut self.links, request.key);
        self.regions[request.key as usize] = Region::Window;
        self.in_window += u64::from(request.size);
        self.drain_window();
        self.drain_main();
        false
    }

    fn used(&self) -> u64 {
        self.held.used()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hits, naive_hits, sequence};
    use super::*;

    /// Entries of one byte; the newest of each region last.
    fn naive(capacity: usize, keys: &[u32]) -> Vec<bool> {
        let (mut window, mut probation, mut protected) = (Vec::new(), Vec::new(), Vec::new());
        let window_capacity = (capacity / 100).max(1);
        let protected_capacity = (capacity - window_capacity) * 80 / 100;
        let mut sketch = Sketch::new(capacity as u64);
        let take = |region: &mut Vec<u32>, key: u32| {
            let place = region.iter().position(|other| *other == key);
            place.map(|place| region.remove(place)).is_some()
        };
        naive_hits(keys, |key| {
            sketch.count(key);
            if take(&mut window, key) {
                window.push(key);
            } else if take(&mut protected, key) {
                protected.push(key);
            } else if take(&mut probation, key) {
                match protected_capacity {
                    0 => probation.push(key),
                    _ => protected.push(key),
                }
                if protected.len() > protected_capacity {
                    probation.push(protected.remove(0));
                }
            } else {
                window.push(key);
                if window.len() > window_capacity {
                    let candidate = window.remove(0);
                    probation.push(candidate);
                    if window.len() + probation.len() + protected.len() > capacity {
                        let victim = probation[0];
                        let admitted = sketch.estimate(candidate) > sketch.estimate(victim);
                        take(&mut probation, if admitted { victim } else { candidate });
                    }
                }
                return false;
            }
            true
        })
    }

    #[test]
    fn is_as_a_naive_one() {
        for seed in 0..6 {
            let keys = sequence(seed, 300, 4000);
            for capacity in [2, 5, 20, 100, 250] {
                let hit = hits(|setup| Box::new(TinyLfu::new(setup)), capacity, &keys);
                assert_eq!(hit, naive(capacity as usize, &keys), "seed {seed}, capacity {capacity}");
            }
        }
    }

    #[test]
    fn a_flood_of_what_is_new_does_not_push_out_what_is_asked_for() {
        let mut keys: Vec<u32> = (0..50).cycle().take(500).collect();
        keys.extend(100..1000);
        keys.extend(0..50);
        let hit = hits(|setup| Box::new(TinyLfu::new(setup)), 100, &keys);
        assert!(hit[hit.len() - 50..].iter().all(|hit| *hit));
    }
}
