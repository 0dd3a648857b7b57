//! Looking at the index: counts, lists, and the proof that it is whole.

use super::*;
use crate::entry::Cost;
use crate::units::block;

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries, those included that are dead and not removed yet.
    pub entries: u64,
    /// Companions: native keys that carry tags, none of them an entry.
    pub companions: u64,
    /// Tags that entries carry or that were invalidated.
    pub tags: u64,
    /// Memberships that no hard invalidation has ended.
    pub memberships: u64,
    /// Invalidated tags that are remembered.
    pub tombstones: u64,
    /// What the sweep has yet to look at, at most.
    pub backlog: u64,
}

/// A namespace, looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceView {
    /// Its entries that no invalidation of it has killed.
    pub entries: u64,
    /// Bytes that its entries take, dead or alive, in the server and here.
    pub bytes: u64,
    /// What is counted of it.
    pub tally: Tally,
}

/// What the cursors of a tag's companions begin with: past every position.
const PAST: u64 = 1 << 32;

fn at_most(cursor: u64, many: usize) -> usize {
    usize::try_from(cursor).map_or(many, |cursor| cursor.min(many))
}

impl Index {
    /// A namespace of a database, in case there is one of that name.
    pub fn namespace(&self, db: Db, name: &[u8]) -> Option<NamespaceView> {
        let database = self.databases.get(db)?;
        let namespace = database.namespaces.get(usize::from(database.find_namespace(name)?))?;
        Some(self.view(database, namespace))
    }

    /// The namespace that those share which are told apart from no other.
    pub fn shared(&self, db: Db) -> Option<NamespaceView> {
        let database = self.databases.get(db)?;
        database.namespaces.first().map(|namespace| self.view(database, namespace))
    }

    fn view(&self, database: &Database, namespace: &Namespace) -> NamespaceView {
        let bytes = self.bytes_of(database, namespace);
        NamespaceView { entries: namespace.entries, bytes, tally: namespace.tally }
    }

    /// The counters of the namespace that an entry bears the number of.
    #[inline]
    pub fn tally(&mut self, db: Db, number: u16) -> Option<&mut Tally> {
        self.databases.get_mut(db)?.namespace_mut(number).map(|namespace| &mut namespace.tally)
    }

    /// The counters of a namespace by its name, in case there is one, or those that it
    /// shares.
    pub fn tally_of(&mut self, db: Db, name: &[u8]) -> Option<&mut Tally> {
        let database = self.databases.get(db)?;
        let number = database.find_namespace(name).or(database.crowded.then_some(0))?;
        self.tally(db, number)
    }

    /// Each namespace that is told apart, of each database. Walks them.
    pub fn each_namespace(&self, mut each: impl FnMut(&[u8], NamespaceView)) {
        for database in &self.databases {
            // The first is no namespace: it stands for those that share.
            for namespace in database.namespaces.iter().skip(1) {
                each(&namespace.name, self.view(database, namespace));
            }
        }
    }

    /// Values the reads of all namespaces that wait for it, by what is `typical` of
    /// each. Walks the namespaces.
    pub fn settle(&mut self, mut typical: impl FnMut(&[u8]) -> Cost) {
        for database in &mut self.databases {
            for (number, namespace) in database.namespaces.iter_mut().enumerate() {
                if namespace.tally.is_unsettled() {
                    let shared = number == 0;
                    namespace.tally.settle(if shared { Cost(0) } else { typical(&namespace.name) });
                }
            }
        }
    }

    /// What is counted of all namespaces. Walks them.
    pub fn tallies(&self) -> Tally {
        let all = self.databases.iter().flat_map(|database| &database.namespaces);
        all.fold(Tally::default(), |sum, namespace| sum.plus(&namespace.tally))
    }

    /// Counts of all namespaces anew.
    pub fn reset_tallies(&mut self) {
        let all = self.databases.iter_mut().flat_map(|database| &mut database.namespaces);
        all.for_each(|namespace| namespace.tally = Tally::default());
    }

    /// Entries in all databases.
    pub fn entries(&self) -> usize {
        self.databases.iter().map(|database| database.slots.len() - database.companions).sum()
    }

    /// Whether any native key is tagged.
    #[inline]
    pub fn has_companions(&self) -> bool {
        self.databases.iter().any(|database| database.companions > 0)
    }

