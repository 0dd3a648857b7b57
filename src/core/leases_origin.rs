//! The table and the origins behind it: whose lease may be had, and when.
//!
//! A namespace whose origin is protected has a number of its own. One of those
//! that share a number may come to have one while leases are out
//! ([`Leases::renumber`]).

use super::*;
use crate::origin::{Probe, Protection, State, Turn};

/// When to ask again where nothing tells.
pub(super) const SHORT_HINT: Millis = Millis(100);

impl Leases {
    /// Sets the protection of a namespace's origin (MAXFILLS, BREAKER).
    pub fn protect(&mut self, namespace: NamespaceId, protection: Protection, now: Time) {
        self.hear(now);
        let now = self.now;
        let origin = self.origin_mut(namespace);
        let was = origin.state(now);
        origin.protect(protection);
        if was != State::Closed && origin.state(now) == State::Closed {
            self.turned.insert(namespace, false);
        }
        self.serve(namespace, now);
        self.trim(namespace);
    }

    /// Keys of `those` names are in the namespace `to` from now on, and no more
    /// in `from`. Neither's origin is protected yet, or any more. Walks the
    /// table.
    pub fn renumber(&mut self, from: NamespaceId, those: impl Fn(&[u8]) -> bool, to: NamespaceId) {
        let moved: Vec<KeyId> = self
            .keys
            .iter()
            .filter(|(_, key)| key.namespace == from && those(&key.name))
            .map(|(id, _)| id)
            .collect();
        for id in moved {
            let Some(key) = self.keys.get_mut(id) else { continue };
            key.namespace = to;
            let (parked, nominee) = (key.parked, key.nominee);
            let leased = key.held().is_some_and(Grant::is_lease)
                || nominee
                    .and_then(|id| self.waiter(id))
                    .is_some_and(|waiter| waiter.want.kind() == Kind::Fetch);
            if let Some(head) = parked {
                self.parked.remove(&(from, head, id));
                self.parked.insert((to, head, id));
            }
            if leased {
                self.give_back(from, None);
                self.origin_mut(to).take();
            }
        }
        self.trim(from);
    }

    /// What was counted in a namespace is counted in another from now on.
    pub fn merge_counters(&mut self, from: NamespaceId, into: NamespaceId) {
        self.turned.remove(&from);
        if let Some(counters) = self.counters.remove(&from) {
            self.counters_mut(into).add(&counters);
        }
    }

    pub(super) fn origin_mut(&mut self, namespace: NamespaceId) -> &mut Origin {
        self.origins.entry(namespace).or_default()
    }

    /// Whether the origin of a namespace permits one more lease.
    pub(super) fn permits(&self, namespace: NamespaceId) -> bool {
        self.origins.get(&namespace).is_none_or(|origin| origin.permits(self.now))
    }

    /// Whether it is the origin's protection alone that keeps a key from being
    /// leased.
    pub(super) fn is_protected(&self, at: At<'_>) -> bool {
        let key = self.find(at).and_then(|id| self.keys.get(id));
        key.is_none_or(|key| key.is_free() && key.backoff.is_none()) && !self.permits(at.namespace)
    }

    /// Whether the breaker of a namespace is closed.
    pub(super) fn is_closed(&self, namespace: NamespaceId) -> bool {
        self.origins.get(&namespace).is_none_or(|origin| origin.state(self.now) == State::Closed)
    }

    pub(super) fn give_back(&mut self, namespace: NamespaceId, probe: Option<Probe>) {
        self.origin_mut(namespace).give_back(probe);
        self.trim(namespace);
    }

    /// Forgets an origin that there is nothing to know of.
    pub(super) fn trim(&mut self, namespace: NamespaceId) {
        if self.origins.get(&namespace).is_some_and(Origin::is_blank) {
            self.origins.remove(&namespace);
        }
    }

    /// Tells a namespace's origin how a fill went.
    pub(super) fn report(&mut self, namespace: NamespaceId, success: bool, probe: Option<Probe>) {
        if !success {
            self.counters_mut(namespace).failed_fills += 1;
        }
        let now = self.now;
        let Some(origin) = self.origins.get_mut(&namespace) else { return };
        let turn = origin.report(success, probe, now);
        if let Some(until) = origin.opens(now) {
            self.deadlines.insert((until, Due::Origin(namespace)));
        }
        match turn {
            Some(Turn::Opened) => {
                self.turned.insert(namespace, true);
                self.counters_mut(namespace).breaker_opened += 1;
            }
            Some(Turn::Closed) => {
                self.turned.insert(namespace, false);
            }
            Some(Turn::Rests) | None => {}
        }
    }

    /// Takes the breakers that have opened (true) or closed since this was last
    /// asked, each as it is now.
    pub fn take_turned(&mut self) -> BTreeMap<NamespaceId, bool> {
        std::mem::take(&mut self.turned)
    }

    /// Whether there are any.
    pub fn has_turned(&self) -> bool {
        !self.turned.is_empty()
    }

    /// How the breaker of a namespace is, and how many leases are out or about
    /// to be.
    pub fn origin(&self, namespace: NamespaceId, now: Time) -> (State, u64) {
        let now = self.now.max(now);
        let origin = self.origins.get(&namespace);
        origin.map_or((State::Closed, 0), |origin| (origin.state(now), origin.taken()))
    }

    /// Breakers that are not closed.
    pub fn open_breakers(&self, now: Time) -> usize {
        let now = self.now.max(now);
        self.origins.values().filter(|origin| origin.state(now) != State::Closed).count()
    }

    /// When to ask again, for who is not answered: the time until there is a
    /// value, or a lease may be had.
    pub(super) fn hint(&self, at: At<'_>, typical: Millis) -> Millis {
        let now = self.now;
        let key = self.find(at).and_then(|id| self.keys.get(id));
        if let Some(grant) = key.and_then(|key| key.held()) {
            let left = grant.ends.since(now);
            // Overdue, it is asked for the less often the longer it takes.
            let patience = Millis(typical.max(now.since(grant.granted)).0 / 4);
            let expected = end_of(grant.granted, typical).since(now).max(patience);
            let guess = if typical == Millis::ZERO { SHORT_HINT } else { expected };
            return guess.min(left).max(Millis(1));
        }
        let origin = self.origins.get(&at.namespace);
        let rest = origin.and_then(|origin| origin.opens(now));
        match key.and_then(|key| key.backoff).max(rest) {
            Some(until) => until.since(now).max(Millis(1)),
            // As many as may compute, or the probe does: one of them will have
            // ended by then.
            None if typical > Millis::ZERO && !self.permits(at.namespace) => typical,
            None => SHORT_HINT,
        }
    }
}
