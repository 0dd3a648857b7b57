//! `CACHE.EXTEND key token ms`
//!
//! ```text
//! > CACHE.EXTEND product:1 1790000000000001 5000
//! (integer) 1
//! ```
//! From now on a lease or lock lasts that long, be it more or less than it had
//! left; 0 where the token is not the current one, and one that has run out is
//! not.

use cacheflow_core::request_lease::ExtendOptions;

use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;

pub struct Extend;

impl Command for Extend {
    const SPEC: Spec = Spec {
        name: c"cache.extend",
        summary:
            c"Sets the time that a lease or lock has left. Returns 1, or 0 where the token is not the current one.",
        since: c"0.1.0",
        complexity: c"O(log N) where N is the number of leases, locks and waiters",
        flags: c"write fast",
        cluster_flags: None,
        acl: c"write fast",
        arity: 4,
        keys: Keys::First(RW | UPDATE),
        tips: None,
        args: &[Arg::key(), Arg::integer(c"token"), Arg::integer(c"milliseconds")],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let options = ExtendOptions::parse(args.from(2))?;
        let done = leases::extend(ctx, args.get(1), options.token, options.length);
        ctx.reply_integer(i64::from(done));
        Ok(())
    }
}
