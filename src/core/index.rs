//! The index of a shard: which entries a database has, which tags they carry,
//! what was invalidated when.
//!
//! Guarantees:
//! - An invalidation costs the look-up of its name, whatever it hits. What it
//!   hit is dead (or stale) from then on, because every read compares birth
//!   and stamp ([`Index::verdict`]), and not because anything was removed.
//! - Dead entries are handed out for removal one by one ([`Index::sweep`]).
//! - Leaving costs O(tags of the entry): an entry knows where its memberships
//!   stand.
//!
//! Not here: entries' memory (reached through [`Entries`]), keys, time.
//!
//! # Memberships
//! A tag's vector holds the slots of its entries, an entry's pair holds the
//! tag's number and the position in that vector. A membership stands in the
//! vector exactly while the tag's hard stamp is older than the entry's birth:
//! a hard invalidation takes the whole vector away for the sweep to work off.
//! The vector taken away may come to hold slots that others were given
//! meanwhile; the sweep looks whether what it finds is dead.
//!
//! # Spaces
//! What a database holds is a space, and tags belong to a space. SWAPDB
//! exchanges the spaces of two databases, FLUSHDB gives one a new space: the
//! entries of the old one may be freed later by another thread, and still hold
//! the numbers of its tags.
//!
//! # The life of a tag
//! It is there while somebody refers to it: an entry's memory that carries its
//! number (in the index or not, [`Index::intern`], [`Index::release`]), a
//! sweep, or the queue of tombstones, which holds each invalidated tag for a
//! time; when it leaves the queue the low-water mark rises to its last stamp.
//! When the last lets go it is forgotten. Whoever asks about a time before the
//! mark is told that it is not known.
//!
//! When you change what holds between the parts, change [`Index::validate`].

use std::collections::VecDeque;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use crate::entry::{self, TagId, View, NO_POSITION};
use crate::names::Names;
use crate::segments::Segments;
use crate::slab::Slab;
use crate::slots::{Handle, Slot, Slots};
use crate::units::Stamp;

/// The memory of entries.
pub trait Entries {
    /// An entry's bytes. The caller guarantees a handle that is in the index.
    fn bytes(&self, handle: Handle) -> &[u8];
    /// An entry's bytes, to change.
    fn bytes_mut(&mut self, handle: Handle) -> &mut [u8];
}

/// What a database holds, by number; the number stays with it in SWAPDB.
type Space = u32;
/// A database, as SELECT numbers it.
pub type Db = usize;

/// How an invalidation works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Entries die.
    Hard,
    /// Entries become stale.
    Soft,
}

/// When a tag or a namespace was last invalidated; 0: never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamps {
    /// Hard.
    pub hard: Stamp,
    /// Soft.
    pub soft: Stamp,
}

impl Stamps {
    fn raise(&mut self, mode: Mode, stamp: Stamp) {
        let place = match mode {
            Mode::Hard => &mut self.hard,
            Mode::Soft => &mut self.soft,
        };
        *place = (*place).max(stamp);
    }

    /// The later of both.
    pub fn last(&self) -> Stamp {
        self.hard.max(self.soft)
    }
}

/// What the invalidations since its birth have made of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Untouched,
    /// Stale since then.
    Stale(Stamp),
    /// Dead.
    Dead,
}

#[derive(Debug)]
struct Tag {
    space: Space,
    name: Box<[u8]>,
    stamps: Stamps,
    /// Whoever refers to it, see the module's text.
    refs: u32,
    /// In the queue of tombstones.
    queued: bool,
    members: Segments<Slot>,
}

#[derive(Debug, Default)]
struct Namespace {
    name: Box<[u8]>,
    stamps: Stamps,
    /// Its entries that no hard invalidation of it has killed.
    entries: u64,
    /// Those that one has, and that are not removed yet.
    doomed: u64,
}

#[derive(Debug)]
struct Database {
    space: Space,
    slots: Slots,
    memberships: u64,
    /// Number 0 is nobody's: of entries past the number of namespaces.
    namespaces: Vec<Namespace>,
    numbers: HashTable<u16>,
}

