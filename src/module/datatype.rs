//! The data type `cacheflow`: how entries are saved, loaded, copied, measured
//! and freed.
//!
//! An entry in an RDB file or a DUMP payload is two strings: its metadata
//! (`cacheflow_core::codec`) and its value, raw. Its TTL is the key's own and
//! saved by the server. In the AOF it is one `CACHE.APPLY`.
//!
//! Payloads are hostile until they have passed the codec. `max-value-size` is
//! not asked: an entry that was stored before it was lowered must still load and
//! migrate. A birth stamp that one brings cannot push this shard's clock
//! (`StampClock::admit`).
//!
//! A panic while something is saved must not leave a file that says it is
//! whole and cannot be loaded: a forked child exits, so that the save fails
//! and the last good file stays; where the server itself saves (SAVE, DUMP), a
//! mark is written in place of the entry, which loads as a dead one from a file
//! and which RESTORE refuses.
//!
//! When you add to the metadata: nothing here changes. When you add state that
//! is no entry's: `cacheflow_core::saved`.

use std::os::raw::{c_char, c_int, c_void};
use std::ptr::{null_mut, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use cacheflow_core::codec::{self, CodecError};
use cacheflow_core::entry::Meta;
use cacheflow_core::saved::Saved;

use crate::border::cross;
use crate::commands::apply;
use crate::ffi::args::Str;
use crate::ffi::ctx::Ctx;
use crate::ffi::io::{self, Io};
use crate::ffi::{api, raw};
use crate::shard;
use crate::state::{self, COUNTERS};
use crate::stored::Stored;

const ENCODING_VERSION: c_int = 1;

static TYPE: AtomicPtr<raw::RedisModuleType> = AtomicPtr::new(null_mut());

/// Our type, for opening keys.
#[inline]
pub fn ours() -> *mut raw::RedisModuleType {
    TYPE.load(Relaxed)
}

/// Registers the type.
///
/// # Errors
/// Where the server refuses it.
pub fn register(ctx: Ctx) -> Result<(), &'static str> {
    let mut methods = raw::RedisModuleTypeMethods {
        version: u64::from(raw::REDISMODULE_TYPE_METHOD_VERSION),
        rdb_load: Some(rdb_load),
        rdb_save: Some(rdb_save),
        aof_rewrite: Some(aof_rewrite),
        mem_usage: Some(mem_usage),
        digest: Some(digest),
        free: Some(free),
        aux_load: Some(aux_load),
        aux_save: Some(aux_save),
        aux_save_triggers: raw::REDISMODULE_AUX_BEFORE_RDB as c_int,
        free_effort: None,
        unlink: None,
        copy: None,
        defrag: Some(defrag),
        mem_usage2: None,
        free_effort2: Some(free_effort2),
        unlink2: Some(unlink2),
        copy2: Some(copy2),
        aux_save2: Some(aux_save),
    };
    // SAFETY: the name has the nine characters that a type's name must have.
    let made = unsafe {
        api!(RedisModule_CreateDataType)(
            ctx.raw(),
            c"cacheflow".as_ptr().cast::<c_char>(),
            ENCODING_VERSION,
            &mut methods,
        )
    };
    if made.is_null() {
        return Err("the server refused the data type");
    }
    TYPE.store(made, Relaxed);
    Ok(())
}

/// # Safety
/// `value` is a value of our type that the server holds.
unsafe fn stored(value: *const c_void) -> Option<Stored> {
    // SAFETY: as promised.
    NonNull::new(value.cast_mut()).map(|value| unsafe { Stored::new(value) })
}

/// An entry from an RDB file or a DUMP payload.
fn restore(meta: &[u8], name: &[u8], value: &[u8]) -> Result<Stored, String> {
    let meta = match codec::decode(meta) {
        // A file is loaded for what it has; a user is told.
        Err(CodecError::Unsaved) if Ctx::none().is_loading() => Meta { dead: true, ..Meta::default() },
        other => other.map_err(|error| error.to_string())?,
    };
    let meta = Meta { born: state::admit(meta.born), ..meta };
    Stored::build(&meta, name, value).map_err(|error| format!("the entry cannot be built: {error:?}"))
}

unsafe extern "C" fn rdb_load(rdb: *mut raw::RedisModuleIO, version: c_int) -> *mut c_void {
    cross("rdb_load", null_mut(), || {
        // SAFETY: what the server passed.
        let rdb = unsafe { Io::new(rdb) };
        let refuse = |why: &str| {
            COUNTERS.refused_payloads.add(1);
            rdb.log(&format!("a cacheflow entry was refused: {why}"));
            null_mut()
        };
        if version != ENCODING_VERSION {
            return refuse("it is of a version that this build does not know");
        }
        let (Some(meta), Some(value)) = (rdb.load_bytes(), rdb.load_bytes()) else {
            return refuse("it is truncated");
        };
        match restore(meta.bytes(), rdb.key_name(), value.bytes()) {
            Ok(entry) => {
                if Ctx::none().is_loading() {
                    shard::loaded(entry);
                }
                entry.raw().as_ptr()
            }
            Err(why) => refuse(&why),
        }
    })
}

/// Runs `body` on the encoded metadata of an entry.
fn with_encoded<R>(entry: Stored, with_hits: bool, body: impl FnOnce(&[u8]) -> R) -> R {
    // Not the scratch buffer: a fork or the digest may be in the middle of it.
    let mut meta = Vec::with_capacity(64);
    codec::encode(&entry.view().meta(), with_hits, &mut meta);
    body(&meta)
}