    /// How much there is, in all databases.
    pub fn counts(&self) -> Counts {
        Counts {
            entries: self.entries() as u64,
            companions: self.databases.iter().map(|database| database.companions as u64).sum(),
            tags: self.tags.len() as u64,
            memberships: self.databases.iter().map(|database| database.memberships).sum(),
            tombstones: self.tombstones.len() as u64,
            backlog: self.backlog as u64,
        }
    }

    /// Bytes allocated for the index, what the entries hold aside. Costs what
    /// there are of databases and sweeps.
    pub fn allocated(&self) -> usize {
        let databases: usize = self
            .databases
            .iter()
            .map(|database| {
                database.slots.allocated()
                    + database.name_bytes
                    + block(database.namespaces.capacity() * size_of::<Namespace>())
                    + block(database.numbers.allocation_size())
            })
            .sum();
        let jobs: usize = self
            .jobs
            .iter()
            .map(|job| match job {
                Job::Members { members, .. } => members.allocated(),
                Job::Soft { .. } | Job::Namespace { .. } => 0,
            })
            .sum();
        self.tag_bytes
            + databases
            + jobs
            + block(self.jobs.capacity() * size_of::<Job>())
            + self.tags.allocated()
            + self.names.allocated()
            + block(self.tombstones.capacity() * size_of::<TagId>())
    }

    /// Some of a database's tags that entries carry, with their counts, from a
    /// cursor on (0: the start); answers the next cursor (0: the end). A tag
    /// that is there throughout is told at least once.
    pub fn list_tags(&self, db: Db, cursor: u64, steps: usize, mut each: impl FnMut(&[u8], usize)) -> u64 {
        let Some(space) = self.databases.get(db).map(|database| database.space) else { return 0 };
        let Ok(first) = u32::try_from(cursor) else { return 0 };
        let end = u32::try_from(steps).map_or(u32::MAX, |steps| first.saturating_add(steps));
        let end = end.min(self.tags.extent());
        for id in first..end {
            let Some(tag) = self.tags.get(id).filter(|tag| tag.space == space) else { continue };
            let members = tag.members.len() + tag.natives();
            if members > 0 {
                each(&tag.name, members);
            }
        }
        if end >= self.tags.extent() {
            0
        } else {
            u64::from(end)
        }
    }

    /// Some of a tag's members, from a cursor on, likewise: from the last
    /// member down, since a member that leaves is replaced by the last; its
    /// companions first, whose cursors lie past all positions.
    pub fn list_members(
        &self,
        db: Db,
        name: &[u8],
        cursor: u64,
        steps: usize,
        mut each: impl FnMut(Handle),
    ) -> u64 {
        let Some(database) = self.databases.get(db) else { return 0 };
        let Some(tag) = self.find(database.space, name).and_then(|id| self.tags.get(id)) else { return 0 };
        let natives = tag.natives.as_deref();
        let (members, base, from) = match natives {
            Some(natives) if cursor == 0 => (natives, PAST, natives.len()),
            Some(natives) if cursor > PAST => (natives, PAST, at_most(cursor - PAST, natives.len())),
            // All companions have been told, or there are none any more.
            _ if cursor == 0 || cursor >= PAST => (&tag.members, 0, tag.members.len()),
            _ => (&tag.members, 0, at_most(cursor, tag.members.len())),
        };
        let to = from.saturating_sub(steps);
        for i in (to..from).rev() {
            if let Some(handle) = members.get(i).and_then(|slot| database.slots.get(slot)) {
                each(handle);
            }
        }
        match to as u64 {
            0 if base == PAST && tag.members.is_empty() => 0,
            to => base + to,
        }
    }

