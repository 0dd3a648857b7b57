//! Random interleavings against a flat model: a list of every grant and every
//! invalidation there ever was, in which each question is answered by walking
//! it. Each step is followed by `validate`, and the promises of DESIGN.md 1 to
//! 3 are looked after wherever somebody is answered.

use super::*;
use crate::index::{Index, Mode};
use crate::origin::Protection;
use crate::slot;
use crate::stamp::StampClock;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Place = (Db, u8);

const LEASE_MAX: u64 = 100;
const TAGS: u8 = 4;

fn namespace(key: u8) -> u8 {
    key % 2
}

/// What the world keeps under a key.
#[derive(Clone, Debug)]
enum Lies {
    Native,
    Entry {
        /// When its computation began, at the latest.
        begun: Stamp,
        born: Stamp,
        tags: Vec<u8>,
        stale: bool,
    },
}

#[derive(Clone, Debug)]
struct Given {
    place: Place,
    token: Stamp,
    lease: bool,
    client: u64,
    keep: bool,
    ends: Time,
    held: bool,
    native: bool,
    /// It may not fill, whatever the stamps say.
    dead: bool,
    /// It must still be remembered then.
    remembered: Time,
}

/// One who waits, as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Waits {
    place: Place,
    lock: bool,
    client: u64,
    keep: bool,
    length: u64,
    deadline: Option<Time>,
}

struct World {
    leases: Leases,
    index: Index,
    clock: StampClock,
    /// As the wall clock has it, and the latest it ever said.
    wall: u64,
    now: Time,
    lies: BTreeMap<Place, Lies>,
    given: Vec<Given>,
    /// (mode, db, tag or 100 + namespace, stamp)
    invalidations: Vec<(Mode, Db, u8, Stamp)>,
    deletions: Vec<(Place, Stamp)>,
    backoff: BTreeMap<Place, Time>,
    waiters: BTreeMap<WaiterId, Waits>,

    most: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Fetch { place: Place, client: u64, block: Option<u64>, fresh: bool, keep: bool, length: u64 },
    Lock { place: Place, client: u64, block: Option<u64>, length: u64 },
    Unlock(usize, Option<u64>),
    Extend(usize, u64),
    Fill { which: usize, tags: Vec<u8>, astray: bool, touch: bool },
    Write(Place, Vec<u8>),
    Delete(Place),
    Stale(Place),
    Native(Place),
    Rename(Place, u8),
    Expire(Place),
    Invalidate(Mode, Db, u8),
    Sweep,
    Forget,
    Flush(Db),
    Swap,
    Disconnect(u64),
    Unblock(usize),
    Demote,
    Lose(u8),
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0usize..2, 0u8..4);
    let tags = || proptest::collection::vec(0..TAGS, 0..3);
    let block = || prop_oneof![1 => Just(None), 3 => (0u64..60).prop_map(Some)];
    let mode = prop_oneof![2 => Just(Mode::Hard), 1 => Just(Mode::Soft)];
    let what = prop_oneof![3 => 0..TAGS, 1 => 100u8..102];
    prop_oneof![
        12 => (place(), 0u64..6, block(), any::<bool>(), any::<bool>(), 1u64..60).prop_map(
            |(place, client, block, fresh, keep, length)| Step::Fetch { place, client, block, fresh, keep, length }),
        5 => (place(), 0u64..6, block(), 1u64..60)
            .prop_map(|(place, client, block, length)| Step::Lock { place, client, block, length }),
        3 => (0usize..6, proptest::option::of(0u64..40)).prop_map(|(n, retry)| Step::Unlock(n, retry)),
        2 => (0usize..6, 1u64..80).prop_map(|(n, ms)| Step::Extend(n, ms)),
        9 => (0usize..6, tags(), proptest::bool::weighted(0.1), proptest::bool::weighted(0.1))
            .prop_map(|(which, tags, astray, touch)| Step::Fill { which, tags, astray, touch }),
        3 => (place(), tags()).prop_map(|(place, tags)| Step::Write(place, tags)),
        2 => place().prop_map(Step::Delete),
        2 => place().prop_map(Step::Stale),
        1 => place().prop_map(Step::Native),
        1 => (place(), 0u8..4).prop_map(|(place, to)| Step::Rename(place, to)),
        2 => place().prop_map(Step::Expire),
        5 => (mode, 0usize..2, what).prop_map(|(mode, db, what)| Step::Invalidate(mode, db, what)),
        2 => Just(Step::Sweep),
        1 => Just(Step::Forget),
        1 => (0usize..2).prop_map(Step::Flush),
        1 => Just(Step::Swap),
        2 => (0u64..6).prop_map(Step::Disconnect),
        1 => (0usize..6).prop_map(Step::Unblock),
        1 => proptest::bool::weighted(0.2).prop_map(|demote| if demote { Step::Demote } else { Step::Sweep }),
        1 => (0u8..4).prop_map(Step::Lose),
        8 => (-20i64..50).prop_map(Step::Wait),
    ]
}

