//! What Redis's policies have in common: no order is kept of the keys; whoever
//! is to go is looked for among some that are drawn.
//!
//! For each eviction five keys are drawn (`maxmemory-samples`), and the best of
//! them for eviction stay in a pool of sixteen until they are evicted or better
//! ones displace them, with the idleness that they had when they were drawn: a
//! key that was asked for since then goes all the same. As in Redis 7.0's
//! `evictionPoolPopulate` and `performEvictions` (evict.c), with one database.
//!
//! Two differences: the server draws neighbours in its hash table, here each
//! key is drawn by itself; and the server evicts before a command until it is
//! not over its limit, so that it is over it by the last value written, where
//! here room is made first.

use super::held::Held;
use super::policy::Request;
use super::Setup;
use rand::{rngs::SmallRng, Rng, SeedableRng};

const SAMPLES: usize = 5;
const POOL: usize = 16;

/// The keys that are best for eviction, so far as was seen; the best at the end.
#[derive(Default)]
struct Pool {
    best: Vec<(u64, u32)>,
}

impl Pool {
    fn offer(&mut self, idle: u64, key: u32) {
        let place = self.best.iter().take_while(|(other, _)| *other < idle).count();
        if self.best.len() < POOL {
            self.best.insert(place, (idle, key));
        } else if place > 0 {
            self.best.remove(0);
            self.best.insert(place - 1, (idle, key));
        }
    }
}

/// A cache whose keys can be drawn.
pub struct Sampled {
    held: Held,
    keys: Vec<u32>,
    places: Vec<u32>,
    pool: Pool,
    /// The caller draws from it too.
    pub random: SmallRng,
}

impl Sampled {
    /// An empty one.
    pub fn new(setup: &Setup) -> Self {
        Self {
            held: setup.held(),
            keys: Vec::new(),
            places: vec![0; setup.keys as usize],
            pool: Pool::default(),
            random: SmallRng::seed_from_u64(setup.seed),
        }
    }

    /// Whether a key is held.
    pub fn has(&self, key: u32) -> bool {
        self.held.has(key)
    }

    /// Bytes held.
    pub fn used(&self) -> u64 {
        self.held.used()
    }

    /// Puts a key that is not held, after those that `idle` says are idlest (so
    /// far as is seen) have made room; whether it could be put.
    pub fn put(&mut self, request: &Request, idle: impl Fn(u32) -> u64) -> bool {
        if !self.held.could_fit(request) {
            return false;
        }
        while !self.held.fits(request) {
            self.evict(&idle);
        }
        self.places[request.key as usize] = self.keys.len() as u32;
        self.keys.push(request.key);
        self.held.put(request);
        true
    }

    fn evict(&mut self, idle: impl Fn(u32) -> u64) {
        while !self.keys.is_empty() {
            for _ in 0..SAMPLES {
                let key = self.keys[self.random.random_range(0..self.keys.len())];
                self.pool.offer(idle(key), key);
            }
            while let Some((_, key)) = self.pool.best.pop() {
                // A key may be in the pool twice, and gone by now.
                if self.held.has(key) {
                    let place = self.places[key as usize];
                    self.keys.swap_remove(place as usize);
                    if let Some(moved) = self.keys.get(place as usize) {
                        self.places[*moved as usize] = place;
                    }
                    self.held.take(key);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_keeps_the_idlest() {
        let mut pool = Pool::default();
        for key in 0..16 {
            pool.offer(u64::from(key) * 10, key);
        }
        pool.offer(0, 100); // no idler than the least idle
        assert_eq!(pool.best[0], (0, 0));
        pool.offer(55, 101); // displaces that one
        let keys: Vec<u32> = pool.best.iter().map(|(_, key)| *key).collect();
        assert_eq!(keys, [1, 2, 3, 4, 5, 101, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(pool.best.pop(), Some((150, 15)));
        pool.offer(0, 102); // with room for it now
        pool.offer(140, 103); // of two that are alike, the newer goes later
        let ends = [pool.best[0], pool.best[14], pool.best[15]];
        assert_eq!(ends, [(10, 1), (140, 103), (140, 14)]);
    }
}
