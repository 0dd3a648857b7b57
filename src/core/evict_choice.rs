//! Which of some entries is to go: the one of the least worth for its weight.
//!
//! Whatever is dead or expired goes first, whatever is leased not at all, nor
//! what a policy keeps. Entries of the policies cost and lru are compared each
//! among their own, cost by worth and lru by age; of the two that lose, the one
//! of the lesser worth goes. So an entry of a namespace with the policy lru is
//! never evicted before an older one of those looked at, and yet the room is
//! divided by what is worth it.

use crate::entry::Cost;
use crate::evict_class::{Marks, Op};
use crate::evict_follow::Spot;
use crate::evict_table::Table;
use crate::settings::Policy;
use smallvec::SmallVec;

/// By what the worth of an entry is multiplied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weight {
    /// Nothing: the fewest misses for as many entries.
    None,
    /// 1 ÷ size: the fewest misses.
    Size,
    /// The cost of recomputation.
    Cost,
    /// Cost ÷ size: the least cost of misses.
    #[default]
    CostSize,
}

/// Whether an entry may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It may.
    #[default]
    Live,
    /// It is expired or dead already: it goes first.
    Gone,
    /// There is a lease or a lock on it: it may not.
    Leased,
}

/// What is to be known of an entry that may be evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// As they lie in it.
    pub marks: Marks,
    /// Bytes that come back with it.
    pub size: u32,
    /// Its recompute time.
    pub cost: Cost,
    /// Its namespace's.
    pub policy: Policy,
    /// Whether it may go.
    pub standing: Standing,
    /// The number of the budget that its namespace has for itself; 0: none.
    pub share: u16,
}

/// How far above the mean a weight goes: one absurd cost would keep an entry for
/// ever.
const MOST: f32 = 64.0;
/// And how far below it. What is that large and that cheap is hardly worth its room,
/// but it may be in use all the time. The mean is one of many small entries where
/// sizes differ much: with 64 here, as above it, a file of a megabyte counted no less
/// than one of 10 KB, and the traces with sizes had a tenth more misses.
const LEAST: f32 = 8192.0;
/// Candidates whose mean counts.
const SEEN: f32 = 1024.0;
/// Those after which it is one.
const SOME: f32 = 32.0;

/// A mean that follows.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    value: f32,
    seen: f32,
}

impl Mean {
    /// Follows a value: one that is far above it no further than what weights are
    /// held to, once there are some.
    fn see(&mut self, value: f32) {
        self.seen = (self.seen + 1.0).min(SEEN);
        let value = if self.seen > SOME { value.min(self.value * MOST) } else { value };
        self.value += (value - self.value) / self.seen;
    }
}

/// The running means that weights are measured by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weigher {
    weight: Weight,
    cost: Mean,
    weighed: Mean,
}

impl Weigher {
    /// By this weight.
    pub fn new(weight: Weight) -> Weigher {
        Weigher { weight, ..Weigher::default() }
    }

    /// The weight of a candidate: between a 8192nd of the mean of those seen and 64
    /// times it. Not in parts of the mean, which moves, while weights of different
    /// times are compared. One whose cost is not known costs what others do.
    pub fn weigh(&mut self, candidate: &Candidate) -> f32 {
        let cost = |mean: &mut Mean| {
            if candidate.cost.0 > 0 {
                mean.see(candidate.cost.0 as f32);
                candidate.cost.0 as f32
            } else if mean.seen > 0.0 {
                mean.value
            } else {
                1.0
            }
        };
        let size = candidate.size.max(1) as f32;
        let value = match self.weight {
            Weight::None => return 1.0,
            Weight::Size => 1.0 / size,
            Weight::Cost => cost(&mut self.cost),
            Weight::CostSize => cost(&mut self.cost) / size,
        };
        self.weighed.see(value);
        let mean = self.weighed.value;
        value.clamp(mean / LEAST, mean * MOST)
    }
}

/// Those that are kept for the next choices. With 8 the traces had 0.1 % more misses.
pub const POOL: usize = 16;

/// One that is kept.
#[derive(Clone, Copy, Debug)]
struct Kept<R> {
    /// By what it was ranked when it was looked at: the least goes first.
    rank: R,
    spot: Spot,
    /// Whether that was in this choice.
    seen: bool,
}