fn at(place: &Place) -> At<'_> {
    At { db: place.0, key: std::slice::from_ref(&place.1), namespace: NamespaceId::from(namespace(place.1)) }
}

impl World {
    fn new(most: u64) -> World {
        let limits = Limits { lease_max: Millis(LEASE_MAX), waiters_per_key: 5, ..Limits::default() };
        let mut leases = Leases::new(limits);
        leases.protect(0, Protection { most, ..Protection::default() }, Time(1_000_000));
        World {
            leases,
            index: Index::default(),
            clock: StampClock::new(),
            wall: 1_000_000,
            now: Time(1_000_000),
            lies: BTreeMap::new(),
            given: Vec::new(),
            invalidations: Vec::new(),
            deletions: Vec::new(),
            backoff: BTreeMap::new(),
            waiters: BTreeMap::new(),
            most,
        }
    }

    fn moment(&mut self) -> Moment {
        Moment { now: Time(self.wall), stamp: self.clock.draw(self.wall * 1000) }
    }

    /// The last stamp of those invalidations of a mode that hit what lies there.
    fn hit(&self, place: Place, mode: Mode, after: Stamp, tags: &[u8]) -> Stamp {
        let hits = |what: u8| tags.contains(&what) || what == 100 + namespace(place.1);
        let all =
            self.invalidations.iter().filter(|(m, db, what, _)| *m == mode && *db == place.0 && hits(*what));
        all.map(|&(.., stamp)| stamp).filter(|stamp| *stamp > after).max().unwrap_or_default()
    }

    /// What lies there alive, and the sight of it.
    fn sight(&self, place: Place) -> (Option<Lies>, Sight) {
        let spaces = self.index.namespace_stamps(place.0, &[namespace(place.1)]).last();
        match self.lies.get(&place) {
            None => (None, Sight { there: There::Absent, invalidated: spaces }),
            Some(Lies::Native) => (Some(Lies::Native), Sight { there: There::Native, invalidated: spaces }),
            Some(lies @ Lies::Entry { born, tags, stale, .. }) => {
                let hard = self.hit(place, Mode::Hard, *born, tags);
                let soft = self.hit(place, Mode::Soft, *born, tags);
                let there = match (hard > Stamp(0), *stale || soft > Stamp(0)) {
                    (true, _) => There::Absent,
                    (false, true) => There::Stale { age: Millis(1) },
                    (false, false) => There::Fresh { elected: false },
                };
                let live = (there != There::Absent).then(|| lies.clone());
                (live, Sight { there, invalidated: spaces.max(hard).max(soft) })
            }
        }
    }

    fn expire_given(&mut self) {
        let now = self.now;
        for given in self.given.iter_mut().filter(|given| given.held && given.ends <= now) {
            given.held = false;
            given.remembered = Time(given.ends.0 + LEASE_MAX);
        }
    }

    fn held(&self, place: Place) -> Option<&Given> {
        self.given.iter().find(|given| given.place == place && given.held)
    }

    /// A change voids what was given on the place before `stamp`.
    fn void(&mut self, place: Place, stamp: Stamp) {
        for given in self.given.iter_mut().filter(|given| given.place == place && given.token < stamp) {
            given.dead = true;
            given.held &= !given.lease;
        }
    }

    fn change(&mut self, place: Place, change: Change) {
        let moment = self.moment();
        self.void(place, moment.stamp);
        if change == Change::Deleted {
            self.deletions.push((place, moment.stamp));
        }
        if change == Change::Written {
            self.backoff.remove(&place);
        }
        self.leases.change(at(&place), change, moment.now);
    }

    // ── who is answered ─────────────────────────────────────────────────────

    /// Promise 1: a value that somebody gets is not older than it may be.
    fn serve(&self, place: Place) -> Result<(), TestCaseError> {
        let Some(Lies::Entry { begun, tags, .. }) = self.lies.get(&place) else { return Ok(()) };
        let hit = self.hit(place, Mode::Hard, *begun, tags);
        prop_assert_eq!(hit, Stamp(0), "{:?}: begun {:?}, hit {:?}", place, begun, hit);
        let deleted = self.deletions.iter().any(|(of, stamp)| *of == place && stamp > begun);
        prop_assert!(!deleted, "{:?}: begun {:?}, and deleted since", place, begun);
        Ok(())
    }

