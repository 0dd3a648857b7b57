//! How much of the event loop's time the sweep may take.

/// The longest slice there is, in µs: nothing of ours may hold the event loop
/// up for longer than a millisecond.
pub const LONGEST: u64 = 1000;
/// The share of `maxmemory` past which it hurries.
const FULL: f64 = 0.9;
/// How many times as long a slice is where memory is used up.
const HURRY: f64 = 8.0;

/// The backlog that doubles a slice.
const LONG: usize = 1_000_000;

/// The length of a slice in µs: `base`, the directive; up to twice that where
/// much is queued, so that a million keys are gone in less than ten seconds;
/// and up to eight times that as memory fills from nine tenths to all of
/// `maxmemory` (`ratio`: its share in use; 0 where there is no limit), for what
/// is dead is the cheapest to evict.
pub fn budget(base: u64, ratio: f64, backlog: usize) -> u64 {
    let pressure = ((ratio - FULL) / (1.0 - FULL)).clamp(0.0, 1.0);
    let queued = backlog.min(LONG) as f64 / LONG as f64;
    let times = (1.0 + (HURRY - 1.0) * pressure).max(1.0 + queued);
    ((base as f64 * times).round() as u64).clamp(base.min(LONGEST), LONGEST)
}

#[cfg(test)]
mod tests {
    use super::budget;

    #[test]
    fn it_hurries_as_memory_fills() {
        assert_eq!([0.0, 0.5, 0.9].map(|ratio| budget(100, ratio, 1)), [100; 3]);
        assert_eq!(budget(100, 0.95, 1), 450);
        assert_eq!([1.0, 1.5, f64::INFINITY].map(|ratio| budget(100, ratio, 1)), [800; 3]);
        assert_eq!(budget(100, f64::NAN, 1), 100);
        assert_eq!(budget(500, 1.0, 1), 1000, "never over a millisecond");
        assert_eq!(budget(5000, 0.0, 1), 1000);
    }

    #[test]
    fn it_hurries_where_much_is_queued() {
        assert_eq!([0, 500_000, 1_000_000, usize::MAX].map(|n| budget(100, 0.0, n)), [100, 150, 200, 200]);
        assert_eq!(budget(100, 1.0, usize::MAX), 800);
    }
}
