//! What happens to many keys at once: time, connections, databases, roles.

use super::*;
use crate::index::Db;
use crate::slot;

impl Leases {
    /// The earliest deadline there is; the module's one timer.
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|(time, _)| *time)
    }

    /// Works off at most `steps` of what is due; answers whether there is more.
    pub fn tick(&mut self, now: Time, steps: usize) -> bool {
        self.now = self.now.max(now);
        self.advance(steps)
    }

    /// A client's connection has closed: its FETCH leases are given up, those
    /// with KEEP aside, and may still fill until somebody else holds them; its
    /// waiters are forgotten.
    pub fn disconnect(&mut self, client: ClientId, now: Time) {
        self.hear(now);
        while let Some(waiter) = first_of(&self.waiting_clients, client, WaiterId(0)) {
            let Some(waiter) = self.remove_waiter(waiter) else { return };
            self.tidy(waiter.key);
        }
        while let Some(id) = first_of(&self.of_client, client, 0) {
            self.end(id, None, true);
            self.tidy(id);
        }
    }

    /// FLUSHDB, FLUSHALL: voids the leases and drops the locks of a database
    /// (`None`: of all), and forgets what was remembered; the longest waiters
    /// are promoted. Walks the table.
    pub fn flush(&mut self, db: Option<Db>, now: Time) {
        self.hear(now);
        for id in self.of_databases(|of| db.is_none_or(|db| db == of)) {
            self.end(id, Some(Refusal::Deleted), false);
            if let Some(key) = self.keys.get_mut(id) {
                (key.grant, key.backoff, key.wake) = (None, None, None);
            }
            self.tidy(id);
        }
    }

    /// SWAPDB: locks and back-offs go with the data, leases are void (what they
    /// were to fill is another's now). Waiters stay with the number of their
    /// database, as Redis's own do, and look at what is there now. Walks the
    /// table.
    pub fn swap(&mut self, one: Db, other: Db, now: Time) {
        self.hear(now);
        if one == other {
            return;
        }
        let moved = self.of_databases(|db| db == one || db == other);
        let mut waiters = Vec::new();
        for (_, waiter) in self.waiters.iter() {
            let Some(key) = self.keys.get(waiter.key) else { continue };
            if key.db == one || key.db == other {
                waiters.push((waiter.id, key.db, key.name.clone(), key.namespace));
            }
        }
        waiters.sort_by_key(|(id, ..)| *id);
        for (id, ..) in &waiters {
            self.pull(*id);
        }
        for &id in &moved {
            self.leave(id);
            if self.keys.get(id).and_then(|key| key.held()).is_none_or(Grant::is_lease) {
                self.end(id, None, false);
                if let Some(key) = self.keys.get_mut(id) {
                    key.grant = None;
                }
            }
            if let Some(key) = self.keys.get_mut(id) {
                key.wake = None;
                key.db = if key.db == one { other } else { one };
            }
        }
        for &id in &moved {
            self.enter(id);
        }
        let mut woken = Vec::new();
        for (waiter, db, name, namespace) in &waiters {
            let at = At { db: *db, key: name, namespace: *namespace };
            let id = self.find(at).unwrap_or_else(|| self.insert(at));
            self.put(*waiter, id);
            woken.push(id);
        }
        woken.dedup();
        for &id in &woken {
            self.wake(id);
        }
        for id in moved.into_iter().chain(woken) {
            self.tidy(id);
        }
    }

    /// The server has become a replica: waiters are told so, leases are
    /// forgotten. Locks stay, the primary's word being awaited.
    pub fn demote(&mut self, now: Time) {
        self.hear(now);
        let waiters: Vec<WaiterId> = self.waiters.iter().map(|(_, waiter)| waiter.id).collect();
        for &id in &waiters {
            self.remove_waiter(id);
            self.farewells.push_back(Event::Unblocked(id));
        }
        for id in self.of_databases(|_| true) {
            if self.keys.get(id).and_then(|key| key.held()).is_some_and(Grant::is_lease) {
                self.end(id, None, false);
            }
            if let Some(key) = self.keys.get_mut(id) {
                key.backoff = None;
                if key.held().is_none() {
                    key.grant = None;
                }
            }
            self.tidy(id);
        }
    }

    /// These hash slots are another node's now: of their keys nothing is known any
    /// more, for that node may do with them what it wants and give them back; who
    /// waits is told so. Answers the locks that were held: database, key, token.
    /// Walks the table.
    pub fn lose(&mut self, slots: &slot::Set, now: Time) -> Vec<(Db, Box<[u8]>, Stamp)> {
        self.hear(now);
        let lost = |key: &Key| Some(slot::of(&key.name)).filter(|&slot| slots.has(slot));
        let mut waiters = Vec::new();
        for (_, waiter) in self.waiters.iter() {
            if let Some(slot) = self.keys.get(waiter.key).and_then(|key| lost(key)) {
                waiters.push((waiter.id, slot));
            }
        }
        waiters.sort_unstable();
        for &(id, slot) in &waiters {
            self.remove_waiter(id);
            self.farewells.push_back(Event::Moved(id, slot));
        }
        let keys: Vec<KeyId> =
            self.keys.iter().filter(|(_, key)| lost(key).is_some()).map(|(id, _)| id).collect();
        let mut locks = Vec::new();
        for id in keys {
            let Some(key) = self.keys.get(id) else { continue };
            if let Some(lock) = key.held().filter(|grant| grant.kind == Kind::Lock) {
                locks.push((key.db, key.name.clone(), lock.token));
            }
            self.end(id, None, false);
            if let Some(key) = self.keys.get_mut(id) {
                (key.grant, key.backoff, key.wake) = (None, None, None);
            }
            self.tidy(id);
        }
        locks
    }

    /// A lock as another has it: a replica's primary, or a saved dataset. Takes
    /// effect however often, and not where a later token was heard of; whether
    /// its fence is whole is the other's to say, who knows what was no write
    /// (TAG, an expiry). The caps do not hold, since a lock that was granted is
    /// not lost. The caller has the stamps' clock observe the token.
    pub fn apply_lock(&mut self, lock: &Lock<'_>, now: Time) {
        self.hear(now);
        let at = lock.at;
        let last = self.settled(at).and_then(|id| self.keys.get(id)).and_then(|key| key.grant);
        if last.is_some_and(|grant| grant.token > lock.token) {
            return;
        }
        let id = self.find(at).unwrap_or_else(|| self.insert(at));
        if let Some(named) = self.keys.get(id).and_then(|key| key.nominee) {
            self.pull(named);
            self.put(named, id);
        }
        self.end(id, None, false);
        let mut grant = Grant::new(lock.token, Kind::Lock, lock.native, None);
        grant.broken = (!lock.whole).then_some(Refusal::Written);
        self.hold(id, grant, lock.left, None);
        self.settle(id, self.now);
    }

    /// A lock has ended where it was granted.
    pub fn apply_unlock(&mut self, at: At<'_>, token: Stamp, now: Time) {
        self.hear(now);
        let Some(id) = self.settled(at).filter(|&id| self.holds(id, token)) else { return };
        self.end(id, None, false);
        self.tidy(id);
    }

    fn of_databases(&self, those: impl Fn(Db) -> bool) -> Vec<KeyId> {
        self.keys.iter().filter(|(_, key)| those(key.db)).map(|(id, _)| id).collect()
    }
}

/// The first of a client's, in a set of pairs.
fn first_of<T: Copy + Ord>(set: &BTreeSet<(ClientId, T)>, client: ClientId, lowest: T) -> Option<T> {
    set.range((client, lowest)..).next().filter(|(of, _)| *of == client).map(|&(_, what)| what)
}