    /// Promise 2: one at a time, tokens that grow.
    fn give(
        &mut self,
        place: Place,
        token: Stamp,
        length: u64,
        holder: Option<(u64, bool)>,
    ) -> Result<(), TestCaseError> {
        self.expire_given();
        let held = self.held(place);
        prop_assert!(held.is_none(), "{:?}: {:?} given, {:?} held", place, token, held);
        prop_assert!(self.given.iter().all(|given| given.token < token), "tokens grow");
        let rests = holder.is_some() && self.backoff.get(&place).is_some_and(|until| *until > self.now);
        prop_assert!(!rests, "{:?}: a lease in the back-off", place);
        let (client, keep) = holder.unwrap_or_default();
        self.given.push(Given {
            place,
            token,
            lease: holder.is_some(),
            client,
            keep,
            ends: Time(self.now.0 + length),
            held: true,
            native: self.lies.get(&place).is_some_and(|lies| matches!(lies, Lies::Native)),
            dead: false,
            remembered: Time(u64::MAX),
        });
        let leases =
            self.given.iter().filter(|g| g.held && g.lease && namespace(g.place.1) == 0).count() as u64;
        prop_assert!(self.most == 0 || leases <= self.most, "{} leases", leases);
        Ok(())
    }

    /// Promise 3, the order: who is granted has nobody before it.
    fn check_order(&self, place: Place, id: WaiterId, lock: bool) -> Result<(), TestCaseError> {
        // It may have been named in a back-off that has ended since.
        let rests = self.backoff.contains_key(&place) || self.most > 0;
        for (&other, before) in self.waiters.range(..id) {
            // Its time may be up, and it not told yet.
            let late = self.leases.waiting(other).is_none();
            let passed = before.place == place && !late && (before.lock || !(lock && rests));
            prop_assert!(!passed, "{:?}: {:?} was promoted before {:?}", place, id, other);
        }
        Ok(())
    }

    fn perform(&mut self, limit: usize) -> Result<(), TestCaseError> {
        let mut left = limit;
        while left > 0 {
            left -= 1;
            let Some(event) = self.leases.take_events(1).pop() else { break };
            match event {
                // One that is not known any more has been told of, and gone since.
                Event::Unblocked(id) => {
                    self.waiters.remove(&id);
                }
                Event::Moved(id, slot) => {
                    if let Some(waiter) = self.waiters.remove(&id) {
                        prop_assert_eq!(slot::of(&[waiter.place.1]), slot);
                    }
                }
                Event::TimedOut(id, _) => {
                    if let Some(waiter) = self.waiters.remove(&id) {
                        prop_assert!(waiter.deadline.is_some_and(|due| due <= self.now), "{:?}", waiter);
                    }
                }
                Event::Look(id) => {
                    let moment = self.moment();
                    let place = match self.leases.waiting(id) {
                        Some(waiting) => (waiting.at.db, waiting.at.key[0]),
                        None => continue,
                    };
                    let &Waits { place: of, lock, client, keep, length: asked, deadline } =
                        self.waiters.get(&id).expect("one that waits");
                    prop_assert_eq!(of, place);
                    let sight = self.sight(place).1;
                    self.void(place, Stamp(sight.invalidated.0 + 1));
                    match self.leases.resume(id, sight, moment) {
                        None => {}
                        Some(Answer::Wait(same)) => prop_assert_eq!(same, id),
                        Some(answer) => {
                            self.waiters.remove(&id);
                            match answer {
                                Answer::Locked { token, length } => {
                                    self.check_order(place, id, true)?;
                                    self.give(place, token, length.0, None)?;
                                    prop_assert!(lock);
                                }
                                Answer::Miss { token, length } => {
                                    self.check_order(place, id, false)?;
                                    self.give(place, token, length.0, Some((client, keep)))?;
                                }
                                Answer::Stale { token: Some(token) } => {
                                    self.give(place, token, asked, Some((client, keep)))?;
                                    self.serve(place)?;
                                }
                                Answer::Fresh { token } => {
                                    prop_assert_eq!(token, None, "a woken waiter is never elected");
                                    self.serve(place)?;
                                }
                                Answer::Stale { .. } => self.serve(place)?,
                                _ => prop_assert!(deadline.is_some_and(|deadline| deadline <= self.now)),
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[path = "leases_model_steps.rs"]
mod steps;
