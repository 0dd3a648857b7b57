use super::*;
use crate::entry::Cost;
use crate::evict_choice::{Candidate, Standing};
use crate::evict_class::{bucket, BUCKETS, CLASSES};
use crate::evict_table::KEPT;
use crate::settings::Policy;
use crate::slots::{Handle, Slots};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use xxhash_rust::xxh3::xxh3_64;

/// A dice for tests: splitmix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Entries of some databases, by key.
#[derive(Default)]
struct Entries {
    slots: Vec<Slots>,
    keys: HashMap<u64, (Spot, Candidate)>,
}

impl Population for Entries {
    fn entries(&self) -> usize {
        self.keys.len()
    }
    fn databases(&self) -> Db {
        self.slots.len()
    }
    fn extent(&self, db: Db) -> usize {
        self.slots.get(db).map_or(0, Slots::extent)
    }
    fn is_taken(&self, spot: Spot) -> bool {
        self.key(spot).is_some()
    }
    fn look(&self, spot: Spot) -> Option<Candidate> {
        self.key(spot).map(|key| self.keys[&key].1)
    }
    fn set_marks(&mut self, spot: Spot, marks: Marks) {
        let key = self.key(spot).expect("an entry");
        self.keys.get_mut(&key).expect("an entry").1.marks = marks;
    }
}

impl Entries {
    fn key(&self, spot: Spot) -> Option<u64> {
        self.slots.get(spot.db)?.get(spot.slot).map(|handle| handle.0 / 2)
    }

    fn insert(&mut self, key: u64, db: Db) -> Spot {
        while self.slots.len() <= db {
            self.slots.push(Slots::default());
        }
        let slot = self.slots[db].insert(Handle(key * 2)).expect("room");
        Spot { db, slot }
    }

    fn remove(&mut self, key: u64) -> Candidate {
        let (spot, candidate) = self.keys.remove(&key).expect("an entry");
        self.slots[spot.db].remove(spot.slot);
        candidate
    }
}

/// A cache of so many entries.
struct Cache {
    entries: Entries,
    eviction: Eviction,
    dice: Dice,
}

fn hash(key: u64) -> u64 {
    xxh3_64(&key.to_le_bytes())
}

impl Cache {
    fn new(seed: u64) -> Cache {
        Cache { entries: Entries::default(), eviction: Eviction::new(Weight::None), dice: Dice(seed) }
    }

    fn put(&mut self, key: u64, db: Db, like: Candidate) {
        let spot = self.entries.insert(key, db);
        let marks = self.eviction.inserted(hash(key), spot, like.share, self.dice.roll() as u32);
        self.entries.keys.insert(key, (spot, Candidate { marks, ..like }));
    }

    fn read(&mut self, key: u64) -> bool {
        let Some((_, candidate)) = self.entries.keys.get_mut(&key) else { return false };
        candidate.marks = self.eviction.used(candidate.marks, self.dice.roll() as u32);
        true
    }

    fn remove(&mut self, key: u64, why: Leaving) {
        let candidate = self.entries.remove(key);
        self.eviction.left(hash(key), candidate.marks, why);
    }

    fn choose(&mut self, scope: Scope) -> Option<u64> {
        let spot = self.eviction.choose(&self.entries, scope, || self.dice.roll())?;
        Some(self.entries.key(spot).expect("an entry"))
    }

    fn evict(&mut self, scope: Scope) -> Option<u64> {
        let key = self.choose(scope)?;
        self.remove(key, Leaving::Evicted);
        Some(key)
    }

    fn tick(&mut self, steps: usize) {
        self.eviction.tick(&mut self.entries, steps);
    }
}

const PLAIN: Candidate = Candidate {
    marks: Marks::UNUSED,
    size: 100,
    cost: Cost(0),
    policy: Policy::Cost,
    standing: Standing::Live,
    share: 0,
};

/// What became of a key since its last use, as a naive learner sees it.
#[derive(Clone, Copy)]
struct Life {
    class: usize,
    since: u64,
}

