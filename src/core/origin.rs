//! The protection of an origin: how many FETCH leases its namespace may have
//! at once (MAXFILLS), and the breaker that gives it a rest (BREAKER).
//!
//! ```text
//!                 the share of failures is reached
//!      CLOSED ────────────────────────────────────▶ OPEN until cool-down
//!        ▲                                            │        ▲
//!        │ the probe filled                           ▼        │ the probe failed
//!        └──────────────────────────────────────── one PROBE ──┘
//!                               (given up, voided: another may probe)
//! ```
//! Each probe has a number: one that is overdue, and another out in its place, is
//! not taken for that.
//!
//! Recent are the last [`WINDOW`] fills, those before a pause of
//! [`MEMORY`] aside; fewer than [`FEWEST`] say nothing. Why not a share of the
//! last minute: a cache's origin may see three fills a minute or three
//! thousand a second, and five failures in a row mean the same in both.

use crate::units::{Millis, Time};

/// Fills that are looked at.
pub const WINDOW: u32 = 32;
/// Fills before the breaker may open.
pub const FEWEST: u32 = 5;
/// After a pause this long earlier fills are no longer recent.
pub const MEMORY: Millis = Millis(60_000);

/// What a namespace's settings say; zeros: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// `MAXFILLS`: unexpired FETCH leases at once.
    pub most: u64,
    /// `BREAKER`: the share of failures, in percent.
    pub percent: u32,
    /// `BREAKER`: the rest.
    pub cooldown: Millis,
}

/// A lease that is to find out whether the origin has recovered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe(u64);

/// What the outcome of a fill has done to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It was closed, and opened.
    Opened,
    /// The probe failed: another rest.
    Rests,
    /// The probe filled.
    Closed,
}

/// How a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Closed, or there is none.
    Closed,
    /// No leases for so long.
    Resting(Millis),
    /// The probe is out, or may be taken.
    Probing,
}

/// See the module's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    protection: Protection,
    /// Leases held or about to be.
    taken: u64,
    /// The last fills, the lowest bit the last: 1 for a failure.
    recent: u32,
    known: u32,
    last: Time,
    /// Open until then, then a probe; `None`: closed.
    open: Option<Time>,
    /// The probe that is out.
    probing: Option<Probe>,
    /// Probes there have been, and those before it opened last.
    probes: u64,
    before: u64,
}

impl Origin {
    /// Sets what the settings say; where there is no breaker, it closes.
    pub fn protect(&mut self, protection: Protection) {
        self.protection = protection;
        if !self.has_breaker() {
            (self.open, self.probing, self.recent, self.known) = (None, None, 0, 0);
        }
    }

    fn has_breaker(&self) -> bool {
        self.protection.percent > 0 && self.protection.cooldown > Millis::ZERO
    }

    /// Whether one more lease may be taken.
    pub fn permits(&self, now: Time) -> bool {
        let room = self.protection.most == 0 || self.taken < self.protection.most;
        room && self.open.is_none_or(|until| until <= now && self.probing.is_none())
    }

    /// Takes a lease's place. Answers which probe it is, if it is one.
    pub fn take(&mut self) -> Option<Probe> {
        self.taken += 1;
        if self.open.is_some() {
            self.probes += 1;
            self.probing = Some(Probe(self.probes));
        }
        self.probing
    }

    /// A lease has ended, however: its place is free.
    pub fn give_back(&mut self, probe: Option<Probe>) {
        self.taken = self.taken.saturating_sub(1);
        if probe.is_some() && probe == self.probing {
            self.probing = None;
        }
    }

    /// A fill has succeeded or failed, before its place is given back. While the
    /// breaker is open the outcome of the probe counts alone, and that of an
    /// overdue one which filled after all. Answers what it has done to the
    /// breaker.
    pub fn report(&mut self, success: bool, probe: Option<Probe>, now: Time) -> Option<Turn> {
        let since_it_opened = probe.is_some_and(|Probe(number)| number > self.before);
        let counts = since_it_opened && (success || probe == self.probing);
        if !self.has_breaker() || (self.open.is_some() && !counts) {
            return None;
        }
        if now.since(self.last) > MEMORY {
            (self.recent, self.known) = (0, 0);
        }
        self.last = now;
        if success && self.open.take().is_some() {
            self.probing = None;
            return Some(Turn::Closed);
        }
        self.recent = self.recent << 1 | u32::from(!success);
        self.known = (self.known + 1).min(WINDOW);
        let failures = self.recent.count_ones();
        let share = u64::from(failures) * 100 >= u64::from(self.protection.percent) * u64::from(self.known);
        if !(self.open.is_some() || (!success && self.known >= FEWEST && share)) {
            return None;
        }
        (self.recent, self.known) = (0, 0);
        let until = now.after(self.protection.cooldown).unwrap_or(now);
        match self.open.replace(until) {
            Some(_) => Some(Turn::Rests),
            None => {
                self.before = self.probes;
                Some(Turn::Opened)
            }
        }
    }

    /// When it lets a probe through, where it is open and resting.
    pub fn opens(&self, now: Time) -> Option<Time> {
        self.open.filter(|&until| until > now)
    }

