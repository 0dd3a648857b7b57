//! What is remembered of grants that have ended, and how much of it.

use super::tests::{Bench, ABSENT, ASK};
use super::*;

/// Names of keys that were granted and then ended by `end`, with their tokens.
fn granted_and_ended(bench: &mut Bench, end: impl Fn(&mut Bench, At<'_>)) -> Vec<(String, Stamp)> {
    let keys: Vec<String> = (0..MOST_BROKEN + 50).map(|n| format!("k{n}")).collect();
    let granted = keys.into_iter().map(|key| {
        let at = At { db: 0, key: key.as_bytes(), namespace: 0 };
        let moment = bench.moment();
        let answer = bench.leases.fetch(at, ABSENT, ASK, 1, moment);
        let Answer::Miss { token, .. } = answer else { panic!("{answer:?}") };
        end(bench, at);
        (key, token)
    });
    granted.collect()
}

#[test]
fn the_reasons_of_a_few_are_remembered() {
    let mut bench = Bench::new(Limits::default());
    let granted = granted_and_ended(&mut bench, |bench, at| {
        bench.leases.change(at, Change::Written, bench.now());
    });
    assert_eq!(bench.leases.counts().remembered, MOST_BROKEN);
    assert_eq!(bench.leases.validate(), Vec::<String>::new());
    for (n, (key, token)) in granted.iter().enumerate() {
        let at = At { db: 0, key: key.as_bytes(), namespace: 0 };
        let why = if n < 50 { Refusal::Unknown } else { Refusal::Written };
        assert_eq!(bench.fill_at(at, *token), Err(why), "{key}");
    }
}

#[test]
fn what_may_still_fill_is_remembered_as_far_as_the_limit_goes() {
    let mut bench = Bench::new(Limits { remembered: 30, ..Limits::default() });
    let granted = granted_and_ended(&mut bench, |_, _| {});
    bench.pass(1000);
    assert_eq!(bench.leases.counts().remembered, 30);
    assert_eq!(bench.leases.validate(), Vec::<String>::new());
    let may_fill = granted.iter().filter(|(key, token)| {
        let at = At { db: 0, key: key.as_bytes(), namespace: 0 };
        bench.fill_at(at, *token).is_ok()
    });
    assert_eq!(may_fill.count(), 30);
}

#[test]
fn a_limit_that_was_lowered_is_reached_by_and_by() {
    let mut bench = Bench::new(Limits::default());
    let more = MOST_BROKEN + 50;
    granted_and_ended(&mut bench, |_, _| {});
    bench.pass(1000);
    assert_eq!(bench.leases.counts().remembered, more);
    bench.leases.set_limits(Limits { remembered: more - 5, ..Limits::default() });
    for key in ["a", "b", "c", "d", "e"] {
        let at = At { db: 0, key: key.as_bytes(), namespace: 0 };
        let moment = bench.moment();
        bench.leases.fetch(at, ABSENT, ASK, 1, moment);
    }
    bench.pass(1000);
    assert_eq!(bench.leases.counts().remembered, more - 5);
    assert_eq!(bench.leases.validate(), Vec::<String>::new());
}

#[test]
fn a_sixteenth_of_a_budget_is_for_what_is_remembered() {
    assert_eq!(Limits::remembered_in(0), usize::MAX);
    assert_eq!(Limits::remembered_in(320 * 16 * 1000), 1000);
}
