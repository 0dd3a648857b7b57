//! The queue, and what happens to many at once: connections, databases, roles,
//! caps. Scenarios named after threads elsewhere say which.

use super::tests::{bench, is_busy, token, Bench, ABSENT, ASK, BLOCK, FRESH, KEY, NATIVE, STALE};
use super::*;
use crate::slot;

#[test]
fn a_fill_wakes_everyone_in_batches() {
    // cashews#127
    let mut bench = bench();
    let first = bench.token();
    for client in 0..5000 {
        let moment = bench.moment();
        bench.leases.fetch(KEY, ABSENT, BLOCK, client, moment);
    }
    bench.pass(200);
    assert_eq!(bench.fill(first).map(|filled| filled.took), Ok(Some(Millis(200))));
    let mut answered = 0;
    while bench.leases.has_events() {
        for event in bench.leases.take_events(128) {
            let (Event::Look(id), moment) = (event, bench.moment()) else { panic!("{event:?}") };
            assert_eq!(bench.leases.resume(id, FRESH, moment), Some(Answer::Fresh { token: None }));
            answered += 1;
        }
    }
    assert_eq!(answered, 5000);
    let totals = bench.leases.totals();
    assert_eq!((totals.grants, totals.coalesced, totals.wait_times.sum()), (1, 5000, Millis(5000 * 200)));
    assert_eq!(bench.leases.counts(), Counts::default());
}

#[test]
fn the_value_is_gone_before_it_is_told() {
    let mut bench = bench();
    let first = bench.token();
    let ids: Vec<WaiterId> = (0..4).map(|client| bench.wait(BLOCK, client)).collect();
    assert!(bench.fill(first).is_ok());
    let [Event::Look(one), Event::Look(two)] = bench.leases.take_events(2)[..] else { panic!("two") };
    for id in [one, two] {
        let moment = bench.moment();
        assert_eq!(bench.leases.resume(id, FRESH, moment), Some(Answer::Fresh { token: None }));
    }
    // Invalidated: whoever has not been answered yet must not see it.
    let answers = bench.perform(ABSENT);
    assert_eq!(answers[..2], [ids[2], ids[3]].map(|id| (id, Answer::Wait(id))), "where they stood");
    assert!(matches!(answers[2..], [(id, Answer::Miss { .. })] if id == ids[2]));
    assert_eq!(bench.leases.about(KEY, bench.now()).1, 1);
}

#[test]
fn a_namespaces_invalidation_promotes_whoever_waits_in_it() {
    let mut bench = bench();
    let [other, elsewhere] = [At { key: b"other", ..KEY }, At { db: 1, ..KEY }];
    let mut line = Vec::new();
    for at in [KEY, other, elsewhere] {
        bench.fetch_at(at, ABSENT, ASK, 1);
        for client in [2, 3] {
            line.push(bench.fetch_at(at, ABSENT, BLOCK, client));
        }
    }
    let (stamp, now) = (bench.draw(), bench.now());
    bench.leases.outdate_awaited(0, |name| name == KEY.key, stamp, now);
    let sight = Sight { invalidated: stamp, ..ABSENT };
    let answers = bench.perform(sight);
    let [(id, Answer::Miss { token, .. })] = answers[..] else { panic!("{answers:?}") };
    assert_eq!(Answer::Wait(id), line[0]);
    assert!(token > stamp);
    // Of a grant that is newer there is nothing to void.
    bench.leases.outdate_awaited(0, |_| true, Stamp(1), now);
    assert_eq!(bench.perform(sight), []);
}

#[test]
fn promotion_is_by_arrival_whatever_they_wait_for() {
    let mut bench = bench();
    let first = bench.token();
    let fetch = bench.wait(BLOCK, 1);
    let Answer::Wait(lock) = bench.lock(700, Some(0)) else { panic!("waits") };
    let last = bench.wait(BLOCK, 3);
    assert!(bench.leases.unlock(KEY, first, None, bench.now()));
    let answers = bench.perform(ABSENT);
    let [(id, answer)] = answers[..] else { panic!("{answers:?}") };
    assert_eq!(id, fetch);
    // Void: the next one's turn.
    bench.change(Change::Deleted);
    assert_eq!(bench.fill(token(answer)), Err(Refusal::Deleted));
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Locked { .. })] if id == lock));
    bench.pass(700);
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == last));
    assert_eq!(bench.leases.totals().promotions, 3);
}

