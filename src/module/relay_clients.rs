//! The clients that wait for an invalidation to be everywhere: held back, and
//! answered.

use std::os::raw::{c_int, c_void};

use cacheflow_core::relay::{Number, Outcome};
use lazy_static::lazy_static;

use crate::border::cross;
use crate::ffi::blocked::{Blocked, Calls, DONE};
use crate::ffi::ctx::Ctx;
use crate::ffi::raw;
use crate::held::{self, Held};
use crate::relay;
use crate::state::MainThread;

lazy_static! {
    static ref HELD: MainThread<Held<Number, ()>> = MainThread::new(Held::default());
}

/// How many wait.
pub fn count() -> usize {
    HELD.with(|held| held.len())
}

/// Holds the client of a command back.
pub fn hold(ctx: Ctx, number: Number) {
    let calls =
        Calls { reply: Some(on_reply), timeout: Some(on_timeout), gone: Some(on_gone), free: Some(on_free) };
    let blocked = Blocked::hold(ctx, calls);
    HELD.with(|held| held.insert(number, blocked, ()));
}

/// Answers the client, if it is still there.
pub fn answer(number: Number, outcome: Outcome) {
    if let Some(client) = HELD.with(|held| held.take(number)) {
        client.answer(outcome);
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
        // SAFETY: what the client was answered, or null; freed after
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
        let Some((number, client)) = HELD.with(|held| held.take_client(blocked)) else { return false };
        reply(ctx, relay::cut_short(ctx, number));
        client.forget();
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
        if let Some((number, client)) = HELD.with(|held| held.take_client(blocked)) {
            relay::gone(number);
            client.forget();
        }
    });
}

unsafe extern "C" fn on_free(_: *mut raw::RedisModuleCtx, answer: *mut c_void) {
    cross("relay_free", (), || {
        // SAFETY: what the server passed: what a client was answered, or null.
        unsafe { held::free::<Outcome>(answer) };
    });
}
