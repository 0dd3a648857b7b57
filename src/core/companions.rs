//! Native keys and their companions: who follows whom.
//!
//! A tagged native key has a companion, a small entry that carries its tags
//! ([`crate::companion`] has the names). A key that goes takes its companion
//! along; a companion that goes takes its key along, for nothing would reach the
//! value any more.
//!
//! Guarantees, in [`Companions`]:
//! - Of two that belong together and travel one by one (MIGRATE, RESTORE, a slot
//!   moved key by key) the one that comes first waits for the other, for a time.
//! - What is invalidated meanwhile is so for both: the key goes as soon as it
//!   comes; the key that has been left behind goes at once.
//! - What waits in vain goes: a companion without a key, a key whose companion has
//!   gone ahead.
//!
//! Not here: the keyspace, and who is told. The caller says what happened and what
//! there is, and removes what is answered. A replica does nothing of it, nor does a
//! server that loads a file: each removal reaches them as a command.
//!
//! | happened | there is | to do |
//! | --- | --- | --- |
//! | the key went | its companion | it goes |
//! | the key was sent elsewhere | its companion | it waits to be sent |
//! | the companion went | its key | it goes |
//! | the companion was sent elsewhere | its key | it waits to be sent; an invalidation of its tags removes it |
//! | a companion was brought | | it waits to be followed |
//! | one was brought that is dead | its key | both go |
//! | one was brought that is dead | no key | it goes, and the key when it is brought |
//! | a key was brought | its companion, that waits | they have found each other |
//! | a key was brought | its companion, that does not | the tags were another value's: it goes |
//! | a companion was invalidated | no key | the key goes when it is brought |
//! | one was that waits to be sent | no key | it is sent as it is: dead |

use std::collections::VecDeque;

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::index::Db;
use crate::units::{Millis, Time};

/// Ticks of the server's cron in which all companions are warmed: two seconds, as it
/// comes by default.
const PASS: usize = 20;

/// Of so many slots, how many are looked at in a tick so that the companions in them
/// count as used to the server's eviction, time and again: to LRU none is older than a
/// pass takes.
pub fn warmed_a_tick(slots: usize) -> usize {
    slots.div_ceil(PASS)
}

/// Who is to be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remove {
    /// The key.
    pub key: bool,
    /// The companion.
    pub companion: bool,
}

impl Remove {
    /// Nobody.
    pub const NONE: Remove = Remove { key: false, companion: false };
    /// The key alone.
    pub const KEY: Remove = Remove { key: true, companion: false };
    /// The companion alone.
    pub const COMPANION: Remove = Remove { key: false, companion: true };
    /// Both.
    pub const BOTH: Remove = Remove { key: true, companion: true };
}

/// What is there of two that belong together. A companion that an invalidation has
/// killed is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct There {
    /// The native key.
    pub key: bool,
    /// Its companion.
    pub companion: bool,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The key is gone, by whatever way.
    KeyWent,
    /// It went because another server has it now.
    KeySent,
    /// The companion is gone.
    CompanionWent,
    /// It went because another server has it now; these are its tags.
    CompanionSent(&'a [Vec<u8>]),
    /// A companion was brought by another than CACHE.TAG; dead: by a tag that was
    /// invalidated since it was born.
    CompanionCame {
        /// Whether it is dead.
        dead: bool,
    },
    /// A value was brought under the key, from a payload.
    KeyCame,
    /// The companion was removed, for one of its tags was invalidated.
    Invalidated,
}

/// Who waits for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Waits {
    /// The companion, for its key.
    Companion,
    /// The companion, for being sent where its key is: dead or alive.
    Sending,
    /// Nobody: both were invalidated, and the key has yet to come.
    Nobody,
    /// The key, for being sent where its companion is; its tags.
    Key(Vec<Vec<u8>>),
}

#[derive(Debug)]
struct Wait {
    waits: Waits,
    until: Time,
}

type Waiting = HashMap<Box<[u8]>, Wait, Xxh3DefaultBuilder>;

/// Those that wait. See the module's text.
#[derive(Debug, Default)]
pub struct Companions {
    /// By database and key.
    waiting: HashMap<Db, Waiting, Xxh3DefaultBuilder>,
    /// When to look at whom: all wait equally long. One that waits no more, or
    /// since later, is passed by.
    deadlines: VecDeque<(Time, Db, Box<[u8]>)>,
}

