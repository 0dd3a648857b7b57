//! Those drawn for the next choices among all entries.
//!
//! Each look at an entry waits for memory twice, for its slot and for itself, and two
//! dozen such waits were half of what an eviction cost. So slots are fetched a
//! choice ahead of their entries, and entries a choice ahead of the look at them. A slot may be free
//! by then, or hold another entry: it was drawn uniformly all the same.

use crate::evict::SAMPLE;
use crate::evict_follow::Spot;
use crate::evict_population::{next_taken, Population};
use smallvec::SmallVec;

/// Drawn in a choice.
pub type Drawn = SmallVec<[Spot; SAMPLE]>;

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
    pub fn advance(
        &mut self,
        population: &impl Population,
        mut draw: impl FnMut() -> Option<Spot>,
        free: &mut usize,
    ) {
        let drawn = std::mem::replace(&mut self.drawn, (0..SAMPLE).filter_map(|_| draw()).collect());
        self.drawn.iter().for_each(|&spot| population.expect_slot(spot));
        self.ready = drawn.into_iter().filter_map(|spot| next_taken(population, spot, free)).collect();
        self.ready.iter().for_each(|&spot| population.expect_entry(spot));
    }
}
