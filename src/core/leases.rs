//! Leases, locks and those who wait for them: one table for a shard.
//!
//! Guarantees:
//! - At most one unexpired lease or lock on a key, and tokens only grow.
//! - A fill is accepted only where nothing newer happened ([`fence`]).
//! - Whoever waits is answered: by a value, by promotion, or at the deadline;
//!   first come, first served, FETCH and LOCK in one order ([`queue`]).
//! - Bounded: keys, the bytes of their names and waiters have caps. What is
//!   remembered of ended grants makes room for what is held, never the other
//!   way round, and of those that may not fill, which is remembered for the
//!   reason's sake alone, there are few ([`MOST_BROKEN`]).
//! - One deadline in all ([`Leases::next_deadline`]), whatever is outstanding.
//!
//! Not here: values and entries, replies, replication, the sketch of fill
//! times and early election ([`crate::refresh`]), how many leases a namespace
//! may have ([`crate::origin`]).
//!
//! # The life of a key in the table
//! ```text
//!             fetch, lock, resume           end of the grant:
//!                 (grant)        ┌────────────────────────────────────────┐
//!  nothing ───────────────────▶ HELD ── ran out, its client went ──▶ REMEMBERED  may still fill
//!     ▲                          │ └─── a change voids it ─────────▶ REMEMBERED  may not
//!     │                          └───── filled, refused, unlocked ─▶ ENDED       may not
//!     └── no waiter, no back-off, nothing remembered ◀── lease-max after its end, or room needed
//!
//!  a waiter:  fetch, lock ─▶ QUEUED ─┬─ promoted: the nominee, one a key ─┐
//!                               ▲    ├─ woken by a value ─────────────────┤─▶ CALLED ─▶ resume: answered
//!                               │    ├─ at its deadline ─▶ TimedOut       │                 │
//!                               │    ├─ its slot is lost ─▶ Moved         │                 │
//!                               │    └─ demoted ─▶ Unblocked              │                 │
//!                               └─────────────── nothing there for it yet ◀─────────────────┘
//! ```
//! A waiter that is called looks at the key again ([`Leases::resume`]), and is
//! answered from what is there *then*: between the fill and the reply, which
//! may be slices apart, the value may have been invalidated. For the same
//! reason a grant is made when the nominee is called, with its full length;
//! meanwhile the key is reserved for the nominee.
//!
//! # How the module is to use it
//! | at | call |
//! | --- | --- |
//! | CACHE.FETCH of what is not simply fresh | [`Leases::fetch`] |
//! | CACHE.REFRESH of what is due | [`Leases::refresh`] |
//! | CACHE.LOCK, UNLOCK, EXTEND | [`Leases::lock`], [`Leases::unlock`], [`Leases::extend`] |
//! | SET … LEASE, TOUCH … LEASE | [`Leases::judge`], then, when nothing can fail any more, [`Leases::fill`]; store if accepted |
//! | any other SET, TOUCH, INCRBY; native overwrite; RENAME, COPY, MOVE, RESTORE onto it | [`Leases::change`] with [`Change::Written`], after storing |
//! | CACHE.DEL, DEL, UNLINK, RENAME or MOVE away; also where the key is absent | [`Leases::change`] with [`Change::Deleted`] |
//! | CACHE.STALE; also where the key is absent | [`Leases::change`] with [`Change::Staled`] |
//! | an invalidated entry leaves (sweep, expiry, eviction), or is born anew by TAG | [`Leases::change`] with [`Change::Invalidated`], the last stamp that hit it |
//! | an invalidation of a namespace | [`Leases::outdate_awaited`] |
//! | expiry or eviction of a valid entry, EXPIRE, PERSIST, TAG, UNTAG | nothing |
//! | FLUSHDB, FLUSHALL, SWAPDB | [`Leases::flush`], [`Leases::swap`] |
//! | a client's connection closes; CLIENT UNBLOCK | [`Leases::disconnect`]; [`Leases::forget`] |
//! | the server becomes a replica | [`Leases::demote`] |
//! | hash slots of a cluster are another node's | [`Leases::lose`] |
//! | a replica is told of a lock; loading | [`Leases::apply_lock`], [`Leases::apply_unlock`] |
//! | saving | [`Leases::locks`] |
//! | CACHE.NAMESPACE, loading | [`Leases::protect`] |
//! | the timer at [`Leases::next_deadline`] | [`Leases::tick`] |
//! | after each of these, while there are any | [`Leases::take_events`], a batch a slice |
//!
//! For each [`Event::Look`] the module looks the key up ([`Leases::waiting`]
//! names it) and calls [`Leases::resume`] before it does anything else.
//!
//! Time that steps back stands still here until it has caught up.
//!
//! When you change what holds between the parts, change [`Leases::validate`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::decide::Moment;
use crate::index::Db;
use crate::names::Names;
use crate::origin::Origin;
use crate::slab::Slab;
use crate::units::{Millis, Stamp, Time, LAST_TIME};

