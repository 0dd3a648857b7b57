//! Origins behind the table: hints, what is counted, numbers that change; and
//! random fills and failures against a list of all outcomes there were.

use super::tests::{bench, is_busy, token, Bench, ABSENT, ASK, BLOCK, KEY, STALE};
use super::*;
use crate::origin::{Protection, State, FEWEST, WINDOW};
use proptest::prelude::*;

const OTHER: At<'static> = At { key: b"other", ..KEY };
const BREAKER: Protection = Protection { most: 0, percent: 50, cooldown: Millis(1000) };
const FRESH_ELECTED: Sight = Sight { there: There::Fresh { elected: true }, invalidated: Stamp(0) };

fn opened() -> Bench {
    let mut bench = bench();
    bench.leases.protect(0, BREAKER, Time(0));
    for _ in 0..FEWEST {
        let failed = bench.token();
        assert!(bench.leases.unlock(KEY, failed, Some(Millis(0)), bench.now()));
    }
    bench
}

#[test]
fn who_is_protected_from_is_told_when_a_lease_may_be_had() {
    let mut bench = opened();
    let measured = Ask { typical: Millis(40), ..ASK };
    assert_eq!(bench.fetch(ABSENT, measured), Answer::Busy { hint: Millis(1000) });
    bench.pass(300);
    assert_eq!(bench.fetch(ABSENT, ASK), Answer::Busy { hint: Millis(700) });
    bench.pass(700);
    let probe = bench.token();
    assert_eq!(bench.fetch_at(OTHER, ABSENT, measured, 1), Answer::Busy { hint: Millis(40) });
    // The key rests for longer than the origin, and the other way round.
    assert!(bench.leases.unlock(KEY, probe, Some(Millis(5000)), bench.now()));
    assert_eq!(bench.fetch(ABSENT, measured), Answer::Busy { hint: Millis(5000) });
    assert_eq!(bench.fetch_at(OTHER, ABSENT, measured, 1), Answer::Busy { hint: Millis(1000) });
    bench.pass(1000);
    let probe = token(bench.fetch_at(OTHER, ABSENT, measured, 1));
    assert!(bench.leases.unlock(OTHER, probe, Some(Millis(5)), bench.now()));
    assert_eq!(bench.fetch_at(OTHER, ABSENT, measured, 1), Answer::Busy { hint: Millis(1000) });
}

#[test]
fn at_the_limit_the_hint_is_what_a_fill_takes() {
    let mut bench = bench();
    bench.leases.protect(0, Protection { most: 1, ..Protection::default() }, Time(0));
    bench.token();
    assert_eq!(
        bench.fetch_at(OTHER, ABSENT, Ask { typical: Millis(40), ..ASK }, 1),
        Answer::Busy { hint: Millis(40) }
    );
    assert_eq!(bench.fetch_at(OTHER, ABSENT, ASK, 1), Answer::Busy { hint: origin::SHORT_HINT });
}

#[test]
fn while_it_rests_what_there_is_is_served_without_a_token() {
    let mut bench = opened();
    assert_eq!(bench.fetch(STALE, BLOCK), Answer::Stale { token: None });
    assert_eq!(bench.fetch(FRESH_ELECTED, ASK), Answer::Fresh { token: None });
    let fresh = Ask { maxstale: Some(Millis(0)), ..ASK };
    assert_eq!(bench.fetch(STALE, fresh), Answer::Busy { hint: Millis(1000) });
    bench.pass(1000);
    assert!(matches!(bench.fetch(STALE, ASK), Answer::Stale { token: Some(_) }), "the probe");
    assert_eq!(bench.fetch_at(OTHER, STALE, ASK, 1), Answer::Stale { token: None });
}

