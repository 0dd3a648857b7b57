//! Traces for whoever has none: drawn, always the same from one seed.

use crate::trace::Trace;
use crate::zipf::ranks;
use anyhow::Result;
use rand::{rngs::SmallRng, Rng, SeedableRng};
use rand_distr::{Distribution, LogNormal};

/// A trace that can be drawn.
pub struct Synthetic {
    /// What it is called.
    pub name: &'static str,
    /// How it is made, for people.
    pub about: &'static str,
    /// Draws it by a seed.
    pub draw: fn(u64) -> Result<Trace>,
}

/// All of them.
pub const SYNTHETIC: &[Synthetic] = &[
    Synthetic {
        name: "zipf",
        about: "50,000 keys by Zipf's law with exponent 0.9",
        draw: |seed| Ok(plain(collect(50_000, 0.9, seed, 500_000)?)),
    },
    Synthetic {
        name: "drift",
        about: "the same with log-normal sizes; every 25 requests a popular key changes places with any",
        draw: drift,
    },
    Synthetic {
        name: "loop",
        about: "10,000 keys, one after the other, fifty times",
        draw: |_| Ok(plain((0..10_000).cycle().take(500_000).collect())),
    },
    Synthetic {
        name: "scan",
        about: "20,000 keys by Zipf's law; after every 20,000 requests 5,000 of 50,000 others in turn",
        draw: scan,
    },
];

fn plain(ids: Vec<u32>) -> Trace {
    Trace { ids, sizes: None, gaps: None }
}

fn collect(keys: u32, exponent: f64, seed: u64, requests: usize) -> Result<Vec<u32>> {
    let mut rank = ranks(keys, exponent, seed)?;
    Ok((0..requests).map(|_| rank()).collect())
}

fn drift(seed: u64) -> Result<Trace> {
    const KEYS: u32 = 50_000;
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut of_request, mut of_change) = (ranks(KEYS, 0.9, seed)?, ranks(KEYS, 0.9, seed.wrapping_add(1))?);
    let mut keys: Vec<u32> = (0..KEYS).collect();
    let mut ids = Vec::new();
    for request in 0..500_000 {
        if request % 25 == 0 {
            keys.swap(of_change() as usize, random.random_range(0..KEYS as usize));
        }
        ids.push(keys[of_request() as usize]);
    }
    let sizes = LogNormal::new(7.0, 1.0)?;
    let sizes = (0..KEYS).map(|_| 1 + sizes.sample(&mut random) as u32).collect();
    Ok(Trace { ids, sizes: Some(sizes), gaps: None })
}

fn scan(seed: u64) -> Result<Trace> {
    let mut rank = ranks(20_000, 0.9, seed)?;
    let mut others = (20_000..70_000).cycle();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.extend((0..20_000).map(|_| rank()));
        ids.extend(others.by_ref().take(5000));
    }
    Ok(plain(ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_twice_they_are_the_same() {
        for synthetic in SYNTHETIC {
            let trace = (synthetic.draw)(3).unwrap();
            assert_eq!(trace, (synthetic.draw)(3).unwrap(), "{}", synthetic.name);
            assert_eq!(trace.ids.len(), 500_000, "{}", synthetic.name);
            assert!(trace.sizes.is_none_or(|sizes| sizes.len() >= 50_000));
        }
    }
}
