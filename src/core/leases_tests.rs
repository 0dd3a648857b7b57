//! Each row of FETCH's state table, locks, back-offs and origins; the bench that
//! these tests share.

use super::*;
use crate::origin::Protection;

/// A table with a clock, and one key's worth of shorthand.
pub(super) struct Bench {
    pub leases: Leases,
    pub now: u64,
    pub stamp: u64,
}

pub(super) const KEY: At<'static> = At { db: 0, key: b"k", namespace: 0 };
pub(super) const ABSENT: Sight = Sight { there: There::Absent, invalidated: Stamp(0) };
pub(super) const FRESH: Sight = Sight { there: There::Fresh { elected: false }, invalidated: Stamp(0) };
pub(super) const STALE: Sight = Sight { there: There::Stale { age: Millis(50) }, invalidated: Stamp(0) };
pub(super) const NATIVE: Sight = Sight { there: There::Native, invalidated: Stamp(0) };
pub(super) const ASK: Ask =
    Ask { length: Millis(1000), keep: false, block: None, maxstale: None, typical: Millis(0) };
pub(super) const BLOCK: Ask = Ask { block: Some(Millis::ZERO), ..ASK };

impl Bench {
    pub fn new(limits: Limits) -> Bench {
        Bench { leases: Leases::new(limits), now: 1_000_000, stamp: 0 }
    }

    pub fn moment(&mut self) -> Moment {
        Moment { now: self.now(), stamp: self.draw() }
    }

    pub fn now(&self) -> Time {
        Time(self.now)
    }

    /// The next stamp, of a token or an invalidation.
    pub fn draw(&mut self) -> Stamp {
        self.stamp = (self.stamp + 1).max(self.now * 1000);
        Stamp(self.stamp)
    }

    pub fn fetch_at(&mut self, at: At<'_>, sight: Sight, ask: Ask, client: u64) -> Answer {
        let moment = self.moment();
        let answer = self.leases.fetch(at, sight, ask, client, moment);
        assert_eq!(self.leases.validate(), Vec::<String>::new());
        answer
    }

    pub fn fetch(&mut self, sight: Sight, ask: Ask) -> Answer {
        self.fetch_at(KEY, sight, ask, 1)
    }

    pub fn lock(&mut self, length: u64, block: Option<u64>) -> Answer {
        let moment = self.moment();
        self.leases.lock(KEY, ABSENT, Millis(length), block.map(Millis), 2, moment)
    }

    pub fn token(&mut self) -> Stamp {
        token(self.fetch(ABSENT, ASK))
    }

    pub fn wait(&mut self, ask: Ask, client: u64) -> WaiterId {
        match self.fetch_at(KEY, ABSENT, ask, client) {
            Answer::Wait(id) => id,
            other => panic!("{other:?}"),
        }
    }

    pub fn fill(&mut self, token: Stamp) -> Result<Filled, Refusal> {
        self.fill_at(KEY, token)
    }

    pub fn fill_at(&mut self, at: At<'_>, token: Stamp) -> Result<Filled, Refusal> {
        let evidence = Evidence {
            under: Under::Nothing,
            touch: false,
            invalidated: Stamp(0),
            namespace: Default::default(),
            low_water: Stamp(0),
        };
        self.leases.fill(at, token, &evidence, [], self.now())
    }

    pub fn change(&mut self, change: Change) {
        self.leases.change(KEY, change, self.now());
    }

    /// Lets time pass, and the timer run.
    pub fn pass(&mut self, ms: u64) {
        self.now += ms;
        self.leases.tick(self.now(), usize::MAX);
    }

    pub fn events(&mut self) -> Vec<Event> {
        self.leases.take_events(usize::MAX)
    }

    /// Performs what is to do, everybody finding the same.
    pub fn perform(&mut self, sight: Sight) -> Vec<(WaiterId, Answer)> {
        let mut answers = Vec::new();
        loop {
            let events = self.events();
            if events.is_empty() {
                assert_eq!(self.leases.validate(), Vec::<String>::new());
                return answers;
            }
            for event in events {
                match event {
                    Event::Look(id) => {
                        let moment = self.moment();
                        answers.extend(self.leases.resume(id, sight, moment).map(|answer| (id, answer)));
                    }
                    Event::TimedOut(id, hint) => answers.push((id, Answer::Busy { hint })),
                    Event::Unblocked(id) | Event::Moved(id, _) => answers.push((id, Answer::Held)),
                }
            }
        }
    }
}