#[test]
fn who_waits_to_the_very_end_is_promoted() {
    let mut bench = bench();
    bench.token();
    let same = bench.wait(Ask { block: Some(Millis(1000)), ..ASK }, 1);
    let sooner = bench.wait(Ask { block: Some(Millis(999)), ..ASK }, 2);
    // The timer is late: all the same, in the order of time.
    bench.pass(5000);
    let mut answers = bench.perform(ABSENT);
    answers.sort_by_key(|(id, _)| *id);
    assert!(matches!(answers[..], [(one, Answer::Miss { .. }), (other, Answer::Busy { .. })]
        if one == same && other == sooner));
}

#[test]
fn a_closed_connection_gives_up_its_leases() {
    // symfony#63592
    let mut bench = bench();
    let first = bench.token();
    let waits = bench.wait(BLOCK, 7);
    bench.leases.disconnect(1, bench.now());
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == waits));
    assert_eq!(bench.fill(first), Err(Refusal::Superseded));
    bench.leases.disconnect(7, bench.now());
    let kept = token(bench.fetch(ABSENT, Ask { keep: true, ..ASK }));
    bench.leases.disconnect(1, bench.now());
    assert!(is_busy(bench.fetch(ABSENT, ASK)), "KEEP");
    assert!(bench.fill(kept).is_ok());
    token(bench.lock(500, None));
    bench.leases.disconnect(2, bench.now());
    assert_eq!(bench.lock(500, None), Answer::Held, "a lock is not given up");
}

#[test]
fn a_waiter_that_goes_is_forgotten_nominee_or_not() {
    let mut bench = bench();
    let first = bench.token();
    let [named, gone, last] = [11, 12, 13].map(|client| bench.wait(BLOCK, client));
    bench.leases.forget(gone, bench.now());
    assert!(bench.leases.unlock(KEY, first, None, bench.now()));
    bench.leases.disconnect(11, bench.now());
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == last));
    assert!(bench.leases.waiting(named).is_none() && bench.leases.waiting(gone).is_none());
}

#[test]
fn waiters_are_capped_in_all_and_by_key() {
    let mut bench = Bench::new(Limits { waiters: 3, waiters_per_key: 2, ..Limits::default() });
    bench.token();
    bench.wait(BLOCK, 1);
    assert!(matches!(bench.lock(5, Some(0)), Answer::Wait(_)));
    assert!(is_busy(bench.fetch(ABSENT, BLOCK)));
    assert_eq!(bench.lock(5, Some(0)), Answer::Held);
    let other = At { key: b"other", ..KEY };
    bench.fetch_at(other, ABSENT, ASK, 1);
    assert!(matches!(bench.fetch_at(other, ABSENT, BLOCK, 1), Answer::Wait(_)));
    assert!(is_busy(bench.fetch_at(other, ABSENT, BLOCK, 1)), "three in all");
}

#[test]
fn a_million_keys_do_not_fit() {
    let mut bench = Bench::new(Limits { keys: 100, ..Limits::default() });
    let mut granted = 0;
    for n in 0..100_000u32 {
        let (key, moment) = (n.to_be_bytes(), bench.moment());
        let at = At { key: &key, ..KEY };
        granted += u32::from(matches!(bench.leases.fetch(at, ABSENT, BLOCK, 1, moment), Answer::Miss { .. }));
    }
    assert_eq!((granted, bench.leases.counts().keys), (100, 100));
    bench.pass(1000);
    assert_eq!(bench.leases.counts().remembered, 100);
    assert!(matches!(bench.fetch(ABSENT, ASK), Answer::Miss { .. }), "what is only remembered makes room");
    bench.pass(1000 + 600_000);
    assert_eq!(bench.leases.counts(), Counts::default());
    let mut long = Bench::new(Limits { bytes: 10, ..Limits::default() });
    assert!(is_busy(long.fetch_at(At { key: b"eleven byte", ..KEY }, ABSENT, BLOCK, 1)));
}

