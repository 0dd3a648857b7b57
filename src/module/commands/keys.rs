//! `CACHE.KEYS tag cursor [COUNT n]`
//!
//! ```text
//! > CACHE.KEYS team:7 0
//! 1) "0"
//! 2) 1) "user:42"
//! ```
//! The keys that carry a tag, entries and native ones, in the manner of SCAN.

use cacheflow_core::index::Verdict;
use cacheflow_core::request_index::Page;

use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::natives_told;
use crate::shard::{self, stored};

pub struct KeyList;

impl Command for KeyList {
    const SPEC: Spec = Spec {
        name: c"cache.keys",
        summary: c"Iterates over the keys that carry a tag.",
        since: c"0.1.0",
        complexity: c"O(1) for every call, O(N) for a whole iteration, N being the number of the tag's keys",
        flags: c"readonly",
        cluster_flags: None,
        acl: c"read slow admin dangerous",
        arity: -3,
        keys: Keys::None,
        tips: Some(c"nondeterministic_output request_policy:special response_policy:special"),
        args: &[
            Arg::text(c"tag"),
            Arg::integer(c"cursor"),
            Arg::integer(c"count").after(c"COUNT").optional(),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let page = Page::parse(args.from(2), false)?;
        let (db, tag) = (ctx.database(), args.get(1).bytes());
        natives_told::settle();
        let mut found = Vec::new();
        let next = shard::with(|index| {
            let next =
                index.list_members(db, tag, page.cursor, page.count, |handle| found.push(stored(handle)));
            found.retain(|entry| index.verdict(db, entry.view()) != Verdict::Dead);
            next
        });
        ctx.reply_array(2);
        ctx.reply_bytes(next.to_string().as_bytes());
        ctx.reply_array(found.len());
        found.iter().for_each(|entry| ctx.reply_bytes(entry.view().name()));
        Ok(())
    }
}
