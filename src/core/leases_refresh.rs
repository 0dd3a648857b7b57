//! Leases of CACHE.REFRESH: as FETCH grants them, to who asked for no key.

use super::*;

/// When to look again at what another holds: who fills or gives up in time is
/// told of, who dies with a long lease is not.
const PATIENCE: Millis = Millis(1000);

impl Leases {
    /// Grants a lease on a key that is not simply fresh, to be given up with the
    /// client's connection: the token, and the lease's length.
    ///
    /// # Errors
    /// When to look again, where nobody may have one now: it is held, awaited or
    /// backed off, its origin is protected, the table is full.
    pub fn refresh(
        &mut self,
        at: At<'_>,
        sight: Sight,
        length: Millis,
        client: ClientId,
        moment: Moment,
    ) -> Result<(Stamp, Millis), Millis> {
        self.hear(moment.now);
        let length = Millis(length.0.clamp(1, self.limits.lease_max.0.max(1)));
        self.look_at(at, sight.invalidated);
        let token = match self.may_lease(at) {
            true => self.grant(at, Kind::Fetch, length, Some((client, false)), sight, moment.stamp),
            false => None,
        };
        let Some(token) = token else { return Err(self.hint_of_refresh(at)) };
        if matches!(sight.there, There::Fresh { .. }) {
            self.counters_mut(at.namespace).early_elections += 1;
        }
        Ok((token, length))
    }

    fn hint_of_refresh(&self, at: At<'_>) -> Millis {
        let held = self.find(at).and_then(|id| self.keys.get(id)).and_then(|key| key.held());
        match held {
            Some(grant) => grant.ends.since(self.now).clamp(Millis(1), PATIENCE),
            None => self.hint(at, Millis::ZERO).min(PATIENCE),
        }
    }
}
