//! What each step does to the world, and what must hold after it.

use super::*;

impl World {
    fn fetch(
        &mut self,
        place: Place,
        client: u64,
        block: Option<u64>,
        fresh: bool,
        keep: bool,
        length: u64,
    ) -> Result<(), TestCaseError> {
        let moment = self.moment();
        let sight = self.sight(place).1;
        // What outdates a lease is found now.
        self.void(place, Stamp(sight.invalidated.0 + 1));
        let ask = Ask {
            length: Millis(length),
            keep,
            block: block.map(Millis),
            maxstale: fresh.then_some(Millis::ZERO),
            typical: Millis::ZERO,
        };
        let servable = match sight.there {
            There::Absent => false,
            There::Stale { .. } => !fresh,
            _ => true,
        };
        let answer = self.leases.fetch(at(&place), sight, ask, client, moment);
        let token = match answer {
            Answer::Fresh { token } => {
                let fresh = matches!(sight.there, There::Fresh { .. } | There::Native);
                prop_assert!(fresh);
                prop_assert_eq!(token, None);
                return self.serve(place);
            }
            Answer::Stale { token } => {
                prop_assert!(servable);
                self.serve(place)?;
                token
            }
            Answer::Miss { token, length: granted } => {
                prop_assert!(!servable);
                prop_assert_eq!(granted.0, length);
                Some(token)
            }
            Answer::Wait(id) => {
                prop_assert!(!servable && block.is_some());
                let deadline = block.filter(|ms| *ms > 0).map(|ms| Time(self.now.0 + ms));
                self.waiters.insert(id, Waits { place, lock: false, client, keep, length, deadline });
                None
            }
            Answer::Busy { hint } => {
                prop_assert!(!servable && hint > Millis::ZERO);
                let here = self.waiters.values().filter(|waits| waits.place == place).count();
                prop_assert!(block.is_none() || here >= 5, "room to wait");
                None
            }
            other => return Err(TestCaseError::fail(format!("{other:?} to a FETCH"))),
        };
        match token {
            Some(token) => self.give(place, token, length, Some((client, keep))),
            None => {
                let rests = self.backoff.get(&place).is_some_and(|until| *until > self.now);
                let limited = self.most > 0 && namespace(place.1) == 0;
                let before = self.in_time(place).count();
                let own = usize::from(matches!(answer, Answer::Wait(_)));
                let why = self.held(place).is_some() || rests || limited || before > own;
                prop_assert!(why, "{:?}: no token, and nothing stands in the way", place);
                Ok(())
            }
        }
    }

    fn lock(
        &mut self,
        place: Place,
        client: u64,
        block: Option<u64>,
        length: u64,
    ) -> Result<(), TestCaseError> {
        let moment = self.moment();
        let sight = self.sight(place).1;
        self.void(place, Stamp(sight.invalidated.0 + 1));
        match self.leases.lock(at(&place), sight, Millis(length), block.map(Millis), client, moment) {
            Answer::Locked { token, .. } => {
                let before = self.in_time(place).filter(|waits| waits.lock).count();
                prop_assert_eq!(before, 0, "past those who wait for it");
                self.give(place, token, length, None)
            }
            Answer::Wait(id) => {
                let deadline = block.filter(|ms| *ms > 0).map(|ms| Time(self.now.0 + ms));
                self.waiters.insert(id, Waits { place, lock: true, client, keep: true, length, deadline });
                Ok(())
            }
            answer => {
                prop_assert_eq!(answer, Answer::Held);
                let waits = self.in_time(place).count();
                prop_assert!(self.held(place).is_some() || waits > 0);
                Ok(())
            }
        }
    }

    /// Those who wait on a place, such aside as are dismissed and not told yet.
    fn in_time(&self, place: Place) -> impl Iterator<Item = &Waits> {
        let here = self.waiters.iter().filter(move |(_, waits)| waits.place == place);
        here.filter(|(id, _)| self.leases.waiting(**id).is_some()).map(|(_, waits)| waits)
    }

    /// One of the last grants.
    fn nth(&self, n: usize) -> Option<Given> {
        self.given.iter().rev().nth(n).cloned()
    }

