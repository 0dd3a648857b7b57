//! A cache in front of sources that change, simulated: what TTLs chosen by
//! `cacheflow_core::adaptive` come to, and the best that one TTL for all can do.
//!
//! Keys are asked for by Zipf's law, at random moments. The source of each changes
//! at random moments too, at a pace of its own ([`Mixture`]). A read finds a value
//! that is fresh by its TTL, and which may yet be outdated, or fetches: there is
//! no grace and no early refresh, so that fetches and stale reads are the TTLs'
//! alone. Both policies see the same reads and the same changes. What is counted
//! begins after the first half: a cache runs for long, and how fast an estimate is
//! learnt is its own matter.
//!
//! Whether a hit is stale is not counted but expected: the chance that the source
//! has changed since the value was fetched, 1 − e^(−age/mean), which does not depend
//! on what led to its TTL. A popular key changes some dozens of times in a run;
//! whether these happen to fall before many reads or few would be five times what
//! is compared where all keys are alike.

use cacheflow_core::adaptive::{refill, Bounds, Digest, Outlook, Past};
use cacheflow_core::rates::{Kin, Rates};
use cacheflow_core::units::{Millis, Time};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rand_distr::{Distribution, Exp1, Zipf};

const MINUTE: f64 = 60_000.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

/// How often sources change: the mean time between two changes, in ms, of a key
/// that drew `u`, uniform in 0..1.
pub struct Mixture {
    /// For people.
    pub name: &'static str,
    /// The mean of a key.
    pub mean: fn(u: f64) -> f64,
    /// Whether keys bear a tag that tells slow from fast: a quarter of them each.
    pub tagged: bool,
    /// Whether all keys are alike, and one TTL is as good as there can be.
    pub alike: bool,
}

fn log_uniform(u: f64, from: f64, to: f64) -> f64 {
    from * (to / from).powf(u)
}

/// Those that are measured.
pub const MIXTURES: &[Mixture] = &[
    Mixture {
        name: "a minute to a day, evenly in the logarithm",
        mean: |u| log_uniform(u, MINUTE, DAY),
        tagged: false,
        alike: false,
    },
    Mixture {
        name: "the same, with tags that tell slow from fast",
        mean: |u| log_uniform(u, MINUTE, DAY),
        tagged: true,
        alike: false,
    },
    Mixture {
        name: "half ten minutes, half a day",
        mean: |u| if u < 0.5 { 10.0 * MINUTE } else { DAY },
        tagged: false,
        alike: false,
    },
    Mixture {
        name: "a tenth five minutes, the rest six hours",
        mean: |u| if u < 0.1 { 5.0 * MINUTE } else { 6.0 * HOUR },
        tagged: false,
        alike: false,
    },
    Mixture { name: "all three hours", mean: |_| 3.0 * HOUR, tagged: false, alike: true },
];

/// What is simulated.
#[derive(Clone, Copy)]
pub struct Scale {
    /// Keys asked for.
    pub keys: u32,
    /// Reads of them all.
    pub reads: u64,
    /// Days that these are spread over.
    pub days: f64,
    /// The exponent of their popularity.
    pub zipf: f64,
    /// Of reads, changes and paces.
    pub seed: u64,
}

/// What a policy came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Reads answered by the cache.
    pub hits: u64,
    /// Of these, to be expected with what had changed at the source.
    pub stale: f64,
    /// Reads of the source.
    pub fetches: u64,
}

impl Outcome {
    /// The share of hits that were stale.
    pub fn staleness(&self) -> f64 {
        self.stale / self.hits.max(1) as f64
    }
}

/// Who says for how long a value that was fetched is fresh: of which key, which
/// version, when.
pub trait Policy {
    /// The TTL.
    fn choose(&mut self, key: usize, version: u32, now: Time) -> Millis;
}

/// The same for all.
pub struct Fixed(pub Millis);

