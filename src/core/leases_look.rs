//! Looking at the table: counts, locks to be saved, and the proof that it is
//! whole.

use super::*;
use crate::histogram::Histogram;
use crate::slot;

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Unexpired FETCH leases.
    pub leases: usize,
    /// Unexpired locks.
    pub locks: usize,
    /// Waiters, those included that are called and not answered yet.
    pub waiters: usize,
    /// Keys in the table, for whatever reason.
    pub keys: usize,
    /// Keys that are only remembered: ended grants, back-offs.
    pub remembered: usize,
}

/// What happened, in a namespace or in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Leases and locks granted.
    pub grants: u64,
    /// Of them to fresh entries.
    pub early_elections: u64,
    /// Of them to waiters.
    pub promotions: u64,
    /// Fills accepted.
    pub fills: u64,
    /// Fills refused, in the order of [`Refusal::ALL`].
    pub refused: [u64; Refusal::ALL.len()],
    /// FETCHes and LOCKs that waited.
    pub waits: u64,
    /// How long they waited.
    pub wait_times: Histogram,
    /// How long it took from a lease's grant to the fill that was accepted by it.
    pub fill_times: Histogram,
    /// FETCHes answered BUSY.
    pub busy: u64,
    /// Waiters that were answered by a value another computed: reads that the
    /// origin was saved.
    pub coalesced: u64,
    /// FETCHes that were given no lease at once because of MAXFILLS or BREAKER
    /// alone.
    pub protected: u64,
    /// Fills that failed: UNLOCK … RETRY, and leases that ran out.
    pub failed_fills: u64,
    /// Breakers that opened. One that rests again after its probe stayed open.
    pub breaker_opened: u64,
}

impl Counters {
    pub(super) fn refuse(&mut self, why: Refusal) {
        // A fieldless enum in the order of ALL.
        if let Some(count) = self.refused.get_mut(why as usize) {
            *count += 1;
        }
    }

    /// Fills refused, with their reasons.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> + '_ {
        Refusal::ALL.into_iter().zip(self.refused)
    }

    /// What is left of it without what another has counted, which is part of it.
    #[must_use]
    pub fn without(&self, part: &Counters) -> Counters {
        let mut refused = self.refused;
        refused.iter_mut().zip(part.refused).for_each(|(all, count)| *all = all.saturating_sub(count));
        Counters {
            grants: self.grants.saturating_sub(part.grants),
            early_elections: self.early_elections.saturating_sub(part.early_elections),
            promotions: self.promotions.saturating_sub(part.promotions),
            fills: self.fills.saturating_sub(part.fills),
            refused,
            waits: self.waits.saturating_sub(part.waits),
            wait_times: self.wait_times.without(&part.wait_times),
            fill_times: self.fill_times.without(&part.fill_times),
            busy: self.busy.saturating_sub(part.busy),
            coalesced: self.coalesced.saturating_sub(part.coalesced),
            protected: self.protected.saturating_sub(part.protected),
            failed_fills: self.failed_fills.saturating_sub(part.failed_fills),
            breaker_opened: self.breaker_opened.saturating_sub(part.breaker_opened),
        }
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Counters) {
        self.grants += other.grants;
        self.early_elections += other.early_elections;
        self.promotions += other.promotions;
        self.fills += other.fills;
        self.refused.iter_mut().zip(other.refused).for_each(|(sum, count)| *sum += count);
        self.waits += other.waits;
        self.wait_times.add(&other.wait_times);
        self.fill_times.add(&other.fill_times);
        self.busy += other.busy;
        self.coalesced += other.coalesced;
        self.protected += other.protected;
        self.failed_fills += other.failed_fills;
        self.breaker_opened += other.breaker_opened;
    }
}

