//! What no policy can go below, knowing the future or not.
//!
//! To hit, a policy must have kept the entry since the request before: so many bytes for
//! so many requests. There are no more of those than the capacity times the
//! requests. Whoever may spend them at will, and not only as much at a time as fits,
//! takes the hits that save the most for what they take; the last of them counts
//! as a hit as a whole. Hits that a cache of that size cannot have (first requests,
//! entries larger than it) are none. That is PFOO-L of Berger, Beckmann and Harchol-Balter,
//! "Practical Bounds on Optimal Caching with Variable Object Sizes", SIGMETRICS 2018.
//!
//! For objects, bytes and costs one by one: no policy need reach all three at once, nor
//! any of them.

use super::belady::NEVER;
use super::policy::Request;
use super::{Misses, Share, Workload};

/// The least that can be missed.
pub fn bound(workload: &Workload, capacity: u64) -> Misses {
    Misses {
        objects: least(workload, capacity, |_| 1),
        bytes: least(workload, capacity, |request| request.size),
        costs: least(workload, capacity, |request| request.cost),
    }
}

fn least(workload: &Workload, capacity: u64, amount: fn(&Request) -> u32) -> Share {
    let mut share = Share::default();
    // What each hit takes, and what it saves.
    let mut hits: Vec<(u64, u32)> = Vec::new();
    for (tick, (request, &next)) in (0..).zip(workload.requests().zip(&workload.next)) {
        let amount = amount(&request);
        share.add(amount, true);
        if next != NEVER && u64::from(request.size) <= capacity {
            hits.push((u64::from(request.size) * (u64::from(next) - tick), amount));
        }
    }
    hits.sort_unstable_by(|(a, x), (b, y)| {
        (u128::from(*a) * u128::from(*y)).cmp(&(u128::from(*b) * u128::from(*x)))
    });
    let mut room = u128::from(capacity) * workload.len() as u128;
    for (takes, saves) in hits {
        share.part -= u64::from(saves);
        match room.checked_sub(u128::from(takes)) {
            Some(left) => room = left,
            None => break,
        }
    }
    share
}

#[cfg(test)]
mod tests {
    use super::super::tests::sequence;
    use super::super::{replay, Terms, POLICIES};
    use super::*;
    use crate::trace::Trace;

    fn workload(ids: Vec<u32>, sizes: Vec<u32>) -> Workload {
        Workload::new("test", Trace { ids, sizes: Some(sizes), gaps: None }, 1)
    }

    #[test]
    fn a_loop_and_what_does_not_fit() {
        let misses =
            |capacity| bound(&workload((0..10).cycle().take(100).collect(), vec![1; 10]), capacity).objects;
        assert_eq!(misses(10), Share { part: 10, whole: 100 });
        // Half fits: 500 byte-requests, and a hit takes ten; one more counts whole.
        assert_eq!(misses(5), Share { part: 49, whole: 100 });
        let large = workload(vec![0, 0, 1, 1], vec![1, 9]);
        assert_eq!(bound(&large, 5).objects, Share { part: 3, whole: 4 });
        assert_eq!(bound(&large, 5).bytes, Share { part: 19, whole: 20 });
    }

    #[test]
    fn nobody_is_below() {
        for seed in 1..20 {
            let sizes = (0..40).map(|key| key * 7 % 8 + 1).collect();
            let workload = workload(sequence(seed, 40, 500), sizes);
            let capacity = 5 * seed;
            let least = bound(&workload, capacity);
            for kind in POLICIES {
                let misses = replay(kind, &workload, capacity, Terms { rate: 10, seed: 3 }).unwrap();
                for (least, misses) in [
                    (least.objects, misses.objects),
                    (least.bytes, misses.bytes),
                    (least.costs, misses.costs),
                ] {
                    assert!(least.part <= misses.part && least.whole == misses.whole, "{}", kind.name);
                }
            }
        }
    }
}
