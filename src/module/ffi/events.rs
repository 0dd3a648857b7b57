//! The server's events.

use std::os::raw::{c_int, c_void};

use super::ctx::Ctx;
use super::{api, raw};

/// What the server calls at an event: its context, the event, the subevent,
/// and data that depends on both.
pub type Handler =
    unsafe extern "C" fn(*mut raw::RedisModuleCtx, raw::RedisModuleEvent, subevent: u64, *mut c_void);

/// Subscribes `handler` to an event (`REDISMODULE_EVENT_*`).
///
/// # Errors
/// Where the server does not have it.
pub fn subscribe(ctx: Ctx, event: u64, handler: Handler) -> Result<(), &'static str> {
    let event = raw::RedisModuleEvent { id: event, dataver: 1 };
    // SAFETY: the context is live; the handler has the type that is asked for.
    let done = unsafe { api!(RedisModule_SubscribeToServerEvent)(ctx.raw(), event, Some(handler)) };
    if done == raw::REDISMODULE_OK as c_int {
        Ok(())
    } else {
        Err("the server refused a subscription to its events")
    }
}
