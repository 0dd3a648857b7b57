//! The fence: which fills are stored, and what voids a grant.
//!
//! A fill is stored only if, since its token was drawn, nothing happened that
//! its value cannot know of. Most of that is noted on the grant when it happens
//! ([`Leases::change`]). Of invalidations there is nothing to note: a tag's
//! keys are not walked, and the key of a fill may not carry the tag yet. They
//! are found by comparing stamps: a token is one, so whatever was invalidated
//! at or after it is newer.
//!
//! A tag's stamps say when it was last invalidated, unless it was forgotten and
//! has come to be known again (then they are 0): for one whose stamps are 0,
//! as for one that is unknown, the low-water mark answers. Everything forgotten
//! was invalidated at the mark or before.

use super::*;
use crate::index::Stamps;

/// Why a fill was refused. [`Refusal::label`] is the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// Not granted on this key, or no longer remembered.
    Unknown,
    /// A later lease or lock was granted on the key.
    Superseded,
    /// The key was written.
    Written,
    /// The key was deleted, or its database flushed or swapped.
    Deleted,
    /// The key was made stale.
    Staled,
    /// What lay under the key was invalidated.
    Invalidated,
    /// The key's namespace was invalidated.
    Namespace,
    /// A tag that the fill names was invalidated.
    Tag,
    /// It cannot be told any more whether a tag that the fill names was.
    Forgotten,
    /// A native key has appeared.
    Native,
    /// There is no entry to touch.
    Absent,
    /// It was given up by UNLOCK.
    GivenUp,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 12] = [
        Refusal::Unknown,
        Refusal::Superseded,
        Refusal::Written,
        Refusal::Deleted,
        Refusal::Staled,
        Refusal::Invalidated,
        Refusal::Namespace,
        Refusal::Tag,
        Refusal::Forgotten,
        Refusal::Native,
        Refusal::Absent,
        Refusal::GivenUp,
    ];

    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::Unknown => "unknown",
            Refusal::Superseded => "superseded",
            Refusal::Written => "written",
            Refusal::Deleted => "deleted",
            Refusal::Staled => "staled",
            Refusal::Invalidated => "invalidated",
            Refusal::Namespace => "namespace",
            Refusal::Tag => "tag",
            Refusal::Forgotten => "forgotten",
            Refusal::Native => "native",
            Refusal::Absent => "absent",
            Refusal::GivenUp => "given-up",
        }
    }
}

/// What happens to a key, other than by a fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A value was written to it.
    Written,
    /// It was deleted, be there something or not.
    Deleted,
    /// It was made stale, be there something or not.
    Staled,
    /// An entry that was invalidated then has left.
    Invalidated(Stamp),
}

/// What lies under the key that a fill is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// Nothing, or what is dead.
    Nothing,
    /// A live entry.
    Entry,
    /// A native key of any type.
    Native,
}

/// What a fill is judged by, beside the grant and the tags it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What lies under the key.
    pub under: Under,
    /// It is a TOUCH, which needs a live entry.
    pub touch: bool,
    /// As [`Sight::invalidated`].
    pub invalidated: Stamp,
    /// When the key's namespace was last invalidated.
    pub namespace: Stamps,
    /// [`crate::index::Index::low_water`].
    pub low_water: Stamp,
}

/// An accepted fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// From the grant of a FETCH lease to its fill: what recomputing the value
    /// takes. A lock's holder has more to do than that: `None`.
    pub took: Option<Millis>,
}

impl Leases {
    /// Whether a fill would be stored. `tags`: for each tag that it names
    /// (that the entry has, for TOUCH) what [`crate::index::Index::stamps`] says.
    ///
    /// # Errors
    /// [`Refusal`] says why not.
    pub fn judge(
        &self,
        at: At<'_>,
        token: Stamp,
        evidence: &Evidence,
        tags: impl IntoIterator<Item = Option<Stamps>>,
        now: Time,
    ) -> Result<Filled, Refusal> {
        let now = self.now.max(now);
        let key = self.find(at).and_then(|id| self.keys.get(id));
        let grant = key.and_then(|key| key.grant).filter(|grant| grant.held || grant.forget > now);
        let grant = grant.filter(|grant| token <= grant.token).ok_or(Refusal::Unknown)?;
        if token < grant.token {
            return Err(Refusal::Superseded);
        }
        if let Some(why) = grant.broken {
            return Err(why);
        }
        match evidence.under {
            Under::Native if evidence.touch => return Err(Refusal::Absent),
            Under::Native if !grant.native => return Err(Refusal::Native),
            Under::Nothing if evidence.touch => return Err(Refusal::Absent),
            _ => {}
        }
        if evidence.namespace.last() >= token {
            return Err(Refusal::Namespace);
        }
        if evidence.invalidated >= token {
            return Err(Refusal::Invalidated);
        }
        for stamps in tags {
            match stamps.map(|stamps| stamps.last()).filter(|last| *last > Stamp(0)) {
                Some(last) if last >= token => return Err(Refusal::Tag),
                None if evidence.low_water >= token => return Err(Refusal::Forgotten),
                _ => {}
            }
        }
        Ok(Filled { took: (grant.kind == Kind::Fetch).then(|| now.since(grant.granted)) })
    }

