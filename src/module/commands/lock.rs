//! `CACHE.LOCK key ms [BLOCK ms]`
//!
//! ```text
//! > CACHE.LOCK product:1 5000
//! (integer) 1790000000000001
//! > CACHE.SET product:1 "new" LEASE 1790000000000001 EX 60
//! OK
//! ```
//! A fencing token, or nil where the lock is held, after BLOCK at the latest.
//! Tokens only ever grow. A lock on a cached key is the lease that CACHE.FETCH
//! would give: a writer that locks the key, writes its database and stores the
//! new value by `CACHE.SET … LEASE token` publishes it without a race.

use cacheflow_core::leases::Answer;
use cacheflow_core::request_lease::LockOptions;

use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::key::Key;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;
use crate::sight::see_any;
use crate::waiters;

pub struct Lock;

impl Command for Lock {
    const SPEC: Spec = Spec {
        name: c"cache.lock",
        summary: c"Takes the lock on a name and returns its fencing token, or nil where it is held, after BLOCK at the latest.",
        since: c"0.1.0",
        complexity: c"O(log N) where N is the number of leases, locks and waiters",
        // No deny-oom: the table is bounded, and who guards something needs his
        // lock most when memory is short.
        flags: c"write blocking",
        cluster_flags: None,
        acl: c"write slow blocking",
        arity: -3,
        keys: Keys::First(RW | UPDATE),
        tips: None,
        args: &[
            Arg::key(),
            Arg::integer(c"milliseconds"),
            Arg::integer(c"block-milliseconds").after(c"BLOCK").optional(),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let options = LockOptions::parse(args.from(2))?;
        let name = args.get(1);
        let sight = see_any(ctx.database(), name.bytes(), &Key::look(ctx, name));
        let block = options.block.filter(|_| ctx.may_block());
        match leases::lock(ctx, name, sight, options.length, block) {
            Answer::Locked { token, .. } => ctx.reply_integer(token.0),
            Answer::Wait(id) => waiters::hold(ctx, name.bytes(), id, true, false),
            _ => ctx.reply_null(),
        }
        Ok(())
    }
}
