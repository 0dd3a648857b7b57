//! The server's events.

use std::os::raw::{c_char, c_int, c_void};

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
    set_handler(ctx, event, Some(handler))
}

/// Ends the subscription to an event.
///
/// # Errors
/// Where the server does not have it.
pub fn unsubscribe(ctx: Ctx, event: u64) -> Result<(), &'static str> {
    set_handler(ctx, event, None)
}

fn set_handler(ctx: Ctx, event: u64, handler: Option<Handler>) -> Result<(), &'static str> {
    let event = raw::RedisModuleEvent { id: event, dataver: 1 };
    // SAFETY: the context is live; the handler has the type that is asked for,
    // or is none, which ends the subscription.
    let done = unsafe { api!(RedisModule_SubscribeToServerEvent)(ctx.raw(), event, handler) };
    if done == raw::REDISMODULE_OK as c_int {
        Ok(())
    } else {
        Err("the server refused a subscription to its events")
    }
}

/// What the server calls when something happens to a key.
pub type KeyHandler = unsafe extern "C" fn(
    *mut raw::RedisModuleCtx,
    class: c_int,
    event: *const c_char,
    key: *mut raw::RedisModuleString,
) -> c_int;

/// Subscribes `handler` to a class of keyspace events (`REDISMODULE_NOTIFY_*`).
///
/// # Errors
/// Where the server refuses.
pub fn subscribe_to_keys(ctx: Ctx, class: c_int, handler: KeyHandler) -> Result<(), &'static str> {
    // SAFETY: the context is live; the handler has the type that is asked for.
    let done = unsafe { api!(RedisModule_SubscribeToKeyspaceEvents)(ctx.raw(), class, Some(handler)) };
    if done == raw::REDISMODULE_OK as c_int {
        Ok(())
    } else {
        Err("the server refused a subscription to its keyspace events")
    }
}

/// The classes of keyspace events that this server has.
pub fn classes() -> c_int {
    // SAFETY: takes nothing.
    unsafe { api!(RedisModule_GetKeyspaceNotificationFlagsAll)() }
}