impl Policy for Fixed {
    fn choose(&mut self, _: usize, _: u32, _: Time) -> Millis {
        self.0
    }
}

/// As the module chooses with `EXAUTO`.
pub struct Adaptive {
    bounds: Bounds,
    target: f64,
    rates: Rates,
    pasts: Vec<Option<Past>>,
    kins: Vec<Kin>,
    dice: SmallRng,
}

impl Adaptive {
    /// For the keys of a world.
    pub fn new(world: &World, bounds: Bounds, target: f64) -> Self {
        let kin = |source: &Source| {
            let tag = [(source.draw * 4.0) as u8];
            Kin::new(0, b"page", world.tagged.then_some(&tag[..]))
        };
        Self {
            bounds,
            target,
            rates: Rates::new(),
            pasts: vec![None; world.sources.len()],
            kins: world.sources.iter().map(kin).collect(),
            dice: SmallRng::seed_from_u64(world.scale.seed),
        }
    }
}

impl Policy for Adaptive {
    fn choose(&mut self, key: usize, version: u32, now: Time) -> Millis {
        let Self { bounds, target, rates, pasts, kins, dice } = self;
        let prior = rates.prior(kins[key], *bounds, *target);
        let outlook = Outlook { target: *target, prior, past: None, dice: dice.random() };
        let done = refill(*bounds, Digest(version), pasts[key], now, &outlook);
        let (digest, record) = (done.adaptive.digest, done.adaptive.record);
        pasts[key] = Some(Past { digest, record, written: now, teaches: true });
        if let Some(lesson) = done.lesson {
            rates.learn(kins[key], lesson, now);
        }
        done.length
    }
}

/// The source of a key.
#[derive(Clone)]
struct Source {
    mean: f64,
    draw: f64,
    next_change: f64,
    version: u32,
    dice: SmallRng,
}

impl Source {
    /// What there is at `now`, which never goes back.
    fn version_at(&mut self, now: f64) -> u32 {
        while self.next_change <= now {
            self.version += 1;
            let wait: f64 = Exp1.sample(&mut self.dice);
            self.next_change += wait * self.mean;
        }
        self.version
    }
}

/// Sources as they are in the beginning, and how they are read.
pub struct World {
    scale: Scale,
    tagged: bool,
    sources: Vec<Source>,
}

impl World {
    /// Draws the paces of a mixture.
    pub fn new(mixture: &Mixture, scale: Scale) -> Self {
        let mut dice = SmallRng::seed_from_u64(scale.seed);
        let mut source = |key: u32| {
            let draw = dice.random::<f64>();
            let mean = (mixture.mean)(draw);
            let mut dice = SmallRng::seed_from_u64(scale.seed ^ (u64::from(key) + 1) << 20);
            let wait: f64 = Exp1.sample(&mut dice);
            Source { mean, draw, next_change: wait * mean, version: 0, dice }
        };
        Self { scale, tagged: mixture.tagged, sources: (0..scale.keys).map(&mut source).collect() }
    }

    /// Reads it all through a cache. Nothing where the scale has no keys.
    pub fn run(&self, policy: &mut dyn Policy) -> Outcome {
        let Ok(popularity) = Zipf::new(f64::from(self.scale.keys), self.scale.zipf) else {
            return Outcome::default();
        };
        let mut dice = SmallRng::seed_from_u64(self.scale.seed.wrapping_add(1));
        let mut sources = self.sources.clone();
        // Fresh until, and when it was fetched.
        let mut held = vec![(0.0, 0.0); sources.len()];
        let gap = self.scale.days * DAY / self.scale.reads.max(1) as f64;
        let (mut now, mut outcome) = (0.0, Outcome::default());
        for read in 0..self.scale.reads {
            let wait: f64 = Exp1.sample(&mut dice);
            now += wait * gap;
            // Zipf's numbers begin with 1.
            let key = popularity.sample(&mut dice) as usize - 1;
            let counts = read >= self.scale.reads / 2;
            let (fresh_until, fetched) = held[key];
            if now < fresh_until {
                if counts {
                    outcome.hits += 1;
                    outcome.stale -= ((fetched - now) / sources[key].mean).exp_m1();
                }
                continue;
            }
            outcome.fetches += u64::from(counts);
            let version = sources[key].version_at(now);
            let ttl = policy.choose(key, version, Time(now as u64));
            held[key] = (now + ttl.0 as f64, now);
        }
        outcome
    }

