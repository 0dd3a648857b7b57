//! What the server tells of keys and databases, and what becomes of it.
//!
//! Subscribed to as little as does: every class of notification costs native
//! commands some 10 %. Removals need none, for `unlink2` tells of each.
//!
//! | event | tells of |
//! | --- | --- |
//! | `rename_to`, `move_to`, `copy_to`, `restore` | an entry under a new key |
//! | those, `del`, `key_trimmed`, `rename_from`, `move_from` | a key that a lease may be on was changed |
//! | FLUSHDB | a database emptied, without `unlink2` |
//! | SWAPDB | two databases exchanged |
//!
//! What is loaded needs none either: `rdb_load` knows database and name.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering::Relaxed};

use cacheflow_core::entry::{mark_dead, Meta};
use cacheflow_core::index::Db;
use cacheflow_core::leases::Change;
use cacheflow_core::packing::Content;

use crate::ahead;
use crate::arrivals;
use crate::border::cross;
use crate::datatype::ours;
use crate::directives::key_of_companion;
use crate::ffi::args::Str;
use crate::ffi::ctx::{Ctx, Level};
use crate::ffi::events::{self, subscribe};
use crate::ffi::key::{Key, Kind};
use crate::ffi::raw;
use crate::hot;
use crate::leases;
use crate::natives;
use crate::natives_told;
use crate::shard;
use crate::stored::Stored;
use crate::ttl;

/// The database that MOVE or COPY works from, see [`go_back`].
static SOURCE: AtomicI64 = AtomicI64::new(NO_SOURCE);
const NO_SOURCE: i64 = -1;

/// A context of the module's own, for what is done in no call of the server's.
static OWN: AtomicPtr<raw::RedisModuleCtx> = AtomicPtr::new(std::ptr::null_mut());
static SUBSCRIBED: AtomicBool = AtomicBool::new(false);

/// Of keys of a slot that Redis 8.4 or later has migrated away as a whole. Without
/// a subscription it takes the slot's keys away from under us, telling nobody.
const KEY_TRIMMED: c_int = 1 << 17;

/// Subscribes, but for the generic class: [`on_entry`].
///
/// # Errors
/// Where the server refuses.
pub fn register(ctx: Ctx) -> Result<(), &'static str> {
    OWN.store(ctx.detached(), Relaxed);
    subscribe(ctx, raw::REDISMODULE_EVENT_FLUSHDB, on_flush)?;
    subscribe(ctx, raw::REDISMODULE_EVENT_SWAPDB, on_swap)
}

/// A context of the module's own, of no client: for timers and subscriptions.
pub fn own() -> Ctx {
    // SAFETY: the detached context made at load, never freed.
    unsafe { Ctx::new(OWN.load(Relaxed)) }
}

/// An entry is being made, or the first lease granted. With the first comes the subscription to the
/// generic class, so that a server without entries pays nothing for it (native
/// `SET … EX`, which sends `expire`: 3 % of its time).
#[inline]
pub fn on_entry() {
    if !SUBSCRIBED.load(Relaxed) {
        subscribe_to_generic();
    }
}

#[cold]
fn subscribe_to_generic() {
    SUBSCRIBED.store(true, Relaxed);
    let ctx = own();
    let classes = raw::REDISMODULE_NOTIFY_GENERIC | (events::classes() & KEY_TRIMMED);
    if let Err(why) = events::subscribe_to_keys(ctx, classes, on_generic) {
        ctx.log(Level::Warning, why);
    }
}

unsafe extern "C" fn on_generic(
    ctx: *mut raw::RedisModuleCtx,
    _: c_int,
    event: *const c_char,
    key: *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: what the server passed.
    let (ctx, event, name) = unsafe { (Ctx::new(ctx), CStr::from_ptr(event), Str::new(key)) };
    let take_in = || {
        let db = ctx.database();
        let event = event.to_bytes();
        match event {
            b"rename_to" | b"move_to" => came_under(ctx, name, Came::Moved),
            b"copy_to" => came_under(ctx, name, Came::Copied),
            b"restore" => restored(ctx, name),
            b"move_from" => copies_from(db),
            _ => {}
        }
        match event {
            b"expire" => ttl::was_set(db, name.bytes()),
            b"rename_to" | b"move_to" | b"copy_to" | b"restore" => {
                ttl::changed(name.bytes());
                if !leases::is_quiet() {
                    // In a transaction Valkey 9 names another: the key knows its own.
                    let db = Key::write_untouched(ctx, name).database();
                    leases::changed(db, name.bytes(), Change::Written);
                }
            }
            b"del" | b"key_trimmed" | b"rename_from" | b"move_from" => {
                ahead::deleted(ctx, db, name.bytes());
                leases::changed(db, name.bytes(), Change::Deleted);
            }
            _ => {}
        }
        natives_told::told(ctx, event, name);
        if matches!(event, b"move_to" | b"copy_to") {
            go_back(ctx);
        }
        true
    };
    if !cross("key_event", false, take_in) && !cross("distrust", false, take_in) {
        cross("missed", (), || missed(ctx, event.to_bytes(), name));
    }
    raw::REDISMODULE_OK as c_int
}