    /// How the breaker is.
    pub fn state(&self, now: Time) -> State {
        match self.open {
            None => State::Closed,
            Some(until) if until > now => State::Resting(until.since(now)),
            Some(_) => State::Probing,
        }
    }

    /// Leases held or about to be.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Whether there is nothing to remember.
    pub fn is_blank(&self) -> bool {
        self.taken == 0 && self.protection == Protection::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: Protection = Protection { most: 0, percent: 50, cooldown: Millis(1000) };

    fn origin(protection: Protection) -> Origin {
        let mut origin = Origin::default();
        origin.protect(protection);
        origin
    }

    #[test]
    fn without_settings_everything_is_permitted() {
        let mut free = Origin::default();
        for _ in 0..1000 {
            assert!(free.permits(Time(0)));
            free.take();
            assert_eq!(free.report(false, None, Time(0)), None);
        }
        assert_eq!(free.taken(), 1000);
    }

    #[test]
    fn at_most_so_many() {
        let mut two = origin(Protection { most: 2, ..Protection::default() });
        two.take();
        assert!(two.permits(Time(0)));
        two.take();
        assert!(!two.permits(Time(0)));
        two.give_back(None);
        assert!(two.permits(Time(0)));
        two.protect(Protection { most: 1, ..Protection::default() });
        assert!(!two.permits(Time(0)));
        two.give_back(None);
        two.protect(Protection::default());
        assert!(two.is_blank());
    }

    #[test]
    fn it_opens_at_its_share_and_not_before() {
        let mut five = origin(BREAKER);
        let turns: Vec<Option<Turn>> = (0..5).map(|n| five.report(false, None, Time(n))).collect();
        assert_eq!(turns, [None, None, None, None, Some(Turn::Opened)], "fewer than {FEWEST} say nothing");
        assert_eq!(
            [3, 1004].map(|now| five.state(Time(now))),
            [State::Resting(Millis(1001)), State::Probing]
        );
        assert!(!five.permits(Time(1003)));
        assert!(five.permits(Time(1004)));

        let mut mixed = origin(BREAKER);
        for n in 0..20 {
            mixed.report(true, None, Time(n));
        }
        // k failures after 20 successes: 32 are looked at.
        let at = (1..).position(|_| mixed.report(false, None, Time(30)).is_some()).expect("opens") + 1;
        assert_eq!(at, 16, "half of 32");
    }

    #[test]
    fn one_probe_then_closed_or_open_again() {
        let mut probed = origin(BREAKER);
        (0..5).for_each(|_| {
            probed.report(false, None, Time(0));
        });
        assert_eq!(probed.opens(Time(0)), Some(Time(1000)));
        let first = probed.take();
        assert!(first.is_some() && !probed.permits(Time(1000)), "one probe at a time");
        probed.give_back(first);
        assert!(probed.permits(Time(1000)), "given up without a word: another");
        let second = probed.take();
        assert_eq!(probed.report(true, None, Time(1400)), None, "one from before it opened");
        probed.give_back(None);
        assert!(!probed.permits(Time(1400)), "changes nothing");
        assert_eq!(probed.report(false, second, Time(1500)), Some(Turn::Rests));
        probed.give_back(second);
        assert!(!probed.permits(Time(2499)) && probed.permits(Time(2500)));
        let third = probed.take();
        assert_eq!(probed.report(true, third, Time(2600)), Some(Turn::Closed));
        assert_eq!(probed.state(Time(2600)), State::Closed);
        probed.give_back(third);
        assert!(probed.permits(Time(2600)));
        (0..4).for_each(|_| assert_eq!(probed.report(false, None, Time(2700)), None, "it begins anew"));
    }

    #[test]
    fn an_overdue_probe_is_not_taken_for_the_one_that_is_out() {
        let mut probed = origin(BREAKER);
        (0..5).for_each(|_| {
            probed.report(false, None, Time(0));
        });
        let overdue = probed.take();
        assert_eq!(probed.report(false, overdue, Time(1100)), Some(Turn::Rests), "it ran out");
        probed.give_back(overdue);
        let out = probed.take();
        probed.give_back(overdue);
        assert!(!probed.permits(Time(2100)), "another is out");
        assert_eq!(probed.report(false, overdue, Time(2100)), None);
        assert_eq!(probed.report(true, overdue, Time(2100)), Some(Turn::Closed), "it filled after all");
        assert_eq!(probed.report(false, out, Time(2200)), None, "one failure of many");
        assert!(probed.permits(Time(2200)));
    }

    #[test]
    fn what_is_long_ago_is_not_recent() {
        let mut slow = origin(BREAKER);
        (0..4).for_each(|_| assert_eq!(slow.report(false, None, Time(0)), None));
        assert_eq!(slow.report(false, None, Time(MEMORY.0 + 1)), None);
    }

    #[test]
    fn settings_taken_away_close_it() {
        let mut open = origin(BREAKER);
        (0..5).for_each(|_| {
            open.report(false, None, Time(0));
        });
        open.protect(Protection::default());
        assert!(open.permits(Time(0)));
    }
}
