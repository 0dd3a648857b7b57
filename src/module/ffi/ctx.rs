//! The context of a call: replies, replication, events, logging.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_long};

use super::args::Str;
use super::owned::Owned;
use super::{api, raw};

/// The server's context, for the length of a call.
#[derive(Clone, Copy)]
pub struct Ctx {
    raw: *mut raw::RedisModuleCtx,
}

/// A level of the server's log.
#[derive(Clone, Copy)]
pub enum Level {
    Notice,
    Warning,
}

impl Ctx {
    /// # Safety
    /// `raw` is the context that the server passed to the call that the result
    /// is used in; null only for what says that it takes none.
    pub unsafe fn new(raw: *mut raw::RedisModuleCtx) -> Ctx {
        Ctx { raw }
    }

    /// No context: the few functions that do without take it.
    pub fn none() -> Ctx {
        Ctx { raw: std::ptr::null_mut() }
    }

    pub fn raw(self) -> *mut raw::RedisModuleCtx {
        self.raw
    }

    /// A context of the module's own that outlives the call, of no client.
    pub fn detached(self) -> *mut raw::RedisModuleCtx {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_GetDetachedThreadSafeContext)(self.raw) }
    }

    /// The selected database.
    #[inline]
    pub fn database(self) -> usize {
        // SAFETY: the context is live.
        usize::try_from(unsafe { api!(RedisModule_GetSelectedDb)(self.raw) }).unwrap_or(0)
    }

    /// Selects a database; false where there is none of that number.
    pub fn select(self, db: usize) -> bool {
        let Ok(db) = c_int::try_from(db) else { return false };
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_SelectDb)(self.raw, db) == raw::REDISMODULE_OK as c_int }
    }

    /// Replies nil.
    #[inline]
    pub fn reply_null(self) {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_ReplyWithNull)(self.raw) };
    }

    /// Replies a bulk string.
    #[inline]
    pub fn reply_bytes(self, bytes: &[u8]) {
        // SAFETY: the server copies the bytes.
        unsafe {
            api!(RedisModule_ReplyWithStringBuffer)(self.raw, bytes.as_ptr().cast::<c_char>(), bytes.len())
        };
    }

    /// Replies an integer; one past i64 (none is) as its largest.
    pub fn reply_integer(self, n: impl TryInto<i64>) {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_ReplyWithLongLong)(self.raw, n.try_into().unwrap_or(i64::MAX)) };
    }

    /// Replies OK.
    pub fn reply_ok(self) {
        // SAFETY: a C string.
        unsafe { api!(RedisModule_ReplyWithSimpleString)(self.raw, c"OK".as_ptr()) };
    }

    /// Opens an array of `len` replies, which follow.
    pub fn reply_array(self, len: usize) {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_ReplyWithArray)(self.raw, len as c_long) };
    }

    /// Opens a map of `pairs` pairs of replies, which follow (a flat array in
    /// RESP2).
    pub fn reply_map(self, pairs: usize) {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_ReplyWithMap)(self.raw, pairs as c_long) };
    }

    /// Replies an error. `text` must hold no bytes of a user's, for a line end
    /// in it would be the protocol's; control characters are blanked all the
    /// same.
    pub fn reply_error(self, text: &str) {
        let clean = c_text(text);
        // SAFETY: a C string; the server copies it.
        unsafe { api!(RedisModule_ReplyWithError)(self.raw, clean.as_ptr().cast::<c_char>()) };
    }

    /// Sends a keyspace event of the module class.
    #[inline]
    pub fn notify(self, event: &CStr, key: Str<'_>) {
        // SAFETY: a C string, a live key name.
        unsafe {
            api!(RedisModule_NotifyKeyspaceEvent)(
                self.raw,
                raw::REDISMODULE_NOTIFY_MODULE,
                event.as_ptr(),
                key.raw(),
            )
        };
    }

    /// Tells WATCH and CLIENT TRACKING that a key changed.
    #[inline]
    pub fn signal_modified(self, key: Str<'_>) {
        // SAFETY: a live key name.
        unsafe { api!(RedisModule_SignalModifiedKey)(self.raw, key.raw()) };
    }

    /// Sends the keyspace event `del`, as Redis does when a key is deleted.
    pub fn notify_deleted(self, key: Str<'_>) {
        // SAFETY: a C string, a live key name.
        unsafe {
            api!(RedisModule_NotifyKeyspaceEvent)(
                self.raw,
                raw::REDISMODULE_NOTIFY_GENERIC,
                c"del".as_ptr(),
                key.raw(),
            )
        };
    }

    /// Publishes a message, in a cluster to all of its nodes.
    pub fn publish(self, channel: Str<'_>, message: Str<'_>) {
        // SAFETY: live strings.
        unsafe { api!(RedisModule_PublishMessage)(self.raw, channel.raw(), message.raw()) };
    }

    /// The client's number; of no client: 0.
    pub fn client_id(self) -> u64 {
        // SAFETY: the context is live.
        unsafe { api!(RedisModule_GetClientId)(self.raw) }
    }

    /// The server's memory as a share of `maxmemory`; 0 where that is unset.
    pub fn memory_ratio(self) -> f32 {
        // SAFETY: takes nothing.
        unsafe { api!(RedisModule_GetUsedMemoryRatio)() }
    }

    /// Whether nothing may be written just now of our own accord: writes are
    /// paused, as while a failover is under way.
    pub fn is_paused(self) -> bool {
        // SAFETY: takes nothing.
        unsafe { api!(RedisModule_AvoidReplicaTraffic)() != 0 }
    }

    /// Calls a command with a key as its last argument, after `sub` if there is
    /// one. `None` where the server refused, or knows no command of that name
    /// (`rename-command`).
    pub fn call(self, command: &CStr, sub: Option<&CStr>, key: Str<'_>) -> Option<Reply> {
        let call = api!(RedisModule_Call);
        // SAFETY: the formats name the arguments' types.
        let reply = unsafe {
            match sub {
                None => call(self.raw, command.as_ptr(), c"s".as_ptr(), key.raw()),
                Some(sub) => call(self.raw, command.as_ptr(), c"cs".as_ptr(), sub.as_ptr(), key.raw()),
            }
        };
        // Lazily: a `Reply` that is dropped frees what it holds.
        (!reply.is_null()).then(|| Reply { raw: reply })
    }

    /// Whether the server is loading a dataset (start, full resync, DEBUG
    /// RELOAD).
    pub fn is_loading(self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_LOADING as c_int != 0
    }

    /// Whether the command being run came from the primary or the AOF.
    pub fn is_replicated(self) -> bool {
        let by_stream = raw::REDISMODULE_CTX_FLAGS_REPLICATED | raw::REDISMODULE_CTX_FLAGS_LOADING;
        self.flags() & by_stream as c_int != 0
    }

    /// Whether a script or a function is being run.
    pub fn is_script(self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_LUA as c_int != 0
    }

    /// Whether the command comes from a client with a connection. One without
    /// may not block; one with may, but in a transaction.
    pub fn has_connection(self) -> bool {
        let flags = self.flags();
        let is = |flag: u32| flags & flag as c_int != 0;
        !self.is_script()
            && (!is(raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING) || is(raw::REDISMODULE_CTX_FLAGS_MULTI))
    }

    /// Whether the client of the command may be held back: not in a
    /// transaction, a script, or where the server says that it may not.
    pub fn may_block(self) -> bool {
        let not = raw::REDISMODULE_CTX_FLAGS_DENY_BLOCKING
            | raw::REDISMODULE_CTX_FLAGS_MULTI
            | raw::REDISMODULE_CTX_FLAGS_LUA;
        self.flags() & not as c_int == 0
    }

    /// Whether the server is a replica.
    pub fn is_replica(self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_SLAVE as c_int != 0
    }

    /// Whether what is done here is this server's to decide: it is no replica, loads
    /// nothing, and runs no command of its primary's or the AOF's.
    pub fn is_deciding(self) -> bool {
        let not = raw::REDISMODULE_CTX_FLAGS_SLAVE
            | raw::REDISMODULE_CTX_FLAGS_REPLICATED
            | raw::REDISMODULE_CTX_FLAGS_LOADING;
        self.flags() & not as c_int == 0
    }

    /// Whether the server may evict keys: it has a `maxmemory`, and a policy that
    /// allows it.
    pub fn evicts(self) -> bool {
        let both = (raw::REDISMODULE_CTX_FLAGS_MAXMEMORY | raw::REDISMODULE_CTX_FLAGS_EVICT) as c_int;
        self.flags() & both == both
    }

    /// Whether the server is in cluster mode.
    pub fn is_cluster(self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_CLUSTER as c_int != 0
    }

    /// Whether this is a primary of a cluster at work: what comes here comes from
    /// clients and from other nodes, not from a primary of its own or a file.
    pub fn is_primary_in_cluster(self) -> bool {
        let not = raw::REDISMODULE_CTX_FLAGS_SLAVE | raw::REDISMODULE_CTX_FLAGS_LOADING;
        let cluster = raw::REDISMODULE_CTX_FLAGS_CLUSTER;
        self.flags() & (cluster | not) as c_int == cluster as c_int
    }

    /// Whether memory is past `maxmemory`.
    pub fn is_out_of_memory(self) -> bool {
        self.flags() & raw::REDISMODULE_CTX_FLAGS_OOM as c_int != 0
    }

    /// Numbers out of a section of INFO; `None` for a field that is not there.
    pub fn server_info<const N: usize>(self, section: &CStr, fields: [&CStr; N]) -> [Option<u64>; N] {
        // SAFETY: C strings; the data is freed once, after its last use.
        unsafe {
            let data = api!(RedisModule_GetServerInfo)(self.raw, section.as_ptr());
            let values = fields.map(|field| {
                let mut error = 0;
                let value = api!(RedisModule_ServerInfoGetFieldUnsigned)(data, field.as_ptr(), &mut error);
                (error == raw::REDISMODULE_OK as c_int).then_some(value)
            });
            api!(RedisModule_FreeServerInfo)(self.raw, data);
            values
        }
    }

    /// The first number of Valkey's version; Redis says nothing.
    pub fn valkey(self) -> Option<u32> {
        self.version_in(c"valkey_version").map(|(first, _)| first)
    }

    /// The first two numbers of the server's version, and whether it is Valkey.
    pub fn version(self) -> (bool, (u32, u32)) {
        match self.version_in(c"valkey_version") {
            Some(version) => (true, version),
            None => (false, self.version_in(c"redis_version").unwrap_or_default()),
        }
    }

    fn version_in(self, field: &CStr) -> Option<(u32, u32)> {
        // SAFETY: C strings; the data is freed once, after its last use, and the
        // text is its.
        unsafe {
            let data = api!(RedisModule_GetServerInfo)(self.raw, c"server".as_ptr());
            let text = api!(RedisModule_ServerInfoGetFieldC)(data, field.as_ptr());
            let version = (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy());
            let version = version.and_then(|text| {
                let mut numbers = text.split('.').map(|number| number.parse().ok());
                Some((numbers.next()??, numbers.next()??))
            });
            api!(RedisModule_FreeServerInfo)(self.raw, data);
            version
        }
    }

    fn flags(self) -> c_int {
        // SAFETY: takes a null context too.
        unsafe { api!(RedisModule_GetContextFlags)(self.raw) }
    }

    /// Writes a line to the server's log.
    pub fn log(self, level: Level, text: &str) {
        let level = match level {
            Level::Notice => c"notice",
            Level::Warning => c"warning",
        };
        let clean = c_text(text);
        // SAFETY: C strings; the text is an argument and never the format.
        unsafe {
            api!(RedisModule_Log)(self.raw, level.as_ptr(), c"%s".as_ptr(), clean.as_ptr().cast::<c_char>())
        };
    }
}