/// An arrival that was missed is an entry that the index does not hold: no
/// danger, and taken in when it is next written. But one that came from
/// elsewhere may bear the tags of another database, and what had become of it
/// there is not known: it is dead.
fn missed(ctx: Ctx, event: &[u8], name: Str<'_>) {
    if !matches!(event, b"rename_to" | b"move_to") {
        return;
    }
    if let Kind::Ours(value) = Key::write_untouched(ctx, name).kind(ours()) {
        // SAFETY: a value of our type.
        shard::distrusted(unsafe { Stored::new(value) });
    }
}

/// Notes the database that MOVE or COPY works from.
pub fn copies_from(db: Db) {
    SOURCE.store(db as i64, Relaxed);
}

/// Valkey 8.1 up to 9.1 tells of keys on the client that runs the command, for
/// which it selects the key's database, and leaves it there: after MOVE or
/// COPY … DB the client would be in another database (valkey#4024). We select
/// the one it was in; elsewhere the context is a temporary client's, and it
/// changes nothing. It cannot be helped for COPY … DB of a native key.
fn go_back(ctx: Ctx) {
    if let Ok(db) = Db::try_from(SOURCE.swap(NO_SOURCE, Relaxed)) {
        ctx.select(db);
    }
}

/// How an entry came under its key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// From another.
    Moved,
    Copied,
    /// In a payload.
    Brought,
    /// It was there, and the index did not hold it.
    Found,
}

/// Takes in the entry that is under a key now, as one that bears that name and
/// the tags of that database.
pub fn came_under(ctx: Ctx, name: Str<'_>, how: Came) {
    let key = Key::write_untouched(ctx, name);
    let Kind::Ours(value) = key.kind(ours()) else { return };
    // SAFETY: a value of our type.
    let entry = unsafe { Stored::new(value) };
    let (db, view) = (key.database(), entry.view());
    if entry.is_companion() || key_of_companion(name.bytes()).is_some() {
        drop(key);
        return natives::took_in(db, name, entry, how);
    }
    let change = if how == Came::Moved {
        shard::as_moved(db, name.bytes(), entry)
    } else {
        // A copy is what it has to be; a payload may have been restored by a
        // server that told no name; one that is repaired may be anything.
        (view.name() != name.bytes() || !shard::is_at_home(db, entry)).then(|| view.meta())
    };
    match change {
        Some(meta) => become_of(&key, name, entry, &meta),
        None => shard::arrived(db, name.bytes(), entry),
    }
}

/// Takes in an entry that a payload brought, in a cluster as one from another
/// node.
fn restored(ctx: Ctx, name: Str<'_>) {
    if ctx.is_primary_in_cluster() && key_of_companion(name.bytes()).is_none() {
        let key = Key::write_untouched(ctx, name);
        let Kind::Ours(value) = key.kind(ours()) else { return };
        // SAFETY: a value of our type.
        let entry = unsafe { Stored::new(value) };
        let (db, meta, tags) = (key.database(), entry.view().meta(), shard::tag_names(entry));
        let judged = arrivals::judge(db, name.bytes(), meta, tags.iter().map(Vec::as_slice));
        if judged != meta {
            become_of(&key, name, entry, &judged);
            return arrivals::tell_later(db, name.bytes());
        }
    }
    came_under(ctx, name, Came::Brought);
}

/// Takes in the entry under a key with other metadata than it came with.
fn become_of(key: &Key, name: Str<'_>, entry: Stored, meta: &Meta) {
    let db = key.database();
    let tags = if meta.dead { Vec::new() } else { shard::tag_names(entry) };
    let tags: Vec<&[u8]> = tags.iter().map(Vec::as_slice).collect();
    let value = if meta.dead { Content::NOTHING } else { entry.content() };
    match shard::make(db, meta, name.bytes(), value, &tags) {
        Ok(changed) => {
            // SAFETY: a new entry; the old one is in no index (`unlink2` has
            // run, or it has just been made), and nothing looks at it again.
            unsafe {
                if let Some(old) = key.replace(ours(), changed.raw()) {
                    Stored::new(old).free();
                }
            }
            shard::arrived(db, name.bytes(), changed);
        }
        // No memory: as it is it could outlive an invalidation.
        Err(_) => {
            mark_dead(entry.bytes_mut());
            shard::arrived(db, name.bytes(), entry);
        }
    }
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
        let db = usize::try_from(db).ok();
        shard::flushed(db);
        leases::flushed(db);
        hot::flushed(db);
        ahead::flushed(db);
        natives_told::flushed(db);
    });
}

unsafe extern "C" fn on_swap(
    _: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    _: u64,
    data: *mut c_void,
) {
    let swap = || {
        // SAFETY: what the server passes with this event.
        let (one, other) = unsafe {
            let info = &*data.cast::<raw::RedisModuleSwapDbInfo>();
            (info.dbnum_first, info.dbnum_second)
        };
        if let (Ok(one), Ok(other)) = (usize::try_from(one), usize::try_from(other)) {
            shard::swapped(one, other);
            leases::swapped(one, other);
            hot::swapped(one, other);
            ahead::swapped(one, other);
            natives_told::swapped(one, other);
        }
    };
    // The tags of what lies in them go with them, whatever else is believed.
    shard::told_again("swap_event", swap);
}