    /// The TTL for all with which so many hits are stale, and what it comes to.
    pub fn best_fixed(&self, staleness: f64) -> (Millis, Outcome) {
        let (mut low, mut high) = (1.0f64, 30.0 * DAY);
        // Staleness grows with the TTL; 16 halvings of the logarithm are within
        // a thousandth of it.
        for _ in 0..16 {
            let middle = (low * high).sqrt();
            let outcome = self.run(&mut Fixed(Millis(middle as u64)));
            if outcome.staleness() < staleness {
                low = middle;
            } else {
                high = middle;
            }
        }
        let best = Millis(low as u64);
        (best, self.run(&mut Fixed(best)))
    }
}

/// A mixture, measured once.
pub struct Comparison {
    /// The TTL that is as stale for all.
    pub ttl: Millis,
    /// What it comes to.
    pub fixed: Outcome,
    /// What TTLs that are chosen come to.
    pub adaptive: Outcome,
}

impl Comparison {
    /// Measures.
    pub fn of(mixture: &Mixture, scale: Scale, bounds: Bounds, target: f64) -> Self {
        let world = World::new(mixture, scale);
        let adaptive = world.run(&mut Adaptive::new(&world, bounds, target));
        let (ttl, fixed) = world.best_fixed(adaptive.staleness());
        Self { ttl, fixed, adaptive }
    }

    /// Fetches of the one to those of the other.
    pub fn fetches(&self) -> f64 {
        self.adaptive.fetches as f64 / self.fixed.fetches.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Scale = Scale { keys: 50, reads: 60_000, days: 2.0, zipf: 0.9, seed: 3 };

    #[test]
    fn a_ttl_of_nothing_fetches_always_and_an_endless_one_once() {
        let world = World::new(&MIXTURES[0], SMALL);
        let always = world.run(&mut Fixed(Millis(0)));
        assert_eq!(always, Outcome { hits: 0, stale: 0.0, fetches: 30_000 });
        let once = world.run(&mut Fixed(Millis(u64::MAX / 2)));
        assert!(once.fetches < 50 && once.hits + once.fetches == 30_000, "{once:?}");
        assert!(once.staleness() > 0.9, "{once:?}");
    }

    /// λL/2 of the reads of a fixed TTL are stale, where it is short.
    #[test]
    fn staleness_is_the_formulas() {
        let world = World::new(&MIXTURES[4], SMALL);
        let outcome = world.run(&mut Fixed(Millis((0.06 * HOUR) as u64)));
        assert!((outcome.staleness() / 0.01 - 1.0).abs() < 0.05, "{outcome:?}");
    }

    #[test]
    fn the_best_fixed_ttl_is_as_stale_as_was_asked() {
        let world = World::new(&MIXTURES[2], SMALL);
        let (ttl, outcome) = world.best_fixed(0.05);
        assert!((0.045..=0.05).contains(&outcome.staleness()), "{outcome:?}");
        let longer = world.run(&mut Fixed(Millis(ttl.0 * 2)));
        assert!(longer.fetches < outcome.fetches && longer.staleness() > 0.05);
    }

    #[test]
    fn runs_are_the_same_again() {
        let bounds = Bounds::new(1, 86_400).expect("bounds");
        let run = || {
            let world = World::new(&MIXTURES[1], SMALL);
            world.run(&mut Adaptive::new(&world, bounds, 0.01))
        };
        assert_eq!(run(), run());
    }
}
