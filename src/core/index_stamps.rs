//! Invalidations of namespaces, and the last one that a key is to be compared with.

use super::*;

impl Index {
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
        let number = self.namespace_number(db, name);
        let database = self.database(db);
        let (space, left) = (database.space, database.slots.extent());
        let Some(namespace) = database.namespace_mut(number) else { return 0 };
        namespace.stamps.raise(mode, stamp);
        let hit = namespace.entries;
        namespace.tally.invalidations += 1;
        namespace.tally.invalidated += hit;
        if mode == Mode::Hard {
            namespace.doomed += hit;
            namespace.entries = 0;
        }
        if hit > 0 {
            self.backlog += left;
            self.jobs.push_back(Job::Namespace { space, namespace: number, left });
        }
        self.latest = self.latest.max(stamp);
        hit
    }

    /// The last stamp of anything that an entry of this name and these tags
    /// would be compared with, were it in `db`.
    pub fn last_stamp<'a>(&self, db: Db, namespace: &[u8], tags: impl Iterator<Item = &'a [u8]>) -> Stamp {
        let tags = tags.filter_map(|tag| self.stamps(db, tag)).map(|stamps| stamps.last());
        tags.fold(self.namespace_stamps(db, namespace).last(), Stamp::max)
    }

    /// The last invalidation, hard or soft, of a key's namespace, or of a tag of
    /// the entry that lies there which came after its birth.
    pub fn invalidated_at(&self, db: Db, namespace: &[u8], entry: Option<View<'_>>) -> Stamp {
        if self.latest == Stamp(0) {
            return Stamp(0);
        }
        let mut last = self.namespace_stamps(db, namespace).last();
        if let Some(view) = entry {
            let born = view.born();
            let tags = view.tags().filter_map(|id| self.tags.get(id)).map(|tag| tag.stamps.last());
            last = tags.filter(|stamp| *stamp > born).fold(last, Stamp::max);
        }
        last
    }
}
