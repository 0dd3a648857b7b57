//! A worker: asks for a key, has it recomputed, stores it, and asks for the next.

use super::progress::Progress;
use super::shards::{Current, PATIENCE as CONNECTING};
use super::source::Source;
use crate::connect::Node;
use crate::interrupt;
use anyhow::{Context, Result};
use redis::{Connection, Value};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a worker waits for a key before it looks whether it is to stop.
const BLOCK: Duration = Duration::from_millis(250);
/// How long an answer may take that nobody waits for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before who was away is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a value is fresh, and stale after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lengths {
    /// Fresh.
    pub ttl: Duration,
    /// Stale.
    pub grace: Duration,
}

/// What every worker knows.
#[derive(Clone)]
pub struct Worker {
    /// Where values come from.
    pub source: Arc<Source>,
    /// Where it is told what was done.
    pub progress: Arc<Progress>,
    /// Who is still to be worked for.
    pub current: Current,
    /// Only keys of it.
    pub namespace: Option<String>,
    /// It goes on when nothing is due.
    pub follow: bool,
    /// How long recomputing may take.
    pub timeout: Duration,
    /// For how long nobody tries again what failed.
    pub retry: Duration,
    /// What is stored is fresh and stale for so long; `None`: as it was.
    pub times: Option<Lengths>,
    /// The tags that it gets; `None`: those it has.
    pub tags: Option<Vec<String>>,
}

/// A key that is ours to recompute.
struct Offer {
    key: Vec<u8>,
    token: u64,
}

impl Worker {
    /// Works for a server in a thread of its own.
    pub fn start(self, address: String, primary: Node) -> Result<JoinHandle<Result<()>>> {
        let thread = std::thread::Builder::new().name(format!("warm {address}"));
        thread.spawn(move || self.run(&address, &primary)).context("no thread can be started")
    }

    fn is_wanted(&self, address: &str) -> bool {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        !interrupt::asked() && current.contains(address)
    }

    fn run(&self, address: &str, primary: &Node) -> Result<()> {
        while self.is_wanted(address) {
            match primary.open(CONNECTING).and_then(|mut connection| self.work(address, &mut connection)) {
                Ok(()) => return Ok(()),
                Err(error) if self.follow && passes(&error) => {
                    self.progress.away(address, &error);
                    interrupt::sleep(PAUSE);
                }
                Err(error) => return Err(error.context(address.to_string())),
            }
        }
        Ok(())
    }

