//! Greedy-Dual-Size-Frequency, exact: what is cheapest to have again for the
//! room that it takes goes first.
//!
//! An entry's worth is L + (times asked for) · cost ÷ size, written anew by every
//! hit. L is the worth of what went last, and so the entries age. Cherkasova:
//! "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
//! Policy", HP Laboratories report HPL-98-69R1, 1998. For the rows of costs: it
//! knows them, as the weights of CacheFlow's own policy do; the other policies
//! do not.

use super::held::Held;
use super::policy::{Policy, Request};
use super::ranked::Ranked;
use super::Setup;

/// The policy.
pub struct Gdsf {
    held: Held,
    asked: Vec<u32>,
    /// Of the least worth first: the bits of a float that is not negative are
    /// ordered as it is, and inverted the other way round.
    ranked: Ranked,
    ranks: Vec<u64>,
    level: f64,
}

impl Gdsf {
    /// An empty cache.
    pub fn new(setup: &Setup) -> Self {
        let keys = setup.keys as usize;
        Self {
            held: setup.held(),
            asked: vec![0; keys],
            ranked: Ranked::default(),
            ranks: vec![0; keys],
            level: 0.0,
        }
    }

    fn evict(&mut self) -> bool {
        let (held, ranks) = (&self.held, &self.ranks);
        let first = self.ranked.first(|rank, key| held.has(key) && ranks[key as usize] == rank);
        let Some((rank, key)) = first else { return false };
        self.level = f64::from_bits(!rank);
        self.held.take(key);
        true
    }
}

impl Policy for Gdsf {
    fn request(&mut self, request: &Request, _tick: u64) -> bool {
        let key = request.key as usize;
        let hit = self.held.has(request.key);
        if !hit {
            if !self.held.could_fit(request) {
                return false;
            }
            while !self.held.fits(request) && self.evict() {}
            self.held.put(request);
            self.asked[key] = 0;
        }
        self.asked[key] = self.asked[key].saturating_add(1);
        let gain = f64::from(self.asked[key]) * f64::from(request.cost) / f64::from(request.size);
        let rank = !(self.level + gain).to_bits();
        self.ranks[key] = rank;
        let (held, ranks) = (&self.held, &self.ranks);
        self.ranked.rank(rank, request.key, |rank, key| held.has(key) && ranks[key as usize] == rank);
        hit
    }

    fn used(&self) -> u64 {
        self.held.used()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{compare, Naive};
    use super::*;

    #[test]
    fn is_as_a_naive_one() {
        // Worths by key, and L; entries that are alike go by key, as in the heap.
        let (mut worth, mut asked, mut level) = ([0.0f64; 64], [0u32; 64], 0.0);
        compare(
            |setup| Box::new(Gdsf::new(setup)),
            move |naive: &mut Naive, request, hit| {
                if naive.entries.is_empty() {
                    (worth, asked, level) = ([0.0; 64], [0; 64], 0.0);
                }
                let key = request.key as usize;
                if !hit {
                    naive.make_room(request, |entries| {
                        let order = |(_, (a, _)): &(usize, &(u32, u32)),
                                     (_, (b, _)): &(usize, &(u32, u32))| {
                            worth[*a as usize].total_cmp(&worth[*b as usize]).then(b.cmp(a))
                        };
                        let (least, _) = entries.iter().enumerate().min_by(order).unwrap();
                        let gone = entries.remove(least);
                        level = worth[gone.0 as usize];
                        gone
                    });
                    naive.entries.push((request.key, request.size));
                    asked[key] = 0;
                }
                asked[key] += 1;
                worth[key] =
                    level + f64::from(asked[key]) * f64::from(request.cost) / f64::from(request.size);
            },
        );
    }
}
