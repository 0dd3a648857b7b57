//! Timers: a function called once, later, on the main thread.

use std::os::raw::c_void;

use super::ctx::Ctx;
use super::{api, raw};

/// What is called when the time has come; the data is not used.
pub type Call = unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut c_void);

/// Has `call` called in so many milliseconds (1 is the shortest that the server
/// keeps).
pub fn start(ctx: Ctx, milliseconds: i64, call: Call) {
    // SAFETY: the context is live; no data is passed.
    unsafe { api!(RedisModule_CreateTimer)(ctx.raw(), milliseconds, Some(call), std::ptr::null_mut()) };
}
