//! The cache as an application uses it: one connection, read and write.

use super::server::Info;
use anyhow::{anyhow, bail, Context, Result};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// How to store.
#[derive(Debug, Clone, Copy)]
pub struct Lifetime {
    /// Seconds of freshness.
    pub fresh: u64,
    /// Seconds of grace after it.
    pub grace: u64,
    /// By GET and SET EX: for servers without the module.
    pub plain: bool,
}

/// Why a command did not do what it should.
pub enum Failure {
    /// The server answered an error; the connection goes on.
    Refused(String),
    /// There is no connection any more.
    Lost(anyhow::Error),
}

/// What a read comes to.
pub enum Read {
    /// A value, and whether to compute it anew, being elected for that.
    Value(Vec<u8>, Refill),
    /// None: to be computed.
    Nothing(Refill),
}

/// How to store what one has computed, or that one need not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refill {
    /// Not at all: the value is good, or another computes it.
    No,
    /// By this token.
    By(u64),
    /// By a plain SET, there being no leases.
    Plainly,
}

/// A connection to the cache.
pub struct Cache {
    connection: redis::Connection,
    lifetime: Lifetime,
}

/// What INFO says about what a server holds.
pub struct Holding {
    /// `used_memory`.
    pub bytes: f64,
    /// Keys in the selected database.
    pub keys: u64,
    /// `evicted_keys`.
    pub evicted: f64,
    /// `maxmemory`, 0 for none.
    pub limit: f64,
    /// Reads answered by a value that another had computed meanwhile.
    pub coalesced: f64,
}

impl Cache {
    /// Connects, and checks that the module is there if it is to be used.
    pub fn connect(url: &str, lifetime: Lifetime) -> Result<Self> {
        let client = redis::Client::open(url)
            .map_err(|_| anyhow!("\"{url}\" is no address of a server: write redis://HOST:PORT"))?;
        let address = client.get_connection_info().addr.to_string();
        let connection = client
            .get_connection_with_timeout(PATIENCE)
            .map_err(|error| anyhow!("cannot connect to {address}: {error} (is a server running there?)"))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        let mut cache = Self { connection, lifetime };
        // By a read that leaves nothing behind, not even a lease.
        match cache.probe("cacheflow-bench:probe") {
            Ok(_) => Ok(cache),
            Err(Failure::Refused(error)) if error.to_lowercase().contains("unknown command") => bail!(
                "the server at {address} does not have the module loaded: load libcacheflow.so into it, or compare with --plain"
            ),
            Err(Failure::Refused(error)) => bail!("the server at {address} refuses a read: {error}"),
            Err(Failure::Lost(error)) => Err(error),
        }
    }

    fn probe(&mut self, key: &str) -> Result<Option<Vec<u8>>, Failure> {
        let command = if self.lifetime.plain { "GET" } else { "CACHE.GET" };
        redis::cmd(command).arg(key).query(&mut self.connection).map_err(Failure::of)
    }

    /// Reads a value; where another computes it, waits for that.
    pub fn read(&mut self, key: &str) -> Result<Read, Failure> {
        if self.lifetime.plain {
            let value = self.probe(key)?;
            return Ok(value.map_or(Read::Nothing(Refill::Plainly), |value| Read::Value(value, Refill::No)));
        }
        let wait = PATIENCE.as_millis() as u64 / 2;
        let answer: (String, Option<Vec<u8>>, Option<u64>, i64) = redis::cmd("CACHE.FETCH")
            .arg(key)
            .arg("BLOCK")
            .arg(wait)
            .query(&mut self.connection)
            .map_err(Failure::of)?;
        let refill = answer.2.map_or(Refill::No, Refill::By);
        Ok(answer.1.map_or(Read::Nothing(refill), |value| Read::Value(value, refill)))
    }

    /// Stores a value that was just computed, if it is wanted.
    pub fn fill(&mut self, key: &str, value: &[u8], refill: Refill) -> Result<(), Failure> {
        let Lifetime { fresh, grace, plain } = self.lifetime;
        let mut command = redis::cmd(if plain { "SET" } else { "CACHE.SET" });
        command.arg(key).arg(value).arg("EX").arg(fresh);
        if !plain && grace > 0 {
            command.arg("GRACE").arg(grace);
        }
        match refill {
            Refill::No => return Ok(()),
            Refill::By(token) => command.arg("LEASE").arg(token),
            Refill::Plainly => &mut command,
        };
        // Nil: something newer happened to the key meanwhile.
        command.query::<Option<String>>(&mut self.connection).map(drop).map_err(Failure::of)
    }

    /// What the server holds now.
    pub fn holding(&mut self) -> Result<Holding> {
        let memory = Info::of(&mut self.connection, "memory")?;
        let stats = Info::of(&mut self.connection, "stats")?;
        let coalesced = match self.lifetime.plain {
            true => 0.0,
            false => Info::of(&mut self.connection, "cacheflow_leases")?.number("cacheflow_coalesced")?,
        };
        Ok(Holding {
            bytes: memory.number("used_memory")?,
            limit: memory.number("maxmemory")?,
            coalesced,
            evicted: stats.number("evicted_keys")?,
            keys: redis::cmd("DBSIZE").query(&mut self.connection).context("the server refuses DBSIZE")?,
        })
    }
}

impl Failure {
    fn of(error: redis::RedisError) -> Self {
        if error.is_io_error() || error.is_connection_dropped() || error.is_timeout() {
            Self::Lost(anyhow!("lost the connection to the server: {error}"))
        } else {
            Self::Refused(error.to_string())
        }
    }
}
