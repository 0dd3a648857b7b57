//! Which keys a replayed cache holds, and how many bytes that is.
//!
//! Keys are dense, so a table of sizes by key does for a map. An entry takes at
//! least a byte (`Workload` sees to that): size 0 says that a key is not held.

use super::policy::Request;

/// What is held, against a capacity.
pub struct Held {
    sizes: Vec<u32>,
    used: u64,
    capacity: u64,
}

impl Held {
    /// Nothing yet, of keys below `keys`.
    pub fn new(keys: u32, capacity: u64) -> Self {
        Self { sizes: vec![0; keys as usize], used: 0, capacity }
    }

    /// Whether a key is held.
    pub fn has(&self, key: u32) -> bool {
        self.size(key) > 0
    }

    /// The bytes of a key that is held, 0 of one that is not.
    pub fn size(&self, key: u32) -> u32 {
        self.sizes[key as usize]
    }

    /// Bytes held.
    pub fn used(&self) -> u64 {
        self.used
    }

    /// Whether a request's entry would fit into an empty cache. One that would
    /// not is passed through by every policy: emptying the cache for it would
    /// be of no use.
    pub fn could_fit(&self, request: &Request) -> bool {
        u64::from(request.size) <= self.capacity
    }

    /// Whether it fits beside what is held.
    pub fn fits(&self, request: &Request) -> bool {
        self.used + u64::from(request.size) <= self.capacity
    }

    /// Whether more is held than fits.
    pub fn is_over(&self) -> bool {
        self.used > self.capacity
    }

    /// Puts a key that is not held.
    pub fn put(&mut self, request: &Request) {
        self.sizes[request.key as usize] = request.size;
        self.used += u64::from(request.size);
    }

    /// Takes a key away; the bytes that it held.
    pub fn take(&mut self, key: u32) -> u64 {
        let size = u64::from(std::mem::take(&mut self.sizes[key as usize]));
        self.used -= size;
        size
    }
}
