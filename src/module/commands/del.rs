//! `CACHE.DEL key [key ...]`
//!
//! ```text
//! > CACHE.DEL user:42 user:43
//! (integer) 1
//! ```
//! Removes keys of any type, as UNLINK does, and returns how many there were. A
//! lease on one is void, be there something or not: a value that is being
//! computed for it is refused.

use std::ffi::CStr;

use super::write::Target;
use super::{Command, Error};
use crate::ahead;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_DELETE as DELETE, REDISMODULE_CMD_KEY_RM as RM};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;

/// The command's name on the wire.
pub const NAME: &CStr = c"CACHE.DEL";

pub struct Del;

impl Command for Del {
    const SPEC: Spec = Spec {
        name: c"cache.del",
        summary: c"Removes keys and returns how many there were.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of keys",
        flags: c"write fast",
        cluster_flags: None,
        acl: c"write fast",
        arity: -2,
        keys: Keys::All(RM | DELETE),
        tips: Some(c"request_policy:multi_shard response_policy:agg_sum"),
        args: &[Arg::key().multiple()],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let (mut counted, mut changed) = (0, false);
        for name in args.strings_from(1) {
            let target = Target::open(ctx, name);
            counted += i64::from(target.is_visible());
            // Of an absent key, too, there may be a lock whose fence it breaks.
            changed |= leases::knows(target.database(), name.bytes());
            ahead::deleted(ctx, target.database(), name.bytes());
            changed |= target.remove();
        }
        if changed {
            ctx.replicate_verbatim();
        }
        ctx.reply_integer(counted);
        Ok(())
    }
}