#[test]
fn a_value_that_nobody_told_of_is_there_for_all() {
    for sight in [NATIVE, STALE] {
        let mut bench = bench();
        bench.token();
        let ids = [3, 4, 5].map(|client| bench.wait(BLOCK, client));
        let fresh = bench.wait(Ask { maxstale: Some(Millis(0)), ..BLOCK }, 6);
        bench.pass(1000);
        let answers = bench.perform(sight);
        let answer = |of| answers.iter().find(|(id, _)| *id == of).map(|(_, answer)| *answer);
        if sight == NATIVE {
            ids.iter().for_each(|id| assert_eq!(answer(*id), Some(Answer::Fresh { token: None })));
            assert_eq!(answer(fresh), Some(Answer::Fresh { token: None }));
        } else {
            assert!(matches!(answer(ids[0]), Some(Answer::Stale { token: Some(_) })));
            assert_eq!(answer(ids[2]), Some(Answer::Stale { token: None }));
            assert_eq!(answer(fresh), Some(Answer::Wait(fresh)));
        }
    }
}

#[test]
fn a_wake_that_is_called_off_loses_no_deadline() {
    for gone_by_deletion in [false, true] {
        let mut bench = bench();
        let first = bench.token();
        let longest = bench.wait(BLOCK, 3);
        let brief = bench.wait(Ask { block: Some(Millis(10)), ..ASK }, 4);
        assert!(bench.fill(first).is_ok());
        // Before the batch is performed, its time is up and the value goes.
        bench.pass(10);
        if gone_by_deletion {
            bench.change(Change::Deleted);
        }
        let answers = bench.perform(ABSENT);
        assert!(answers.iter().any(|(id, answer)| *id == brief && is_busy(*answer)), "{answers:?}");
        assert!(answers.iter().any(|(id, answer)| *id == longest && matches!(answer, Answer::Miss { .. })));
    }
}

#[test]
fn a_write_wakes_though_a_lock_is_held() {
    let mut bench = bench();
    token(bench.lock(5000, None));
    let waits = bench.wait(BLOCK, 3);
    bench.change(Change::Written);
    assert_eq!(bench.perform(FRESH), [(waits, Answer::Fresh { token: None })]);
    assert_eq!(bench.leases.counts().locks, 1);
}

#[test]
fn a_deletion_calls_the_wake_off() {
    let mut bench = bench();
    let first = bench.token();
    let ids = [3, 4, 5].map(|client| bench.wait(BLOCK, client));
    assert!(bench.fill(first).is_ok());
    bench.change(Change::Deleted);
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == ids[0]), "one looks, not all");
}

#[test]
fn a_value_comes_just_in_time() {
    let mut bench = bench();
    let first = bench.token();
    let brief = bench.wait(Ask { block: Some(Millis(10)), ..ASK }, 3);
    assert!(bench.fill(first).is_ok());
    bench.pass(10);
    assert_eq!(bench.perform(FRESH), [(brief, Answer::Fresh { token: None })]);
}

#[test]
fn a_lock_does_not_jump_the_queue_of_locks() {
    let mut bench = bench();
    let first = bench.token();
    let fetch = bench.wait(BLOCK, 3);
    let Answer::Wait(lock) = bench.lock(50, Some(0)) else { panic!("waits") };
    assert!(bench.fill(first).is_ok());
    assert_eq!(bench.lock(50, None), Answer::Held);
    let answers = bench.perform(FRESH);
    assert!(matches!(answers[..], [(one, Answer::Fresh { .. }), (other, Answer::Locked { .. })]
        if one == fetch && other == lock));
}