pub(super) fn bench() -> Bench {
    Bench::new(Limits::default())
}

pub(super) fn token(answer: Answer) -> Stamp {
    match answer {
        Answer::Miss { token, .. } | Answer::Locked { token, .. } => token,
        Answer::Stale { token: Some(token) } | Answer::Fresh { token: Some(token) } => token,
        other => panic!("no token: {other:?}"),
    }
}

pub(super) fn is_busy(answer: Answer) -> bool {
    matches!(answer, Answer::Busy { .. })
}

// ── FETCH's table ───────────────────────────────────────────────────────────

#[test]
fn fresh_without_a_token() {
    let mut bench = bench();
    assert_eq!(bench.fetch(FRESH, ASK), Answer::Fresh { token: None });
    assert_eq!(bench.fetch(NATIVE, ASK), Answer::Fresh { token: None });
    assert_eq!(bench.leases.counts(), Counts::default());
}

#[test]
fn fresh_elected_one_at_a_time() {
    let mut bench = bench();
    let elected = Sight { there: There::Fresh { elected: true }, invalidated: Stamp(0) };
    let first = bench.fetch(elected, ASK);
    assert!(matches!(first, Answer::Fresh { token: Some(_) }));
    assert_eq!(bench.fetch(elected, ASK), Answer::Fresh { token: None });
    assert_eq!(bench.leases.totals().early_elections, 1);
    assert!(bench.fill(token(first)).is_ok());
}

#[test]
fn stale_with_a_token_then_without() {
    let mut bench = bench();
    assert!(matches!(bench.fetch(STALE, ASK), Answer::Stale { token: Some(_) }));
    assert_eq!(bench.fetch(STALE, ASK), Answer::Stale { token: None });
    assert_eq!(bench.fetch(STALE, BLOCK), Answer::Stale { token: None }, "nobody waits beside a stale value");
}

#[test]
fn staler_than_asked_for_is_a_miss() {
    let mut bench = bench();
    let fifty = Ask { maxstale: Some(Millis(50)), ..ASK };
    let less = Ask { maxstale: Some(Millis(49)), ..ASK };
    assert!(matches!(bench.fetch(STALE, fifty), Answer::Stale { token: Some(_) }));
    assert!(is_busy(bench.fetch(STALE, less)));
    bench.pass(1000);
    assert!(matches!(bench.fetch(STALE, less), Answer::Miss { .. }));
}

#[test]
fn a_miss_then_busy_with_a_hint() {
    let mut bench = bench();
    assert!(matches!(bench.fetch(ABSENT, ASK), Answer::Miss { length: Millis(1000), .. }));
    assert_eq!(bench.fetch(ABSENT, ASK), Answer::Busy { hint: Millis(100) });
    let ask = Ask { typical: Millis(400), ..ASK };
    assert_eq!(bench.fetch(ABSENT, ask), Answer::Busy { hint: Millis(400) }, "when it is usually done");
    bench.now += 380;
    assert_eq!(bench.fetch(ABSENT, ask), Answer::Busy { hint: Millis(100) }, "not in a hurry");
    let quick = Ask { typical: Millis(1), ..ask };
    assert_eq!(bench.fetch(ABSENT, quick), Answer::Busy { hint: Millis(95) }, "long overdue");
    bench.now += 600;
    assert_eq!(bench.fetch(ABSENT, ask), Answer::Busy { hint: Millis(20) }, "the lease's end");
}

#[test]
fn lengths_are_clamped() {
    let mut bench = bench();
    let long = Ask { length: Millis(u64::MAX), ..ASK };
    assert!(matches!(bench.fetch(ABSENT, long), Answer::Miss { length: Millis(600_000), .. }));
    let at = At { key: b"none", ..KEY };
    let none = Ask { length: Millis(0), ..ASK };
    assert!(matches!(bench.fetch_at(at, ABSENT, none, 1), Answer::Miss { length: Millis(1), .. }));
}

#[test]
fn a_lease_ends_to_the_millisecond() {
    let mut bench = bench();
    bench.token();
    assert_eq!(bench.leases.next_deadline(), Some(Time(bench.now + 1000)));
    bench.now += 999;
    assert!(is_busy(bench.fetch(ABSENT, ASK)));
    bench.now += 1;
    assert!(matches!(bench.fetch(ABSENT, ASK), Answer::Miss { .. }), "without a tick");
}

