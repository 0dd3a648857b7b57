//! Replays of a trace to caches that are not there: what each way to evict
//! makes of the same requests.
//!
//! A replay counts misses and nothing else. Every first request for a key is
//! one. Nothing expires, nothing is invalidated, sizes stay; entries take the
//! bytes that the trace says and no header. So figures here say which entries a
//! policy keeps, not how fast it is nor what its own memory costs.
//!
//! A policy is a file here and a line in `POLICIES`.

mod belady;
mod bound;
mod gdsf;
mod held;
mod list;
mod lru;
mod ours;
mod policy;
mod ranked;
mod redis_lfu;
mod redis_lru;
mod s3fifo;
mod sampled;
mod sieve;
mod sketch;
pub mod synthetic;
mod tinylfu;
mod workload;

use crate::interrupt;
use anyhow::{bail, ensure, Result};
pub use bound::bound;
use cacheflow_core::evict_choice::Weight;
use held::Held;
use policy::Policy;
pub use workload::Workload;

/// What a policy is made with.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    /// Keys are below this.
    pub keys: u32,
    /// In bytes.
    pub capacity: u64,
    /// How many entries fit, of the trace's mean size.
    pub entries: u64,
    /// For each request, when its key is asked for next.
    pub next: &'a [u32],
    /// Requests in a second, for policies that read clocks.
    pub rate: u64,
    /// For policies that draw.
    pub seed: u64,
}

impl Setup<'_> {
    fn held(&self) -> Held {
        Held::new(self.keys, self.capacity)
    }
}

/// A way to evict.
pub struct Kind {
    /// What it is called, for `--policies`.
    pub name: &'static str,
    /// Makes an empty cache.
    build: for<'a> fn(&Setup<'a>) -> Box<dyn Policy + 'a>,
}

/// All of them. The first is what the others are compared with.
pub const POLICIES: &[Kind] = &[
    Kind { name: "lru", build: |setup| Box::new(lru::Lru::new(setup)) },
    Kind { name: "redis-lru", build: |setup| Box::new(redis_lru::RedisLru::new(setup)) },
    Kind { name: "redis-lfu", build: |setup| Box::new(redis_lfu::RedisLfu::new(setup)) },
    Kind { name: "s3-fifo", build: |setup| Box::new(s3fifo::S3Fifo::new(setup)) },
    Kind { name: "sieve", build: |setup| Box::new(sieve::Sieve::new(setup)) },
    Kind { name: "w-tinylfu", build: |setup| Box::new(tinylfu::TinyLfu::new(setup)) },
    Kind { name: "gdsf", build: |setup| Box::new(gdsf::Gdsf::new(setup)) },
    Kind { name: "cacheflow", build: |setup| Box::new(ours::Ours::new(setup, Weight::Size)) },
    Kind { name: "cacheflow-cost", build: |setup| Box::new(ours::Ours::new(setup, Weight::CostSize)) },
    Kind { name: "belady", build: |setup| Box::new(belady::Belady::new(setup)) },
];

/// A part of a whole, as it adds up.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Share {
    part: u64,
    whole: u64,
}

impl Share {
    fn add(&mut self, amount: u32, counts: bool) {
        self.whole += u64::from(amount);
        self.part += u64::from(amount) * u64::from(counts);
    }

    /// As a number up to 1.
    pub fn ratio(self) -> f64 {
        self.part as f64 / self.whole as f64
    }
}

/// What was missed, of all that was asked for.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
pub struct Misses {
    /// Requests.
    pub objects: Share,
    /// Bytes of their entries.
    pub bytes: Share,
    /// What it costs to compute them.
    pub costs: Share,
}

/// How a replay is done.
#[derive(Clone, Copy)]
pub struct Terms {
    /// Requests in a second.
    pub rate: u64,
    /// For policies that draw.
    pub seed: u64,
}

impl Workload {
    /// How many entries of the mean size fit into so many bytes.
    pub fn entries(&self, capacity: u64) -> u64 {
        let entries = u128::from(capacity) * u128::from(self.keys()) / u128::from(self.footprint.max(1));
        u64::try_from(entries).unwrap_or(u64::MAX)
    }
}

/// How often to look whether somebody wants it to stop: every so many requests.
const LOOK: u64 = 1 << 16;

/// Replays a workload to an empty cache of so many bytes.
pub fn replay(kind: &Kind, workload: &Workload, capacity: u64, terms: Terms) -> Result<Misses> {
    let setup = Setup {
        keys: workload.keys(),
        capacity,
        entries: workload.entries(capacity),
        next: &workload.next,
        rate: terms.rate,
        seed: terms.seed,
    };
    let mut policy = (kind.build)(&setup);
    let mut misses = Misses::default();
    for (tick, request) in (0..).zip(workload.requests()) {
        let missed = !policy.request(&request, tick);
        misses.objects.add(1, missed);
        misses.bytes.add(request.size, missed);
        misses.costs.add(request.cost, missed);
        if tick % LOOK == 0 {
            ensure!(policy.used() <= capacity, "{} holds more than fits: a bug", kind.name);
            if interrupt::asked() {
                bail!("stopped");
            }
        }
    }
    Ok(misses)
}

#[cfg(test)]
mod tests;
