//! `CACHE.UNLOCK key token [RETRY ms]`
//!
//! ```text
//! > CACHE.UNLOCK product:1 1790000000000001
//! (integer) 1
//! ```
//! Gives a lease or a lock up; 0 where the token is not the current one. RETRY
//! reports that computing the value failed: nobody gets a lease on the key for
//! that long, unless it is written.

use cacheflow_core::request_lease::UnlockOptions;

use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;

pub struct Unlock;

impl Command for Unlock {
    const SPEC: Spec = Spec {
        name: c"cache.unlock",
        summary: c"Gives a lease or a lock up. Returns 1, or 0 where the token is not the current one.",
        since: c"0.1.0",
        complexity: c"O(log N) where N is the number of leases, locks and waiters",
        flags: c"write fast",
        cluster_flags: None,
        acl: c"write fast",
        arity: -3,
        keys: Keys::First(RW | UPDATE),
        tips: None,
        args: &[
            Arg::key(),
            Arg::integer(c"token"),
            Arg::integer(c"retry-milliseconds").after(c"RETRY").optional(),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let options = UnlockOptions::parse(args.from(2))?;
        let done = leases::unlock(ctx, args.get(1), options.token, options.retry);
        ctx.reply_integer(i64::from(done));
        Ok(())
    }
}