#[test]
fn what_happens_is_counted_and_told() {
    let mut bench = opened();
    assert_eq!(bench.leases.origin(0, bench.now()), (State::Resting(Millis(1000)), 0));
    assert_eq!(bench.leases.open_breakers(bench.now()), 1);
    assert_eq!(bench.leases.take_turned(), BTreeMap::from([(0, true)]));
    assert!(!bench.leases.has_turned());
    assert!(is_busy(bench.fetch(ABSENT, ASK)));
    assert_eq!(bench.fetch(STALE, ASK), Answer::Stale { token: None });
    bench.pass(1000);
    bench.token();
    assert_eq!(bench.leases.origin(0, bench.now()), (State::Probing, 1));
    assert!(is_busy(bench.fetch(ABSENT, ASK)), "held, as any");
    bench.pass(1000);
    assert!(!bench.leases.has_turned(), "it ran out: open as before");
    bench.pass(1000);
    let probe = bench.token();
    assert!(bench.fill(probe).is_ok());
    assert_eq!(bench.leases.take_turned(), BTreeMap::from([(0, false)]));
    let counters = bench.leases.counters(0);
    assert_eq!((counters.protected, counters.failed_fills, counters.breaker_opened), (2, 6, 1));
    assert_eq!(bench.leases.open_breakers(bench.now()), 0);
}

#[test]
fn a_breaker_taken_away_is_told_of_as_closed() {
    let mut bench = opened();
    bench.leases.take_turned();
    let waits = bench.wait(BLOCK, 1);
    let now = bench.now();
    bench.leases.protect(0, Protection::default(), now);
    assert_eq!(bench.leases.take_turned(), BTreeMap::from([(0, false)]));
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == waits));
}

#[test]
fn who_was_named_before_it_opened_waits_for_the_probe() {
    let mut bench = bench();
    bench.leases.protect(0, BREAKER, Time(0));
    let held = bench.token();
    let waits = bench.wait(BLOCK, 1);
    assert!(bench.leases.unlock(KEY, held, None, bench.now()));
    for _ in 0..FEWEST {
        let failed = token(bench.fetch_at(OTHER, ABSENT, ASK, 1));
        assert!(bench.leases.unlock(OTHER, failed, Some(Millis(0)), bench.now()));
    }
    let answers = bench.perform(ABSENT);
    assert_eq!(answers, [(waits, Answer::Wait(waits))], "it was called, and may not");
    assert_eq!(bench.leases.validate(), Vec::<String>::new());
    bench.pass(1000);
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == waits));
}

#[test]
fn keys_go_over_to_a_number_of_their_own_and_back() {
    let mut bench = bench();
    let mine = |key| At { key, ..KEY };
    let (a, b, c) = (mine(b"a:1"), mine(b"a:2"), mine(b"b:1"));
    let held = token(bench.fetch_at(a, ABSENT, ASK, 1));
    token(bench.fetch_at(b, ABSENT, ASK, 1));
    token(bench.fetch_at(c, ABSENT, ASK, 1));
    let Answer::Wait(waits) = bench.fetch_at(b, ABSENT, BLOCK, 1) else { panic!("waits") };
    let those = |name: &[u8]| name.starts_with(b"a:");
    bench.leases.renumber(0, those, 7);
    assert_eq!(bench.leases.validate(), Vec::<String>::new());
    assert_eq!([0, 7].map(|number| bench.leases.origin(number, bench.now()).1), [1, 2]);
    let now = bench.now();
    bench.leases.protect(7, Protection { most: 1, ..BREAKER }, now);
    let of = |at: At<'static>| At { namespace: 7, ..at };
    assert!(is_busy(bench.fetch_at(of(mine(b"a:3")), ABSENT, ASK, 1)));
    assert!(bench.leases.unlock(of(a), held, Some(Millis(0)), bench.now()));
    assert!(is_busy(bench.fetch_at(of(a), ABSENT, ASK, 1)), "the other is out still");
    let Answer::Wait(other) = bench.fetch_at(of(a), ABSENT, BLOCK, 1) else { panic!("waits") };
    let failed = bench.leases.counters(7).failed_fills;
    bench.leases.protect(7, Protection::default(), bench.now());
    bench.leases.renumber(7, those, 0);
    bench.leases.merge_counters(7, 0);
    assert_eq!(bench.leases.validate(), Vec::<String>::new());
    assert_eq!((bench.leases.counters(0).failed_fills, failed), (1, 1));
    assert_eq!(bench.leases.counters(7), Counters::default());
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == other), "nominated, and moved since");
    bench.pass(1000);
    let answers = bench.perform(ABSENT);
    assert!(matches!(answers[..], [(id, Answer::Miss { .. })] if id == waits));
}

