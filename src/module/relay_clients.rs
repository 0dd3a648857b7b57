//! The clients that wait for an invalidation to be everywhere: held back, and
//! answered.

use std::collections::HashMap;
use std::os::raw::{c_int, c_void};

use cacheflow_core::relay::{Number, Outcome};
use lazy_static::lazy_static;

use crate::border::cross;
use crate::ffi::blocked::{Blocked, Calls, DONE};
use crate::ffi::ctx::Ctx;
use crate::ffi::raw;
use crate::relay;
use crate::state::MainThread;

#[derive(Default)]
struct Held {
    clients: HashMap<Number, Blocked>,
    numbers: HashMap<Blocked, Number>,
}

impl Held {
    fn take(&mut self, number: Number) -> Option<Blocked> {
        let blocked = self.clients.remove(&number)?;
        self.numbers.remove(&blocked);
        Some(blocked)
    }

    fn take_client(&mut self, blocked: Blocked) -> Option<Number> {
        let number = self.numbers.get(&blocked).copied()?;
        self.take(number).map(|_| number)
    }
}

lazy_static! {
    static ref HELD: MainThread<Held> = MainThread::new(Held::default());
}

/// How many wait.
pub fn count() -> usize {
    HELD.with(|held| held.clients.len())
}

/// Holds the client of a command back.
pub fn hold(ctx: Ctx, number: Number) {
    let calls =
        Calls { reply: Some(on_reply), timeout: Some(on_timeout), gone: Some(on_gone), free: Some(on_free) };
    let blocked = Blocked::hold(ctx, calls);
    HELD.with(|held| {
        held.clients.insert(number, blocked);
        held.numbers.insert(blocked, number);
    });
}

/// Answers the client, if it is still there.
pub fn answer(number: Number, outcome: Outcome) {
    if let Some(blocked) = HELD.with(|held| held.take(number)) {
        let answer = Box::into_raw(Box::new(outcome)).cast::<c_void>();
        // SAFETY: taken out of `HELD`, so it has not been released; the answer
        // is what the callbacks take.
        unsafe { blocked.release(answer) };
    }
}

/// Replies what came of an invalidation.
pub fn reply(ctx: Ctx, outcome: Outcome) {
    match outcome {
        Outcome::All(hits) => ctx.reply_integer(hits),
        Outcome::Partial { done, of } => ctx.reply_error(&format!(
            "PARTIAL {done} of {of} primaries acknowledged; the others are sent it until they do"
        )),
    }
}

unsafe extern "C" fn on_reply(
    ctx: *mut raw::RedisModuleCtx,
    _: *mut *mut raw::RedisModuleString,
    _: c_int,
) -> c_int {
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    let replied = cross("relay_reply", false, || {
        // SAFETY: what `answer` released the client with, or null; freed after
        // this by `on_free`.
        if let Some(outcome) = unsafe { Blocked::answer(ctx).cast::<Outcome>().as_ref() } {
            reply(ctx, *outcome);
        }
        true
    });
    if !replied {
        ctx.reply_error(LOST);
    }
    DONE
}

const LOST: &str = "ERR internal error while waiting for the cluster; see the server's log";

unsafe extern "C" fn on_timeout(
    ctx: *mut raw::RedisModuleCtx,
    _: *mut *mut raw::RedisModuleString,
    _: c_int,
) -> c_int {
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    let replied = cross("relay_timeout", false, || {
        let blocked = Blocked::current(ctx);
        let Some(number) = HELD.with(|held| held.take_client(blocked)) else { return false };
        reply(ctx, relay::cut_short(ctx, number));
        // SAFETY: taken out of `HELD`, so it has not been released.
        unsafe { blocked.forget() };
        true
    });
    if !replied {
        ctx.reply_error(LOST);
    }
    DONE
}

unsafe extern "C" fn on_gone(_: *mut raw::RedisModuleCtx, blocked: *mut raw::RedisModuleBlockedClient) {
    cross("relay_gone", (), || {
        // SAFETY: what the server passed.
        let blocked = unsafe { Blocked::told(blocked) };
        // One that is answered already is none of ours any more.
        if let Some(number) = HELD.with(|held| held.take_client(blocked)) {
            relay::gone(number);
            // SAFETY: taken out of `HELD`, so it has not been released.
            unsafe { blocked.forget() };
        }
    });
}

unsafe extern "C" fn on_free(_: *mut raw::RedisModuleCtx, answer: *mut c_void) {
    cross("relay_free", (), || {
        if !answer.is_null() {
            // SAFETY: what `answer` made, freed once.
            drop(unsafe { Box::from_raw(answer.cast::<Outcome>()) });
        }
    });
}
