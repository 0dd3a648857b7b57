//! Redis's `allkeys-lfu`: of the keys drawn (see `sampled`), the one with the
//! lowest counter.
//!
//! A counter of eight bits begins at 5, and a hit raises it by chance, the less
//! likely the higher it is: by 1 in (counter − 5) · 10 + 1 (`lfu-log-factor`
//! 10). It falls by one for every minute since it was last written
//! (`lfu-decay-time` 1), also when it is only looked at, as in `LFULogIncr` and
//! `LFUDecrAndReturn` of Redis 7.0's evict.c. Minutes come from the setup's
//! requests a second, the first begins with the trace.

use super::policy::{Policy, Request};
use super::sampled::Sampled;
use super::Setup;
use rand::Rng;

const FIRST: u8 = 5;
const LOG_FACTOR: f64 = 10.0;

/// As the server packs them into the 24 bits of its clock.
#[derive(Clone, Copy)]
struct Counter {
    minute: u16,
    count: u8,
}

impl Counter {
    fn at(self, minute: u16) -> u8 {
        let passed = minute.wrapping_sub(self.minute);
        u8::try_from(passed).map_or(0, |passed| self.count.saturating_sub(passed))
    }

    fn raised(self, minute: u16, random: &mut impl Rng) -> Self {
        let count = self.at(minute);
        let chance = 1.0 / (f64::from(count.saturating_sub(FIRST)) * LOG_FACTOR + 1.0);
        let count = if random.random::<f64>() < chance { count.saturating_add(1) } else { count };
        Self { minute, count }
    }
}

/// The policy.
pub struct RedisLfu {
    cache: Sampled,
    counters: Vec<Counter>,
    /// Requests.
    minute: u64,
}

impl RedisLfu {
    /// An empty cache.
    pub fn new(setup: &Setup) -> Self {
        Self {
            cache: Sampled::new(setup),
            counters: vec![Counter { minute: 0, count: 0 }; setup.keys as usize],
            minute: setup.rate * 60,
        }
    }
}

impl Policy for RedisLfu {
    fn request(&mut self, request: &Request, tick: u64) -> bool {
        let minute = (tick / self.minute) as u16;
        let key = request.key as usize;
        let hit = self.cache.has(request.key);
        if hit {
            self.counters[key] = self.counters[key].raised(minute, &mut self.cache.random);
        } else {
            let counters = &self.counters;
            self.cache.put(request, |key| u64::from(u8::MAX - counters[key as usize].at(minute)));
            self.counters[key] = Counter { minute, count: FIRST };
        }
        hit
    }

    fn used(&self) -> u64 {
        self.cache.used()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{rngs::SmallRng, SeedableRng};

    /// To rise by k takes 5k² − 4k hits in the mean, the sum of 10i + 1 below k:
    /// 100 hits lead to 10, 1,000 to 20, 100,000 to 147. (The table in Redis's
    /// redis.conf, of one run each, has 10, 18 and 142.)
    #[test]
    fn counters_grow_as_their_chances_say() {
        let mut random = SmallRng::seed_from_u64(1);
        for (asked, low, high) in [(100, 9.5, 11.5), (1000, 18.5, 21.0), (100_000, 144.0, 149.0)] {
            let runs = 20;
            let sum: u32 = (0..runs)
                .map(|_| {
                    let new = Counter { minute: 0, count: FIRST };
                    u32::from((0..asked).fold(new, |counter, _| counter.raised(0, &mut random)).count)
                })
                .sum();
            let mean = f64::from(sum) / f64::from(runs);
            assert!((low..high).contains(&mean), "{mean} after {asked}");
        }
        let full = Counter { minute: 0, count: u8::MAX };
        assert_eq!(full.raised(0, &mut random).count, u8::MAX);
    }

    #[test]
    fn counters_fall_by_one_a_minute() {
        let counter = Counter { minute: 65_535, count: 7 };
        assert_eq!([65_535, 0, 5, 6, 300].map(|minute| counter.at(minute)), [7, 6, 1, 0, 0]);
        // What fell below the first value certainly rises again.
        let mut random = SmallRng::seed_from_u64(1);
        assert_eq!(counter.raised(4, &mut random).count, 3);
    }

    #[test]
    fn what_is_asked_for_often_outlives_a_flood() {
        let setup = Setup::plain(1000, 20);
        let mut cache = RedisLfu::new(&setup);
        let mut ask = |key, tick| cache.request(&Request { key, size: 1, cost: 1 }, tick);
        let mut tick = 0;
        for key in (0..5).cycle().take(500) {
            ask(key, tick);
            tick += 1;
        }
        for key in 10..1000 {
            ask(key, tick);
            tick += 1;
        }
        assert!((0..5).all(|key| ask(key, tick)));
    }
}