/// A lock as it is saved and replicated.
#[derive(Clone, Copy, Debug)]
pub struct Lock<'a> {
    /// Its key. Of the namespace only the number is here: save the name's, or
    /// derive it from the key again.
    pub at: At<'a>,
    /// Its token.
    pub token: Stamp,
    /// The time it has left.
    pub left: Millis,
    /// Its fence is not broken.
    pub whole: bool,
    /// A native key was there at the grant.
    pub native: bool,
}

impl Leases {
    /// How much there is.
    pub fn counts(&self) -> Counts {
        Counts {
            leases: self.leases,
            locks: self.locks,
            waiters: self.waiters.len(),
            keys: self.keys.len(),
            remembered: self.idle.len(),
        }
    }

    /// Of each hash slot that there is a key of in the table one of them. Walks the
    /// table.
    pub fn key_of_each_slot(&self) -> BTreeMap<u16, Box<[u8]>> {
        let mut found = BTreeMap::new();
        for (_, key) in self.keys.iter() {
            found.entry(slot::of(&key.name)).or_insert_with(|| key.name.clone());
        }
        found
    }

    /// What happened in a namespace.
    pub fn counters(&self, namespace: NamespaceId) -> Counters {
        self.counters.get(&namespace).copied().unwrap_or_default()
    }

    /// What happened in all.
    pub fn totals(&self) -> Counters {
        let mut totals = Counters::default();
        self.counters.values().for_each(|counters| totals.add(counters));
        totals
    }

    /// `CACHE.STATS RESET`.
    pub fn reset_counters(&mut self) {
        self.counters.clear();
    }

    pub(super) fn counters_mut(&mut self, namespace: NamespaceId) -> &mut Counters {
        self.counters.entry(namespace).or_default()
    }

    /// What `CACHE.META` says of a key: the time left on its lease or lock, and
    /// its waiters.
    pub fn about(&self, at: At<'_>, now: Time) -> (Millis, usize) {
        let now = self.now.max(now);
        let Some(key) = self.find(at).and_then(|id| self.keys.get(id)) else { return (Millis::ZERO, 0) };
        (key.held().map_or(Millis::ZERO, |grant| grant.ends.since(now)), key.waiting)
    }

    /// Whether anything is known of a key: a change of it means something.
    pub fn knows(&self, at: At<'_>) -> bool {
        self.find(at).is_some()
    }

    /// Whether one more key may be known: of locks that another has granted the
    /// caller asks, for those that must be known are, whatever the caps.
    pub fn has_room(&self, at: At<'_>) -> bool {
        self.knows(at)
            || (self.keys.len() < self.limits.keys && self.bytes + at.key.len() <= self.limits.bytes)
    }

