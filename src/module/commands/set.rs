//! `CACHE.SET key value [NX | XX | LEASE token] [EX s | PX ms | EXAT t | PXAT t | EXAUTO min max |
//! KEEPTTL | PERSIST] [GRACE s | PGRACE ms] [COST ms] [TAGS tag [tag ...]]`
//!
//! ```text
//! > CACHE.SET user:42 "Ada" EX 60 GRACE 300 TAGS users team:7
//! OK
//! > TTL user:42
//! (integer) 360
//! ```
//! Fresh for 60 seconds, then stale for 300, then gone. Overwrites a key of
//! any type. Nil where NX or XX did not hold; nothing is stored then. The tags
//! are those named here, none if none is; `TAGS` takes the rest of the line.
//!
//! ```text
//! > CACHE.SET user:42 "Ada" LEASE 1790000000000001 EX 60 TAGS users
//! OK
//! ```
//! LEASE: the token of CACHE.FETCH or CACHE.LOCK that this fills. Nil, and
//! nothing stored, where something newer happened since it was granted: a write,
//! a deletion, an invalidation of one of the tags named here or of the key's
//! namespace, a later lease. The lease or lock ends either way.
//!
//! EXAUTO: fresh for min seconds at first, then for as long, up to max, as the values
//! that refills bring show the source to stay the same (`cacheflow.stale-target`).

use cacheflow_core::decide;
use cacheflow_core::request::SetOptions;
use cacheflow_core::tag::{self, Names};

use super::write::{check_size, Tags, Target, Value};
use super::{Command, Error};
use crate::directives;
use crate::evict;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_OW as OW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::natives;
use crate::state;

pub struct Set;

impl Command for Set {
    const SPEC: Spec = Spec {
        name: c"cache.set",
        summary: c"Stores an entry: fresh up to the time given, then stale for the grace, then gone. Returns OK, or nil where NX or XX did not hold or the lease was superseded.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of tags",
        flags: c"write deny-oom fast",
        cluster_flags: None,
        acl: c"write fast",
        arity: -3,
        keys: Keys::First(OW | UPDATE),
        tips: None,
        args: &[
            Arg::key(),
            Arg::text(c"value"),
            Arg::one_of(
                c"condition",
                &[
                    Arg::word(c"nx", c"NX"),
                    Arg::word(c"xx", c"XX"),
                    Arg::integer(c"token").after(c"LEASE"),
                ],
            ),
            Arg::one_of(
                c"expiration",
                &[
                    EX,
                    PX,
                    EXAT,
                    PXAT,
                    EXAUTO,
                    Arg::word(c"keepttl", c"KEEPTTL"),
                    Arg::word(c"persist", c"PERSIST"),
                ],
            ),
            GRACE,
            Arg::integer(c"cost-ms").after(c"COST").optional(),
            Arg::text(c"tag").after(c"TAGS").optional().multiple(),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let mut options = SetOptions::parse(args.from(3))?;
        let value = args.get(2).bytes();
        natives::check_name(args.get(1).bytes())?;
        check_size(value.len())?;
        let mut tags = Names::new();
        tag::once(args.last(options.tags).bytes(), directives::tag_limits(), &mut tags)?;
        evict::admit(ctx, args.get(1).bytes(), value.len(), tags.len())?;
        let at = state::moment();
        let mut target = Target::open(ctx, args.get(1));
        if let Some(token) = options.lease {
            target = target.filling(token, false, &mut tags.iter().copied());
            options.cost = target.cost(options.cost);
        }
        let outlook = |bounds| target.outlook(&tags, bounds);
        let expire = || target.expire();
        let write = decide::set(&options, value, target.found(), expire, at, target.defaults(), outlook)?;
        if !target.perform(write, Value::New(value), Tags::These(&tags), c"cache.set")? {
            ctx.reply_null();
            return Ok(());
        }
        ctx.reply_ok();
        Ok(())
    }
}

/// The grace, for SET and TOUCH.
pub const GRACE: Arg = Arg::one_of(
    c"grace",
    &[Arg::integer(c"grace-seconds").after(c"GRACE"), Arg::integer(c"grace-milliseconds").after(c"PGRACE")],
);

/// The times, for both.
pub const EX: Arg = Arg::integer(c"seconds").after(c"EX");
pub const PX: Arg = Arg::integer(c"milliseconds").after(c"PX");
pub const EXAT: Arg = Arg::time(c"unix-time-seconds").after(c"EXAT");
pub const PXAT: Arg = Arg::time(c"unix-time-milliseconds").after(c"PXAT");
pub const EXAUTO: Arg =
    Arg::block(c"adaptive", &[Arg::integer(c"min-seconds"), Arg::integer(c"max-seconds")]).after(c"EXAUTO");
