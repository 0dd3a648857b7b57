//! How much the table may hold, and remember.

use crate::units::Millis;

/// What the table may grow to, and the longest lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `cacheflow.lease-max`: the longest FETCH lease, and how long a token is
    /// remembered.
    pub lease_max: Millis,
    /// Keys in the table.
    pub keys: usize,
    /// Keys of them that are only remembered.
    pub remembered: usize,
    /// Bytes of their names.
    pub bytes: usize,
    /// `cacheflow.max-waiters`; at most [`super::queue::MOST_WAITERS`].
    pub waiters: usize,
    /// `cacheflow.max-waiters-per-key`.
    pub waiters_per_key: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            lease_max: Millis(600_000),
            keys: 100_000,
            remembered: 100_000,
            bytes: 64 << 20,
            waiters: 10_000,
            waiters_per_key: 10_000,
        }
    }
}

impl Limits {
    /// How many keys may be remembered under a budget of so many bytes (0: there
    /// is none): a sixteenth of it, for entries are what it is for.
    pub fn remembered_in(budget: u64) -> usize {
        match budget {
            0 => usize::MAX,
            _ => usize::try_from(budget / 16).unwrap_or(usize::MAX) / REMEMBERED_BYTES,
        }
    }
}

/// What a key that is remembered takes, about, with a name of 40 bytes.
const REMEMBERED_BYTES: usize = 320;
/// Keys of which it is remembered why their grant may not fill.
pub const MOST_BROKEN: usize = 1000;
