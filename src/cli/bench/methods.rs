//! Ways to forget all entries of a tag: CACHE.INVALIDATE, and what
//! applications do without it. Each is given the data that it needs and no
//! more, and its best form.

use super::load::{Load, Template};
use super::server::Server;
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};

/// The tag.
pub const TAG: &str = "tag:to-forget";
/// What the keys begin with that have it.
pub const PREFIX: &str = "bench:i:";
/// Bytes of a value.
const VALUE: usize = 100;
/// Keys in one command of the methods that name them.
const BATCH: usize = 1000;

/// `UNLINK` in chunks, because Lua's stack bounds the arguments of a call.
const SCRIPT: &str = "\
local members = redis.call('SMEMBERS', KEYS[1])
for first = 1, #members, 1000 do
  redis.call('UNLINK', unpack(members, first, math.min(first + 999, #members)))
end
redis.call('UNLINK', KEYS[1])
return #members";

/// A way to forget them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// One command; the server removes entries bit by bit afterwards.
    Invalidate,
    /// A set of keys by tag and a set of tags by key, kept by the application,
    /// which reads the first, and deletes a thousand keys and their reverse
    /// sets at a time. (Keys with more tags would have their reverse sets read
    /// first, to be taken out of the other tags' sets: slower still.)
    Sets,
    /// The set by tag, read by a script that unlinks the keys where they are;
    /// no reverse sets, so that it leaves orphans if there are more tags.
    Lua,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Invalidate, Self::Sets, Self::Lua];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalidate => "CACHE.INVALIDATE",
            Self::Sets => "sets and DEL",
            Self::Lua => "Lua script",
        }
    }

    /// What an entry is made of.
    fn writes(self) -> &'static [&'static [&'static str]] {
        const SET: &[&str] = &["SET", "{key}", "{value}", "EX", "3600"];
        match self {
            Self::Invalidate => &[&["CACHE.SET", "{key}", "{value}", "EX", "3600", "TAGS", TAG]],
            Self::Sets => &[SET, &["SADD", TAG, "{key}"], &["SADD", "tags:{key}", TAG]],
            Self::Lua => &[SET, &["SADD", TAG, "{key}"]],
        }
    }

    /// How many keys so many entries are to the server.
    pub fn keys(self, entries: u32) -> u64 {
        let entries = u64::from(entries);
        match self {
            Self::Invalidate => entries,
            Self::Sets => 2 * entries + 1,
            Self::Lua => entries + 1,
        }
    }

    /// Writes the entries.
    pub fn load(self, server: &mut Server, entries: u32) -> Result<()> {
        let mut load = Load::connect(server.address(), 4, 2)?;
        for words in self.writes() {
            load.fill(&Template::new(words, PREFIX, VALUE), entries)?;
        }
        Ok(())
    }

    /// Forgets them: when this returns, none of them is there for a reader.
    pub fn forget(self, server: &mut Server, entries: u32) -> Result<()> {
        let hit = match self {
            Self::Invalidate => server.query(redis::cmd("CACHE.INVALIDATE").arg("TAGS").arg(TAG))?,
            Self::Sets => by_sets(server)?,
            Self::Lua => server.query(redis::cmd("EVAL").arg(SCRIPT).arg(1).arg(TAG))?,
        };
        ensure!(hit == u64::from(entries), "{} hit {hit} of {entries} entries", self.name());
        Ok(())
    }

    /// Whether the last entry is there for a reader.
    pub fn finds_one(self, server: &mut Server, entries: u32) -> Result<bool> {
        let command = if self == Self::Invalidate { "CACHE.GET" } else { "GET" };
        let key = format!("{PREFIX}{:022}", entries.saturating_sub(1));
        let value: Option<Vec<u8>> = server.query(redis::cmd(command).arg(key))?;
        Ok(value.is_some())
    }

    /// How long the server was at the one command, by its own clock.
    pub fn server_time(self, server: &mut Server) -> Result<Option<f64>> {
        if self != Self::Invalidate {
            return Ok(None);
        }
        let stats = server.info("commandstats")?;
        stats
            .text("cmdstat_cache.invalidate")
            .and_then(micros)
            .map(|micros| Some(micros / 1e6))
            .context("the server's INFO commandstats has no time for CACHE.INVALIDATE")
    }
}

fn by_sets(server: &mut Server) -> Result<u64> {
    let keys: Vec<Vec<u8>> = server.query(redis::cmd("SMEMBERS").arg(TAG))?;
    for batch in keys.chunks(BATCH) {
        if interrupt::asked() {
            bail!("stopped");
        }
        server.query::<()>(redis::cmd("DEL").arg(batch))?;
        let reverse: Vec<_> = batch.iter().map(|key| [b"tags:", key.as_slice()].concat()).collect();
        server.query::<()>(redis::cmd("DEL").arg(reverse))?;
    }
    server.query::<()>(redis::cmd("DEL").arg(TAG))?;
    Ok(keys.len() as u64)
}

/// `usec` a call of `calls=1,usec=41,usec_per_call=41.00,…`.
fn micros(text: &str) -> Option<f64> {
    text.split(',').find_map(|field| field.strip_prefix("usec_per_call=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_statistics_are_read() {
        let text = "calls=1,usec=41,usec_per_call=41.00,rejected_calls=0,failed_calls=0";
        assert_eq!(micros(text), Some(41.0));
        assert_eq!(micros("calls=1"), None);
    }

    #[test]
    fn keys_are_what_the_writes_make() {
        for method in Method::ALL {
            let by_key = method.writes().iter().filter(|words| words[1].contains("{key}")).count() as u64;
            let shared = method.writes().iter().filter(|words| words[1] == TAG).count() as u64;
            assert_eq!(method.keys(7), 7 * by_key + shared, "{}", method.name());
        }
    }
}
