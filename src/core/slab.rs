//! Numbered places for things: like a `Vec` of options that reuses places, in
//! chunks, so that growing never copies. Emptied, it holds nothing.

const CHUNK: usize = 256;

/// See the module's text. Numbers are stable while their thing is there.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    /// Free places.
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }
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
        self.chunks.get(id as usize / CHUNK)?.get(id as usize % CHUNK)?.as_ref()
    }

    /// The thing of a number, to change.
    #[inline]
    pub fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.chunks.get_mut(id as usize / CHUNK)?.get_mut(id as usize % CHUNK)?.as_mut()
    }

    /// Puts a thing in; answers its number.
    pub fn insert(&mut self, thing: T) -> u32 {
        if self.free.is_empty() {
            let first = self.extent();
            self.chunks.push((0..CHUNK).map(|_| None).collect());
            self.free.extend((first..first + CHUNK as u32).rev());
        }
        let id = self.free.pop().unwrap_or_default();
        if let Some(place) =
            self.chunks.get_mut(id as usize / CHUNK).and_then(|c| c.get_mut(id as usize % CHUNK))
        {
            *place = Some(thing);
        }
        self.len += 1;
        id
    }

    /// Takes a thing out.
    pub fn remove(&mut self, id: u32) -> Option<T> {
        let thing = self.chunks.get_mut(id as usize / CHUNK)?.get_mut(id as usize % CHUNK)?.take()?;
        self.len -= 1;
        self.free.push(id);
        if self.len == 0 {
            *self = Slab::default();
        }
        Some(thing)
    }

    /// All things with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..)
            .zip(self.chunks.iter().flatten())
            .filter_map(|(id, thing)| thing.as_ref().map(|thing| (id, thing)))
    }

    /// Bytes allocated, what the things themselves hold aside.
    pub fn allocated(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Option<T>>()
            + self.chunks.capacity() * size_of::<Vec<Option<T>>>()
            + self.free.capacity() * size_of::<u32>()
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
    fn empty_it_holds_nothing() {
        let mut slab = Slab::default();
        let ids: Vec<_> = (0..5000).map(|n| slab.insert(n)).collect();
        for id in ids {
            slab.remove(id);
        }
        assert_eq!(slab.allocated(), 0);
    }
}