#[test]
fn a_clock_that_steps_back_revives_nothing() {
    let mut bench = bench();
    let first = bench.token();
    bench.pass(1000);
    bench.now -= 900;
    let second = bench.token();
    assert!(second > first);
    assert!(is_busy(bench.fetch(ABSENT, ASK)));
    bench.now += 899;
    assert!(is_busy(bench.fetch(ABSENT, ASK)));
    bench.now += 1001;
    assert!(matches!(bench.fetch(ABSENT, ASK), Answer::Miss { .. }));
}

#[test]
fn a_stamp_that_is_not_new_is_no_token() {
    let mut bench = bench();
    let old = bench.token();
    let moment = Moment { now: bench.now(), stamp: old };
    let at = At { key: b"other", ..KEY };
    assert!(is_busy(bench.leases.fetch(at, ABSENT, ASK, 1, moment)));
}

// ── locks ───────────────────────────────────────────────────────────────────

#[test]
fn lock_and_fetch_take_the_same_thing() {
    let mut bench = bench();
    let lease = bench.token();
    assert_eq!(bench.lock(50, None), Answer::Held);
    assert!(bench.leases.unlock(KEY, lease, None, bench.now()));
    let lock = token(bench.lock(50, None));
    assert!(is_busy(bench.fetch(ABSENT, ASK)));
    assert_eq!(bench.fetch(STALE, ASK), Answer::Stale { token: None });
    assert!(!bench.leases.unlock(KEY, lease, None, bench.now()), "not the current one");
    assert!(bench.leases.unlock(KEY, lock, None, bench.now()));
    assert!(!bench.leases.unlock(KEY, lock, None, bench.now()), "not twice");
}

#[test]
fn extend_may_shorten_and_does_not_revive() {
    let mut bench = bench();
    let lock = token(bench.lock(1_000_000_000, None));
    assert!(bench.leases.extend(KEY, lock, Millis(10), bench.now()));
    bench.now += 9;
    assert!(bench.leases.extend(KEY, lock, Millis(10), bench.now()));
    bench.now += 10;
    assert!(!bench.leases.extend(KEY, lock, Millis(10), bench.now()));
    let lease = bench.token();
    assert!(bench.leases.extend(KEY, lease, Millis(u64::MAX), bench.now()));
    assert_eq!(
        bench.leases.about(KEY, bench.now()),
        (Millis(600_000), 0),
        "a lease is bounded, a lock is not"
    );
}

#[test]
fn time_spent_waiting_does_not_consume_the_lock() {
    // node-redlock#296
    let mut bench = bench();
    token(bench.lock(500, None));
    let Answer::Wait(id) = bench.lock(300, Some(0)) else { panic!("waits") };
    bench.pass(500);
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(of, Answer::Locked { length: Millis(300), .. })] if of == id));
    assert_eq!(bench.leases.about(KEY, bench.now()).0, Millis(300));
}

#[test]
fn a_write_by_another_breaks_the_fence_not_the_lock() {
    let mut bench = bench();
    let lock = token(bench.lock(500, None));
    bench.change(Change::Written);
    assert!(is_busy(bench.fetch(ABSENT, ASK)));
    assert!(bench.leases.extend(KEY, lock, Millis(500), bench.now()));
    assert_eq!(bench.fill(lock), Err(Refusal::Written));
    assert!(!bench.leases.unlock(KEY, lock, None, bench.now()), "SET … LEASE ended it");
}

#[test]
fn locks_are_saved_with_the_time_they_had_left() {
    let mut bench = bench();
    let lock = token(bench.lock(500, None));
    bench.fetch_at(At { key: b"lease", ..KEY }, ABSENT, ASK, 1);
    bench.now += 200;
    let mut after = Bench { now: 77, ..self::bench() };
    for saved in bench.leases.locks(bench.now()) {
        assert_eq!((saved.token, saved.left, saved.whole), (lock, Millis(300), true));
        for _ in 0..2 {
            after.leases.apply_lock(&saved, after.now());
        }
    }
    assert_eq!(after.leases.counts().locks, 1);
    assert_eq!(after.leases.counts().leases, 0, "FETCH's are not saved");
    after.stamp = bench.stamp;
    assert_eq!(after.lock(1, None), Answer::Held);
    after.pass(300);
    assert!(token(after.lock(1, None)) > lock);
}

