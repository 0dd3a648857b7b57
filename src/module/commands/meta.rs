//! `CACHE.META key`
//!
//! ```text
//! > CACHE.META user:42
//!  1) "state"     2) "fresh"
//!  3) "type"      4) "cacheflow"
//!  5) "bytes"     6) (integer) 3
//!  7) "fresh-ms"  8) (integer) 59000
//!  …
//! ```
//! What is known of a key, or nil. Reads nothing into LRU or statistics.
//!
//! An entry with EXAUTO has five fields more: `exauto` (min and max in seconds),
//! `chosen-ms` (the TTL that was chosen), `ttl-why` (`first`: nothing has been seen
//! yet; `prior`: by what its tag and namespace do; `estimate`: by its own refills;
//! `min`, `max`: it would have been shorter, longer), `change-ms` (the time between two changes
//! as its refills show it, -1 where they have shown none) and `refills` (those that told
//! something, up to 65535).

use cacheflow_core::adaptive::Adaptive;
use cacheflow_core::decide::{ages, Ages};
use cacheflow_core::entry::Meta;
use cacheflow_core::namespace;
use cacheflow_core::units::{Millis, Time};

use super::{Command, Error};
use crate::datatype::ours;
use crate::directives;
use crate::ffi::args::{Args, Str};
use crate::ffi::ctx::{Ctx, Reply};
use crate::ffi::key::{Key, Kind};
use crate::ffi::raw::REDISMODULE_CMD_KEY_RO as RO;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;
use crate::natives;
use crate::natives_told;
use crate::shard;
use crate::state;
use crate::stored::Stored;

pub struct MetaOf;

impl Command for MetaOf {
    const SPEC: Spec = Spec {
        name: c"cache.meta",
        summary: c"Returns what is known of a key as a map: state, type, bytes, times, cost, hits, namespace, tags; nil for an absent key.",
        since: c"0.1.0",
        complexity: c"O(1); for a native key that is no string O(N) in its elements",
        flags: c"readonly fast",
        cluster_flags: None,
        acl: c"read fast",
        arity: 2,
        keys: Keys::First(RO),
        tips: None,
        args: &[Arg::key()],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let name = args.get(1);
        natives_told::settle();
        let key = Key::look(ctx, name);
        let (kind, expire, now) = (key.kind(ours()), key.expire().map(Time), state::now());
        match kind {
            Kind::Absent => reply_absent(ctx, name),
            // SAFETY: a value of our type, in a key that is held open.
            Kind::Ours(value) if !unsafe { Stored::new(value) }.is_companion() => {
                // SAFETY: as above.
                let entry = unsafe { Stored::new(value) };
                let Some(meta) = shard::settled(ctx.database(), name.bytes(), entry) else {
                    reply_absent(ctx, name);
                    return Ok(());
                };
                let ages = ages(&meta, expire, now);
                let sheet = Sheet {
                    state: state_of(&ages),
                    kind: b"cacheflow",
                    bytes: entry.content().length(),
                    meta,
                    ages,
                    tags: shard::tag_names(entry),
                };
                sheet.reply(ctx, name);
            }
            Kind::String | Kind::Other | Kind::Ours(_) => {
                // The length of a string; of what has none, what it takes.
                let length = (kind == Kind::String).then(|| key.length());
                drop(key);
                let ask = |command, sub| ctx.call(command, sub, name);
                let usage = || {
                    let reply = ask(c"MEMORY", Some(c"USAGE"))?;
                    usize::try_from(reply.integer()?).ok()
                };
                let kind = ask(c"TYPE", None);
                let meta = Meta { written: now, ..Meta::default() };
                let ages = ages(&meta, expire, now);
                let sheet = Sheet {
                    state: state_of(&ages),
                    kind: kind.as_ref().and_then(Reply::bytes).unwrap_or_default(),
                    bytes: length.or_else(usage).unwrap_or(0),
                    meta,
                    ages,
                    tags: natives::look(ctx, name.bytes()).unwrap_or_default().1,
                };
                sheet.reply(ctx, name);
            }
        }
        Ok(())
    }
}

