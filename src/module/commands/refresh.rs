//! `CACHE.REFRESH [NAMESPACE name] [COUNT n] [LEASE ms] [BLOCK ms]`
//!
//! ```text
//! > CACHE.REFRESH COUNT 2 BLOCK 5000
//! 1) 1) "page:/"
//!    2) (integer) 1790000000000001
//!    3) (integer) 10000
//! > CACHE.SET page:/ "<h1>Hi</h1>" LEASE 1790000000000001 EX 60 GRACE 300
//! OK
//! ```
//! The keys of the selected database most worth recomputing now, hot and
//! expensive first: whose freshness is about to end, stale ones, and those lost by
//! expiry, invalidation or eviction while they were hot. Each with the token of a
//! lease, as CACHE.FETCH grants it, and the lease's length. Who gets one computes
//! the value and stores it by `CACHE.SET … LEASE token`, or gives it up by
//! `CACHE.UNLOCK`. BLOCK: waits until there is something, 0 without a limit;
//! workers first come first served, each key to one of them.
//!
//! A replica, which grants nothing, answers READONLY: a worker is to know that it
//! asks the wrong server.

use cacheflow_core::refresh_ahead::Group;
use cacheflow_core::request_hot::RefreshOptions;
use cacheflow_core::workers::Work;

use super::{Command, Error};
use crate::ahead;
use crate::ahead_workers;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};

pub struct Refresh;

impl Command for Refresh {
    const SPEC: Spec = Spec {
        name: c"cache.refresh",
        summary: c"Returns the keys most worth recomputing now, each with a lease: hot ones that are close to stale, stale, or lost.",
        since: c"0.1.0",
        complexity: c"O(N log M) where N is the number of keys looked at, a few hundred at most, and M that of candidates (cacheflow.refresh-keys)",
        flags: c"readonly blocking",
        cluster_flags: None,
        acl: c"read slow blocking admin dangerous",
        arity: -1,
        keys: Keys::None,
        tips: Some(c"nondeterministic_output request_policy:special response_policy:special"),
        args: &[
            Arg::text(c"namespace").after(c"NAMESPACE").optional(),
            Arg::integer(c"count").after(c"COUNT").optional(),
            Arg::integer(c"lease-milliseconds").after(c"LEASE").optional(),
            Arg::integer(c"block-milliseconds").after(c"BLOCK").optional(),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let RefreshOptions { namespace, count, lease, block } = RefreshOptions::parse(args.from(1))?;
        if ctx.is_replica() {
            return Err(Error::ReadOnly);
        }
        let group = Group::new(ctx.database(), namespace);
        let work = Work { group, count, lease, client: ctx.client_id() };
        let offers = ahead::refresh(ctx, &work);
        let block = block.filter(|_| offers.is_empty() && ctx.may_block());
        if let Some(id) = block.and_then(|block| ahead::wait(work, block)) {
            ahead_workers::hold(ctx, id);
            ahead::somebody_waits();
            return Ok(());
        }
        ahead_workers::reply(ctx, &offers);
        Ok(())
    }
}
