//! `CACHE.TAGS cursor [MATCH pattern] [COUNT n]`
//!
//! ```text
//! > CACHE.TAGS 0 MATCH team:*
//! 1) "0"
//! 2) 1) "team:7"
//!    2) (integer) 12
//! ```
//! The tags that keys of the selected database carry, each with how many
//! keys, in the manner of SCAN: the cursor that comes back is the next one's
//! argument, 0 is the end, and a tag that is there throughout is told.

use cacheflow_core::glob;
use cacheflow_core::request_index::Page;

use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::natives_told;
use crate::shard;

pub struct TagList;

impl Command for TagList {
    const SPEC: Spec = Spec {
        name: c"cache.tags",
        summary: c"Iterates over the tags that keys carry, each with the number of its keys.",
        since: c"0.1.0",
        complexity: c"O(1) for every call, O(N) for a whole iteration, N being the number of tags",
        flags: c"readonly",
        cluster_flags: None,
        acl: c"read slow admin dangerous",
        arity: -2,
        keys: Keys::None,
        tips: Some(c"nondeterministic_output request_policy:special response_policy:special"),
        args: &[
            Arg::integer(c"cursor"),
            Arg::text(c"pattern").after(c"MATCH").optional(),
            Arg::integer(c"count").after(c"COUNT").optional(),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let page = Page::parse(args.from(1), true)?;
        natives_told::settle();
        let mut found = Vec::new();
        let db = ctx.database();
        let next = shard::with(|index| {
            index.list_tags(db, page.cursor, page.count, |name, entries| {
                if page.pattern.is_none_or(|pattern| glob::matches(pattern, name)) {
                    found.push((name.to_vec(), entries));
                }
            })
        });
        ctx.reply_array(2);
        ctx.reply_bytes(next.to_string().as_bytes());
        ctx.reply_array(2 * found.len());
        for (name, entries) in found {
            ctx.reply_bytes(&name);
            ctx.reply_integer(entries as i64);
        }
        Ok(())
    }
}
