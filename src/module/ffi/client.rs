//! Who sent the command: name, address, what he may.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};

use super::ctx::Ctx;
use super::owned::Owned;
use super::{api, raw};

/// The user that runs a command.
pub struct User {
    raw: *mut raw::RedisModuleUser,
    name: Owned,
}

impl User {
    /// The user of the command being run; `None` where it comes from nobody in
    /// particular (the primary, the AOF, a module of its own accord), who may
    /// everything.
    pub fn current(ctx: Ctx) -> Option<User> {
        if ctx.is_replicated() {
            return None;
        }
        // Inside of a script the client is the script's, which no list has, but
        // which bears the caller's user. Elsewhere it may be a client without
        // one, of which Redis 7.0 must not be asked the current user.
        // SAFETY: the context is that of a command; strings and users given
        // here are ours.
        unsafe {
            let name = if ctx.is_script() {
                api!(RedisModule_GetCurrentUserName)(ctx.raw())
            } else {
                api!(RedisModule_GetClientUserNameById)(ctx.raw(), ctx.client_id())
            };
            let name = Owned::given(name)?;
            let user = api!(RedisModule_GetModuleUserFromUserName)(name.get().raw());
            // Lazily: a `User` that is dropped frees what it holds.
            (!user.is_null()).then(|| User { raw: user, name })
        }
    }

    pub fn name(&self) -> &[u8] {
        self.name.get().bytes()
    }

    /// Whether the user may publish on a channel; that he may not goes into
    /// ACL LOG.
    pub fn may_publish(&self, ctx: Ctx, channel: &Owned) -> bool {
        // SAFETY: user and strings are live.
        unsafe {
            let may = api!(RedisModule_ACLCheckChannelPermissions)(
                self.raw,
                channel.get().raw(),
                raw::REDISMODULE_CMD_CHANNEL_PUBLISH as c_int,
            ) == raw::REDISMODULE_OK as c_int;
            if !may {
                api!(RedisModule_ACLAddLogEntry)(
                    ctx.raw(),
                    self.raw,
                    channel.get().raw(),
                    raw::RedisModuleACLLogEntryReason_REDISMODULE_ACL_LOG_CHANNEL,
                );
            }
            may
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        // SAFETY: given to us, freed once; the user itself stays.
        unsafe { api!(RedisModule_FreeModuleUser)(self.raw) };
    }
}

/// `address:port` of the client that runs the command; `None` where it is none
/// with a connection: a script's or another module's own client. Of such a one
/// Valkey 9.1 must not be asked: it finds it by its number, and crashes at the
/// connection that is not there.
pub fn address(ctx: Ctx) -> Option<String> {
    if !ctx.has_connection() {
        return None;
    }
    // SAFETY: a C struct of integers and characters, for which zeros are valid.
    let mut info: raw::RedisModuleClientInfoV1 = unsafe { std::mem::zeroed() };
    info.version = raw::REDISMODULE_CLIENTINFO_VERSION as u64;
    let place = std::ptr::from_mut(&mut info).cast::<c_void>();
    // SAFETY: the server fills the structure of the version named in it.
    let done = unsafe { api!(RedisModule_GetClientInfoById)(place, ctx.client_id()) };
    if done != raw::REDISMODULE_OK as c_int {
        return None;
    }
    // SAFETY: the server ends the address with NUL within its array.
    let address = unsafe { CStr::from_ptr(info.addr.as_ptr().cast::<c_char>()) };
    Some(format!("{}:{}", address.to_string_lossy(), info.port))
}
