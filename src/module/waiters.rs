//! Those who wait, as the server's clients: held back, and answered.
//!
//! A waiter is answered in two steps. The timer's turn looks at its key, has
//! the core decide, and releases the client with the answer; the server then
//! sends that before it takes other commands. Nothing of the answer is looked
//! up in the second step: the value is a copy, one for all waiters of a turn
//! that get the same.

use std::os::raw::{c_int, c_void};
use std::rc::Rc;

use cacheflow_core::index::Db;
use cacheflow_core::leases::{Answer, Event, There, WaiterId};
use cacheflow_core::packing::UnpackError;
use cacheflow_core::units::{Millis, Stamp};
use lazy_static::lazy_static;

use crate::border::cross;
use crate::commands::fetch::{Fetch, State};
use crate::commands::read::native_string;
use crate::commands::Error;
use crate::ffi::args::Str;
use crate::ffi::blocked::{Blocked, Calls, DONE};
use crate::ffi::ctx::Ctx;
use crate::ffi::key::Key;
use crate::ffi::owned::Owned;
use crate::ffi::raw;
use crate::held::{self, Held};
use crate::hot;
use crate::leases;
use crate::locks;
use crate::natives;
use crate::packing;
use crate::shard;
use crate::sight::{see, see_any, Seen};
use crate::slots;
use crate::state::{self, MainThread, COUNTERS};
use crate::stored::Stored;

/// A client that waits.
struct Client {
    lock: bool,
    with_tags: bool,
}

lazy_static! {
    static ref HELD: MainThread<Held<WaiterId, Client>> = MainThread::new(Held::default());
}

/// What a client that waited is answered.
enum Sent {
    Fetch {
        state: State,
        value: Option<Rc<[u8]>>,
        token: Option<Stamp>,
        left: Option<Millis>,
        tags: Option<Vec<Vec<u8>>>,
    },
    Lock(Option<Stamp>),
    WrongType,
    /// Why the value is not to be had.
    Unreadable(UnpackError),
    Unblocked,
    Moved(String),
    Lost,
}

/// Holds the client of a command back.
pub fn hold(ctx: Ctx, name: &[u8], id: WaiterId, lock: bool, with_tags: bool) {
    hot::waited(ctx.database(), name);
    slots::look_if_old(ctx);
    let calls =
        Calls { reply: Some(on_reply), timeout: Some(on_timeout), gone: Some(on_gone), free: Some(on_free) };
    let blocked = Blocked::hold(ctx, calls);
    HELD.with(|held| held.insert(id, blocked, Client { lock, with_tags }));
}

// ── the turn ────────────────────────────────────────────────────────────────

/// Values copied in this turn: the last one.
#[derive(Default)]
pub struct Values {
    last: Option<(*mut c_void, Stamp, Rc<[u8]>)>,
}

impl Values {
    fn of(&mut self, entry: Stored) -> Result<Rc<[u8]>, UnpackError> {
        let (place, born) = (entry.raw().as_ptr(), entry.head().born());
        match &self.last {
            Some((of, at, value)) if (*of, *at) == (place, born) => Ok(value.clone()),
            _ => {
                let value: Rc<[u8]> = packing::with(entry.content(), |bytes| bytes.into())?;
                self.last = Some((place, born, value.clone()));
                Ok(value)
            }
        }
    }
}

/// Does what the core says is to be done about a waiter.
pub fn perform(ctx: Ctx, event: Event, paused: bool, values: &mut Values) {
    match event {
        Event::Look(id) => look(ctx, id, paused, values),
        Event::TimedOut(id, hint) => {
            if let Some(client) = HELD.with(|held| held.take(id)) {
                let answer = time_is_up(&client.of, hint);
                client.answer(answer);
            }
        }
        Event::Unblocked(id) => {
            if let Some(client) = HELD.with(|held| held.take(id)) {
                client.answer(Sent::Unblocked);
            }
        }
        Event::Moved(id, slot) => {
            if let Some(client) = HELD.with(|held| held.take(id)) {
                client.answer(Sent::Moved(slots::redirection(slot)));
            }
        }
    }
}

