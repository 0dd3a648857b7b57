//! Commands, seen before the server runs them.

use std::os::raw::c_int;

use super::args::Str;
use super::ctx::Ctx;
use super::{api, raw};

/// What the server calls before each command, with that.
pub type Handler = unsafe extern "C" fn(*mut raw::RedisModuleCommandFilterCtx);

/// Has `handler` called before each command that is not this module's own.
///
/// # Errors
/// Where the server refuses.
pub fn watch(ctx: Ctx, handler: Handler) -> Result<(), &'static str> {
    let flags = raw::REDISMODULE_CMDFILTER_NOSELF as c_int;
    // SAFETY: the context is live; the handler has the type that is asked for.
    let filter = unsafe { api!(RedisModule_RegisterCommandFilter)(ctx.raw(), Some(handler), flags) };
    if filter.is_null() {
        Err("the server refused to show its commands")
    } else {
        Ok(())
    }
}

/// A command about to be run.
#[derive(Clone, Copy)]
pub struct Command {
    raw: *mut raw::RedisModuleCommandFilterCtx,
}

impl Command {
    /// # Safety
    /// `raw` is what the server passed to the handler, used within the call.
    pub unsafe fn new(raw: *mut raw::RedisModuleCommandFilterCtx) -> Command {
        Command { raw }
    }

    /// The argument at `at`, 0 being the command's name; `None`: it has fewer.
    #[inline]
    pub fn arg(&self, at: usize) -> Option<&[u8]> {
        let at = c_int::try_from(at).ok()?;
        // SAFETY: live within the call, which the borrow cannot outlast.
        unsafe {
            let arg = api!(RedisModule_CommandFilterArgGet)(self.raw, at);
            (!arg.is_null()).then(|| Str::new(arg).bytes())
        }
    }
}
