//! Keys by rank, the highest first, where ranks change all the time: a heap in
//! which the ranks that were are left until they come up, or are too many.

use std::collections::BinaryHeap;

/// Fewer than this are not worth tidying up.
const FEW: usize = 1024;

/// The keys.
#[derive(Default)]
pub struct Ranked {
    heap: BinaryHeap<(u64, u32)>,
    /// How many there were when it was last tidy.
    tidy: usize,
}

impl Ranked {
    /// Ranks a key; `current` tells which ranks hold, and that one does.
    pub fn rank(&mut self, rank: u64, key: u32, current: impl Fn(u64, u32) -> bool) {
        self.heap.push((rank, key));
        if self.heap.len() > 2 * self.tidy.max(FEW) {
            self.heap.retain(|(rank, key)| current(*rank, *key));
            self.tidy = self.heap.len();
        }
    }

    /// The key of the highest rank that holds.
    pub fn first(&mut self, current: impl Fn(u64, u32) -> bool) -> Option<(u64, u32)> {
        while let Some((rank, key)) = self.heap.peek() {
            if current(*rank, *key) {
                return Some((*rank, *key));
            }
            self.heap.pop();
        }
        None
    }
}
