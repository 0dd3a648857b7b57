//! The primaries that there are to be asked: the one server, or those of a
//! cluster.

use anyhow::{Context, Result};
use redis::{Client, ConnectionAddr, ConnectionInfo, Value};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// Addresses that are primaries now: workers of any other end.
pub type Current = Arc<Mutex<BTreeSet<String>>>;

/// Whom it is known of.
pub struct Shards {
    first: ConnectionInfo,
    /// Nodes that may know of the others.
    known: Vec<ConnectionInfo>,
    current: Current,
}

impl Shards {
    /// Reads the URL; nobody is asked yet.
    pub fn open(url: &str) -> Result<Self> {
        let client = Client::open(url).with_context(|| format!("'{url}' is no URL of a server"))?;
        let first = client.get_connection_info().clone();
        Ok(Self { known: vec![first.clone()], first, current: Current::default() })
    }

    /// Where workers look whether they are still wanted.
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// Asks who the primaries are.
    pub fn primaries(&mut self) -> Result<Vec<ConnectionInfo>> {
        let mut failure = None;
        for node in self.known.clone() {
            match ask(&node, &self.first) {
                Ok(found) => {
                    let names = found.iter().map(|primary| primary.addr.to_string()).collect();
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = names;
                    self.known = found.iter().cloned().chain([self.first.clone()]).collect();
                    return Ok(found);
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or_else(|| anyhow::bail!("there is no server to ask"), Err)
    }

    /// Nobody is wanted any more.
    pub fn close(&self) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A connection that does not wait for ever for who is not there.
pub fn connect(info: &ConnectionInfo) -> Result<redis::Connection> {
    let connection = Client::open(info.clone())?.get_connection_with_timeout(PATIENCE);
    connection.with_context(|| format!("cannot connect to {}", info.addr))
}

fn ask(node: &ConnectionInfo, first: &ConnectionInfo) -> Result<Vec<ConnectionInfo>> {
    let mut connection = connect(node)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let info: String = redis::cmd("INFO").arg("cluster").query(&mut connection)?;
    if !info.contains("cluster_enabled:1") {
        return Ok(vec![node.clone()]);
    }
    let slots: Vec<Vec<Value>> = redis::cmd("CLUSTER").arg("SLOTS").query(&mut connection)?;
    let mut addresses = BTreeSet::new();
    for range in &slots {
        let (host, port): (String, u16) = match range.get(2) {
            Some(Value::Array(owner)) if owner.len() >= 2 => {
                (redis::from_redis_value(&owner[0])?, redis::from_redis_value(&owner[1])?)
            }
            _ => anyhow::bail!("CLUSTER SLOTS answers what it should not"),
        };
        // A node that does not know its own address is where it was found.
        let host = match (&node.addr, host.as_str()) {
            (ConnectionAddr::Tcp(own, _), "" | "?") => own.clone(),
            _ => host,
        };
        addresses.insert((host, port));
    }
    let info = |(host, port)| ConnectionInfo { addr: ConnectionAddr::Tcp(host, port), ..first.clone() };
    Ok(addresses.into_iter().map(info).collect())
}

/// How many keys a server may have to be recomputed.
pub fn candidates(primary: &ConnectionInfo) -> Result<u64> {
    let mut connection = connect(primary)?;
    let info: String = redis::cmd("INFO").arg("cacheflow_leases").query(&mut connection)?;
    let of = |line: &str| line.strip_prefix("cacheflow_refresh_candidates:")?.trim().parse().ok();
    info.lines().find_map(of).with_context(|| {
        format!("{} has no CACHE.REFRESH: the module is missing there, or an older one", primary.addr)
    })
}
