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
//! # Companions
//! The companion of a native key ([`crate::companion`]) is taken in like an entry
//! and is none: no namespace counts or kills it, and a soft invalidation kills it as
//! a hard one does, for a native key cannot be stale. A tag notes it in a vector of
//! its own, so that whoever invalidates finds the native keys ([`Index::natives`]),
//! which go at once; the companions are left to the sweep.
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
use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64;

use crate::entry::{self, TagId, View, NO_POSITION};
use crate::footprint::Footprint;
use crate::names::Names;
use crate::segments::Segments;
use crate::slab::Slab;
use crate::slots::{Handle, Slot, Slots};
use crate::tally::Tally;
use crate::units::{block, Stamp};

use budget::{Ruled, Rules};
use held::Held;

/// The memory of entries.
pub trait Entries {
    /// An entry's bytes. The caller guarantees a handle that is in the index.
    fn bytes(&self, handle: Handle) -> &[u8];
    /// An entry's bytes, to change.
    fn bytes_mut(&mut self, handle: Handle) -> &mut [u8];
    /// The bytes of one entry, to change, and those of another.
    fn both(&mut self, one: Handle, other: Handle) -> (&mut [u8], &[u8]);
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
    name: TagName,
    stamps: Stamps,
    /// Whoever refers to it, see the module's text.
    refs: u32,
    /// In the queue of tombstones.
    queued: bool,
    members: Segments<Slot>,
    /// Companions among its members: the native keys that carry it. Most tags have
    /// none, and no room for them.
    natives: Option<Box<Segments<Slot>>>,
}

/// A tag's name: a short one in place, so that a look-up need not fetch it.
type TagName = SmallVec<[u8; 16]>;

/// Bytes that a name takes beside its place.
fn apart(name: &TagName) -> usize {
    if name.spilled() {
        block(name.capacity())
    } else {
        0
    }
}

#[derive(Debug, Default)]
struct Namespace {
    name: Box<[u8]>,
    stamps: Stamps,
    tally: Tally,
    /// Its entries that no hard invalidation of it has killed.
    entries: u64,
    /// Those that one has, and that are not removed yet.
    doomed: u64,
    /// What they all take, dead or alive.
    held: Held,
    /// How they are evicted, and under which limit.
    ruled: Ruled,
}

#[derive(Debug)]
struct Database {
    space: Space,
    slots: Slots,
    /// How many of those are companions.
    companions: usize,
    memberships: u64,
    /// What all its entries take.
    held: Held,
    /// Number 0 is nobody's: of entries past the number of namespaces.
    namespaces: Vec<Namespace>,
    /// Some share number 0: none of them can be told apart any more.
    crowded: bool,
    numbers: HashTable<u16>,
    /// Bytes of the namespaces' names.
    name_bytes: usize,
}

impl Database {
    fn new(space: Space) -> Database {
        let namespaces = vec![Namespace::default()];
        Database {
            space,
            slots: Slots::default(),
            companions: 0,
            memberships: 0,
            held: Held::default(),
            namespaces,
            crowded: false,
            numbers: HashTable::new(),
            name_bytes: 0,
        }
    }

    fn find_namespace(&self, name: &[u8]) -> Option<u16> {
        let bears = |&number: &u16| *self.namespaces[usize::from(number)].name == *name;
        self.numbers.find(xxh3_64(name), bears).copied()
    }

    /// The number of a namespace, made if need be; 0 where no more are told
    /// apart.
    fn namespace_number(&mut self, name: &[u8], most: usize) -> u16 {
        if let Some(number) = self.find_namespace(name) {
            return number;
        }
        // One is nobody's.
        if self.crowded || self.namespaces.len() > most {
            self.crowded = true;
            return 0;
        }
        // At most MOST_NAMESPACES.
        let number = self.namespaces.len() as u16;
        self.name_bytes += block(name.len());
        // It may have been one of those that shared, and was invalidated as such.
        let stamps = self.namespaces[0].stamps;
        self.namespaces.push(Namespace { name: name.into(), stamps, ..Namespace::default() });
        let namespaces = &self.namespaces;
        self.numbers.insert_unique(xxh3_64(name), number, |&n| xxh3_64(&namespaces[usize::from(n)].name));
        number
    }

    /// An entry comes, or one of those that are there changes its bytes.
    fn came(&mut self, number: u16, one: Held) {
        self.held.add(one);
        if let Some(namespace) = self.namespace_mut(number) {
            namespace.held.add(one);
        }
    }

