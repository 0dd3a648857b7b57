//! What operators have set for namespaces (CACHE.NAMESPACE): a table of names.
//!
//! Guarantees:
//! - Bounded: [`MOST`] names of at most [`LONGEST_NAME`] bytes. Whoever may set
//!   them cannot make it grow without end.
//! - What is in it is [sound](Settings::is_sound), wherever it came from: no
//!   SET that names no time is ever refused for its namespace's.
//! - A name of which nothing is set is not in it.
//!
//! Of all databases, and not of their data: a flush leaves it as it is.
//!
//! Not here: what becomes of it. [`Settings::defaults`] goes to the decisions
//! about writes, [`Settings::protection`] to the table of leases; MAXMEMORY and
//! POLICY are for who evicts.
//!
//! When you add a setting: a field here and in `saved_settings`, an option in
//! `request_namespace`, a line in CACHE.NAMESPACE GET.

use hashbrown::HashMap;
use xxhash_rust::xxh3::Xxh3DefaultBuilder;

use crate::adaptive::Bounds;
use crate::origin::Protection;
use crate::times::Defaults;
use crate::units::{block, Millis};

/// Namespaces that may have settings. As many as are told apart in the leases'
/// counters; who has more kinds of things than that sets defaults in his
/// programs.
pub const MOST: usize = 1000;
/// The longest name of one, in bytes.
pub const LONGEST_NAME: usize = 1024;
/// The longest time that may be set: 2^46 ms, some 2,200 years. Two of them
/// after any now that comes are still times that an entry can carry.
pub const LONGEST: Millis = Millis(1 << 46);
/// The largest number that may be set: the replies' integers have a sign.
pub const LARGEST: u64 = i64::MAX as u64;

/// How a namespace's entries are chosen for eviction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// `cost`: cheapest to lose first.
    #[default]
    Cost,
    /// `lru`: longest unused first.
    Lru,
    /// `none`: never.
    None,
}

impl Policy {
    /// All of them.
    pub const ALL: [Policy; 3] = [Policy::Cost, Policy::Lru, Policy::None];

    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Policy::Cost => "cost",
            Policy::Lru => "lru",
            Policy::None => "none",
        }
    }

    /// The policy that a word names.
    pub fn read(word: &[u8]) -> Option<Policy> {
        Policy::ALL.into_iter().find(|policy| word.eq_ignore_ascii_case(policy.word().as_bytes()))
    }
}

/// When an origin gets a rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// The share of failures, 1 to 100.
    pub percent: u32,
    /// The rest.
    pub cooldown: Millis,
}

/// What is set for a namespace; zero and `None`: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `MAXMEMORY`, in bytes.
    pub max_memory: u64,
    /// `TTL`: the fresh length where SET names none.
    pub ttl: Millis,
    /// `GRACE`: the grace, likewise.
    pub grace: Millis,
    /// `EXAUTO`: the bounds of an adaptive length, likewise.
    pub exauto: Option<Bounds>,
    /// `MAXFILLS`: FETCH leases at once.
    pub max_fills: u64,
    /// `BREAKER`.
    pub breaker: Option<Breaker>,
    /// `POLICY`.
    pub policy: Option<Policy>,
}

/// What `CACHE.NAMESPACE SET` names; `None`: left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// `MAXMEMORY`.
    pub max_memory: Option<u64>,
    /// `TTL`.
    pub ttl: Option<Millis>,
    /// `GRACE`.
    pub grace: Option<Millis>,
    /// `EXAUTO`.
    pub exauto: Option<Option<Bounds>>,
    /// `MAXFILLS`.
    pub max_fills: Option<u64>,
    /// `BREAKER`.
    pub breaker: Option<Option<Breaker>>,
    /// `POLICY`.
    pub policy: Option<Option<Policy>>,
}

impl Settings {
    /// Whether anything is set.
    pub fn is_any(&self) -> bool {
        *self != Settings::default()
    }

    /// Whether every value is one that may be set.
    pub fn is_sound(&self) -> bool {
        let within = |time: Millis| time <= LONGEST;
        self.max_memory <= LARGEST
            && self.max_fills <= LARGEST
            && within(self.ttl)
            && within(self.grace)
            && self.breaker.is_none_or(|Breaker { percent, cooldown }| {
                (1..=100).contains(&percent) && Millis::ZERO < cooldown && within(cooldown)
            })
    }

