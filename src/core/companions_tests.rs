//! The rules one by one, and random sequences against a shard that keeps them the
//! naive way.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const UNTIL: Time = Time(100);
const KEY: &[u8] = b"k";

fn there(key: bool, companion: bool) -> There {
    There { key, companion }
}

#[test]
fn who_goes_takes_the_other_along() {
    let mut all = Companions::default();
    let mut at = |event, there| all.happened(0, KEY, event, there, UNTIL);
    assert_eq!(at(Event::KeyWent, there(false, true)), Remove::COMPANION);
    assert_eq!(at(Event::KeyWent, there(false, false)), Remove::NONE);
    assert_eq!(at(Event::CompanionWent, there(true, false)), Remove::KEY);
    assert_eq!(at(Event::CompanionWent, there(true, true)), Remove::NONE, "another is there");
    assert!(all.is_empty());
}

#[test]
fn all_are_warmed_in_a_pass() {
    for slots in [0, 1, 19, 20, 21, 12_345] {
        let looked_at = PASS * warmed_a_tick(slots);
        assert!((slots..slots + PASS).contains(&looked_at), "{slots}: {looked_at}");
    }
}

#[test]
fn a_companion_that_comes_first_waits() {
    let mut all = Companions::default();
    let came = Event::CompanionCame { dead: false };
    assert_eq!(all.happened(0, KEY, came, there(false, true), UNTIL), Remove::NONE);
    assert_eq!((all.next_due(Time(99)), all.waits(0, KEY)), (None, true));
    assert_eq!(all.happened(0, KEY, Event::KeyCame, there(true, true), UNTIL), Remove::NONE);
    assert_eq!((all.next_due(UNTIL), all.waits(0, KEY)), (None, false));
    all.happened(0, KEY, came, there(false, true), UNTIL);
    assert_eq!(all.next_due(UNTIL), Some((0, KEY.into())));
    assert_eq!(all.end(0, KEY, there(false, true)), Remove::COMPANION);
    assert!(all.is_empty() && all.next_due(UNTIL).is_none());
}

#[test]
fn invalidated_on_the_way() {
    let mut all = Companions::default();
    all.happened(0, KEY, Event::CompanionCame { dead: false }, there(false, true), UNTIL);
    assert_eq!(all.happened(0, KEY, Event::Invalidated, there(false, false), UNTIL), Remove::NONE);
    assert_eq!(all.happened(0, KEY, Event::KeyCame, there(true, false), UNTIL), Remove::KEY);
    let dead = Event::CompanionCame { dead: true };
    assert_eq!(all.happened(0, KEY, dead, there(false, true), UNTIL), Remove::COMPANION);
    assert_eq!(all.happened(0, KEY, Event::KeyCame, there(true, false), UNTIL), Remove::KEY);
    assert_eq!(all.happened(0, KEY, dead, there(true, true), UNTIL), Remove::BOTH);
    assert_eq!(all.happened(0, KEY, Event::KeyCame, there(true, false), UNTIL), Remove::NONE);
}

#[test]
fn invalidated_before_it_is_sent() {
    let mut all = Companions::default();
    assert_eq!(all.happened(0, KEY, Event::KeySent, there(false, true), UNTIL), Remove::NONE);
    assert_eq!(all.happened(0, KEY, Event::Invalidated, there(false, false), UNTIL), Remove::NONE);
    assert!(all.is_to_be_sent(0, KEY) && all.waits(0, KEY));
    let tags = [b"a".to_vec()];
    assert_eq!(all.happened(0, KEY, Event::CompanionSent(&tags), there(false, false), UNTIL), Remove::NONE);
    assert!(all.is_empty());
    all.happened(0, KEY, Event::KeySent, there(false, true), UNTIL);
    all.happened(0, KEY, Event::Invalidated, there(false, false), UNTIL);
    assert_eq!(all.next_due(UNTIL), Some((0, KEY.into())));
    assert_eq!(all.end(0, KEY, there(false, false)), Remove::COMPANION, "nobody sent it");
}

#[test]
fn left_behind() {
    let mut all = Companions::default();
    let tags = [b"a".to_vec(), b"b".to_vec()];
    let sent = Event::CompanionSent(&tags);
    assert_eq!(all.happened(0, KEY, sent, there(true, false), UNTIL), Remove::NONE);
    assert!(all.is_left_behind(0, KEY) && !all.waits(0, KEY));
    assert_eq!(all.left_behind(0, &[b"b", b"c"]), [KEY]);
    assert!(all.left_behind(0, &[b"c"]).is_empty() && all.left_behind(1, &[b"b"]).is_empty());
    assert_eq!(
        (all.next_due(UNTIL), all.end(0, KEY, there(true, false))),
        (Some((0, KEY.into())), Remove::KEY)
    );
    all.happened(0, KEY, sent, there(true, false), UNTIL);
    assert_eq!(all.happened(0, KEY, Event::KeyWent, there(false, false), UNTIL), Remove::NONE);
    assert!(all.left_behind(0, &[b"b"]).is_empty());
}

#[test]
fn a_payload_over_a_tagged_key_replaces_its_tags() {
    let mut all = Companions::default();
    assert_eq!(all.happened(0, KEY, Event::KeyCame, there(true, true), UNTIL), Remove::COMPANION);
}