    fn went(&mut self, number: u16, one: Held) {
        self.held.take(one);
        if let Some(namespace) = self.namespace_mut(number) {
            namespace.held.take(one);
        }
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

/// Namespaces that a database can tell apart.
pub const MOST_NAMESPACES: u16 = u16::MAX - 1;

#[derive(Debug)]
struct MostNamespaces(u16);

impl Default for MostNamespaces {
    fn default() -> Self {
        MostNamespaces(MOST_NAMESPACES)
    }
}

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
    /// The next entry has to be removed by another.
    Wait,
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
    /// Bytes of the tags' names and of their members.
    tag_bytes: usize,
    /// The last invalidation of anything: who was born after it is untouched.
    latest: Stamp,
    /// How bytes are counted.
    footprint: Footprint,
    /// What is ruled for namespaces.
    rules: Rules,
    /// Namespaces that a database tells apart.
    most_namespaces: MostNamespaces,
}

impl Index {
    /// Has bytes counted as the server allocates them. Before any entry comes.
    pub fn measure_by(&mut self, footprint: Footprint) {
        self.footprint = footprint;
    }

    /// Has a database tell so many namespaces apart; those that it does already it
    /// goes on to, and those that share a number go on to until it is empty.
    pub fn tell_apart(&mut self, most: u16) {
        self.most_namespaces = MostNamespaces(most.min(MOST_NAMESPACES));
    }

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
        self.apply_rules();
    }

    /// Forgets the entries of a database, looking at none, as if they had never
    /// come; they keep their numbers and may come again. Unlike
    /// [`Index::flush`] it keeps the space: their tags stay theirs. Walks all
    /// tags: for who repairs.
    pub fn disown(&mut self, db: Db) {
        let space = self.space(db);
        self.empty(db);
        for id in 0..self.tags.extent() {
            if let Some(tag) = self.tags.get_mut(id).filter(|tag| tag.space == space) {
                self.tag_bytes -= tag.allocated();
                (tag.members, tag.natives) = (Segments::default(), None);
            }
        }
        self.end_jobs(space);
    }

    fn empty(&mut self, db: Db) {
        let database = self.database(db);
        database.slots = Slots::default();
        database.companions = 0;
        database.memberships = 0;
        database.held = Held::default();
        database.crowded = false;
        for namespace in &mut database.namespaces {
            namespace.held = Held::default();
            namespace.entries = 0;
            namespace.doomed = 0;
        }
    }

    fn end_jobs(&mut self, of: Space) {
        for job in std::mem::take(&mut self.jobs) {
            let space = match &job {
                Job::Members { space, .. } | Job::Namespace { space, .. } => Some(*space),
                Job::Soft { tag, .. } => self.tags.get(*tag).map(|tag| tag.space),
            };
            if space == Some(of) {
                self.finish(&job);
            } else {
                self.jobs.push_back(job);
            }
        }
    }

    /// FLUSHDB: forgets the entries of a database, not what was invalidated.
    /// Costs what there are of namespaces and tombstones.
    pub fn flush(&mut self, db: Db) {
        let new = self.new_space();
        let database = self.database(db);
        let old = std::mem::replace(&mut database.space, new);
        self.empty(db);
        // Tombstones move to the new space, each to a twin in its place of the
        // queue. What they were in the old one, and its other tags, go with the
        // last memory that carries their number.
        let mut stones = std::mem::take(&mut self.tombstones);
        for place in &mut stones {
            let id = *place;
            let Some(tag) = self.tags.get_mut(id).filter(|tag| tag.space == old) else { continue };
            tag.queued = false;
            let (name, stamps) = (tag.name.clone(), tag.stamps);
            *place = self.intern(db, &name);
            if let Some(twin) = self.tags.get_mut(*place) {
                twin.stamps = stamps;
                twin.queued = true;
            }
            self.release(id);
        }
        self.tombstones = stones;
        self.end_jobs(old);
    }
}

#[path = "index_budget.rs"]
mod budget;
#[path = "index_entries.rs"]
mod entries;
#[path = "index_held.rs"]
mod held;
#[path = "index_look.rs"]
mod look;
#[path = "index_saved.rs"]
mod saved;
#[path = "index_stamps.rs"]
mod stamps;
#[path = "index_sweep.rs"]
mod sweep;
#[path = "index_tags.rs"]
mod tags;

pub use budget::{Rule, Share};
pub use look::{Counts, NamespaceView};
pub use saved::Invalidated;

#[cfg(test)]
#[path = "index_shared_tests.rs"]
mod shared_tests;
#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
