//! `CACHE.DEL key [key ...]`
//!
//! ```text
//! > CACHE.DEL user:42 user:43
//! (integer) 1
//! ```
//! Removes keys of any type, as UNLINK does, and returns how many there were.

use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_DELETE as DELETE, REDISMODULE_CMD_KEY_RM as RM};
use crate::ffi::register::{Arg, Keys, Spec};

pub struct Del;

impl Command for Del {
    const SPEC: Spec = Spec {
        name: c"cache.del",
        summary: c"Removes keys and returns how many there were.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of keys",
        flags: c"write fast",
        acl: c"write fast",
        arity: -2,
        keys: Keys::All(RM | DELETE),
        tips: Some(c"request_policy:multi_shard\nresponse_policy:agg_sum"),
        args: &[Arg::key().multiple()],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        // The server's own: it frees lazily, notifies, replicates, tells WATCH
        // and CLIENT TRACKING, and counts a key named twice once.
        let reply = ctx.call(c"UNLINK", None, args.raw_from(1), true);
        let removed = reply.and_then(|reply| reply.integer()).ok_or(Error::Internal)?;
        ctx.reply_integer(removed);
        Ok(())
    }
}
