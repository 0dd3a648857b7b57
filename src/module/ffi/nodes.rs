//! The cluster: who is in it, and messages over its bus.

use std::os::raw::{c_char, c_int};

use super::ctx::Ctx;
use super::{api, raw};

/// A node's name, as the API has it: without NUL.
pub type Name = [u8; raw::REDISMODULE_NODE_ID_LEN as usize];

/// A node as this one sees it.
#[derive(Clone, Copy)]
pub struct Seen {
    pub name: Name,
    flags: c_int,
}

impl Seen {
    fn is(self, flag: u32) -> bool {
        self.flags & flag as c_int != 0
    }

    pub fn is_self(self) -> bool {
        self.is(raw::REDISMODULE_NODE_MYSELF)
    }

    pub fn is_primary(self) -> bool {
        self.is(raw::REDISMODULE_NODE_MASTER)
    }

    /// The cluster has agreed that it has failed.
    pub fn has_failed(self) -> bool {
        self.is(raw::REDISMODULE_NODE_FAIL)
    }
}

/// A name that a C function takes: it asks for its length.
fn terminated(name: &Name) -> [u8; raw::REDISMODULE_NODE_ID_LEN as usize + 1] {
    let mut text = [0; raw::REDISMODULE_NODE_ID_LEN as usize + 1];
    text[..name.len()].copy_from_slice(name);
    text
}

/// All nodes that this one knows.
pub fn all(ctx: Ctx) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut count = 0;
    // SAFETY: the list holds `count` names of the length that `Name` has, not
    // terminated; it is freed once, after its last use.
    unsafe {
        let list = api!(RedisModule_GetClusterNodesList)(ctx.raw(), &mut count);
        if list.is_null() {
            return seen;
        }
        for i in 0..count {
            let name: Name = *(*list.add(i)).cast::<Name>();
            let mut flags = 0;
            let done = api!(RedisModule_GetClusterNodeInfo)(
                ctx.raw(),
                terminated(&name).as_ptr().cast::<c_char>(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                &mut flags,
            );
            if done == raw::REDISMODULE_OK as c_int {
                seen.push(Seen { name, flags });
            }
        }
        api!(RedisModule_FreeClusterNodesList)(list);
    }
    seen
}

/// Sends a message to a node; false where there is no link to it.
pub fn send(ctx: Ctx, to: &Name, kind: u8, message: &[u8]) -> bool {
    let Ok(len) = u32::try_from(message.len()) else { return false };
    // SAFETY: a C string; the server copies the message.
    let done = unsafe {
        api!(RedisModule_SendClusterMessage)(
            ctx.raw(),
            terminated(to).as_ptr().cast::<c_char>(),
            kind,
            message.as_ptr().cast::<c_char>(),
            len,
        )
    };
    done == raw::REDISMODULE_OK as c_int
}

/// Has `receive` called with each message of a kind. Nothing without a cluster.
pub fn listen(ctx: Ctx, kind: u8, receive: raw::RedisModuleClusterMessageReceiver) {
    // SAFETY: the context is live.
    unsafe { api!(RedisModule_RegisterClusterMessageReceiver)(ctx.raw(), kind, receive) };
}

/// What a receiver was passed.
///
/// # Safety
/// The arguments are what the server passed to a receiver, within the call.
pub unsafe fn received<'a>(sender: *const c_char, payload: *const u8, len: u32) -> (Name, &'a [u8]) {
    // SAFETY: as promised.
    unsafe { (*sender.cast::<Name>(), super::args::slice(payload.cast::<c_char>(), len as usize)) }
}

/// A number that nobody can guess.
pub fn random() -> u64 {
    let mut bytes = [0; 8];
    // SAFETY: room for as many bytes as are said.
    unsafe { api!(RedisModule_GetRandomBytes)(bytes.as_mut_ptr(), bytes.len()) };
    u64::from_ne_bytes(bytes)
}