/// Some that are kept, the first to go first.
#[derive(Debug)]
struct Line<R> {
    kept: SmallVec<[Kept<R>; POOL]>,
}

impl<R> Default for Line<R> {
    fn default() -> Self {
        Line { kept: SmallVec::new() }
    }
}

impl<R: Copy> Line<R> {
    /// Puts one in its place; whoever is past the last falls out.
    fn put(&mut self, rank: R, spot: Spot, is_before: impl Fn(R, R) -> bool) {
        let is_full = self.kept.len() == POOL;
        if is_full && self.kept.last().is_none_or(|last| !is_before(rank, last.rank)) {
            return;
        }
        self.forget(spot);
        if self.kept.len() == POOL {
            self.kept.pop();
        }
        let at = self.kept.iter().position(|kept| is_before(rank, kept.rank)).unwrap_or(self.kept.len());
        self.kept.insert(at, Kept { rank, spot, seen: true });
    }

    fn forget(&mut self, spot: Spot) {
        self.kept.retain(|kept| kept.spot != spot);
    }

    /// Takes out the first where it has not been looked at in this choice.
    fn unseen(&mut self) -> Option<Spot> {
        self.kept.first().filter(|first| !first.seen)?;
        Some(self.kept.remove(0).spot)
    }

    /// The first that has.
    fn first(&self) -> Option<Kept<R>> {
        self.kept.iter().find(|kept| kept.seen).copied()
    }
}

/// Those that come next, of all that were looked at, ranked by what they were worth
/// then. Only who is about to go is looked at again: it may have been used since, or
/// be another entry.
#[derive(Debug, Default)]
pub struct Pool {
    /// The policy cost's, by worth.
    cost: Line<f32>,
    /// The policy lru's, by their last use, with their worth.
    lru: Line<(Op, f32)>,
    gone: Option<Spot>,
}

impl Pool {
    /// A choice begins.
    pub fn begin(&mut self) {
        self.gone = None;
        self.cost.kept.iter_mut().for_each(|kept| kept.seen = false);
        self.lru.kept.iter_mut().for_each(|kept| kept.seen = false);
    }

    /// Looks at a candidate. False: it may not go.
    pub fn look(
        &mut self,
        spot: Spot,
        of: &Candidate,
        now: Op,
        table: &Table,
        weigher: &mut Weigher,
    ) -> bool {
        match (of.standing, of.policy) {
            (Standing::Leased, _) => return false,
            (Standing::Gone, _) => {
                self.gone = Some(spot);
                return true;
            }
            (Standing::Live, Policy::None) => return false,
            (Standing::Live, Policy::Cost | Policy::Lru) => (),
        }
        let last = of.marks.last();
        let worth = table.worth(of.marks.class(), now.since(last)) * weigher.weigh(of);
        if of.policy == Policy::Lru {
            self.lru.put((last, worth), spot, |(a, _), (b, _)| now.since(a) > now.since(b));
        } else {
            self.cost.put(worth, spot, |a, b| a < b);
        }
        true
    }

    /// One that is to be looked at again before this choice is made, for it
    /// would go and was not looked at in it. Most often there is one such; it is
    /// taken out, so there are never more than were kept.
    pub fn unseen(&mut self) -> Option<Spot> {
        if self.is_settled() {
            return None;
        }
        self.cost.unseen().or_else(|| self.lru.unseen())
    }

    /// Whether one was found that goes before all others.
    pub fn is_settled(&self) -> bool {
        self.gone.is_some()
    }

    /// The one that goes, of those looked at in this choice. It is kept no longer.
    pub fn take(&mut self) -> Option<Spot> {
        let of_both = match (self.cost.first(), self.lru.first()) {
            (Some(cost), Some(lru)) if lru.rank.1 < cost.rank => Some(lru.spot),
            (Some(cost), _) => Some(cost.spot),
            (None, lru) => lru.map(|lru| lru.spot),
        };
        let least = self.gone.or(of_both)?;
        self.cost.forget(least);
        self.lru.forget(least);
        Some(least)
    }

