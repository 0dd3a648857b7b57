//! Redis's `allkeys-lru`: of the keys drawn (see `sampled`), the one that was
//! asked for the longest ago by a clock of 24 bits that ticks in seconds.
//!
//! A replay has no seconds, so the setup says how many requests come in one.
//! The fewer, the finer the clock. All keys that were asked for within one
//! second are alike, and go in the order in which they were drawn.

use super::policy::{Policy, Request};
use super::sampled::Sampled;
use super::Setup;

const CLOCK: u32 = (1 << 24) - 1;

/// The policy.
pub struct RedisLru {
    cache: Sampled,
    last: Vec<u32>,
    rate: u64,
}

impl RedisLru {
    /// An empty cache.
    pub fn new(setup: &Setup) -> Self {
        Self { cache: Sampled::new(setup), last: vec![0; setup.keys as usize], rate: setup.rate }
    }
}

impl Policy for RedisLru {
    fn request(&mut self, request: &Request, tick: u64) -> bool {
        let now = (tick / self.rate) as u32 & CLOCK;
        let hit = self.cache.has(request.key);
        if !hit {
            let last = &self.last;
            self.cache.put(request, |key| idle(now, last[key as usize]));
        }
        self.last[request.key as usize] = now;
        hit
    }

    fn used(&self) -> u64 {
        self.cache.used()
    }
}

/// Seconds since; the clock may have gone round once.
fn idle(now: u32, last: u32) -> u64 {
    u64::from(now.wrapping_sub(last) & CLOCK)
}

#[cfg(test)]
mod tests {
    use super::super::lru::Lru;
    use super::super::tests::{hits, hits_at, zipf};
    use super::*;

    fn misses(hit: &[bool]) -> f64 {
        hit.iter().filter(|hit| !**hit).count() as f64
    }

    /// Redis's own documentation shows ten samples to be nearly LRU, five to be close.
    #[test]
    fn with_a_fine_clock_it_is_nearly_lru() {
        let keys = zipf(2000, 60_000);
        let exact = misses(&hits(|setup| Box::new(Lru::new(setup)), 200, &keys));
        let fine = misses(&hits_at(1, |setup| Box::new(RedisLru::new(setup)), 200, &keys));
        assert!((0.99..1.03).contains(&(fine / exact)), "{fine} against {exact}");
        let coarse = misses(&hits_at(60_000, |setup| Box::new(RedisLru::new(setup)), 200, &keys));
        assert!(coarse / exact > 1.01, "all seconds alike: {coarse} against {exact}");
    }

    #[test]
    fn the_clock_goes_round() {
        assert_eq!([idle(7, 7), idle(9, 7), idle(0, CLOCK), idle(2, CLOCK - 1)], [0, 2, 1, 4]);
    }
}
