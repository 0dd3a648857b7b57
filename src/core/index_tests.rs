//! Random sequences against a model that keeps a flat list of entries and
//! recomputes everything, each step followed by `validate`.

use super::*;
use crate::entry::{build, build_companion, Meta};
use crate::packing::Content;
use crate::units::Millis;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Entries' memory: a map.
#[derive(Default)]
struct Heap(HashMap<Handle, Box<[u8]>>);

impl Entries for Heap {
    fn bytes(&self, handle: Handle) -> &[u8] {
        &self.0[&handle]
    }
    fn bytes_mut(&mut self, handle: Handle) -> &mut [u8] {
        self.0.get_mut(&handle).expect("a live entry")
    }
    fn both(&mut self, one: Handle, other: Handle) -> (&mut [u8], &[u8]) {
        let [one, other] = self.0.get_disjoint_mut([&one, &other]);
        (one.expect("a live entry"), other.expect("a live entry"))
    }
}

type Key = (Db, u8);

/// The naive truth about an entry.
#[derive(Clone, Debug)]
struct Truth {
    born: u64,
    tags: BTreeSet<u8>,
}

#[derive(Default)]
struct World {
    index: Index,
    heap: Heap,
    next: u64,
    stamp: u64,
    keys: BTreeMap<Key, Handle>,
    truth: BTreeMap<Key, Truth>,
    /// (mode, db, tag or 100 + namespace, stamp)
    invalidations: Vec<(Mode, Db, u8, u64)>,
    /// Freed by another thread: their tags are yet to be released.
    limbo: Vec<Handle>,
}

fn namespace_of(key: u8) -> u8 {
    key % 3
}

/// Some keys are native ones, of which the index has the companions.
fn is_native(key: u8) -> bool {
    key >= 10
}

/// Whether an invalidation kills such a key, if it hits it.
fn is_fatal(mode: Mode, key: u8) -> bool {
    mode == Mode::Hard || is_native(key)
}

/// Whether an invalidation is of something that a key has.
fn is_of(what: u8, key: u8, tags: &BTreeSet<u8>) -> bool {
    tags.contains(&what) || (what == 100 + namespace_of(key) && !is_native(key))
}

impl World {
    fn tick(&mut self) -> Stamp {
        self.stamp += 1;
        Stamp(self.stamp)
    }

    fn make(&mut self, (db, key): Key, tags: &BTreeSet<u8>, born: Stamp) -> Handle {
        let (mut ids, names) = (Vec::new(), tags.iter().map(std::slice::from_ref));
        self.index.intern_all(db, names, |id| ids.push(id));
        let meta = Meta { born, ..Meta::default() };
        let bytes = if is_native(key) {
            build_companion(&meta, b"n", &ids)
        } else {
            build(&meta, b"n", Content::Plain(b"v"), &ids)
        };
        let bytes = bytes.expect("memory");
        self.next += 2;
        self.heap.0.insert(Handle(self.next), bytes);
        Handle(self.next)
    }

