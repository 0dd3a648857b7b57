//! The primaries that there are to be asked, as workers know them.

use crate::connect::{Discovery, Node, Reach};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long one may take to answer, or to be connected to.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Addresses that are primaries now: workers of any other end.
pub type Current = Arc<Mutex<BTreeSet<String>>>;

/// Whom it is known of.
pub struct Shards {
    discovery: Discovery,
    current: Current,
}

impl Shards {
    /// Nobody is asked yet.
    pub fn new(reach: Reach) -> Self {
        Self { discovery: Discovery::new(reach, PATIENCE), current: Current::default() }
    }

    /// Where workers look whether they are still wanted.
    pub fn current(&self) -> Current {
        self.current.clone()
    }

    /// Asks who the primaries are.
    pub fn primaries(&mut self) -> Result<Vec<Node>> {
        let found = self.discovery.primaries()?;
        let names = found.iter().map(|primary| primary.name.clone()).collect();
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = names;
        Ok(found)
    }

    /// Nobody is wanted any more.
    pub fn close(&self) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// How many keys a server may have to be recomputed.
pub fn candidates(primary: &Node) -> Result<u64> {
    let mut connection = primary.open(PATIENCE)?;
    let info: String = redis::cmd("INFO").arg("cacheflow_leases").query(&mut connection)?;
    let of = |line: &str| line.strip_prefix("cacheflow_refresh_candidates:")?.trim().parse().ok();
    info.lines().find_map(of).with_context(|| {
        format!("{} has no CACHE.REFRESH: the module is missing there, or an older one", primary.name)
    })
}
