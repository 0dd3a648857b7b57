//! S3-FIFO: a small queue (a tenth of the bytes) for what is new, a main queue
//! for what was asked for again, and a ghost queue of the keys that left the
//! small one.
//!
//! ```text
//! new ───────────▶ small ── asked for more than once ──▶ main ──┐ asked for:
//!                    │                                   ▲   ▲──┘ round again
//!                    └─ not ─▶ ghost ─── asked for ──────┘   │
//!                                                            └─ not ─▶ out
//! ```
//! Yang, Zhang, Qiu, Yue, Rashmi: "FIFO Queues are All You Need for Cache
//! Eviction", SOSP 2023, algorithm 1: counters end at 3 and are cleared on the
//! way to main; the small queue gives way whenever it is at its tenth. The paper
//! counts entries; here queues are measured in bytes, and the ghosts are those
//! whose entries together would take as much as the main queue may.

use super::held::Held;
use super::list::{Links, List};
use super::policy::{Policy, Request};
use super::Setup;

const SMALL_SHARE: u64 = 10;
const MOST: u8 = 3;
/// Asked for more often than this in the small queue is worth the main one.
const PROMOTED: u8 = 1;

/// A queue and the bytes of its entries.
struct Queue {
    list: List,
    bytes: u64,
    capacity: u64,
}

impl Queue {
    fn push(&mut self, links: &mut Links, key: u32, size: u32) {
        self.list.push(links, key);
        self.bytes += u64::from(size);
    }

    fn pop(&mut self, links: &mut Links, sizes: &[u32]) -> Option<u32> {
        let key = self.list.pop(links)?;
        self.bytes -= u64::from(sizes[key as usize]);
        Some(key)
    }
}

/// The policy.
pub struct S3Fifo {
    held: Held,
    links: Links,
    small: Queue,
    main: Queue,
    ghosts: Queue,
    /// Of every key that was asked for: ghosts have one too.
    sizes: Vec<u32>,
    is_ghost: Vec<bool>,
    asked: Vec<u8>,
}

impl S3Fifo {
    /// An empty cache.
    pub fn new(setup: &Setup) -> Self {
        let keys = setup.keys as usize;
        let small = setup.capacity / SMALL_SHARE;
        let queue = |capacity| Queue { list: List::EMPTY, bytes: 0, capacity };
        Self {
            held: setup.held(),
            links: Links::new(setup.keys),
            small: queue(small),
            main: queue(setup.capacity - small),
            ghosts: queue(setup.capacity - small),
            sizes: vec![0; keys],
            is_ghost: vec![false; keys],
            asked: vec![0; keys],
        }
    }

    fn evict(&mut self) {
        if self.small.bytes >= self.small.capacity && self.small.bytes > 0 || self.main.bytes == 0 {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        while let Some(key) = self.small.pop(&mut self.links, &self.sizes) {
            let size = self.sizes[key as usize];
            if std::mem::take(&mut self.asked[key as usize]) > PROMOTED {
                self.main.push(&mut self.links, key, size);
                if self.main.bytes > self.main.capacity {
                    self.evict_main();
                }
                continue;
            }
            self.held.take(key);
            self.haunt(key, size);
            return;
        }
    }

    fn evict_main(&mut self) {
        while let Some(key) = self.main.pop(&mut self.links, &self.sizes) {
            match &mut self.asked[key as usize] {
                0 => {
                    self.held.take(key);
                    return;
                }
                asked => {
                    *asked -= 1;
                    self.main.push(&mut self.links, key, self.sizes[key as usize]);
                }
            }
        }
    }

    fn haunt(&mut self, key: u32, size: u32) {
        self.ghosts.push(&mut self.links, key, size);
        self.is_ghost[key as usize] = true;
        while self.ghosts.bytes > self.ghosts.capacity {
            let Some(key) = self.ghosts.pop(&mut self.links, &self.sizes) else { break };
            self.is_ghost[key as usize] = false;
        }
    }
}

impl Policy for S3Fifo {
    fn request(&mut self, request: &Request, _tick: u64) -> bool {
        let key = request.key as usize;
        if self.held.has(request.key) {
            self.asked[key] = (self.asked[key] + 1).min(MOST);
            return true;
        }
        if !self.held.could_fit(request) {
            return false;
        }
        self.sizes[key] = request.size;
        while !self.held.fits(request) && self.held.used() > 0 {
            self.evict();
        }
        // Looked at after the evictions, as in the paper: they may have pushed
        // this ghost out.
        let haunted = std::mem::take(&mut self.is_ghost[key]);
        if haunted {
            self.ghosts.list.remove(&mut self.links, request.key);
            self.ghosts.bytes -= u64::from(request.size);
        }
        let queue = if haunted { &mut self.main } else { &mut self.small };
        queue.push(&mut self.links, request.key, request.size);
        self.asked[key] = 0;
        self.held.put(request);
        false
    }

    fn used(&self) -> u64 {
        self.held.used()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{hits, naive_hits, sequence};
    use super::*;
    use std::collections::VecDeque;

    /// The paper's algorithm 1, word by word, for entries of one byte.
    fn paper(capacity: usize, keys: &[u32]) -> Vec<bool> {
        struct Cache {
            capacity: usize,
            s: VecDeque<(u32, u8)>,
            m: VecDeque<(u32, u8)>,
            g: VecDeque<u32>,
        }
        impl Cache {
            fn evict_m(&mut self) {
                while let Some((key, freq)) = self.m.pop_back() {
                    if freq == 0 {
                        return;
                    }
                    self.m.push_front((key, freq - 1));
                }
            }
            fn evict_s(&mut self) {
                while let Some((key, freq)) = self.s.pop_back() {
                    if freq <= 1 {
                        self.g.push_front(key);
                        self.g.truncate(self.capacity - self.capacity / 10);
                        return;
                    }
                    self.m.push_front((key, 0));
                    if self.m.len() > self.capacity - self.capacity / 10 {
                        self.evict_m();
                    }
                }
            }
        }
        let mut cache = Cache { capacity, s: VecDeque::new(), m: VecDeque::new(), g: VecDeque::new() };
        naive_hits(keys, |key| {
            if let Some((_, freq)) = cache.s.iter_mut().chain(&mut cache.m).find(|entry| entry.0 == key) {
                *freq = (*freq + 1).min(3);
                return true;
            }
            while cache.s.len() + cache.m.len() >= capacity {
                match cache.m.is_empty() || !cache.s.is_empty() && cache.s.len() >= capacity / 10 {
                    true => cache.evict_s(),
                    false => cache.evict_m(),
                }
            }
            match cache.g.iter().position(|ghost| *ghost == key) {
                Some(place) => {
                    cache.g.remove(place);
                    cache.m.push_front((key, 0));
                }
                None => cache.s.push_front((key, 0)),
            }
            false
        })
    }

    #[test]
    fn is_as_the_paper_tells_it() {
        for seed in 0..20 {
            let keys = sequence(seed, 64, 3000);
            for capacity in [1, 5, 10, 20, 40] {
                let hit = hits(|setup| Box::new(S3Fifo::new(setup)), capacity, &keys);
                assert_eq!(hit, paper(capacity as usize, &keys), "seed {seed}, capacity {capacity}");
            }
        }
    }
}
