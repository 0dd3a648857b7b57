//! A trace made ready for replays: keys dense, sizes and costs by key, and for
//! each request when its key is asked for next.
//!
//! Where a trace has no sizes, entries take 1,000 bytes each. What a miss costs
//! no trace says: costs are drawn by the hash of key and seed, log-normal with
//! sigma 1.5 and a mean of 100 ms, whatever the size, and are at least 1 ms.

use super::belady::NEVER;
use super::policy::Request;
use crate::origin::normal;
use crate::trace::Trace;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const SIZE: u32 = 1000;
const MEAN_COST: f64 = 100.0;
const SIGMA: f64 = 1.5;

/// The trace.
pub struct Workload {
    /// What it is called.
    pub name: String,
    ids: Vec<u32>,
    sizes: Vec<u32>,
    costs: Vec<u32>,
    /// For each request, which one is the next for its key, or `NEVER`.
    pub next: Vec<u32>,
    /// Bytes of all keys that are asked for.
    pub footprint: u64,
}

impl Workload {
    /// Makes a trace ready.
    pub fn new(name: &str, trace: Trace, seed: u64) -> Self {
        let (ids, names) = dense(trace.ids);
        let size = |key: &u32| match &trace.sizes {
            // An entry takes something, whatever its value does.
            Some(sizes) => sizes.get(*key as usize).copied().unwrap_or(0).max(1),
            None => SIZE,
        };
        let sizes: Vec<u32> = names.iter().map(size).collect();
        Self {
            name: name.to_string(),
            next: next(&ids, names.len()),
            ids,
            footprint: sizes.iter().map(|size| u64::from(*size)).sum(),
            sizes,
            costs: names.iter().map(|key| cost(*key, seed)).collect(),
        }
    }

    /// How many different keys are asked for.
    pub fn keys(&self) -> u32 {
        // One for each id of a trace at most, and ids are u32.
        self.sizes.len() as u32
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// The requests, in their order.
    pub fn requests(&self) -> impl Iterator<Item = Request> + '_ {
        self.ids.iter().map(|&key| Request {
            key,
            size: self.sizes[key as usize],
            cost: self.costs[key as usize],
        })
    }
}

/// Ids by first use, and what each was. A file may name few keys with large ids:
/// tables are then of the keys that are asked for.
fn dense(mut ids: Vec<u32>) -> (Vec<u32>, Vec<u32>) {
    let mut names = Vec::new();
    let mut known = std::collections::HashMap::new();
    for id in &mut ids {
        *id = *known.entry(*id).or_insert_with(|| {
            names.push(*id);
            names.len() as u32 - 1
        });
    }
    (ids, names)
}

fn next(ids: &[u32], keys: usize) -> Vec<u32> {
    let mut latest = vec![NEVER; keys];
    let mut next = vec![NEVER; ids.len()];
    for (request, (id, next)) in ids.iter().zip(&mut next).enumerate().rev() {
        *next = std::mem::replace(&mut latest[*id as usize], request as u32);
    }
    next
}

fn cost(key: u32, seed: u64) -> u32 {
    let median = MEAN_COST / (SIGMA * SIGMA / 2.0).exp();
    let cost = median * (SIGMA * normal(xxh3_64_with_seed(&key.to_le_bytes(), seed))).exp();
    cost.round().max(1.0) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_dense_and_what_comes_next_is_known() {
        let mut sizes = vec![0; 1000];
        (sizes[7], sizes[999]) = (70, 90);
        let trace = Trace { ids: vec![999, 7, 999, 8, 7], sizes: Some(sizes), gaps: None };
        let workload = Workload::new("x", trace, 1);
        assert_eq!((workload.keys(), workload.len(), workload.footprint), (3, 5, 90 + 70 + 1));
        assert_eq!(workload.next, [2, 4, NEVER, NEVER, NEVER]);
        let requests: Vec<_> = workload.requests().map(|request| (request.key, request.size)).collect();
        assert_eq!(requests, [(0, 90), (1, 70), (0, 90), (2, 1), (1, 70)]);
    }

    #[test]
    fn without_sizes_all_are_alike() {
        let workload = Workload::new("x", Trace { ids: vec![0, 1, 0], sizes: None, gaps: None }, 1);
        assert_eq!(workload.footprint, 2000);
    }

    #[test]
    fn costs_are_spread_as_stated() {
        let mut costs: Vec<u32> = (0..100_000).map(|key| cost(key, 1)).collect();
        let mean = costs.iter().map(|cost| f64::from(*cost)).sum::<f64>() / 1e5;
        assert!((95.0..105.0).contains(&mean), "{mean}");
        costs.sort_unstable();
        // e^-1.125 of the mean; 90 % lie within a factor of e^(1.5 · 1.645) of it.
        assert!((31..=34).contains(&costs[50_000]), "{}", costs[50_000]);
        assert!((350..=415).contains(&costs[95_000]), "{}", costs[95_000]);
        assert_ne!(cost(1, 1), cost(1, 2));
    }
}