fn time_is_up(client: &Client, hint: Millis) -> Sent {
    if client.lock {
        return Sent::Lock(None);
    }
    let tags = client.with_tags.then(Vec::new);
    Sent::Fetch { state: State::Busy, value: None, token: None, left: Some(hint), tags }
}

/// A waiter that could not be answered: it is told so, and forgotten.
pub fn abandon(event: Event) {
    let (Event::Look(id) | Event::TimedOut(id, _) | Event::Unblocked(id) | Event::Moved(id, _)) = event;
    if let Some(client) = HELD.with(|held| held.take(id)) {
        client.answer(Sent::Lost);
    }
    leases::forget(id);
}

fn look(ctx: Ctx, id: WaiterId, paused: bool, values: &mut Values) {
    let Some((db, name, lock)) = leases::waiting(id) else { return };
    if lock && paused {
        // Its lock would have to be replicated.
        return leases::postpone(id);
    }
    let name = Owned::new(&name);
    ctx.select(db);
    let sent = if lock {
        look_for_lock(ctx, id, db, name.get())
    } else {
        look_for_fetch(ctx, id, db, name.get(), values)
    };
    let Some(sent) = sent else { return };
    if let Some(client) = HELD.with(|held| held.take(id)) {
        client.answer(sent);
    }
}

/// `None`: it goes on waiting.
fn look_for_lock(ctx: Ctx, id: WaiterId, db: Db, name: Str<'_>) -> Option<Sent> {
    let sight = see_any(db, name.bytes(), &Key::look(ctx, name));
    match leases::resume(id, sight, state::steady_moment())? {
        Answer::Locked { token, .. } => {
            locks::tell_lock(ctx, db, name);
            Some(Sent::Lock(Some(token)))
        }
        Answer::Wait(_) => None,
        _ => Some(Sent::Lock(None)),
    }
}

/// `None`: it goes on waiting.
fn look_for_fetch(ctx: Ctx, id: WaiterId, db: Db, name: Str<'_>, values: &mut Values) -> Option<Sent> {
    let key = Key::read(ctx, name);
    let Some(seen) = see(db, name.bytes(), &key, 0.0) else {
        leases::forget(id);
        return Some(Sent::WrongType);
    };
    let answer = leases::resume(id, seen.sight(db, name.bytes()), state::steady_moment())?;
    if matches!(answer, Answer::Wait(_)) {
        return None;
    }
    count(db, name.bytes(), &seen, answer);
    let (state, with_value, token, left) = outcome(&seen, answer);
    let entry = seen.live().filter(|_| with_value);
    let value = match entry {
        Some(entry) => match values.of(entry) {
            Ok(value) => Some(value),
            Err(why) => return Some(Sent::Unreadable(why)),
        },
        None if seen.there == There::Native => native_string(ctx, name).map(Rc::from),
        None => None,
    };
    let with_tags = HELD.with(|held| held.get(id).is_some_and(|client| client.with_tags));
    let tags = with_tags.then(|| natives::tags_read(ctx, name, seen.there, entry));
    Some(Sent::Fetch { state, value, token, left, tags })
}

/// What an answer is on the wire: the state, whether the value goes with it,
/// the token, the time (`None`: no end).
pub fn outcome(seen: &Seen, answer: Answer) -> (State, bool, Option<Stamp>, Option<Millis>) {
    match answer {
        Answer::Fresh { token } => (State::Fresh, true, token, seen.left),
        Answer::Stale { token } => (State::Stale, true, token, seen.left),
        Answer::Miss { token, length } | Answer::Locked { token, length } => {
            (State::Miss, false, Some(token), Some(length))
        }
        Answer::Busy { hint } => (State::Busy, false, None, Some(hint)),
        Answer::Held | Answer::Wait(_) => (State::Busy, false, None, Some(Millis::ZERO)),
    }
}

