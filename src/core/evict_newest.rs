//! Those that came last. Each is looked at once, in the first choice after a few more
//! came: where a stranger is worth less than all that is there (a scan, one that costs
//! next to nothing, one that is large), it need not push others out until a draw
//! falls on it. They were just written, so that a look waits for nothing.

use crate::evict_follow::Spot;
use smallvec::{Array, SmallVec};

/// How many more.
const DELAY: usize = 4;
/// Of those that came between two choices so many are looked at, the last ones.
const DUE: usize = 32;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Newest {
    last: SmallVec<[Spot; DELAY]>,
    due: SmallVec<[Spot; DUE]>,
}

/// Adds one to some that are kept in the order in which they came; where there is no
/// room, the first leaves.
fn push<A: Array<Item = Spot>>(few: &mut SmallVec<A>, spot: Spot) -> Option<Spot> {
    let first = (few.len() == few.inline_size()).then(|| few.remove(0));
    few.push(spot);
    first
}

impl Newest {
    /// One has come.
    pub fn came(&mut self, spot: Spot) {
        if let Some(due) = push(&mut self.last, spot) {
            push(&mut self.due, due);
        }
    }

    /// Those to look at, which are due no longer. One may have left since.
    pub fn take_due(&mut self) -> impl Iterator<Item = Spot> {
        std::mem::take(&mut self.due).into_iter()
    }

    /// All have left.
    pub fn clear(&mut self) {
        *self = Newest::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_due_once_and_later() {
        let (mut newest, spot) = (Newest::default(), |slot| Spot { db: 0, slot });
        let mut due = Vec::new();
        for slot in 1..=1000 {
            newest.came(spot(slot));
            if slot % 7 == 0 {
                let now: Vec<_> = newest.take_due().map(|spot| spot.slot).collect();
                assert!(now.iter().all(|due| due + DELAY as u32 <= slot));
                due.extend(now);
            }
        }
        assert_eq!(due, (1..=994 - DELAY as u32).collect::<Vec<_>>());
        (1..=1000).for_each(|slot| newest.came(spot(slot)));
        let last: Vec<_> = newest.take_due().map(|spot| spot.slot).collect();
        assert_eq!(last, (1000 - (DELAY + DUE) as u32 + 1..=1000 - DELAY as u32).collect::<Vec<_>>());
        newest.came(spot(1));
        newest.clear();
        (0..DELAY).for_each(|_| newest.came(spot(2)));
        assert_eq!(newest.take_due().count(), 0);
    }
}
