//! Against exact counting.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Add(Db, u8, u64),
    Remove(Db, u8),
    Decay,
    Flush(Option<Db>),
    Swap,
    Resize(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let db = 0usize..2;
    // Few names are drawn often.
    let name = (any::<u8>(), any::<u8>()).prop_map(|(a, b)| a & b);
    let step = prop_oneof![
        60 => (db.clone(), name.clone(), 1u64..50).prop_map(|(db, name, weight)| Step::Add(db, name, weight)),
        4 => (db.clone(), name).prop_map(|(db, name)| Step::Remove(db, name)),
        2 => Just(Step::Decay),
        1 => proptest::option::of(db).prop_map(Step::Flush),
        1 => Just(Step::Swap),
        1 => (1usize..24).prop_map(Step::Resize),
    ];
    proptest::collection::vec(step, 0..400)
}

impl<T> Hitters<T> {
    /// What is wrong inside.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.heap.len() != self.hitters.len() || self.names.len() != self.heap.len() {
            problems.push("not as many here as there".into());
        }
        for (place, &id) in self.heap.iter().enumerate() {
            let Some(hitter) = self.get(id) else {
                problems.push(format!("{id} is not there"));
                continue;
            };
            if hitter.place != place || self.find(hitter.db, &hitter.name) != Some(id) {
                problems.push(format!("{id} is not found"));
            }
            if place > 0 && self.weight((place - 1) / 2) > self.weight(place) {
                problems.push(format!("{id} is lighter than what is above it"));
            }
        }
        let bytes: usize = self.iter().map(|(_, hitter)| block(hitter.name.len())).sum();
        if bytes != self.bytes {
            problems.push(format!("{bytes} bytes, not {}", self.bytes));
        }
        problems
    }
}

const CLOSE: f64 = 1e-6;

proptest! {
    #[test]
    fn figures_are_as_exact_as_promised(steps in steps()) {
        let (mut table, mut exact, mut least) = (Hitters::new(12), HashMap::<(Db, u8), f64>::new(), 12);
        let mut all = 0.0;
        for step in steps {
            match step {
                Step::Add(db, name, weight) => {
                    table.add(db, &[name], weight, || ());
                    *exact.entry((db, name)).or_default() += weight as f64;
                    all += weight as f64;
                }
                Step::Remove(db, name) => {
                    if let Some(id) = table.find(db, &[name]) {
                        prop_assert_eq!(&*table.remove(id).expect("found").name, &[name]);
                        exact.remove(&(db, name));
                    }
                }
                Step::Decay => {
                    // No floor: what is dropped is dropped from the model too.
                    table.decay(0.5, 0.0, |_, _| ());
                    exact.values_mut().for_each(|weight| *weight *= 0.5);
                    all *= 0.5;
                }
                Step::Flush(db) => {
                    table.flush(db, |_, _| ());
                    exact.retain(|(of, _), _| db.is_some_and(|db| db != *of));
                }
                Step::Swap => {
                    table.swap(0, 1);
                    exact = exact.into_iter().map(|((db, name), weight)| ((1 - db, name), weight)).collect();
                }
                Step::Resize(capacity) => {
                    table.resize(capacity, |_, _| ());
                    least = least.min(capacity);
                }
            }
            prop_assert_eq!(table.problems(), Vec::<String>::new());
            prop_assert!(table.len() <= table.capacity());
            if table.is_empty() {
                // Nothing is promised of what was missed before.
                prop_assert_eq!(table.allocated(), 0);
                exact.clear();
            }
            let bound = all / least as f64 + CLOSE;
            for (_, hitter) in table.iter() {
                let weight = exact.get(&(hitter.db, hitter.name[0])).copied().unwrap_or(0.0);
                prop_assert!(hitter.weight + CLOSE >= weight, "{hitter:?} is less than {weight}");
                prop_assert!(hitter.weight - hitter.error <= weight + CLOSE, "{hitter:?}, not {weight}");
                prop_assert!(hitter.error <= bound, "{hitter:?} is more than {bound} too high");
            }
            for ((db, name), weight) in &exact {
                prop_assert!(*weight <= bound || table.find(*db, &[*name]).is_some(), "{name}: {weight}");
            }
        }
    }

    #[test]
    fn the_heaviest_come_first(weights in proptest::collection::vec(0u64..1000, 0..50)) {
        let mut table = Hitters::new(64);
        for (n, weight) in weights.iter().enumerate() {
            table.add(0, &n.to_be_bytes(), *weight, || n);
        }
        let mut sorted = weights;
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let shown: Vec<u64> = table.sorted().iter().map(|hitter| hitter.weight as u64).collect();
        prop_assert_eq!(shown, sorted);
    }
}

#[test]
fn the_lightest_makes_room_and_leaves_its_weight() {
    let mut table = Hitters::new(2);
    assert!(matches!(table.add(0, b"a", 5, || 'a'), Added::New(0)));
    assert!(matches!(table.add(1, b"a", 3, || 'b'), Added::New(_)), "of another database");
    assert!(matches!(table.add(0, b"c", 1, || 'c'), Added::Replaced(_, _, Hitter { of: 'b', .. })));
    let shown: Vec<_> = table.sorted().iter().map(|of| (of.of, of.weight, of.error)).collect();
    assert_eq!(shown, [('a', 5.0, 0.0), ('c', 4.0, 3.0)]);
    assert!(matches!(table.add(0, b"a", 1, || 'd'), Added::Known(0)));
}

#[test]
fn what_has_no_counter_is_refused() {
    let mut table = Hitters::new(2);
    assert!(matches!(table.add(0, &[b'n'; LONGEST_NAME + 1], 1, || ()), Added::Refused));
    assert!(matches!(table.add(0, &[b'n'; LONGEST_NAME], u64::MAX, || ()), Added::New(_)));
    table.resize(0, |_, _| ());
    assert!(matches!(table.add(0, b"a", 1, || ()), Added::Refused));
    assert_eq!(table.allocated(), 0);
}

#[test]
fn next_to_nothing_is_dropped() {
    let mut table = Hitters::new(8);
    table.add(0, b"heavy", 4, || 1);
    table.add(0, b"light", 1, || 2);
    let mut gone = Vec::new();
    table.decay(0.25, 0.5, |_, hitter| gone.push(hitter.of));
    assert_eq!((gone, table.len()), (vec![2], 1));
    table.decay(0.25, 0.5, |_, _| ());
    assert_eq!(table.allocated(), 0);
}

#[test]
fn halves_in_five_minutes_a_minute_at_a_time() {
    let mut life = HalfLife::default();
    assert_eq!(life.factor(Time(1000)), None);
    assert_eq!(life.factor(Time(60_999)), None);
    let mut all = life.factor(Time(61_000)).expect("a minute");
    assert_eq!(life.factor(Time(120_999)), None);
    for minute in 2..=5 {
        all *= life.factor(Time(1000 + minute * 60_000)).expect("a minute");
    }
    assert!((all - 0.5).abs() < 1e-12, "{all}");
    assert!((life.factor(Time(901_000)).expect("ten minutes") - 0.25).abs() < 1e-12);
    assert_eq!(life.factor(Time(5)), None, "set back");
    assert_eq!(life.factor(Time(60_004)), None);
    assert!(life.factor(Time(u64::MAX)).expect("an age") >= 0.0);
    life.restart(Time(500));
    assert_eq!(life.factor(Time(60_499)), None);
    assert!(life.factor(Time(60_500)).is_some());
}