/// Learns from a log of everything, with maps.
#[derive(Default)]
struct Naive {
    counts: HashMap<(usize, usize), (f64, f64)>,
    going: HashMap<u64, Life>,
}

impl Naive {
    fn use_of(&mut self, key: u64, class: usize, at: u64) {
        if let Some(life) = self.going.insert(key, Life { class, since: at }) {
            let age = bucket((at - life.since) as u32);
            self.counts.entry((life.class, age)).or_default().0 += 1.0;
        }
    }

    fn died(&mut self, key: u64, at: u64) {
        if let Some(life) = self.going.remove(&key) {
            let age = bucket((at - life.since) as u32);
            self.counts.entry((life.class, age)).or_default().1 += 1.0;
        }
    }

    /// Lives that ended and lives that did not, by class and age.
    fn seen(&self, at: u64) -> HashMap<(usize, usize), (f64, f64)> {
        let mut seen = self.counts.clone();
        for life in self.going.values() {
            seen.entry((life.class, bucket((at - life.since) as u32))).or_default().1 += 1.0;
        }
        seen
    }

    fn forget(&mut self) {
        for (ended, lost) in self.counts.values_mut() {
            *ended *= f64::from(KEPT);
            *lost *= f64::from(KEPT);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Through reads, evictions, deaths, refills and moves the table counts what
    /// a log of everything does, and so learns what it should (that it draws
    /// the right conclusions is tested where they are drawn).
    #[test]
    fn learns_from_what_happened(seed in any::<u64>(), steps in proptest::collection::vec((0u64..80, 0u8..12), 200..1000)) {
        let (mut cache, mut naive) = (Cache::new(seed), Naive::default());
        for (key, what) in steps {
            let there = cache.entries.keys.contains_key(&key);
            match what {
                0 if there => {
                    cache.remove(key, Leaving::Died);
                    naive.died(key, cache.eviction.ops);
                }
                1 if there => cache.remove(key, Leaving::Evicted),
                2 if there => {
                    // Renamed into another database: the same life goes on.
                    let candidate = cache.entries.remove(key);
                    let spot = cache.entries.insert(key, 1);
                    cache.entries.keys.insert(key, (spot, candidate));
                    cache.eviction.moved(hash(key), candidate.marks, spot, 0);
                }
                3 if key < 8 => {
                    // A whole rebuild, whenever it is.
                    cache.eviction.rebuild = Rebuild::Look(0);
                    while matches!(cache.eviction.rebuild, Rebuild::Look(_)) {
                        cache.tick(1);
                    }
                    let mut expected = naive.seen(cache.eviction.ops);
                    expected.retain(|_, (ended, left)| *ended + *left > 0.0);
                    for class in 0..CLASSES {
                        let lives = cache.eviction.table.lives(Class::of(class).expect("a class"));
                        for age in 0..BUCKETS {
                            let (ended, left) = expected.get(&(class, age)).copied().unwrap_or_default();
                            let counted = (lives.ended[age], lives.lost[age] + lives.open[age]);
                            prop_assert!((f64::from(counted.0) - ended).abs() < 1e-3, "class {class} age {age}: {} ended, not {ended}", counted.0);
                            prop_assert!((f64::from(counted.1) - left).abs() < 1e-3, "class {class} age {age}: {} left, not {left}", counted.1);
                        }
                    }
                    while matches!(cache.eviction.rebuild, Rebuild::Learn(_)) {
                        cache.tick(1);
                    }
                    naive.forget();
                }
                _ => {
                    if !cache.read(key) {
                        cache.put(key, 0, PLAIN);
                    }
                    let class = cache.entries.keys[&key].1.marks.class().number();
                    naive.use_of(key, class, cache.eviction.ops);
                }
            }
        }
    }

    /// Whatever happens: no choice falls on a lease or on what a policy keeps,
    /// none on a slot that is free; within a scope it stays within.
    #[test]
    fn never_chooses_what_may_not_go(
        seed in any::<u64>(),
        steps in proptest::collection::vec((0u64..60, 0u8..10, 0usize..3, 0u16..3), 1..400),
    ) {
        let mut cache = Cache::new(seed);
        for (key, what, db, kind) in steps {
            let there = cache.entries.keys.contains_key(&key);
            match what {
                0..=3 if !there => {
                    let policy = [Policy::Cost, Policy::Lru, Policy::None][(key % 3) as usize];
                    cache.put(key, db, Candidate { policy, share: kind, ..PLAIN });
                }
                0..=3 => prop_assert!(cache.read(key)),
                4 if there => {
                    let standing = [Standing::Live, Standing::Gone, Standing::Leased][usize::from(kind)];
                    cache.entries.keys.get_mut(&key).expect("there").1.standing = standing;
                }
                5 if there => cache.remove(key, Leaving::Died),
                6 => cache.tick(usize::from(kind)),
                _ => {
                    let scope = if kind == 0 { Scope::All } else { Scope::Share(kind) };
                    let Some(chosen) = cache.choose(scope) else { continue };
                    let (_, chosen) = cache.entries.keys[&chosen];
                    prop_assert!(chosen.standing != Standing::Leased);
                    prop_assert!(chosen.policy != Policy::None || chosen.standing == Standing::Gone);
                    prop_assert!(kind == 0 || chosen.share == kind);
                }
            }
        }
    }
}

#[test]
fn what_is_gone_goes_first_and_a_crowd_of_leases_is_left_alone() {
    let mut cache = Cache::new(1);
    (1..=10).for_each(|key| cache.put(key, 0, PLAIN));
    cache.put(11, 0, Candidate { standing: Standing::Gone, ..PLAIN });
    assert_eq!(cache.evict(Scope::All), Some(11));
    (12..=500).for_each(|key| cache.put(key, 0, Candidate { standing: Standing::Leased, ..PLAIN }));
    (1..=10).for_each(|key| cache.remove(key, Leaving::Died));
    assert_eq!(cache.choose(Scope::All), None);
}

#[test]
fn the_last_of_the_kept_is_found_where_all_others_are_leased() {
    for seed in 0..20 {
        let run = || {
            let mut cache = Cache::new(seed);
            (0..2_000).for_each(|key| cache.put(key, 0, Candidate::default()));
            (0..10).for_each(|_| assert!(cache.evict(Scope::All).is_some()));
            cache
        };
        // Two of a kind: the kept of the one are those of the other.
        let (mut cache, mut pool) = (run(), run().eviction.pools.remove(0));
        pool.begin();
        let kept: Vec<Spot> = std::iter::from_fn(|| pool.unseen()).collect();
        assert!(kept.len() > 8, "{kept:?}");
        let last = cache.entries.key(kept[kept.len() - 1]).expect("an entry");
        for (&key, (_, candidate)) in &mut cache.entries.keys {
            candidate.standing = if key == last { Standing::Live } else { Standing::Leased };
        }
        assert_eq!(cache.choose(Scope::All), Some(last));
    }
}

#[test]
fn a_few_left_among_many_free_slots_are_found() {
    let mut cache = Cache::new(2);
    (1..=20_000).for_each(|key| cache.put(key, 0, PLAIN));
    let stay: HashSet<u64> = (0..20).map(|n| n * 997 + 1).collect();
    (1..=20_000).filter(|key| !stay.contains(key)).for_each(|key| cache.remove(key, Leaving::Died));
    // The one in use is not the victim because no other was found.
    (0..1000).for_each(|_| assert!(cache.read(1)));
    for _ in 0..10 {
        assert_ne!(cache.evict(Scope::All).expect("found"), 1);
    }
}

#[test]
fn lru_evicts_the_longest_unused_of_those_it_sees() {
    let mut cache = Cache::new(3);
    (1..=12).for_each(|key| cache.put(key, 0, Candidate { policy: Policy::Lru, ..PLAIN }));
    (1..=4).for_each(|key| assert!(cache.read(key)));
    let order: Vec<_> = std::iter::from_fn(|| cache.evict(Scope::All)).collect();
    assert_eq!(order, [5, 6, 7, 8, 9, 10, 11, 12, 1, 2, 3, 4]);
}

#[test]
fn a_small_namespace_keeps_to_its_own() {
    let mut cache = Cache::new(4);
    for key in 1..=30_000 {
        let share = u16::from(key % 1000 == 0);
        cache.put(key, (key % 3) as Db, Candidate { share, ..PLAIN });
    }
    (1..=30).filter(|n| n % 2 == 0).for_each(|n| assert!(cache.read(n * 1000)));
    let evicted: Vec<_> = (0..15).map(|_| cache.evict(Scope::Share(1)).expect("one of thirty")).collect();
    assert!(evicted.iter().all(|key| key % 1000 == 0));
    let in_use = evicted.iter().filter(|key| **key % 2000 == 0).count();
    assert!(in_use <= 2, "{in_use} of those read since");
    assert_eq!(cache.choose(Scope::Share(2)), None);
}

#[test]
fn a_budget_that_comes_later_is_surveyed() {
    let mut cache = Cache::new(5);
    (1..=10_000).for_each(|key| cache.put(key, 0, PLAIN));
    // The newest are looked at in any case.
    for (_, (_, candidate)) in cache.entries.keys.iter_mut().filter(|(key, _)| **key <= 9000) {
        candidate.share = 3;
    }
    assert_eq!(cache.choose(Scope::Share(3)), None, "nobody knows yet");
    cache.eviction.survey(&cache.entries);
    (0..200).for_each(|_| cache.tick(1));
    assert!(cache.choose(Scope::Share(3)).is_some());
    assert!(cache.eviction.shares.allocated() > 0);
    cache.eviction.flushed(0);
    assert!(cache.eviction.shares.allocated() < 1024);
}

#[test]
fn none_ever_looks_young_again() {
    let mut cache = Cache::new(6);
    (1..=500).for_each(|key| cache.put(key, 0, PLAIN));
    // 2^33 operations, in steps such as ticks see them.
    for _ in 0..1 << 10 {
        cache.eviction.ops += 1 << 23;
        (0..8).for_each(|_| cache.tick(2));
        let now = cache.eviction.now();
        let ages: Vec<_> =
            cache.entries.keys.values().map(|(_, candidate)| now.since(candidate.marks.last())).collect();
        let since = u32::try_from(cache.eviction.ops.min(1 << 30)).expect("small") - 600;
        assert!(ages.iter().all(|age| *age >= since && *age <= (1 << 31) - (1 << 24)), "{ages:?}");
    }
}

/// A loop a tenth too long for the cache: LRU hits nothing ever.
#[test]
fn learns_to_keep_most_of_a_loop() {
    let (mut cache, many, room) = (Cache::new(7), 550, 500);
    let mut hits = 0;
    for n in 0..60_000u64 {
        let key = n % many + 1;
        cache.tick(50);
        if cache.read(key) {
            hits += u64::from(n > 30_000);
            continue;
        }
        if cache.entries.keys.len() >= room {
            cache.evict(Scope::All).expect("one");
        }
        cache.put(key, 0, PLAIN);
    }
    assert!(hits > 30_000 * 6 / 10, "{hits} of 30000");
}

#[test]
fn what_it_holds_is_told() {
    let mut cache = Cache::new(8);
    let bare = cache.eviction.allocated();
    assert!(bare < 200_000, "{bare}");
    for key in 1..=100_000 {
        cache.put(key, 0, PLAIN);
        cache.tick(1);
    }
    (1..=50_000).for_each(|key| cache.remove(key, Leaving::Evicted));
    let held = cache.eviction.allocated();
    assert!(held > bare && held <= 400_000 + 400_000 + (17 << 10), "{held}");
}
