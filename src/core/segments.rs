//! A vector that grows without ever copying much: past one segment it grows by
//! whole segments, and it gives segments back as it shrinks.
//!
//! Why not `Vec`: doubling one of 10 million members copies 40 MB while the
//! server waits, and keeps up to half of itself unused.

use crate::units::block;

/// Elements of a segment: 4 KB of u32, 8 KB of u64.
const SEGMENT: usize = 1024;
/// Room that is not worth giving back.
const SMALL: usize = 16;

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Segments<T> {
    /// Grows like a `Vec`, but by less. In place, for most vectors are no longer.
    first: Vec<T>,
    /// What comes once the first is full; all but the last are full too, and
    /// none is empty.
    more: Option<Box<More<T>>>,
}

type More<T> = Vec<Vec<T>>;

impl<T> Default for Segments<T> {
    fn default() -> Self {
        Segments { first: Vec::new(), more: None }
    }
}

impl<T: Copy> Segments<T> {
    /// The number of elements.
    #[inline]
    pub fn len(&self) -> usize {
        let more = self.more.as_deref().and_then(|more| more.split_last());
        self.first.len() + more.map_or(0, |(last, full)| full.len() * SEGMENT + last.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The element at `i`.
    #[inline]
    pub fn get(&self, i: usize) -> Option<T> {
        self.place(i).copied()
    }

    /// The place of the element at `i`, which is not read.
    #[inline]
    pub fn place(&self, i: usize) -> Option<&T> {
        match i.checked_sub(SEGMENT) {
            None => self.first.get(i),
            Some(i) => self.more.as_deref()?.get(i / SEGMENT)?.get(i % SEGMENT),
        }
    }

    /// The same, to be written.
    #[inline]
    pub fn get_mut(&mut self, i: usize) -> Option<&mut T> {
        match i.checked_sub(SEGMENT) {
            None => self.first.get_mut(i),
            Some(i) => self.more.as_deref_mut()?.get_mut(i / SEGMENT)?.get_mut(i % SEGMENT),
        }
    }

    /// Appends an element.
    #[inline]
    pub fn push(&mut self, element: T) {
        let len = self.first.len();
        if len == SEGMENT {
            return self.push_more(element);
        }
        if len == self.first.capacity() {
            // Its slack is the price of every small tag.
            let more = (len / if len < SMALL { 2 } else { 4 }).clamp(1, SEGMENT - len);
            self.first.reserve_exact(more);
        }
        self.first.push(element);
    }

    #[cold]
    fn push_more(&mut self, element: T) {
        let more = self.more.get_or_insert_with(Box::default);
        match more.last_mut() {
            Some(last) if last.len() < SEGMENT => last.push(element),
            _ => {
                let mut segment = Vec::with_capacity(SEGMENT);
                segment.push(element);
                more.push(segment);
            }
        }
    }

    /// Takes the last element off.
    pub fn pop(&mut self) -> Option<T> {
        let Some(more) = &mut self.more else {
            let element = self.first.pop();
            self.shrink_first();
            return element;
        };
        let last = more.last_mut()?;
        let element = last.pop();
        if last.is_empty() {
            more.pop();
            if more.is_empty() {
                self.more = None;
            } else if more.capacity() > SMALL && more.len() * 4 <= more.capacity() {
                more.shrink_to(more.len() * 2);
            }
        }
        element
    }

    /// Gives back what a vector that was long does not need any more.
    fn shrink_first(&mut self) {
        if self.first.is_empty() {
            self.first = Vec::new();
        } else if self.first.capacity() > SMALL && self.first.len() * 4 <= self.first.capacity() {
            self.first.shrink_to(self.first.len() * 2);
        }
    }

    /// Puts the last element in the place of that at `i`, which goes; answers
    /// the element that moved, if one did.
    pub fn swap_remove(&mut self, i: usize) -> Option<T> {
        let last = self.pop()?;
        let place = self.get_mut(i)?;
        *place = last;
        Some(last)
    }

    /// All elements.
    pub fn iter(&self) -> impl Iterator<Item = T> + '_ {
        self.first.iter().chain(self.more.iter().flat_map(|more| more.iter()).flatten()).copied()
    }

    /// Where the next element is going to stand, as a rule: for who has it
    /// fetched before it is needed, and nothing else.
    #[inline]
    pub fn end(&self) -> *const T {
        let last = self.more.as_deref().and_then(|more| more.last()).unwrap_or(&self.first);
        last.as_ptr_range().end
    }

    /// Bytes allocated for it, its own size aside. Constant work.
    #[inline]
    pub fn allocated(&self) -> usize {
        let more = self.more.as_deref().map_or(0, |more| {
            more.len() * block(SEGMENT * size_of::<T>())
                + block(more.capacity() * size_of::<Vec<T>>())
                + block(size_of::<More<T>>())
        });
        block(self.first.capacity() * size_of::<T>()) + more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_a_vector(steps in proptest::collection::vec((0u8..10, any::<u32>()), 0..5000)) {
            let (mut segments, mut model) = (Segments::default(), Vec::new());
            for (what, n) in steps {
                match what {
                    0..=6 => {
                        segments.push(n);
                        model.push(n);
                    }
                    7 => prop_assert_eq!(segments.pop(), model.pop()),
                    _ if model.is_empty() => prop_assert_eq!(segments.swap_remove(0), None),
                    _ => {
                        let i = n as usize % model.len();
                        let moved = segments.swap_remove(i);
                        model.swap_remove(i);
                        prop_assert_eq!(moved, model.get(i).copied());
                    }
                }
                prop_assert_eq!(segments.len(), model.len());
            }
            prop_assert_eq!(segments.iter().collect::<Vec<_>>(), model);
        }
    }

    #[test]
    fn gives_back_what_it_took() {
        let mut segments = Segments::default();
        for n in 0..100_000u32 {
            segments.push(n);
        }
        assert!(segments.allocated() < 100_000 * 4 + 100 * 64 + 4096);
        while segments.len() > 3 {
            segments.pop();
        }
        assert!(segments.allocated() < 256, "{}", segments.allocated());
        while segments.pop().is_some() {}
        assert_eq!(segments.allocated(), 0);
    }
}
