//! What the server tells of keys and databases, and what becomes of it.
//!
//! Subscribed to as little as does: every class of notification costs native
//! commands some 10 %. Removals need none, for `unlink2` tells of each.
//!
//! | event | tells of |
//! | --- | --- |
//! | `rename_to`, `move_to`, `copy_to`, `restore` | an entry under a new key |
//! | `loaded` | an entry from an RDB file, under its key |
//! | FLUSHDB | a database emptied, without `unlink2` |
//! | SWAPDB | two databases exchanged |
//!
//! In `loaded` the key is on the server's stack: its name is copied, and it is
//! neither opened nor retained (Redis 7.0 crashes).

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use crate::border::cross;
use crate::datatype::ours;
use crate::ffi::args::Str;
use crate::ffi::ctx::{Ctx, Level};
use crate::ffi::events::{self, subscribe};
use crate::ffi::key::{Key, Kind};
use crate::ffi::raw;
use crate::shard;
use crate::stored::Stored;

/// A context of the module's own, for subscribing later.
static OWN: AtomicPtr<raw::RedisModuleCtx> = AtomicPtr::new(std::ptr::null_mut());

/// Subscribes, but for the generic class: [`on_entry`].
///
/// # Errors
/// Where the server refuses.
pub fn register(ctx: Ctx) -> Result<(), &'static str> {
    OWN.store(ctx.detached(), Relaxed);
    events::subscribe_to_keys(ctx, raw::REDISMODULE_NOTIFY_LOADED, on_loaded)?;
    subscribe(ctx, raw::REDISMODULE_EVENT_FLUSHDB, on_flush)?;
    subscribe(ctx, raw::REDISMODULE_EVENT_SWAPDB, on_swap)
}

/// An entry is being made. With the first comes the subscription to the
/// generic class, so that a server without entries pays nothing for it (native
/// `SET … EX`, which sends `expire`: 3 % of its time).
#[inline]
pub fn on_entry() {
    if !OWN.load(Relaxed).is_null() {
        subscribe_to_generic();
    }
}

#[cold]
fn subscribe_to_generic() {
    let own = OWN.swap(std::ptr::null_mut(), Relaxed);
    // SAFETY: the detached context made at load, never freed.
    let ctx = unsafe { Ctx::new(own) };
    if let Err(why) = events::subscribe_to_keys(ctx, raw::REDISMODULE_NOTIFY_GENERIC, on_generic) {
        ctx.log(Level::Warning, why);
    }
}

unsafe extern "C" fn on_generic(
    ctx: *mut raw::RedisModuleCtx,
    _: c_int,
    event: *const c_char,
    key: *mut raw::RedisModuleString,
) -> c_int {
    // An arrival that is missed is an entry that the index does not hold: no
    // danger, and taken in when it is next written.
    cross("key_event", (), || {
        // SAFETY: what the server passed.
        let (ctx, event, name) = unsafe { (Ctx::new(ctx), CStr::from_ptr(event), Str::new(key)) };
        if matches!(event.to_bytes(), b"rename_to" | b"move_to" | b"copy_to" | b"restore") {
            came_under(ctx, name);
        }
    });
    raw::REDISMODULE_OK as c_int
}

/// Takes in the entry that is under a key now, and has it bear that name.
fn came_under(ctx: Ctx, name: Str<'_>) {
    let key = Key::write_untouched(ctx, name);
    let Kind::Ours(value) = key.kind(ours()) else { return };
    // SAFETY: a value of our type.
    let mut entry = unsafe { Stored::new(value) };
    let view = entry.view();
    if view.name() != name.bytes() {
        // Its name has another length: it must be laid out anew. Where there
        // is no memory for that, it keeps a name that VERIFY will show.
        if let Ok(renamed) = Stored::build(&view.meta(), name.bytes(), view.value()) {
            // SAFETY: a new entry; the old one is in no index (`unlink2` has
            // run, or it has just been made), and nothing looks at it again.
            unsafe {
                if let Some(old) = key.replace(ours(), renamed.raw()) {
                    Stored::new(old).free();
                }
            }
            entry = renamed;
        }
    }
    shard::arrived(ctx.database(), name.bytes(), entry);
}

unsafe extern "C" fn on_loaded(
    ctx: *mut raw::RedisModuleCtx,
    _: c_int,
    _: *const c_char,
    key: *mut raw::RedisModuleString,
) -> c_int {
    shard::told("loaded_event", || {
        // SAFETY: what the server passed; used within the call alone.
        let (ctx, name) = unsafe { (Ctx::new(ctx), Str::new(key)) };
        shard::loaded_under(ctx.database(), name.bytes());
    });
    raw::REDISMODULE_OK as c_int
}

unsafe extern "C" fn on_flush(
    _: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    subevent: u64,
    data: *mut c_void,
) {
    // Before anything is freed, and once: the end says nothing new.
    if subevent != raw::REDISMODULE_SUBEVENT_FLUSHDB_START {
        return;
    }
    shard::told("flush_event", || {
        // SAFETY: what the server passes with this event.
        let db = unsafe { (*data.cast::<raw::RedisModuleFlushInfo>()).dbnum };
        shard::flushed(usize::try_from(db).ok());
    });
}

unsafe extern "C" fn on_swap(
    _: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    data: *mut c_void,
) {
    shard::told("swap_event", || {
        // SAFETY: what the server passes with this event.
        let (one, other) = unsafe {
            let info = &*data.cast::<raw::RedisModuleSwapDbInfo>();
            (info.dbnum_first, info.dbnum_second)
        };
        if let (Ok(one), Ok(other)) = (usize::try_from(one), usize::try_from(other)) {
            shard::swapped(one, other);
        }
    });
}
