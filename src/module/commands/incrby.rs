//! `CACHE.INCRBY key n`
//!
//! ```text
//! > CACHE.INCRBY visits:home 1
//! (integer) 1
//! ```
//! Adds to the integer that an entry holds; its times stay. An absent key
//! counts from 0.

use cacheflow_core::decide;
use cacheflow_core::number::parse_i64;
use cacheflow_core::request::RequestError;

use super::write::{Tags, Target, Value};
use super::{Command, Error};
use crate::evict;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{
    REDISMODULE_CMD_KEY_ACCESS as ACCESS, REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE,
};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::natives;
use crate::state;

pub struct IncrBy;

/// `-9223372036854775808`.
const LONGEST_INTEGER: usize = 20;

impl Command for IncrBy {
    const SPEC: Spec = Spec {
        name: c"cache.incrby",
        summary: c"Adds to the integer that an entry holds and returns the sum. An absent key counts from 0.",
        since: c"0.1.0",
        complexity: c"O(1)",
        flags: c"write deny-oom fast",
        cluster_flags: None,
        acl: c"write fast",
        arity: 3,
        keys: Keys::First(RW | ACCESS | UPDATE),
        tips: None,
        args: &[Arg::key(), Arg::integer(c"increment")],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let by = parse_i64(args.get(2).bytes()).ok_or(RequestError::NotAnInteger)?;
        natives::check_name(args.get(1).bytes())?;
        evict::admit(ctx, args.get(1).bytes(), LONGEST_INTEGER, 0)?;
        let at = state::moment();
        let target = Target::open(ctx, args.get(1));
        let (sum, write) = decide::incr(by, target.found(), target.expire(), at, target.defaults())?;
        target.perform(write, Value::New(sum.to_string().as_bytes()), Tags::Same, c"cache.incrby")?;
        ctx.reply_integer(sum);
        Ok(())
    }
}
