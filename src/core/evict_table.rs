//! What keeping an entry is worth, learned: hits to come for the room and the
//! time that they take.
//!
//! # What is learned
//! A life begins with a use and ends with the next one. Of each class is
//! counted at which age lives end, and at which they were last seen going on;
//! from that the chance that a life which has reached an age ends in the bucket
//! of that age (Kaplan and Meier, JASA 1958; what is seen to leave a bucket
//! unfinished counts half in it). Few lives say little: to each bucket are added
//! [`PRIOR`] lives that end as those of all classes together do, and to those as
//! many that end at a rate of c ÷ (1 + age).
//!
//! # What is it worth
//! The index of a class at an age: over all ages at which one might give the
//! entry up, the most of (chance of a hit by then) ÷ (time kept until then).
//! That is the Gittins index of the wait for one use, and the reason why an
//! entry that is used every million operations is not given up at half a
//! million, however old it is. (Hit density: Beckmann, Chen, Cidon, "LHD:
//! Improving Cache Hit Rate by Maximizing Hit Density", NSDI 2018.)
//!
//! What was counted is forgotten by a twentieth with each rebuild. A rebuild goes
//! class by class, each some 35 µs.

use crate::evict_class::{bucket, start, Class, BUCKETS, CLASSES};
use crate::units::block;

/// Lives that each bucket is given beforehand.
pub const PRIOR: f32 = 4.0;
/// What is left of the counts after a rebuild.
pub const KEPT: f32 = 0.95;
/// The share of lives that end while their age doubles, where nothing is known.
const UNLEARNED: f32 = 0.3;
/// The share of lives that go on below which no longer horizon is looked at.
const LEAST_ALIVE: f32 = 1e-6;

type Row = [f32; BUCKETS];

/// What was seen of one class.
#[derive(Clone, Debug)]
pub struct Lives {
    /// Lives that ended in a use, by age.
    pub ended: Row,
    /// Lives that were lost from sight, by age.
    pub lost: Row,
    /// Lives that go on, by age: counted anew for each rebuild.
    pub open: Row,
}

impl Lives {
    const NONE: Lives = Lives { ended: [0.0; BUCKETS], lost: [0.0; BUCKETS], open: [0.0; BUCKETS] };
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Table {
    worth: Vec<Row>,
    lives: Vec<Lives>,
    /// The chances of all classes together, of this rebuild.
    common: Row,
}

impl Default for Table {
    fn default() -> Table {
        let common = unlearned();
        let mut first = [0.0; BUCKETS];
        worth(&common, &mut first);
        Table { worth: vec![first; CLASSES], lives: vec![Lives::NONE; CLASSES], common }
    }
}

/// The widths of the buckets in operations.
const WIDTHS: Row = {
    let mut widths = [0.0; BUCKETS];
    let mut b = 0;
    while b < BUCKETS {
        widths[b] = (start(b + 1) - start(b)) as f32;
        b += 1;
    }
    widths
};

/// The chances where nothing was seen.
fn unlearned() -> Row {
    let mut chances = [0.0; BUCKETS];
    for (b, chance) in chances.iter_mut().enumerate() {
        let octaves = ((start(b + 1) + 1) as f32 / (start(b) + 1) as f32).log2();
        *chance = 1.0 - (1.0 - UNLEARNED).powf(octaves);
    }
    chances
}

/// The chance that a life which has reached a bucket ends in it, given what was
/// seen and what is believed beforehand.
fn chances<'a>(lives: impl Iterator<Item = &'a Lives> + Clone, before: &Row) -> Row {
    let mut chances = [0.0; BUCKETS];
    // Lives that reached the bucket's end.
    let mut beyond = 0.0;
    for b in (0..BUCKETS).rev() {
        let (ended, left) = lives.clone().fold((0.0, 0.0), |(ended, left), lives| {
            (ended + lives.ended[b], left + lives.lost[b] + lives.open[b])
        });
        let reached = beyond + ended + left;
        chances[b] = (ended + PRIOR * before[b]) / (reached - left / 2.0 + PRIOR);
        beyond = reached;
    }
    chances
}

/// The index at each bucket, from the chances.
fn worth(chances: &Row, into: &mut Row) {
    for (from, index) in into.iter_mut().enumerate() {
        let (mut alive, mut time) = (1.0f32, 0.0f32);
        // The best so far as two terms: seven thousand divisions a class would be
        // most of a rebuild.
        let (mut hits, mut kept) = (0.0f32, 1.0f32);
        for (chance, width) in chances.iter().zip(&WIDTHS).skip(from) {
            let next = alive * (1.0 - chance);
            time += width * (alive + next) / 2.0;
            if (1.0 - next) * kept > hits * time {
                (hits, kept) = (1.0 - next, time);
            }
            alive = next;
            // Who waits longer can gain no more than this.
            if alive < LEAST_ALIVE {
                break;
            }
        }
        *index = hits / kept;
    }
}

impl Table {
    /// What an entry of this class and age is worth keeping.
    #[inline]
    pub fn worth(&self, class: Class, age: u32) -> f32 {
        // Both are below their bounds by their makers.
        self.worth.get(class.number()).map_or(0.0, |row| row[bucket(age)])
    }

