//! Exact LRU: what was not asked for the longest goes first. All other figures
//! are told against this one.

use super::held::Held;
use super::list::{Links, List};
use super::policy::{Policy, Request};
use super::Setup;

/// The policy.
pub struct Lru {
    held: Held,
    links: Links,
    queue: List,
}

impl Lru {
    /// An empty cache.
    pub fn new(setup: &Setup) -> Self {
        Self { held: setup.held(), links: Links::new(setup.keys), queue: List::EMPTY }
    }
}

impl Policy for Lru {
    fn request(&mut self, request: &Request, _tick: u64) -> bool {
        if self.held.has(request.key) {
            self.queue.renew(&mut self.links, request.key);
            return true;
        }
        if !self.held.could_fit(request) {
            return false;
        }
        while !self.held.fits(request) {
            let Some(key) = self.queue.pop(&mut self.links) else { break };
            self.held.take(key);
        }
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
    use super::super::tests::{compare, Naive};
    use super::*;

    #[test]
    fn is_as_a_naive_one() {
        compare(
            |setup| Box::new(Lru::new(setup)),
            |naive: &mut Naive, request, hit| {
                if hit {
                    naive.entries.retain(|(key, _)| *key != request.key);
                } else {
                    naive.make_room(request, |entries| entries.remove(0));
                }
                naive.entries.push((request.key, request.size));
            },
        );
    }
}
