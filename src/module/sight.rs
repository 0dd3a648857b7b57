//! A key looked at for FETCH, LOCK, and who waits for them.

use cacheflow_core::decide::{self, Fetched};
use cacheflow_core::entry::Cost;
use cacheflow_core::index::{Db, Verdict};
use cacheflow_core::leases::{Evidence, Sight, There, Under};
use cacheflow_core::refresh;
use cacheflow_core::units::{Millis, Stamp, Time};

use crate::datatype::ours;
use crate::ffi::key::{Key, Kind};
use crate::leases;
use crate::shard;
use crate::state;
use crate::stored::Stored;
use crate::ttl;

/// What lies under a key that is held open.
#[derive(Clone, Copy)]
pub struct Seen {
    pub there: There,
    /// Fresh or there for so long; `None`: no end.
    pub left: Option<Millis>,
    /// The entry, be it dead.
    pub entry: Option<Stored>,
    pub cost: Cost,
}

impl Seen {
    const NOTHING: Seen = Seen { there: There::Absent, left: None, entry: None, cost: Cost(0) };

    /// The entry whose value a reader may have.
    pub fn live(&self) -> Option<Stored> {
        self.entry.filter(|_| matches!(self.there, There::Fresh { .. } | There::Stale { .. }))
    }

    /// What the table is told.
    pub fn sight(&self, db: Db, name: &[u8]) -> Sight {
        Sight { there: self.there, invalidated: invalidated(db, name, self.entry) }
    }
}

/// See [`Sight::invalidated`].
pub fn invalidated(db: Db, name: &[u8], entry: Option<Stored>) -> Stamp {
    let namespace = shard::namespace_of(name);
    shard::with(|index| index.invalidated_at(db, namespace, entry.map(Stored::view)))
}

/// What a fill is judged by: of invalidations, that is; the rest is the
/// command's to say.
pub fn evidence(db: Db, name: &[u8], entry: Option<Stored>) -> Evidence {
    let namespace = shard::namespace_of(name);
    shard::with(|index| Evidence {
        under: Under::Nothing,
        touch: false,
        invalidated: index.invalidated_at(db, namespace, entry.map(Stored::view)),
        namespace: index.namespace_stamps(db, namespace),
        low_water: index.low_water(),
    })
}

/// The entry under a key and for how long it is fresh, where its first bytes say
/// that there is nothing else to it: so it is for most reads.
#[inline]
pub fn glance(db: Db, name: &[u8], key: &Key) -> Option<(Stored, Option<Millis>)> {
    let Kind::Ours(value) = key.kind(ours()) else { return None };
    // SAFETY: a value of our type.
    let entry = unsafe { Stored::new(value) };
    if entry.is_companion() {
        return None;
    }
    entry.prefetch();
    let left = entry.left_at_a_glance(state::now())?;
    if ttl::may_differ(name, entry.head().born()) {
        return None;
    }
    (shard::verdict(db, name, entry) == Verdict::Untouched).then_some((entry, left))
}

/// Looks; `beta`: XFetch's, zero where nobody is to be elected. `None`: a key
/// that FETCH cannot read.
#[inline]
pub fn see(db: Db, name: &[u8], key: &Key, beta: f64) -> Option<Seen> {
    match key.kind(ours()) {
        Kind::Ours(value) => {
            // SAFETY: a value of our type.
            let entry = unsafe { Stored::new(value) };
            if entry.is_companion() {
                return None;
            }
            entry.prefetch();
            let Some(meta) = shard::settled(db, name, entry) else {
                return Some(Seen { entry: Some(entry), ..Seen::NOTHING });
            };
            let expire = || key.expire().map(Time);
            let elects = |left, length, cost| {
                let cost = if cost == Cost(0) { leases::typical_cost(name) } else { cost };
                refresh::elect(left, length, cost, beta, state::wide_dice)
            };
            let Fetched { there, left } =
                decide::fetch(&meta, ttl::may_differ(name, meta.born), expire, state::now(), elects);
            Some(Seen { there, left, entry: Some(entry), cost: meta.cost })
        }
        Kind::Absent => Some(Seen::NOTHING),
        Kind::String => {
            let left = key.expire().map(|end| Time(end).since(state::now()));
            Some(Seen { there: There::Native, left, ..Seen::NOTHING })
        }
        Kind::Other => None,
    }
}

/// What LOCK sees: any type of key.
pub fn see_any(db: Db, name: &[u8], key: &Key) -> Sight {
    match key.kind(ours()) {
        Kind::Ours(_) => see(db, name, key, 0.0).unwrap_or(Seen::NOTHING).sight(db, name),
        Kind::Absent => Seen::NOTHING.sight(db, name),
        Kind::String | Kind::Other => Seen { there: There::Native, ..Seen::NOTHING }.sight(db, name),
    }
}
