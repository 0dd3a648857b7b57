//! `CACHE.INVALIDATED stamp HARD|SOFT TAGS|NAMESPACE name [name ...]`
//!
//! Internal: what CACHE.INVALIDATE replicates, with the stamp that it drew, so
//! that replicas and replays come to the same. From a client it is an
//! invalidation like any other, with a stamp of this shard's own: none that a
//! client names may kill what was born after it.

use std::ffi::CStr;

use cacheflow_core::index::Mode;
use cacheflow_core::number::parse_u64;
use cacheflow_core::request::RequestError;
use cacheflow_core::tag::{self, Names};
use cacheflow_core::units::{Stamp, STAMP_LIMIT};

use super::invalidate::Asked;
use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::invalidation::{self, Kind};
use crate::state;

/// The command's name on the wire.
pub const NAME: &CStr = c"CACHE.INVALIDATED";
/// Where the names begin.
const NAMES: usize = 4;

pub struct Invalidated;

impl Command for Invalidated {
    const SPEC: Spec = Spec {
        name: c"cache.invalidated",
        summary: c"Internal: an invalidation with its stamp; the form in which invalidations are replicated.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of names",
        // No deny-oom: what the primary has done must be done here too.
        flags: c"write fast",
        cluster_flags: None,
        acl: c"write fast dangerous",
        arity: -5,
        keys: Keys::None,
        tips: None,
        args: &[
            Arg::integer(c"stamp"),
            Arg::choice(c"mode", &[Arg::word(c"hard", c"HARD"), Arg::word(c"soft", c"SOFT")]),
            Arg::choice(c"what", &[Arg::word(c"tags", c"TAGS"), Arg::word(c"namespace", c"NAMESPACE")]),
            Arg::text(c"name").multiple(),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let stamp = parse_u64(args.get(1).bytes()).filter(|&stamp| stamp < STAMP_LIMIT).map(Stamp);
        let stamp = stamp.ok_or(RequestError::NotAnInteger)?;
        let is = |i: usize, word: &[u8]| args.get(i).bytes().eq_ignore_ascii_case(word);
        let mode = match () {
            () if is(2, b"HARD") => Mode::Hard,
            () if is(2, b"SOFT") => Mode::Soft,
            () => return Err(RequestError::Syntax.into()),
        };
        let kind = match () {
            () if is(3, b"TAGS") => Kind::Tags,
            () if is(3, b"NAMESPACE") => Kind::Namespaces,
            () => return Err(RequestError::Syntax.into()),
        };
        let names = args.len() - NAMES;
        if !ctx.is_replicated() {
            let named = args.last(names);
            let asked = Asked::read(ctx, named, kind, mode)?;
            ctx.reply_integer(asked.perform(ctx, named, state::moment()));
            asked.publish(ctx);
            return Ok(());
        }
        state::observe(stamp);
        let mut once = Names::new();
        tag::once_unlimited(args.last(names).bytes(), &mut once);
        let hits = invalidation::perform(ctx, kind, mode, &once, stamp);
        // Who listens at a replica is told there; in a cluster the primary has
        // told all nodes, and while a file is loaded it is long past.
        if ctx.is_replica() && !ctx.is_cluster() && !ctx.is_loading() {
            invalidation::publish(ctx, kind, mode, &once);
        }
        ctx.replicate_verbatim();
        ctx.reply_integer(hits.iter().sum::<u64>());
        Ok(())
    }
}
