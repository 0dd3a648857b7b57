//! `CACHE.STALE key [key ...]`
//!
//! ```text
//! > CACHE.STALE user:42
//! (integer) 1
//! > CACHE.GET user:42
//! (nil)
//! > CACHE.GET user:42 STALE
//! "Ada"
//! ```
//! Makes entries stale by hand: servable while somebody recomputes them, gone
//! when their TTL says so. Returns how many were fresh.

use cacheflow_core::decide;

use super::write::{Tags, Target, Value};
use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::state;

pub struct Stale;

impl Command for Stale {
    const SPEC: Spec = Spec {
        name: c"cache.stale",
        summary: c"Makes fresh entries stale and returns how many there were.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of keys, and a copy of each value",
        // No deny-oom: like a deletion it must work where memory is short.
        flags: c"write fast",
        acl: c"write fast",
        arity: -2,
        keys: Keys::All(RW | UPDATE),
        tips: Some(c"request_policy:multi_shard response_policy:agg_sum"),
        args: &[Arg::key().multiple()],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let now = state::now();
        let mut turned = 0;
        for name in args.strings_from(1) {
            let target = Target::open(ctx, name);
            let Some(old) = target.meta() else { continue };
            let write = decide::stale(&old, target.expire(), now);
            turned += i64::from(target.perform(write, Value::Same, Tags::Same, c"cache.stale")?);
        }
        ctx.reply_integer(turned);
        Ok(())
    }
}
