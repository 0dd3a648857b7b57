//! What the tests of policies share, and what is known of all of them.

use super::policy::Request;
use super::*;
use crate::trace::Trace;
use crate::zipf::ranks;
use rand::{rngs::SmallRng, Rng, SeedableRng};

impl Setup<'_> {
    /// For entries of one byte, where nobody knows the future.
    pub fn plain(keys: u32, capacity: u64) -> Self {
        Self { keys, capacity, entries: capacity, next: &[], rate: 1000, seed: 1 }
    }
}

/// A naive cache: what it holds, in an order that is its policy's.
pub struct Naive {
    pub entries: Vec<(u32, u32)>,
    capacity: u64,
}

impl Naive {
    /// Lets entries go until a request's fits.
    pub fn make_room(
        &mut self,
        request: &Request,
        mut evict: impl FnMut(&mut Vec<(u32, u32)>) -> (u32, u32),
    ) {
        let mut used: u64 = self.entries.iter().map(|(_, size)| u64::from(*size)).sum();
        while used + u64::from(request.size) > self.capacity {
            used -= u64::from(evict(&mut self.entries).1);
        }
    }
}

/// Compares a policy with a naive one, request by request, with entries of many
/// sizes and costs of which some fit into no cache. `step` is told whether the
/// request is a hit.
pub fn compare(
    build: impl for<'a> Fn(&Setup<'a>) -> Box<dyn Policy + 'a>,
    mut step: impl FnMut(&mut Naive, &Request, bool),
) {
    for seed in 0..20 {
        let mut random = SmallRng::seed_from_u64(seed);
        let sizes: Vec<u32> = (0..64).map(|_| random.random_range(1..60)).collect();
        let costs: Vec<u32> = (0..64).map(|_| random.random_range(1..500)).collect();
        let capacity = [10, 50, 300, 900][seed as usize % 4];
        let mut policy = build(&Setup::plain(64, capacity));
        let mut naive = Naive { entries: Vec::new(), capacity };
        for (tick, key) in (0..).zip(sequence(seed, 64, 3000)) {
            let request = Request { key, size: sizes[key as usize], cost: costs[key as usize] };
            let hit = naive.entries.iter().any(|(other, _)| *other == key);
            if u64::from(request.size) <= capacity {
                step(&mut naive, &request, hit);
            }
            assert_eq!(policy.request(&request, tick), hit, "seed {seed}, request {tick}");
            let used: u64 = naive.entries.iter().map(|(_, size)| u64::from(*size)).sum();
            assert_eq!(policy.used(), used, "seed {seed}, request {tick}");
        }
    }
}

/// Requests of which some are popular, some in a loop, some anywhere.
pub fn sequence(seed: u64, keys: u32, requests: usize) -> Vec<u32> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut looping = 0;
    let mut one = |_| match random.random_range(0..4) {
        0 => {
            looping += 1;
            looping % keys
        }
        1 => random.random_range(0..keys),
        _ => random.random_range(0..keys).min(random.random_range(0..keys)) / 2,
    };
    (0..requests).map(&mut one).collect()
}

/// Requests by Zipf's law.
pub fn zipf(keys: u32, requests: usize) -> Vec<u32> {
    let mut rank = ranks(keys, 0.9, 1).unwrap();
    (0..requests).map(|_| rank()).collect()
}

/// Which of the requests, for entries of one byte, are hits.
pub fn hits(
    build: impl for<'a> Fn(&Setup<'a>) -> Box<dyn Policy + 'a>,
    capacity: u64,
    keys: &[u32],
) -> Vec<bool> {
    hits_at(1000, build, capacity, keys)
}

/// The same at so many requests a second.
pub fn hits_at(
    rate: u64,
    build: impl for<'a> Fn(&Setup<'a>) -> Box<dyn Policy + 'a>,
    capacity: u64,
    keys: &[u32],
) -> Vec<bool> {
    let workload = workload(keys);
    let next = &workload.next;
    let mut policy = build(&Setup { next, rate, ..Setup::plain(workload.keys(), capacity) });
    let served = (0..).zip(workload.requests()).map(|(tick, request)| {
        let hit = policy.request(&request, tick);
        assert!(policy.used() <= capacity, "request {tick}");
        hit
    });
    served.collect()
}

