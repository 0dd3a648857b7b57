//! What is saved of the index: what was invalidated when. The entries bring
//! the rest themselves, settled. Tags that are tombstones no more and still
//! carried are saved too: RENAME compares with them, and has to come out the
//! same on a replica that was loaded from this.

use super::*;

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
    /// have yet to come, or it is older than they are.
    pub fn remember(&mut self, saved: Invalidated<'_>) {
        let Invalidated { db, namespace, name, stamps } = saved;
        for (mode, stamp) in [(Mode::Hard, stamps.hard), (Mode::Soft, stamps.soft)] {
            if stamp == Stamp(0) {
                continue;
            }
            if namespace {
                self.invalidate_namespace_quietly(db, name, stamp, mode);
            } else {
                self.invalidate_tag(db, name, stamp, mode);
            }
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
