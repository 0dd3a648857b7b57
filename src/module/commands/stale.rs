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
//! when their TTL says so. Returns how many were fresh. Leases are void, on
//! absent keys too.

use std::ffi::CStr;

use cacheflow_core::decide;
use cacheflow_core::leases::Change;

use super::write::{Tags, Target, Value};
use super::{Command, Error};
use crate::adaptive;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;
use crate::state;

/// The command's name on the wire.
const NAME: &CStr = c"CACHE.STALE";

pub struct Stale;

impl Command for Stale {
    const SPEC: Spec = Spec {
        name: c"cache.stale",
        summary: c"Makes fresh entries stale and returns how many there were.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of keys, and a copy of each value",
        // No deny-oom: like a deletion it must work where memory is short.
        flags: c"write fast",
        cluster_flags: None,
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
            let target = Target::open(ctx, name).writing_nothing();
            let db = target.database();
            let staled = match target.meta() {
                Some(old) => {
                    let write = decide::stale(&old, target.expire(), now);
                    target.perform(write, Value::Same, Tags::Same, c"cache.stale")?
                }
                None => {
                    adaptive::outdated(db, name.bytes());
                    false
                }
            };
            turned += i64::from(staled);
            if leases::knows(db, name.bytes()) {
                leases::changed(db, name.bytes(), Change::Staled);
                if !staled {
                    // Nothing was replicated, and a lock's fence may be broken.
                    ctx.replicate_key(NAME, name);
                }
            }
        }
        ctx.reply_integer(turned);
        Ok(())
    }
}
