//! Queues of keys that are linked in both ways: push, pop and removal from the
//! middle in constant time, eight bytes a key for all queues of a policy.
//!
//! A key is in one queue of the same `Links` at most, and the caller knows in
//! which. New keys are put in at the head; the tail is next to go.

/// No key: ids are below the number of keys, which is a `u32` itself.
const NONE: u32 = u32::MAX;

/// The links of all keys.
pub struct Links {
    toward_head: Vec<u32>,
    toward_tail: Vec<u32>,
}

impl Links {
    /// Of keys below `keys`, none of them in a queue.
    pub fn new(keys: u32) -> Self {
        let unlinked = vec![NONE; keys as usize];
        Self { toward_head: unlinked.clone(), toward_tail: unlinked }
    }

    /// The key that is one nearer to the head.
    pub fn nearer_head(&self, key: u32) -> Option<u32> {
        Some(self.toward_head[key as usize]).filter(|key| *key != NONE)
    }
}

/// One queue.
pub struct List {
    head: u32,
    tail: u32,
}

impl List {
    /// An empty one.
    pub const EMPTY: Self = Self { head: NONE, tail: NONE };

    /// The key that is next to go.
    pub fn tail(&self) -> Option<u32> {
        Some(self.tail).filter(|key| *key != NONE)
    }

    /// Puts a key that is in no queue before all others.
    pub fn push(&mut self, links: &mut Links, key: u32) {
        links.toward_head[key as usize] = NONE;
        links.toward_tail[key as usize] = self.head;
        match self.head {
            NONE => self.tail = key,
            head => links.toward_head[head as usize] = key,
        }
        self.head = key;
    }

    /// Takes out a key that is in this queue.
    pub fn remove(&mut self, links: &mut Links, key: u32) {
        let (before, after) = (links.toward_head[key as usize], links.toward_tail[key as usize]);
        match before {
            NONE => self.head = after,
            before => links.toward_tail[before as usize] = after,
        }
        match after {
            NONE => self.tail = before,
            after => links.toward_head[after as usize] = before,
        }
    }

    /// Takes out the key that is next to go.
    pub fn pop(&mut self, links: &mut Links) -> Option<u32> {
        let key = self.tail()?;
        self.remove(links, key);
        Some(key)
    }

    /// Makes a key of this queue the last to go.
    pub fn renew(&mut self, links: &mut Links, key: u32) {
        if self.head != key {
            self.remove(links, key);
            self.push(links, key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{rngs::SmallRng, Rng, SeedableRng};
    use std::collections::VecDeque;

    #[test]
    fn two_queues_are_as_two_naive_ones() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut links = Links::new(16);
        let mut lists = [List::EMPTY, List::EMPTY];
        let mut naive: [VecDeque<u32>; 2] = Default::default();
        for _ in 0..20_000 {
            let (of, key) = (random.random_range(0..2), random.random_range(0..16));
            let inside = naive.iter().position(|queue| queue.contains(&key));
            match (inside, random.random_range(0..3)) {
                (None, _) => {
                    lists[of].push(&mut links, key);
                    naive[of].push_front(key);
                }
                (Some(of), 0) => {
                    lists[of].remove(&mut links, key);
                    naive[of].retain(|other| *other != key);
                }
                (Some(of), 1) => {
                    lists[of].renew(&mut links, key);
                    naive[of].retain(|other| *other != key);
                    naive[of].push_front(key);
                }
                (Some(_), _) => assert_eq!(lists[of].pop(&mut links), naive[of].pop_back()),
            }
            for (list, naive) in lists.iter().zip(&naive) {
                let walk = std::iter::successors(list.tail(), |key| links.nearer_head(*key));
                assert!(walk.eq(naive.iter().rev().copied()));
            }
        }
    }
}
