//! Random lives of a key with EXAUTO, against a model that keeps the sentences: what
//! is an example, what keeps an entry adaptive, the formulas in plain floats.

use super::*;
use crate::adaptive::{Mean, Why};
use crate::index::Verdict;
use crate::packing::{Packed, Packer};
use proptest::prelude::*;

const PRIOR: f64 = 300_000.0;
const BOUNDS: (u32, u32) = (2, 60);
const TARGET: f64 = 0.01;

fn bounds() -> Bounds {
    Bounds::new(BOUNDS.0, BOUNDS.1).expect("bounds")
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Set(u8),
    SetEx(u8),
    Keep(u8),
    Touch,
    TouchAuto,
    TouchEx,
    Stale,
    Retag,
    Incr,
    Delete,
    Die,
}

fn step() -> impl Strategy<Value = Step> {
    let value = || 0u8..3;
    prop_oneof![
        6 => (0u64..200_000).prop_map(Step::Wait),
        6 => value().prop_map(Step::Set),
        1 => value().prop_map(Step::SetEx),
        1 => value().prop_map(Step::Keep),
        3 => Just(Step::Touch),
        1 => Just(Step::TouchAuto),
        1 => Just(Step::TouchEx),
        1 => Just(Step::Stale),
        1 => Just(Step::Retag),
        1 => Just(Step::Incr),
        1 => Just(Step::Delete),
        1 => Just(Step::Die),
    ]
}

/// What is known of the key, whether it is there or not.
#[derive(Clone, Copy, Debug, Default)]
struct Model {
    there: bool,
    auto: bool,
    /// Nobody has invalidated it since it was written.
    left_alone: bool,
    fresh_until: u64,
    value: i64,
    written: u64,
    changes: i32,
    time: f64,
    refills: u16,
}

impl Model {
    fn x(&self) -> f64 {
        (1.0 - 0.8f64.powi(self.changes)) / 0.2
    }

    fn refill(&mut self, value: i64, now: u64) {
        if self.left_alone {
            let (x, changed) = ((now - self.written) as f64, value != self.value);
            let mean = (PRIOR + self.time) / (1.0 + self.x());
            let exposure = match changed {
                false => x,
                true if x / mean < 1e-4 => x / 2.0,
                true => mean - x / (x / mean).exp_m1(),
            };
            self.time = self.time * if changed { 0.8 } else { 1.0 } + exposure;
            self.changes = (self.changes + i32::from(changed)).min(31);
            self.refills += 1;
        }
        *self = Model { there: true, auto: true, left_alone: true, value, written: now, ..*self };
    }

    /// The TTL to be chosen, in ms.
    fn ttl(&self) -> f64 {
        let (min, max) = (f64::from(BOUNDS.0) * 1e3, f64::from(BOUNDS.1) * 1e3);
        match self.refills {
            0 => min,
            _ => (2.0 * TARGET * (PRIOR + self.time) / (1.0 + self.x())).clamp(min, max),
        }
    }

    /// Of who is not adaptive nothing is remembered, but what lies there tells.
    fn plain(&mut self, value: i64, now: u64) {
        *self = Model { there: true, left_alone: true, value, written: now, ..Model::default() };
    }
}

/// What the module would hold: the entry, and what is remembered of one that went.
#[derive(Default)]
struct Store {
    entry: Option<(Meta, Vec<u8>)>,
    gone: Option<Past>,
}