// ── random fills and failures ───────────────────────────────────────────────

#[derive(Clone, Debug)]
enum Step {
    Fetch { key: u8, block: bool, length: u64 },
    Fill(usize),
    Fail(usize),
    GiveUp(usize),
    Pass(u64),
    Protect { most: u64, percent: u32, cooldown: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..6, any::<bool>(), 1u64..40)
            .prop_map(|(key, block, length)| Step::Fetch { key, block, length }),
        3 => (0usize..4).prop_map(Step::Fill),
        6 => (0usize..4).prop_map(Step::Fail),
        1 => (0usize..4).prop_map(Step::GiveUp),
        4 => (1u64..30).prop_map(Step::Pass),
        1 => (0u64..4, prop_oneof![Just(0u32), 30u32..80], 1u64..60)
            .prop_map(|(most, percent, cooldown)| Step::Protect { most, percent, cooldown }),
    ]
}

/// A lease as the model knows it.
#[derive(Clone, Debug)]
struct Out {
    key: u8,
    token: Stamp,
    ends: u64,
    probe: bool,
}

/// All there was: outcomes since the breaker was last at rest, the first first.
struct World {
    bench: Bench,
    protection: Protection,
    outcomes: Vec<bool>,
    open: Option<u64>,
    out: Vec<Out>,
    waiting: Vec<WaiterId>,
}

