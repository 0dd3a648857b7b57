//! Who is evicted how, and what a namespace may hold: the rules that
//! namespaces have, kept with their numbers.

use super::*;
use crate::settings::{Policy, Table};

/// What is ruled for a namespace, in all databases together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// How its entries are evicted; `None`: as others are.
    pub policy: Option<Policy>,
    /// Bytes that they may take; 0: no limit of its own.
    pub most: u64,
}

/// The number of a limit; 0 is none.
pub type Share = u16;

/// A namespace with a limit.
#[derive(Debug)]
struct Limited {
    most: u64,
    places: SmallVec<[(Db, u16); 1]>,
}

/// The rules, and where they hold.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: hashbrown::HashMap<Box<[u8]>, (Rule, Share), xxhash_rust::xxh3::Xxh3DefaultBuilder>,
    limited: Vec<Limited>,
}

/// What a rule makes of a namespace of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ruled {
    policy: Option<Policy>,
    share: Share,
}

impl Rules {
    /// Takes note of a namespace that has come to be, and says what is ruled.
    fn found(&mut self, db: Db, number: u16, name: &[u8]) -> Ruled {
        let Some(&(rule, share)) = self.rules.get(name) else { return Ruled::default() };
        if let Some(limited) = share.checked_sub(1).and_then(|at| self.limited.get_mut(usize::from(at))) {
            limited.places.push((db, number));
        }
        Ruled { policy: rule.policy, share }
    }
}

impl Index {
    /// The number of a namespace of a database, which is made if need be.
    pub(super) fn namespace_number(&mut self, db: Db, name: &[u8]) -> u16 {
        let most = usize::from(self.most_namespaces.0);
        let database = self.database(db);
        let known = database.namespaces.len();
        let number = database.namespace_number(name, most);
        if usize::from(number) >= known {
            let ruled = self.rules.found(db, number, name);
            if let Some(namespace) = self.databases[db].namespace_mut(number) {
                namespace.ruled = ruled;
            }
        }
        number
    }

    /// Has these settings hold in place of those that did. Walks the namespaces.
    pub fn rule(&mut self, settings: &Table) {
        self.rules = Rules::default();
        for (name, settings) in settings.all() {
            let rule = Rule { policy: settings.policy, most: settings.max_memory };
            if rule == Rule::default() {
                continue;
            }
            let mut share = 0;
            if rule.most > 0 {
                self.rules.limited.push(Limited { most: rule.most, places: SmallVec::new() });
                // Fewer may have settings than there are numbers.
                share = Share::try_from(self.rules.limited.len()).unwrap_or(0);
            }
            self.rules.rules.insert(name.into(), (rule, share));
        }
        self.apply_rules();
    }

    /// Has the namespaces of all databases know what is ruled for them.
    pub(super) fn apply_rules(&mut self) {
        self.rules.limited.iter_mut().for_each(|limited| limited.places.clear());
        for (db, database) in self.databases.iter_mut().enumerate() {
            for (number, namespace) in (0..).zip(&mut database.namespaces).skip(1) {
                namespace.ruled = self.rules.found(db, number, &namespace.name);
            }
        }
    }

    /// The limit that holds for a namespace.
    #[inline]
    pub fn share_of(&self, db: Db, number: u16) -> Share {
        self.ruled(db, number).share
    }

    /// How entries of a namespace are evicted, if that is ruled, and their limit.
    #[inline]
    pub fn rules_of(&self, db: Db, number: u16) -> (Option<Policy>, Share) {
        let ruled = self.ruled(db, number);
        (ruled.policy, ruled.share)
    }

    #[inline]
    fn ruled(&self, db: Db, number: u16) -> Ruled {
        let database = self.databases.get(db);
        database
            .and_then(|database| database.namespaces.get(usize::from(number)))
            .map_or(Ruled::default(), |n| n.ruled)
    }

    /// The limit that holds for a namespace by its name, in whatever database.
    pub fn share_of_name(&self, name: &[u8]) -> Share {
        self.rules.rules.get(name).map_or(0, |&(_, share)| share)
    }

    /// Limits there are: 1 to this.
    pub fn shares(&self) -> Share {
        Share::try_from(self.rules.limited.len()).unwrap_or(Share::MAX)
    }

    /// What a limit is, and what is held under it now.
    pub fn share(&self, share: Share) -> Option<(u64, u64)> {
        let limited = self.rules.limited.get(usize::from(share.checked_sub(1)?))?;
        let held = limited
            .places
            .iter()
            .filter_map(|&(db, number)| {
                let database = self.databases.get(db)?;
                Some(self.bytes_of(database, database.namespaces.get(usize::from(number))?))
            })
            .sum();
        Some((limited.most, held))
    }

    /// Slots of a database, the free ones included.
    pub fn slots(&self, db: Db) -> usize {
        self.databases.get(db).map_or(0, |database| database.slots.extent())
    }

    /// Where a slot lies: see [`crate::slots::Slots::place_of`].
    #[inline]
    pub fn place_of(&self, db: Db, slot: Slot) -> Option<&u64> {
        self.databases.get(db)?.slots.place_of(slot)
    }

    /// The entry in a slot.
    #[inline]
    pub fn at(&self, db: Db, slot: Slot) -> Option<Handle> {
        self.databases.get(db)?.slots.get(slot)
    }
}
