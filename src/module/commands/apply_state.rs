//! `CACHE.APPLYSTATE bytes`
//!
//! Internal: what an AOF that is rewritten without an RDB preamble has of the
//! shard's state (`cacheflow_core::saved`): a head, then the parts, a command
//! each, before the entries. It only ever adds: of two invalidations the later
//! counts; of a namespace whose settings it names those hold.
//!
//! From a client its stamps cannot push the shard's clock: those from further
//! ahead than clocks differ are refused.

use std::ffi::CStr;

use cacheflow_core::saved::{Saved, SavedError};
use cacheflow_core::saved_hot;
use cacheflow_core::units::{Millis, Stamp};

use super::{Command, Error};
use crate::ahead;
use crate::arrivals;
use crate::directives::MAX_CLOCK_SKEW;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;
use crate::locks;
use crate::natives;
use crate::settings;
use crate::shard;
use crate::state;

/// The command's name on the wire.
pub const NAME: &CStr = c"CACHE.APPLYSTATE";

pub struct ApplyState;

impl Command for ApplyState {
    const SPEC: Spec = Spec {
        name: c"cache.applystate",
        summary: c"Internal: what a rewritten AOF has of the shard's state: the stamps' marks, what was invalidated when, locks, namespaces' settings, and what was hot.",
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
            Err(SavedError::Malformed) => {
                if !apply_part(ctx, bytes)? {
                    ctx.reply_ok();
                    return Ok(());
                }
            }
            Err(other) => return Err(other.into()),
        }
        ctx.replicate_verbatim();
        ctx.reply_ok();
        Ok(())
    }
}

/// Applies what is no head; answers whether others are to hear of it.
fn apply_part(ctx: Ctx, bytes: &[u8]) -> Result<bool, Error> {
    let mut last = Stamp(0);
    let refuse_future = |last| if ctx.is_replicated() { Ok(()) } else { may_be(last) };
    match Saved::decode_part(bytes, |one| last = last.max(one.stamps.last())) {
        Err(SavedError::Malformed) => {}
        read => {
            read?;
            refuse_future(last)?;
            remember(bytes)?;
            return Ok(true);
        }
    }
    // A node that exports a slot tells of all its locks and settings, and of all that
    // is hot there. None of the locks moves here, those of the slot neither, and the
    // rest is its shard's. (Valkey 9 has passed all on to our replicas by then.)
    let exported = ctx.is_primary_in_cluster();
    match Saved::decode_locks(bytes, |lock| last = last.max(lock.token)) {
        Err(SavedError::Malformed) => {}
        read => {
            read?;
            refuse_future(last)?;
            if exported {
                state::admit(last);
            }
            Saved::decode_locks(bytes, |lock| {
                if exported {
                    leases::tell_end_later(lock.db, lock.key, lock.token);
                } else {
                    locks::apply(&lock);
                }
            })?;
            return Ok(!exported);
        }
    }
    match Saved::decode_settings(bytes, |_, _| ()) {
        Err(SavedError::Malformed) => {}
        read => {
            read?;
            if exported {
                Saved::decode_settings(bytes, |name, _| arrivals::tell_settings_later(name))?;
            } else {
                set(bytes)?;
            }
            return Ok(!exported);
        }
    }
    if exported {
        saved_hot::decode(bytes, |_| ())?;
    } else {
        ahead::restore(bytes)?;
    }
    Ok(!exported)
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

/// Sets what a saved part says is set for namespaces.
///
/// # Errors
/// See [`Saved::decode_settings`]; nothing is set then.
pub fn set(part: &[u8]) -> Result<(), SavedError> {
    let mut new = 0;
    Saved::decode_settings(part, |name, settings| {
        new += usize::from(settings.is_any() && !settings::of(name).is_any());
    })?;
    if !settings::look(|table| table.has_room(new)) {
        return Err(SavedError::TooMany);
    }
    let mut taken = Ok(());
    Saved::decode_settings(part, |name, settings| {
        taken = taken.and(settings::put(name, settings).map(|_| ()).map_err(|_| SavedError::TooMany));
    })?;
    taken
}

/// Remembers what a saved part says was invalidated.
///
/// # Errors
/// See [`Saved::decode_part`].
pub fn remember(part: &[u8]) -> Result<(), SavedError> {
    let spare = Millis(MAX_CLOCK_SKEW.get().unsigned_abs());
    let mut natives = Vec::new();
    let read = shard::with_stamps(|index| {
        Saved::decode_part(part, |invalidated| {
            state::observe(invalidated.stamps.last());
            if !invalidated.namespace {
                let found = index.natives(invalidated.db, invalidated.name, &shard::Memory);
                natives.push((invalidated.db, invalidated.name.to_vec(), found));
            }
            index.remember(invalidated, spare, &mut shard::Memory);
        })
    });
    // Another node's, of a slot that comes from there: what is here goes as well.
    for (db, tag, natives) in natives.into_iter().filter(|(.., natives)| !natives.is_empty()) {
        if let Some(ctx) = natives::context(db) {
            natives::invalidate(ctx, &natives, &[&tag]);
        }
    }
    read
}