impl Database {
    fn new(space: Space) -> Database {
        let namespaces = vec![Namespace::default()];
        Database { space, slots: Slots::default(), memberships: 0, namespaces, numbers: HashTable::new() }
    }

    fn find_namespace(&self, name: &[u8]) -> Option<u16> {
        let bears = |&number: &u16| *self.namespaces[usize::from(number)].name == *name;
        self.numbers.find(xxh3_64(name), bears).copied()
    }

    /// The number of a namespace, made if need be; 0 where no more are told
    /// apart.
    fn namespace_number(&mut self, name: &[u8]) -> u16 {
        if let Some(number) = self.find_namespace(name) {
            return number;
        }
        if self.namespaces.len() >= MOST_NAMESPACES {
            return 0;
        }
        // Below MOST_NAMESPACES.
        let number = self.namespaces.len() as u16;
        self.namespaces.push(Namespace { name: name.into(), ..Namespace::default() });
        let namespaces = &self.namespaces;
        self.numbers.insert_unique(xxh3_64(name), number, |&n| xxh3_64(&namespaces[usize::from(n)].name));
        number
    }

    fn namespace_mut(&mut self, number: u16) -> Option<&mut Namespace> {
        self.namespaces.get_mut(usize::from(number))
    }
}

impl Namespace {
    /// The count that an entry born then belongs to.
    fn count_of(&mut self, born: Stamp) -> &mut u64 {
        if self.stamps.hard > born {
            &mut self.doomed
        } else {
            &mut self.entries
        }
    }
}

/// Namespaces that a database tells apart.
const MOST_NAMESPACES: usize = u16::MAX as usize;

#[derive(Debug)]
enum Job {
    /// The members that a hard invalidation took away.
    Members { space: Space, members: Segments<Slot> },
    /// The members of a softly invalidated tag, from the last down.
    Soft { tag: TagId, left: usize },
    /// Every slot, for the entries of a namespace, from the last down.
    Namespace { space: Space, namespace: u16, left: usize },
}

/// What the sweep hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// This entry is dead: remove its key.
    Remove(Db, Handle),
    /// This one has become stale: tell its watchers.
    Tell(Db, Handle),
    /// Nothing this time; go on.
    Nothing,
    /// There is nothing left to do.
    Done,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Index {
    databases: Vec<Database>,
    last_space: Space,
    tags: Slab<Tag>,
    names: Names,
    jobs: VecDeque<Job>,
    /// What the jobs have yet to look at, at most.
    backlog: usize,
    tombstones: VecDeque<TagId>,
    low_water: Stamp,
}

impl Index {
    fn new_space(&mut self) -> Space {
        self.last_space += 1;
        self.last_space
    }

    fn database(&mut self, db: Db) -> &mut Database {
        while self.databases.len() <= db {
            let space = self.new_space();
            self.databases.push(Database::new(space));
        }
        &mut self.databases[db]
    }

    fn space(&mut self, db: Db) -> Space {
        self.database(db).space
    }

    fn holder(&self, space: Space) -> Option<Db> {
        self.databases.iter().position(|database| database.space == space)
    }

    /// SWAPDB.
    pub fn swap(&mut self, one: Db, other: Db) {
        self.database(one.max(other));
        self.databases.swap(one, other);
    }

    /// FLUSHDB: forgets the entries of a database, not what was invalidated.
    /// Costs what there are of namespaces and tombstones.
    pub fn flush(&mut self, db: Db) {
        let new = self.new_space();
        let database = self.database(db);
        let old = std::mem::replace(&mut database.space, new);
        database.slots = Slots::default();
        database.memberships = 0;
        for namespace in &mut database.namespaces {
            namespace.entries = 0;
            namespace.doomed = 0;
        }
        // Tombstones live on in the new space. Those of the old one, and its
        // other tags, go with the last memory that carries their number.
        let stones: Vec<TagId> = self.tombstones.iter().copied().collect();
        for id in stones {
            let Some(tag) = self.tags.get(id).filter(|tag| tag.space == old) else { continue };
            let (name, stamps) = (tag.name.clone(), tag.stamps);
            let twin = self.intern(db, &name);
            self.set_stamps(twin, stamps);
            self.release(twin);
        }
        for job in std::mem::take(&mut self.jobs) {
            let of = match &job {
                Job::Members { space, .. } | Job::Namespace { space, .. } => Some(*space),
                Job::Soft { tag, .. } => self.tags.get(*tag).map(|tag| tag.space),
            };
            if of == Some(old) {
                self.finish(&job);
            } else {
                self.jobs.push_back(job);
            }
        }
    }

