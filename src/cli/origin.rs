//! The slow source that a cache stands in front of.
//!
//! An origin is slow by decree: how long a key takes is drawn once from a
//! log-normal distribution by the hash of the key and the seed, so that every
//! run, and every reader of a run, sees the same times. The origin does not
//! queue: each client has its own connection to it, and one read at a time.

use anyhow::Result;
use std::time::Duration;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The spread of the log-normal: 90 % lie within a factor of 1.64 of the median.
const SIGMA: f64 = 0.3;

/// Where values come from when the cache has none.
pub trait Origin: Send {
    /// Reads the value of the key with this number, slowly.
    fn load(&mut self, key: u32) -> Result<Vec<u8>>;
}

/// Keys, and what the right value of each is.
pub trait Keyspace: Send + Sync {
    /// How many keys there are.
    fn len(&self) -> u32;
    /// What a key is called in the cache.
    fn name(&self, key: u32) -> &str;
    /// How long the origin takes for a key.
    fn latency(&self, key: u32) -> Duration;
    /// Whether a value that the cache answered is the one of this key.
    fn holds(&self, key: u32, value: &[u8]) -> bool;
    /// A connection to the origin.
    fn connect(&self) -> Result<Box<dyn Origin + '_>>;
}

/// How long an origin takes, key by key.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// Half of the keys take less.
    pub median: Duration,
    /// Another seed, other times.
    pub seed: u64,
}

impl Latency {
    /// The time that this key takes, always the same.
    pub fn of(&self, key: &str) -> Duration {
        let normal = normal(xxh3_64_with_seed(key.as_bytes(), self.seed));
        self.median.mul_f64((SIGMA * normal).exp().clamp(0.25, 4.0))
    }
}

/// A draw of the standard normal distribution that a hash decides: Box and
/// Muller's, out of the hash's two halves, neither 0.
pub fn normal(hash: u64) -> f64 {
    let half = |bits: u64| ((bits & 0xFFFF_FFFF) as f64 + 1.0) / 4_294_967_297.0;
    let (u, v) = (half(hash), half(hash >> 32));
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// An origin without data: values are made up from the key's number.
pub struct Simulated {
    names: Vec<String>,
    sizes: Vec<u32>,
    latency: Latency,
}

impl Simulated {
    /// One key for each size, `t:<workload>:0` and on.
    pub fn new(workload: &str, sizes: Vec<u32>, latency: Latency) -> Self {
        let names = (0..sizes.len()).map(|key| format!("t:{workload}:{key}")).collect();
        Self { names, sizes, latency }
    }

    fn size(&self, key: u32) -> usize {
        self.sizes.get(key as usize).map_or(0, |size| *size as usize)
    }
}

/// The first bytes of a made-up value tell whose it is; the rest does not compress.
fn made_up(key: u32, size: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(size + 8);
    let mut word = xxh3_64(&key.to_le_bytes());
    while value.len() < size {
        value.extend(word.to_le_bytes());
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    }
    value.truncate(size);
    value
}

impl Keyspace for Simulated {
    fn len(&self) -> u32 {
        u32::try_from(self.sizes.len()).unwrap_or(u32::MAX)
    }

    fn name(&self, key: u32) -> &str {
        self.names.get(key as usize).map_or("", String::as_str)
    }

    fn latency(&self, key: u32) -> Duration {
        self.latency.of(self.name(key))
    }

    fn holds(&self, key: u32, value: &[u8]) -> bool {
        let size = self.size(key);
        value.len() == size && value.starts_with(&made_up(key, size.min(8)))
    }

    fn connect(&self) -> Result<Box<dyn Origin + '_>> {
        Ok(Box::new(self))
    }
}

impl Origin for &Simulated {
    fn load(&mut self, key: u32) -> Result<Vec<u8>> {
        std::thread::sleep(self.latency(key));
        Ok(made_up(key, self.size(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Latency = Latency { median: Duration::from_millis(35), seed: 1 };

    #[test]
    fn latency_depends_on_the_key_and_the_seed_alone() {
        assert_eq!(SLOW.of("t:1"), SLOW.of("t:1"));
        assert_ne!(SLOW.of("t:1"), SLOW.of("t:2"));
        assert_ne!(SLOW.of("t:1"), Latency { seed: 2, ..SLOW }.of("t:1"));
        assert_eq!(Latency { median: Duration::ZERO, seed: 1 }.of("t:1"), Duration::ZERO);
    }

    #[test]
    fn latency_is_spread_as_stated() {
        let mut times: Vec<_> = (0..10_000).map(|key| SLOW.of(&format!("t:{key}"))).collect();
        times.sort();
        let at = |share: f64| times[(share * 10_000.0) as usize].as_secs_f64() * 1e3;
        assert!((34.0..36.0).contains(&at(0.5)), "{}", at(0.5));
        assert!((20.0..22.5).contains(&at(0.05)), "{}", at(0.05));
        assert!((55.0..60.0).contains(&at(0.95)), "{}", at(0.95));
    }

    #[test]
    fn made_up_values_are_known_again() {
        let keys = Simulated::new("x", vec![0, 3, 8, 1000], Latency { median: Duration::ZERO, seed: 0 });
        let mut origin = keys.connect().unwrap();
        for key in 0..4 {
            let value = origin.load(key).unwrap();
            assert_eq!(value.len(), keys.size(key));
            assert!(keys.holds(key, &value));
        }
        let other = origin.load(2).unwrap();
        assert!(!keys.holds(3, &other) && !keys.holds(1, &other));
    }
}
