//! Budgets: when something has to go, and how long may be spent on it.
//!
//! ```text
//!                 limit − 3 %      limit − 1 %        limit
//!  ───────────────────┼────────────────┼────────────────┼──────────▶ bytes held
//!        nothing      │   nothing, or  │  the turns of  │ a write that has no
//!        is done      │   on its way   │  the loop      │ room makes it first,
//!                     │   down to here │  evict         │ or is refused
//! ```
//! A limit is never passed by a write of CACHE.SET's: it evicts what it needs
//! before it is done. What comes by other ways (RESTORE, RENAME, COPY, loading)
//! is worked off by the turns. So that writes seldom have to, turns begin a
//! percent below; and so that they do not begin anew with each write, they go on
//! for two more. Nothing presses there: a turn evicts no more than a reader would
//! not notice that comes meanwhile, but the longer, the closer it is to the limit.
//!
//! Of the server's own maxmemory the share `evict-at` is such a limit, but what
//! grows there are native keys, which ask nobody. The closer it is to full, the
//! longer a turn may be.

use std::time::Duration;

/// How long a turn evicts for where nothing presses: some ten entries.
pub const SHORTEST: Duration = Duration::from_micros(20);
/// And where a limit is reached, so that writes have to evict for themselves.
pub const SLICE: Duration = Duration::from_micros(200);
/// And where the server is about to refuse writes.
pub const LONGEST: Duration = Duration::from_millis(20);
/// Evictions that a write makes at the most, some 20 ms of them: a value of a
/// megabyte may drive out ten thousand of a hundred bytes. Past that it is
/// written all the same, as by Redis, and the turns go on.
pub const MOST_A_WRITE: usize = 10_000;

/// A limit below which evicting for it ends once it has begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    evicting: bool,
}

/// What a write that needs room is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// There is room.
    Fits,
    /// So many bytes have to go first.
    Evict(u64),
    /// There is never room for it.
    Never,
}

/// Whether a write that takes `need` more bytes has room under `limit`, of which
/// `held` are taken; 0: no limit.
pub fn admit(limit: u64, held: u64, need: u64) -> Admission {
    let after = held.saturating_add(need);
    match limit {
        0 => Admission::Fits,
        _ if after <= limit => Admission::Fits,
        // What the limit could not hold alone drives nobody else out.
        _ if need > limit => Admission::Never,
        _ => Admission::Evict(after - limit),
    }
}

impl Budget {
    /// For how long a turn is to evict, with so much held of a limit; 0: none.
    /// `None`: nothing has to go.
    pub fn slice(&mut self, limit: u64, held: u64) -> Option<Duration> {
        let parts = |percent: u64| (u128::from(limit) * u128::from(percent) / 100) as u64;
        let from = parts(99);
        let bound = if self.evicting { parts(97) } else { from };
        self.evicting = limit > 0 && held > bound;
        let pressed = held.saturating_sub(from) as f64 / limit.saturating_sub(from).max(1) as f64;
        self.evicting.then(|| SHORTEST + (SLICE - SHORTEST).mul_f64(pressed.min(1.0)))
    }
}

/// How long a turn may evict, where `ratio` of the server's maxmemory is in use
/// and entries go past `at` (0 to 1; 0: never). `None`: nothing has to go.
///
/// Up to half of what is left between the two it is a slice; from there on it
/// grows, for past the end the server refuses writes that it need not refuse.
pub fn for_server(at: f64, ratio: f64) -> Option<Duration> {
    if at <= 0.0 || ratio <= at {
        return None;
    }
    let pressed = ((ratio - at) / (1.0 - at).max(f64::EPSILON)).clamp(0.0, 1.0);
    let more = ((pressed - 0.5) * 2.0).max(0.0);
    Some(SLICE + (LONGEST - SLICE).mul_f64(more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_fits_or_makes_room_or_never_does() {
        assert_eq!(admit(0, 5000, 5000), Admission::Fits);
        assert_eq!(admit(100, 90, 10), Admission::Fits);
        assert_eq!(admit(100, 90, 11), Admission::Evict(1));
        assert_eq!(admit(100, 300, 100), Admission::Evict(300), "a limit that was lowered");
        assert_eq!(admit(100, 0, 101), Admission::Never);
        assert_eq!(admit(100, u64::MAX, 2), Admission::Evict(u64::MAX - 100));
    }

    #[test]
    fn it_begins_at_one_percent_and_ends_at_three() {
        let mut budget = Budget::default();
        let mut wants = |limit, held| budget.slice(limit, held).is_some();
        assert!(!wants(1000, 990) && wants(1000, 991));
        assert!(wants(1000, 980) && wants(1000, 971));
        assert!(!wants(1000, 970) && !wants(1000, 985), "and not before one percent again");
        assert!(wants(1000, 2000) && !wants(0, 2000), "a limit that was taken away");
        assert!(wants(u64::MAX, u64::MAX) && wants(1, u64::MAX));
    }

    #[test]
    fn the_closer_to_a_limit_the_longer() {
        let mut budget = Budget::default();
        let slices = [100_000, 99_900, 99_500, 99_000, 98_000].map(|held| budget.slice(100_000, held));
        assert!(slices.windows(2).take(3).all(|pair| pair[0] > pair[1]), "{slices:?}");
        assert_eq!((slices[0], slices[3], slices[4]), (Some(SLICE), Some(SHORTEST), Some(SHORTEST)));
        assert_eq!(budget.slice(100_000, 300_000), Some(SLICE));
    }

    #[test]
    fn the_servers_share() {
        assert_eq!(for_server(0.0, 1.0), None);
        assert_eq!(for_server(0.8, 0.8), None);
        assert_eq!(for_server(0.8, 0.85), Some(SLICE));
        assert_eq!(for_server(0.8, 1.0), Some(LONGEST));
        assert_eq!(for_server(0.8, 7.0), Some(LONGEST));
        assert_eq!(for_server(1.0, 1.5), Some(LONGEST));
        let (some, more) = (for_server(0.8, 0.92), for_server(0.8, 0.97));
        assert!(Some(SLICE) < some && some < more && more < Some(LONGEST));
    }
}
