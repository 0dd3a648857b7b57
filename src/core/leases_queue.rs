//! Those who wait: queued in order of arrival, promoted, woken, timed out.
//!
//! FETCH and LOCK stand in one order. A LOCK passes a FETCH only where the
//! FETCH may not have a lease whoever else there is: in the back-off after a
//! failure, or while its namespace's origin is protected. Of the keys of a
//! namespace that wait for its origin, the one whose first waiter came first is
//! served first.

use super::*;
use crate::origin::Probe;

/// Bits of a waiter's number that are its place.
const PLACE_BITS: u32 = 20;
/// The most waiters there can be.
pub const MOST_WAITERS: usize = (1 << PLACE_BITS) - 256;

/// A waiter: its arrival, and its place in the lowest 20 bits. Later ones are
/// greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

impl WaiterId {
    pub(super) fn place(self) -> u32 {
        (self.0 & ((1 << PLACE_BITS) - 1)) as u32
    }
}

/// What a waiter waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Want {
    Fetch(Ask),
    Lock { length: Millis },
}

impl Want {
    pub fn kind(&self) -> Kind {
        match self {
            Want::Fetch(_) => Kind::Fetch,
            Want::Lock { .. } => Kind::Lock,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub id: WaiterId,
    pub key: KeyId,
    pub client: ClientId,
    pub want: Want,
    pub since: Time,
    /// `None`: no limit.
    pub deadline: Option<Time>,
    /// Out of the queue, to look at the key.
    pub called: bool,
    /// Called because a value woke it.
    pub woken: bool,
    /// Called to be this probe of its namespace's breaker.
    pub probe: Option<Probe>,
}

/// What the module is to do about a waiter. One that is unknown to it has gone
/// meanwhile, and is to be ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Look at its key and call [`Leases::resume`].
    Look(WaiterId),
    /// Its time is up: answer BUSY with this hint, or LOCK's nil.
    TimedOut(WaiterId, Millis),
    /// The server was demoted: answer `-UNBLOCKED`.
    Unblocked(WaiterId),
    /// Its key's hash slot, this one, is another node's now: answer `-MOVED`.
    Moved(WaiterId, u16),
}

/// What is known of a waiter.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// What it waits for.
    pub at: At<'a>,
    /// Whose it is.
    pub client: ClientId,
    /// It is a LOCK's.
    pub lock: bool,
    /// Since then.
    pub since: Time,
}

impl Leases {
    // ── in and out ──────────────────────────────────────────────────────────

    pub(super) fn enqueue(
        &mut self,
        at: At<'_>,
        want: Want,
        block: Millis,
        client: ClientId,
    ) -> Option<WaiterId> {
        let most = self.limits.waiters.min(MOST_WAITERS);
        let here = self.find(at).and_then(|id| self.keys.get(id)).map_or(0, |key| key.waiting);
        if self.waiters.len() >= most || here >= self.limits.waiters_per_key {
            return None;
        }
        let key = self.make(at)?;
        let now = self.now;
        let deadline = (block > Millis::ZERO).then(|| end_of(now, block));
        let (since, id) = (now, WaiterId::default());
        let waiter =
            Waiter { id, key, client, want, since, deadline, called: false, woken: false, probe: None };
        let place = self.waiters.insert(waiter);
        self.arrivals += 1;
        let id = WaiterId(self.arrivals << PLACE_BITS | u64::from(place));
        if let Some(waiter) = self.waiters.get_mut(place) {
            waiter.id = id;
        }
        if let Some(key) = self.keys.get_mut(key) {
            key.waiting += 1;
        }
        self.waiting_clients.insert((client, id));
        self.queue_up(id);
        self.counters_mut(at.namespace).waits += 1;
        self.tidy(key);
        Some(id)
    }

    pub(super) fn waiter(&self, id: WaiterId) -> Option<&Waiter> {
        self.waiters.get(id.place()).filter(|waiter| waiter.id == id)
    }

    /// Puts a waiter in its place in the queue.
    pub(super) fn queue_up(&mut self, id: WaiterId) {
        let Some(waiter) = self.waiters.get_mut(id.place()) else { return };
        (waiter.called, waiter.woken, waiter.probe) = (false, false, None);
        self.queue.insert((waiter.key, waiter.want.kind(), id));
        if let Some(deadline) = waiter.deadline {
            self.deadlines.insert((deadline, Due::Waiter(id)));
        }
    }

    /// Takes a waiter out of the queue, to be called.
    pub(super) fn call(&mut self, id: WaiterId) {
        let Some(waiter) = self.waiters.get_mut(id.place()) else { return };
        waiter.called = true;
        self.queue.remove(&(waiter.key, waiter.want.kind(), id));
        if let Some(deadline) = waiter.deadline {
            self.deadlines.remove(&(deadline, Due::Waiter(id)));
        }
        let key = waiter.key;
        if self.keys.get(key).is_some_and(|key| key.parked == Some(id)) {
            self.unpark(key);
        }
    }

