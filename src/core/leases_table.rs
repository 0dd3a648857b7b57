//! The keys of the table: made, found, tidied up, let go.
//!
//! Every transition ends in [`Leases::tidy`], which alone decides who is
//! promoted, what the key's deadline is, and whether the key may go.

use super::*;
use crate::origin::Probe;

/// A key of the table.
pub(super) type KeyId = u32;

/// What is held, or waited for. Ordered as the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Fetch,
    Lock,
}

/// What ends at a deadline. At one instant keys come first, so that who waits
/// to the very end of a lease is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Key(KeyId),
    Origin(NamespaceId),
    Waiter(WaiterId),
}

/// The last grant on a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    pub token: Stamp,
    pub kind: Kind,
    /// Whose connection ends it.
    pub client: Option<ClientId>,
    pub granted: Time,
    pub ends: Time,
    /// A native key was there.
    pub native: bool,
    /// Which probe of its namespace's breaker it is.
    pub probe: Option<Probe>,
    /// Why it may not fill.
    pub broken: Option<Refusal>,
    /// Not ended.
    pub held: bool,
    /// Where it has ended: until when it is remembered.
    pub forget: Time,
}

impl Grant {
    /// A grant that begins now; [`Leases::hold`] says until when.
    pub fn new(token: Stamp, kind: Kind, native: bool, probe: Option<Probe>) -> Grant {
        let (zero, broken) = (Time::default(), None);
        Grant {
            token,
            kind,
            client: None,
            granted: zero,
            ends: zero,
            native,
            probe,
            broken,
            held: true,
            forget: zero,
        }
    }

    /// A FETCH lease that has not ended.
    pub fn is_lease(&self) -> bool {
        self.held && self.kind == Kind::Fetch
    }
}

#[derive(Debug)]
pub(super) struct Key {
    pub db: Db,
    pub name: Box<[u8]>,
    pub namespace: NamespaceId,
    pub grant: Option<Grant>,
    /// No new lease until then.
    pub backoff: Option<Time>,
    /// Waiters, queued or called.
    pub waiting: usize,
    /// The waiter that the key is reserved for.
    pub nominee: Option<WaiterId>,
    /// FETCH waiters after the first of these, up to the second, are to be
    /// woken.
    pub wake: Option<(WaiterId, WaiterId)>,
    /// Woken waiters that are called and not answered yet.
    pub looking: usize,
    /// In `wakes`.
    pub listed: bool,
    /// In `parked`, under this waiter.
    pub parked: Option<WaiterId>,
    /// In `idle`, at this time.
    pub idle: Option<u64>,
    /// In `deadlines`, at this time.
    pub due: Option<Time>,
}

impl Key {
    /// The grant, if it is held.
    pub fn held(&self) -> Option<&Grant> {
        self.grant.as_ref().filter(|grant| grant.held)
    }

    /// Whether a FETCH waiter is to be woken.
    pub fn wakes(&self, waiter: WaiterId) -> bool {
        self.wake.is_some_and(|(from, to)| from < waiter && waiter <= to)
    }

    /// Whether nothing but a reason is remembered: the grant may not fill, and
    /// nobody has to keep away.
    pub fn is_broken(&self) -> bool {
        self.backoff.is_none() && self.grant.is_some_and(|grant| grant.broken.is_some())
    }

    /// Neither held nor reserved.
    pub fn is_free(&self) -> bool {
        self.held().is_none() && self.nominee.is_none()
    }
}

/// How many deadlines a command works off before its own work: the timer does
/// the rest.
const STEPS: usize = 256;

fn space(db: Db) -> u32 {
    u32::try_from(db).unwrap_or(u32::MAX)
}

impl Leases {
    /// Takes note of the time, and works off what has become due.
    pub(super) fn hear(&mut self, now: Time) {
        self.now = self.now.max(now);
        self.advance(STEPS);
    }

