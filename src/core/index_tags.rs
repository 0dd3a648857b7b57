//! Tags: their numbers, their invalidation, and how they are forgotten.

use std::hint::black_box;

use super::*;

/// Room for tombstones that is not worth giving back.
const SMALL: usize = 1024;

impl Stamps {
    /// The last one that kills.
    pub(super) fn fatal(&self, companion: bool) -> Stamp {
        if companion {
            self.last()
        } else {
            self.hard
        }
    }
}

impl Tag {
    /// Where the membership of an entry is noted, or of a companion.
    pub(super) fn of(&mut self, companion: bool) -> &mut Segments<Slot> {
        if companion {
            self.natives.get_or_insert_with(Box::default)
        } else {
            &mut self.members
        }
    }

    pub(super) fn natives(&self) -> usize {
        self.natives.as_ref().map_or(0, |natives| natives.len())
    }

    /// Bytes that its members take.
    pub(super) fn allocated(&self) -> usize {
        let natives = self.natives.as_ref();
        let natives = natives.map_or(0, |all| block(size_of::<Segments<Slot>>()) + all.allocated());
        self.members.allocated() + natives
    }
}

impl Index {
    /// The number of a tag, made if need be; whoever asks refers to it until
    /// [`Index::release`].
    pub fn intern(&mut self, db: Db, name: &[u8]) -> TagId {
        let space = self.space(db);
        let id = self.find(space, name).unwrap_or_else(|| {
            let own = TagName::from_slice(name);
            self.tag_bytes += apart(&own);
            let id = self.tags.insert(Tag {
                space,
                name: own,
                stamps: Stamps::default(),
                refs: 0,
                queued: false,
                members: Segments::default(),
                natives: None,
            });
            let tags = &self.tags;
            self.names.insert(space, name, id, |id| {
                tags.get(id).map_or((0, &[][..]), |tag| (tag.space, &tag.name))
            });
            id
        });
        if let Some(tag) = self.tags.get_mut(id) {
            tag.refs += 1;
        }
        id
    }

