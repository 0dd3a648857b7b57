//! `CACHE.TOUCH key [LEASE token] [EX s | PX ms | EXAT t | PXAT t | EXAUTO min max]
//! [GRACE s | PGRACE ms]`
//!
//! ```text
//! > CACHE.TOUCH user:42
//! (integer) 1
//! ```
//! A refill without payload, for an origin that says "not modified": the value
//! is fresh anew, for the lengths named or else for the entry's last ones. 0
//! where there is no entry. With LEASE it fills a lease as CACHE.SET does, the
//! tags being those that the entry has; 0 where the lease was superseded. To an
//! entry with EXAUTO it says that the source has not changed.

use cacheflow_core::decide::{self, Found, Live, Write};
use cacheflow_core::entry::Meta;
use cacheflow_core::packing::Content;
use cacheflow_core::request::TouchOptions;

use super::set::{EX, EXAT, EXAUTO, GRACE, PX, PXAT};
use super::write::{Tags, Target, Value};
use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::state;

pub struct Touch;

impl Command for Touch {
    const SPEC: Spec = Spec {
        name: c"cache.touch",
        summary: c"Makes an entry fresh anew without its value being sent. Returns 1, or 0 where there is no entry or the lease was superseded.",
        since: c"0.1.0",
        complexity: c"O(1), and a copy of the value",
        flags: c"write deny-oom fast",
        cluster_flags: None,
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
                    EXAUTO,
                ],
            ),
            GRACE,
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let options = TouchOptions::parse(args.from(2))?;
        let at = state::moment();
        let mut target = Target::open(ctx, args.get(1));
        let found = target.found();
        let mut old = match found {
            Found::Entry(live) => live,
            Found::Absent | Found::Native => Live { meta: Meta::default(), value: Content::NOTHING },
        };
        if let Some(token) = options.lease {
            let tags = target.tags();
            target = target.filling(token, true, &mut tags.iter().map(Vec::as_slice));
            old.meta.cost = target.cost(None).unwrap_or(old.meta.cost);
        }
        // A time that cannot be is told whether there is an entry or not.
        let outlook = |bounds| {
            let tags = target.tags();
            let tags: Vec<&[u8]> = tags.iter().map(Vec::as_slice).collect();
            target.outlook(&tags, bounds)
        };
        let write = decide::touch(&options, old, at, target.defaults(), outlook)?;
        let write = if matches!(found, Found::Entry(_)) { write } else { Write::Nothing };
        let done = target.perform(write, Value::Same, Tags::Same, c"cache.touch")?;
        ctx.reply_integer(i64::from(done));
        Ok(())
    }
}
