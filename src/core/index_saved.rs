//! What is saved of the index: what was invalidated when. The entries bring
//! the rest themselves, settled. Tags that are tombstones no more and still
//! carried are saved too: RENAME compares with them, and has to come out the
//! same on a replica that was loaded from this.

use super::*;
use crate::units::Millis;

/// When something was invalidated, by name, to be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalidated<'a> {
    /// The database.
    pub db: Db,
    /// A namespace, not a tag.
    pub namespace: bool,
    /// Its name.
    pub name: &'a [u8],
    /// When.
    pub stamps: Stamps,
}

impl Index {
    /// Everything that is remembered of invalidations, namespaces first, then
    /// tags by age. Walks all tags: for who saves.
    pub fn invalidated(&self) -> impl Iterator<Item = Invalidated<'_>> {
        let namespaces = self.databases.iter().enumerate().flat_map(|(db, database)| {
            let ever = database.namespaces.iter().filter(|namespace| namespace.stamps.last() > Stamp(0));
            ever.map(move |namespace| Invalidated {
                db,
                namespace: true,
                name: &namespace.name,
                stamps: namespace.stamps,
            })
        });
        let mut tags: Vec<&Tag> = self.tags.iter().map(|(_, tag)| tag).collect();
        tags.retain(|tag| tag.stamps.last() > Stamp(0));
        tags.sort_by_key(|tag| tag.stamps.last());
        let tags = tags.into_iter().filter_map(|tag| {
            let db = self.holder(tag.space)?;
            Some(Invalidated { db, namespace: false, name: &tag.name, stamps: tag.stamps })
        });
        namespaces.chain(tags)
    }

    /// Remembers an invalidation that was saved. The entries that it concerns
    /// have yet to come, as a rule; of those that are there (another node tells of
    /// its invalidations before it brings a slot) it leaves what was born later.
    /// Looks at all members of the tag then, and at all entries for a namespace;
    /// but not where one is known here that is no more than `spare` older: the
    /// same, for it was sent to both, and what arrives is judged with as much to
    /// spare (`decide::arrived`).
    pub fn remember(&mut self, saved: Invalidated<'_>, spare: Millis, entries: &mut impl Entries) {
        let Invalidated { db, namespace, name, stamps } = saved;
        for (mode, stamp) in [(Mode::Hard, stamps.hard), (Mode::Soft, stamps.soft)] {
            match (namespace, mode) {
                _ if stamp == Stamp(0) => {}
                (false, mode) => self.remember_tag(db, name, mode, stamp, spare, entries),
                (true, Mode::Hard) => self.remember_namespace(db, name, stamp, spare, entries),
                (true, Mode::Soft) => self.invalidate_namespace_quietly(db, name, stamp, mode),
            }
        }
    }

    fn remember_tag(
        &mut self,
        db: Db,
        name: &[u8],
        mode: Mode,
        stamp: Stamp,
        spare: Millis,
        entries: &mut impl Entries,
    ) {
        let space = self.space(db);
        let id = self.find(space, name);
        let tag = id.and_then(|id| self.tags.get(id));
        let mut younger: Vec<Slot> = Vec::new();
        if let Some(tag) = tag {
            let is_any = !tag.members.is_empty() || tag.natives() > 0;
            if mode == Mode::Hard && is_any && is_known(tag.stamps.hard, stamp, spare) {
                return;
            }
            let slots = &self.databases[db].slots;
            let born = |slot| slots.get(slot).map(|handle| View::new(entries.bytes(handle)).born());
            // Softly, entries stay among the members.
            let members = tag.members.iter().filter(|_| mode == Mode::Hard);
            let all = members.chain(tag.natives.iter().flat_map(|natives| natives.iter()));
            younger.extend(all.filter(|slot| born(*slot).is_some_and(|born| born >= stamp)));
        }
        self.invalidate_tag(db, name, stamp, mode);
        for slot in younger {
            let Some(handle) = self.databases[db].slots.get(slot) else { continue };
            let bytes = entries.bytes_mut(handle);
            let which = View::new(bytes).tags().position(|other| Some(other) == id);
            if let Some(which) = which {
                self.join(db, slot, bytes, which);
            }
        }
    }

    fn remember_namespace(
        &mut self,
        db: Db,
        name: &[u8],
        stamp: Stamp,
        spare: Millis,
        entries: &impl Entries,
    ) {
        let number = self.namespace_number(db, name);
        let database = self.database(db);
        let Some(namespace) = database.namespaces.get(usize::from(number)) else { return };
        let mut younger = 0;
        if namespace.entries > 0 {
            if is_known(namespace.stamps.hard, stamp, spare) {
                return;
            }
            let views = database.slots.iter().map(|(_, handle)| View::new(entries.bytes(handle)));
            let own = views.filter(|view| view.namespace() == number);
            let least = stamp.max(namespace.stamps.hard);
            younger = own.filter(|view| view.born() >= least).count() as u64;
        }
        self.invalidate_namespace_quietly(db, name, stamp, Mode::Hard);
        if let Some(namespace) = self.database(db).namespace_mut(number) {
            namespace.entries += younger;
            namespace.doomed -= younger;
        }
    }

    fn invalidate_namespace_quietly(&mut self, db: Db, name: &[u8], stamp: Stamp, mode: Mode) {
        self.invalidate_namespace(db, name, stamp, mode);
        if let Some(tally) = self.tally_of(db, name) {
            tally.invalidations -= 1;
        }
    }

    /// Raises the low-water mark to one that was saved.
    pub fn raise_low_water(&mut self, to: Stamp) {
        self.low_water = self.low_water.max(to);
    }
}

/// Whether one that is told of is one that is known, or older.
fn is_known(known: Stamp, told: Stamp, spare: Millis) -> bool {
    let spare = spare.0.saturating_mul(1000);
    told <= known || (known > Stamp(0) && told.0 <= known.0.saturating_add(spare))
}