    /// Works off deadlines, in their order; answers whether some are left that
    /// are due.
    pub(super) fn advance(&mut self, steps: usize) -> bool {
        for _ in 0..steps {
            let Some(&(time, due)) = self.deadlines.first().filter(|(time, _)| *time <= self.now) else {
                return false;
            };
            match due {
                Due::Key(id) if self.keys.get(id).is_some() => self.settle(id, time),
                Due::Key(_) => {
                    self.deadlines.pop_first();
                }
                Due::Origin(namespace) => {
                    self.deadlines.pop_first();
                    self.serve(namespace, time);
                }
                Due::Waiter(waiter) => {
                    self.deadlines.pop_first();
                    self.time_out(waiter);
                }
            }
        }
        self.deadlines.first().is_some_and(|(time, _)| *time <= self.now)
    }

    pub(super) fn find(&self, at: At<'_>) -> Option<KeyId> {
        if self.keys.is_empty() {
            // So it is for every write of most caches, most of the time.
            return None;
        }
        self.names.find(space(at.db), at.key, |id| {
            self.keys.get(id).is_some_and(|key| key.db == at.db && *key.name == *at.key)
        })
    }

    /// The key, what is due on it done.
    pub(super) fn settled(&mut self, at: At<'_>) -> Option<KeyId> {
        let id = self.find(at)?;
        self.settle(id, self.now);
        self.keys.get(id).is_some().then_some(id)
    }

    /// The key, made if need be; `None` where the table is full of what is
    /// held and waited for.
    pub(super) fn make(&mut self, at: At<'_>) -> Option<KeyId> {
        if let Some(id) = self.find(at) {
            return Some(id);
        }
        if at.key.len() > self.limits.bytes {
            return None;
        }
        while self.keys.len() >= self.limits.keys || self.bytes + at.key.len() > self.limits.bytes {
            let (_, &oldest) = self.idle.first_key_value()?;
            self.drop_key(oldest);
        }
        Some(self.insert(at))
    }

    /// Puts a key in that is not there, whatever the caps.
    pub(super) fn insert(&mut self, at: At<'_>) -> KeyId {
        let id = self.keys.insert(Box::new(Key {
            db: at.db,
            name: at.key.into(),
            namespace: at.namespace,
            grant: None,
            backoff: None,
            waiting: 0,
            nominee: None,
            wake: None,
            looking: 0,
            listed: false,
            parked: None,
            idle: None,
            due: None,
        }));
        self.bytes += at.key.len();
        self.enter(id);
        id
    }

    /// Enters a key's name, once it has one.
    pub(super) fn enter(&mut self, id: KeyId) {
        let Some(key) = self.keys.get(id) else { return };
        let (keys, space_of, name) = (&self.keys, space(key.db), &key.name);
        let bearer = |id| keys.get(id).map_or((0, &[][..]), |key| (space(key.db), &*key.name));
        self.names.insert(space_of, name, id, bearer);
    }

    /// Takes a key's name out.
    pub(super) fn leave(&mut self, id: KeyId) {
        let Some(key) = self.keys.get(id) else { return };
        let (keys, space_of, name) = (&self.keys, space(key.db), &key.name);
        let bearer = |id| keys.get(id).map_or((0, &[][..]), |key| (space(key.db), &*key.name));
        self.names.remove(space_of, name, id, bearer);
    }

    /// Lets a key go that is neither held nor waited for.
    fn drop_key(&mut self, id: KeyId) {
        self.leave(id);
        let Some(key) = self.keys.remove(id) else { return };
        self.bytes -= key.name.len();
        if let Some(since) = key.idle {
            self.idle.remove(&since);
            self.broken.remove(&since);
        }
        if let Some(due) = key.due {
            self.deadlines.remove(&(due, Due::Key(id)));
        }
        if let Some(head) = key.parked {
            self.parked.remove(&(key.namespace, head, id));
        }
        self.trim(key.namespace);
    }