#[test]
fn a_late_timer_promotes_nobody_whose_time_was_up_before() {
    let mut bench = bench();
    for n in 0..1000u16 {
        let key = n.to_be_bytes();
        bench.fetch_at(At { key: &key, ..KEY }, ABSENT, Ask { length: Millis(500), ..ASK }, 1);
    }
    bench.token();
    let sooner = bench.wait(Ask { block: Some(Millis(700)), ..ASK }, 2);
    let longer = bench.wait(BLOCK, 3);
    // More is due than a command works off; its own key it does.
    bench.now += 2000;
    assert!(is_busy(bench.fetch(ABSENT, ASK)));
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(one, Answer::Miss { .. }), (other, Answer::Busy { .. })]
        if one == longer && other == sooner));
}

#[test]
fn nobody_passes_those_who_are_being_woken() {
    let mut bench = bench();
    let first = bench.token();
    let woken = bench.wait(BLOCK, 3);
    assert!(bench.fill(first).is_ok());
    // Before the batch is performed the value goes, and another comes.
    let late = bench.wait(BLOCK, 4);
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(_, Answer::Wait(_)), (id, Answer::Miss { .. })] if id == woken));
    assert_eq!(bench.leases.waiting(late).map(|waiting| waiting.client), Some(4));
}

// ── many at once ────────────────────────────────────────────────────────────

#[test]
fn a_flush_drops_locks_too() {
    let mut bench = bench();
    let lock = token(bench.lock(5000, None));
    let waits = bench.wait(BLOCK, 1);
    bench.leases.flush(Some(1), bench.now());
    assert_eq!(bench.leases.counts().locks, 1, "another database");
    bench.leases.flush(Some(0), bench.now());
    assert!(matches!(bench.perform(ABSENT)[..], [(id, Answer::Miss { .. })] if id == waits));
    assert_eq!(bench.fill(lock), Err(Refusal::Superseded));
}

#[test]
fn a_swap_moves_locks_voids_leases_and_leaves_waiters() {
    let mut bench = bench();
    let other = At { db: 1, ..KEY };
    let lease = token(bench.fetch_at(other, ABSENT, ASK, 1));
    let lock = token(bench.lock(5000, None));
    let waits = bench.wait(BLOCK, 1);
    bench.leases.swap(0, 1, bench.now());
    assert!(
        matches!(bench.perform(ABSENT)[..], [(_, Answer::Wait(_)), (id, Answer::Miss { .. })] if id == waits)
    );
    assert!(!bench.leases.unlock(other, lease, None, bench.now()));
    assert!(bench.leases.unlock(other, lock, None, bench.now()));
}

#[test]
fn demotion_unblocks_everyone_and_keeps_locks() {
    let mut bench = bench();
    token(bench.lock(5000, None));
    let waits = bench.wait(BLOCK, 1);
    let lease = At { key: b"lease", ..KEY };
    bench.fetch_at(lease, ABSENT, ASK, 1);
    bench.leases.demote(bench.now());
    assert_eq!(bench.events(), [Event::Unblocked(waits)]);
    assert_eq!(bench.leases.counts(), Counts { locks: 1, keys: 1, ..Counts::default() });
}

#[test]
fn who_waits_for_a_key_whose_slot_is_lost_is_told_so_and_nothing_of_it_is_remembered() {
    let mut bench = bench();
    let lock = token(bench.lock(5000, None));
    let waits = bench.wait(BLOCK, 1);
    let other = At { key: b"other", ..KEY };
    let lease = token(bench.fetch_at(other, ABSENT, ASK, 1));
    let (mut slots, slot) = (slot::Set::default(), slot::of(KEY.key));
    slots.add(slot, slot);
    assert_eq!(bench.leases.lose(&slots, bench.now()), [(KEY.db, KEY.key.into(), lock)]);
    assert_eq!(bench.events(), [Event::Moved(waits, slot)]);
    assert_eq!(bench.leases.counts(), Counts { leases: 1, keys: 1, ..Counts::default() });
    // The slot comes back: what was granted before may not fill.
    assert_eq!(bench.fill(lock), Err(Refusal::Unknown));
    assert!(bench.leases.unlock(other, lease, None, bench.now()));
}
