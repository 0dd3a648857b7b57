//! `CACHE.APPLY key expire-at-ms metadata [value]`
//!
//! Internal: what a write replicates and what an AOF rewrite emits. It puts an
//! entry under the key with just this metadata (`cacheflow_core::codec`) and
//! TTL (Unix ms; 0: none); without a value the entry keeps the one it has. It
//! is the same on whatever server and whenever it runs: times and stamps in it
//! are absolute.
//!
//! A client may send it as it may send RESTORE: it must be allowed to write
//! the key, its bytes go through the same checks, and its stamps cannot push
//! the shard's clock.

use std::ffi::CStr;

use cacheflow_core::codec::{self, CodecError, Decoded};
use cacheflow_core::decide::Write;
use cacheflow_core::number::parse_u64;
use cacheflow_core::packing::{Content, UnpackError};
use cacheflow_core::request::RequestError;
use cacheflow_core::units::{Time, LAST_TIME};

use super::write::{check_size, Tags, Target, Value};
use super::{Command, Error};
use crate::arrivals;
use crate::directives;
use crate::ffi::args::{Args, Str};
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_OW as OW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::natives;
use crate::natives_told;
use crate::packing;
use crate::slots;
use crate::state::{self, COUNTERS};

/// The command's name on the wire.
pub const NAME: &CStr = c"CACHE.APPLY";
/// Its expire-at for no TTL.
pub const NO_EXPIRE: i64 = 0;

pub struct Apply;

impl Command for Apply {
    const SPEC: Spec = Spec {
        name: c"cache.apply",
        summary: c"Internal: puts an entry with all its metadata under a key; the form in which writes are replicated and saved in the AOF.",
        since: c"0.1.0",
        complexity: c"O(1)",
        // No deny-oom: what the primary has done must be done here too. Who is
        // not the primary is refused by `run`.
        flags: c"write fast",
        cluster_flags: None,
        acl: c"write fast dangerous",
        arity: -4,
        keys: Keys::First(OW | UPDATE),
        tips: None,
        args: &[
            Arg::key(),
            Arg::time(c"expire-at-milliseconds"),
            Arg::text(c"metadata"),
            Arg::text(c"value").optional(),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        if args.len() > 5 {
            return Err(RequestError::Syntax.into());
        }
        let expire = match parse_u64(args.get(2).bytes()) {
            Some(0) => None,
            Some(at) if at <= LAST_TIME => Some(Time(at)),
            Some(_) => return Err(RequestError::InvalidTime.into()),
            None => return Err(RequestError::NotAnInteger.into()),
        };
        let trusted = ctx.is_replicated();
        let value = args.opt(4).map(Str::bytes);
        // Of what moves here with its slot nothing may be lost on the way.
        let imported = slots::is_imported(ctx, args.get(1).bytes());
        if !trusted && !imported {
            check_size(value.unwrap_or_default().len())?;
            if ctx.is_out_of_memory() {
                return Err(Error::OutOfMemory);
            }
        }
        if let Some(key) = directives::key_of_companion(args.get(1).bytes()) {
            natives_told::settle();
            let mut decoded =
                codec::decode(args.get(3).bytes()).inspect_err(|_| COUNTERS.refused_payloads.add(1))?;
            admit(&mut decoded, trusted);
            natives::apply(ctx, args.get(1), key, &decoded.meta, &decoded.tags)?;
            ctx.reply_ok();
            return Ok(());
        }
        let target = Target::open(ctx, args.get(1));
        // Of what it was here nothing is asked where the primary says what it
        // is: it may have died meanwhile.
        if value.is_none() && !target.has_value() {
            if imported {
                // It was dead when it came, and is not here.
                ctx.reply_ok();
                return Ok(());
            }
            return Err(Error::NothingToApplyTo);
        }
        let (mut decoded, value) =
            read(args.get(3).bytes(), value).inspect_err(|_| COUNTERS.refused_payloads.add(1))?;
        if let (Value::Stored(content), false) = (value, trusted) {
            if !imported {
                check_size(content.length())?;
            }
            verify(content).inspect_err(|_| COUNTERS.refused_payloads.add(1))?;
        }
        admit(&mut decoded, trusted);
        // What is dead here is not put: if anything lies there it is older.
        if ctx.is_primary_in_cluster() {
            let (db, tags) = (ctx.database(), decoded.tags.iter().copied());
            let judged = arrivals::judge(db, args.get(1).bytes(), decoded.meta, tags);
            if imported && judged != decoded.meta {
                arrivals::tell_later(db, args.get(1).bytes());
            }
            decoded.meta = judged;
        }
        // What has ended is not put: the server would remove it again within
        // this command (Redis 8.6 does when its watchers are told) and tell
        // replicas of that before they hear of this.
        let ended = !trusted && expire.is_some_and(|end| end <= state::now());
        if ended || (ctx.is_primary_in_cluster() && decoded.meta.dead) {
            target.perform(Write::Remove, Value::Same, Tags::Same, c"cache.set")?;
        } else {
            target.apply(&decoded, expire, value)?;
        }
        ctx.reply_ok();
        Ok(())
    }
}

/// The clock knows the birth that was sent from now on.
fn admit(decoded: &mut Decoded<'_>, trusted: bool) {
    if trusted {
        state::observe(decoded.meta.born);
    } else {
        decoded.meta.born = state::admit(decoded.meta.born);
    }
}

/// Metadata, and the value that it speaks of.
fn read<'a>(meta: &'a [u8], value: Option<&'a [u8]>) -> Result<(Decoded<'a>, Value<'a>), CodecError> {
    let decoded = codec::decode(meta)?;
    let value = match value {
        Some(bytes) => Value::Stored(decoded.content(bytes)?),
        // It keeps what it has, as that is stored.
        None if decoded.unpacked.is_some() => return Err(CodecError::Packed),
        None => Value::Same,
    };
    Ok((decoded, value))
}

/// A client's word for it is not enough that a value unpacks.
fn verify(content: Content<'_>) -> Result<(), Error> {
    match packing::check(content) {
        Err(UnpackError::Corrupt) => Err(CodecError::Packed.into()),
        other => Ok(other?),
    }
}
