//! Units as types: a length is never added to a length where a point in time
//! was meant.

/// The last point in time that an entry can carry: 2^48 − 2 ms of Unix time,
/// in the year 10889. (2^48 − 1 means "no end" in an entry's header.)
pub const LAST_TIME: u64 = (1 << 48) - 2;

/// The first value that is no stamp: stamps stay below 2^53, so that a double
/// (JavaScript, Lua, SQL drivers) holds them exactly.
pub const STAMP_LIMIT: u64 = 1 << 53;

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// A point in Unix time, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

/// A stamp: microseconds of Unix time made strictly monotonic on a shard.
/// Birth dates and tokens are stamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

impl Millis {
    /// No time at all.
    pub const ZERO: Millis = Millis(0);
}

impl Time {
    /// The point `length` after this one, or `None` past [`LAST_TIME`].
    pub fn after(self, length: Millis) -> Option<Time> {
        let sum = self.0.checked_add(length.0)?;
        (sum <= LAST_TIME).then_some(Time(sum))
    }

    /// How long after `earlier` this point is; zero if it is not after it
    /// (a clock that stepped back makes nothing negative).
    pub fn since(self, earlier: Time) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Stamp {
    /// The millisecond of the stamp.
    pub fn time(self) -> Time {
        Time(self.0 / 1000)
    }
}

/// Bytes that an allocation of so many takes: jemalloc's size classes (16 up to
/// 128, then four a doubling), which are what the servers' `used_memory` counts.
pub const fn block(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=128 => bytes.next_multiple_of(16),
        _ => bytes.next_multiple_of(1 << ((bytes - 1).ilog2() - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::block;

    #[test]
    fn blocks_are_jemallocs_classes() {
        let sizes = [0, 1, 16, 17, 128, 129, 160, 161, 256, 257, 4096, 5000];
        assert_eq!(sizes.map(block), [0, 16, 16, 32, 128, 160, 160, 192, 256, 320, 4096, 5120]);
    }
}
