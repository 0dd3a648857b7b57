//! `CACHE.TOUCH key [EX s | PX ms | EXAT t | PXAT t] [GRACE s | PGRACE ms]`
//!
//! ```text
//! > CACHE.TOUCH user:42
//! (integer) 1
//! ```
//! A refill without payload, for an origin that says "not modified": the value
//! is fresh anew, for the lengths named or else for the entry's last ones. 0
//! where there is no entry.

use cacheflow_core::decide;
use cacheflow_core::request::TouchOptions;

use super::set::{EX, EXAT, GRACE, PX, PXAT};
use super::write::{Tags, Target, Value, NO_DEFAULTS};
use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::state::{self, COUNTERS};

pub struct Touch;

impl Command for Touch {
    const SPEC: Spec = Spec {
        name: c"cache.touch",
        summary: c"Makes an entry fresh anew without its value being sent. Returns 1, or 0 where there is no entry.",
        since: c"0.1.0",
        complexity: c"O(1), and a copy of the value",
        flags: c"write deny-oom fast",
        acl: c"write fast",
        arity: -2,
        keys: Keys::First(RW | UPDATE),
        tips: None,
        args: &[
            Arg::key(),
            Arg::one_of(
                c"expiration",
                &[
                    EX,
                    PX,
                    EXAT,
                    PXAT,
                ],
            ),
            GRACE,
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let options = TouchOptions::parse(args.from(2))?;
        let at = state::moment();
        let target = Target::open(ctx, args.get(1));
        let old = target.meta();
        // A time that cannot be is told whether there is an entry or not.
        let write = decide::touch(&options, &old.unwrap_or_default(), at, NO_DEFAULTS)?;
        if old.is_none() {
            ctx.reply_integer(0);
            return Ok(());
        }
        target.perform(write, Value::Same, Tags::Same, c"cache.touch")?;
        COUNTERS.writes.add(1);
        ctx.reply_integer(1);
        Ok(())
    }
}
