//! Those drawn for the next choices among all entries.
//!
//! Each look at an entry waits for memory twice, for its slot and for itself, and two
//! dozen such waits were half of what an eviction cost. So slots are fetched a
//! choice ahead of their entries, and entries a choice ahead of the look at them. A
//! slot may be free by then, or hold another entry: it was drawn uniformly all the
//! same.
//!
//! Four slots that lie next to each other are drawn together, for they share a cache
//! line. Slots are given out as they become free, so that neighbours come to have
//! little in common: on the traces it makes no difference that could be measured.

use crate::evict::SAMPLE;
use crate::evict_follow::Spot;
use crate::evict_population::Population;
use smallvec::SmallVec;

/// Drawn in a choice.
pub type Drawn = SmallVec<[Spot; SAMPLE]>;

/// Slots that are drawn together.
const RUN: usize = 4;

/// See the module's text.
#[derive(Debug, Default)]
pub struct Ahead {
    /// Entries that are being fetched.
    ready: Drawn,
    /// Slots that are.
    drawn: Drawn,
}

impl Ahead {
    /// Those to look at now.
    pub fn take(&mut self) -> Drawn {
        std::mem::take(&mut self.ready)
    }

    /// Has what was drawn before fetched, and draws more.
    pub fn advance(&mut self, population: &impl Population, mut draw: impl FnMut() -> Option<Spot>) {
        let runs = (0..SAMPLE / RUN).filter_map(|_| draw());
        let drawn = runs.flat_map(|first| (first.slot..).take(RUN).map(move |slot| Spot { slot, ..first }));
        self.ready = std::mem::replace(&mut self.drawn, drawn.collect());
        self.drawn.iter().step_by(RUN).for_each(|&spot| population.expect_slot(spot));
        self.ready.iter().for_each(|&spot| population.expect_entry(spot));
    }
}