    /// As [`Index::intern`], of several: what it has to look at it fetches for
    /// all of them at once, for a million tags are in no cache, and then waits
    /// once for each step and not for each tag.
    pub fn intern_all<'a>(
        &mut self,
        db: Db,
        names: impl Iterator<Item = &'a [u8]> + Clone,
        mut each: impl FnMut(TagId),
    ) {
        let space = self.space(db);
        let likely: SmallVec<[Option<TagId>; 8]> =
            names.clone().map(|name| self.names.likely(space, name)).collect();
        // Loads of which nothing depends: the processor goes on meanwhile.
        for id in likely.iter().flatten() {
            black_box(self.tags.get(*id).map(|tag| (tag.name.first(), tag.members.len())));
        }
        for (name, likely) in names.zip(likely) {
            let known = likely.and_then(|id| self.tags.get_mut(id).map(|tag| (id, tag)));
            match known.filter(|(_, tag)| tag.space == space && tag.name[..] == *name) {
                Some((id, tag)) => {
                    tag.refs += 1;
                    each(id);
                }
                None => each(self.intern(db, name)),
            }
        }
    }

    /// Where the next member of a tag is going to be noted, as a rule: for who
    /// has it fetched before [`Index::attach`].
    #[inline]
    pub fn members_end(&self, id: TagId) -> *const Slot {
        self.tags.get(id).map_or(std::ptr::null(), |tag| tag.members.end())
    }

    /// Refers to a tag once more.
    pub fn retain(&mut self, id: TagId) {
        if let Some(tag) = self.tags.get_mut(id) {
            tag.refs += 1;
        }
    }

    /// Lets go of a tag; the last one who does makes it forgotten.
    pub fn release(&mut self, id: TagId) {
        let Some(tag) = self.tags.get_mut(id) else { return };
        tag.refs -= 1;
        if tag.refs > 0 {
            return;
        }
        if let Some(tag) = self.tags.remove(id) {
            self.tag_bytes -= apart(&tag.name) + tag.allocated();
            let tags = &self.tags;
            self.names.remove(tag.space, &tag.name, id, |id| {
                tags.get(id).map_or((0, &[][..]), |tag| (tag.space, &tag.name))
            });
        }
    }

    pub(super) fn find(&self, space: Space, name: &[u8]) -> Option<TagId> {
        self.names.find(space, name, |id| {
            self.tags.get(id).is_some_and(|tag| tag.space == space && tag.name[..] == *name)
        })
    }

    /// A tag's name.
    pub fn name(&self, id: TagId) -> Option<&[u8]> {
        self.tags.get(id).map(|tag| &*tag.name)
    }

    /// Whether a tag is one of this database's.
    pub fn is_of(&self, id: TagId, db: Db) -> bool {
        let space = self.databases.get(db).map(|database| database.space);
        self.tags.get(id).is_some_and(|tag| Some(tag.space) == space)
    }

    /// When a tag was last invalidated; `None` where nothing is known of it,
    /// for which [`Index::low_water`] answers.
    pub fn stamps(&self, db: Db, name: &[u8]) -> Option<Stamps> {
        self.find(self.databases.get(db)?.space, name).and_then(|id| self.tags.get(id)).map(|tag| tag.stamps)
    }

    /// The stamp of the last invalidation of anything: who was born at it or
    /// later is untouched by any.
    pub fn latest(&self) -> Stamp {
        self.latest
    }

    /// Nothing is known of invalidations up to this stamp that no tag
    /// remembers.
    pub fn low_water(&self) -> Stamp {
        self.low_water
    }

    pub(super) fn set_stamps(&mut self, id: TagId, stamps: Stamps) {
        self.latest = self.latest.max(stamps.last());
        let Some(tag) = self.tags.get_mut(id) else { return };
        tag.stamps.raise(Mode::Hard, stamps.hard);
        tag.stamps.raise(Mode::Soft, stamps.soft);
        if !tag.queued {
            tag.queued = true;
            tag.refs += 1;
            self.tombstones.push_back(id);
        }
    }

    /// Where the companions lie that carry a tag and that nothing has killed yet. Ask
    /// before [`Index::invalidate_tag`], which takes them away.
    pub fn natives(&self, db: Db, name: &[u8], entries: &impl Entries) -> Vec<Slot> {
        let Some(database) = self.databases.get(db) else { return Vec::new() };
        let tag = self.find(database.space, name).and_then(|id| self.tags.get(id));
        let Some(natives) = tag.and_then(|tag| tag.natives.as_deref()) else { return Vec::new() };
        let lives = |slot: &Slot| {
            let handle = database.slots.get(*slot);
            handle.is_some_and(|handle| {
                self.verdict(db, View::new(entries.bytes(handle))) == Verdict::Untouched
            })
        };
        natives.iter().filter(lives).collect()
    }

    /// How many companions carry a tag.
    pub fn natives_of(&self, db: Db, name: &[u8]) -> usize {
        let id = self.databases.get(db).and_then(|database| self.find(database.space, name));
        id.and_then(|id| self.tags.get(id)).map_or(0, Tag::natives)
    }

    /// Invalidates a tag; answers how many memberships it hit.
    pub fn invalidate_tag(&mut self, db: Db, name: &[u8], stamp: Stamp, mode: Mode) -> u64 {
        let (space, id) = (self.space(db), self.intern(db, name));
        let mut stamps = Stamps::default();
        stamps.raise(mode, stamp);
        self.set_stamps(id, stamps);
        let Some(tag) = self.tags.get_mut(id) else { return 0 };
        let (entries, natives) = (tag.members.len(), tag.natives());
        let before = tag.allocated();
        let mut taken = tag.natives.take().map(|all| *all).into_iter().collect::<SmallVec<[_; 2]>>();
        if mode == Mode::Hard {
            taken.push(std::mem::take(&mut tag.members));
        } else if entries > 0 {
            tag.refs += 1;
            self.jobs.push_back(Job::Soft { tag: id, left: entries });
        }
        self.tag_bytes -= before - tag.allocated();
        self.backlog += entries + natives;
        for members in taken {
            self.databases[db].memberships -= members.len() as u64;
            if !members.is_empty() {
                self.jobs.push_back(Job::Members { space, members });
            }
        }
        self.release(id);
        (entries + natives) as u64
    }

    /// Forgets invalidations older than `before`, and the oldest past `most`;
    /// looks at no more than `steps` of them. What an entry still carries
    /// stays.
    pub fn forget(&mut self, before: Stamp, most: usize, steps: usize) {
        for _ in 0..steps {
            let Some(&id) = self.tombstones.front() else { return };
            let young = self.tags.get(id).is_some_and(|tag| tag.stamps.last() >= before);
            if young && self.tombstones.len() <= most {
                // Invalidated again since it was put there? Then it goes to
                // the end, and those behind it get their turn.
                return self.tombstones.rotate_left(usize::from(self.front_is_out_of_order()));
            }
            self.tombstones.pop_front();
            if self.tombstones.capacity() > SMALL && self.tombstones.len() * 4 <= self.tombstones.capacity() {
                self.tombstones.shrink_to(self.tombstones.len() * 2);
            }
            if let Some(tag) = self.tags.get_mut(id) {
                tag.queued = false;
                // Even where somebody still refers to it: a flush would lose it.
                self.low_water = self.low_water.max(tag.stamps.last());
            }
            self.release(id);
        }
    }

    fn front_is_out_of_order(&self) -> bool {
        let last =
            |i: usize| self.tombstones.get(i).and_then(|&id| self.tags.get(id)).map(|tag| tag.stamps.last());
        match (last(0), last(1)) {
            (Some(first), Some(second)) => first > second,
            _ => false,
        }
    }
}
