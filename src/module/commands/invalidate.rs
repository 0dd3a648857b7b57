//! `CACHE.INVALIDATE [SOFT] [LOCAL] [TIMEOUT ms] TAGS tag [tag ...]`
//! `CACHE.INVALIDATE [SOFT] [LOCAL] [TIMEOUT ms] NAMESPACE name [name ...]`
//!
//! ```text
//! > CACHE.INVALIDATE TAGS team:7
//! (integer) 12
//! ```
//! Entries with any of the tags, or of the namespace, are dead at once, with
//! SOFT stale; whatever their number, the reply comes at once. Returns how many
//! it hit. Publishes `hard` or `soft` on `cache:<tag>` (`cache:@<namespace>`),
//! for which the user needs the channel permission.

use std::ffi::CStr;

use cacheflow_core::index::Mode;
use cacheflow_core::request_index::InvalidateOptions;
use cacheflow_core::tag::{self, Limits, Names, LONGEST_TAG};

use super::{invalidated, Command, Error};
use crate::ffi::args::Args;
use crate::ffi::client::User;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::invalidation::{self, Kind};
use crate::propagation;
use crate::state;

pub struct Invalidate;

impl Command for Invalidate {
    const SPEC: Spec = Spec {
        name: c"cache.invalidate",
        summary: c"Makes all entries with one of the tags, or of a namespace, dead or stale at once, and returns how many it hit.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of tags or namespaces named, whatever the number of entries",
        // No deny-oom: it frees memory.
        flags: c"write fast",
        acl: c"write fast",
        arity: -3,
        keys: Keys::None,
        tips: Some(c"request_policy:all_shards response_policy:agg_sum"),
        args: &[
            Arg::word(c"soft", c"SOFT").optional(),
            Arg::word(c"local", c"LOCAL").optional(),
            Arg::integer(c"timeout-ms").after(c"TIMEOUT").optional(),
            Arg::choice(
                c"what",
                &[
                    Arg::text(c"tag").after(c"TAGS").multiple(),
                    Arg::text(c"namespace").after(c"NAMESPACE").multiple(),
                ],
            ),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let options = InvalidateOptions::parse(args.from(1))?;
        let kind = if options.namespaces { Kind::Namespaces } else { Kind::Tags };
        let hits = invalidate(ctx, args, kind, options.mode, options.names)?;
        ctx.reply_integer(hits);
        Ok(())
    }
}

/// Invalidates the names that the last arguments are, as a user's command;
/// answers what it hit.
///
/// # Errors
/// A name that is too long to exist, or a user who may not; nothing is done
/// then.
pub fn invalidate(ctx: Ctx, args: Args<'_>, kind: Kind, mode: Mode, names: usize) -> Result<u64, Error> {
    let mut once = Names::new();
    let named = args.last(names);
    // An entry may have longer tags than the directive allows by now. How many
    // are named is the line's affair.
    for some in named.bytes() {
        if some.len() > LONGEST_TAG {
            let limits = Limits { tags: 0, length: LONGEST_TAG };
            tag::once(std::iter::once(some), limits, &mut Names::new())?;
        }
    }
    tag::once_unlimited(named.bytes(), &mut once);
    let user = User::current(ctx);
    if let Some(user) = &user {
        if !once.iter().all(|name| user.may_publish(ctx, &invalidation::channel(kind, name))) {
            return Err(Error::MayNotInvalidate);
        }
    }
    let at = state::moment();
    let hits = invalidation::perform(ctx, kind, mode, &once, at.stamp);
    invalidation::publish(ctx, kind, mode, &once);
    let user = user.as_ref();
    invalidation::log(ctx, &invalidation::Entry { kind, mode, names: &once, hits: &hits, user, at: at.now });
    if propagation::is_heard(ctx) {
        // Below 2^53.
        let stamp = at.stamp.0 as i64;
        ctx.replicate_strings(invalidated::NAME, stamp, [word_of_mode(mode), word_of_kind(kind)], named);
    } else {
        ctx.replicate_verbatim();
    }
    Ok(hits.iter().sum())
}

/// As the internal command writes it.
fn word_of_mode(mode: Mode) -> &'static CStr {
    match mode {
        Mode::Hard => c"HARD",
        Mode::Soft => c"SOFT",
    }
}

fn word_of_kind(kind: Kind) -> &'static CStr {
    match kind {
        Kind::Tags => c"TAGS",
        Kind::Namespaces => c"NAMESPACE",
    }
}