#[path = "leases_events.rs"]
mod events;
#[path = "leases_fence.rs"]
pub mod fence;
#[path = "leases_limits.rs"]
mod limits;
#[path = "leases_look.rs"]
mod look;
#[path = "leases_origin.rs"]
mod origin;
#[path = "leases_queue.rs"]
pub mod queue;
#[path = "leases_refresh.rs"]
mod refresh;
#[path = "leases_table.rs"]
mod table;
#[path = "leases_wake.rs"]
mod wake;

pub use fence::{Change, Evidence, Filled, Refusal, Under};
pub use limits::{Limits, MOST_BROKEN};
pub use look::{Counters, Counts, Lock};
pub use queue::{Event, WaiterId, Waiting};

use origin::SHORT_HINT;
use queue::{Waiter, Want};
use table::{Due, Grant, Key, KeyId, Kind};

/// A client, as the server numbers its connections.
pub type ClientId = u64;
/// A namespace, as the module numbers them: those with settings have a number
/// of their own, of the others some may share one. The same in all databases.
pub type NamespaceId = u32;

/// Which key.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    /// The database.
    pub db: Db,
    /// The key.
    pub key: &'a [u8],
    /// Its namespace.
    pub namespace: NamespaceId,
}

/// What a caller finds under a key. Keys of another type than a string are
/// WRONGTYPE to FETCH, and never come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum There {
    /// Nothing, or what is dead.
    Absent,
    /// A native key: to FETCH a fresh value.
    Native,
    /// A fresh entry, and whether [`crate::refresh::elect`] chose this read.
    Fresh {
        /// To be refreshed early.
        elected: bool,
    },
    /// A stale entry.
    Stale {
        /// For this long.
        age: Millis,
    },
}

/// What lies under a key, and when it was invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    /// What there is.
    pub there: There,
    /// The last invalidation, hard or soft, of the key's namespace, or of a tag
    /// of what lies there if it came after its birth, be it dead; 0: none.
    /// (What came before does not concern it: CACHE.TAG binds from then on.)
    pub invalidated: Stamp,
}

/// What a FETCH asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The lease's length: `LEASE`, or what was derived
    /// ([`crate::refresh::FillTimes::lease_length`]).
    pub length: Millis,
    /// `KEEP`: the lease outlives the connection.
    pub keep: bool,
    /// `BLOCK`; zero: without a limit. `None` also where the connection may
    /// not block.
    pub block: Option<Millis>,
    /// `MAXSTALE`.
    pub maxstale: Option<Millis>,
    /// What a fill in the namespace usually takes; zero: not known. For hints.
    pub typical: Millis,
}

/// What a FETCH or a LOCK is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `FRESH`, with a token for whoever refreshes it early.
    Fresh {
        /// The token.
        token: Option<Stamp>,
    },
    /// `STALE`, with a token for whoever refreshes it.
    Stale {
        /// The token.
        token: Option<Stamp>,
    },
    /// `MISS`: compute it.
    Miss {
        /// The token.
        token: Stamp,
        /// The lease's length.
        length: Millis,
    },
    /// `BUSY`.
    Busy {
        /// Ask again after this long.
        hint: Millis,
    },
    /// LOCK has it.
    Locked {
        /// The token.
        token: Stamp,
        /// The lock's length.
        length: Millis,
    },
    /// LOCK does not have it.
    Held,
    /// Nothing yet: block the client. From [`Leases::resume`]: leave it
    /// blocked.
    Wait(WaiterId),
}

/// Whether what has been stale for `age` may be served where `MAXSTALE` names
/// the most. 0 insists on fresh, also in the millisecond in which it turned stale.
pub fn accepts(maxstale: Option<Millis>, age: Millis) -> bool {
    maxstale.is_none_or(|most| most > Millis::ZERO && age <= most)
}

