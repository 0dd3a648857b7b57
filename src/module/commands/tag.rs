//! `CACHE.TAG key tag [tag ...]`
//!
//! ```text
//! > CACHE.TAG user:42 team:7
//! (integer) 1
//! ```
//! Puts tags on an entry or a native key of any type; they bind from now on.
//! Returns how many are new, nil where the key does not exist.

use cacheflow_core::decide::{self, Write};
use cacheflow_core::entry::Meta;
use cacheflow_core::leases::Change;
use cacheflow_core::tag::{self, Names};

use super::write::{Tags, Target, Value};
use super::{Command, Error};
use crate::directives;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_RW as RW, REDISMODULE_CMD_KEY_UPDATE as UPDATE};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;
use crate::locks;
use crate::natives;
use crate::natives_told;
use crate::propagation;
use crate::slots;
use crate::state;

pub struct Tag;

impl Command for Tag {
    const SPEC: Spec = Spec {
        name: c"cache.tag",
        summary: c"Puts tags on an entry or a native key and returns how many are new; nil where the key does not exist.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of tags, and a copy of an entry's value",
        flags: c"write deny-oom fast",
        cluster_flags: None,
        acl: c"write fast",
        arity: -3,
        keys: Keys::First(RW | UPDATE),
        tips: None,
        args: &[Arg::key(), Arg::text(c"tag").multiple()],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        retag(ctx, args, |there, named| {
            let (all, new) = tag::added(there, named, directives::tag_limits())?;
            Ok((all, new))
        })
    }
}

/// Gives an entry or a native key the tags that `change` makes of those it has and those named;
/// replies how many it changed.
pub fn retag<'a>(
    ctx: Ctx,
    args: Args<'a>,
    change: impl for<'t> FnOnce(
        &[&'t [u8]],
        &mut dyn Iterator<Item = &'t [u8]>,
    ) -> Result<(Names<'t>, usize), Error>,
) -> Result<(), Error> {
    let at = state::moment();
    let name = args.get(1);
    natives::check_name(name.bytes())?;
    natives_told::settle();
    let target = Target::open(ctx, name).writing_nothing();
    let Some(settled) = target.meta() else {
        if !target.is_visible() {
            ctx.reply_null();
            return Ok(());
        }
        drop(target);
        // A second one would be in the first one's way.
        if natives_told::is_left_behind(ctx.database(), name.bytes()) {
            return Err(Error::TryAgain);
        }
        let there = match natives::look(ctx, name.bytes()) {
            Some((_, tags)) => tags,
            // It may be on its way here.
            None if slots::is_surely_imported(ctx, name.bytes()) => return Err(Error::TryAgain),
            None => Vec::new(),
        };
        let there: Vec<&[u8]> = there.iter().map(Vec::as_slice).collect();
        let (tags, changed) = change(&there, &mut args.from(2))?;
        if changed > 0 {
            let meta = Meta { born: at.stamp, written: at.now, ..Meta::default() };
            natives::set_tags(ctx, name.bytes(), &meta, &tags)?;
            if !propagation::is_heard(ctx) {
                ctx.replicate_verbatim();
            }
            ctx.signal_modified(name);
            ctx.notify(c"cache.tag", name);
        }
        ctx.reply_integer(changed as i64);
        return Ok(());
    };
    let there = target.tags();
    let there: Vec<&[u8]> = there.iter().map(Vec::as_slice).collect();
    let (tags, changed) = change(&there, &mut args.from(2))?;
    if changed > 0 {
        let (meta, expire) = (decide::retagged(settled, at), target.expire());
        let (db, invalidated) = (target.database(), target.invalidated());
        target.perform(
            Write::Store { meta, expire, lesson: None },
            Value::Same,
            Tags::These(&tags),
            c"cache.tag",
        )?;
        // Born anew it does not show any more what it was hit by.
        leases::changed(db, name.bytes(), Change::Invalidated(invalidated));
        // To a replica it is a write; the lock's fence is as it was.
        locks::tell_lock(ctx, db, name);
    }
    ctx.reply_integer(changed as i64);
    Ok(())
}
