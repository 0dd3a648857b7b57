//! Adaptive TTL at work (`cacheflow_core::adaptive`): what is remembered beside the
//! entries that are there.
//!
//! Without grace an entry is gone when its time is up, and with it what its
//! refills have told. So that is kept when an adaptive entry leaves its key, by
//! whatever way, until it is filled again or others need the room: of 65,536 keys
//! at the most, 40 bytes each, those that left last. What tags and namespaces
//! were found to do is kept as `cacheflow_core::rates` says. Both are this
//! server's own, learnt anew after a restart, and both are forgotten with the
//! data, when it is flushed.

use cacheflow_core::adaptive::{Bounds, Lesson, Outlook, Past};
use cacheflow_core::index::Db;
use cacheflow_core::rates::{Kin, Rates};
use cacheflow_core::recent::{self, Recent};

use crate::directives::STALE_TARGET;
use crate::shard::{self, namespace_of};
use crate::state::{self, MainThread};
use crate::stored::Stored;

/// Keys remembered at most.
const MOST_GONE: usize = 1 << 16;

struct Learnt {
    rates: Rates,
    gone: Recent<Past>,
}

static LEARNT: MainThread<Learnt> =
    MainThread::new(Learnt { rates: Rates::new(), gone: Recent::new(MOST_GONE) });

fn place(db: Db, name: &[u8]) -> u64 {
    recent::key(name, db as u64)
}

/// What there is to go by for a key that is to have these tags. `dead`: an entry
/// that lies there, invalidated.
pub fn outlook(db: Db, name: &[u8], tags: &[&[u8]], dead: Option<Stored>, bounds: Bounds) -> Outlook {
    let (target, now) = (STALE_TARGET.get(), state::now());
    let namespace = namespace_of(name);
    let of_dead = dead.and_then(|entry| Past::of_leaving(&entry.view().meta(), true, now));
    // What was invalidated since found nothing here to be written into.
    let last = shard::with(|index| index.last_stamp(db, namespace, tags.iter().copied()));
    LEARNT.with(|learnt| {
        let gone = learnt.gone.get(place(db, name)).map(|past| past.invalidated(last));
        Outlook {
            target,
            prior: learnt.rates.prior(Kin::new(db, namespace, tags.first().copied()), bounds, target),
            past: of_dead.or(gone),
            dice: state::dice(),
        }
    })
}

/// An entry lies under its key, and remembers for itself what there is to
/// remember. What its refill told is learnt of the like.
pub fn stored(db: Db, name: &[u8], entry: Stored, lesson: Option<Lesson>) {
    LEARNT.with(|learnt| {
        if !learnt.gone.is_empty() {
            learnt.gone.take(place(db, name));
        }
    });
    if let Some(lesson) = lesson {
        let now = state::now();
        let kin = |tag: Option<&[u8]>| Kin::new(db, namespace_of(name), tag);
        let kin = shard::with_first_tag(entry, kin);
        LEARNT.with(|learnt| learnt.rates.learn(kin, lesson, now));
    }
}

/// Somebody said of a key under which nothing lies that it is outdated.
pub fn outdated(db: Db, name: &[u8]) {
    LEARNT.with(|learnt| {
        if learnt.gone.is_empty() {
            return;
        }
        let place = place(db, name);
        if let Some(past) = learnt.gone.take(place) {
            learnt.gone.put(place, state::now(), Past { teaches: false, ..past });
        }
    });
}

/// An entry leaves its key, `touched` by an invalidation or not.
pub fn leaves(db: Db, entry: Stored, touched: bool) {
    if entry.view().adaptive().is_none() {
        return;
    }
    let (view, now) = (entry.view(), state::now());
    if let Some(past) = Past::of_leaving(&view.meta(), touched, now) {
        LEARNT.with(|learnt| learnt.gone.put(place(db, view.name()), now, past));
    }
}

/// Databases were emptied, or are others' now.
pub fn forget() {
    LEARNT.with(|learnt| {
        learnt.rates.clear();
        learnt.gone.clear();
    });
}

/// Bytes allocated.
pub fn allocated() -> usize {
    LEARNT.with(|learnt| learnt.rates.allocated() + learnt.gone.allocated())
}