/// What is known of a key that is not there: a lease, a lock, waiters, or nil.
fn reply_absent(ctx: Ctx, name: Str<'_>) {
    if leases::about(ctx.database(), name.bytes()) == (Millis::ZERO, 0) {
        return ctx.reply_null();
    }
    let zero = Some(Millis::ZERO);
    let ages = Ages { fresh: false, fresh_for: zero, gone_after: zero, age: Millis::ZERO };
    let sheet =
        Sheet { state: "absent", kind: b"none", bytes: 0, meta: Meta::default(), ages, tags: Vec::new() };
    sheet.reply(ctx, name);
}

fn state_of(ages: &Ages) -> &'static str {
    if ages.fresh {
        "fresh"
    } else {
        "stale"
    }
}

/// What META says.
struct Sheet<'a> {
    state: &'static str,
    kind: &'a [u8],
    bytes: usize,
    meta: Meta,
    ages: Ages,
    tags: Vec<Vec<u8>>,
}

impl Sheet<'_> {
    fn reply(&self, ctx: Ctx, name: Str<'_>) {
        let Ages { fresh_for, gone_after, age, .. } = self.ages;
        let numbers: [(&str, Option<u64>); 6] = [
            ("bytes", Some(self.bytes as u64)),
            ("fresh-ms", fresh_for.map(|Millis(ms)| ms)),
            ("ttl-ms", gone_after.map(|Millis(ms)| ms)),
            ("age-ms", Some(age.0)),
            ("cost-ms", Some(u64::from(self.meta.cost.0))),
            ("hits", Some(self.meta.hits)),
        ];
        ctx.reply_map(numbers.len() + 6 + if self.meta.adaptive.is_some() { 5 } else { 0 });
        let text = |field: &str, value: &[u8]| {
            ctx.reply_bytes(field.as_bytes());
            ctx.reply_bytes(value);
        };
        text("state", self.state.as_bytes());
        text("type", self.kind);
        for (field, value) in numbers {
            ctx.reply_bytes(field.as_bytes());
            match value {
                Some(n) => ctx.reply_integer(n),
                None => ctx.reply_integer(-1),
            }
        }
        text("namespace", namespace::of(name.bytes(), directives::NAMESPACE_DELIMITER.get()));
        ctx.reply_bytes(b"tags");
        ctx.reply_array(self.tags.len());
        self.tags.iter().for_each(|tag| ctx.reply_bytes(tag));
        let (lease, waiters) = leases::about(ctx.database(), name.bytes());
        for (field, n) in [("lease-ms", lease.0), ("waiters", waiters as u64)] {
            ctx.reply_bytes(field.as_bytes());
            ctx.reply_integer(n);
        }
        if let Some(adaptive) = self.meta.adaptive {
            reply_adaptive(ctx, &adaptive, self.meta.length.unwrap_or_default());
        }
    }
}

/// How the TTL was chosen.
fn reply_adaptive(ctx: Ctx, adaptive: &Adaptive, chosen: Millis) {
    ctx.reply_bytes(b"exauto");
    let seconds = adaptive.bounds.seconds();
    ctx.reply_array(seconds.len());
    seconds.into_iter().for_each(|n| ctx.reply_integer(n));
    ctx.reply_bytes(b"chosen-ms");
    ctx.reply_integer(chosen.0);
    ctx.reply_bytes(b"ttl-why");
    ctx.reply_bytes(adaptive.why.label().as_bytes());
    ctx.reply_bytes(b"change-ms");
    match adaptive.record.seen() {
        Some(Millis(ms)) => ctx.reply_integer(ms),
        None => ctx.reply_integer(-1),
    }
    ctx.reply_bytes(b"refills");
    ctx.reply_integer(u32::from(adaptive.record.refills()));
}