impl Store {
    fn found(&self) -> Found<'_> {
        self.entry.as_ref().map_or(Found::Absent, |(meta, value)| {
            Found::Entry(Live { meta: *meta, value: Content::Plain(value) })
        })
    }

    fn leave(&mut self, touched: bool, now: u64) {
        if let Some((meta, _)) = self.entry.take() {
            self.gone = Past::of_leaving(&meta, touched, Time(now)).or(self.gone);
        }
    }

    fn perform(&mut self, write: Write, value: Vec<u8>) {
        let Write::Store { meta, lesson, .. } = write else { panic!("{write:?}") };
        assert!(meta.is_sound() && (lesson.is_none() || meta.adaptive.is_some()));
        self.gone = None;
        self.entry = Some((meta, value));
    }

    fn outlook(&self) -> impl FnOnce(Bounds) -> Outlook {
        let past = self.gone;
        move |_| Outlook { target: TARGET, prior: Mean::new(PRIOR), past, dice: 1 << 31 }
    }
}

fn text(value: i64) -> Vec<u8> {
    value.to_string().into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn any_life_is_as_the_sentences_say(steps in proptest::collection::vec(step(), 1..60)) {
        let (mut now, mut stamp, mut store, mut model) = (1_000_000u64, 0, Store::default(), Model::default());
        for step in steps {
            stamp += 1;
            if let Step::Wait(ms) = step {
                now += ms;
            }
            // The server takes away what has ended.
            if model.there && model.fresh_until <= now {
                store.leave(false, now);
                model = Model { there: false, ..if model.auto { model } else { Model::default() } };
            }
            let at = Moment { now: Time(now), stamp: Stamp(stamp) };
            let expiry = |step| match step {
                Step::SetEx(_) | Step::TouchEx => Expiry::After(Millis(50_000)),
                Step::Keep(_) => Expiry::Keep,
                Step::Touch => Expiry::Unsaid,
                _ => Expiry::Auto(bounds()),
            };
            let none = Defaults::default();
            match step {
                Step::Wait(_) => continue,
                Step::Set(value) | Step::SetEx(value) | Step::Keep(value) => {
                    let value = i64::from(value);
                    let options = SetOptions { expiry: expiry(step), ..SetOptions::default() };
                    let keeps = matches!(step, Step::Keep(_)) && model.there && model.left_alone;
                    if matches!(step, Step::Keep(_)) && !keeps {
                        continue; // as if not given: an entry without an end
                    }
                    let write = set(&options, &text(value), store.found(), || None, at, none, store.outlook());
                    store.perform(write.expect("in range"), text(value));
                    let until = model.fresh_until;
                    match (step, model.auto) {
                        (Step::Set(_), _) | (Step::Keep(_), true) => model.refill(value, now),
                        _ => model.plain(value, now),
                    }
                    model.fresh_until = match step {
                        Step::Keep(_) => until,
                        Step::Set(_) => store.entry.as_ref().and_then(|(meta, _)| meta.fresh_until).unwrap_or_default().0,
                        _ => now + 50_000,
                    };
                    if let (Step::Set(_), Some((meta, _))) = (step, &store.entry) {
                        let length = meta.length.unwrap_or_default().0 as f64;
                        prop_assert!((length / model.ttl() - 1.0).abs() < 0.01, "{} for {:?}", length, model);
                    }
                }
                Step::Touch | Step::TouchAuto | Step::TouchEx => {
                    let Found::Entry(live) = store.found() else { continue };
                    let options = TouchOptions { expiry: expiry(step), ..TouchOptions::default() };
                    let (write, value) = (touch(&options, live, at, none, store.outlook()), live.value.stored().to_vec());
                    store.perform(write.expect("in range"), value);
                    match (step, model.auto) {
                        (Step::TouchAuto, _) | (Step::Touch, true) => model.refill(model.value, now),
                        _ => model.plain(model.value, now),
                    }
                    model.fresh_until = store.entry.as_ref().and_then(|(meta, _)| meta.fresh_until).unwrap_or_default().0;
                }
                Step::Stale => {
                    let Some((meta, _)) = &mut store.entry else { continue };
                    *meta = settle(*meta, Verdict::Stale(Stamp(now * 1000))).expect("stale");
                    model.left_alone = false;
                }
                Step::Retag => {
                    if let Some((meta, _)) = &mut store.entry {
                        *meta = retagged(*meta, at);
                    }
                }
                Step::Incr => {
                    let Found::Entry(_) = store.found() else { continue };
                    let expire = Some(Time(model.fresh_until));
                    let (sum, write) = incr(1, store.found(), expire, at, none).expect("a number");
                    store.perform(write, text(sum));
                    model = Model { value: sum, written: now, ..model };
                }
                Step::Delete | Step::Die => {
                    if store.entry.is_some() {
                        store.leave(matches!(step, Step::Die), now);
                        model = Model { there: false, left_alone: false, ..if model.auto { model } else { Model::default() } };
                    }
                }
            }
            let Some((meta, _)) = &store.entry else { continue };
            prop_assert_eq!(meta.adaptive.is_some(), model.auto, "{:?}: {:?}", step, model);
            let Some(adaptive) = meta.adaptive else { continue };
            prop_assert_eq!(adaptive.record.refills(), model.refills, "{:?}: {:?}", step, model);
            // Who keeps the times keeps the reason for them.
            if matches!(step, Step::Set(_) | Step::Touch | Step::TouchAuto) {
                prop_assert_eq!(adaptive.why == Why::First, model.refills == 0);
            }
            let seen = adaptive.record.seen().map(|Millis(ms)| ms as f64);
            prop_assert_eq!(seen.is_some(), model.changes > 0);
            if let Some(seen) = seen {
                prop_assert!((seen - model.time / model.x()).abs() <= 0.01 * seen + 2.0, "{} for {:?}", seen, model);
            }
        }
    }
}