#[test]
fn whether_a_fence_is_whole_is_the_primarys_to_say() {
    let mut bench = bench();
    let lock = |whole| Lock { at: KEY, token: Stamp(7), left: Millis(100), whole, native: false };
    let now = bench.now();
    bench.leases.apply_lock(&lock(true), now);
    // An expiry there, which is a DEL here.
    bench.change(Change::Deleted);
    assert!(bench.leases.lock_on(KEY, now).is_some_and(|lock| !lock.whole));
    bench.leases.apply_lock(&lock(true), now);
    assert!(bench.leases.lock_on(KEY, now).is_some_and(|lock| lock.whole));
    bench.leases.apply_lock(&lock(false), now);
    assert_eq!(bench.fill(Stamp(7)), Err(Refusal::Written));
    assert!(bench.leases.lock_on(KEY, now).is_none() && bench.leases.is_empty());
}

#[test]
fn a_replica_hears_late_and_twice() {
    let mut bench = bench();
    let lock =
        |token, left| Lock { at: KEY, token: Stamp(token), left: Millis(left), whole: true, native: false };
    let now = bench.now();
    bench.leases.apply_lock(&lock(7, 100), now);
    bench.leases.apply_lock(&lock(5, 900), now);
    assert_eq!(bench.leases.about(KEY, now).0, Millis(100), "a later one was heard of");
    bench.leases.apply_lock(&lock(7, 50), now);
    assert_eq!(bench.leases.about(KEY, now).0, Millis(50));
    bench.leases.apply_unlock(KEY, Stamp(5), now);
    assert_eq!(bench.leases.counts().locks, 1);
    bench.leases.apply_unlock(KEY, Stamp(7), now);
    bench.leases.apply_unlock(KEY, Stamp(7), now);
    assert_eq!(bench.leases.counts(), Counts::default());
}

// ── back-off, origins ───────────────────────────────────────────────────────

#[test]
fn retry_backs_off() {
    let mut bench = bench();
    let first = bench.token();
    let waits = bench.wait(BLOCK, 5);
    assert!(bench.leases.unlock(KEY, first, Some(Millis(300)), bench.now()));
    assert_eq!(bench.perform(ABSENT), []);
    assert_eq!(bench.fetch(ABSENT, ASK), Answer::Busy { hint: Millis(300) });
    assert_eq!(bench.fetch(STALE, ASK), Answer::Stale { token: None });
    let lock = token(bench.lock(100, None));
    assert!(bench.leases.unlock(KEY, lock, None, bench.now()), "LOCK is not refused");
    bench.pass(299);
    assert_eq!(bench.perform(ABSENT), []);
    bench.pass(1);
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == waits));
    assert!(bench.leases.unlock(KEY, token(answers[0].1), Some(Millis(300)), bench.now()));
    bench.change(Change::Written);
    assert!(matches!(bench.fetch(ABSENT, ASK), Answer::Miss { .. }), "a write ends it");
}

#[test]
fn a_later_retry_does_not_shorten_the_back_off() {
    let mut bench = bench();
    let first = bench.token();
    assert!(bench.leases.unlock(KEY, first, Some(Millis(300)), bench.now()));
    let lock = token(bench.lock(100, None));
    assert!(bench.leases.unlock(KEY, lock, Some(Millis(5)), bench.now()));
    assert_eq!(bench.fetch(ABSENT, ASK), Answer::Busy { hint: Millis(300) });
}

#[test]
fn maxfills_serves_the_longest_of_the_namespace() {
    let mut bench = bench();
    bench.leases.protect(0, Protection { most: 1, ..Protection::default() }, Time(0));
    let first = bench.token();
    let (a, b) = (At { key: b"a", ..KEY }, At { key: b"b", ..KEY });
    let Answer::Wait(longest) = bench.fetch_at(b, ABSENT, BLOCK, 1) else { panic!("waits") };
    let Answer::Wait(other) = bench.fetch_at(a, ABSENT, BLOCK, 1) else { panic!("waits") };
    assert!(is_busy(bench.fetch_at(At { key: b"c", ..KEY }, ABSENT, ASK, 1)));
    let elsewhere = At { key: b"d", namespace: 1, ..KEY };
    assert!(matches!(bench.fetch_at(elsewhere, ABSENT, ASK, 1), Answer::Miss { .. }));
    assert!(matches!(bench.lock(5, None), Answer::Held));
    assert!(bench.fill(first).is_ok());
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == longest));
    let now = bench.now();
    bench.leases.protect(0, Protection::default(), now);
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == other), "the limit was lifted");
}

