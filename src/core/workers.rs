//! Who waits for CACHE.REFRESH: workers, first come first served, each for a
//! group of candidates.
//!
//! Guarantees: each is answered once, when there is something for it or at its
//! deadline; bounded by what [`Workers::add`] is told.

use std::collections::{BTreeMap, BTreeSet};

use crate::leases::ClientId;
use crate::refresh_ahead::Group;
use crate::units::{Millis, Time};

/// A worker that waits, by arrival.
pub type WorkerId = u64;

/// What a worker asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Of which candidates.
    pub group: Group,
    /// So many at most.
    pub count: usize,
    /// `LEASE`.
    pub lease: Option<Millis>,
    /// Whose leases they are to be.
    pub client: ClientId,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Workers {
    waiting: BTreeMap<WorkerId, (Work, Option<Time>)>,
    deadlines: BTreeSet<(Time, WorkerId)>,
    arrivals: WorkerId,
}

impl Workers {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// One begins to wait, `block` long (zero: without a limit); `None` where
    /// `most` wait already.
    pub fn add(&mut self, work: Work, block: Millis, most: usize, now: Time) -> Option<WorkerId> {
        if self.waiting.len() >= most {
            return None;
        }
        self.arrivals += 1;
        let until = if block == Millis::ZERO { None } else { now.after(block) };
        self.deadlines.extend(until.map(|until| (until, self.arrivals)));
        self.waiting.insert(self.arrivals, (work, until));
        Some(self.arrivals)
    }

    /// One waits no more, for whatever reason.
    pub fn remove(&mut self, id: WorkerId) {
        if let Some((_, Some(until))) = self.waiting.remove(&id) {
            self.deadlines.remove(&(until, id));
        }
    }

    /// The first that came after this one (0: the first of all).
    pub fn after(&self, id: WorkerId) -> Option<(WorkerId, Work)> {
        self.waiting.range(id + 1..).next().map(|(id, (work, _))| (*id, *work))
    }

    /// One whose time is up.
    pub fn overdue(&self, now: Time) -> Option<WorkerId> {
        self.deadlines.first().filter(|(until, _)| *until <= now).map(|(_, id)| *id)
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(client: ClientId) -> Work {
        Work { group: Group::new(0, None), count: 1, lease: None, client }
    }

    #[test]
    fn in_order_of_arrival() {
        let mut workers = Workers::default();
        let ids: Vec<_> =
            (0..3).map(|n| workers.add(work(n), Millis(0), 3, Time(0)).expect("room")).collect();
        assert_eq!(workers.add(work(3), Millis(0), 3, Time(0)), None);
        workers.remove(ids[1]);
        let (first, of) = workers.after(0).expect("one");
        assert_eq!((first, of.client), (ids[0], 0));
        assert_eq!(workers.after(first).map(|(id, _)| id), Some(ids[2]));
        assert_eq!(workers.after(ids[2]), None);
        assert_eq!(workers.next_deadline(), None, "without a limit");
    }

    #[test]
    fn each_has_its_deadline() {
        let mut workers = Workers::default();
        let late = workers.add(work(1), Millis(50), 9, Time(100)).expect("room");
        let soon = workers.add(work(2), Millis(20), 9, Time(100)).expect("room");
        assert_eq!((workers.next_deadline(), workers.overdue(Time(119))), (Some(Time(120)), None));
        assert_eq!(workers.overdue(Time(200)), Some(soon));
        workers.remove(soon);
        assert_eq!(workers.overdue(Time(200)), Some(late));
        workers.remove(late);
        workers.remove(late);
        assert!(workers.is_empty() && workers.overdue(Time(u64::MAX)).is_none());
    }
}