impl Companions {
    /// Takes note of what happened; answers who is to be removed. Who begins to
    /// wait now does so until `until`, which never steps back.
    pub fn happened(&mut self, db: Db, key: &[u8], event: Event<'_>, there: There, until: Time) -> Remove {
        let waits = self.take(db, key);
        let (next, remove) = match (event, waits) {
            (Event::KeyWent, _) => (None, Remove { companion: there.companion, ..Remove::NONE }),
            (Event::KeySent, _) => (there.companion.then_some(Waits::Sending), Remove::NONE),
            // Another has come in its place.
            (Event::CompanionWent | Event::CompanionSent(_), waits) if there.companion => {
                (waits, Remove::NONE)
            }
            (Event::CompanionWent, _) => (None, Remove { key: there.key, ..Remove::NONE }),
            (Event::CompanionSent(tags), _) => (there.key.then(|| Waits::Key(tags.to_vec())), Remove::NONE),
            (Event::CompanionCame { dead: true }, _) if there.key => (None, Remove::BOTH),
            (Event::CompanionCame { dead: true }, _) => (Some(Waits::Nobody), Remove::COMPANION),
            (Event::CompanionCame { dead: false }, _) => (Some(Waits::Companion), Remove::NONE),
            (Event::KeyCame, Some(Waits::Nobody)) => (None, Remove { key: there.key, ..Remove::NONE }),
            // It has come back, and its companion is dead by now.
            (Event::KeyCame, Some(Waits::Sending)) if !there.companion => {
                (None, Remove { key: there.key, companion: true })
            }
            (Event::KeyCame, Some(Waits::Companion | Waits::Sending)) => (None, Remove::NONE),
            (Event::KeyCame, _) => (None, Remove { companion: there.companion, ..Remove::NONE }),
            // A key has come to be beside a companion that was to be sent after another.
            (Event::Invalidated, Some(Waits::Sending)) if there.key => (None, Remove::BOTH),
            (Event::Invalidated, _) if there.key => (None, Remove::KEY),
            (Event::Invalidated, Some(Waits::Companion | Waits::Nobody)) => {
                (Some(Waits::Nobody), Remove::NONE)
            }
            // The other server finds it dead, and there its key is.
            (Event::Invalidated, Some(Waits::Sending)) => (Some(Waits::Sending), Remove::NONE),
            (Event::Invalidated, _) => (None, Remove::NONE),
        };
        if let Some(waits) = next {
            self.waiting.entry(db).or_default().insert(key.into(), Wait { waits, until });
            self.deadlines.push_back((until, db, key.into()));
        }
        remove
    }

    /// Whether anybody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The keys of a database whose companion has gone ahead with one of these tags.
    /// Looks at all that wait.
    pub fn left_behind(&self, db: Db, tags: &[&[u8]]) -> Vec<Vec<u8>> {
        let all = self.waiting.get(&db).into_iter().flatten();
        let hit = |wait: &Wait| match &wait.waits {
            Waits::Key(own) => own.iter().any(|tag| tags.contains(&tag.as_slice())),
            Waits::Companion | Waits::Sending | Waits::Nobody => false,
        };
        all.filter(|(_, wait)| hit(wait)).map(|(key, _)| key.to_vec()).collect()
    }

    /// Whether a companion waits for its key.
    pub fn waits(&self, db: Db, key: &[u8]) -> bool {
        let wait = self.waiting.get(&db).and_then(|all| all.get(key));
        wait.is_some_and(|wait| matches!(wait.waits, Waits::Companion | Waits::Sending))
    }

    /// Whether a companion waits to be sent.
    pub fn is_to_be_sent(&self, db: Db, key: &[u8]) -> bool {
        let wait = self.waiting.get(&db).and_then(|all| all.get(key));
        wait.is_some_and(|wait| wait.waits == Waits::Sending)
    }

    /// Whether a key waits to be sent where its companion is.
    pub fn is_left_behind(&self, db: Db, key: &[u8]) -> bool {
        let wait = self.waiting.get(&db).and_then(|all| all.get(key));
        wait.is_some_and(|wait| matches!(wait.waits, Waits::Key(_)))
    }

    /// One whose time is up, for whom [`Companions::end`] is to be called. `None`:
    /// nobody's is.
    pub fn next_due(&mut self, now: Time) -> Option<(Db, Box<[u8]>)> {
        loop {
            if self.deadlines.front().is_none_or(|(until, ..)| *until > now) {
                return None;
            }
            let (until, db, key) = self.deadlines.pop_front()?;
            let wait = self.waiting.get(&db).and_then(|all| all.get(&key));
            if wait.is_some_and(|wait| wait.until == until) {
                return Some((db, key));
            }
        }
    }

    /// Ends the wait for a key or its companion; answers who is to be removed.
    pub fn end(&mut self, db: Db, key: &[u8], there: There) -> Remove {
        match self.take(db, key) {
            Some(Waits::Companion) if there.companion && !there.key => Remove::COMPANION,
            // Dead it is not said to be there.
            Some(Waits::Sending) if !there.key => Remove::COMPANION,
            Some(Waits::Key(_)) if there.key && !there.companion => Remove::KEY,
            _ => Remove::NONE,
        }
    }

    fn take(&mut self, db: Db, key: &[u8]) -> Option<Waits> {
        let all = self.waiting.get_mut(&db)?;
        let wait = all.remove(key)?;
        if all.is_empty() {
            self.waiting.remove(&db);
        }
        Some(wait.waits)
    }

    /// A database was emptied; `None`: all were.
    pub fn flushed(&mut self, db: Option<Db>) {
        match db {
            Some(db) => {
                self.waiting.remove(&db);
                self.deadlines.retain(|(_, of, _)| *of != db);
            }
            None => *self = Companions::default(),
        }
    }

    /// Two databases were exchanged.
    pub fn swapped(&mut self, one: Db, other: Db) {
        let (of_one, of_other) = (self.waiting.remove(&one), self.waiting.remove(&other));
        self.waiting.extend(of_one.map(|all| (other, all)));
        self.waiting.extend(of_other.map(|all| (one, all)));
        for (_, db, _) in &mut self.deadlines {
            *db = match *db {
                db if db == one => other,
                db if db == other => one,
                db => db,
            };
        }
    }

    /// Bytes allocated, about.
    pub fn allocated(&self) -> usize {
        let keys = self.deadlines.iter().map(|(_, _, key)| 2 * key.len()).sum::<usize>();
        self.deadlines.capacity() * size_of::<(Time, Db, Box<[u8]>)>()
            + self.waiting.values().map(HashMap::allocation_size).sum::<usize>()
            + keys
    }
}

/// How long one waits for the other.
pub fn wait(tombstone_ttl: Millis, now: Time) -> Time {
    now.after(tombstone_ttl).unwrap_or(now)
}

#[cfg(test)]
#[path = "companions_tests.rs"]
mod tests;
