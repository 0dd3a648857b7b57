//! `CACHE.LOG [count]` · `CACHE.LOG RESET`
//!
//! ```text
//! > CACHE.LOG 1
//! 1)  1) "id"       2) (integer) 17
//!     3) "at-ms"    4) (integer) 1764000000000
//!     5) "command"  6) "CACHE.INVALIDATE SOFT"
//!     7) "target"   8) "team:7"
//!     9) "hits"    10) (integer) 12
//!    11) "user"    12) "default"
//!    13) "client"  14) "127.0.0.1:50444"
//! ```
//! Who invalidated what, the newest first; a namespace is shown with an `@`
//! before its name, as on its channel.

use cacheflow_core::index::Mode;
use cacheflow_core::log::Record;
use cacheflow_core::request::RequestError;
use cacheflow_core::request_index::LogRequest;

use super::{Command, Error};
use crate::directives::LOG_MAX_LEN;
use crate::ffi::args::{Args, Str};
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::invalidation::with_log;

pub struct Log;

impl Command for Log {
    const SPEC: Spec = Spec {
        name: c"cache.log",
        summary: c"Returns who invalidated what, the newest first, or forgets it.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of records returned",
        flags: c"readonly",
        cluster_flags: None,
        acl: c"read slow admin dangerous",
        arity: -1,
        keys: Keys::None,
        tips: Some(c"nondeterministic_output request_policy:special response_policy:special"),
        args: &[Arg::one_of(c"what", &[Arg::integer(c"count"), Arg::word(c"reset", c"RESET")])],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        if args.len() > 2 {
            return Err(RequestError::Syntax.into());
        }
        match LogRequest::parse(args.opt(1).map(Str::bytes))? {
            LogRequest::Reset => {
                with_log(cacheflow_core::log::Log::reset);
                ctx.reply_ok();
            }
            LogRequest::Show(count) => {
                let most = usize::try_from(LOG_MAX_LEN.get()).unwrap_or(0);
                with_log(|log| {
                    let records = log.newest(count, most);
                    ctx.reply_array(records.len());
                    records.for_each(|record| show(ctx, record));
                });
            }
        }
        Ok(())
    }
}

fn show(ctx: Ctx, record: &Record) {
    ctx.reply_map(7);
    let number = |field: &str, n: u64| {
        ctx.reply_bytes(field.as_bytes());
        ctx.reply_integer(n);
    };
    let text = |field: &str, parts: &[&[u8]]| {
        ctx.reply_bytes(field.as_bytes());
        ctx.reply_bytes(&parts.concat());
    };
    number("id", record.id);
    number("at-ms", record.at.0);
    let command: &[u8] = match record.mode {
        Mode::Hard => b"CACHE.INVALIDATE",
        Mode::Soft => b"CACHE.INVALIDATE SOFT",
    };
    text("command", &[command]);
    text("target", &[if record.namespace { b"@" } else { b"" }, &record.name]);
    number("hits", record.hits);
    text("user", &[&record.user]);
    text("client", &[&record.client]);
}
