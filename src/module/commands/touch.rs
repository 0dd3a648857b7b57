//! `CACHE.TOUCH key [LEASE token] [EX s | PX ms | EXAT t | PXAT t] [GRACE s | PGRACE ms]`
//!
//! ```text
//! > CACHE.TOUCH user:42
//! (integer) 1
//! ```
//! A refill without payload, for an origin that says "not modified": the value
//! is fresh anew, for the lengths named or else for the entry's last ones. 0
//! where there is no entry. With LEASE it fills a lease as CACHE.SET does, the
//! tags being those that the entry has; 0 where the lease was superseded.

use cacheflow_core::decide;
use cacheflow_core::entry::Cost;
use cacheflow_core::request::TouchOptions;

use super::set::{EX, EXAT, GRACE, PX, PXAT};
use super::write::{Tags, Target, Told, Value, NO_DEFAULTS};
use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases::Fill;
use crate::state::{self, COUNTERS};

pub struct Touch;

impl Command for Touch {
    const SPEC: Spec = Spec {
        name: c"cache.touch",
        summary: c"Makes an entry fresh anew without its value being sent. Returns 1, or 0 where there is no entry or the lease was superseded.",
        since: c"0.1.0",
        complexity: c"O(1), and a copy of the value",
        flags: c"write deny-oom fast",
        acl: c"write fast",
        arity: -2,
        keys: Keys::First(RW | UPDATE),
        tips: None,
        args: &[
            Arg::key(),
            Arg::integer(c"token").after(c"LEASE").optional(),
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
        let name = args.get(1);
        let mut target = Target::open(ctx, name);
        let old = target.meta();
        let fill = options.lease.map(|token| {
            let tags = target.tags();
            target.judge(token, true, &mut tags.iter().map(Vec::as_slice))
        });
        let mut touched = old.unwrap_or_default();
        let old_cost = touched.cost;
        if let Some(filled) = fill.as_ref().and_then(Fill::accepted) {
            touched.cost = decide::cost_of_fill(None, Some(old_cost), filled.took).unwrap_or(old_cost);
        }
        // A time that cannot be is told whether there is an entry or not.
        let write = decide::touch(&options, &touched, at, NO_DEFAULTS)?;
        let refused = fill.as_ref().is_some_and(|fill| fill.accepted().is_none());
        if old.is_none() || refused {
            drop(target);
            if let Some(fill) = fill {
                fill.end(ctx, name, Cost(0));
            }
            ctx.reply_integer(0);
            return Ok(());
        }
        if fill.is_some() {
            target = target.telling(Told::Fill);
        }
        target.perform(write, Value::Same, Tags::Same, c"cache.touch")?;
        if let Some(fill) = fill {
            fill.end(ctx, name, old_cost);
        }
        COUNTERS.writes.add(1);
        ctx.reply_integer(1);
        Ok(())
    }
}