    /// Takes a waiter off its key, to be [`Leases::put`] on another.
    pub(super) fn pull(&mut self, id: WaiterId) {
        self.call(id);
        self.uncall(id);
        let key = self.waiter(id).map(|waiter| waiter.key);
        if let Some(key) = key.and_then(|key| self.keys.get_mut(key)) {
            key.waiting -= 1;
        }
    }

    /// Lets a waiter that was pulled wait for a key.
    pub(super) fn put(&mut self, id: WaiterId, key: KeyId) {
        if let Some(waiter) = self.waiters.get_mut(id.place()) {
            waiter.key = key;
        }
        if let Some(key) = self.keys.get_mut(key) {
            key.waiting += 1;
        }
        self.queue_up(id);
    }

    /// Takes away what a waiter was called for; it stays called.
    pub(super) fn uncall(&mut self, id: WaiterId) {
        let Some(waiter) = self.waiter(id).copied() else { return };
        let Some(key) = self.keys.get_mut(waiter.key) else { return };
        let namespace = key.namespace;
        if waiter.woken {
            key.looking -= 1;
            if let Some(waiter) = self.waiters.get_mut(id.place()) {
                waiter.woken = false;
            }
        } else if key.nominee == Some(id) {
            key.nominee = None;
            if waiter.want.kind() == Kind::Fetch {
                self.give_back(namespace, waiter.probe);
            }
        }
    }

    /// Lets a waiter go; [`Leases::tidy`] of its key follows.
    pub(super) fn remove_waiter(&mut self, id: WaiterId) -> Option<Waiter> {
        let waiter = self.waiter(id).copied()?;
        if !waiter.called {
            self.call(id);
        }
        self.uncall(id);
        self.waiters.remove(id.place());
        self.waiting_clients.remove(&(waiter.client, id));
        if let Some(key) = self.keys.get_mut(waiter.key) {
            key.waiting -= 1;
            let namespace = key.namespace;
            let waited = self.now.since(waiter.since);
            self.counters_mut(namespace).wait_times.record(waited);
        }
        Some(waiter)
    }

    /// Forgets a waiter whose client has gone, or was unblocked by others.
    pub fn forget(&mut self, id: WaiterId, now: Time) {
        self.hear(now);
        if let Some(waiter) = self.remove_waiter(id) {
            self.tidy(waiter.key);
        }
    }

    /// Lets a waiter go whose time is up.
    pub(super) fn expire(&mut self, id: WaiterId) -> Option<KeyId> {
        let (key, hint) = self.send_away(id)?;
        self.farewells.push_back(Event::TimedOut(id, hint));
        Some(key)
    }

    /// Lets a waiter go as if its time were up now (CLIENT UNBLOCK … TIMEOUT):
    /// the hint for its answer; `None`: it has gone.
    pub fn cut_short(&mut self, id: WaiterId, now: Time) -> Option<Millis> {
        self.hear(now);
        let (key, hint) = self.send_away(id)?;
        self.tidy(key);
        Some(hint)
    }

    fn send_away(&mut self, id: WaiterId) -> Option<(KeyId, Millis)> {
        let waiter = self.remove_waiter(id)?;
        let key = self.keys.get(waiter.key)?;
        let Want::Fetch(ask) = waiter.want else { return Some((waiter.key, Millis::ZERO)) };
        let namespace = key.namespace;
        let hint = self.hint(At { db: key.db, key: &key.name, namespace }, ask.typical);
        self.counters_mut(namespace).busy += 1;
        Some((waiter.key, hint))
    }

    /// A waiter's deadline has come. One that is about to be woken is called out
    /// of turn: answered by the value, or, should that have gone, as the others
    /// whose time is up. (It must not stay queued: its deadline is spent, and
    /// the wake may yet be called off.)
    pub(super) fn time_out(&mut self, id: WaiterId) {
        let Some(waiter) = self.waiter(id).copied().filter(|waiter| !waiter.called) else { return };
        let fetch = waiter.want.kind() == Kind::Fetch;
        if fetch && self.keys.get(waiter.key).is_some_and(|key| key.wakes(id)) {
            self.call_woken(id);
            self.calls.push_back(id);
        } else if let Some(key) = self.expire(id) {
            self.tidy(key);
        }
    }

    /// Calls a waiter because of a value.
    pub(super) fn call_woken(&mut self, id: WaiterId) {
        self.call(id);
        let Some(waiter) = self.waiters.get_mut(id.place()) else { return };
        waiter.woken = true;
        if let Some(key) = self.keys.get_mut(waiter.key) {
            key.looking += 1;
        }
    }

