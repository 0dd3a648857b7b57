//! Clients held back until they are answered.

use std::os::raw::{c_int, c_void};
use std::ptr::null_mut;

use super::ctx::Ctx;
use super::{api, raw};

/// What is called to answer a client, and when it goes away.
pub struct Calls {
    /// Answers it, when it was released with an answer.
    pub reply: raw::RedisModuleCmdFunc,
    /// Answers it where CLIENT UNBLOCK let it go.
    pub timeout: raw::RedisModuleCmdFunc,
    /// It goes without an answer of ours: closed, killed, unblocked with an
    /// error, the server's role changed.
    pub gone: raw::RedisModuleDisconnectFunc,
    /// Frees an answer.
    pub free: Option<unsafe extern "C" fn(*mut raw::RedisModuleCtx, *mut c_void)>,
}

/// A client that is held back. To be released once, whatever becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Blocked {
    raw: *mut raw::RedisModuleBlockedClient,
}

impl Blocked {
    /// Holds the client of a command back, without a limit: the server's own
    /// are late by up to its cron's period.
    pub fn hold(ctx: Ctx, calls: Calls) -> Blocked {
        // SAFETY: the context is that of a command whose client may block.
        unsafe {
            let raw = api!(RedisModule_BlockClient)(ctx.raw(), calls.reply, calls.timeout, calls.free, 0);
            api!(RedisModule_SetDisconnectCallback)(raw, calls.gone);
            Blocked { raw }
        }
    }

    /// # Safety
    /// `raw` is what the server passed to a callback, used within the call.
    pub unsafe fn told(raw: *mut raw::RedisModuleBlockedClient) -> Blocked {
        Blocked { raw }
    }

    /// The one that a reply's or a timeout's callback is about.
    pub fn current(ctx: Ctx) -> Blocked {
        // SAFETY: the context is that of such a callback.
        Blocked { raw: unsafe { api!(RedisModule_GetBlockedClientHandle)(ctx.raw()) } }
    }

    /// The answer that the reply's callback is to give.
    pub fn answer(ctx: Ctx) -> *mut c_void {
        // SAFETY: the context is that of the callback.
        unsafe { api!(RedisModule_GetBlockedClientPrivateData)(ctx.raw()) }
    }

    /// Lets the client go: the reply's callback is called before the server
    /// takes other commands, unless the client has gone.
    ///
    /// # Safety
    /// It has not been released before; `answer` is what the callbacks take, or
    /// null where the client is answered or gone already.
    pub unsafe fn release(self, answer: *mut c_void) {
        // SAFETY: as promised.
        unsafe { api!(RedisModule_UnblockClient)(self.raw, answer) };
    }

    /// Lets a client go that is answered, or gone.
    ///
    /// # Safety
    /// It has not been released before.
    pub unsafe fn forget(self) {
        // SAFETY: as promised.
        unsafe { self.release(null_mut()) };
    }
}

/// The number of a client that a `CLIENT_CHANGE` event is about; `None` where it
/// has only come.
///
/// # Safety
/// `subevent` and `data` are what the server passed with such an event.
pub unsafe fn client_that_left(subevent: u64, data: *mut c_void) -> Option<u64> {
    if subevent != raw::REDISMODULE_SUBEVENT_CLIENT_CHANGE_DISCONNECTED {
        return None;
    }
    // SAFETY: as promised: the event's data.
    Some(unsafe { (*data.cast::<raw::RedisModuleClientInfoV1>()).id })
}

/// What a callback answers the server.
pub const DONE: c_int = raw::REDISMODULE_OK as c_int;
