//! Names to numbers: a hash table of the numbers alone, the names staying with
//! the things that bear them.
//!
//! In parts, each a table of its own, so that growing one rehashes a 256th of
//! the names: with a million tags some 20 µs instead of 5 ms.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::units::block;

const PARTS: usize = 256;
/// Room that is not worth giving back.
const SMALL: usize = 64;

/// See the module's text.
#[derive(Debug)]
pub struct Names {
    parts: Box<[HashTable<u32>]>,
    /// Bytes of the parts.
    bytes: usize,
}

impl Default for Names {
    fn default() -> Self {
        Names { parts: (0..PARTS).map(|_| HashTable::new()).collect(), bytes: 0 }
    }
}

/// The hash of a name in a space: equal names of different spaces differ.
fn hash(space: u32, name: &[u8]) -> u64 {
    xxh3_64_with_seed(name, u64::from(space))
}

/// The part of a hash, from bits that the table below uses for neither its
/// buckets nor its tags.
fn part(hash: u64) -> usize {
    (hash >> 40) as usize % PARTS
}

impl Names {
    /// The number whose bearer `bears` says it is.
    pub fn find(&self, space: u32, name: &[u8], bears: impl Fn(u32) -> bool) -> Option<u32> {
        let hash = hash(space, name);
        self.parts[part(hash)].find(hash, |&id| bears(id)).copied()
    }

    /// The number whose bearer it most likely is, no bearer looked at.
    pub fn likely(&self, space: u32, name: &[u8]) -> Option<u32> {
        self.find(space, name, |_| true)
    }

    /// Adds a number that is not there; `bearer` tells the space and name of
    /// one that is.
    pub fn insert<'a>(&mut self, space: u32, name: &[u8], id: u32, bearer: impl Fn(u32) -> (u32, &'a [u8])) {
        let hash_of = hash;
        let hash = hash(space, name);
        let part = &mut self.parts[part(hash)];
        let before = part.allocation_size();
        part.insert_unique(hash, id, |&id| {
            let (space, name) = bearer(id);
            hash_of(space, name)
        });
        self.bytes = self.bytes - block(before) + block(part.allocation_size());
    }

    /// Takes a number out; a part that many have left gives memory back.
    pub fn remove<'a>(&mut self, space: u32, name: &[u8], id: u32, bearer: impl Fn(u32) -> (u32, &'a [u8])) {
        let hash_of = hash;
        let hash = hash(space, name);
        let part = &mut self.parts[part(hash)];
        let before = part.allocation_size();
        if let Ok(entry) = part.find_entry(hash, |&other| other == id) {
            entry.remove();
        }
        if part.is_empty() {
            *part = HashTable::new();
        } else if part.capacity() > SMALL && part.len() * 8 <= part.capacity() {
            part.shrink_to(part.len() * 2, |&id| {
                let (space, name) = bearer(id);
                hash_of(space, name)
            });
        }
        self.bytes = self.bytes - block(before) + block(part.allocation_size());
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.bytes + block(PARTS * size_of::<HashTable<u32>>())
    }
}
