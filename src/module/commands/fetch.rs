//! `CACHE.FETCH key [LEASE ms] [KEEP] [BLOCK ms] [MAXSTALE ms] [BETA b]
//! [WITHTAGS]`
//!
//! ```text
//! > CACHE.FETCH user:42 BLOCK 1000
//! 1) "MISS"
//! 2) (nil)
//! 3) (integer) 1790000000000001
//! 4) (integer) 10000
//! > CACHE.SET user:42 "Ada" LEASE 1790000000000001 EX 60 GRACE 300
//! OK
//! > CACHE.FETCH user:42
//! 1) "FRESH"
//! 2) "Ada"
//! 3) (nil)
//! 4) (integer) 60000
//! ```
//! State, value, token, time in ms. Who gets a token computes the value and
//! stores it by `CACHE.SET … LEASE token`; all others wait (BLOCK), or use the
//! stale value meanwhile.

use cacheflow_core::leases::{on_replica, Answer, Ask, There};
use cacheflow_core::request_lease::FetchOptions;
use cacheflow_core::units::{Millis, Stamp};

use super::read::native_string;
use super::{Command, Error};
use crate::directives;
use crate::ffi::args::{Args, Str};
use crate::ffi::ctx::{Ctx, Said};
use crate::ffi::key::Key;
use crate::ffi::raw::{REDISMODULE_CMD_KEY_ACCESS as ACCESS, REDISMODULE_CMD_KEY_RO as RO};
use crate::ffi::register::{Arg, Keys, Spec};
use crate::leases;
use crate::natives;
use crate::packing;
use crate::shard;
use crate::sight::{glance, see, Seen};
use crate::state::{MainThread, COUNTERS};
use crate::waiters::{self, count_hit};

/// FETCH's states.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum State {
    Fresh,
    Stale,
    Miss,
    Busy,
}

impl State {
    fn text(self) -> &'static str {
        match self {
            State::Fresh => "FRESH",
            State::Stale => "STALE",
            State::Miss => "MISS",
            State::Busy => "BUSY",
        }
    }
}

pub struct FetchOf;

impl Command for FetchOf {
    const SPEC: Spec = Spec {
        name: c"cache.fetch",
        summary: c"Returns state, value, token and time of a key. One caller at a time gets a token to compute a missing or stale value; the others get the stale value, wait for the fill (BLOCK), or are told BUSY.",
        since: c"0.1.0",
        complexity: c"O(1), and O(log N) where a lease is granted or waited for, N being the number of leases and waiters",
        flags: c"readonly blocking",
        cluster_flags: None,
        acl: c"read slow blocking",
        arity: -2,
        keys: Keys::First(RO | ACCESS),
        tips: None,
        args: &[
            Arg::key(),
            Arg::integer(c"lease-milliseconds").after(c"LEASE").optional(),
            Arg::word(c"keep", c"KEEP").optional(),
            Arg::integer(c"block-milliseconds").after(c"BLOCK").optional(),
            Arg::integer(c"maxstale-milliseconds").after(c"MAXSTALE").optional(),
            Arg::number(c"beta").after(c"BETA").optional(),
            Arg::word(c"withtags", c"WITHTAGS").optional(),
        ],
    };

    #[inline]
    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let options =
            if args.len() > 2 { FetchOptions::parse(args.from(2))? } else { FetchOptions::default() };
        let (db, name) = (ctx.database(), args.get(1));
        let key = Key::read(ctx, name);
        if let Some((entry, left)) = glance(db, name.bytes(), &key) {
            count_hit(db, entry);
            let tags = options.with_tags.then(|| shard::tag_names(entry));
            packing::with(entry.content(), |value| {
                Fetch { state: State::Fresh, value: Some(value), token: None, left, tags: tags.as_deref() }
                    .reply(ctx);
            })?;
            return Ok(());
        }
        let beta = options.beta.unwrap_or_else(|| directives::XFETCH_BETA.get());
        let seen = see(db, name.bytes(), &key, beta).ok_or(Error::WrongType)?;
        match seen.live() {
            // Before a lease is granted: where it does not unpack, nothing is changed.
            Some(entry) => packing::with(entry.content(), |value| {
                answer(ctx, db, name, key, &options, &seen, Some(value));
            })?,
            None => answer(ctx, db, name, key, &options, &seen, None),
        }
        Ok(())
    }
}

