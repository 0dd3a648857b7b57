//! Entries: what invalidations have made of them, and how they come into the
//! index and leave it.

use super::*;

impl Index {
    /// What the invalidations since its birth have made of an entry that lies
    /// in `db`.
    #[inline]
    pub fn verdict(&self, db: Db, entry: View<'_>) -> Verdict {
        if entry.is_marked_dead() {
            return Verdict::Dead;
        }
        if entry.born() >= self.latest {
            return Verdict::Untouched;
        }
        self.verdict_by_stamps(db, entry)
    }

    fn verdict_by_stamps(&self, db: Db, entry: View<'_>) -> Verdict {
        let (born, companion) = (entry.born(), entry.is_companion());
        let mut soft: Option<Stamp> = None;
        let namespaces = self.databases.get(db).map(|database| &database.namespaces);
        let namespace = namespaces.and_then(|all| all.get(usize::from(entry.namespace())));
        let tags = entry.tags().filter_map(|id| self.tags.get(id)).map(|tag| tag.stamps);
        for stamps in namespace.map(|namespace| namespace.stamps).into_iter().chain(tags) {
            if stamps.fatal(companion) > born {
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
        let footprint = self.footprint;
        let companion = View::new(entries.bytes(handle)).is_companion();
        let number = if companion { entry::COMPANION } else { self.namespace_number(db, namespace) };
        let database = self.database(db);
        let Some(slot) = database.slots.insert(handle) else { return false };
        database.companions += usize::from(companion);
        let bytes = entries.bytes_mut(handle);
        entry::set_slot(bytes, slot);
        entry::set_namespace(bytes, number);
        let view = View::new(bytes);
        let (born, count) = (view.born(), view.tags().len());
        if let Some(namespace) = database.namespace_mut(number) {
            *namespace.count_of(born) += 1;
        }
        database.came(number, Held::of(view, &footprint));
        let dead = self.verdict(db, view) == Verdict::Dead;
        let bytes = entries.bytes_mut(handle);
        for i in 0..count {
            self.join(db, slot, bytes, i);
        }
        if dead {
            self.queue(db, slot);
        }
        true
    }

    /// Notes an entry among the members of its i-th tag, if no invalidation of that
    /// has killed it.
    pub(super) fn join(&mut self, db: Db, slot: Slot, bytes: &mut [u8], i: usize) {
        let view = View::new(bytes);
        let (id, born, companion) = (view.tag(i), view.born(), view.is_companion());
        let Some(tag) = id.and_then(|id| self.tags.get_mut(id)) else { return };
        if tag.stamps.fatal(companion) > born {
            return;
        }
        let before = tag.allocated();
        let members = tag.of(companion);
        // Slots are u32, and a vector holds each at most once.
        let position = members.len() as u32;
        members.push(slot);
        self.tag_bytes += tag.allocated() - before;
        entry::set_position(bytes, i, position);
        self.databases[db].memberships += 1;
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
        let companion = view.is_companion();
        let database = &mut self.databases[db];
        database.went(number, Held::of(view, &self.footprint));
        database.slots.remove(slot);
        database.companions -= usize::from(companion);
        if let Some(namespace) = database.namespace_mut(number) {
            *namespace.count_of(born) -= 1;
        }
        for i in 0..count {
            let view = View::new(entries.bytes(handle));
            let (Some(id), position) = (view.tag(i), view.position(i)) else { continue };
            entry::set_position(entries.bytes_mut(handle), i, NO_POSITION);
            let Some(tag) = self.tags.get_mut(id) else { continue };
            // Taken away by an invalidation: the vector is another by now.
            if position == NO_POSITION || tag.stamps.fatal(companion) > born {
                continue;
            }
            database.memberships -= 1;
            let before = tag.allocated();
            let moved = tag.of(companion).swap_remove(position as usize);
            if tag.natives() == 0 {
                tag.natives = None;
            }
            self.tag_bytes -= before - tag.allocated();
            let Some(other) = moved.and_then(|slot| database.slots.get(slot)) else { continue };
            let which = View::new(entries.bytes(other)).tags().position(|other| other == id);
            if let Some(which) = which {
                entry::set_position(entries.bytes_mut(other), which, position);
            }
        }
        entry::set_slot(entries.bytes_mut(handle), 0);
    }

    /// Puts a new entry in the place of one of the same name and the same tags
    /// (a refill), keeping its slot and its memberships. False, with nothing
    /// done, where it is not for these: detach and attach them.
    pub fn succeed(&mut self, db: Db, old: Handle, new: Handle, entries: &mut impl Entries) -> bool {
        let (bytes, from) = entries.both(new, old);
        let (view, next) = (View::new(from), View::new(bytes));
        let (slot, number, born, reborn) = (view.slot(), view.namespace(), view.born(), next.born());
        let agree = entry::tags_agree(view, next) && view.is_companion() == next.is_companion();
        if next.is_marked_dead() || !self.holds(db, old, view) || !agree {
            return false;
        }
        // Standing before and after: a membership that was taken away, or that
        // the new one must not have, is not handed on.
        let least = born.min(reborn);
        let database = &mut self.databases[db];
        if least < self.latest {
            let companion = view.is_companion();
            let stands = |id| self.tags.get(id).is_some_and(|tag| tag.stamps.fatal(companion) <= least);
            let hard = database.namespaces.get(usize::from(number)).map(|namespace| namespace.stamps.hard);
            if !view.tags().all(stands) || hard.is_some_and(|hard| hard > reborn) {
                return false;
            }
        }
        database.slots.relocate(slot, new);
        // A refill of the same size: name and tags are the same as well.
        if view.size() != next.size() || view.is_timed() != next.is_timed() {
            database.went(number, Held::of(view, &self.footprint));
            database.came(number, Held::of(next, &self.footprint));
        }
        if let Some(namespace) = database.namespace_mut(number) {
            *namespace.count_of(born) -= 1;
            *namespace.count_of(reborn) += 1;
        }
        entry::take_positions(bytes, from);
        entry::set_slot(bytes, slot);
        entry::set_namespace(bytes, number);
        entry::set_slot(entries.bytes_mut(old), 0);
        true
    }

    /// Tells that an entry's memory has moved; its bytes are the same.
    pub fn relocate(&mut self, db: Db, slot: Slot, to: Handle) -> bool {
        self.databases.get_mut(db).is_some_and(|database| database.slots.relocate(slot, to))
    }
}
