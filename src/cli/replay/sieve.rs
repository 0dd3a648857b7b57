//! SIEVE: one queue, one bit an entry, and a hand that walks from the oldest to
//! the newest. A hit sets the bit and moves nothing. The hand clears the bits
//! that it meets and evicts the first entry without one; past the newest it
//! begins anew with the oldest.
//!
//! Zhang, Yang, Yue, Vigfusson, Rashmi: "SIEVE is Simpler than LRU: an Efficient
//! Turn-Key Eviction Algorithm for Web Caches", NSDI 2024. It is told for
//! entries of one size; here the hand goes on until the new one fits.

use super::held::Held;
use super::list::{Links, List};
use super::policy::{Policy, Request};
use super::Setup;

/// The policy.
pub struct Sieve {
    held: Held,
    links: Links,
    queue: List,
    visited: Vec<bool>,
    /// Where the hand goes on; None: at the oldest.
    hand: Option<u32>,
}

impl Sieve {
    /// An empty cache.
    pub fn new(setup: &Setup) -> Self {
        Self {
            held: setup.held(),
            links: Links::new(setup.keys),
            queue: List::EMPTY,
            visited: vec![false; setup.keys as usize],
            hand: None,
        }
    }

    fn evict(&mut self) -> bool {
        while let Some(key) = self.hand.or(self.queue.tail()) {
            self.hand = self.links.nearer_head(key);
            if !std::mem::take(&mut self.visited[key as usize]) {
                self.queue.remove(&mut self.links, key);
                self.held.take(key);
                return true;
            }
        }
        false
    }
}

impl Policy for Sieve {
    fn request(&mut self, request: &Request, _tick: u64) -> bool {
        if self.held.has(request.key) {
            self.visited[request.key as usize] = true;
            return true;
        }
        if !self.held.could_fit(request) {
            return false;
        }
        while !self.held.fits(request) && self.evict() {}
        self.held.put(request);
        self.queue.push(&mut self.links, request.key);
        false
    }

    fn used(&self) -> u64 {
        self.held.used()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{compare, hits, Naive};
    use super::*;

    #[test]
    fn the_example_by_hand() {
        // Three entries, told from newest to oldest, a mark for a bit:
        //   0* is passed for 3, and 1 goes          3 2 0    hand at 2
        //   2 goes for 4                            4 3 0    hand at 3
        //   0* 3* are hits; for 1 the hand clears 3, and 4 goes
        //                                           1 3 0*   hand past the newest
        //   for 2 it begins anew, clears 0, and 3 goes
        //                                           2 1 0    hand at 1
        //   1 goes for 4
        let keys = [0, 1, 2, 0, 3, 4, 0, 3, 1, 2, 4];
        let hit = hits(|setup| Box::new(Sieve::new(setup)), 3, &keys);
        assert_eq!(hit, [false, false, false, true, false, false, true, true, false, false, false]);
    }

    #[test]
    fn is_as_a_naive_one() {
        // The entries from oldest to newest, the bits and the hand beside them.
        let (mut bits, mut hand) = ([false; 64], 0);
        compare(
            |setup| Box::new(Sieve::new(setup)),
            move |naive: &mut Naive, request, hit| {
                if naive.entries.is_empty() {
                    (bits, hand) = ([false; 64], 0);
                }
                if hit {
                    bits[request.key as usize] = true;
                    return;
                }
                naive.make_room(request, |entries| loop {
                    hand %= entries.len();
                    if !std::mem::take(&mut bits[entries[hand].0 as usize]) {
                        return entries.remove(hand);
                    }
                    hand += 1;
                });
                // A hand that is past the newest begins anew with the oldest.
                if hand == naive.entries.len() {
                    hand = 0;
                }
                naive.entries.push((request.key, request.size));
            },
        );
    }
}
