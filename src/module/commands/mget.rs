//! `CACHE.MGET key [key ...]`
//!
//! ```text
//! > CACHE.MGET user:42 user:43
//! 1) "Ada"
//! 2) (nil)
//! ```
//! An array of what CACHE.GET answers; nil for a key of another type.

use super::read::{read, reply_native_string, Read};
use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_ACCESS as ACCESS, REDISMODULE_CMD_KEY_RO as RO};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::packing;

pub struct MGet;

impl Command for MGet {
    const SPEC: Spec = Spec {
        name: c"cache.mget",
        summary: c"Returns the fresh values of several keys, nil for each that has none.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of keys",
        flags: c"readonly fast",
        cluster_flags: None,
        acl: c"read fast",
        arity: -2,
        keys: Keys::All(RO | ACCESS),
        tips: Some(c"request_policy:multi_shard"),
        args: &[Arg::key().multiple()],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let keys = args.strings_from(1);
        ctx.reply_array(keys.len());
        for name in keys {
            match read(ctx, name, false) {
                Read::Value(value, _key) => ctx.reply_bytes(value),
                // One that does not unpack is no reason to answer none of the others.
                Read::Packed(packed, _key) => packing::with_unpacked(packed, |value| ctx.reply_bytes(value))
                    .unwrap_or_else(|why| ctx.reply_error(&Error::from(why).text("cache.mget"))),
                Read::NativeString => reply_native_string(ctx, name),
                Read::Nothing | Read::OtherType => ctx.reply_null(),
            }
        }
        Ok(())
    }
}
