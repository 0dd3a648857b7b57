//! What waits until enough replicas have it (`invalidate-min-replicas`).
//!
//! The module API tells no replica's offset and lets nobody wait for one. So
//! what waits is gathered in rounds: each round notes the replication offset
//! that all of what came before it lies under, has the replicas asked for
//! theirs (`REPLCONF GETACK`), and lets go of what enough of them have passed.

use std::collections::VecDeque;

/// The most that waits: past it the oldest are given up, whose senders ask
/// again.
const MOST: usize = 10_000;

/// See the module's text.
#[derive(Debug)]
pub struct Acknowledged<T> {
    /// With the offset, once a round has noted it.
    waiting: VecDeque<(Option<u64>, T)>,
}

impl<T> Default for Acknowledged<T> {
    fn default() -> Self {
        Acknowledged { waiting: VecDeque::new() }
    }
}

/// What a round came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Round<T> {
    /// Enough replicas have these.
    pub ready: Vec<T>,
    /// The replicas are to be asked.
    pub ask: bool,
}

impl<T> Acknowledged<T> {
    /// Something is in the replication stream and waits.
    pub fn push(&mut self, item: T) {
        if self.waiting.len() >= MOST {
            self.waiting.pop_front();
        }
        self.waiting.push_back((None, item));
    }

    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.waiting.clear();
    }

    /// A round: `offset` of the stream now, the replicas' own, how many have to
    /// have it.
    pub fn round(&mut self, offset: u64, mut replicas: Vec<u64>, needed: usize) -> Round<T> {
        let mut ask = false;
        for (target, _) in &mut self.waiting {
            ask |= target.is_none();
            target.get_or_insert(offset);
        }
        replicas.sort_unstable_by(|a, b| b.cmp(a));
        let reached = match needed.checked_sub(1) {
            None => Some(u64::MAX),
            Some(at) => replicas.get(at).copied(),
        };
        let mut ready = Vec::new();
        while let Some((Some(target), _)) = self.waiting.front() {
            if reached.is_none_or(|reached| reached < *target) {
                break;
            }
            ready.extend(self.waiting.pop_front().map(|(_, item)| item));
        }
        Round { ready, ask }
    }
}

/// The offset in INFO's line of a replica (`ip=…,port=…,state=online,offset=5,lag=0`),
/// if it is one that is linked.
pub fn offset_of(line: &[u8]) -> Option<u64> {
    let mut fields = line.split(|byte| *byte == b',').filter_map(|field| {
        let at = field.iter().position(|byte| *byte == b'=')?;
        Some((&field[..at], &field[at + 1..]))
    });
    let online = fields.clone().any(|field| field == (b"state", b"online"));
    let offset = fields.find(|(name, _)| name == b"offset")?.1;
    crate::number::parse_u64(offset).filter(|_| online)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Nothing is let go of before enough replicas have passed what the
        /// stream was at when it was pushed, and everything once they have.
        #[test]
        fn lets_go_of_what_enough_have(steps in proptest::collection::vec((0u8..3, 0u64..50), 1..80), needed in 0usize..4) {
            let mut waiting = Acknowledged::default();
            let (mut offset, mut replicas, mut pushed) = (0, vec![0; 3], Vec::new());
            for (what, n) in steps {
                match what {
                    0 => { offset += n; pushed.push(offset); waiting.push(offset); }
                    1 => { let i = n as usize % 3; replicas[i] = offset.min(replicas[i] + n); }
                    _ => {
                        let round = waiting.round(offset, replicas.clone(), needed);
                        for item in round.ready {
                            let have = replicas.iter().filter(|acked| **acked >= item).count();
                            prop_assert!(have >= needed);
                            prop_assert_eq!(pushed.remove(0), item);
                        }
                    }
                }
            }
            waiting.round(offset, vec![], needed);
            let rest = waiting.round(offset, vec![offset; 3], needed).ready;
            prop_assert_eq!(if needed == 0 { Vec::new() } else { pushed }, rest);
            prop_assert!(waiting.is_empty());
        }

        #[test]
        fn reading_lines_is_total(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = offset_of(&line);
        }
    }

    #[test]
    fn replicas_are_asked_once_a_round() {
        let mut waiting = Acknowledged::default();
        waiting.push("a");
        assert_eq!(waiting.round(10, vec![5], 1), Round { ready: vec![], ask: true });
        assert_eq!(waiting.round(20, vec![9], 1), Round { ready: vec![], ask: false });
        waiting.push("b");
        assert_eq!(waiting.round(20, vec![10], 1), Round { ready: vec!["a"], ask: true });
        assert_eq!(waiting.round(20, vec![20], 2), Round { ready: vec![], ask: false }, "one is not two");
    }

    #[test]
    fn offsets_of_replicas() {
        let line = |state| format!("ip=127.0.0.1,port=7002,state={state},offset=1234,lag=0");
        assert_eq!(offset_of(line("online").as_bytes()), Some(1234));
        assert_eq!(offset_of(line("wait_bgsave").as_bytes()), None);
        assert_eq!(offset_of(b"ip=1,state=online"), None);
    }
}