#[test]
fn the_breaker_lets_one_probe_through() {
    let mut bench = bench();
    let breaker = Protection { most: 0, percent: 50, cooldown: Millis(1000) };
    bench.leases.protect(0, breaker, Time(0));
    for _ in 0..5 {
        let failed = bench.token();
        assert!(bench.leases.unlock(KEY, failed, Some(Millis(0)), bench.now()));
    }
    assert_eq!(bench.fetch(ABSENT, ASK), Answer::Busy { hint: Millis(1000) });
    let waits = bench.wait(BLOCK, 1);
    bench.pass(1000);
    let answers = bench.perform(ABSENT);
    let [(id, Answer::Miss { token, .. })] = answers[..] else { panic!("{answers:?}") };
    assert_eq!(id, waits);
    let other = At { key: b"other", ..KEY };
    assert!(is_busy(bench.fetch_at(other, ABSENT, ASK, 1)), "one probe");
    assert!(bench.fill(token).is_ok());
    assert!(matches!(bench.fetch_at(other, ABSENT, ASK, 1), Answer::Miss { .. }));
}

#[test]
fn leases_that_run_out_open_the_breaker() {
    let mut bench = bench();
    bench.leases.protect(0, Protection { most: 0, percent: 50, cooldown: Millis(9000) }, Time(0));
    for _ in 0..5 {
        bench.token();
        bench.pass(1000);
    }
    assert!(is_busy(bench.fetch(ABSENT, ASK)));
    assert!(matches!(bench.lock(5, None), Answer::Locked { .. }), "locks do not count");
}

#[test]
fn a_replica_reads_and_grants_nothing() {
    let stale = There::Stale { age: Millis(5) };
    assert_eq!(on_replica(There::Native, None), Answer::Fresh { token: None });
    assert_eq!(on_replica(There::Fresh { elected: true }, None), Answer::Fresh { token: None });
    assert_eq!(on_replica(stale, None), Answer::Stale { token: None });
    assert_eq!(on_replica(stale, Some(Millis(4))), Answer::Busy { hint: Millis::ZERO });
    assert_eq!(on_replica(There::Absent, None), Answer::Busy { hint: Millis::ZERO });
}

#[test]
fn room_is_for_what_is_new() {
    let mut bench = bench();
    let other = At { key: b"other", ..KEY };
    bench.leases.set_limits(Limits { keys: 1, ..Limits::default() });
    assert!(bench.leases.has_room(KEY));
    bench.lock(500, None);
    assert!(bench.leases.has_room(KEY) && !bench.leases.has_room(other));
    bench.leases.set_limits(Limits { bytes: KEY.key.len() + 4, ..Limits::default() });
    assert!(!bench.leases.has_room(other));
}

#[test]
fn refresh_grants_as_fetch_does_and_says_when_to_look_again() {
    let mut bench = Bench::new(Limits::default());
    let refresh = |bench: &mut Bench, sight| {
        let moment = bench.moment();
        let answer = bench.leases.refresh(KEY, sight, Millis(5000), 7, moment);
        assert_eq!(bench.leases.validate(), Vec::<String>::new());
        answer
    };
    let early = Sight { there: There::Fresh { elected: true }, invalidated: Stamp(0) };
    let (token, length) = refresh(&mut bench, early).expect("free");
    assert_eq!((length, bench.leases.totals().early_elections), (Millis(5000), 1));
    assert_eq!(bench.fetch(STALE, ASK), Answer::Stale { token: None }, "one lease for both");
    assert_eq!(refresh(&mut bench, STALE), Err(Millis(1000)));
    bench.pass(4400);
    assert_eq!(refresh(&mut bench, STALE), Err(Millis(600)), "its end is near");
    assert!(bench.fill(token).is_ok());
    let (token, _) = refresh(&mut bench, ABSENT).expect("free again");
    assert!(bench.leases.unlock(KEY, token, Some(Millis(300)), bench.now()));
    assert_eq!(refresh(&mut bench, ABSENT), Err(Millis(300)), "backed off");
    bench.pass(300);
    assert!(refresh(&mut bench, ABSENT).is_ok());
    bench.leases.disconnect(7, bench.now());
    assert!(matches!(bench.fetch(ABSENT, ASK), Answer::Miss { .. }), "given up with the connection");
}
