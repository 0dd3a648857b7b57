//! What a server says of the commands that it ran.

use super::server::Server;
use anyhow::Result;
use std::collections::BTreeMap;

/// How often it ran each, by INFO's `commandstats`; INFO itself is left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Calls(BTreeMap<String, u64>);

impl Calls {
    /// Up to now.
    pub fn ask(server: &mut Server) -> Result<Self> {
        Ok(Self::parse(server.info("commandstats")?.all()))
    }

    /// `cmdstat_get:calls=7,usec=…` and so on.
    pub fn parse(text: &str) -> Self {
        let calls = text.lines().filter_map(|line| {
            let (command, fields) = line.strip_prefix("cmdstat_")?.split_once(':')?;
            let calls = fields.trim_end().split(',').find_map(|field| field.strip_prefix("calls="))?;
            Some((command.to_ascii_lowercase(), calls.parse().ok()?))
        });
        Self(calls.filter(|(command, _)| command != "info").collect())
    }

    /// From then to now.
    pub fn since(&self, then: &Self) -> Self {
        let since =
            |(command, calls): (&String, &u64)| (command.clone(), calls.saturating_sub(then.of(command)));
        Self(self.0.iter().map(since).collect())
    }

    /// Of this command.
    pub fn of(&self, command: &str) -> u64 {
        self.0.get(command).copied().unwrap_or_default()
    }

    /// Of all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_and_subtracted() {
        let then =
            Calls::parse("# Commandstats\r\ncmdstat_get:calls=2,usec=5\r\ncmdstat_info:calls=9,usec=1\r\n");
        let now = Calls::parse("cmdstat_get:calls=7,usec=9\r\ncmdstat_CACHE.FETCH:calls=1,usec=3\r\n");
        assert_eq!((then.total(), then.of("get"), then.of("info")), (2, 2, 0));
        let since = now.since(&then);
        assert_eq!((since.total(), since.of("get"), since.of("cache.fetch")), (6, 5, 1));
    }
}
