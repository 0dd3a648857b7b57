//! `CACHE.APPLYLOCK key token ends-at-ms marks`
//!
//! Internal: the lock on a key as replicas and the AOF are told of it. Its end
//! is Unix time; 0: it has ended. Marks: 1, its fence is not broken; 2, a native
//! key was there when it was granted. The same however often it runs.
//!
//! A client may send it as it may send CACHE.LOCK; its token cannot push the
//! shard's clock.

use std::ffi::CStr;

use cacheflow_core::number::parse_u64;
use cacheflow_core::request::{token, RequestError};
use cacheflow_core::saved::SavedError;
use cacheflow_core::units::{Time, LAST_TIME};

use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;
use crate::locks;
use crate::slots;
use crate::state;

/// The command's name on the wire.
pub const NAME: &CStr = c"CACHE.APPLYLOCK";
/// Its end for a lock that is no more.
pub const ENDED: i64 = 0;

pub struct ApplyLock;

impl Command for ApplyLock {
    const SPEC: Spec = Spec {
        name: c"cache.applylock",
        summary: c"Internal: the lock on a key as replicas and the AOF are told of it.",
        since: c"0.1.0",
        complexity: c"O(log N) where N is the number of leases, locks and waiters",
        // No deny-oom: what the primary has granted must be known here.
        flags: c"write fast",
        cluster_flags: None,
        acl: c"write fast dangerous",
        arity: 5,
        keys: Keys::First(RW | UPDATE),
        tips: None,
        args: &[
            Arg::key(),
            Arg::integer(c"token"),
            Arg::time(c"ends-at-milliseconds"),
            Arg::integer(c"marks"),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let name = args.get(1);
        let token = token(args.get(2).bytes())?;
        let ends = parse_u64(args.get(3).bytes()).filter(|&ends| ends <= LAST_TIME);
        let ends = Time(ends.ok_or(RequestError::NotAnInteger)?);
        let marks = parse_u64(args.get(4).bytes()).filter(|&marks| marks <= 3);
        let marks = marks.ok_or(RequestError::NotAnInteger)?;
        let db = ctx.database();
        if slots::is_imported(ctx, name.bytes()) {
            // A lock does not move with its slot: how it ends here would depend on
            // the way that it came. But tokens go on growing. (Valkey 9 passes this
            // command on to our replicas, who are to forget the lock too.)
            state::admit(token);
            leases::tell_end_later(db, name.bytes(), token);
            ctx.reply_ok();
            return Ok(());
        }
        if !ctx.is_replicated() {
            if !state::may_be(token) {
                return Err(SavedError::Stamp.into());
            }
            if ends != Time(0) && !leases::has_room(db, name.bytes()) {
                return Err(Error::TooManyLeases);
            }
        }
        if ends == Time(0) {
            leases::apply_end(db, name.bytes(), token);
        } else {
            locks::apply(&locks::of_numbers(db, name.bytes(), token, ends, marks));
        }
        ctx.replicate_verbatim();
        ctx.reply_ok();
        Ok(())
    }
}
