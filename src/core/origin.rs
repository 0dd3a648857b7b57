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
    probing: bool,
}

impl Origin {
    /// Sets what the settings say; where there is no breaker, it closes.
    pub fn protect(&mut self, protection: Protection) {
        self.protection = protection;
        if !self.has_breaker() {
            (self.open, self.probing, self.recent, self.known) = (None, false, 0, 0);
        }
    }

    fn has_breaker(&self) -> bool {
        self.protection.percent > 0 && self.protection.cooldown > Millis::ZERO
    }

    /// Whether one more lease may be taken.
    pub fn permits(&self, now: Time) -> bool {
        let room = self.protection.most == 0 || self.taken < self.protection.most;
        room && self.open.is_none_or(|until| until <= now && !self.probing)
    }

    /// Takes a lease's place. Answers whether it is the probe.
    pub fn take(&mut self) -> bool {
        self.taken += 1;
        self.probing = self.open.is_some();
        self.probing
    }

    /// A lease has ended, however: its place is free.
    pub fn give_back(&mut self, probe: bool) {
        self.taken = self.taken.saturating_sub(1);
        if probe {
            self.probing = false;
        }
    }

    /// A fill has succeeded or failed, `probe` saying whether it was the probe:
    /// while the breaker is open, no other's outcome counts. Answers whether it
    /// opened.
    pub fn report(&mut self, success: bool, probe: bool, now: Time) -> bool {
        if !self.has_breaker() || (self.open.is_some() && !probe) {
            return false;
        }
        if now.since(self.last) > MEMORY {
            (self.recent, self.known) = (0, 0);
        }
        self.last = now;
        if success && self.open.take().is_some() {
            return false;
        }
        self.recent = self.recent << 1 | u32::from(!success);
        self.known = (self.known + 1).min(WINDOW);
        let failures = self.recent.count_ones();
        let share = u64::from(failures) * 100 >= u64::from(self.protection.percent) * u64::from(self.known);
        if self.open.is_some() || (!success && self.known >= FEWEST && share) {
            (self.recent, self.known) = (0, 0);
            self.open = Some(now.after(self.protection.cooldown).unwrap_or(now));
        }
        self.open.is_some()
    }

    /// When it lets a probe through, where it is open and resting.
    pub fn opens(&self, now: Time) -> Option<Time> {
        self.open.filter(|&until| until > now)
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
            assert!(!free.report(false, false, Time(0)));
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
        two.give_back(false);
        assert!(two.permits(Time(0)));
        two.protect(Protection { most: 1, ..Protection::default() });
        assert!(!two.permits(Time(0)));
        two.give_back(false);
        two.protect(Protection::default());
        assert!(two.is_blank());
    }

    #[test]
    fn it_opens_at_its_share_and_not_before() {
        let mut five = origin(BREAKER);
        let opened: Vec<bool> = (0..5).map(|n| five.report(false, false, Time(n))).collect();
        assert_eq!(opened, [false, false, false, false, true], "fewer than {FEWEST} say nothing");
        assert!(!five.permits(Time(1003)));
        assert!(five.permits(Time(1004)));

        let mut mixed = origin(BREAKER);
        for n in 0..20 {
            mixed.report(true, false, Time(n));
        }
        // k failures after 20 successes: 32 are looked at.
        let at = (1..).position(|_| mixed.report(false, false, Time(30))).expect("opens") + 1;
        assert_eq!(at, 16, "half of 32");
    }

    #[test]
    fn one_probe_then_closed_or_open_again() {
        let mut probed = origin(BREAKER);
        (0..5).for_each(|_| {
            probed.report(false, false, Time(0));
        });
        assert_eq!(probed.opens(Time(0)), Some(Time(1000)));
        assert!(probed.take());
        assert!(!probed.permits(Time(1000)), "one probe at a time");
        probed.give_back(true);
        assert!(probed.permits(Time(1000)), "given up without a word: another");
        assert!(probed.take());
        assert!(!probed.report(true, false, Time(1400)), "one from before it opened");
        probed.give_back(false);
        assert!(!probed.permits(Time(1400)), "changes nothing");
        assert!(probed.report(false, true, Time(1500)));
        probed.give_back(true);
        assert!(!probed.permits(Time(2499)) && probed.permits(Time(2500)));
        assert!(probed.take());
        assert!(!probed.report(true, true, Time(2600)));
        probed.give_back(true);
        assert!(probed.permits(Time(2600)));
        (0..4).for_each(|_| assert!(!probed.report(false, false, Time(2700)), "it begins anew"));
    }

    #[test]
    fn what_is_long_ago_is_not_recent() {
        let mut slow = origin(BREAKER);
        (0..4).for_each(|_| assert!(!slow.report(false, false, Time(0))));
        assert!(!slow.report(false, false, Time(MEMORY.0 + 1)));
    }

    #[test]
    fn settings_taken_away_close_it() {
        let mut open = origin(BREAKER);
        (0..5).for_each(|_| {
            open.report(false, false, Time(0));
        });
        open.protect(Protection::default());
        assert!(open.permits(Time(0)));
    }
}
