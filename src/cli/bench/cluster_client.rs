//! A client of a cluster that goes where it is sent: one connection, one
//! command at a time.

use anyhow::{bail, Context, Result};
use redis::{Cmd, ErrorKind, FromRedisValue};
use std::net::SocketAddr;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);
/// Errors of a cluster that is about to be well again.
const PASSING: &[&str] = &["ASK", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN"];

/// Connects, with timeouts.
pub fn connect(address: SocketAddr) -> Result<redis::Connection> {
    let connection = redis::Client::open(format!("redis://{address}"))?
        .get_connection_with_timeout(PATIENCE)
        .with_context(|| format!("cannot connect to {address}"))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

/// Follows a shard's primary.
pub struct Follower {
    address: SocketAddr,
    connection: redis::Connection,
}

/// What came of a command.
#[derive(Debug, PartialEq)]
pub enum Answer<T> {
    /// This.
    Done(T),
    /// Nothing: it is to be sent again.
    NotNow,
    /// An invalidation is not everywhere yet.
    Partial,
}

/// What to do about an error.
#[derive(Debug, PartialEq)]
enum Remedy {
    Go(SocketAddr),
    Reconnect,
    Wait,
    Partial,
    None,
}

impl Follower {
    /// Begins at this node.
    pub fn at(address: SocketAddr) -> Result<Self> {
        Ok(Self { address, connection: connect(address)? })
    }

    /// Asks, or learns where to.
    pub fn ask<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<Answer<T>> {
        let error = match command.query(&mut self.connection) {
            Ok(answer) => return Ok(Answer::Done(answer)),
            Err(error) => error,
        };
        match remedy(&error) {
            Remedy::Go(address) => *self = Self::at(address)?,
            Remedy::Reconnect => *self = Self::at(self.address)?,
            Remedy::Wait => {}
            Remedy::Partial => return Ok(Answer::Partial),
            Remedy::None => bail!("the cluster answers: {error}"),
        }
        Ok(Answer::NotNow)
    }
}

fn remedy(error: &redis::RedisError) -> Remedy {
    if error.kind() == ErrorKind::Moved {
        let address = error.redirect_node().and_then(|(address, _)| address.parse().ok());
        return address.map_or(Remedy::None, Remedy::Go);
    }
    if error.is_connection_dropped() {
        return Remedy::Reconnect;
    }
    match error.code() {
        Some("PARTIAL") => Remedy::Partial,
        // Who becomes a replica lets go of whom it holds, and closes.
        Some("UNBLOCKED") => Remedy::Reconnect,
        Some(code) if PASSING.contains(&code) => Remedy::Wait,
        _ => Remedy::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Remedy {
        let error = redis::parse_redis_value(format!("-{line}\r\n").as_bytes())
            .and_then(redis::Value::extract_error)
            .unwrap_err();
        remedy(&error)
    }

    #[test]
    fn errors_have_remedies() {
        assert_eq!(of("MOVED 7 127.0.0.1:6400"), Remedy::Go(([127, 0, 0, 1], 6400).into()));
        assert_eq!(of("CLUSTERDOWN Hash slot not served"), Remedy::Wait);
        assert_eq!(of("UNBLOCKED force unblock"), Remedy::Reconnect);
        assert_eq!(of("PARTIAL 2 of 3 primaries acknowledged"), Remedy::Partial);
        assert_eq!(of("ERR unknown command"), Remedy::None);
    }
}