    fn free(&mut self, handle: Handle) {
        let bytes = self.heap.0.remove(&handle).expect("a live entry");
        for id in View::new(&bytes).tags() {
            self.index.release(id);
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(handle) = self.keys.remove(&key) {
            self.index.detach(key.0, handle, &mut self.heap);
            self.free(handle);
            self.truth.remove(&key);
        }
    }

    fn set(&mut self, key: Key, tags: BTreeSet<u8>, born: Stamp) {
        let new = self.make(key, &tags, born);
        let old = self.keys.insert(key, new);
        let succeeded = old.is_some_and(|old| self.index.succeed(key.0, old, new, &mut self.heap));
        if let Some(old) = old {
            if !succeeded {
                self.index.detach(key.0, old, &mut self.heap);
            }
            self.free(old);
        }
        if !succeeded {
            assert!(self.index.attach(key.0, new, &[namespace_of(key.1)], &mut self.heap));
        }
        self.truth.insert(key, Truth { born: born.0, tags });
    }

    /// The verdict by the list of all invalidations there ever were.
    fn naive(&self, key: Key) -> Verdict {
        let truth = &self.truth[&key];
        let mut soft: BTreeMap<u8, u64> = BTreeMap::new();
        for &(mode, db, what, stamp) in &self.invalidations {
            let hits = db == key.0 && is_of(what, key.1, &truth.tags);
            if !hits || stamp <= truth.born {
                continue;
            }
            match mode {
                _ if is_fatal(mode, key.1) => return Verdict::Dead,
                Mode::Hard => {}
                // Each remembers its last soft one.
                Mode::Soft => {
                    soft.insert(what, stamp);
                }
            }
        }
        soft.values().min().map_or(Verdict::Untouched, |stamp| Verdict::Stale(Stamp(*stamp)))
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let problems = self.index.validate(&self.heap);
        prop_assert!(problems.is_empty(), "{:?}", problems);
        for (&key, &handle) in &self.keys {
            let verdict = self.index.verdict(key.0, View::new(self.heap.bytes(handle)));
            prop_assert_eq!(verdict, self.naive(key), "{:?}", key);
        }
        let natives = self.keys.keys().filter(|key| is_native(key.1)).count();
        prop_assert_eq!(self.index.counts().entries, (self.keys.len() - natives) as u64);
        prop_assert_eq!(self.index.counts().companions, natives as u64);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Set(Key, BTreeSet<u8>),
    Restore(Key, BTreeSet<u8>, u64),
    Remove(Key),
    Invalidate(Mode, Db, u8),
    Sweep(usize),
    Forget,
    Flush(Db, bool),
    Swap,
    Limbo,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0usize..2, 0u8..12);
    let tags = || proptest::collection::btree_set(0u8..5, 0..4);
    let mode = prop_oneof![2 => Just(Mode::Hard), 1 => Just(Mode::Soft)];
    prop_oneof![
        8 => (key(), tags()).prop_map(|(key, tags)| Step::Set(key, tags)),
        2 => (key(), tags(), 0u64..100).prop_map(|(key, tags, back)| Step::Restore(key, tags, back)),
        3 => key().prop_map(Step::Remove),
        3 => (mode, 0usize..2, prop_oneof![0u8..5, 100u8..103]).prop_map(|(m, db, what)| Step::Invalidate(m, db, what)),
        4 => (0usize..8).prop_map(Step::Sweep),
        1 => Just(Step::Forget),
        1 => (0usize..2, any::<bool>()).prop_map(|(db, lazily)| Step::Flush(db, lazily)),
        1 => Just(Step::Swap),
        1 => Just(Step::Limbo),
    ]
}

fn run(world: &mut World, step: Step) -> Result<(), TestCaseError> {
    match step {
        Step::Set(key, tags) => {
            let born = world.tick();
            world.set(key, tags, born);
        }
        Step::Restore(key, tags, back) => {
            // Born earlier: no earlier than what is still remembered.
            let born = Stamp(world.stamp.saturating_sub(back).max(world.index.low_water().0));
            world.set(key, tags, born);
        }
        Step::Remove(key) => world.remove(key),
        Step::Invalidate(mode, db, what) => {
            let stamp = world.tick();
            let before: Vec<Key> = world.keys.keys().copied().filter(|key| key.0 == db).collect();
            let by_tag = |key: &&Key| {
                let truth = &world.truth[key];
                let gone = world
                    .invalidations
                    .iter()
                    .any(|&(m, d, w, s)| is_fatal(m, key.1) && d == db && w == what && s > truth.born);
                !gone && is_of(what, key.1, &truth.tags)
            };
            let lives = |key: &&Key| is_native(key.1) && world.naive(**key) == Verdict::Untouched;
            let natives: BTreeSet<Slot> = before
                .iter()
                .filter(|key| by_tag(key) && lives(key))
                .map(|key| View::new(world.heap.bytes(world.keys[key])).slot())
                .collect();
            let found = world.index.natives(db, &[what], &world.heap).into_iter();
            prop_assert_eq!(found.collect::<BTreeSet<_>>(), natives, "those whose native key is to go");
            let expected = before.iter().filter(by_tag).count() as u64;
            let hit = if what >= 100 {
                world.index.invalidate_namespace(db, &[what - 100], stamp, mode)
            } else {
                world.index.invalidate_tag(db, &[what], stamp, mode)
            };
            prop_assert_eq!(hit, expected);
            world.invalidations.push((mode, db, what, stamp.0));
        }
        Step::Sweep(steps) => {
            for _ in 0..steps {
                match world.index.sweep(&world.heap, true) {
                    Sweep::Remove(db, handle) => {
                        let key =
                            *world.keys.iter().find(|(k, h)| k.0 == db && **h == handle).expect("a key").0;
                        prop_assert_eq!(world.naive(key), Verdict::Dead);
                        world.remove(key);
                    }
                    Sweep::Tell(db, handle) => {
                        let key =
                            *world.keys.iter().find(|(k, h)| k.0 == db && **h == handle).expect("a key").0;
                        prop_assert!(matches!(world.naive(key), Verdict::Stale(_)));
                    }
                    Sweep::Nothing => {}
                    Sweep::Wait => prop_assert!(false, "nobody else removes"),
                    Sweep::Done => prop_assert_eq!(world.index.backlog(), 0),
                }
            }
        }
        Step::Forget => {
            let now = Stamp(world.stamp.saturating_sub(5));
            world.index.forget(now, 3, 2);
        }
        Step::Flush(db, lazily) => {
            world.index.flush(db);
            let gone: Vec<Key> = world.keys.keys().copied().filter(|key| key.0 == db).collect();
            for key in gone {
                let handle = world.keys.remove(&key).expect("a key");
                world.truth.remove(&key);
                if lazily {
                    world.limbo.push(handle);
                } else {
                    world.free(handle);
                }
            }
        }
        Step::Swap => {
            world.index.swap(0, 1);
            let other = |(db, key): Key| (1 - db, key);
            world.keys = std::mem::take(&mut world.keys).into_iter().map(|(k, v)| (other(k), v)).collect();
            world.truth = std::mem::take(&mut world.truth).into_iter().map(|(k, v)| (other(k), v)).collect();
            for invalidation in &mut world.invalidations {
                invalidation.1 = 1 - invalidation.1;
            }
        }
        Step::Limbo => {
            for handle in std::mem::take(&mut world.limbo) {
                world.free(handle);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn any_sequence_leaves_it_whole(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::default();
        for step in steps {
            run(&mut world, step)?;
            world.check()?;
        }
        // Everything swept, everything gone: nothing is left behind.
        for _ in 0..2000 {
            run(&mut world, Step::Sweep(1))?;
        }
        let dead: Vec<Key> = world.keys.keys().copied().filter(|key| world.naive(*key) == Verdict::Dead).collect();
        prop_assert!(dead.is_empty(), "not swept: {:?}", dead);
        let all: Vec<Key> = world.keys.keys().copied().collect();
        all.into_iter().for_each(|key| world.remove(key));
        run(&mut world, Step::Limbo)?;
        let last = world.tick();
        world.index.forget(last, 0, usize::MAX);
        world.check()?;
        prop_assert_eq!(world.index.counts(), Counts::default());
    }
}

#[test]
fn who_may_not_remove_waits_and_loses_nothing() {
    for namespace in [false, true] {
        let mut world = World::default();
        for key in 0..6 {
            let born = world.tick();
            world.set((0, key), BTreeSet::from([1]), born);
        }
        let stamp = world.tick();
        if namespace {
            world.index.invalidate_namespace(0, &[0], stamp, Mode::Hard);
        } else {
            world.index.invalidate_tag(0, &[1], stamp, Mode::Hard);
        }
        let dead = |world: &World| {
            world
                .keys
                .keys()
                .filter(|key| {
                    world.index.verdict(0, View::new(world.heap.bytes(world.keys[key]))) == Verdict::Dead
                })
                .copied()
                .collect::<Vec<_>>()
        };
        let mut removed = 0;
        for _ in 0..100 {
            match world.index.sweep(&world.heap, false) {
                // The primary's removal of some other of them arrives.
                Sweep::Wait => {
                    let Some(&key) = dead(&world).first() else { panic!("waits for nobody") };
                    world.remove(key);
                    removed += 1;
                }
                Sweep::Remove(..) => panic!("it may not"),
                Sweep::Nothing | Sweep::Tell(..) => {}
                Sweep::Done => break,
            }
        }
        assert_eq!(removed, if namespace { 2 } else { 6 });
        assert_eq!((dead(&world).len(), world.index.backlog()), (0, 0));
        assert_eq!(world.index.validate(&world.heap), Vec::<String>::new());
    }
}

#[test]
fn what_is_saved_is_remembered() {
    let mut world = World::default();
    world.index.invalidate_tag(0, b"t", Stamp(7), Mode::Hard);
    world.index.invalidate_tag(0, b"t", Stamp(9), Mode::Soft);
    world.index.invalidate_tag(1, b"u", Stamp(8), Mode::Soft);
    world.index.invalidate_namespace(1, b"n", Stamp(11), Mode::Hard);
    let mut other = Index::default();
    let spare = Millis(0);
    world.index.invalidated().for_each(|saved| other.remember(saved, spare, &mut Heap::default()));
    assert!(world.index.invalidated().eq(other.invalidated()));
    assert_eq!(other.stamps(0, b"t"), Some(Stamps { hard: Stamp(7), soft: Stamp(9) }));
    assert_eq!(other.namespace_stamps(1, b"n").hard, Stamp(11));
    assert_eq!(other.last_stamp(1, b"n", [&b"u"[..], b"x"].into_iter()), Stamp(11));
    assert_eq!(other.last_stamp(0, b"n", [&b"t"[..]].into_iter()), Stamp(9));
    assert_eq!(other.backlog(), 0);
}

#[test]
fn what_is_forgotten_raises_the_low_water_mark() {
    let mut world = World::default();
    world.index.invalidate_tag(0, b"t", Stamp(7), Mode::Hard);
    assert_eq!(world.index.stamps(0, b"t").map(|stamps| stamps.hard), Some(Stamp(7)));
    world.index.forget(Stamp(7), 10, 10);
    assert_eq!(world.index.low_water(), Stamp(0), "as young as asked for: kept");
    world.index.forget(Stamp(8), 10, 10);
    assert_eq!((world.index.stamps(0, b"t"), world.index.low_water()), (None, Stamp(7)));
    for n in 0..5 {
        world.index.invalidate_tag(0, &[n], Stamp(10 + u64::from(n)), Mode::Soft);
    }
    world.index.forget(Stamp(0), 2, 10);
    assert_eq!((world.index.counts().tombstones, world.index.low_water()), (2, Stamp(12)));
}

#[test]
fn a_million_one_off_tags_leave_nothing() {
    let mut world = World::default();
    for n in 0..100_000u32 {
        let id = world.index.intern(0, &n.to_be_bytes());
        world.index.release(id);
    }
    let baseline = Index::default().allocated();
    assert_eq!(world.index.counts(), Counts::default());
    assert!(world.index.allocated() < baseline + 4096, "{}", world.index.allocated());
}

#[test]
fn many_invalidations_in_a_row_leave_no_room_behind() {
    let mut world = World::default();
    let born = world.tick();
    world.set((0, 1), BTreeSet::from([7]), born);
    let before = world.index.allocated();
    for _ in 0..10_000 {
        let stamp = world.tick();
        world.index.invalidate_tag(0, &[7], stamp, Mode::Soft);
    }
    assert!(world.index.allocated() > before + 10_000 * size_of::<Job>(), "told while it is there");
    while world.index.sweep(&world.heap, true) != Sweep::Done {}
    assert!(world.index.allocated() < before + 8192, "{} {before}", world.index.allocated());
}

#[test]
fn a_flush_multiplies_no_tombstones() {
    let mut world = World::default();
    for n in 0..5 {
        let stamp = world.tick();
        world.index.invalidate_tag(0, &[n], stamp, Mode::Hard);
    }
    for _ in 0..10 {
        world.index.flush(0);
    }
    let counts = world.index.counts();
    assert_eq!((counts.tags, counts.tombstones), (5, 5));
    assert_eq!(world.index.stamps(0, &[3]).map(|stamps| stamps.hard), Some(Stamp(4)));
    assert_eq!(world.index.validate(&world.heap), Vec::<String>::new());
}

#[test]
fn who_was_disowned_comes_again_with_the_same_tags() {
    let mut world = World::default();
    for key in 0..6 {
        let born = world.tick();
        world.set((0, key), BTreeSet::from([7, key]), born);
    }
    let stamp = world.tick();
    world.index.invalidate_tag(0, &[3], stamp, Mode::Hard);
    world.index.disown(0);
    assert_eq!((world.index.counts().entries, world.index.backlog()), (0, 0));
    assert_eq!(world.index.validate(&world.heap), Vec::<String>::new());
    for (&(db, key), &handle) in &world.keys {
        world.index.attach(db, handle, &[namespace_of(key)], &mut world.heap);
    }
    assert_eq!(world.index.validate(&world.heap), Vec::<String>::new());
    let stamp = world.tick();
    assert!(world.index.invalidate_tag(0, &[7], stamp, Mode::Hard) >= 5);
}

#[test]
fn lists_tell_everything_once() {
    let mut world = World::default();
    for key in 0..40 {
        let born = world.tick();
        world.set((0, key), BTreeSet::from([key % 5]), born);
    }
    let (mut cursor, mut tags) = (0, BTreeMap::new());
    loop {
        cursor = world.index.list_tags(0, cursor, 3, |name, count| {
            tags.insert(name[0], count);
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(tags, (0..5).map(|tag| (tag, 8)).collect());
    let mut members = Vec::new();
    loop {
        cursor = world.index.list_members(0, &[2], cursor, 3, |handle| members.push(handle));
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(members.len(), 8);
    assert_eq!(world.index.list_members(0, b"none", 0, 10, |_| ()), 0);
}

#[test]
fn the_last_invalidation_of_what_lies_there() {
    let mut world = World::default();
    assert_eq!(world.index.invalidated_at(0, b"n", None), Stamp(0));
    let handle = world.make((0, 0), &BTreeSet::from([b'a', b'b']), Stamp(10));
    let World { index, heap: memory, .. } = &mut world;
    index.invalidate_tag(0, b"a", Stamp(5), Mode::Hard);
    assert_eq!(index.invalidated_at(0, b"n", Some(View::new(memory.bytes(handle)))), Stamp(0), "before it");
    index.invalidate_tag(0, b"a", Stamp(20), Mode::Hard);
    index.invalidate_tag(0, b"b", Stamp(15), Mode::Soft);
    assert_eq!(index.invalidated_at(0, b"n", Some(View::new(memory.bytes(handle)))), Stamp(20), "be it dead");
    assert_eq!(index.invalidated_at(0, b"n", None), Stamp(0));
    index.invalidate_namespace(0, b"n", Stamp(30), Mode::Soft);
    assert_eq!(index.invalidated_at(0, b"n", None), Stamp(30));
    assert_eq!(index.invalidated_at(1, b"n", None), Stamp(0), "of another database");
}

#[path = "index_saved_tests.rs"]
mod saved;