/// Counts a FETCH answered with an entry's fresh value.
#[inline]
pub fn count_hit(db: Db, entry: Stored) {
    COUNTERS.hits.add(1);
    shard::tally(db, entry, |tally| tally.hits += 1);
    entry.count_hit();
    hot::read(db, entry);
}

/// Counts what came of a FETCH.
pub fn count(db: Db, name: &[u8], seen: &Seen, answer: Answer) {
    match (answer, seen.live()) {
        (Answer::Fresh { .. }, Some(entry)) => count_hit(db, entry),
        (Answer::Fresh { .. }, None) => COUNTERS.hits.add(1),
        (Answer::Stale { .. }, entry) => {
            COUNTERS.stale_hits.add(1);
            if let Some(entry) = entry {
                shard::tally(db, entry, |tally| tally.stale_hits += 1);
                entry.count_hit();
                hot::read(db, entry);
            }
        }
        (Answer::Miss { .. }, _) => {
            COUNTERS.misses.add(1);
            shard::tally_by_name(db, name, |tally| tally.misses += 1);
        }
        // Counted by the table, and where they are answered.
        _ => {}
    }
}

// ── the server's calls ──────────────────────────────────────────────────────

unsafe extern "C" fn on_reply(
    ctx: *mut raw::RedisModuleCtx,
    _: *mut *mut raw::RedisModuleString,
    _: c_int,
) -> c_int {
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    let replied = cross("waiter_reply", false, || {
        // SAFETY: what the client was answered, or null; freed after
        // this by `on_free`.
        if let Some(sent) = unsafe { Blocked::answer(ctx).cast::<Sent>().as_ref() } {
            reply(ctx, sent);
        }
        true
    });
    if !replied {
        ctx.reply_error(LOST);
    }
    DONE
}

const LOST: &str = "ERR internal error while waiting; see the server's log";

fn reply(ctx: Ctx, sent: &Sent) {
    match sent {
        Sent::Fetch { state, value, token, left, tags } => {
            Fetch {
                state: *state,
                value: value.as_deref(),
                token: *token,
                left: *left,
                tags: tags.as_deref(),
            }
            .reply(ctx);
        }
        Sent::Lock(Some(token)) => ctx.reply_integer(token.0),
        Sent::Lock(None) => ctx.reply_null(),
        Sent::WrongType => {
            ctx.reply_error("WRONGTYPE Operation against a key holding the wrong kind of value");
        }
        Sent::Unreadable(why) => ctx.reply_error(&Error::from(*why).text("cache.fetch")),
        Sent::Unblocked => {
            ctx.reply_error("UNBLOCKED force unblock from blocking operation, the server became a replica");
        }
        Sent::Moved(to) => ctx.reply_error(to),
        Sent::Lost => ctx.reply_error(LOST),
    }
}

unsafe extern "C" fn on_timeout(
    ctx: *mut raw::RedisModuleCtx,
    _: *mut *mut raw::RedisModuleString,
    _: c_int,
) -> c_int {
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    let replied = cross("waiter_timeout", false, || {
        let Some((id, client)) = HELD.with(|held| held.take_client(Blocked::current(ctx))) else {
            return false;
        };
        let hint = leases::cut_short(id);
        reply(ctx, &time_is_up(&client.of, hint));
        client.forget();
        true
    });
    if !replied {
        ctx.reply_error(LOST);
    }
    DONE
}

unsafe extern "C" fn on_gone(_: *mut raw::RedisModuleCtx, blocked: *mut raw::RedisModuleBlockedClient) {
    cross("waiter_gone", (), || {
        // SAFETY: what the server passed.
        let blocked = unsafe { Blocked::told(blocked) };
        // One that is answered already is none of ours any more.
        if let Some((id, client)) = HELD.with(|held| held.take_client(blocked)) {
            client.forget();
            leases::forget(id);
        }
    });
}

unsafe extern "C" fn on_free(_: *mut raw::RedisModuleCtx, answer: *mut c_void) {
    cross("waiter_free", (), || {
        // SAFETY: what the server passed: what a client was answered, or null.
        unsafe { held::free::<Sent>(answer) };
    });
}