/// What FETCH answers on a replica, which grants nothing and knows of no lease:
/// as CACHE.GET … STALE does.
pub fn on_replica(there: There, maxstale: Option<Millis>) -> Answer {
    match there {
        There::Native | There::Fresh { .. } => Answer::Fresh { token: None },
        There::Stale { age } if accepts(maxstale, age) => Answer::Stale { token: None },
        There::Stale { .. } | There::Absent => Answer::Busy { hint: Millis::ZERO },
    }
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Leases {
    limits: Limits,
    /// The latest time that was heard of.
    now: Time,
    /// The last token given.
    last_token: Stamp,
    /// Boxed: the table goes back and forth between none and a few, and a slab
    /// makes and clears 256 places for the first.
    keys: Slab<Box<Key>>,
    names: Names,
    /// Bytes of the keys' names.
    bytes: usize,
    /// Of each key and each queued waiter the next one, and ends of cool-downs.
    deadlines: BTreeSet<(Time, Due)>,
    /// Keys that nothing is held on and nobody waits for, by when they became so.
    idle: BTreeMap<u64, KeyId>,
    /// Those of them whose grant may not fill.
    broken: BTreeMap<u64, KeyId>,
    idle_clock: u64,
    /// FETCH leases that end with their client's connection.
    of_client: BTreeSet<(ClientId, KeyId)>,
    leases: usize,
    locks: usize,

    waiters: Slab<Waiter>,
    arrivals: u64,
    /// Of each key, by kind, in order of arrival.
    queue: BTreeSet<(KeyId, Kind, WaiterId)>,
    waiting_clients: BTreeSet<(ClientId, WaiterId)>,
    /// Keys whose first FETCH waiter could be promoted if the namespace lets it.
    parked: BTreeSet<(NamespaceId, WaiterId, KeyId)>,
    /// Nominees to be called.
    calls: VecDeque<WaiterId>,
    /// Keys with waiters to be woken.
    wakes: VecDeque<KeyId>,
    /// Waiters that are no more, to be told so.
    farewells: VecDeque<Event>,

    origins: BTreeMap<NamespaceId, Origin>,
    /// Breakers that have opened (true) or closed since anybody asked.
    turned: BTreeMap<NamespaceId, bool>,
    counters: BTreeMap<NamespaceId, Counters>,
}

fn end_of(now: Time, length: Millis) -> Time {
    now.after(length).unwrap_or(Time(LAST_TIME))
}

impl Leases {
    /// An empty table.
    pub fn new(limits: Limits) -> Leases {
        Leases { limits, ..Leases::default() }
    }

    /// Changes the limits; what is there already stays.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// `CACHE.FETCH`.
    pub fn fetch(&mut self, at: At<'_>, sight: Sight, ask: Ask, client: ClientId, moment: Moment) -> Answer {
        self.hear(moment.now);
        let length = Millis(ask.length.0.clamp(1, self.limits.lease_max.0.max(1)));
        let ask = Ask { length, ..ask };
        self.look_at(at, sight.invalidated);
        if matches!(sight.there, There::Native | There::Fresh { elected: false }) {
            return Answer::Fresh { token: None };
        }
        let token = match self.may_lease(at) {
            true => self.grant(at, Kind::Fetch, ask.length, Some((client, ask.keep)), sight, moment.stamp),
            false => None,
        };
        if token.is_none() && self.is_protected(at) {
            self.counters_mut(at.namespace).protected += 1;
        }
        match (sight.there, token) {
            (There::Fresh { .. } | There::Native, token) => {
                self.counters_mut(at.namespace).early_elections += u64::from(token.is_some());
                Answer::Fresh { token }
            }
            (There::Stale { age }, token) if accepts(ask.maxstale, age) => Answer::Stale { token },
            (_, Some(token)) => Answer::Miss { token, length: ask.length },
            (_, None) => {
                match ask.block.and_then(|block| self.enqueue(at, Want::Fetch(ask), block, client)) {
                    Some(waiter) => Answer::Wait(waiter),
                    None => {
                        self.counters_mut(at.namespace).busy += 1;
                        Answer::Busy { hint: self.hint(at, ask.typical) }
                    }
                }
            }
        }
    }

    /// `CACHE.LOCK`, the sight being that of any type of key.
    pub fn lock(
        &mut self,
        at: At<'_>,
        sight: Sight,
        length: Millis,
        block: Option<Millis>,
        client: ClientId,
        moment: Moment,
    ) -> Answer {
        self.hear(moment.now);
        let length = Millis(length.0.max(1));
        self.look_at(at, sight.invalidated);
        let token = match self.may_lock(at) {
            true => self.grant(at, Kind::Lock, length, None, sight, moment.stamp),
            false => None,
        };
        match token {
            Some(token) => Answer::Locked { token, length },
            None => match block.and_then(|block| self.enqueue(at, Want::Lock { length }, block, client)) {
                Some(waiter) => Answer::Wait(waiter),
                None => Answer::Held,
            },
        }
    }

    /// `CACHE.UNLOCK`: whether the token was the current one. `retry`: no new
    /// lease for that long.
    pub fn unlock(&mut self, at: At<'_>, token: Stamp, retry: Option<Millis>, now: Time) -> bool {
        self.hear(now);
        let Some(id) = self.settled(at).filter(|&id| self.holds(id, token)) else { return false };
        let probe = self.keys.get(id).and_then(|key| key.held()).and_then(|grant| grant.probe);
        if retry.is_some() {
            self.report(at.namespace, false, probe);
        }
        self.end(id, Some(Refusal::GivenUp), false);
        if let Some(retry) = retry {
            let until = end_of(self.now, retry);
            if let Some(key) = self.keys.get_mut(id).filter(|_| retry > Millis::ZERO) {
                // A lock's holder does not shorten what another reported.
                key.backoff = key.backoff.max(Some(until));
            }
        }
        self.tidy(id);
        true
    }

    /// `CACHE.EXTEND`: whether the token was the current one.
    pub fn extend(&mut self, at: At<'_>, token: Stamp, length: Millis, now: Time) -> bool {
        self.hear(now);
        let Some(id) = self.settled(at).filter(|&id| self.holds(id, token)) else { return false };
        let (now, most) = (self.now, self.limits.lease_max);
        if let Some(grant) = self.keys.get_mut(id).and_then(|key| key.grant.as_mut()) {
            grant.ends = match grant.kind {
                Kind::Fetch => end_of(now, length.min(most)),
                Kind::Lock => end_of(now, length),
            };
        }
        self.settle(id, now);
        true
    }

    /// Whether this token is the current one.
    fn holds(&self, id: KeyId, token: Stamp) -> bool {
        self.keys.get(id).and_then(|key| key.held()).is_some_and(|grant| grant.token == token)
    }

    /// Whether a FETCH that nobody waits before may have a lease.
    fn may_lease(&self, at: At<'_>) -> bool {
        let free =
            self.find(at).and_then(|id| self.keys.get(id).map(|key| (id, key))).is_none_or(|(id, key)| {
                key.is_free() && key.backoff.is_none() && self.first(id, Kind::Fetch, WaiterId(0)).is_none()
            });
        free && self.permits(at.namespace)
    }

    /// Whether a LOCK may have one: those who still wait where nothing is held
    /// wait for a lease, which they may not have now.
    fn may_lock(&self, at: At<'_>) -> bool {
        self.find(at)
            .and_then(|id| self.keys.get(id).map(|key| (id, key)))
            .is_none_or(|(id, key)| key.is_free() && self.first(id, Kind::Lock, WaiterId(0)).is_none())
    }

    /// Grants; the caller has looked whether it may. `None` where the table is
    /// full, or the stamp is none that was drawn just now.
    fn grant(
        &mut self,
        at: At<'_>,
        kind: Kind,
        length: Millis,
        holder: Option<(ClientId, bool)>,
        sight: Sight,
        token: Stamp,
    ) -> Option<Stamp> {
        if token <= self.last_token {
            return None;
        }
        let id = self.make(at)?;
        let probe = match kind {
            Kind::Fetch => self.origin_mut(at.namespace).take(),
            Kind::Lock => None,
        };
        let native = sight.there == There::Native;
        self.hold(id, Grant::new(token, kind, native, probe), length, holder);
        self.counters_mut(at.namespace).grants += 1;
        self.tidy(id);
        Some(token)
    }

    /// Lets a key be held. A FETCH lease's place in its namespace is taken by
    /// the caller.
    fn hold(&mut self, id: KeyId, grant: Grant, length: Millis, holder: Option<(ClientId, bool)>) {
        let now = self.now;
        let client = holder.filter(|(_, keep)| !keep).map(|(client, _)| client);
        let Some(key) = self.keys.get_mut(id) else { return };
        key.grant = Some(Grant { client, granted: now, ends: end_of(now, length), ..grant });
        self.last_token = self.last_token.max(grant.token);
        match grant.kind {
            Kind::Fetch => self.leases += 1,
            Kind::Lock => self.locks += 1,
        }
        if let Some(client) = client {
            self.of_client.insert((client, id));
        }
    }
}

#[cfg(test)]
#[path = "leases_fence_tests.rs"]
mod fence_tests;
#[cfg(test)]
#[path = "leases_limits_tests.rs"]
mod limits_tests;
#[cfg(test)]
#[path = "leases_model_tests.rs"]
mod model_tests;
#[cfg(test)]
#[path = "leases_origin_tests.rs"]
mod origin_tests;
#[cfg(test)]
#[path = "leases_queue_tests.rs"]
mod queue_tests;
#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
