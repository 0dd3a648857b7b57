//! Leases for CACHE.REFRESH, and what filling a namespace was measured to take.

use cacheflow_core::refresh::UNMEASURED_LEASE;

use super::*;

impl Shard {
    /// How long a lease is where nobody says.
    pub(super) fn lease_length(&self, at: At<'_>, cost: Cost) -> Millis {
        self.fills.times(at.namespace).map_or(UNMEASURED_LEASE, |times| times.lease_length(cost))
    }
}

/// Grants a lease on a key that is to be recomputed, `length` long, or as long as
/// filling its namespace takes.
///
/// # Errors
/// See [`Leases::refresh`].
pub fn refresh(
    db: Db,
    name: &[u8],
    sight: Sight,
    cost: Cost,
    length: Option<Millis>,
    client: u64,
) -> Result<(Stamp, Millis), Millis> {
    listen();
    slots::depends_on(name);
    let moment = state::steady_moment();
    with(|shard| {
        let at = shard.at(db, name);
        let length = length.unwrap_or_else(|| shard.lease_length(at, cost));
        shard.leases.refresh(at, sight, length, client, moment)
    })
}

/// What a fill in a key's namespace usually takes.
pub fn typical_cost(name: &[u8]) -> Cost {
    typical_of(shard::namespace_of(name))
}

/// As [`typical_cost`], of a namespace.
pub fn typical_of(namespace: &[u8]) -> Cost {
    SHARD.with(|shard| {
        let number = shard.fills.known(namespace);
        number.and_then(|number| shard.fills.times(number)).map_or(Cost(0), |times| times.typical())
    })
}
