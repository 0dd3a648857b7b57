//! Random sequences of commands against a model that keeps nothing but the
//! sentences of COMMANDS.md: a value, two lengths, two ends and two flags.

use super::*;
use crate::entry::{build, Cost, View};
use proptest::prelude::*;

/// No TTL is chosen in these.
fn outlook(_: Bounds) -> Outlook {
    panic!("asked")
}

/// What COMMANDS.md says about an entry, kept the naive way.
#[derive(Clone, Debug, PartialEq)]
struct Model {
    value: Vec<u8>,
    end: Option<u64>,
    length: Option<u64>,
    grace: u64,
    ttl: Option<u64>,
    staled: bool,
    written: u64,
    cost: u32,
}

impl Model {
    fn fresh(&self, now: u64) -> bool {
        !self.staled && self.end.is_none_or(|e| now < e) && self.ttl.is_none_or(|e| now < e)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Set { value: i64, condition: Condition, ex: u64, grace: Option<u64>, cost: Option<u32> },
    SetKeep { value: i64 },
    Touch { ex: Option<u64>, grace: Option<u64> },
    Stale,
    Incr(i64),
    Expire(u64),
    Persist,
}

fn step() -> impl Strategy<Value = Step> {
    let condition = prop_oneof![Just(Condition::Always), Just(Condition::Absent), Just(Condition::Present)];
    let small = || proptest::option::of(0u64..40);
    prop_oneof![
        (0u64..30).prop_map(Step::Wait),
        (any::<i64>(), condition, 0u64..50, small(), proptest::option::of(0u32..9))
            .prop_map(|(value, condition, ex, grace, cost)| Step::Set { value, condition, ex, grace, cost }),
        any::<i64>().prop_map(|value| Step::SetKeep { value }),
        (proptest::option::of(1u64..50), small()).prop_map(|(ex, grace)| Step::Touch { ex, grace }),
        Just(Step::Stale),
        any::<i64>().prop_map(Step::Incr),
        (1u64..60).prop_map(Step::Expire),
        Just(Step::Persist),
    ]
}

/// The store under test: what the module would hold.
#[derive(Default)]
struct Store {
    entry: Option<(Box<[u8]>, Option<Time>)>,
}

impl Store {
    fn found(&self) -> (Found<'_>, Option<Time>) {
        match &self.entry {
            None => (Found::Absent, None),
            Some((bytes, expire)) => {
                let view = View::new(bytes);
                (Found::Entry(Live { meta: view.meta(), value: view.content() }), *expire)
            }
        }
    }

    fn perform(&mut self, write: Write, value: &[u8]) {
        match write {
            Write::Nothing => {}
            Write::Remove => self.entry = None,
            Write::Store { meta, expire, .. } => {
                assert!(meta.is_sound(), "{meta:?}");
                self.entry =
                    Some((build(&meta, b"key", Content::Plain(value), &[]).expect("memory"), expire));
            }
        }
    }

