//! `CACHE.NAMESPACE SET name [MAXMEMORY bytes] [TTL ms] [GRACE ms] [EXAUTO min
//! max] [MAXFILLS n] [BREAKER percent cooldown-ms] [POLICY COST | LRU | NONE]`
//! `CACHE.NAMESPACE GET name` · `CACHE.NAMESPACE LIST` · `CACHE.NAMESPACE DEL
//! name`
//!
//! ```text
//! > CACHE.NAMESPACE SET product TTL 60000 MAXFILLS 20 BREAKER 50 5000
//! OK
//! > CACHE.NAMESPACE GET product
//! 1) "ttl"
//! 2) (integer) 60000
//! 3) "maxfills"
//! 4) (integer) 20
//! 5) "breaker"
//! 6) 1) (integer) 50
//!    2) (integer) 5000
//! > CACHE.NAMESPACE SET product TTL 0
//! OK
//! ```
//! Settings of a namespace: SET sets what is named and leaves the rest, 0
//! unsets. Of all databases, replicated and saved; a flush leaves them. In a
//! cluster they are the shard's that is asked.
//!
//! Subcommands of their own for the server, so that GET and LIST are reads, on
//! replicas too and for any user, and SET and DEL are for operators.

use cacheflow_core::settings::{Changes, Settings};

use super::{Command, Error};
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::settings;

/// What holds the subcommands.
pub const SPEC: Spec = Spec {
    name: c"cache.namespace",
    summary: c"Settings of namespaces: default times, the protection of their origins, memory.",
    since: c"0.1.0",
    complexity: c"O(1)",
    flags: c"",
    cluster_flags: None,
    acl: c"",
    arity: -2,
    keys: Keys::None,
    tips: None,
    args: &[],
};

const NAME: Arg = Arg::text(c"name");
/// Where the name stands.
const AT: usize = 2;

pub struct Set;

impl Command for Set {
    const SPEC: Spec = Spec {
        name: c"cache.namespace|set",
        summary: c"Sets for a namespace what is named, and unsets what is named with 0. Returns OK.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of namespaces with settings",
        // No deny-oom: MAXMEMORY is what an operator reaches for then.
        flags: c"write",
        cluster_flags: None,
        acl: c"write slow admin dangerous",
        arity: -3,
        keys: Keys::None,
        tips: Some(c"request_policy:all_shards response_policy:all_succeeded"),
        args: &[
            NAME,
            Arg::integer(c"bytes").after(c"MAXMEMORY").optional(),
            Arg::integer(c"ttl-milliseconds").after(c"TTL").optional(),
            Arg::integer(c"grace-milliseconds").after(c"GRACE").optional(),
            Arg::block(c"bounds", &[Arg::integer(c"min-seconds"), Arg::integer(c"max-seconds")])
                .after(c"EXAUTO")
                .optional(),
            Arg::integer(c"leases").after(c"MAXFILLS").optional(),
            Arg::block(c"breaker", &[Arg::integer(c"percent"), Arg::integer(c"cooldown-milliseconds")])
                .after(c"BREAKER")
                .optional(),
            Arg::one_of(
                c"policy",
                &[Arg::word(c"cost", c"COST"), Arg::word(c"lru", c"LRU"), Arg::word(c"none", c"NONE")],
            )
            .after(c"POLICY"),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let changes = Changes::parse(args.from(AT + 1))?;
        let name = args.get(AT).bytes();
        if settings::put(name, settings::of(name).with(&changes))? {
            ctx.replicate_verbatim();
        }
        ctx.reply_ok();
        Ok(())
    }
}

pub struct Get;

impl Command for Get {
    const SPEC: Spec = Spec {
        name: c"cache.namespace|get",
        summary: c"Returns what is set for a namespace as a map, or nil where nothing is.",
        since: c"0.1.0",
        complexity: c"O(1)",
        flags: c"readonly fast",
        cluster_flags: None,
        acl: c"read fast",
        arity: 3,
        keys: Keys::None,
        tips: Some(c"request_policy:all_shards response_policy:special"),
        args: &[NAME],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        match settings::of(args.get(AT).bytes()) {
            settings if settings.is_any() => reply(ctx, &settings),
            _ => ctx.reply_null(),
        }
        Ok(())
    }
}

/// A setting as it is shown.
enum Shown {
    Number(u64),
    Pair(u64, u64),
    Word(&'static str),
}

fn reply(ctx: Ctx, settings: &Settings) {
    let number = |n| (n > 0).then_some(Shown::Number(n));
    let shown = [
        ("maxmemory", number(settings.max_memory)),
        ("ttl", number(settings.ttl.0)),
        ("grace", number(settings.grace.0)),
        ("exauto", settings.exauto.map(|of| Shown::Pair(of.min().0 / 1000, of.max().0 / 1000))),
        ("maxfills", number(settings.max_fills)),
        ("breaker", settings.breaker.map(|of| Shown::Pair(u64::from(of.percent), of.cooldown.0))),
        ("policy", settings.policy.map(|policy| Shown::Word(policy.word()))),
    ];
    let set = || shown.iter().filter_map(|(name, shown)| Some((name, shown.as_ref()?)));
    ctx.reply_map(set().count());
    for (name, shown) in set() {
        ctx.reply_bytes(name.as_bytes());
        match *shown {
            Shown::Number(n) => ctx.reply_integer(n),
            Shown::Word(word) => ctx.reply_bytes(word.as_bytes()),
            Shown::Pair(one, other) => {
                ctx.reply_array(2);
                ctx.reply_integer(one);
                ctx.reply_integer(other);
            }
        }
    }
}

pub struct List;

impl Command for List {
    const SPEC: Spec = Spec {
        name: c"cache.namespace|list",
        summary: c"Returns the names of the namespaces that have settings.",
        since: c"0.1.0",
        complexity: c"O(N log N) where N is the number of namespaces with settings",
        flags: c"readonly",
        cluster_flags: None,
        acl: c"read slow",
        arity: 2,
        keys: Keys::None,
        tips: Some(c"request_policy:all_shards response_policy:special"),
        args: &[],
    };

    fn run(ctx: Ctx, _: Args<'_>) -> Result<(), Error> {
        settings::look(|table| {
            let all = table.all();
            ctx.reply_array(all.len());
            all.iter().for_each(|(name, _)| ctx.reply_bytes(name));
        });
        Ok(())
    }
}

pub struct Del;

impl Command for Del {
    const SPEC: Spec = Spec {
        name: c"cache.namespace|del",
        summary:
            c"Unsets all that is set for a namespace; its entries stay. Returns 1, or 0 where nothing is set.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of namespaces with settings",
        // No deny-oom: it gives memory back.
        flags: c"write",
        cluster_flags: None,
        acl: c"write slow admin dangerous",
        arity: 3,
        keys: Keys::None,
        tips: Some(c"request_policy:all_shards response_policy:agg_max"),
        args: &[NAME],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let was = settings::put(args.get(AT).bytes(), Settings::default())?;
        if was {
            ctx.replicate_verbatim();
        }
        ctx.reply_integer(i64::from(was));
        Ok(())
    }
}
