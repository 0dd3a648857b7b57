//! The cluster's map as this node has it. The API has no "who owns the slot" on
//! Redis 7.0; `CLUSTER SLOTS` is there everywhere, but Valkey 8 must not be asked
//! outside of a client's command: it looks for the connection, and crashes at the
//! null that it finds. There [`owns`] is asked of a key.

use std::os::raw::c_char;

use super::args::{slice, Str};
use super::ctx::Ctx;
use super::{api, raw};

/// Bytes of a node's name.
const NAME: usize = raw::REDISMODULE_NODE_ID_LEN as usize;

/// Whose some slots are.
#[derive(Clone, Debug)]
pub struct Range {
    pub first: u16,
    pub last: u16,
    /// This node's own.
    pub mine: bool,
    /// Those of its shard: its own, or its primary's.
    pub of_shard: bool,
    /// Where clients find the owner, as `host:port`.
    pub address: String,
}

/// A reply that is being looked at.
#[derive(Clone, Copy)]
struct Part {
    raw: *mut raw::RedisModuleCallReply,
}

impl Part {
    /// # Safety
    /// The reply that this is a part of is live, as long as the answer is used.
    unsafe fn element(self, at: usize) -> Option<Part> {
        // SAFETY: as promised; of what is no array there is none.
        let raw = unsafe { api!(RedisModule_CallReplyArrayElement)(self.raw, at) };
        (!raw.is_null()).then_some(Part { raw })
    }

    /// # Safety
    /// As for [`Part::element`].
    unsafe fn number(self) -> Option<u16> {
        // SAFETY: as promised.
        unsafe {
            let is = api!(RedisModule_CallReplyType)(self.raw) == raw::REDISMODULE_REPLY_INTEGER as i32;
            is.then(|| u16::try_from(api!(RedisModule_CallReplyInteger)(self.raw)).ok()).flatten()
        }
    }

    /// Its bytes; none where it is no string.
    ///
    /// # Safety
    /// As for [`Part::element`].
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: as promised.
        unsafe {
            if api!(RedisModule_CallReplyType)(self.raw) == raw::REDISMODULE_REPLY_STRING as i32 {
                slice(api!(RedisModule_CallReplyStringPtr)(self.raw, &mut len), len)
            } else {
                &[]
            }
        }
    }

    /// # Safety
    /// As for [`Part::element`].
    unsafe fn range(self, own: &[u8]) -> Option<Range> {
        // SAFETY: as promised.
        unsafe {
            let (first, last, owner) =
                (self.element(0)?.number()?, self.element(1)?.number()?, self.element(2)?);
            let (host, port, name) =
                (owner.element(0)?.bytes(), owner.element(1)?.number()?, owner.element(2)?.bytes());
            let nodes = (2..api!(RedisModule_CallReplyLength)(self.raw)).filter_map(|at| self.element(at));
            let mut names = nodes.filter_map(|node| node.element(2)).map(|name| name.bytes());
            let of_shard = names.any(|name| name == own);
            let address = format!("{}:{port}", String::from_utf8_lossy(host));
            Some(Range { first, last, mine: name == own, of_shard, address })
        }
    }
}

/// All slots that have an owner; `None` where the server does not say (`CLUSTER`
/// was renamed).
pub fn slots(ctx: Ctx) -> Option<Vec<Range>> {
    // SAFETY: C strings, a live context. The name is the server's own, of that
    // length, or null in no cluster. The reply is freed once, after its last use.
    unsafe {
        let own = api!(RedisModule_GetMyClusterID)();
        if own.is_null() {
            return None;
        }
        let own = slice(own, NAME);
        let word = c"SLOTS".as_ptr();
        let reply =
            api!(RedisModule_Call)(ctx.raw(), c"CLUSTER".as_ptr(), c"c".as_ptr(), word as *const c_char);
        if reply.is_null() {
            return None;
        }
        let all = Part { raw: reply };
        let is_array = api!(RedisModule_CallReplyType)(reply) == raw::REDISMODULE_REPLY_ARRAY as i32;
        let count = if is_array { api!(RedisModule_CallReplyLength)(reply) } else { 0 };
        let ranges = (0..count).filter_map(|at| all.element(at)?.range(own)).collect();
        api!(RedisModule_FreeCallReply)(reply);
        is_array.then_some(ranges)
    }
}

/// Whether a key is in a slot that this node serves; if it cannot be told it is.
/// While the slot is on its way to another node, an absent key is not. A look at the key
/// of the server's own, who checks it.
pub fn owns(ctx: Ctx, key: Str<'_>) -> bool {
    // SAFETY: C strings, a live context and key; the reply is freed once.
    unsafe {
        let reply = api!(RedisModule_Call)(ctx.raw(), c"EXISTS".as_ptr(), c"s".as_ptr(), key.raw());
        if reply.is_null() {
            return std::io::Error::last_os_error().raw_os_error() != Some(libc::EPERM);
        }
        api!(RedisModule_FreeCallReply)(reply);
        true
    }
}