    /// Does what is due on a key at `time`, which has come.
    pub(super) fn settle(&mut self, id: KeyId, time: Time) {
        let Some(key) = self.keys.get_mut(id) else { return };
        if key.backoff.is_some_and(|until| until <= time) {
            key.backoff = None;
        }
        let ended = key.grant.filter(|grant| !grant.held);
        if ended.is_some_and(|grant| grant.forget <= time) {
            key.grant = None;
        }
        let namespace = key.namespace;
        if let Some(grant) = key.held().copied().filter(|grant| grant.ends <= time) {
            // Not reported of a lock: it need not have been for a fill.
            if grant.kind == Kind::Fetch {
                self.report(namespace, false, grant.probe);
            }
            self.end(id, None, true);
            return self.tidy_at(id, grant.ends);
        }
        self.tidy_at(id, time);
    }

    /// Ends the grant that is held: why it may not fill from now on, if so, and
    /// whether it is worth remembering. [`Leases::tidy`] follows.
    pub(super) fn end(&mut self, id: KeyId, broken: Option<Refusal>, remember: bool) {
        let (now, lease_max) = (self.now, self.limits.lease_max);
        let Some(key) = self.keys.get_mut(id) else { return };
        let namespace = key.namespace;
        let Some(grant) = key.grant.as_mut().filter(|grant| grant.held) else { return };
        grant.held = false;
        grant.broken = grant.broken.or(broken);
        // From its end, not from the grant: one of the longest would be forgotten
        // the moment it ran out.
        grant.forget = end_of(now.min(grant.ends), lease_max);
        let grant = *grant;
        if !remember {
            key.grant = None;
        }
        match grant.kind {
            Kind::Fetch => self.leases -= 1,
            Kind::Lock => self.locks -= 1,
        }
        if let Some(client) = grant.client {
            self.of_client.remove(&(client, id));
        }
        if grant.kind == Kind::Fetch {
            self.give_back(namespace, grant.probe);
        }
    }

    /// Brings all that depends on a key's state up to date with it.
    pub(super) fn tidy(&mut self, id: KeyId) {
        self.tidy_at(id, self.now);
    }

    /// The same, for a transition that was due at `time`.
    pub(super) fn tidy_at(&mut self, id: KeyId, time: Time) {
        let Some(namespace) = self.keys.get(id).map(|key| key.namespace) else { return };
        self.promote(id, time);
        self.serve(namespace, time);
        self.file(id);
    }

    /// Files a key under its deadline and among the idle, or lets it go.
    pub(super) fn file(&mut self, id: KeyId) {
        let Some(key) = self.keys.get_mut(id) else { return };
        let idle = key.is_free() && key.waiting == 0;
        if idle && key.grant.is_none() && key.backoff.is_none() {
            return self.drop_key(id);
        }
        match (idle, key.idle) {
            (true, None) => {
                self.idle_clock += 1;
                key.idle = Some(self.idle_clock);
                self.idle.insert(self.idle_clock, id);
            }
            (false, Some(since)) => {
                key.idle = None;
                self.idle.remove(&since);
                self.broken.remove(&since);
            }
            _ => {}
        }
        if let Some(since) = key.idle {
            if key.is_broken() {
                self.broken.insert(since, id);
            } else {
                self.broken.remove(&since);
            }
        }
        let of_grant = key.grant.map(|grant| if grant.held { grant.ends } else { grant.forget });
        let due = of_grant.into_iter().chain(key.backoff).min();
        if due != key.due {
            if let Some(old) = std::mem::replace(&mut key.due, due) {
                self.deadlines.remove(&(old, Due::Key(id)));
            }
            if let Some(due) = due {
                self.deadlines.insert((due, Due::Key(id)));
            }
        }
        if self.broken.len() > MOST_BROKEN {
            self.forget_first(|leases| &leases.broken);
        }
        // Two for each that comes, so that a limit that was lowered is reached.
        for _ in 0..2 {
            if self.idle.len() > self.limits.remembered {
                self.forget_first(|leases| &leases.idle);
            }
        }
    }

    fn forget_first(&mut self, of: fn(&Leases) -> &BTreeMap<u64, KeyId>) {
        if let Some((_, &oldest)) = of(self).first_key_value() {
            self.drop_key(oldest);
        }
    }
}
