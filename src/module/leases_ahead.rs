//! Leases for CACHE.REFRESH.

use super::*;

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
