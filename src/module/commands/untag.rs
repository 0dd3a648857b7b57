//! `CACHE.UNTAG key tag [tag ...]`
//!
//! ```text
//! > CACHE.UNTAG user:42 team:7
//! (integer) 1
//! ```
//! Takes tags off an entry or a native key. Returns how many it had, nil where the key does not
//! exist. What an invalidation has made of it stays.

use cacheflow_core::tag;

use super::tag::retag;
use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};

pub struct Untag;

impl Command for Untag {
    const SPEC: Spec = Spec {
        name: c"cache.untag",
        summary: c"Takes tags off an entry or a native key and returns how many it had; nil where the key does not exist.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of tags, and a copy of an entry's value",
        // No deny-oom: it takes away.
        flags: c"write fast",
        cluster_flags: None,
        acl: c"write fast",
        arity: -3,
        keys: Keys::First(RW | UPDATE),
        tips: None,
        args: &[Arg::key(), Arg::text(c"tag").multiple()],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        retag(ctx, args, |there, named| {
            let rest = tag::without(there, named);
            let gone = there.len() - rest.len();
            Ok((rest, gone))
        })
    }
}
