//! `CACHE.APPLYSTATE bytes`
//!
//! Internal: what an AOF that is rewritten without an RDB preamble has of the
//! shard's state (`cacheflow_core::saved`): a head, then the parts, a command
//! each, before the entries. It only ever adds: of two invalidations the later
//! counts.
//!
//! From a client its stamps cannot push the shard's clock: those from further
//! ahead than clocks differ are refused.

use std::ffi::CStr;

use cacheflow_core::saved::{Saved, SavedError};
use cacheflow_core::saved_hot;
use cacheflow_core::units::{Millis, Stamp};

use super::{Command, Error};
use crate::ahead;
use crate::directives::MAX_CLOCK_SKEW;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;
use crate::locks;
use crate::shard;
use crate::state;

/// The command's name on the wire.
pub const NAME: &CStr = c"CACHE.APPLYSTATE";

pub struct ApplyState;

impl Command for ApplyState {
    const SPEC: Spec = Spec {
        name: c"cache.applystate",
        summary: c"Internal: what a rewritten AOF has of the shard's state: the stamps' marks, and what was invalidated when.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of invalidations in it",
        // No deny-oom: what was there must be there again.
        flags: c"write",
        cluster_flags: None,
        acl: c"write admin dangerous",
        arity: 2,
        keys: Keys::None,
        tips: None,
        args: &[Arg::text(c"state")],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let bytes = args.get(1).bytes();
        let trusted = ctx.is_replicated();
        match Saved::decode(bytes) {
            Ok(saved) => {
                if !trusted {
                    may_be(saved.stamp().max(saved.low_water()))?;
                }
                observe(&saved);
            }
            Err(SavedError::Malformed) if is_hot(bytes) => {
                // A node that exports a slot tells of all that is hot there.
                if ctx.is_primary_in_cluster() {
                    ctx.reply_ok();
                    return Ok(());
                }
                ahead::restore(bytes)?;
            }
            Err(SavedError::Malformed) => {
                let mut last = Stamp(0);
                let part = Saved::decode_part(bytes, |one| last = last.max(one.stamps.last()));
                if part == Err(SavedError::Malformed) {
                    Saved::decode_locks(bytes, |lock| last = last.max(lock.token))?;
                } else {
                    part?;
                }
                if !trusted {
                    may_be(last)?;
                }
                match part {
                    Ok(()) => remember(bytes)?,
                    // A node that exports a slot tells of all its locks, and none of
                    // them moves here: not those of the slot either.
                    Err(_) if ctx.is_primary_in_cluster() => {
                        state::admit(last);
                        Saved::decode_locks(bytes, |lock| {
                            leases::tell_end_later(lock.db, lock.key, lock.token);
                        })?;
                        ctx.reply_ok();
                        return Ok(());
                    }
                    Err(_) => Saved::decode_locks(bytes, |lock| locks::apply(&lock))?,
                }
            }
            Err(other) => return Err(other.into()),
        }
        ctx.replicate_verbatim();
        ctx.reply_ok();
        Ok(())
    }
}

/// Whether a part says what was hot.
fn is_hot(bytes: &[u8]) -> bool {
    let others = [Saved::decode_part(bytes, |_| ()), Saved::decode_locks(bytes, |_| ())];
    others.iter().all(|other| *other == Err(SavedError::Malformed))
        && saved_hot::decode(bytes, |_| ()).is_ok()
}

/// Refuses a stamp that no clock of this time draws.
fn may_be(stamp: Stamp) -> Result<(), Error> {
    if state::may_be(stamp) {
        Ok(())
    } else {
        Err(SavedError::Stamp.into())
    }
}

/// Takes the marks of a saved head over.
pub fn observe(saved: &Saved) {
    state::observe(saved.stamp());
    shard::with(|index| index.raise_low_water(saved.low_water()));
}

/// Remembers what a saved part says was invalidated.
///
/// # Errors
/// See [`Saved::decode_part`].
pub fn remember(part: &[u8]) -> Result<(), SavedError> {
    let spare = Millis(MAX_CLOCK_SKEW.get().unsigned_abs());
    shard::with_stamps(|index| {
        Saved::decode_part(part, |invalidated| {
            state::observe(invalidated.stamps.last());
            index.remember(invalidated, spare, &mut shard::Memory);
        })
    })
}
