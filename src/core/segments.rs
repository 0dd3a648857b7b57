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
    /// All but the last are full. While there is one, it grows like a `Vec`.
    segments: Vec<Vec<T>>,
}

impl<T> Default for Segments<T> {
    fn default() -> Self {
        Segments { segments: Vec::new() }
    }
}

impl<T: Copy> Segments<T> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        match self.segments.split_last() {
            None => 0,
            Some((last, full)) => full.len() * SEGMENT + last.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The element at `i`.
    #[inline]
    pub fn get(&self, i: usize) -> Option<T> {
        self.segments.get(i / SEGMENT)?.get(i % SEGMENT).copied()
    }

    /// The place of the element at `i`.
    #[inline]
    pub fn get_mut(&mut self, i: usize) -> Option<&mut T> {
        self.segments.get_mut(i / SEGMENT)?.get_mut(i % SEGMENT)
    }

    /// Appends an element.
    pub fn push(&mut self, element: T) {
        let many = self.segments.len();
        match self.segments.last_mut() {
            Some(last) if last.len() < SEGMENT => {
                if last.len() == last.capacity() {
                    // A first segment grows by half: its slack is the price of
                    // every small tag. Later ones have their room from birth.
                    let more = if many == 1 {
                        (last.len() / if last.len() < SMALL { 2 } else { 4 }).clamp(1, SEGMENT - last.len())
                    } else {
                        SEGMENT - last.len()
                    };
                    last.reserve_exact(more);
                }
                last.push(element);
            }
            _ => {
                let mut segment = Vec::with_capacity(if many == 0 { 1 } else { SEGMENT });
                segment.push(element);
                // Most vectors are one segment: no room for four of them.
                if many == 0 {
                    self.segments.reserve_exact(1);
                }
                self.segments.push(segment);
            }
        }
    }

    /// Takes the last element off.
    pub fn pop(&mut self) -> Option<T> {
        let last = self.segments.last_mut()?;
        let element = last.pop();
        if last.is_empty() {
            self.segments.pop();
            if self.segments.is_empty() {
                self.segments = Vec::new();
            }
        } else if self.segments.len() == 1 {
            self.shrink_first();
        }
        element
    }

    /// Gives back what a vector that was long does not need any more.
    fn shrink_first(&mut self) {
        if let Some(first) = self.segments.first_mut() {
            if first.capacity() > SMALL && first.len() * 4 <= first.capacity() {
                first.shrink_to(first.len() * 2);
            }
        }
        if self.segments.capacity() > SMALL {
            self.segments.shrink_to(1);
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
        self.segments.iter().flatten().copied()
    }

    /// Bytes allocated for it, its own size aside. Constant work.
    pub fn allocated(&self) -> usize {
        let each = match &self.segments[..] {
            [one] => one.capacity(),
            _ => SEGMENT,
        };
        self.segments.len() * block(each * size_of::<T>())
            + block(self.segments.capacity() * size_of::<Vec<T>>())
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
