//! Belady's MIN, which knows the future: what is asked for again the latest
//! goes first, and is not even stored if it is the new one.
//!
//! Belady: "A study of replacement algorithms for a virtual-storage computer",
//! IBM Systems Journal 5 (2), 1966. **Where all entries are of one size this is
//! the fewest misses that can be.** Where they are not, the best is NP-hard to
//! know, and this is an approximation that is not always ahead: whoever has the
//! most of (requests until asked for again) · size goes first, what never is
//! asked for again before all others. The new entry stays out if those that
//! would have to go are all worth more.
//!
//! Distances shrink as time goes on, so entries have no lasting order by that
//! product. They have one within a class of like sizes (a quarter of an octave,
//! 19 %): the latest of each class is compared.

use super::held::Held;
use super::policy::{Policy, Request};
use super::ranked::Ranked;
use super::Setup;

/// Asked for never again.
pub const NEVER: u32 = u32::MAX;

/// The policy.
pub struct Belady<'a> {
    held: Held,
    /// For each request of the trace, when its key is asked for next.
    next: &'a [u32],
    /// Of each key that is held: when it is asked for next.
    nexts: Vec<u32>,
    classes: Vec<Ranked>,
}

impl<'a> Belady<'a> {
    /// An empty cache.
    pub fn new(setup: &Setup<'a>) -> Self {
        Self {
            held: setup.held(),
            next: setup.next,
            nexts: vec![0; setup.keys as usize],
            classes: (0..=class(u32::MAX)).map(|_| Ranked::default()).collect(),
        }
    }

    /// Who is to go first of all that are held, and how badly.
    fn worst(&mut self, tick: u64) -> Option<(u32, (bool, u64))> {
        let (held, nexts) = (&self.held, &self.nexts);
        let heads = self.classes.iter_mut().filter_map(|class| {
            let (next, key) =
                class.first(|rank, key| held.has(key) && u64::from(nexts[key as usize]) == rank)?;
            Some((key, badness(next, held.size(key), tick)))
        });
        heads.max_by_key(|(_, badness)| *badness)
    }

    fn rank(&mut self, key: u32) {
        let (held, nexts) = (&self.held, &self.nexts);
        let class = &mut self.classes[class(held.size(key))];
        let current = |rank, key| held.has(key) && u64::from(nexts[key as usize]) == rank;
        class.rank(u64::from(nexts[key as usize]), key, current);
    }
}

/// Quarters of octaves.
fn class(size: u32) -> usize {
    let size = size.max(1);
    let octave = size.ilog2();
    // The two bits below the highest.
    let quarter = (u64::from(size) << 2 >> octave) & 3;
    (octave * 4) as usize + quarter as usize
}

fn badness(next: u64, size: u32, tick: u64) -> (bool, u64) {
    let never = next == u64::from(NEVER);
    let distance = if never { 1 } else { next.saturating_sub(tick) };
    (never, distance.saturating_mul(u64::from(size)))
}

impl Policy for Belady<'_> {
    fn request(&mut self, request: &Request, tick: u64) -> bool {
        let next = usize::try_from(tick).ok().and_then(|tick| self.next.get(tick)).copied().unwrap_or(NEVER);
        let key = request.key as usize;
        let hit = self.held.has(request.key);
        if !hit {
            if !self.held.could_fit(request) {
                return false;
            }
            let own = badness(u64::from(next), request.size, tick);
            let mut gone = Vec::new();
            while !self.held.fits(request) {
                match self.worst(tick) {
                    Some((worst, badness)) if badness > own => {
                        let size = self.held.size(worst);
                        self.held.take(worst);
                        gone.push(Request { key: worst, size, cost: request.cost });
                    }
                    _ => {
                        // Stays out, and nobody went for it.
                        for back in gone {
                            self.held.put(&back);
                            self.rank(back.key);
                        }
                        return false;
                    }
                }
            }
            self.held.put(request);
        }
        self.nexts[key] = next;
        self.rank(request.key);
        hit
    }

    fn used(&self) -> u64 {
        self.held.used()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hits, misses_of_all, sequence};
    use super::*;

    /// The fewest misses of all ways to store or not to store, to evict this or
    /// that: every set of keys that a cache of entries of one byte could hold.
    fn fewest(capacity: u32, keys: &[u32]) -> usize {
        let mut states = std::collections::HashMap::from([(0u32, 0)]);
        for key in keys {
            let mut after = std::collections::HashMap::new();
            let mut reach = |set: u32, misses: usize| {
                let best = after.entry(set).or_insert(misses);
                *best = misses.min(*best);
            };
            for (set, misses) in states {
                let own = 1 << key;
                if set & own != 0 {
                    reach(set, misses);
                    continue;
                }
                reach(set, misses + 1);
                if set.count_ones() < capacity {
                    reach(set | own, misses + 1);
                } else {
                    for other in (0..32).map(|bit| 1 << bit).filter(|other| set & other != 0) {
                        reach(set & !other | own, misses + 1);
                    }
                }
            }
            states = after;
        }
        states.into_values().min().unwrap()
    }

    #[test]
    fn no_way_to_evict_is_better() {
        for seed in 0..20 {
            let keys = sequence(seed, 8, 60);
            for capacity in 1..5 {
                let hit = hits(|setup| Box::new(Belady::new(setup)), capacity, &keys);
                let misses = hit.iter().filter(|hit| !**hit).count();
                assert_eq!(misses, fewest(capacity as u32, &keys), "seed {seed}, capacity {capacity}");
            }
        }
    }

    #[test]
    fn no_other_policy_is_better_where_sizes_are_equal() {
        for seed in 0..3 {
            let keys = sequence(seed, 300, 4000);
            for capacity in [3, 30, 150] {
                let misses = misses_of_all(capacity, &keys);
                let (_, best) = misses.iter().find(|(name, _)| *name == "belady").unwrap();
                assert!(misses.iter().all(|(_, misses)| misses >= best), "{misses:?}");
            }
        }
    }

    #[test]
    fn classes_are_quarters_of_octaves() {
        assert_eq!([1, 4, 5, 6, 7, 8, 9, 10].map(class), [0, 8, 9, 10, 11, 12, 12, 13]);
        assert_eq!(class(u32::MAX), 127);
    }
}
