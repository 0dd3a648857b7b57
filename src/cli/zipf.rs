//! Keys drawn by Zipf's law, always the same from one seed.

use anyhow::{Context, Result};
use rand::{rngs::SmallRng, SeedableRng};
use rand_distr::{Distribution, Zipf};

/// Keys by popularity: 0 is the most popular.
pub fn ranks(keys: u32, exponent: f64, seed: u64) -> Result<impl FnMut() -> u32> {
    let zipf = Zipf::new(f64::from(keys), exponent).context("there are no keys to draw from")?;
    let mut random = SmallRng::seed_from_u64(seed);
    // Ranks are counted from 1.
    Ok(move || (zipf.sample(&mut random) as u32).clamp(1, keys) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(keys: u32, exponent: f64, seed: u64) -> Vec<u32> {
        let mut ranks = ranks(keys, exponent, seed).unwrap();
        (0..10_000).map(|_| ranks()).collect()
    }

    #[test]
    fn draws_repeat_with_their_seed() {
        assert_eq!(draws(1000, 1.0, 5), draws(1000, 1.0, 5));
        assert_ne!(draws(1000, 1.0, 5), draws(1000, 1.0, 6));
    }

    #[test]
    fn draws_follow_the_law() {
        let drawn = draws(1000, 1.0, 1);
        let of = |rank| drawn.iter().filter(|drawn| **drawn == rank).count() as f64;
        // 1/H(1000) = 13.4 % for the first, a tenth of it for the tenth.
        assert!((1240.0..1440.0).contains(&of(0)), "{}", of(0));
        assert!((100.0..170.0).contains(&of(9)), "{}", of(9));
        assert!(drawn.iter().all(|rank| *rank < 1000));
        let uniform = draws(10, 0.0, 1);
        assert!(
            (0..10).all(|rank| (900..1100).contains(&uniform.iter().filter(|drawn| **drawn == rank).count()))
        );
        assert!(draws(1, 1.2, 1).iter().all(|rank| *rank == 0));
    }
}
