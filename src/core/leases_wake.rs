//! Those who are called: to whom it is told that there is something for them,
//! and how they are answered.
//!
//! A fill wakes 10,000 in one step: it notes up to whom, and they are called a
//! batch at a time. Until all of them have looked, nobody who came later is
//! promoted; should the value be gone by then, they queue again where they
//! stood, and the first of them is promoted.

use super::*;

impl Leases {
    /// Has every FETCH that waits now look at the key, a batch a slice.
    pub(super) fn wake(&mut self, id: KeyId) {
        let last = self.queue.range(..(id, Kind::Lock, WaiterId(0))).next_back();
        let Some(&(_, _, to)) = last.filter(|(key, ..)| *key == id) else { return };
        let Some(key) = self.keys.get_mut(id) else { return };
        key.wake = Some((WaiterId(0), to));
        if !key.listed {
            key.listed = true;
            self.wakes.push_back(id);
        }
    }

    /// What the module is to do, at most `limit` of it. To be called until
    /// nothing comes; calls come first, the many that a value wakes last.
    pub fn take_events(&mut self, limit: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < limit {
            if let Some(id) = self.calls.pop_front() {
                // It may have gone since.
                if self.waiter(id).is_some_and(|waiter| waiter.called) {
                    events.push(Event::Look(id));
                }
            } else if let Some(event) = self.farewells.pop_front() {
                events.push(event);
            } else if let Some(&id) = self.wakes.front() {
                match self.next_woken(id) {
                    Some(waiter) => events.push(Event::Look(waiter)),
                    None => {
                        self.wakes.pop_front();
                    }
                }
            } else {
                // What a burst made them grow to is given back.
                (self.calls, self.farewells, self.wakes) = Default::default();
                break;
            }
        }
        events
    }

    /// Whether there is something for [`Leases::take_events`].
    pub fn has_events(&self) -> bool {
        !(self.calls.is_empty() && self.farewells.is_empty() && self.wakes.is_empty())
    }

    fn next_woken(&mut self, id: KeyId) -> Option<WaiterId> {
        let wake = self.keys.get(id).filter(|key| key.listed)?.wake;
        let next = wake.and_then(|(from, _)| self.first(id, Kind::Fetch, from));
        let key = self.keys.get_mut(id)?;
        match next.filter(|next| key.wakes(*next)) {
            Some(next) => {
                key.wake = key.wake.map(|(_, to)| (next, to));
                self.call_woken(next);
                Some(next)
            }
            None => {
                (key.wake, key.listed) = (None, false);
                self.tidy(id);
                None
            }
        }
    }

    /// Whom a waiter is, and what it waits for.
    pub fn waiting(&self, id: WaiterId) -> Option<Waiting<'_>> {
        let waiter = self.waiter(id)?;
        let key = self.keys.get(waiter.key)?;
        let at = At { db: key.db, key: &key.name, namespace: key.namespace };
        let lock = waiter.want.kind() == Kind::Lock;
        Some(Waiting { at, client: waiter.client, lock, since: waiter.since })
    }

    /// Answers a waiter that was called, from what is there now. `None`: it has
    /// gone.
    pub fn resume(&mut self, id: WaiterId, sight: Sight, moment: Moment) -> Option<Answer> {
        self.hear(moment.now);
        let waiter = self.waiter(id).copied().filter(|waiter| waiter.called)?;
        self.settle(waiter.key, self.now);
        self.outdate(waiter.key, sight.invalidated);
        let named = self.keys.get(waiter.key)?.nominee == Some(id);
        let answer = match waiter.want {
            Want::Lock { length } => {
                match named.then(|| self.inherit(&waiter, length, sight, moment)).flatten() {
                    Some(token) => Answer::Locked { token, length },
                    None => Answer::Held,
                }
            }
            Want::Fetch(ask) => self.resume_fetch(&waiter, ask, named, sight, moment),
        };
        let late = waiter.deadline.is_some_and(|deadline| deadline <= self.now);
        let answer = match answer {
            Answer::Held | Answer::Busy { .. } if !late => {
                self.uncall(id);
                self.queue_up(id);
                Answer::Wait(id)
            }
            answer => {
                self.remove_waiter(id);
                let namespace = self.keys.get(waiter.key)?.namespace;
                let counters = self.counters_mut(namespace);
                match answer {
                    Answer::Fresh { .. } | Answer::Stale { token: None } => counters.coalesced += 1,
                    Answer::Busy { .. } => counters.busy += 1,
                    Answer::Held => {}
                    _ => counters.promotions += u64::from(named),
                }
                answer
            }
        };
        self.tidy(waiter.key);
        Some(answer)
    }

    fn resume_fetch(
        &mut self,
        waiter: &Waiter,
        ask: Ask,
        named: bool,
        sight: Sight,
        moment: Moment,
    ) -> Answer {
        let id = waiter.key;
        if named && sight.there != There::Absent {
            // Nobody told of the value: it is there for the others too.
            self.wake(id);
        }
        let stale = match sight.there {
            There::Fresh { .. } | There::Native => return Answer::Fresh { token: None },
            There::Stale { age } => accepts(ask.maxstale, age),
            There::Absent => {
                if let Some(key) = self.keys.get_mut(id) {
                    key.wake = None;
                }
                false
            }
        };
        let token = match named {
            true => self.inherit(waiter, ask.length, sight, moment),
            false => None,
        };
        match token {
            token if stale => Answer::Stale { token },
            Some(token) => Answer::Miss { token, length: ask.length },
            None => {
                let Some(key) = self.keys.get(id) else { return Answer::Busy { hint: SHORT_HINT } };
                let at = At { db: key.db, key: &key.name, namespace: key.namespace };
                Answer::Busy { hint: self.hint(at, ask.typical) }
            }
        }
    }

    /// Grants to the nominee, whose place in its namespace is taken already;
    /// `None`: it has to wait again.
    fn inherit(&mut self, waiter: &Waiter, length: Millis, sight: Sight, moment: Moment) -> Option<Stamp> {
        if moment.stamp <= self.last_token {
            return None;
        }
        let key = self.keys.get(waiter.key)?;
        let (namespace, kind, probe) = (key.namespace, waiter.want.kind(), waiter.probe);
        // Named before the breaker opened: no more than the probe may pass now.
        let passes = kind == Kind::Lock || probe.is_some() || self.is_closed(namespace);
        let key = self.keys.get_mut(waiter.key).filter(|_| passes)?;
        key.nominee = None;
        let holder = match waiter.want {
            Want::Fetch(ask) => Some((waiter.client, ask.keep)),
            Want::Lock { .. } => None,
        };
        let native = sight.there == There::Native;
        self.hold(waiter.key, Grant::new(moment.stamp, kind, native, probe), length, holder);
        self.counters_mut(namespace).grants += 1;
        Some(moment.stamp)
    }
}