    fn value(&self) -> Vec<u8> {
        self.entry.as_ref().map(|(bytes, _)| View::new(bytes).content().stored().to_vec()).unwrap_or_default()
    }
}

fn apply_to_model(model: &mut Option<Model>, step: &Step, now: u64) {
    let fresh = model.as_ref().is_some_and(|m| m.fresh(now));
    let ends = |ex: Option<u64>, grace: u64| (ex.map(|ex| now + ex), ex.map(|ex| now + ex + grace));
    match *step {
        Step::Wait(_) => {}
        Step::Set { value, condition, ex, grace, cost } => {
            let holds = match condition {
                Condition::Always => true,
                Condition::Absent => model.is_none(),
                Condition::Present => model.is_some(),
            };
            if !holds {
                return;
            }
            let ex = (ex > 0).then_some(ex);
            let grace = if ex.is_some() { grace.unwrap_or(0) } else { 0 };
            let (end, ttl) = ends(ex, grace);
            let cost = cost.unwrap_or(model.as_ref().map_or(0, |m| m.cost));
            let value = value.to_string().into_bytes();
            *model = Some(Model { value, end, length: ex, grace, ttl, staled: false, written: now, cost });
        }
        Step::SetKeep { value } => {
            let value = value.to_string().into_bytes();
            let cost = model.as_ref().map_or(0, |m| m.cost);
            let naked = Model {
                value: value.clone(),
                end: None,
                length: None,
                grace: 0,
                ttl: None,
                staled: false,
                written: now,
                cost,
            };
            *model = match model.take() {
                Some(old) if fresh && old.end.is_none_or(|e| now < e) => {
                    Some(Model { value, written: now, ..old })
                }
                _ => Some(naked),
            };
        }
        Step::Touch { ex, grace } => {
            let Some(old) = model else { return };
            let (length, grace) = match ex {
                Some(ex) => (Some(ex), grace.unwrap_or(0)),
                None => (old.length, grace.unwrap_or(old.grace)),
            };
            let grace = if length.is_some() { grace } else { 0 };
            let (end, ttl) = ends(length, grace);
            *old = Model { end, length, grace, ttl, staled: false, written: now, ..old.clone() };
        }
        Step::Stale => {
            if let (Some(m), true) = (model, fresh) {
                m.staled = true;
            }
        }
        Step::Incr(by) => match model {
            None => {
                *model = Some(Model {
                    value: by.to_string().into_bytes(),
                    end: None,
                    length: None,
                    grace: 0,
                    ttl: None,
                    staled: false,
                    written: now,
                    cost: 0,
                });
            }
            Some(m) => {
                let old: i64 = String::from_utf8_lossy(&m.value).parse().expect("values are integers");
                if let Some(sum) = old.checked_add(by) {
                    m.value = sum.to_string().into_bytes();
                    m.written = now;
                }
            }
        },
        Step::Expire(after) => {
            if let Some(m) = model {
                m.ttl = Some(now + after);
            }
        }
        Step::Persist => {
            if let Some(m) = model {
                m.ttl = None;
            }
        }
    }
}

fn apply(store: &mut Store, step: &Step, at: Moment) {
    let (found, expire) = store.found();
    let old = match found {
        Found::Entry(live) => Some(live.meta),
        _ => None,
    };
    match *step {
        Step::Wait(_) => {}
        Step::Set { value, condition, ex, grace, cost } => {
            let expiry = if ex > 0 { Expiry::After(Millis(ex)) } else { Expiry::Unsaid };
            let options = SetOptions {
                condition,
                expiry,
                grace: grace.map(Millis),
                cost: cost.map(Cost),
                ..SetOptions::default()
            };
            let value = value.to_string().into_bytes();
            let write =
                set(&options, &value, found, || expire, at, Defaults::default(), outlook).expect("in range");
            store.perform(write, &value);
        }
        Step::SetKeep { value } => {
            let options = SetOptions { expiry: Expiry::Keep, ..SetOptions::default() };
            let value = value.to_string().into_bytes();
            let write =
                set(&options, &value, found, || expire, at, Defaults::default(), outlook).expect("in range");
            store.perform(write, &value);
        }
        Step::Touch { ex, grace } => {
            let expiry = ex.map_or(Expiry::Unsaid, |ex| Expiry::After(Millis(ex)));
            let options = TouchOptions { expiry, grace: grace.map(Millis), ..TouchOptions::default() };
            if let Found::Entry(old) = found {
                let write = touch(&options, old, at, Defaults::default(), outlook).expect("in range");
                let value = store.value();
                store.perform(write, &value);
            }
        }
        Step::Stale => {
            if let Some(old) = old {
                let (write, value) = (stale(&old, expire, at.now), store.value());
                store.perform(write, &value);
            }
        }
        Step::Incr(by) => {
            if let Ok((sum, write)) = incr(by, found, expire, at, Defaults::default()) {
                store.perform(write, sum.to_string().as_bytes());
            }
        }
        Step::Expire(after) => {
            if let Some((_, expire)) = &mut store.entry {
                *expire = Some(Time(at.now.0 + after));
            }
        }
        Step::Persist => {
            if let Some((_, expire)) = &mut store.entry {
                *expire = None;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_sequence_is_as_the_contract_says(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut now, mut store, mut model) = (1_000_000u64, Store::default(), None::<Model>);
        for (i, step) in steps.iter().enumerate() {
            if let Step::Wait(ms) = step {
                now += ms;
            }
            // The server expires keys; a TTL of zero length is past at once.
            if model.as_ref().is_some_and(|m| m.ttl.is_some_and(|e| e <= now)) {
                model = None;
                store.entry = None;
            }
            apply_to_model(&mut model, step, now);
            if model.as_ref().is_some_and(|m| m.ttl.is_some_and(|e| e <= now)) {
                model = None;
            }
            // Stamps that are not the clock's: TIMES must not lean on them.
            apply(&mut store, step, Moment { now: Time(now), stamp: Stamp(5_000_000_000 + i as u64) });
            let (found, expire) = store.found();
            match (found, &model) {
                (Found::Absent, None) => {}
                (Found::Entry(Live { meta, value }), Some(m)) => {
                    prop_assert_eq!(value, Content::Plain(&m.value));
                    prop_assert_eq!(expire.map(|t| t.0), m.ttl);
                    let ages = ages(&meta, expire, Time(now));
                    prop_assert_eq!(ages.fresh, m.fresh(now), "{:?}", m);
                    prop_assert_eq!(ages.age.0, now - m.written);
                    prop_assert_eq!(ages.gone_after.map(|t| t.0), m.ttl.map(|t| t - now));
                    let end = [m.end, m.ttl].into_iter().flatten().min();
                    let left = if ages.fresh { end.map(|e| e - now) } else { Some(0) };
                    prop_assert_eq!(ages.fresh_for.map(|t| t.0), left);
                    prop_assert_eq!(meta.cost.0, m.cost);
                }
                (found, model) => {
                    prop_assert!(false, "{} but {:?}", matches!(found, Found::Entry(_)), model);
                }
            }
        }
    }
}

#[test]
fn a_native_key_keeps_its_ttl_where_asked() {
    let at = Moment { now: Time(1000), stamp: Stamp(1_000_000) };
    let options = SetOptions { expiry: Expiry::Keep, ..SetOptions::default() };
    let write = set(&options, b"v", Found::Native, || Some(Time(1500)), at, Defaults::default(), outlook);
    let Ok(Write::Store { meta, expire, .. }) = write else { panic!("{write:?}") };
    assert_eq!((meta.fresh_until, expire), (Some(Time(1500)), Some(Time(1500))));
}

#[test]
fn increments_that_cannot_be() {
    let at = Moment { now: Time(1000), stamp: Stamp(1) };
    let run = |value: &[u8], by| {
        let live = Live { meta: Meta::default(), value: Content::Plain(value) };
        incr(by, Found::Entry(live), None, at, Defaults::default()).map(|(sum, _)| sum)
    };
    assert_eq!(run(b"41", 1), Ok(42));
    assert_eq!(run(b"4x", 1), Err(IncrError::NotAnInteger));
    assert_eq!(run(b"", 1), Err(IncrError::NotAnInteger));
    assert_eq!(run(b"9223372036854775807", 1), Err(IncrError::Overflow));
    let live = Live { meta: Meta::default(), value: Content::kept(b"41", Some(64)) };
    let packed = incr(1, Found::Entry(live), None, at, Defaults::default());
    assert_eq!(packed, Err(IncrError::NotAnInteger), "a packed value is longer");
    let native = incr(1, Found::Native, None, at, Defaults::default());
    assert_eq!(native, Err(IncrError::WrongType));
}

#[test]
fn what_invalidations_leave_of_an_entry() {
    let meta = Meta { born: Stamp(5_000), ..Meta::default() };
    assert_eq!(settle(meta, Verdict::Untouched), Some(meta));
    assert_eq!(settle(meta, Verdict::Dead), None);
    assert_eq!(settle(Meta { dead: true, ..meta }, Verdict::Untouched), None);
    let soft = settle(meta, Verdict::Stale(Stamp(9_000))).expect("stale");
    assert_eq!(soft.staled_at, Some(Time(9)));
    let by_hand = Meta { staled_at: Some(Time(7)), ..meta };
    assert_eq!(settle(by_hand, Verdict::Stale(Stamp(9_000))), Some(by_hand), "the first counts");
    let later = Meta { staled_at: Some(Time(11)), ..meta };
    assert_eq!(settle(later, Verdict::Stale(Stamp(9_000))).and_then(|m| m.staled_at), Some(Time(9)));
}

#[test]
fn a_key_that_moves_takes_its_past_along_and_finds_none() {
    let meta = Meta { born: Stamp(5), written: Time(3), ..Meta::default() };
    assert_eq!(moved(meta, Verdict::Untouched, Stamp(8)), Meta { born: Stamp(8), ..meta });
    assert_eq!(moved(meta, Verdict::Untouched, Stamp(2)), meta);
    assert!(moved(meta, Verdict::Dead, Stamp(8)).dead, "what is dead stays dead");
    assert_eq!(moved(meta, Verdict::Stale(Stamp(7_000)), Stamp(8)).staled_at, Some(Time(7)));
}

#[test]
fn what_fetch_finds() {
    let never = |_, _, _| -> bool { panic!("asked") };
    let meta = Meta { fresh_until: Some(Time(1000)), length: Some(Millis(500)), ..Meta::default() };
    let fresh =
        |left: Option<u64>| Fetched { there: There::Fresh { elected: false }, left: left.map(Millis) };
    let stale =
        |age, left: Option<u64>| Fetched { there: There::Stale { age: Millis(age) }, left: left.map(Millis) };
    let at = |meta: &Meta, expire: Option<u64>, now| fetch(meta, true, || expire.map(Time), Time(now), never);
    assert_eq!(at(&meta, Some(1300), 600), fresh(Some(400)));
    assert_eq!(at(&meta, Some(750), 600), fresh(Some(150)), "EXPIRE before the end shortens it");
    assert_eq!(at(&meta, Some(1300), 1000), stale(0, Some(300)));
    assert_eq!(at(&meta, Some(1300), 1100), stale(100, Some(200)));
    assert_eq!(at(&Meta::default(), None, 5), fresh(None));
    assert_eq!(at(&Meta::default(), Some(50), 5), fresh(Some(45)), "by EXPIRE");
    let by_hand = Meta { staled_at: Some(Time(600)), ..meta };
    assert_eq!(at(&by_hand, Some(1300), 700), stale(100, Some(600)));
    assert_eq!(at(&by_hand, None, 1200), stale(600, None), "whichever came first");
    let late = Meta { staled_at: Some(Time(1100)), ..meta };
    assert_eq!(at(&late, None, 1200), stale(200, None));
}

#[test]
fn the_ttl_is_asked_for_only_where_it_may_say_something_new() {
    let meta = Meta { fresh_until: Some(Time(1000)), length: Some(Millis(500)), ..Meta::default() };
    let asked = || -> Option<Time> { panic!("asked") };
    let elects = |_, _, _| false;
    assert_eq!(fetch(&meta, false, asked, Time(900), elects).left, Some(Millis(100)));
    assert_eq!(fetch(&Meta::default(), false, asked, Time(900), elects).left, None);
    let stale = fetch(&meta, false, || Some(Time(1500)), Time(1000), elects);
    assert_eq!((stale.there, stale.left), (There::Stale { age: Millis(0) }, Some(Millis(500))));
    let graced = Meta { grace: Millis(7), ..meta };
    assert_eq!(
        [meta, graced, Meta::default()].map(|meta| own_expire(&meta)),
        [Some(Time(1000)), Some(Time(1007)), None]
    );
}

#[test]
fn who_is_near_the_end_is_asked_to_refresh() {
    let meta =
        Meta { fresh_until: Some(Time(1000)), length: Some(Millis(500)), cost: Cost(7), ..Meta::default() };
    let near = fetch(
        &meta,
        true,
        || Some(Time(1000)),
        Time(900),
        |left, length, cost| {
            assert_eq!((left, length, cost), (Millis(100), Millis(500), Cost(7)));
            true
        },
    );
    assert_eq!(near.there, There::Fresh { elected: true });
    let endless = Meta { fresh_until: None, length: None, ..meta };
    fetch(&endless, true, || None, Time(900), |_, _, _| panic!("asked"));
}

#[test]
fn the_cost_of_a_fill() {
    let (named, old, took) = (Some(Cost(9)), Some(Cost(100)), Some(Millis(200)));
    assert_eq!(cost_of_fill(named, old, took), Some(Cost(9)), "COST overrides");
    assert_eq!(cost_of_fill(None, old, took), Some(Cost(130)));
    assert_eq!(cost_of_fill(None, None, took), Some(Cost(200)));
    assert_eq!(cost_of_fill(None, old, None), None, "kept");
}

/// How an invalidation `before` an arrival's birth hits it where clocks may differ
/// by `skew`: as told on paper, in whole numbers that do not overflow.
fn hits(born: u64, stamp: u64, skew: u64) -> bool {
    stamp != 0 && u128::from(born) < u128::from(stamp) + u128::from(skew) * 1000
}

proptest! {
    #[test]
    fn what_arrives_is_as_young_as_its_clock_can_be_believed(
        born in 0u64..3_000_000, dead: bool, stale in proptest::option::of(0u64..3000),
        stamps in proptest::collection::vec((0u64..3_000_000, 0u64..3_000_000, 0u8..4), 0..4),
        skew in prop_oneof![Just(0), Just(500), 0u64..2000, Just(u64::MAX)],
    ) {
        let staled_at = stale.map(Time);
        let meta = Meta { born: Stamp(born), dead, staled_at, ..Meta::default() };
        let stamps: Vec<Stamps> = stamps.into_iter().map(|(hard, soft, which)| Stamps {
            hard: Stamp(if which & 1 == 0 { 0 } else { hard }),
            soft: Stamp(if which & 2 == 0 { 0 } else { soft }),
        }).collect();
        let found = arrived(meta, stamps.iter().copied(), Millis(skew));
        prop_assert_eq!(found.dead, dead || stamps.iter().any(|of| hits(born, of.hard.0, skew)));
        let soft = stamps.iter().filter(|of| hits(born, of.soft.0, skew)).map(|of| of.soft.0 / 1000);
        prop_assert_eq!(found.staled_at.map(|at| at.0), soft.chain(stale).min());
        prop_assert_eq!(Meta { dead, staled_at, ..found }, meta);
        // Asked again it says the same: a panic may have it asked twice.
        prop_assert_eq!(arrived(found, stamps.iter().copied(), Millis(skew)), found);
        if skew == 0 && !dead {
            let hard = stamps.iter().any(|of| of.hard.0 > born);
            let soft = stamps.iter().map(|of| of.soft).filter(|soft| soft.0 > born).min();
            let verdict = if hard { Verdict::Dead } else { soft.map_or(Verdict::Untouched, Verdict::Stale) };
            prop_assert_eq!(settle(meta, verdict), settle(found, Verdict::Untouched));
        }
    }
}

#[test]
fn half_a_second_of_doubt() {
    let at = |born| Meta { born: Stamp(born), ..Meta::default() };
    let hard = [Stamps { hard: Stamp(1_000_000), soft: Stamp(0) }];
    let dies = |born, skew| arrived(at(born), hard, Millis(skew)).dead;
    assert!(dies(999_999, 0) && !dies(1_000_000, 0));
    assert!(dies(1_499_999, 500) && !dies(1_500_000, 500));
    assert!(!arrived(at(0), [Stamps::default()], Millis(500)).dead, "never invalidated");
}
