//! Against a list that is walked each time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const SPACES: [&[u8]; 2] = [b"a", b"b"];

#[derive(Clone, Debug)]
enum Step {
    Read { db: Db, name: u8, reads: u64, cost: u32, due: Option<u64> },
    Written { db: Db, name: u8, due: Option<u64> },
    Forget(Db, u8),
    Flush(Option<Db>),
    Swap,
    Wait(u64),
    Use,
    Best { db: Db, space: Option<usize>, then: u8 },
    Restore { db: Db, name: u8, weight: u64, hits: u64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (db, name, due) = (0usize..2, 0u8..12, proptest::option::weighted(0.9, 0u64..500));
    let step = prop_oneof![
        20 => (db.clone(), name.clone(), 1u64..4, 0u32..50, due.clone())
            .prop_map(|(db, name, reads, cost, due)| Step::Read { db, name, reads, cost, due }),
        6 => (db.clone(), name.clone(), due).prop_map(|(db, name, due)| Step::Written { db, name, due }),
        2 => (db.clone(), name.clone()).prop_map(|(db, name)| Step::Forget(db, name)),
        1 => proptest::option::of(db.clone()).prop_map(Step::Flush),
        1 => Just(Step::Swap),
        8 => prop_oneof![9 => 1u64..300, 1 => 50_000u64..400_000].prop_map(Step::Wait),
        1 => Just(Step::Use),
        20 => (db.clone(), proptest::option::of(0usize..2), 0u8..4)
            .prop_map(|(db, space, then)| Step::Best { db, space, then }),
        2 => (db, name, 0u64..200, 0u64..5)
            .prop_map(|(db, name, weight, hits)| Step::Restore { db, name, weight, hits }),
    ];
    proptest::collection::vec(step, 0..250)
}

#[derive(Debug)]
struct Naive {
    weight: f64,
    hits: f64,
    offers: f64,
    due: Option<Time>,
    ready: bool,
}

/// The same by walking a list.
#[derive(Debug, Default)]
struct Model {
    all: BTreeMap<(Db, u8), Naive>,
    life: HalfLife,
    used: Option<Time>,
}

impl Model {
    fn put(&mut self, at: (Db, u8), due: Option<Time>) {
        if let Some(of) = self.all.get_mut(&at) {
            // As told twice within two milliseconds.
            let again = !of.ready && of.due.zip(due).is_some_and(|(old, new)| old.0.abs_diff(new.0) <= 2);
            if !again {
                (of.due, of.ready) = (due, false);
            }
        }
    }

    fn add(&mut self, at: (Db, u8), weight: u64, hits: u64) {
        let none = Naive { weight: 0.0, hits: 0.0, offers: 0.0, due: None, ready: false };
        let of = self.all.entry(at).or_insert(none);
        of.weight += weight as f64;
        of.hits += hits as f64;
    }

    fn decay(&mut self, now: Time) {
        if self.all.is_empty() {
            return self.life.restart(now);
        }
        if let Some(factor) = self.life.factor(now) {
            for of in self.all.values_mut() {
                of.weight *= factor;
                of.hits *= factor;
                of.offers *= factor;
            }
            self.all.retain(|_, of| of.weight >= FLOOR);
        }
    }

    /// The highest weight of those that may be answered.
    fn best(&mut self, db: Db, space: Option<usize>, now: Time) -> Option<u64> {
        for of in self.all.values_mut().filter(|of| !of.ready && of.due.is_some_and(|due| due <= now)) {
            (of.due, of.ready) = (of.due.filter(|_| of.hits > of.offers), of.hits > of.offers);
        }
        let those = |(of, name): &(Db, u8)| *of == db && space.is_none_or(|space| space == space_of(*name));
        self.all.iter().filter(|(at, of)| of.ready && those(at)).map(|(_, of)| of.weight as u64).max()
    }
}

fn space_of(name: u8) -> usize {
    usize::from(name % 2)
}

fn namespace(name: u8) -> &'static [u8] {
    SPACES[space_of(name)]
}