    fn fill(&mut self, given: &Given, place: Place, tags: &[u8], touch: bool) -> Result<(), TestCaseError> {
        let moment = self.moment();
        let (live, sight) = self.sight(place);
        let under = match &live {
            None => Under::Nothing,
            Some(Lies::Native) => Under::Native,
            Some(Lies::Entry { .. }) => Under::Entry,
        };
        let tags = match (&live, touch) {
            (Some(Lies::Entry { tags, .. }), true) => tags.clone(),
            _ => tags.to_vec(),
        };
        let evidence = Evidence {
            under,
            touch,
            invalidated: sight.invalidated,
            namespace: self.index.namespace_stamps(place.0, &[namespace(place.1)]),
            low_water: self.index.low_water(),
        };
        let stamps: Vec<_> = tags.iter().map(|tag| self.index.stamps(place.0, &[*tag])).collect();
        let got = self.leases.fill(at(&place), given.token, &evidence, stamps, moment.now);

        // By the list of all that ever happened.
        let newer = self.given.iter().any(|other| other.place == place && other.token > given.token);
        let hit = self.invalidations.iter().any(|&(_, db, what, stamp)| {
            db == place.0 && stamp > given.token && (tags.contains(&what) || what == 100 + namespace(place.1))
        });
        let ok = given.place == place
            && !given.dead
            && !newer
            && !hit
            && sight.invalidated < given.token
            && (under != Under::Native || given.native)
            && (!touch || under == Under::Entry);
        let known = tags.is_empty() || self.index.low_water() < given.token;
        let remembered = given.remembered > self.now.max(moment.now);
        prop_assert!(got.is_err() || ok, "{:?} filled {:?} with {:?}", given, place, tags);
        prop_assert!(got.is_ok() || !(ok && known && remembered), "{:?}: {:?}", given, got);
        for other in self.given.iter_mut().filter(|other| other.token == given.token && other.place == place)
        {
            (other.dead, other.held) = (true, false);
        }
        if got.is_ok() {
            for tag in &tags {
                // Known from now on, forgotten or not.
                self.index.intern(place.0, &[*tag]);
            }
            let entry = Lies::Entry { begun: given.token, born: moment.stamp, tags, stale: false };
            self.lies.insert(place, entry);
            self.backoff.remove(&place);
        }
        Ok(())
    }

    /// The tags of what lies on a place were invalidated: those who fill it
    /// from before must not, whether the table knows of it yet or not.
    fn hit_by(&mut self, what: u8, db: Db, stamp: Stamp) {
        let hit = |(place, lies): (&Place, &Lies)| match lies {
            Lies::Entry { tags, .. } => (place.0 == db && tags.contains(&what)).then_some(*place),
            Lies::Native => None,
        };
        let places: Vec<Place> = self.lies.iter().filter_map(hit).collect();
        for given in
            self.given.iter_mut().filter(|given| places.contains(&given.place) && given.token < stamp)
        {
            given.dead = true;
        }
    }

    /// An entry leaves by itself; an invalidated one is told of.
    fn leave(&mut self, place: Place) {
        let (_, sight) = self.sight(place);
        let gone = self.lies.remove(&place);
        if matches!(gone, Some(Lies::Entry { .. })) && sight.invalidated > Stamp(0) {
            self.void(place, Stamp(sight.invalidated.0 + 1));
            let now = self.moment().now;
            self.leases.change(at(&place), Change::Invalidated(sight.invalidated), now);
        }
    }

    fn dissolve(&mut self, db: Db, locks: bool) {
        for given in self.given.iter_mut().filter(|given| given.place.0 == db) {
            if given.lease || locks || !given.held {
                (given.held, given.dead) = (false, true);
            }
        }
    }