impl World {
    fn at(key: &u8) -> At<'_> {
        At { db: 0, key: std::slice::from_ref(key), namespace: 0 }
    }

    fn permits(&self) -> bool {
        let room = self.protection.most == 0 || (self.out.len() as u64) < self.protection.most;
        let probing = self.out.iter().any(|out| out.probe);
        room && self.open.is_none_or(|until| until <= self.bench.now && !probing)
    }

    fn granted(&mut self, key: u8, token: Stamp, length: u64) -> Result<(), TestCaseError> {
        prop_assert!(self.permits(), "a lease that may not be");
        prop_assert!(self.out.iter().all(|out| out.key != key), "one a key");
        let ends = self.bench.now + length;
        self.out.push(Out { key, token, ends, probe: self.open.is_some() });
        Ok(())
    }

    /// By the definition: of the last outcomes the share that failed.
    fn outcome(&mut self, success: bool, probe: bool) {
        if self.protection.percent == 0 || (self.open.is_some() && !probe) {
            return;
        }
        if self.open.is_some() && success {
            (self.open, self.outcomes) = (None, Vec::new());
            return;
        }
        self.outcomes.push(success);
        let recent = &self.outcomes[self.outcomes.len().saturating_sub(WINDOW as usize)..];
        let failed = recent.iter().filter(|success| !**success).count();
        let share = failed * 100 >= self.protection.percent as usize * recent.len();
        if self.open.is_some() || (!success && recent.len() >= FEWEST as usize && share) {
            (self.open, self.outcomes) = (Some(self.bench.now + self.protection.cooldown.0), Vec::new());
            // One that was given before is no probe of this.
            self.out.iter_mut().for_each(|out| out.probe = false);
        }
    }

    /// Does what is due, and answers who is called; nobody waits who need not.
    fn settle(&mut self) -> Result<(), TestCaseError> {
        let moment = self.bench.moment();
        self.bench.leases.tick(moment.now, usize::MAX);
        while let Some(event) = self.bench.leases.take_events(1).pop() {
            let Event::Look(id) = event else { return Err(TestCaseError::fail(format!("{event:?}"))) };
            let Some(key) = self.bench.leases.waiting(id).map(|waiting| waiting.at.key[0]) else { continue };
            let moment = self.bench.moment();
            match self.bench.leases.resume(id, ABSENT, moment) {
                Some(Answer::Miss { token, length }) => {
                    self.granted(key, token, length.0)?;
                    self.waiting.retain(|waiting| *waiting != id);
                }
                Some(Answer::Wait(_)) => {}
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        }
        prop_assert_eq!(self.bench.leases.validate(), Vec::<String>::new());
        for id in &self.waiting {
            let key = self.bench.leases.waiting(*id).map(|waiting| waiting.at.key[0]);
            let key = key.ok_or_else(|| TestCaseError::fail("one who waits is forgotten"))?;
            prop_assert!(
                self.is_out(key) || !self.permits() || self.bench.leases.has_events(),
                "waits for nothing"
            );
        }
        Ok(())
    }

    fn is_out(&self, key: u8) -> bool {
        self.out.iter().any(|out| out.key == key)
    }

    fn take(&mut self, n: usize) -> Option<Out> {
        (n < self.out.len()).then(|| self.out.remove(n))
    }

    fn run(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Fetch { key, block, length } => {
                let block = block.then_some(Millis::ZERO);
                let ask = Ask { length: Millis(length), block, keep: true, ..ASK };
                let may = self.permits() && !self.is_out(key) && self.waiting_on(key) == 0;
                match self.bench.fetch_at(World::at(&key), ABSENT, ask, 1) {
                    Answer::Miss { token, .. } => self.granted(key, token, length)?,
                    Answer::Wait(id) => {
                        prop_assert!(!may, "it might have had one");
                        self.waiting.push(id);
                    }
                    Answer::Busy { hint } => {
                        prop_assert!(!may && block.is_none());
                        let rest = self.open.map_or(0, |until| until.saturating_sub(self.bench.now));
                        let honest = self.is_out(key) || hint.0 >= rest;
                        prop_assert!(honest && hint > Millis::ZERO, "{:?} of {} ms", hint, rest);
                    }
                    other => return Err(TestCaseError::fail(format!("{other:?}"))),
                }
            }
            Step::Fill(n) => {
                let Some(out) = self.take(n) else { return Ok(()) };
                let stored = self.bench.fill_at(World::at(&out.key), out.token);
                prop_assert!(stored.is_ok());
                self.outcome(true, out.probe);
                // Its waiters are answered: absent still, for the value went at once.
            }
            Step::Fail(n) | Step::GiveUp(n) => {
                let Some(out) = self.take(n) else { return Ok(()) };
                let retry = matches!(step, Step::Fail(_)).then_some(Millis::ZERO);
                let now = self.bench.now();
                prop_assert!(self.bench.leases.unlock(World::at(&out.key), out.token, retry, now));
                if retry.is_some() {
                    self.outcome(false, out.probe);
                }
            }
            Step::Pass(ms) => {
                for _ in 0..ms {
                    self.bench.now += 1;
                    let now = self.bench.now;
                    let (over, out) = self.out.drain(..).partition(|out| out.ends <= now);
                    self.out = out;
                    for out in over {
                        self.outcome(false, out.probe);
                    }
                    self.settle()?;
                }
            }
            Step::Protect { most, percent, cooldown } => {
                let cooldown = if percent > 0 { Millis(cooldown) } else { Millis::ZERO };
                self.protection = Protection { most, percent, cooldown };
                let now = self.bench.now();
                self.bench.leases.protect(0, self.protection, now);
                if percent == 0 {
                    (self.open, self.outcomes) = (None, Vec::new());
                    self.out.iter_mut().for_each(|out| out.probe = false);
                }
            }
        }
        self.settle()
    }

    fn waiting_on(&self, key: u8) -> usize {
        let keys = self.waiting.iter().filter_map(|id| self.bench.leases.waiting(*id));
        keys.filter(|waiting| *waiting.at.key == [key]).count()
    }
}

proptest! {
    #[test]
    fn an_origin_sees_at_most_what_it_may(steps in proptest::collection::vec(step(), 0..120)) {
        let protection = Protection { most: 3, percent: 50, cooldown: Millis(20) };
        let mut bench = bench();
        bench.leases.protect(0, protection, Time(0));
        let mut world =
            World { bench, protection, outcomes: Vec::new(), open: None, out: Vec::new(), waiting: Vec::new() };
        for step in &steps {
            world.run(step)?;
            let (state, out) = world.bench.leases.origin(0, world.bench.now());
            prop_assert_eq!(out as usize, world.out.len());
            prop_assert_eq!(state == State::Closed, world.open.is_none());
            prop_assert!(world.out.iter().filter(|out| out.probe).count() <= 1);
        }
    }
}
