//! What is known of an entry, and what holds of it whatever it was made from.

use super::*;
use crate::adaptive::Adaptive;

/// What is known of an entry beside its name, its value and its tags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// When the value was born: what invalidations are compared with.
    pub born: Stamp,
    /// When it was written or touched, by the wall clock.
    pub written: Time,
    /// Where freshness ends; `None`: never.
    pub fresh_until: Option<Time>,
    /// The fresh length last given (what TOUCH repeats); `None` exactly where
    /// `fresh_until` is.
    pub length: Option<Millis>,
    /// The grace last given; zero where freshness has no end.
    pub grace: Millis,
    /// When it was made stale by hand.
    pub staled_at: Option<Time>,
    /// What recomputing it costs; zero: unknown.
    pub cost: Cost,
    /// Reads answered with this value.
    pub hits: u64,
    /// Invalidated before it came to lie here (loaded, copied or renamed so).
    pub dead: bool,
    /// Where its TTL is chosen by how often its source changes.
    pub adaptive: Option<Adaptive>,
}

/// A recompute time: up to 49 days, zero for unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cost(pub u32);

impl Meta {
    /// The rules that hold between the fields of every entry, whatever it was
    /// made from: writers keep them, the decoder refuses what breaks them.
    pub fn is_sound(&self) -> bool {
        let time_ok = |t: Option<Time>| t.is_none_or(|t| t.0 <= LAST_TIME);
        let length_ok = |l: Option<Millis>| l.is_none_or(|l| l.0 <= LAST_TIME);
        self.born.0 < STAMP_LIMIT
            && self.written.0 <= LAST_TIME
            && time_ok(self.fresh_until)
            && time_ok(self.staled_at)
            && length_ok(self.length)
            && self.fresh_until.is_some() == self.length.is_some()
            && self.grace.0 <= LAST_TIME
            && (self.grace == Millis::ZERO || self.fresh_until.is_some())
            && (self.adaptive.is_none() || self.fresh_until.is_some())
    }

    /// Whether time of writing and fresh length are those that the birth stamp
    /// and the end of freshness imply.
    pub fn times_are_implied(&self) -> bool {
        self.written == self.born.time() && self.length == self.fresh_until.map(|end| end.since(self.written))
    }

    pub(super) fn fields(&self) -> u8 {
        let mut fields = 0;
        let mut set = |field, present| fields |= if present { field } else { 0 };
        set(GRACE, self.grace != Millis::ZERO);
        set(TIMES, !self.times_are_implied());
        set(STALED, self.staled_at.is_some());
        set(COST, self.cost != Cost(0));
        set(DEAD, self.dead);
        fields
    }

    /// Fresh at `now`: not staled by hand, and the end not reached.
    pub fn is_fresh(&self, now: Time) -> bool {
        !self.dead && self.staled_at.is_none() && self.fresh_until.is_none_or(|end| now < end)
    }
}