    /// These settings with what is named changed.
    pub fn with(self, changes: &Changes) -> Settings {
        Settings {
            max_memory: changes.max_memory.unwrap_or(self.max_memory),
            ttl: changes.ttl.unwrap_or(self.ttl),
            grace: changes.grace.unwrap_or(self.grace),
            exauto: changes.exauto.unwrap_or(self.exauto),
            max_fills: changes.max_fills.unwrap_or(self.max_fills),
            breaker: changes.breaker.unwrap_or(self.breaker),
            policy: changes.policy.unwrap_or(self.policy),
        }
    }

    /// The times for writes that name none.
    pub fn defaults(&self) -> Defaults {
        Defaults { ttl: self.ttl, grace: self.grace, auto: self.exauto, ..Defaults::default() }
    }

    /// The protection of the origin.
    pub fn protection(&self) -> Protection {
        let (percent, cooldown) =
            self.breaker.map_or((0, Millis::ZERO), |breaker| (breaker.percent, breaker.cooldown));
        Protection { most: self.max_fills, percent, cooldown }
    }
}

/// Why settings were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsError {
    /// As many namespaces have some as may.
    TooMany,
    /// The name is longer than [`LONGEST_NAME`].
    TooLong,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Table {
    settings: HashMap<Box<[u8]>, Settings, Xxh3DefaultBuilder>,
    /// Bytes of the names.
    bytes: usize,
}

impl Table {
    /// What is set for a namespace.
    pub fn get(&self, name: &[u8]) -> Option<&Settings> {
        self.settings.get(name)
    }

    /// Sets all of a namespace, with the default nothing. Answers whether that
    /// changed anything.
    ///
    /// # Errors
    /// [`SettingsError`]; nothing is changed then.
    pub fn put(&mut self, name: &[u8], settings: Settings) -> Result<bool, SettingsError> {
        if !settings.is_any() {
            return Ok(self.remove(name));
        }
        if let Some(place) = self.settings.get_mut(name) {
            return Ok(std::mem::replace(place, settings) != settings);
        }
        if name.len() > LONGEST_NAME {
            return Err(SettingsError::TooLong);
        }
        if self.settings.len() >= MOST {
            return Err(SettingsError::TooMany);
        }
        self.bytes += block(name.len());
        self.settings.insert(name.into(), settings);
        Ok(true)
    }

