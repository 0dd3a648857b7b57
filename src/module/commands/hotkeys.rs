//! `CACHE.HOTKEYS [BY HITS|COST|BYTES|WAITS] [COUNT n]`
//!
//! ```text
//! > CACHE.HOTKEYS BY COST COUNT 2
//! 1) 1) "page:/"
//!    2) (integer) 84000
//! 2) 1) "product:7"
//!    2) (integer) 1200
//! ```
//! The heaviest keys of the selected database, the highest figure first. HITS:
//! reads answered with the value. COST: those times what recomputing takes, in ms:
//! the load that the entry takes off the origin. BYTES: of values, sent and stored.
//! WAITS: FETCHes and LOCKs that waited. Figures halve in five minutes. All but
//! WAITS show only keys that still hold something that can be read.

use cacheflow_core::hotkeys::Metric;
use cacheflow_core::leases::There;
use cacheflow_core::request_hot::HotKeysOptions;

use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::key::Key;
use crate::ffi::owned::Owned;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::hot;
use crate::sight::see;

pub struct HotKeyList;

impl Command for HotKeyList {
    const SPEC: Spec = Spec {
        name: c"cache.hotkeys",
        summary: c"Returns the keys that are read most, take most load off the origin, move most bytes or are waited for most, each with its figure.",
        since: c"0.1.0",
        complexity: c"O(N log N) where N is the number of keys that have counters, 1024 at most",
        flags: c"readonly",
        cluster_flags: None,
        acl: c"read slow admin dangerous",
        arity: -1,
        keys: Keys::None,
        tips: Some(c"nondeterministic_output request_policy:special response_policy:special"),
        args: &[
            Arg::one_of(
                c"by",
                &[
                    Arg::word(c"hits", c"HITS"),
                    Arg::word(c"cost", c"COST"),
                    Arg::word(c"bytes", c"BYTES"),
                    Arg::word(c"waits", c"WAITS"),
                ],
            )
            .after(c"BY"),
            Arg::integer(c"count").after(c"COUNT").optional(),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let options = HotKeysOptions::parse(args.from(1))?;
        let mut listed = hot::listed(options.by, ctx.database()).into_iter();
        let mut shown = Vec::new();
        while shown.len() < options.count {
            let Some((name, figure)) = listed.next() else { break };
            if options.by == Metric::Waits || is_there(ctx, &name) {
                shown.push((name, figure));
            }
        }
        ctx.reply_array(shown.len());
        for (name, figure) in &shown {
            ctx.reply_array(2);
            ctx.reply_bytes(name);
            ctx.reply_integer(*figure);
        }
        Ok(())
    }
}

/// Whether a key holds something that a command of ours would answer.
fn is_there(ctx: Ctx, name: &[u8]) -> bool {
    let owned = Owned::new(name);
    let key = Key::look(ctx, owned.get());
    see(ctx.database(), name, &key, 0.0).is_some_and(|seen| seen.there != There::Absent)
}