    /// Judges a fill and ends its grant, lease or lock, whichever way. Accepted,
    /// it is to be stored at once, and whoever waits for the value is woken;
    /// refused, the longest waiter is promoted.
    ///
    /// # Errors
    /// [`Refusal`] says why nothing may be stored.
    pub fn fill(
        &mut self,
        at: At<'_>,
        token: Stamp,
        evidence: &Evidence,
        tags: impl IntoIterator<Item = Option<Stamps>>,
        now: Time,
    ) -> Result<Filled, Refusal> {
        self.hear(now);
        let id = self.settled(at);
        let verdict = self.judge(at, token, evidence, tags, now);
        let counters = self.counters_mut(at.namespace);
        match verdict {
            Ok(filled) => {
                counters.fills += 1;
                filled.took.into_iter().for_each(|took| counters.fill_times.record(took));
            }
            Err(why) => counters.refuse(why),
        }
        let grant = id.and_then(|id| self.keys.get(id)).and_then(|key| key.grant);
        let (Some(id), Some(grant)) = (id, grant.filter(|grant| grant.token == token)) else {
            return Err(verdict.err().unwrap_or(Refusal::Unknown));
        };
        // The origin has answered, whatever became of the answer.
        self.report(at.namespace, true, grant.probe);
        self.end(id, None, false);
        if let Some(key) = self.keys.get_mut(id) {
            key.grant = None;
            if verdict.is_ok() {
                key.backoff = None;
            }
        }
        if verdict.is_ok() {
            self.wake(id);
        }
        self.tidy(id);
        verdict
    }

    /// Something happened to a key: a lease on it is void, a lock's fence is
    /// broken, and no token given before may fill. A value wakes whoever waits
    /// for one and ends a back-off.
    pub fn change(&mut self, at: At<'_>, change: Change, now: Time) {
        self.hear(now);
        let Some(id) = self.settled(at) else { return };
        let why = match change {
            Change::Written => Refusal::Written,
            Change::Deleted => Refusal::Deleted,
            Change::Staled => Refusal::Staled,
            Change::Invalidated(stamp) => return self.outdate(id, stamp),
        };
        self.void(id, why);
        if let Some(key) = self.keys.get_mut(id) {
            match change {
                Change::Written => key.backoff = None,
                Change::Deleted => key.wake = None,
                _ => {}
            }
        }
        if change == Change::Written {
            self.wake(id);
        }
        self.tidy(id);
    }

    /// Voids a grant whose token is not newer than an invalidation of what lies
    /// under its key.
    pub(super) fn outdate(&mut self, id: KeyId, invalidated: Stamp) {
        let grant = self.keys.get(id).and_then(|key| key.grant);
        if grant
            .is_some_and(|grant| grant.token <= invalidated && (grant.broken.is_none() || grant.is_lease()))
        {
            self.void(id, Refusal::Invalidated);
            self.tidy(id);
        }
    }

    /// A namespace was invalidated: of its leases those that somebody waits for
    /// are void at once. (The others are found to be by whoever looks next.) No
    /// sweep comes by a key where nothing lies. `those`: whether a name is in the
    /// namespace, whose number it may share with others. Walks the keys that are
    /// waited for.
    pub fn outdate_awaited(&mut self, db: Db, those: impl Fn(&[u8]) -> bool, invalidated: Stamp, now: Time) {
        self.hear(now);
        let (mut from, mut found) = (0, Vec::new());
        while let Some(&(id, ..)) = self.queue.range((from, Kind::Fetch, WaiterId(0))..).next() {
            if self.keys.get(id).is_some_and(|key| key.db == db && those(&key.name)) {
                found.push(id);
            }
            from = id.saturating_add(1);
        }
        for id in found {
            self.outdate(id, invalidated);
        }
    }

    /// The key, what is due on it done and its lease voided if an invalidation
    /// has outdated it.
    pub(super) fn look_at(&mut self, at: At<'_>, invalidated: Stamp) {
        if let Some(id) = self.settled(at) {
            self.outdate(id, invalidated);
        }
    }

    /// Breaks the fence of the last grant; a lease ends with it.
    pub(super) fn void(&mut self, id: KeyId, why: Refusal) {
        let Some(grant) = self.keys.get_mut(id).and_then(|key| key.grant.as_mut()) else { return };
        if grant.broken.is_none() {
            grant.broken = Some(why);
        }
        if grant.is_lease() {
            self.end(id, None, true);
        }
    }
}