    /// Whether the table is empty: so it is for every write of most caches, most
    /// of the time.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The lock that is held on a key.
    pub fn lock_on<'a>(&self, at: At<'a>, now: Time) -> Option<Lock<'a>> {
        let now = self.now.max(now);
        let grant = self.find(at).and_then(|id| self.keys.get(id))?.held()?;
        let held = grant.kind == Kind::Lock && grant.ends > now;
        held.then(|| Lock {
            at,
            token: grant.token,
            left: grant.ends.since(now),
            whole: grant.broken.is_none(),
            native: grant.native,
        })
    }

    /// The locks that are held, to be saved.
    pub fn locks(&self, now: Time) -> impl Iterator<Item = Lock<'_>> {
        let now = self.now.max(now);
        let held = self.keys.iter().filter_map(|(_, key)| key.held().map(|grant| (key, grant)));
        held.filter(move |(_, grant)| grant.kind == Kind::Lock && grant.ends > now).map(
            move |(key, grant)| Lock {
                at: At { db: key.db, key: &key.name, namespace: key.namespace },
                token: grant.token,
                left: grant.ends.since(now),
                whole: grant.broken.is_none(),
                native: grant.native,
            },
        )
    }

    /// Bytes allocated. Of the ordered sets it is an estimate: their nodes hold
    /// eleven elements, and are two thirds full.
    pub fn allocated(&self) -> usize {
        fn set<T>(len: usize) -> usize {
            (len * size_of::<T>()).saturating_mul(3) / 2
        }
        self.keys.allocated()
            + self.keys.len() * size_of::<Key>()
            + self.names.allocated()
            + self.bytes
            + self.waiters.allocated()
            + set::<(Time, Due)>(self.deadlines.len())
            + set::<(u64, KeyId)>(self.idle.len() + self.broken.len())
            + set::<(ClientId, KeyId)>(self.of_client.len())
            + set::<(KeyId, Kind, WaiterId)>(self.queue.len())
            + set::<(ClientId, WaiterId)>(self.waiting_clients.len())
            + set::<(NamespaceId, WaiterId, KeyId)>(self.parked.len())
            + set::<(NamespaceId, Origin)>(self.origins.len())
            + set::<(NamespaceId, Counters)>(self.counters.len())
            + set::<(NamespaceId, bool)>(self.turned.len())
            + self.calls.capacity() * size_of::<WaiterId>()
            + self.wakes.capacity() * size_of::<KeyId>()
            + self.farewells.capacity() * size_of::<Event>()
    }

    /// What is wrong: every count anew, every index in both directions. Walks
    /// everything.
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, what: &dyn Fn() -> String| {
            if !holds {
                problems.push(what());
            }
        };
        let (mut leases, mut locks, mut bytes, mut of_client) = (0, 0, 0, BTreeSet::new());
        let (mut deadlines, mut parked) = (BTreeSet::new(), BTreeSet::new());
        let (mut idle, mut broken) = (BTreeMap::new(), BTreeMap::new());
        let mut taken: BTreeMap<NamespaceId, u64> = BTreeMap::new();
        let mut waiting: BTreeMap<KeyId, usize> = BTreeMap::new();
        let mut looking: BTreeMap<KeyId, usize> = BTreeMap::new();
        let (mut queue, mut clients) = (BTreeSet::new(), BTreeSet::new());
        for (_, waiter) in self.waiters.iter() {
            *waiting.entry(waiter.key).or_default() += 1;
            clients.insert((waiter.client, waiter.id));
            expect(self.waiter(waiter.id).is_some(), &|| format!("{:?} is not in its place", waiter.id));
            let nominee = self.keys.get(waiter.key).is_some_and(|key| key.nominee == Some(waiter.id));
            expect(!nominee || waiter.called, &|| format!("{:?} is named but not called", waiter.id));
            *looking.entry(waiter.key).or_default() += usize::from(waiter.woken);
            if waiter.called {
                continue;
            }
            queue.insert((waiter.key, waiter.want.kind(), waiter.id));
            deadlines.extend(waiter.deadline.map(|deadline| (deadline, Due::Waiter(waiter.id))));
        }
        for (id, key) in self.keys.iter() {
            let at = At { db: key.db, key: &key.name, namespace: key.namespace };
            expect(self.find(at) == Some(id), &|| format!("key {id}: not found by its name"));
            bytes += key.name.len();
            expect(key.waiting == waiting.remove(&id).unwrap_or(0), &|| {
                format!("key {id}: not {} waiters", key.waiting)
            });
            expect(key.looking == looking.get(&id).copied().unwrap_or(0), &|| {
                format!("key {id}: not {} that look", key.looking)
            });
            if let Some(grant) = key.held() {
                let lease = grant.kind == Kind::Fetch;
                *if lease { &mut leases } else { &mut locks } += 1;
                *taken.entry(key.namespace).or_default() += u64::from(lease);
                of_client.extend(grant.client.map(|client| (client, id)));
                expect(!lease || grant.broken.is_none(), &|| format!("key {id}: a void lease is held"));
            }
            if let Some(named) = key.nominee {
                expect(key.held().is_none(), &|| format!("key {id}: held and reserved"));
                match self.waiter(named) {
                    None => expect(false, &|| format!("key {id}: the nominee has gone")),
                    Some(waiter) => {
                        expect(waiter.key == id, &|| format!("key {id}: the nominee is another's"));
                        expect(self.calls.contains(&named) || waiter.called, &|| {
                            format!("key {id}: the nominee is never called")
                        });
                        *taken.entry(key.namespace).or_default() +=
                            u64::from(waiter.want.kind() == Kind::Fetch);
                    }
                }
            }
            let fetch = self.first_fetch(id).filter(|_| key.is_free() && key.backoff.is_none());
            expect(key.parked == fetch, &|| format!("key {id}: parked is {:?}, not {fetch:?}", key.parked));
            let lock = self.first_lock(id);
            expect(!key.is_free() || lock.is_none(), &|| format!("key {id}: free, and {lock:?} waits"));
            expect(fetch.is_none() || !self.permits(key.namespace), &|| {
                format!("key {id}: permitted, and {fetch:?} waits")
            });
            let woken = self.first(id, Kind::Fetch, WaiterId(0)).filter(|&first| key.wakes(first));
            expect(woken.is_none() || key.listed, &|| format!("key {id}: {woken:?} is never woken"));
            expect(!key.listed || self.wakes.contains(&id), &|| format!("key {id}: listed, and not there"));
            parked.extend(key.parked.map(|head| (key.namespace, head, id)));
            idle.extend(key.idle.map(|since| (since, id)));
            broken.extend(key.idle.filter(|_| key.is_broken()).map(|since| (since, id)));
            deadlines.extend(key.due.map(|due| (due, Due::Key(id))));
            let rests = key.is_free() && key.waiting == 0;
            expect(rests == key.idle.is_some(), &|| format!("key {id}: idle is {:?}", key.idle));
            expect(!rests || key.grant.is_some() || key.backoff.is_some(), &|| {
                format!("key {id}: there for nothing")
            });
            let ends = key.grant.map(|grant| if grant.held { grant.ends } else { grant.forget });
            expect(key.due == ends.into_iter().chain(key.backoff).min(), &|| {
                format!("key {id}: due at {:?}", key.due)
            });
        }
        deadlines.extend(self.deadlines.iter().filter(|(_, due)| matches!(due, Due::Origin(_))));
        expect(waiting.is_empty(), &|| format!("waiters of keys that are not there: {waiting:?}"));
        expect((leases, locks, bytes) == (self.leases, self.locks, self.bytes), &|| {
            format!("leases, locks, bytes: {:?}", (leases, locks, bytes))
        });
        expect(of_client == self.of_client, &|| format!("of clients: {of_client:?}"));
        expect(clients == self.waiting_clients, &|| format!("waiting clients: {clients:?}"));
        expect(queue == self.queue, &|| format!("queue: {queue:?}, not {:?}", self.queue));
        expect(parked == self.parked, &|| format!("parked: {parked:?}, not {:?}", self.parked));
        expect(idle == self.idle, &|| format!("idle: {idle:?}, not {:?}", self.idle));
        expect(broken == self.broken, &|| format!("broken: {broken:?}, not {:?}", self.broken));
        expect(broken.len() <= MOST_BROKEN, &|| format!("{} are broken", broken.len()));
        expect(deadlines == self.deadlines, &|| {
            format!("deadlines: {deadlines:?}, not {:?}", self.deadlines)
        });
        for (&namespace, origin) in &self.origins {
            let taken = taken.remove(&namespace).unwrap_or(0);
            expect(taken == origin.taken(), &|| format!("namespace {namespace}: {taken} leases"));
            let rest = origin.opens(self.now).map(|until| (until, Due::Origin(namespace)));
            expect(rest.is_none_or(|end| self.deadlines.contains(&end)), &|| {
                format!("namespace {namespace}: nobody comes when its origin has rested")
            });
        }
        taken.retain(|_, taken| *taken > 0);
        expect(taken.is_empty(), &|| format!("namespaces without an origin: {taken:?}"));
        problems
    }
}
