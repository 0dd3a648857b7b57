//! The clients that wait for something to recompute: held back, and answered.

use std::os::raw::{c_int, c_void};

use cacheflow_core::workers::WorkerId;
use lazy_static::lazy_static;

use crate::ahead::{self, Offer};
use crate::border::cross;
use crate::ffi::blocked::{Blocked, Calls, DONE};
use crate::ffi::ctx::Ctx;
use crate::ffi::raw;
use crate::held::{self, Held};
use crate::state::MainThread;

lazy_static! {
    static ref HELD: MainThread<Held<WorkerId, ()>> = MainThread::new(Held::default());
}

/// What a worker that waited is answered.
enum Sent {
    Offers(Vec<Offer>),
    Unblocked,
}

/// Holds the client of a command back.
pub fn hold(ctx: Ctx, id: WorkerId) {
    let calls =
        Calls { reply: Some(on_reply), timeout: Some(on_timeout), gone: Some(on_gone), free: Some(on_free) };
    let blocked = Blocked::hold(ctx, calls);
    HELD.with(|held| held.insert(id, blocked, ()));
}

/// Answers a worker, if it is still there.
pub fn answer(id: WorkerId, offers: Vec<Offer>) {
    if let Some(client) = HELD.with(|held| held.take(id)) {
        client.answer(Sent::Offers(offers));
    }
}

/// Tells a worker that the server has become a replica.
pub fn unblock(id: WorkerId) {
    if let Some(client) = HELD.with(|held| held.take(id)) {
        client.answer(Sent::Unblocked);
    }
}

/// Replies what is to be recomputed.
pub fn reply(ctx: Ctx, offers: &[Offer]) {
    ctx.reply_array(offers.len());
    for offer in offers {
        ctx.reply_array(3);
        ctx.reply_bytes(&offer.name);
        ctx.reply_integer(offer.token.0);
        ctx.reply_integer(offer.length.0);
    }
}

unsafe extern "C" fn on_reply(
    ctx: *mut raw::RedisModuleCtx,
    _: *mut *mut raw::RedisModuleString,
    _: c_int,
) -> c_int {
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    let replied = cross("refresh_reply", false, || {
        // SAFETY: what the client was answered, or null; freed after
        // this by `on_free`.
        match unsafe { Blocked::answer(ctx).cast::<Sent>().as_ref() } {
            Some(Sent::Offers(offers)) => reply(ctx, offers),
            Some(Sent::Unblocked) => ctx
                .reply_error("UNBLOCKED force unblock from blocking operation, the server became a replica"),
            None => {}
        }
        true
    });
    if !replied {
        ctx.reply_error(LOST);
    }
    DONE
}

const LOST: &str = "ERR internal error while waiting for work; see the server's log";

unsafe extern "C" fn on_timeout(
    ctx: *mut raw::RedisModuleCtx,
    _: *mut *mut raw::RedisModuleString,
    _: c_int,
) -> c_int {
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    let replied = cross("refresh_timeout", false, || {
        let blocked = Blocked::current(ctx);
        let Some((id, client)) = HELD.with(|held| held.take_client(blocked)) else { return false };
        ahead::forget_worker(id);
        reply(ctx, &[]);
        client.forget();
        true
    });
    if !replied {
        ctx.reply_error(LOST);
    }
    DONE
}

unsafe extern "C" fn on_gone(_: *mut raw::RedisModuleCtx, blocked: *mut raw::RedisModuleBlockedClient) {
    cross("refresh_gone", (), || {
        // SAFETY: what the server passed.
        let blocked = unsafe { Blocked::told(blocked) };
        // One that is answered already is none of ours any more.
        if let Some((id, client)) = HELD.with(|held| held.take_client(blocked)) {
            ahead::forget_worker(id);
            client.forget();
        }
    });
}

unsafe extern "C" fn on_free(_: *mut raw::RedisModuleCtx, answer: *mut c_void) {
    cross("refresh_free", (), || {
        // SAFETY: what the server passed: what a client was answered, or null.
        unsafe { held::free::<Sent>(answer) };
    });
}
