//! Numbered places for things: like a `Vec` of options that reuses places, in
//! chunks, so that growing never copies. A chunk that empties gives its memory
//! back.

use crate::units::block;

const CHUNK: usize = 256;

#[derive(Debug)]
enum Place<T> {
    Taken(T),
    /// The next free place of the chunk.
    Free(u16),
}

/// No free place: one past the last.
const NONE: u16 = CHUNK as u16;

#[derive(Debug)]
struct Chunk<T> {
    /// `CHUNK` of them, or none.
    places: Vec<Place<T>>,
    taken: u16,
    /// The first free place.
    free: u16,
}

/// See the module's text. Numbers are stable while their thing is there.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks with free places.
    open: Vec<u32>,
    len: usize,
    /// Chunks that hold memory.
    filled: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), open: Vec::new(), len: 0, filled: 0 }
    }
}

fn split(id: u32) -> (usize, usize) {
    (id as usize / CHUNK, id as usize % CHUNK)
}

impl<T> Slab<T> {
    /// Things in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One past the highest number that may be in use.
    pub fn extent(&self) -> u32 {
        (self.chunks.len() * CHUNK) as u32
    }

    /// The thing of a number.
    #[inline]
    pub fn get(&self, id: u32) -> Option<&T> {
        let (chunk, place) = split(id);
        match self.chunks.get(chunk)?.places.get(place)? {
            Place::Taken(thing) => Some(thing),
            Place::Free(_) => None,
        }
    }

    /// The thing of a number, to change.
    #[inline]
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let (chunk, place) = split(id);
        match self.chunks.get_mut(chunk)?.places.get_mut(place)? {
            Place::Taken(thing) => Some(thing),
            Place::Free(_) => None,
        }
    }

    /// Puts a thing in; answers its number.
    pub fn insert(&mut self, thing: T) -> u32 {
        let number = match self.open.last() {
            Some(&number) => number as usize,
            None => {
                let number = self.chunks.len();
                self.chunks.push(Chunk { places: Vec::new(), taken: 0, free: NONE });
                self.open.push(number as u32);
                number
            }
        };
        let chunk = &mut self.chunks[number];
        if chunk.places.is_empty() {
            chunk.places = (1..=NONE).map(Place::Free).collect();
            chunk.free = 0;
            self.filled += 1;
        }
        let place = usize::from(chunk.free);
        if let Place::Free(next) = std::mem::replace(&mut chunk.places[place], Place::Taken(thing)) {
            chunk.free = next;
        }
        chunk.taken += 1;
        self.len += 1;
        if chunk.free == NONE {
            self.open.pop();
        }
        (number * CHUNK + place) as u32
    }

    /// Takes a thing out.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let (number, place) = split(id);
        let chunk = self.chunks.get_mut(number)?;
        let there = chunk.places.get_mut(place)?;
        if matches!(there, Place::Free(_)) {
            return None;
        }
        let Place::Taken(thing) = std::mem::replace(there, Place::Free(chunk.free)) else { return None };
        if chunk.free == NONE {
            self.open.push(number as u32);
        }
        chunk.free = place as u16;
        chunk.taken -= 1;
        self.len -= 1;
        if chunk.taken == 0 {
            chunk.places = Vec::new();
            self.filled -= 1;
        }
        if self.len == 0 {
            *self = Slab::default();
        }
        Some(thing)
    }

    /// All things with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().enumerate().flat_map(|(number, chunk)| {
            chunk.places.iter().enumerate().filter_map(move |(place, there)| match there {
                Place::Taken(thing) => Some(((number * CHUNK + place) as u32, thing)),
                Place::Free(_) => None,
            })
        })
    }

    /// Bytes allocated, what the things themselves hold aside.
    pub fn allocated(&self) -> usize {
        self.filled * block(CHUNK * size_of::<Place<T>>())
            + block(self.chunks.capacity() * size_of::<Chunk<T>>())
            + block(self.open.capacity() * size_of::<u32>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn numbers_are_stable(steps in proptest::collection::vec((0u8..3, any::<u32>()), 0..2000)) {
            let (mut slab, mut model) = (Slab::default(), HashMap::new());
            for (what, n) in steps {
                if what < 2 || model.is_empty() {
                    let id = slab.insert(n);
                    prop_assert_eq!(model.insert(id, n), None);
                } else {
                    let id = *model.keys().nth(n as usize % model.len()).expect("one");
                    prop_assert_eq!(slab.remove(id), model.remove(&id));
                    prop_assert_eq!(slab.get(id), None);
                }
                prop_assert_eq!(slab.len(), model.len());
            }
            prop_assert_eq!(slab.iter().map(|(id, n)| (id, *n)).collect::<HashMap<_, _>>(), model);
        }
    }

    #[test]
    fn what_many_left_is_given_back() {
        let mut slab = Slab::default();
        let ids: Vec<_> = (0..100_000u64).map(|n| slab.insert(n)).collect();
        ids[1..].iter().for_each(|&id| assert!(slab.remove(id).is_some()));
        assert_eq!(slab.get(ids[0]), Some(&0));
        assert!(slab.allocated() < 100_000, "{}", slab.allocated());
        let again: Vec<_> = (0..100_000u64).map(|n| slab.insert(n)).collect();
        assert!(again.iter().all(|&id| id < slab.extent()) && slab.extent() < 101_000);
    }

    #[test]
    fn empty_it_holds_nothing() {
        let mut slab = Slab::default();
        let ids: Vec<_> = (0..5000).map(|n| slab.insert(n)).collect();
        for id in ids {
            slab.remove(id);
        }
        assert_eq!(slab.allocated(), 0);
    }
}
