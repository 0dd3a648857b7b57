//! `CACHE.GET key [STALE]`
//!
//! ```text
//! > CACHE.SET user:42 "Ada" EX 60 GRACE 300
//! OK
//! > CACHE.GET user:42
//! "Ada"
//! ```
//! Fresh values only; with STALE stale ones too. A native string is read as a
//! fresh value. Never elects, never blocks, works on replicas.

use cacheflow_core::request::accepts_stale;

use super::read::{read, reply_native_string, Read};
use super::{Command, Error};
use crate::ffi::args::{Args, Str};
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_ACCESS as ACCESS, REDISMODULE_CMD_KEY_RO as RO};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::packing;

pub struct Get;

impl Command for Get {
    const SPEC: Spec = Spec {
        name: c"cache.get",
        summary:
            c"Returns the fresh value of an entry or a native string, or nil. With STALE, a stale value too.",
        since: c"0.1.0",
        complexity: c"O(1)",
        flags: c"readonly fast",
        cluster_flags: None,
        acl: c"read fast",
        arity: -2,
        keys: Keys::First(RO | ACCESS),
        tips: None,
        args: &[Arg::key(), Arg::word(c"stale", c"STALE").optional()],
    };

    #[inline]
    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        if args.len() > 3 {
            return Err(cacheflow_core::request::RequestError::Syntax.into());
        }
        let stale_will_do = accepts_stale(args.opt(2).map(Str::bytes))?;
        let name = args.get(1);
        match read(ctx, name, stale_will_do) {
            Read::Value(value, _key) => ctx.reply_bytes(value),
            Read::Packed(packed, _key) => packing::with_unpacked(packed, |value| ctx.reply_bytes(value))?,
            Read::Nothing => ctx.reply_null(),
            Read::NativeString => reply_native_string(ctx, name),
            Read::OtherType => return Err(Error::WrongType),
        }
        Ok(())
    }
}
