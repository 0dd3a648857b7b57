//! What clients of a failover may see: versions, and times between writes.

use anyhow::{Context, Result};
use redis::Value;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

/// The version of a key at its origin, and the newest whose invalidation was
/// acknowledged. One writer changes it.
#[derive(Debug, Default)]
pub struct Truth {
    origin: AtomicU64,
    acknowledged: AtomicU64,
}

impl Truth {
    /// The origin has a new version: this.
    pub fn change(&self) -> u64 {
        self.origin.fetch_add(1, SeqCst) + 1
    }

    /// No older one may be read from now on.
    pub fn acknowledge(&self, version: u64) {
        self.acknowledged.store(version, SeqCst);
    }

    /// What the origin has.
    pub fn origin(&self) -> u64 {
        self.origin.load(SeqCst)
    }

    /// The oldest version that may be answered to who asks now.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(SeqCst)
    }
}

/// A version that was read, if any was.
pub fn version(value: &Value) -> Result<Option<u64>> {
    redis::from_redis_value(value).with_context(|| format!("{value:?} is no version"))
}

/// The longest time without an acknowledged write that has a part between
/// `from` and `to`: from the last before. `acks` are in order.
pub fn longest_gap(acks: &[Duration], from: Duration, to: Duration) -> f64 {
    let before = acks.iter().rfind(|ack| **ack <= from).copied().unwrap_or(from);
    let after = acks.iter().find(|ack| **ack >= to).copied().unwrap_or(to);
    let inside = acks.iter().copied().filter(|ack| from < *ack && *ack < to);
    let mut last = before;
    let mut longest = Duration::ZERO;
    for ack in inside.chain([after]) {
        longest = longest.max(ack.saturating_sub(last));
        last = ack;
    }
    longest.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_where_part_of_it_is_inside() {
        let gap = |acks: &[u64], from, to| {
            let acks: Vec<_> = acks.iter().copied().map(Duration::from_millis).collect();
            (longest_gap(&acks, Duration::from_millis(from), Duration::from_millis(to)) * 1e3).round()
        };
        let acks = [0, 50, 60, 90, 95, 300];
        assert_eq!(gap(&acks, 55, 97), 205.0);
        assert_eq!(gap(&acks, 55, 92), 30.0);
        assert_eq!(gap(&acks, 10, 55), 50.0);
        // Until the end where none came after.
        assert_eq!(gap(&acks, 100, 1000), 700.0);
        assert_eq!(gap(&[], 100, 1000), 900.0);
    }

    #[test]
    fn what_is_acknowledged_is_the_least() {
        let truth = Truth::default();
        let new = truth.change();
        assert_eq!((truth.origin(), truth.acknowledged()), (1, 0));
        truth.acknowledge(new);
        assert_eq!(truth.acknowledged(), 1);
        assert_eq!(version(&Value::BulkString(b"17".to_vec())).unwrap(), Some(17));
        assert_eq!(version(&Value::Nil).unwrap(), None);
        assert!(version(&Value::BulkString(b"x".to_vec())).is_err());
    }
}