fn run(steps: Vec<Step>, capacity: usize) -> Result<(), TestCaseError> {
    let (mut table, mut model, mut now) = (Ahead::default(), Model::default(), Time(1000));
    table.resize(capacity);
    // With room for fewer, only what holds of any table is looked at.
    let exact = capacity >= 24;
    for step in steps {
        let after = |due: Option<u64>| due.and_then(|due| now.after(Millis(due)));
        match step {
            Step::Read { db, name, reads, cost, due } => {
                table.read(db, &[name], namespace(name), reads, Cost(cost), due.map(Millis), now);
                model.decay(now);
                model.add((db, name), reads * u64::from(cost.max(UNMEASURED)), reads);
                model.put((db, name), after(due));
            }
            Step::Written { db, name, due } => {
                table.written(db, &[name], due.map(Millis), now);
                model.put((db, name), after(due));
            }
            Step::Forget(db, name) => {
                table.forget(db, &[name]);
                model.all.remove(&(db, name));
            }
            Step::Flush(db) => {
                table.flush(db);
                model.all.retain(|(of, _), _| db.is_some_and(|db| db != *of));
            }
            Step::Swap => {
                table.swap(0, 1);
                let all = std::mem::take(&mut model.all);
                model.all = all.into_iter().map(|((db, name), of)| ((1 - db, name), of)).collect();
            }
            Step::Wait(ms) => {
                now = Time(now.0 + ms);
                table.decay(now);
                model.decay(now);
            }
            Step::Use => {
                if !table.is_used(now) {
                    let all: Vec<_> = model.all.keys().copied().collect();
                    all.into_iter().for_each(|at| model.put(at, Some(now)));
                }
                table.used(now);
                model.used = Some(now);
            }
            Step::Best { db, space, then } => {
                let group = Group::new(db, space.map(|space| SPACES[space]));
                let found = table.best(group, now);
                let highest = model.best(db, space, now);
                if exact {
                    let weight = |name: &[u8]| model.all[&(db, name[0])].weight as u64;
                    prop_assert_eq!(found.as_ref().map(|(_, name)| weight(name)), highest);
                }
                let Some((id, name)) = found else { continue };
                prop_assert!(space.is_none_or(|space| space == space_of(name[0])), "{name:?}");
                let again = Time(now.0 + 100);
                let of = model.all.get_mut(&(db, name[0]));
                match then {
                    0 => table.offered(id, again),
                    1 => table.later(id, again),
                    2 => table.never(id),
                    _ => table.drop(id),
                }
                match (of, then) {
                    (Some(of), 0) => {
                        (of.offers, of.due, of.ready) = (of.offers + 1.0, Some(again), false);
                    }
                    (Some(of), 1) => (of.due, of.ready) = (Some(again), false),
                    (Some(of), 2) => (of.due, of.ready) = (None, false),
                    _ => {
                        model.all.remove(&(db, name[0]));
                    }
                }
            }
            Step::Restore { db, name, weight, hits } => {
                table.restore(&Saved { db, name: &[name], weight, hits }, namespace(name), now);
                model.decay(now);
                let (had, read) =
                    model.all.get(&(db, name)).map_or((0, 0), |of| (of.weight as u64, of.hits as u64));
                model.add((db, name), weight.saturating_sub(had), hits.saturating_sub(read));
                model.put((db, name), Some(now));
            }
        }
        prop_assert_eq!(table.validate(), Vec::<String>::new());
        prop_assert!(table.len() <= capacity);
        if exact {
            prop_assert_eq!(table.len(), model.all.len());
            let next = model.all.values().filter(|of| !of.ready).filter_map(|of| of.due).min();
            prop_assert_eq!(table.next_due(), next);
        }
    }
    table.flush(None);
    prop_assert_eq!(table.allocated(), 0);
    Ok(())
}

proptest! {
    #[test]
    fn as_a_list_would_have_it(steps in steps()) {
        run(steps, 24)?;
    }

    #[test]
    fn whole_however_little_room_there_is(steps in steps(), capacity in 0usize..6) {
        run(steps, capacity)?;
    }
}