    fn work(&self, address: &str, connection: &mut Connection) -> Result<()> {
        connection.set_read_timeout(Some(BLOCK + PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        while self.is_wanted(address) {
            let Some(offer) = self.ask(connection)? else {
                if self.follow {
                    continue;
                }
                return Ok(());
            };
            let outcome = self.source.load(&offer.key, self.timeout);
            match outcome.and_then(|value| self.store(connection, &offer, &value)) {
                Ok(true) => self.progress.stored(),
                Ok(false) => self.progress.refused(),
                Err(error) if interrupt::asked() => {
                    // What was stopped has not failed: another may have it at once.
                    self.give_up(connection, &offer, None)?;
                    return Err(error);
                }
                Err(error) => {
                    self.progress.failed(&offer.key, &error);
                    self.give_up(connection, &offer, Some(self.retry))?;
                }
            }
        }
        Ok(())
    }

    /// The next key.
    fn ask(&self, connection: &mut Connection) -> Result<Option<Offer>> {
        let mut command = redis::cmd("CACHE.REFRESH");
        if let Some(namespace) = &self.namespace {
            command.arg("NAMESPACE").arg(namespace);
        }
        let lease = ms(self.timeout + Duration::from_secs(1));
        command.arg("LEASE").arg(lease).arg("BLOCK").arg(ms(BLOCK));
        let offers: Vec<(Vec<u8>, u64, u64)> = command.query(connection).context("CACHE.REFRESH")?;
        Ok(offers.into_iter().next().map(|(key, token, _)| Offer { key, token }))
    }

    /// Stores a value; false where something newer had happened meanwhile.
    fn store(&self, connection: &mut Connection, offer: &Offer, value: &[u8]) -> Result<bool> {
        let known = if self.times.is_none() || self.tags.is_none() {
            Known::of(connection, &offer.key)?
        } else {
            Known::default()
        };
        let mut command = redis::cmd("CACHE.SET");
        command.arg(&offer.key).arg(value).arg("LEASE").arg(offer.token);
        if let Some(Lengths { ttl, grace }) = self.times.or(known.times) {
            command.arg("PX").arg(ms(ttl)).arg("PGRACE").arg(ms(grace));
        }
        let tags = match &self.tags {
            Some(tags) => tags.iter().map(|tag| tag.clone().into_bytes()).collect(),
            None => known.tags,
        };
        if !tags.is_empty() {
            command.arg("TAGS").arg(tags);
        }
        let answer: Value = command.query(connection).context("CACHE.SET")?;
        Ok(answer != Value::Nil)
    }

    fn give_up(&self, connection: &mut Connection, offer: &Offer, retry: Option<Duration>) -> Result<()> {
        let mut command = redis::cmd("CACHE.UNLOCK");
        command.arg(&offer.key).arg(offer.token);
        if let Some(retry) = retry {
            command.arg("RETRY").arg(ms(retry));
        }
        command.query::<Value>(connection).context("CACHE.UNLOCK")?;
        Ok(())
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether an error is one of a server that is on its way out or back: not one that
/// says that we ask for what we may not have.
fn passes(error: &anyhow::Error) -> bool {
    use redis::ErrorKind::*;
    let kind = error.downcast_ref::<redis::RedisError>().map(redis::RedisError::kind);
    let code = error.downcast_ref::<redis::RedisError>().and_then(redis::RedisError::code);
    match kind {
        Some(IoError | BusyLoadingError | MasterDown | ReadOnly | ClusterDown | TryAgain | Moved | Ask) => {
            true
        }
        _ => matches!(code, Some("UNBLOCKED" | "LOADING" | "READONLY" | "CLUSTERDOWN")),
    }
}

/// What CACHE.META knows of an entry that is to be repeated.
#[derive(Default)]
struct Known {
    times: Option<Lengths>,
    tags: Vec<Vec<u8>>,
}

impl Known {
    fn of(connection: &mut Connection, key: &[u8]) -> Result<Self> {
        let meta: Option<HashMap<String, Value>> =
            redis::cmd("CACHE.META").arg(key).query(connection).context("CACHE.META")?;
        let Some(meta) = meta else { return Ok(Self::default()) };
        let number = |field: &str| {
            meta.get(field).and_then(|value| redis::from_redis_value::<i64>(value).ok()).unwrap_or(0)
        };
        let tags = match meta.get("tags") {
            Some(tags) => redis::from_redis_value(tags)?,
            None => Vec::new(),
        };
        Ok(Self { times: lengths(number("fresh-ms"), number("ttl-ms"), number("age-ms")), tags })
    }
}

/// The lengths that an entry was given, where it is still fresh: of a stale one
/// nobody says when it became so.
fn lengths(fresh: i64, ttl: i64, age: i64) -> Option<Lengths> {
    let of = |ms: i64| u64::try_from(ms).ok().map(Duration::from_millis);
    let ttl_of = of(fresh.checked_add(age)?)?;
    (fresh > 0 && ttl >= fresh).then_some(Lengths { ttl: ttl_of, grace: of(ttl - fresh)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fresh_keeps_its_lengths() {
        let of = |ttl, grace| {
            Some(Lengths { ttl: Duration::from_millis(ttl), grace: Duration::from_millis(grace) })
        };
        assert_eq!(lengths(200, 500, 800), of(1000, 300));
        assert_eq!(lengths(200, 200, 800), of(1000, 0));
        assert_eq!(lengths(0, 300, 800), None, "stale");
        assert_eq!(lengths(-1, -1, 800), None, "without an end");
        assert_eq!(lengths(0, 0, 0), None);
        assert_eq!(lengths(i64::MAX, i64::MAX, i64::MAX), None);
    }
}