    // ── namespaces ──────────────────────────────────────────────────────────

    /// When a namespace was last invalidated. Those that are told apart from
    /// no other share their stamps, so that too much is refused, not too
    /// little.
    pub fn namespace_stamps(&self, db: Db, name: &[u8]) -> Stamps {
        let Some(database) = self.databases.get(db) else { return Stamps::default() };
        let number = database.find_namespace(name).unwrap_or(0);
        database.namespaces.get(usize::from(number)).map(|namespace| namespace.stamps).unwrap_or_default()
    }

    /// Invalidates a namespace; answers how many entries it hit.
    pub fn invalidate_namespace(&mut self, db: Db, name: &[u8], stamp: Stamp, mode: Mode) -> u64 {
        let database = self.database(db);
        let (space, left, number) =
            (database.space, database.slots.extent(), database.namespace_number(name));
        let Some(namespace) = database.namespace_mut(number) else { return 0 };
        namespace.stamps.raise(mode, stamp);
        let hit = namespace.entries;
        if mode == Mode::Hard {
            namespace.doomed += hit;
            namespace.entries = 0;
        }
        if hit > 0 {
            self.backlog += left;
            self.jobs.push_back(Job::Namespace { space, namespace: number, left });
        }
        hit
    }

    // ── entries ─────────────────────────────────────────────────────────────

    /// What the invalidations since its birth have made of an entry that lies
    /// in `db`.
    #[inline]
    pub fn verdict(&self, db: Db, entry: View<'_>) -> Verdict {
        if entry.is_marked_dead() {
            return Verdict::Dead;
        }
        let born = entry.born();
        let mut soft: Option<Stamp> = None;
        let namespaces = self.databases.get(db).map(|database| &database.namespaces);
        let namespace = namespaces.and_then(|all| all.get(usize::from(entry.namespace())));
        let tags = entry.tags().filter_map(|id| self.tags.get(id)).map(|tag| tag.stamps);
        for stamps in namespace.map(|namespace| namespace.stamps).into_iter().chain(tags) {
            if stamps.hard > born {
                return Verdict::Dead;
            }
            if stamps.soft > born {
                soft = Some(soft.map_or(stamps.soft, |earlier| earlier.min(stamps.soft)));
            }
        }
        soft.map_or(Verdict::Untouched, Verdict::Stale)
    }

    /// Takes an entry in: a slot, its namespace, a membership in each of its
    /// tags, which must be this database's. One that is dead already is queued
    /// for the sweep. False, with nothing done, where no slot is left.
    pub fn attach(&mut self, db: Db, handle: Handle, namespace: &[u8], entries: &mut impl Entries) -> bool {
        let database = self.database(db);
        let Some(slot) = database.slots.insert(handle) else { return false };
        let number = database.namespace_number(namespace);
        let bytes = entries.bytes_mut(handle);
        entry::set_slot(bytes, slot);
        entry::set_namespace(bytes, number);
        let view = View::new(bytes);
        let (born, count) = (view.born(), view.tags().len());
        if let Some(namespace) = database.namespace_mut(number) {
            *namespace.count_of(born) += 1;
        }
        let dead = self.verdict(db, view) == Verdict::Dead;
        for i in 0..count {
            let id = View::new(entries.bytes(handle)).tags().nth(i);
            let Some(tag) = id.and_then(|id| self.tags.get_mut(id)) else { continue };
            if tag.stamps.hard > born {
                continue;
            }
            // Slots are u32, and a vector holds each at most once.
            let position = tag.members.len() as u32;
            tag.members.push(slot);
            entry::set_position(entries.bytes_mut(handle), i, position);
            self.databases[db].memberships += 1;
        }
        if dead {
            self.queue(db, slot);
        }
        true
    }