#[test]
fn a_packed_value_is_compared_as_what_it_is_to_a_reader() {
    let value = [7; 500];
    let mut packer = Packer::default();
    let packed = packer.pack(&value, |_| true).expect("it is packed");
    let past = |content| Past::of(&Meta::default(), content).digest;
    assert_eq!(past(Content::Packed(packed)), past(Content::Plain(&value)));
    assert_ne!(past(Content::kept(packed_bytes(packed), Some(501))), past(Content::Plain(&value)), "corrupt");
}

fn packed_bytes(packed: Packed<'_>) -> &[u8] {
    Content::Packed(packed).stored()
}

#[test]
fn over_a_native_key_nothing_is_known_and_the_namespace_may_ask_for_it() {
    let at = Moment { now: Time(100_000), stamp: Stamp(1) };
    let past = Past::of(&Meta::default(), Content::Plain(b"v"));
    let outlook = |_| Outlook { target: TARGET, prior: Mean::new(PRIOR), past: Some(past), dice: 0 };
    let namespace = Defaults { auto: Some(bounds()), grace: Millis(7), ..Defaults::default() };
    let set = |options: SetOptions, found| set(&options, b"v", found, || None, at, namespace, outlook);
    let refills = |write| match write {
        Ok(Write::Store { meta, .. }) => meta.adaptive.map(|of| (of.record.refills(), meta.grace.0)),
        other => panic!("{other:?}"),
    };
    assert_eq!(refills(set(SetOptions::default(), Found::Native)), Some((0, 7)));
    assert_eq!(refills(set(SetOptions::default(), Found::Absent)), Some((1, 7)));
    let keep = SetOptions { expiry: Expiry::Keep, ..SetOptions::default() };
    assert_eq!(refills(set(keep, Found::Native)), None, "its TTL is kept");
    assert_eq!(refills(set(keep, Found::Absent)), Some((1, 7)), "as if not given");
    let ex = SetOptions { expiry: Expiry::After(Millis(5)), ..SetOptions::default() };
    assert_eq!(refills(set(ex, Found::Absent)), None);
    let (_, write) = incr(1, Found::Absent, None, at, namespace).expect("a number");
    let Write::Store { meta, .. } = write else { panic!("{write:?}") };
    assert_eq!((meta.length, meta.adaptive), (Some(bounds().min()), None), "a counter is not refilled");
}