fn hot(names: &[(&[u8], u64)]) -> Ahead {
    let mut table = Ahead::default();
    table.resize(100);
    for (name, reads) in names {
        table.read(0, name, b"", *reads, Cost(0), Some(Millis(1000)), Time(0));
    }
    table
}

fn offer(table: &mut Ahead, now: u64) -> Option<Vec<u8>> {
    let (id, name) = table.best(Group::new(0, None), Time(now))?;
    table.offered(id, Time(now + 10));
    Some(name.into())
}

#[test]
fn the_heaviest_that_is_due() {
    let mut table = hot(&[(b"warm", 5), (b"hot", 50), (b"cool", 1)]);
    assert_eq!(offer(&mut table, 999), None);
    let order: Vec<_> = (0..3).map_while(|_| offer(&mut table, 1000)).collect();
    assert_eq!(order, [b"hot".to_vec(), b"warm".to_vec(), b"cool".to_vec()]);
    assert_eq!(offer(&mut table, 1000), None, "each once");
}

#[test]
fn not_more_often_than_it_is_read() {
    let mut table = hot(&[(b"k", 3)]);
    table.used(Time(0));
    let offers = (0..100).filter(|n| offer(&mut table, 2000 + n * 20).is_some()).count();
    assert_eq!(offers, 3);
    table.read(0, b"k", b"", 1, Cost(0), Some(Millis(10)), Time(9000));
    assert!(offer(&mut table, 9010).is_some(), "read again, offered again");
}

#[test]
fn what_leaves_is_due_at_once_and_what_is_deleted_is_not() {
    let mut table = hot(&[(b"evicted", 5), (b"deleted", 9)]);
    table.due(0, b"evicted", Time(10));
    table.due(0, b"deleted", Time(10));
    table.forget(0, b"deleted");
    table.due(0, b"never read", Time(10));
    assert_eq!(offer(&mut table, 10), Some(b"evicted".to_vec()));
    assert_eq!(offer(&mut table, 10), None);
}

#[test]
fn all_are_due_for_who_uses_it_after_a_while() {
    let mut table = hot(&[(b"a", 5), (b"b", 9)]);
    table.written(0, b"a", None, Time(5));
    table.used(Time(10));
    assert_eq!((offer(&mut table, 10), offer(&mut table, 10)), (Some(b"b".to_vec()), Some(b"a".to_vec())));
    assert!(table.is_used(Time(10 + FORGOTTEN.0 - 1)) && !table.is_used(Time(10 + FORGOTTEN.0)));
}

#[test]
fn when_an_entry_is_due() {
    let meta = Meta { fresh_until: Some(Time(61_000)), length: Some(Millis(60_000)), ..Meta::default() };
    assert_eq!(due_in(&meta, Cost(0), Time(1000)), Some(Millis(60_000 - refresh::LEAD.0)));
    assert_eq!(due_in(&meta, Cost(1000), Time(1000)), Some(Millis(57_000)));
    assert_eq!(due_in(&meta, Cost(1000), Time(99_000)), Some(Millis(0)));
    let stale = Meta { staled_at: Some(Time(1)), ..meta };
    assert_eq!(due_in(&stale, Cost(0), Time(1000)), Some(Millis(0)));
    assert_eq!(due_in(&Meta::default(), Cost(0), Time(1000)), None);
}

#[test]
fn what_is_restored_is_due_and_heavier_than_nothing() {
    let mut table = hot(&[(b"here", 7)]);
    table.restore(&Saved { db: 0, name: b"there", weight: 90, hits: 3 }, b"", Time(5));
    table.restore(&Saved { db: 0, name: b"here", weight: 2, hits: 1 }, b"", Time(5));
    let saved: Vec<_> = table.saved().map(|of| (of.name.to_vec(), of.weight, of.hits)).collect();
    assert_eq!(saved, [(b"there".to_vec(), 90, 3), (b"here".to_vec(), 7, 7)]);
    assert_eq!(offer(&mut table, 5), Some(b"there".to_vec()));
    table.resize(2);
    table.restore(&Saved { db: 0, name: b"light", weight: 1, hits: 1 }, b"", Time(5));
    assert!(table.saved().all(|of| of.name != b"light"));
}
