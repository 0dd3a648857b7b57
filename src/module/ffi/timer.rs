//! Timers: a function called once, later, on the main thread.

use std::os::raw::c_void;
use std::ptr::null_mut;

use super::ctx::Ctx;
use super::{api, raw};

/// What is called when the time has come; the data is not used.
pub type Call = unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut c_void);

/// A timer that has not been called yet.
#[derive(Clone, Copy)]
pub struct Timer {
    id: raw::RedisModuleTimerID,
}

/// Has `call` called in so many milliseconds. 0: in this turn of the event loop
/// (from a timer's own call: in 1).
pub fn start(ctx: Ctx, milliseconds: i64, call: Call) -> Timer {
    // SAFETY: the context is live; no data is passed.
    let id = unsafe { api!(RedisModule_CreateTimer)(ctx.raw(), milliseconds, Some(call), null_mut()) };
    Timer { id }
}

/// Has a timer not called any more.
pub fn stop(ctx: Ctx, timer: Timer) {
    // SAFETY: the context is live; a timer that is no more is not found.
    unsafe { api!(RedisModule_StopTimer)(ctx.raw(), timer.id, null_mut()) };
}
