//! The origins behind the table: protected as namespaces are set, and the log
//! told of their breakers.

use cacheflow_core::origin::Protection;

use super::*;
use crate::ffi::ctx::Level;

/// The log has at most a line of breakers in this time, whatever happens to
/// them.
const LOG_EVERY: Millis = Millis(1000);
/// Names in a line.
const NAMES: usize = 5;
/// Characters of a name.
const LENGTH: usize = 64;

/// Sets the protection of a namespace's origin. As long as it has any, the
/// namespace has a number that it shares with no other.
pub fn protect(name: &[u8], protection: Protection) {
    with(|shard| {
        let those = |key: &[u8]| shard::namespace_of(key) == name;
        if protection != Protection::default() {
            let shared = shard.fills.known(name) == Some(SHARED);
            let number = shard.fills.reserve(name);
            if shared {
                shard.leases.renumber(SHARED, those, number);
            }
            return shard.leases.protect(number, protection, steady());
        }
        let Some(number) = shard.fills.known(name).filter(|&number| number != SHARED) else { return };
        shard.leases.protect(number, protection, steady());
        if shard.fills.release(name).is_some() {
            shard.leases.renumber(number, those, SHARED);
            shard.leases.merge_counters(number, SHARED);
        }
    });
}

impl Shard {
    /// When the log may be told of breakers again, if there is anything to tell.
    pub(super) fn next_log(&self) -> Option<Time> {
        let last = self.logged.filter(|_| self.leases.has_turned())?;
        last.after(LOG_EVERY)
    }

    /// What the log is to be told now: whether a breaker opened, and the line.
    fn line_of_breakers(&mut self) -> Option<(bool, String)> {
        if !self.leases.has_turned() || self.next_log().is_some_and(|at| at > steady()) {
            return None;
        }
        self.logged = Some(steady());
        let turned = self.leases.take_turned();
        let which = |open| {
            let all: Vec<_> =
                turned.iter().filter(|(_, is)| **is == open).map(|(number, _)| *number).collect();
            let shown = all.iter().take(NAMES).filter_map(|number| self.fills.name(*number)).map(shown);
            let shown: Vec<String> = shown.collect();
            let more = all.len().saturating_sub(NAMES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            (!all.is_empty()).then(|| format!("{}{more}", shown.join(", ")))
        };
        let (opened, closed) = (which(true), which(false));
        let opens = opened.is_some();
        let parts = [("opened, for fills failed", opened), ("closed", closed)];
        let parts = parts.into_iter().filter_map(|(what, names)| Some(format!("{what}: {}", names?)));
        Some((opens, format!("breakers of namespaces {}", parts.collect::<Vec<_>>().join("; "))))
    }
}

/// A name as the log shows it.
fn shown(name: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(name).chars().take(LENGTH).collect();
    format!("'{text}'")
}

/// Tells the log which breakers have opened and closed.
pub(super) fn tell_of_breakers() {
    if let Some((opens, line)) = SHARD.with(Shard::line_of_breakers) {
        hooks::own().log(if opens { Level::Warning } else { Level::Notice }, &line);
    }
}