    /// Queues one entry for the sweep.
    fn queue(&mut self, db: Db, slot: Slot) {
        self.backlog += 1;
        let of = self.space(db);
        match self.jobs.back_mut() {
            Some(Job::Members { space, members }) if *space == of => members.push(slot),
            _ => {
                let mut members = Segments::default();
                members.push(slot);
                self.jobs.push_back(Job::Members { space: of, members });
            }
        }
    }

    /// Whether an entry is in the index, under this handle.
    pub fn holds(&self, db: Db, handle: Handle, entry: View<'_>) -> bool {
        self.databases.get(db).and_then(|database| database.slots.get(entry.slot())) == Some(handle)
    }

    /// Lets an entry go. It keeps the numbers of its tags.
    pub fn detach(&mut self, db: Db, handle: Handle, entries: &mut impl Entries) {
        let view = View::new(entries.bytes(handle));
        if !self.holds(db, handle, view) {
            return;
        }
        let (slot, number, born, count) = (view.slot(), view.namespace(), view.born(), view.tags().len());
        let database = &mut self.databases[db];
        database.slots.remove(slot);
        if let Some(namespace) = database.namespace_mut(number) {
            *namespace.count_of(born) -= 1;
        }
        for i in 0..count {
            let view = View::new(entries.bytes(handle));
            let (Some(id), position) = (view.tags().nth(i), view.position(i)) else { continue };
            entry::set_position(entries.bytes_mut(handle), i, NO_POSITION);
            let Some(tag) = self.tags.get_mut(id) else { continue };
            // Taken away by an invalidation: the vector is another by now.
            if position == NO_POSITION || tag.stamps.hard > born {
                continue;
            }
            database.memberships -= 1;
            let moved = tag.members.swap_remove(position as usize);
            let Some(other) = moved.and_then(|slot| database.slots.get(slot)) else { continue };
            let which = View::new(entries.bytes(other)).tags().position(|other| other == id);
            if let Some(which) = which {
                entry::set_position(entries.bytes_mut(other), which, position);
            }
        }
        entry::set_slot(entries.bytes_mut(handle), 0);
    }

    /// Puts a new entry in the place of one of the same name, keeping the slot:
    /// the short way for entries without tags. False, with nothing done, where
    /// it is not for these: detach and attach them.
    pub fn succeed(&mut self, db: Db, old: Handle, new: Handle, entries: &mut impl Entries) -> bool {
        let (view, next) = (View::new(entries.bytes(old)), View::new(entries.bytes(new)));
        let (slot, number, born, reborn) = (view.slot(), view.namespace(), view.born(), next.born());
        let untagged = view.tags().len() == 0 && next.tags().len() == 0;
        if !untagged || next.is_marked_dead() || !self.holds(db, old, view) {
            return false;
        }
        let database = &mut self.databases[db];
        let hard = database.namespaces.get(usize::from(number)).map(|namespace| namespace.stamps.hard);
        if hard.is_some_and(|hard| hard > reborn) {
            return false;
        }
        database.slots.relocate(slot, new);
        let bytes = entries.bytes_mut(new);
        entry::set_slot(bytes, slot);
        entry::set_namespace(bytes, number);
        if let Some(namespace) = database.namespace_mut(number) {
            *namespace.count_of(born) -= 1;
            *namespace.count_of(reborn) += 1;
        }
        entry::set_slot(entries.bytes_mut(old), 0);
        true
    }

    /// Tells that an entry's memory has moved; its bytes are the same.
    pub fn relocate(&mut self, db: Db, slot: Slot, to: Handle) -> bool {
        self.databases.get_mut(db).is_some_and(|database| database.slots.relocate(slot, to))
    }
}

#[path = "index_look.rs"]
mod look;
#[path = "index_sweep.rs"]
mod sweep;
#[path = "index_tags.rs"]
mod tags;

pub use look::Counts;

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