    /// A life of this class has ended in a use, at this age.
    #[inline]
    pub fn ended(&mut self, class: Class, age: u32) {
        if let Some(lives) = self.lives.get_mut(class.number()) {
            lives.ended[bucket(age)] += 1.0;
        }
    }

    /// A life of this class is followed no longer.
    pub fn lost(&mut self, class: Class, age: u32) {
        if let Some(lives) = self.lives.get_mut(class.number()) {
            lives.lost[bucket(age)] += 1.0;
        }
    }

    /// A life of this class goes on.
    pub fn open(&mut self, class: Class, age: u32) {
        if let Some(lives) = self.lives.get_mut(class.number()) {
            lives.open[bucket(age)] += 1.0;
        }
    }

    /// The first step of a rebuild, when the lives that go on have been
    /// counted.
    pub fn begin(&mut self) {
        self.common = chances(self.lives.iter(), &unlearned());
    }

    /// The step of each class: learns from what was seen of it, and forgets.
    pub fn learn(&mut self, class: Class) {
        let Some((lives, row)) = self.lives.get_mut(class.number()).zip(self.worth.get_mut(class.number()))
        else {
            return;
        };
        worth(&chances(std::iter::once(&*lives), &self.common), row);
        lives.open = [0.0; BUCKETS];
        lives.ended.iter_mut().chain(&mut lives.lost).for_each(|count| *count *= KEPT);
    }

    /// What was seen of a class.
    pub fn lives(&self, class: Class) -> &Lives {
        // There are as many as classes.
        &self.lives[class.number()]
    }

    /// Bytes allocated.
    pub fn allocated(&self) -> usize {
        block(CLASSES * size_of::<Row>()) + block(CLASSES * size_of::<Lives>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a naive computation makes of lives: (age, ended in a use).
    fn naive_chances(lives: &[(usize, bool)], before: &[f64]) -> Vec<f64> {
        let prior = f64::from(PRIOR);
        (0..BUCKETS)
            .map(|b| {
                let reached = lives.iter().filter(|(at, _)| *at >= b).count() as f64;
                let ended = lives.iter().filter(|(at, ended)| *at == b && *ended).count() as f64;
                let left = lives.iter().filter(|(at, ended)| *at == b && !*ended).count() as f64;
                (ended + prior * before[b]) / (reached - left / 2.0 + prior)
            })
            .collect()
    }

    /// Every horizon of every bucket, each summed from the start.
    fn naive_worth(chances: &[f64]) -> Vec<f64> {
        let of_bucket = |from: usize| {
            let mut alive = vec![1.0];
            chances[from..].iter().for_each(|chance| alive.push(alive[alive.len() - 1] * (1.0 - chance)));
            let horizon = |buckets: usize| {
                let widths = (from..from + buckets).map(|b| (start(b + 1) - start(b)) as f64);
                let time: f64 =
                    widths.zip(alive.windows(2)).map(|(w, ends)| w * (ends[0] + ends[1]) / 2.0).sum();
                (1.0 - alive[buckets]) / time
            };
            (1..=BUCKETS - from).map(horizon).fold(0.0, f64::max)
        };
        (0..BUCKETS).map(of_bucket).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn learns_what_a_naive_computation_does(
            lives in proptest::collection::vec((0usize..3, 0usize..BUCKETS, 0u8..3), 0..400)
        ) {
            let mut table = Table::default();
            let mut seen = vec![Vec::new(); 3];
            for (class, b, how) in lives {
                let (of, age) = (Class::of(class).expect("a class"), start(b) as u32);
                match how {
                    0 => table.ended(of, age),
                    1 => table.lost(of, age),
                    _ => table.open(of, age),
                }
                seen[class].push((b, how == 0));
            }
            table.begin();
            let wide = |row: &Row| row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let common = naive_chances(&seen.concat(), &wide(&unlearned()));
            for (class, lives) in seen.iter().enumerate() {
                let of = Class::of(class).expect("a class");
                table.learn(of);
                let expected = naive_worth(&naive_chances(lives, &common));
                for (b, expected) in expected.iter().enumerate() {
                    let learned = f64::from(table.worth(of, start(b) as u32));
                    prop_assert!((learned / expected - 1.0).abs() < 1e-3, "class {class} bucket {b}: {learned}, not {expected}");
                }
            }
        }
    }

    #[test]
    fn unlearned_it_is_one_by_age() {
        let table = Table::default();
        let ages: Vec<f32> = (0..BUCKETS).map(|b| table.worth(Class::FIRST, start(b) as u32)).collect();
        assert!(ages.windows(2).all(|two| two[0] > two[1]), "the longest unused goes first");
    }

    #[test]
    fn who_comes_back_on_time_is_worth_more_shortly_before() {
        let (mut table, of) = (Table::default(), Class::of(9).expect("a class"));
        for _ in 0..2000 {
            table.ended(of, 1_000_000);
        }
        table.begin();
        table.learn(of);
        assert!(table.worth(of, 900_000) > 3.0 * table.worth(of, 100_000));
        assert!(table.worth(of, 900_000) > 5.0 * table.worth(of, 4_000_000), "it is not coming any more");
        for _ in 0..300 {
            table.begin();
            table.learn(of);
        }
        let first = Table::default().worth(of, 900_000);
        assert!((table.worth(of, 900_000) / first - 1.0).abs() < 0.01, "all is forgotten in time");
    }
}