/// A value somewhere on its way: what it is tagged with, and whether that was
/// invalidated since.
#[derive(Clone, Copy, Debug)]
enum Step {
    Tag(u8),
    Delete(u8),
    DeleteCompanion(u8),
    SendKey(u8),
    SendCompanion(u8),
    BringKey(u8),
    BringCompanion(u8),
    Invalidate,
    Time,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0u8..4;
    prop_oneof![
        key.clone().prop_map(Step::Tag),
        key.clone().prop_map(Step::Delete),
        key.clone().prop_map(Step::DeleteCompanion),
        key.clone().prop_map(Step::SendKey),
        key.clone().prop_map(Step::SendCompanion),
        key.clone().prop_map(Step::BringKey),
        key.prop_map(Step::BringCompanion),
        Just(Step::Invalidate),
        Just(Step::Time),
    ]
}

/// A server: keys by the number of the invalidation before which their value was
/// written, companions by that of their birth.
#[derive(Default)]
struct Server {
    keys: BTreeMap<u8, u64>,
    companions: BTreeMap<u8, u64>,
    invalidations: u64,
    all: Companions,
}

impl Server {
    fn there(&self, key: u8) -> There {
        there(self.keys.contains_key(&key), self.lives(key))
    }

    fn tell(&mut self, key: u8, event: Event<'_>, now: Time) {
        let remove = self.all.happened(0, &[key], event, self.there(key), Time(now.0 + 10));
        self.remove(key, remove);
    }

    fn lives(&self, key: u8) -> bool {
        self.companions.get(&key).is_some_and(|born| *born >= self.invalidations)
    }

    fn remove(&mut self, key: u8, remove: Remove) {
        if remove.key {
            self.keys.remove(&key);
        }
        if remove.companion {
            self.companions.remove(&key);
        }
    }
}

proptest! {
    /// Two servers exchange keys and companions one by one, in whatever order, and
    /// every tag is invalidated on both at once: nothing that was tagged and
    /// invalidated is found where its companion is, or after both have had time.
    #[test]
    fn nothing_tagged_outlives_its_invalidation(steps in proptest::collection::vec((any::<bool>(), step()), 0..120)) {
        let mut servers = [Server::default(), Server::default()];
        // Who is under way: taken from one server, not yet brought to the other.
        let (mut keys, mut companions) = (BTreeMap::new(), BTreeMap::new());
        let (mut now, mut invalidations) = (Time(0), 0u64);
        let tags = [b"t".to_vec()];
        for (at, step) in steps {
            let server = &mut servers[usize::from(at)];
            match step {
                Step::Tag(key) if !keys.contains_key(&key) && !companions.contains_key(&key) => {
                    server.keys.insert(key, invalidations);
                    server.companions.insert(key, invalidations);
                }
                Step::Tag(_) => {}
                Step::Delete(key) => {
                    if server.keys.remove(&key).is_some() {
                        server.tell(key, Event::KeyWent, now);
                    }
                }
                Step::DeleteCompanion(key) => {
                    let lived = server.lives(key);
                    if server.companions.remove(&key).is_some() && lived {
                        server.tell(key, Event::CompanionWent, now);
                    }
                }
                Step::SendKey(key) if !keys.contains_key(&key) => {
                    if let Some(value) = server.keys.remove(&key) {
                        keys.insert(key, value);
                        server.tell(key, Event::KeySent, now);
                    }
                }
                Step::SendCompanion(key) if !companions.contains_key(&key) => {
                    let lived = server.lives(key);
                    let Some(born) = server.companions.remove(&key) else { continue };
                    companions.insert(key, born);
                    if lived {
                        server.tell(key, Event::CompanionSent(&tags), now);
                    }
                }
                Step::SendKey(_) | Step::SendCompanion(_) => {}
                Step::BringKey(key) => {
                    if let Some(value) = keys.remove(&key) {
                        server.keys.insert(key, value);
                        server.tell(key, Event::KeyCame, now);
                    }
                }
                Step::BringCompanion(key) => {
                    if let Some(born) = companions.remove(&key) {
                        server.companions.insert(key, born);
                        server.tell(key, Event::CompanionCame { dead: born < invalidations }, now);
                    }
                }
                Step::Invalidate => {
                    invalidations += 1;
                    for server in &mut servers {
                        server.invalidations = invalidations;
                        let all: Vec<u8> = server.companions.keys().copied().collect();
                        for key in all {
                            if !server.all.is_to_be_sent(0, &[key]) {
                                server.companions.remove(&key);
                            }
                            server.tell(key, Event::Invalidated, now);
                        }
                        for key in server.all.left_behind(0, &[b"t"]) {
                            server.keys.remove(&key[0]);
                            server.tell(key[0], Event::KeyWent, now);
                        }
                    }
                }
                Step::Time => {
                    now = Time(now.0 + 11);
                    for server in &mut servers {
                        let mut all = std::mem::take(&mut server.all);
                        while let Some((db, key)) = all.next_due(now) {
                            let remove = all.end(db, &key, server.there(key[0]));
                            server.remove(key[0], remove);
                        }
                        prop_assert!(all.is_empty());
                        server.all = all;
                    }
                }
            }
            for server in &servers {
                for (key, value) in &server.keys {
                    // Where the companion is, or has been a moment ago, it is heard of.
                    if let Some(born) = server.companions.get(key) {
                        prop_assert!(*value >= invalidations || *born >= invalidations);
                    }
                }
                for (key, born) in &server.companions {
                    let is_to_be_sent = server.all.is_to_be_sent(0, &[*key]);
                    prop_assert!(*born >= invalidations || is_to_be_sent, "the companion of {} is dead", key);
                }
            }
        }
    }
}
