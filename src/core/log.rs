//! Who invalidated what: the last so many records.

use std::collections::VecDeque;

use crate::index::Mode;
use crate::units::Time;

/// An invalidation of one tag or namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Counts up, also over a reset.
    pub id: u64,
    /// When.
    pub at: Time,
    /// How.
    pub mode: Mode,
    /// A namespace, not a tag.
    pub namespace: bool,
    /// Its name.
    pub name: Box<[u8]>,
    /// What it hit.
    pub hits: u64,
    /// The user's name; empty: none.
    pub user: Box<[u8]>,
    /// The client's address; empty: none.
    pub client: Box<[u8]>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Log {
    records: VecDeque<Record>,
    last_id: u64,
}

impl Log {
    /// Adds a record, whose id is given here, and forgets those past `most`.
    pub fn add(&mut self, record: Record, most: usize) {
        self.last_id += 1;
        if most > 0 {
            self.records.push_back(Record { id: self.last_id, ..record });
        }
        self.trim(most);
    }

    fn trim(&mut self, most: usize) {
        while self.records.len() > most {
            self.records.pop_front();
        }
        if self.records.is_empty() {
            self.records = VecDeque::new();
        }
    }

    /// The newest, first; no more than there are, nor than `most`, the limit in
    /// force, which may have been lowered since.
    pub fn newest(&self, count: usize, most: usize) -> impl ExactSizeIterator<Item = &Record> {
        self.records.iter().rev().take(count.min(most))
    }

    /// Forgets all.
    pub fn reset(&mut self) {
        self.trim(0);
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        let names: usize = self
            .records
            .iter()
            .map(|record| record.name.len() + record.user.len() + record.client.len())
            .sum();
        names + self.records.capacity() * size_of::<Record>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &[u8]) -> Record {
        Record {
            id: 0,
            at: Time(1),
            mode: Mode::Hard,
            namespace: false,
            name: name.into(),
            hits: 0,
            user: Box::default(),
            client: Box::default(),
        }
    }

    #[test]
    fn the_newest_first_and_no_more_than_allowed() {
        let mut log = Log::default();
        for name in [b"a", b"b", b"c"] {
            log.add(record(name), 2);
        }
        let ids =
            |log: &Log, count, most| log.newest(count, most).map(|record| record.id).collect::<Vec<_>>();
        assert_eq!(ids(&log, 9, 2), [3, 2]);
        assert_eq!(ids(&log, 1, 2), [3]);
        assert_eq!(ids(&log, 9, 1), [3], "lowered since");
        log.reset();
        assert_eq!((ids(&log, 9, 2), log.allocated()), (vec![], 0));
        log.add(record(b"d"), 2);
        assert_eq!(ids(&log, 9, 2), [4], "ids go on");
        log.add(record(b"e"), 0);
        assert_eq!(ids(&log, 9, 2), Vec::<u64>::new());
    }
}