unsafe extern "C" fn rdb_save(rdb: *mut raw::RedisModuleIO, value: *mut c_void) {
    // SAFETY: what the server passed.
    let rdb = unsafe { Io::new(rdb) };
    let saved = cross("rdb_save", false, || {
        // SAFETY: what the server passed.
        let Some(entry) = (unsafe { stored(value) }) else { return false };
        with_encoded(entry, true, |meta| {
            rdb.save_bytes(meta);
            rdb.save_bytes(entry.view().value());
        });
        true
    });
    if !saved {
        exit_child();
        rdb.save_bytes(codec::UNSAVED);
        rdb.save_bytes(&[]);
    }
}

unsafe extern "C" fn aof_rewrite(
    aof: *mut raw::RedisModuleIO,
    key: *mut raw::RedisModuleString,
    value: *mut c_void,
) {
    let emitted = cross("aof_rewrite", false, || {
        // SAFETY: what the server passed.
        let (aof, key) = unsafe { (Io::new(aof), Str::new(key)) };
        // SAFETY: as above.
        let Some(entry) = (unsafe { stored(value) }) else { return false };
        // The server emits the key's TTL behind this.
        with_encoded(entry, true, |meta| {
            aof.emit(apply::NAME, key, apply::NO_EXPIRE, meta, entry.view().value());
        });
        true
    });
    if !emitted {
        exit_child();
    }
}

unsafe extern "C" fn mem_usage(value: *const c_void) -> usize {
    // SAFETY: what the server passed.
    cross("mem_usage", 0, || unsafe { stored(value) }.map_or(0, Stored::allocated))
}

unsafe extern "C" fn digest(digest: *mut raw::RedisModuleDigest, value: *mut c_void) {
    cross("digest", (), || {
        // SAFETY: what the server passed.
        let Some(entry) = (unsafe { stored(value) }) else { return };
        with_encoded(entry, false, |meta| {
            // SAFETY: what the server passed.
            unsafe { io::digest(digest, &[meta, entry.view().value()]) };
        });
    });
}

unsafe extern "C" fn free(value: *mut c_void) {
    cross("free", (), || {
        // SAFETY: what the server passed; it does not use it any more.
        unsafe {
            if let Some(entry) = stored(value) {
                shard::freed(entry);
                entry.free();
            }
        }
    });
}

/// Giving a large block back takes long enough to leave it to the lazy-free
/// thread: past some 4 MB (the server's threshold is an effort of 64).
unsafe extern "C" fn free_effort2(_: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) -> usize {
    const BYTES_AN_EFFORT: usize = 1 << 16;
    cross("free_effort", 1, || {
        // SAFETY: what the server passed.
        unsafe { stored(value) }.map_or(1, |entry| 1 + entry.view().size() / BYTES_AN_EFFORT)
    })
}

unsafe extern "C" fn unlink2(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) {
    shard::told("unlink", || {
        // SAFETY: what the server passed.
        unsafe {
            if let Some(entry) = stored(value) {
                shard::left(io::database_left(ctx), entry);
                state::UNLINKED.add(1);
            }
        }
    });
}

unsafe extern "C" fn copy2(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) -> *mut c_void {
    cross("copy", null_mut(), || {
        // SAFETY: what the server passed.
        let (name, Some(entry)) = (unsafe { io::copys_name(ctx) }, unsafe { stored(value) }) else {
            return null_mut();
        };
        let view = entry.view();
        match Stored::build(&view.meta(), name, view.value()) {
            Ok(copy) => copy.raw().as_ptr(),
            Err(_) => null_mut(),
        }
    })
}

unsafe extern "C" fn defrag(
    ctx: *mut raw::RedisModuleDefragCtx,
    _: *mut raw::RedisModuleString,
    value: *mut *mut c_void,
) -> c_int {
    shard::told("defrag", || {
        // SAFETY: what the server passed.
        unsafe {
            if io::defrag(ctx, value) {
                if let Some(entry) = stored(*value) {
                    shard::moved(io::database_defragged(ctx), entry);
                }
            }
        }
    });
    0
}

unsafe extern "C" fn aux_save(rdb: *mut raw::RedisModuleIO, _: c_int) {
    // SAFETY: what the server passed.
    let rdb = unsafe { Io::new(rdb) };
    let encoded = cross("aux_save", None, || {
        let saved = Saved { stamp: state::last_stamp().0 };
        // Nothing drawn, nothing to say: where the server can leave the record
        // out (7.2 and later), the file then loads without the module.
        if saved == Saved::default() && super::server_omits_empty_aux() {
            return Some(Vec::new());
        }
        saved.encode()
    });
    match encoded {
        Some(bytes) if bytes.is_empty() => {}
        Some(bytes) => rdb.save_bytes(&bytes),
        None => {
            exit_child();
            rdb.save_bytes(Saved::NOTHING);
        }
    }
}

/// Ends this process where it is a child that saves.
fn exit_child() {
    if !state::is_main_process() {
        // SAFETY: ends the child as the server's own `exitFromChild` does,
        // without running what belongs to the parent.
        unsafe { libc::_exit(1) };
    }
}

unsafe extern "C" fn aux_load(rdb: *mut raw::RedisModuleIO, version: c_int, _: c_int) -> c_int {
    let refused = raw::REDISMODULE_ERR as c_int;
    cross("aux_load", refused, || {
        // SAFETY: what the server passed.
        let rdb = unsafe { Io::new(rdb) };
        let Some(bytes) = rdb.load_bytes() else {
            rdb.log("cacheflow's state is truncated");
            return refused;
        };
        match Saved::decode(bytes.bytes()) {
            Ok(saved) if version == ENCODING_VERSION => {
                state::observe(saved.stamp());
                raw::REDISMODULE_OK as c_int
            }
            other => {
                rdb.log(&format!("cacheflow's state (version {version}) was refused: {other:?}"));
                refused
            }
        }
    })
}