    fn run(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Fetch { place, client, block, fresh, keep, length } => {
                self.fetch(place, client, block, fresh, keep, length)?;
            }
            Step::Lock { place, client, block, length } => self.lock(place, client, block, length)?,
            Step::Unlock(n, retry) => {
                let Some(given) = self.nth(n) else { return Ok(()) };
                let moment = self.moment();
                let done = self.leases.unlock(at(&given.place), given.token, retry.map(Millis), moment.now);
                // One that is outdated without the table's knowing may be either.
                prop_assert!(done == given.held || given.dead, "{:?}: {}", given, done);
                for other in self.given.iter_mut().filter(|other| done && other.token == given.token) {
                    (other.held, other.dead) = (false, true);
                }
                if let Some(retry) = retry.filter(|_| done) {
                    let until = Time(self.now.0 + retry);
                    let backoff = self.backoff.entry(given.place).or_insert(until);
                    *backoff = until.max(*backoff);
                }
            }
            Step::Extend(n, ms) => {
                let Some(given) = self.nth(n) else { return Ok(()) };
                let moment = self.moment();
                let done = self.leases.extend(at(&given.place), given.token, Millis(ms), moment.now);
                prop_assert!(done == given.held || given.dead, "{:?}: {}", given, done);
                let ends = Time(self.now.0 + ms);
                self.given
                    .iter_mut()
                    .filter(|other| done && other.token == given.token)
                    .for_each(|other| other.ends = ends);
            }
            Step::Fill { which, tags, astray, touch } => {
                let Some(given) = self.nth(which) else { return Ok(()) };
                let place = if astray { (given.place.0, (given.place.1 + 1) % 4) } else { given.place };
                self.fill(&given, place, &tags, touch)?;
            }
            Step::Write(place, tags) => {
                let stamp = self.moment().stamp;
                tags.iter().for_each(|tag| {
                    self.index.intern(place.0, &[*tag]);
                });
                self.lies.insert(place, Lies::Entry { begun: stamp, born: stamp, tags, stale: false });
                self.change(place, Change::Written);
            }
            Step::Delete(place) => {
                self.lies.remove(&place);
                self.change(place, Change::Deleted);
            }
            Step::Stale(place) => {
                if let Some(Lies::Entry { stale, .. }) = self.lies.get_mut(&place) {
                    *stale = true;
                }
                self.change(place, Change::Staled);
            }
            // Nobody tells of a native write to an absent key.
            Step::Native(place) => {
                self.lies.entry(place).or_insert(Lies::Native);
            }
            Step::Rename(place, to) => {
                if self.sight(place).0.is_none() {
                    return Ok(());
                }
                if let Some(lies) = self.lies.remove(&place) {
                    self.change(place, Change::Deleted);
                    let target = (place.0, to);
                    // What a deletion of the new name forbids is another name's.
                    let stamp = self.moment().stamp;
                    let moved = match lies {
                        Lies::Entry { tags, stale, .. } => {
                            Lies::Entry { begun: stamp, born: stamp, tags, stale }
                        }
                        Lies::Native => Lies::Native,
                    };
                    self.lies.insert(target, moved);
                    self.change(target, Change::Written);
                }
            }
            Step::Expire(place) => self.leave(place),
            Step::Invalidate(mode, db, what) => {
                let stamp = self.moment().stamp;
                if what >= 100 {
                    self.index.invalidate_namespace(db, &[what - 100], stamp, mode);
                } else {
                    self.index.invalidate_tag(db, &[what], stamp, mode);
                }
                self.invalidations.push((mode, db, what, stamp));
                self.hit_by(what, db, stamp);
            }
            Step::Sweep => {
                let dead = |place: &&Place| self.sight(**place).0.is_none();
                let dead: Vec<Place> = self.lies.keys().filter(dead).copied().collect();
                dead.into_iter().for_each(|place| self.leave(place));
            }
            Step::Forget => {
                let before = Stamp((self.wall.saturating_sub(20)) * 1000);
                self.index.forget(before, 2, 4);
            }
            Step::Flush(db) => {
                self.lies.retain(|place, _| place.0 != db);
                self.backoff.retain(|place, _| place.0 != db);
                self.dissolve(db, true);
                self.index.flush(db);
                let now = self.moment().now;
                self.leases.flush(Some(db), now);
            }
            Step::Swap => self.swap(),
            Step::Disconnect(client) => {
                let now = self.moment().now;
                for given in
                    self.given.iter_mut().filter(|g| g.held && g.lease && g.client == client && !g.keep)
                {
                    given.held = false;
                    given.remembered = Time(now.0 + LEASE_MAX);
                }
                self.waiters.retain(|_, waits| waits.client != client);
                self.leases.disconnect(client, now);
            }
            Step::Unblock(n) => {
                let Some((&id, _)) = self.waiters.iter().nth(n) else { return Ok(()) };
                self.waiters.remove(&id);
                let now = self.moment().now;
                self.leases.forget(id, now);
            }
            Step::Demote => {
                self.backoff.clear();
                for given in self.given.iter_mut().filter(|given| given.lease || !given.held) {
                    (given.held, given.dead) = (false, true);
                }
                let now = self.moment().now;
                self.leases.demote(now);
            }
            Step::Lose(key) => {
                self.backoff.retain(|place, _| place.1 != key);
                let mut held = Vec::new();
                for given in self.given.iter_mut().filter(|given| given.place.1 == key) {
                    if given.held && !given.lease && given.ends.0 > self.wall.max(self.now.0) {
                        held.push((given.place.0, Box::from([key]), given.token));
                    }
                    (given.held, given.dead) = (false, true);
                }
                let mut slots = slot::Set::default();
                slots.add(slot::of(&[key]), slot::of(&[key]));
                let now = self.moment().now;
                let mut locks = self.leases.lose(&slots, now);
                locks.sort_unstable();
                held.sort_unstable();
                prop_assert_eq!(locks, held);
                let left = self.waiters.iter().filter(|(_, waits)| waits.place.1 == key);
                prop_assert!(left.map(|(id, _)| self.leases.waiting(*id)).all(|waiting| waiting.is_none()));
            }
            Step::Wait(ms) => self.wall = self.wall.saturating_add_signed(ms),
        }
        Ok(())
    }

    fn swap(&mut self) {
        let other = |place: Place| (1 - place.0, place.1);
        self.dissolve(0, false);
        self.dissolve(1, false);
        self.lies = std::mem::take(&mut self.lies).into_iter().map(|(p, lies)| (other(p), lies)).collect();
        self.backoff = std::mem::take(&mut self.backoff).into_iter().map(|(p, t)| (other(p), t)).collect();
        self.given.iter_mut().for_each(|given| given.place = other(given.place));
        self.deletions.iter_mut().for_each(|(place, _)| *place = other(*place));
        self.invalidations.iter_mut().for_each(|of| of.1 = 1 - of.1);
        self.index.swap(0, 1);
        let now = self.moment().now;
        self.leases.swap(0, 1, now);
    }

    fn step(&mut self, step: Step, limit: usize) -> Result<(), TestCaseError> {
        self.run(step)?;
        self.now = self.now.max(Time(self.wall));
        self.expire_given();
        self.leases.tick(Time(self.wall), usize::MAX);
        self.perform(limit)?;
        let problems = self.leases.validate();
        prop_assert!(problems.is_empty(), "{:?}", problems);
        prop_assert_eq!(self.leases.counts().waiters <= self.waiters.len(), true, "one is forgotten");
        let due = self.leases.next_deadline();
        prop_assert!(
            due.is_none_or(|due| due > self.now),
            "{}",
            format!("{due:?} is left at {:?}: {:?}", self.now, self.leases.deadlines)
        );
        // Promise 3: nobody is late whom the module has performed.
        if !self.leases.has_events() {
            prop_assert_eq!(self.leases.counts().waiters, self.waiters.len());
            let late = self.waiters.values().find(|waits| waits.deadline.is_some_and(|due| due <= self.now));
            prop_assert!(late.is_none(), "{:?} is late", late);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn any_interleaving_keeps_the_promises(
        steps in proptest::collection::vec((step(), 0usize..8), 1..120),
        most in prop_oneof![2 => Just(0u64), 1 => 1u64..3],
    ) {
        let mut world = World::new(most);
        for (step, limit) in steps {
            // Most often all of it is performed.
            world.step(step, if limit < 4 { limit } else { usize::MAX })?;
        }
        // Nobody fills any more: everyone is answered all the same.
        for _ in 0..400 {
            world.step(Step::Wait(30), usize::MAX)?;
        }
        prop_assert!(world.waiters.is_empty(), "never answered: {:?}", world.waiters);
        world.leases.protect(0, Protection::default(), world.now);
        prop_assert_eq!(world.leases.counts(), Counts::default());
        world.leases.reset_counters();
        prop_assert_eq!(world.leases.allocated(), Leases::default().allocated());
    }
}