    // ── who is next ─────────────────────────────────────────────────────────

    /// The first in a key's queue of a kind that came after another.
    pub(super) fn first(&self, id: KeyId, kind: Kind, after: WaiterId) -> Option<WaiterId> {
        let from = (id, kind, WaiterId(after.0.saturating_add(1)));
        let &(key, of, waiter) = self.queue.range(from..).next()?;
        (key == id && of == kind).then_some(waiter)
    }

    /// The first FETCH, if it is not about to be woken: until those have looked
    /// nobody passes them.
    pub(super) fn first_fetch(&self, id: KeyId) -> Option<WaiterId> {
        let first = self.first(id, Kind::Fetch, WaiterId(0))?;
        self.keys.get(id).filter(|key| key.looking == 0 && !key.wakes(first)).map(|_| first)
    }

    /// The first LOCK, likewise.
    pub(super) fn first_lock(&self, id: KeyId) -> Option<WaiterId> {
        let lock = self.first(id, Kind::Lock, WaiterId(0))?;
        let key = self.keys.get(id).filter(|key| key.looking == 0)?;
        let fetch = self.first(id, Kind::Fetch, WaiterId(0)).filter(|&fetch| fetch < lock);
        (!fetch.is_some_and(|fetch| key.wakes(fetch))).then_some(lock)
    }

    fn is_overdue(&self, id: WaiterId, time: Time) -> bool {
        self.waiter(id).and_then(|waiter| waiter.deadline).is_some_and(|deadline| deadline < time)
    }

    /// The first of a kind, those let go whose deadline was before `time`.
    fn first_in_time(&mut self, id: KeyId, kind: Kind, time: Time) -> Option<WaiterId> {
        loop {
            let first = match kind {
                Kind::Fetch => self.first_fetch(id),
                Kind::Lock => self.first_lock(id),
            }?;
            if !self.is_overdue(first, time) {
                return Some(first);
            }
            self.expire(first);
        }
    }

    /// Names the longest waiter where nothing is held, as of `time`.
    pub(super) fn promote(&mut self, id: KeyId, time: Time) {
        self.unpark(id);
        let Some(key) = self.keys.get(id).filter(|key| key.is_free() && key.waiting > 0) else { return };
        let (namespace, rests) = (key.namespace, key.backoff.is_some());
        let fetch = if rests { None } else { self.first_in_time(id, Kind::Fetch, time) };
        let lock = self.first_in_time(id, Kind::Lock, time);
        if let Some(fetch) = fetch.filter(|fetch| lock.is_none_or(|lock| *fetch < lock)) {
            self.park(id, fetch);
            self.serve(namespace, time);
        }
        let free = self.keys.get(id).is_some_and(|key| key.is_free());
        if let Some(lock) = lock.filter(|_| free) {
            self.unpark(id);
            self.name(id, lock);
        } else if let Some(fetch) = fetch.filter(|_| free) {
            self.park(id, fetch);
        }
    }

    fn name(&mut self, id: KeyId, waiter: WaiterId) {
        self.call(waiter);
        let Some(key) = self.keys.get_mut(id) else { return };
        key.nominee = Some(waiter);
        let namespace = key.namespace;
        if self.waiter(waiter).is_some_and(|waiter| waiter.want.kind() == Kind::Fetch) {
            let probe = self.origin_mut(namespace).take();
            if let Some(waiter) = self.waiters.get_mut(waiter.place()) {
                waiter.probe = probe;
            }
        }
        self.calls.push_back(waiter);
    }

    fn park(&mut self, id: KeyId, head: WaiterId) {
        self.unpark(id);
        let Some(key) = self.keys.get_mut(id) else { return };
        key.parked = Some(head);
        self.parked.insert((key.namespace, head, id));
    }

    pub(super) fn unpark(&mut self, id: KeyId) {
        let Some(key) = self.keys.get_mut(id) else { return };
        if let Some(head) = key.parked.take() {
            self.parked.remove(&(key.namespace, head, id));
        }
    }

    /// Names the waiters of a namespace that its origin permits, as of `time`.
    pub(super) fn serve(&mut self, namespace: NamespaceId, time: Time) {
        while self.permits(namespace) {
            let from = (namespace, WaiterId(0), 0);
            let Some(&(of, head, id)) = self.parked.range(from..).next() else { return };
            if of != namespace {
                return;
            }
            self.unpark(id);
            if !self.is_overdue(head, time) {
                self.name(id, head);
            } else if let Some(next) = self.first_in_time(id, Kind::Fetch, time) {
                self.park(id, next);
            } else {
                self.file(id);
            }
        }
    }
}