    /// Whoever is kept is no more.
    pub fn clear(&mut self) {
        *self = Pool::default();
    }

    /// The one that most likely goes next.
    pub fn next(&self) -> Option<Spot> {
        let cost = self.cost.kept.first().map(|kept| kept.spot);
        cost.or(self.lru.kept.first().map(|kept| kept.spot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evict_class::{Class, CLASSES};
    use proptest::prelude::*;

    fn any_candidate() -> impl Strategy<Value = Candidate> {
        let policy = prop_oneof![4 => Just(Policy::Cost), 2 => Just(Policy::Lru), 1 => Just(Policy::None)];
        let standing =
            prop_oneof![12 => Just(Standing::Live), 1 => Just(Standing::Gone), 2 => Just(Standing::Leased)];
        (0u64..1 << 31, 0..CLASSES, 1u32..1 << 20, policy, standing).prop_map(
            |(last, class, size, policy, standing)| Candidate {
                marks: Marks::new(Op::new(last), Class::of(class).unwrap_or_default(), false),
                size,
                policy,
                standing,
                ..Candidate::default()
            },
        )
    }

    /// Makes a choice among these: all are looked at, in this order, and then again
    /// whoever is to be.
    fn choose(pool: &mut Pool, entries: &[Candidate], drawn: &[usize]) -> Option<usize> {
        let (table, now, mut weigher) = (Table::default(), Op::new(0), Weigher::new(Weight::None));
        let spot = |n: usize| Spot { db: 0, slot: n as u32 + 1 };
        pool.begin();
        for &n in drawn {
            let of = &entries[n];
            let counted = pool.look(spot(n), of, now, &table, &mut weigher);
            let may = of.standing != Standing::Leased
                && (of.standing == Standing::Gone || of.policy != Policy::None);
            assert_eq!(counted, may);
        }
        while let Some(again) = pool.unseen() {
            pool.look(again, &entries[again.slot as usize - 1], now, &table, &mut weigher);
        }
        pool.take().map(|spot| spot.slot as usize - 1)
    }

    fn worth(of: &Candidate) -> f32 {
        Table::default().worth(of.marks.class(), Op::new(0).since(of.marks.last()))
    }

    /// What is to go of some, by the rules alone: any that is gone; else the
    /// least of cost's, or lru's oldest where that is worth less.
    fn is_right(chosen: Option<Candidate>, of: &[Candidate]) -> bool {
        let gone = of.iter().any(|c| c.standing == Standing::Gone);
        let live = |policy| of.iter().filter(move |c| c.standing == Standing::Live && c.policy == policy);
        let least = live(Policy::Cost).map(worth).min_by(f32::total_cmp);
        let age = |c: &Candidate| Op::new(0).since(c.marks.last());
        let oldest = live(Policy::Lru).max_by_key(|c| age(c));
        match chosen {
            Some(chosen) if gone => chosen.standing == Standing::Gone,
            None => !gone && least.is_none() && oldest.is_none(),
            Some(chosen) => {
                let of_both = least.into_iter().chain(oldest.map(worth)).fold(f32::INFINITY, f32::min);
                worth(&chosen) == of_both
                    && (chosen.policy != Policy::Lru || oldest.map(age) == Some(age(&chosen)))
            }
        }
    }

    proptest! {
        #[test]
        fn chooses_as_a_sorted_list_does(entries in proptest::collection::vec(any_candidate(), 0..40)) {
            let all: Vec<_> = (0..entries.len()).collect();
            let chosen = choose(&mut Pool::default(), &entries, &all).map(|n| entries[n]);
            prop_assert!(is_right(chosen, &entries), "{chosen:?}");
        }

        /// Over many choices, while others come into the slots: whoever goes may, and
        /// none of those drawn for it goes before.
        #[test]
        fn what_was_kept_is_looked_at_again(
            entries in proptest::collection::vec(any_candidate(), 30),
            choices in proptest::collection::vec(
                (proptest::collection::vec(0usize..30, 0..6), 0usize..30, any_candidate()), 1..40,
            ),
        ) {
            let (mut pool, mut entries) = (Pool::default(), entries);
            for (drawn, changed, other) in choices {
                entries[changed] = other;
                let mut seen: Vec<_> = drawn.iter().map(|&n| entries[n]).collect();
                let chosen = choose(&mut pool, &entries, &drawn).map(|n| entries[n]);
                seen.extend(chosen);
                prop_assert!(is_right(chosen, &seen), "{chosen:?} of {seen:?}");
            }
        }

        /// Where nothing changes, the least of all that were drawn since and have a place
        /// goes.
        #[test]
        fn keeps_who_comes_next(
            ages in proptest::collection::vec(0u32..1 << 30, 60),
            choices in proptest::collection::vec(proptest::collection::vec(0usize..60, 0..8), 1..40),
        ) {
            let of = |&age: &u32| Candidate {
                marks: Marks::new(Op::new(0).before(age), Class::FIRST, false),
                ..Candidate::default()
            };
            let mut entries: Vec<_> = ages.iter().map(of).collect();
            let (mut pool, mut kept) = (Pool::default(), Vec::new());
            for drawn in choices {
                for &n in drawn.iter().filter(|&&n| entries[n].standing == Standing::Live) {
                    if !kept.contains(&n) {
                        kept.push(n);
                        kept.sort_by(|&a, &b| worth(&entries[a]).total_cmp(&worth(&entries[b])));
                        kept.truncate(POOL);
                    }
                }
                let chosen = choose(&mut pool, &entries, &drawn);
                let expected = kept.first().map(|&n| worth(&entries[n]));
                prop_assert_eq!(chosen.map(|n| worth(&entries[n])), expected);
                if let Some(chosen) = chosen {
                    kept.retain(|&n| n != chosen);
                    entries[chosen].standing = Standing::Leased;
                }
            }
        }
    }

    #[test]
    fn who_was_used_since_stays_and_who_is_gone_is_passed_over() {
        let aged = |age: u64| Candidate {
            marks: Marks::new(Op::new(0).before(age as u32), Class::FIRST, false),
            ..Candidate::default()
        };
        let mut entries: Vec<_> = (1..=6).map(|n| aged(n * 1000)).collect();
        let mut pool = Pool::default();
        assert_eq!(choose(&mut pool, &entries, &[0, 1, 2, 3, 4, 5]), Some(5), "the oldest");
        entries[4] = aged(0);
        entries[3].standing = Standing::Leased;
        assert_eq!(
            choose(&mut pool, &entries, &[]),
            Some(2),
            "the next but two: one was used, one is leased"
        );
        entries[1].standing = Standing::Gone;
        assert_eq!(choose(&mut pool, &entries, &[]), Some(1));
        pool.clear();
        assert_eq!(choose(&mut pool, &entries, &[]), None);
    }

    #[test]
    fn weights_are_measured_by_the_mean_and_end_somewhere() {
        let entry = |cost, size| Candidate { cost: Cost(cost), size, ..Candidate::default() };
        // In parts of the mean, which all that are seen first have.
        let weigh = |weight, other: Candidate| {
            let mut weigher = Weigher::new(weight);
            (0..2000).for_each(|_| {
                weigher.weigh(&entry(100, 1000));
            });
            let mean = weigher.clone().weigh(&entry(100, 1000));
            weigher.weigh(&other) / mean
        };
        let near = |weight: f32, expected: f32| assert!((weight / expected - 1.0).abs() < 0.1, "{weight}");
        near(weigh(Weight::CostSize, entry(200, 1000)), 2.0);
        near(weigh(Weight::CostSize, entry(100, 4000)), 0.25);
        near(weigh(Weight::CostSize, entry(0, 1000)), 1.0);
        near(weigh(Weight::CostSize, entry(1, u32::MAX)), 1.0 / LEAST);
        near(weigh(Weight::Size, entry(900, 500)), 2.0);
        near(weigh(Weight::Cost, entry(300, 500)), 3.0);
        near(weigh(Weight::CostSize, entry(u32::MAX, 1)), MOST);
        assert_eq!(weigh(Weight::None, entry(300, 500)), 1.0);
        assert_eq!(Weigher::new(Weight::Cost).weigh(&entry(0, 0)), 1.0, "nothing is known yet");
    }
}