/// What a naive cache makes of them, its keys named as the workload names them.
pub fn naive_hits(keys: &[u32], mut request: impl FnMut(u32) -> bool) -> Vec<bool> {
    workload(keys).requests().map(|asked| request(asked.key)).collect()
}

fn workload(keys: &[u32]) -> Workload {
    let most = keys.iter().max().map_or(0, |key| *key as usize + 1);
    Workload::new("test", Trace { ids: keys.to_vec(), sizes: Some(vec![1; most]), gaps: None }, 1)
}

/// The misses of every policy.
pub fn misses_of_all(capacity: u64, keys: &[u32]) -> Vec<(&'static str, usize)> {
    let misses = |kind: &Kind| {
        let hit = hits(kind.build, capacity, keys);
        (kind.name, hit.iter().filter(|hit| !**hit).count())
    };
    POLICIES.iter().map(misses).collect()
}

#[test]
fn names_are_unique_and_lru_is_the_first() {
    let mut names: Vec<_> = POLICIES.iter().map(|kind| kind.name).collect();
    assert_eq!(names[0], "lru");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), POLICIES.len());
}

/// A loop that does not fit is LRU's worst: every request misses. Belady keeps
/// as many as fit, and misses the others each round.
#[test]
fn a_loop_is_as_it_is_known_to_be() {
    let keys: Vec<u32> = (0..100).cycle().take(10_000).collect();
    for (capacity, lru, belady) in [(100, 100, 100), (99, 10_000, 199), (50, 10_000, 5050)] {
        let misses = misses_of_all(capacity, &keys);
        let of = |name: &str| misses.iter().find(|(other, _)| *other == name).unwrap().1;
        assert_eq!((of("lru"), of("belady")), (lru, belady), "{capacity}");
    }
}

/// Where all fits, the first request for a key is the only one that misses.
#[test]
fn a_cache_that_is_large_enough_misses_once_a_key() {
    let keys = sequence(1, 200, 5000);
    let unique = keys.iter().collect::<std::collections::HashSet<_>>().len();
    for (name, misses) in misses_of_all(200, &keys) {
        assert_eq!(misses, unique, "{name}");
    }
}

#[test]
fn entries_larger_than_the_cache_pass_through_it() {
    for kind in POLICIES {
        let mut cache = (kind.build)(&Setup::plain(2, 10));
        let small = Request { key: 0, size: 10, cost: 1 };
        let large = Request { key: 1, size: 11, cost: 1 };
        let hits = [small, large, large, small].map(|request| cache.request(&request, 0));
        // Whoever knows the future knows nothing of the small one's.
        let kept = [false, false, false, true];
        assert_eq!(hits, kept, "{}", kind.name);
        assert_eq!(cache.used(), 10);
    }
}

/// Misses of sizes and costs are counted by what was asked for.
#[test]
fn misses_add_up() {
    let trace = Trace { ids: vec![0, 1, 0, 1], sizes: Some(vec![10, 30]), gaps: None };
    let workload = Workload::new("x", trace, 1);
    let terms = Terms { rate: 1, seed: 1 };
    let misses = replay(&POLICIES[0], &workload, 40, terms).unwrap();
    assert_eq!((misses.objects.ratio(), misses.bytes.ratio(), misses.costs.ratio()), (0.5, 0.5, 0.5));
    let misses = replay(&POLICIES[0], &workload, 35, terms).unwrap();
    assert_eq!(misses.objects, Share { part: 4, whole: 4 });
    let one = replay(&POLICIES[0], &workload, 29, terms).unwrap();
    assert_eq!(one.bytes, Share { part: 70, whole: 80 });
}

#[test]
fn a_capacity_is_so_many_entries() {
    let trace = Trace { ids: vec![0, 1, 2], sizes: Some(vec![10, 30, 20]), gaps: None };
    let workload = Workload::new("x", trace, 1);
    assert_eq!([0, 19, 20, 60].map(|bytes| workload.entries(bytes)), [0, 0, 1, 3]);
}