/// Answers who finds no simply fresh value, the key being open; `value`: that of the
/// live entry which is there.
fn answer(
    ctx: Ctx,
    db: usize,
    name: Str<'_>,
    key: Key,
    options: &FetchOptions,
    seen: &Seen,
    value: Option<&[u8]>,
) {
    let answer = match seen.there {
        There::Fresh { elected: false } | There::Native => Answer::Fresh { token: None },
        _ => decide(ctx, db, name, options, seen),
    };
    if let Answer::Wait(id) = answer {
        drop(key);
        waiters::hold(ctx, name.bytes(), id, false, options.with_tags);
        return;
    }
    waiters::count(db, name.bytes(), seen, answer);
    let (state, with_value, token, left) = waiters::outcome(seen, answer);
    let native = if seen.there == There::Native { native_string(ctx, name) } else { None };
    let entry = seen.live().filter(|_| with_value);
    let value = if entry.is_some() { value } else { native.as_deref() };
    let tags = options.with_tags.then(|| natives::tags_read(ctx, name, seen.there, entry));
    Fetch { state, value, token, left, tags: tags.as_deref() }.reply(ctx);
}

/// What somebody gets who finds no simply fresh value.
fn decide(ctx: Ctx, db: usize, name: Str<'_>, options: &FetchOptions, seen: &Seen) -> Answer {
    if ctx.is_replica() {
        let answer = on_replica(seen.there, options.maxstale);
        if matches!(answer, Answer::Busy { .. }) {
            COUNTERS.misses.add(1);
        }
        return answer;
    }
    let sight = seen.sight(db, name.bytes());
    let block = options.block.filter(|_| ctx.may_block());
    leases::fetch(db, name.bytes(), sight, seen.cost, ctx.client_id(), |length, typical| Ask {
        length: options.lease.unwrap_or(length),
        keep: options.keep,
        block,
        maxstale: options.maxstale,
        typical,
    })
}

/// The state of most answers.
static SAID_FRESH: MainThread<Said> = MainThread::new(Said::new());

/// Has the server say the state of most answers once, for all of them.
pub fn learn(ctx: Ctx) {
    SAID_FRESH.with(|said| said.learn(ctx, State::Fresh.text()));
}

/// FETCH's answer.
pub struct Fetch<'a> {
    pub state: State,
    pub value: Option<&'a [u8]>,
    pub token: Option<Stamp>,
    /// `None`: no end.
    pub left: Option<Millis>,
    /// With WITHTAGS.
    pub tags: Option<&'a [Vec<u8>]>,
}

impl Fetch<'_> {
    pub fn reply(&self, ctx: Ctx) {
        ctx.reply_array(4 + usize::from(self.tags.is_some()));
        if self.state != State::Fresh || !SAID_FRESH.with(|said| said.say(ctx)) {
            ctx.reply_bytes(self.state.text().as_bytes());
        }
        match self.value {
            Some(value) => ctx.reply_bytes(value),
            None => ctx.reply_null(),
        }
        match self.token {
            Some(token) => ctx.reply_integer(token.0),
            None => ctx.reply_null(),
        }
        match self.left {
            Some(left) => ctx.reply_integer(left.0),
            None => ctx.reply_integer(-1),
        }
        if let Some(tags) = self.tags {
            ctx.reply_array(tags.len());
            tags.iter().for_each(|tag| ctx.reply_bytes(tag));
        }
    }
}