    /// All entries of a database.
    pub fn handles(&self, db: Db) -> impl Iterator<Item = Handle> + '_ {
        self.databases
            .get(db)
            .into_iter()
            .flat_map(|database| database.slots.iter().map(|(_, handle)| handle))
    }

    /// Databases that were ever spoken of.
    pub fn extent(&self) -> Db {
        self.databases.len()
    }

    /// What is wrong between the index and the entries it holds: every
    /// membership in both directions, every count anew. Walks everything.
    pub fn validate(&self, entries: &impl Entries) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |holds: bool, what: &dyn Fn() -> String| {
            if !holds {
                problems.push(what());
            }
        };
        for (db, database) in self.databases.iter().enumerate() {
            let (mut memberships, mut counts) = (0, vec![(0, 0); database.namespaces.len()]);
            let (mut held, mut all) = (vec![Held::default(); database.namespaces.len()], Held::default());
            let (mut walked, mut companions) = (0, 0);
            for (slot, handle) in database.slots.iter() {
                walked += 1;
                let view = View::new(entries.bytes(handle));
                expect(view.slot() == slot, &|| {
                    format!("db {db} slot {slot}: its entry says {}", view.slot())
                });
                companions += usize::from(view.is_companion());
                match database.namespaces.get(usize::from(view.namespace())) {
                    None if view.is_companion() => all.add(Held::of(view, &self.footprint)),
                    None => expect(false, &|| format!("db {db} slot {slot}: no such namespace")),
                    Some(namespace) => {
                        held[usize::from(view.namespace())].add(Held::of(view, &self.footprint));
                        let count = &mut counts[usize::from(view.namespace())];
                        *if namespace.stamps.hard > view.born() { &mut count.1 } else { &mut count.0 } += 1;
                    }
                }
                for (i, id) in view.tags().enumerate() {
                    let Some(tag) = self.tags.get(id) else {
                        expect(false, &|| format!("db {db} slot {slot}: tag {id} is unknown"));
                        continue;
                    };
                    expect(tag.space == database.space, &|| {
                        format!("db {db} slot {slot}: tag {id} is of another database")
                    });
                    let members =
                        if view.is_companion() { tag.natives.as_deref() } else { Some(&tag.members) };
                    let stands = members.and_then(|all| all.get(view.position(i) as usize)) == Some(slot);
                    let should = tag.stamps.fatal(view.is_companion()) <= view.born();
                    memberships += u64::from(should);
                    expect(!should || stands, &|| {
                        format!("db {db} slot {slot}: not among the members of tag {id}")
                    });
                }
            }
            expect(walked == database.slots.len(), &|| {
                format!("db {db}: {walked} entries, not {}", database.slots.len())
            });
            expect(companions == database.companions, &|| {
                format!("db {db}: {companions} companions, not {}", database.companions)
            });
            expect(memberships == database.memberships, &|| {
                format!("db {db}: {memberships} memberships, not {}", database.memberships)
            });
            held.iter().for_each(|&one| all.add(one));
            expect(all == database.held, &|| format!("db {db}: holds {all:?}, not {:?}", database.held));
            for (number, (namespace, held)) in database.namespaces.iter().zip(held).enumerate() {
                expect(held == namespace.held, &|| {
                    format!("db {db} namespace {number}: holds {held:?}, not {:?}", namespace.held)
                });
            }
            for (number, (namespace, count)) in database.namespaces.iter().zip(counts).enumerate() {
                expect((namespace.entries, namespace.doomed) == count, &|| {
                    format!(
                        "db {db} namespace {number}: {count:?}, not {:?}",
                        (namespace.entries, namespace.doomed)
                    )
                });
            }
        }
        for (id, tag) in self.tags.iter() {
            expect(tag.refs > 0, &|| format!("tag {id}: nobody refers to it"));
            expect(self.find(tag.space, &tag.name) == Some(id), &|| {
                format!("tag {id}: not found by its name")
            });
            let Some(db) = self.holder(tag.space) else { continue };
            let natives = tag.natives.iter().flat_map(|natives| natives.iter()).enumerate();
            let members = tag.members.iter().enumerate().map(|member| (false, member));
            for (companion, (position, slot)) in members.chain(natives.map(|native| (true, native))) {
                let entry = self.databases[db].slots.get(slot).map(|handle| View::new(entries.bytes(handle)));
                let stands = entry.is_some_and(|view| {
                    let knows = |(i, of)| of == id && view.position(i) as usize == position;
                    view.is_companion() == companion && view.tags().enumerate().any(knows)
                });
                expect(stands, &|| format!("tag {id}: member {position} (slot {slot}) does not know of it"));
            }
        }
        let bytes: usize = self.tags.iter().map(|(_, tag)| apart(&tag.name) + tag.allocated()).sum();
        expect(bytes == self.tag_bytes, &|| format!("tags hold {bytes} bytes, not {}", self.tag_bytes));
        let queued = self.tags.iter().filter(|(_, tag)| tag.queued).count();
        expect(queued == self.tombstones.len(), &|| {
            format!("{queued} tags say they are tombstones, {} are queued", self.tombstones.len())
        });
        problems
    }
}