    /// Unsets all of a namespace. Answers whether anything was set.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        let was = self.settings.remove_entry(name);
        if let Some((name, _)) = &was {
            self.bytes -= block(name.len());
        }
        was.is_some()
    }

    /// The namespaces and what is set for them, by name.
    pub fn all(&self) -> Vec<(&[u8], &Settings)> {
        let mut all: Vec<_> = self.settings.iter().map(|(name, settings)| (&**name, settings)).collect();
        all.sort_unstable_by_key(|(name, _)| *name);
        all
    }

    /// Whether so many more namespaces may have some.
    pub fn has_room(&self, more: usize) -> bool {
        self.settings.len().saturating_add(more) <= MOST
    }

    /// Whether nothing is set for any.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// Whether any has times for writes that name none.
    pub fn has_defaults(&self) -> bool {
        self.settings.values().any(|settings| settings.defaults() != Defaults::default())
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        self.bytes + block(self.settings.allocation_size())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const TTL: Settings = Settings {
        max_memory: 0,
        ttl: Millis(5),
        grace: Millis(0),
        exauto: None,
        max_fills: 0,
        breaker: None,
        policy: None,
    };

    #[test]
    fn what_is_named_is_set_and_the_rest_stays() {
        let changes =
            Changes { grace: Some(Millis(7)), policy: Some(Some(Policy::Lru)), ..Changes::default() };
        let set = TTL.with(&changes);
        assert_eq!(set, Settings { grace: Millis(7), policy: Some(Policy::Lru), ..TTL });
        assert_eq!(set.with(&Changes::default()), set);
        let zeros = Changes {
            max_memory: Some(0),
            ttl: Some(Millis(0)),
            grace: Some(Millis(0)),
            exauto: Some(None),
            max_fills: Some(0),
            breaker: Some(None),
            policy: Some(None),
        };
        assert!(!set.with(&zeros).is_any(), "zeros unset");
    }

    #[test]
    fn they_become_defaults_and_protection() {
        let exauto = Bounds::new(1, 2);
        let breaker = Some(Breaker { percent: 50, cooldown: Millis(9) });
        let set = Settings { exauto, breaker, max_fills: 3, grace: Millis(4), ..TTL };
        assert_eq!(
            set.defaults(),
            Defaults { ttl: Millis(5), grace: Millis(4), auto: exauto, ..Defaults::default() }
        );
        assert_eq!(set.protection(), Protection { most: 3, percent: 50, cooldown: Millis(9) });
        assert_eq!(Settings::default().defaults(), Defaults::default());
        assert_eq!(Settings::default().protection(), Protection::default());
    }

    #[test]
    fn what_no_operator_can_set_is_not_sound() {
        let breaker = |percent, cooldown| Some(Breaker { percent, cooldown: Millis(cooldown) });
        let past = LONGEST.0 + 1;
        assert!(TTL.is_sound() && Settings::default().is_sound());
        for unsound in [
            Settings { max_memory: LARGEST + 1, ..TTL },
            Settings { max_fills: LARGEST + 1, ..TTL },
            Settings { ttl: Millis(past), ..TTL },
            Settings { grace: Millis(past), ..TTL },
            Settings { breaker: breaker(0, 1), ..TTL },
            Settings { breaker: breaker(101, 1), ..TTL },
            Settings { breaker: breaker(50, 0), ..TTL },
            Settings { breaker: breaker(50, past), ..TTL },
        ] {
            assert!(!unsound.is_sound(), "{unsound:?}");
        }
    }

    #[test]
    fn it_is_bounded() {
        let mut table = Table::default();
        assert_eq!(table.put(&[b'n'; LONGEST_NAME], TTL), Ok(true));
        assert_eq!(table.put(&[b'n'; LONGEST_NAME + 1], TTL), Err(SettingsError::TooLong));
        for n in 1..MOST {
            assert_eq!(table.put(&n.to_be_bytes(), TTL), Ok(true));
        }
        assert!(table.has_room(0) && !table.has_room(1) && !table.has_room(usize::MAX));
        assert_eq!(table.put(b"another", TTL), Err(SettingsError::TooMany));
        assert_eq!(table.put(b"another", Settings::default()), Ok(false), "nothing to be kept");
        assert_eq!(table.put(&1usize.to_be_bytes(), Settings { ttl: Millis(6), ..TTL }), Ok(true));
        assert!(table.remove(&1usize.to_be_bytes()) && !table.remove(&1usize.to_be_bytes()));
        assert_eq!(table.put(b"another", TTL), Ok(true), "room again");
        for (name, _) in table.all().into_iter().map(|(name, _)| (name.to_vec(), ())).collect::<Vec<_>>() {
            assert!(table.remove(&name));
        }
        assert!(table.is_empty() && table.bytes == 0);
    }

    fn settings() -> impl Strategy<Value = Settings> {
        (0u64..3, 0u64..3, 0u64..3).prop_map(|(ttl, max_fills, max_memory)| Settings {
            ttl: Millis(ttl),
            max_fills,
            max_memory,
            ..Settings::default()
        })
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_what_was_put(
            steps in proptest::collection::vec((0u8..6, proptest::option::of(settings())), 0..60),
        ) {
            let (mut table, mut model) = (Table::default(), BTreeMap::new());
            for (name, put) in steps {
                let name = [name];
                let was = model.get(&name).copied().unwrap_or_default();
                let is = put.unwrap_or_default();
                let changed = match put {
                    Some(settings) => table.put(&name, settings).expect("room"),
                    None => table.remove(&name),
                };
                prop_assert_eq!(changed, was != is);
                model.insert(name, is);
                model.retain(|_, settings| settings.is_any());
                prop_assert_eq!(table.get(&name), model.get(&name));
                let all: Vec<(&[u8], &Settings)> = model.iter().map(|(name, of)| (&name[..], of)).collect();
                prop_assert_eq!(table.all(), all);
                prop_assert_eq!(table.has_defaults(), model.values().any(|of| of.ttl > Millis::ZERO));
                prop_assert_eq!(table.is_empty(), model.is_empty());
            }
        }
    }
}