/// The reply of a command that we called.
pub struct Reply {
    raw: *mut raw::RedisModuleCallReply,
}

impl Reply {
    /// Its integer, where it is one.
    pub fn integer(&self) -> Option<i64> {
        // SAFETY: the reply is live until dropped.
        unsafe {
            let is_integer =
                api!(RedisModule_CallReplyType)(self.raw) == raw::REDISMODULE_REPLY_INTEGER as c_int;
            is_integer.then(|| api!(RedisModule_CallReplyInteger)(self.raw))
        }
    }

    /// Its bytes, where it is a string.
    pub fn bytes(&self) -> Option<&[u8]> {
        let mut len = 0;
        // SAFETY: the reply is live as long as the borrow.
        unsafe {
            let is_string =
                api!(RedisModule_CallReplyType)(self.raw) == raw::REDISMODULE_REPLY_STRING as c_int;
            is_string
                .then(|| super::args::slice(api!(RedisModule_CallReplyStringPtr)(self.raw, &mut len), len))
        }
    }
}

/// A text that is replied often, in the form that the server sends it in: one
/// addition to the output in place of a string's three.
pub struct Said {
    reply: Option<Reply>,
}

impl Said {
    pub const fn new() -> Said {
        Said { reply: None }
    }

    /// Has the server say it once. Where ECHO was renamed it stays as it is, and
    /// is replied as any string.
    pub fn learn(&mut self, ctx: Ctx, text: &str) {
        if self.reply.is_none() {
            let reply = ctx.call(c"ECHO", None, Owned::new(text.as_bytes()).get());
            self.reply = reply.filter(|reply| reply.bytes() == Some(text.as_bytes()));
        }
    }

    /// Replies it; false, with nothing replied, where it was never learnt.
    #[inline]
    pub fn say(&self, ctx: Ctx) -> bool {
        let Some(reply) = &self.reply else { return false };
        // SAFETY: a live context, a live reply.
        let done = unsafe { api!(RedisModule_ReplyWithCallReply)(ctx.raw(), reply.raw) };
        done == raw::REDISMODULE_OK as c_int
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        // SAFETY: ours, and freed once.
        unsafe { api!(RedisModule_FreeCallReply)(self.raw) };
    }
}

/// Text as a C string: control characters become blanks, so that neither the
/// protocol nor the log can be injected into.
pub fn c_text(text: &str) -> Vec<u8> {
    text.bytes().map(|b| if b.is_ascii_control() { b' ' } else { b }).chain([0]).collect()
}
