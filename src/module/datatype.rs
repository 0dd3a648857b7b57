//! The data type `cacheflow`: how entries are saved, loaded, copied, measured
//! and freed.
//!
//! An entry in an RDB file or a DUMP payload is a string of its metadata and its
//! value as it is stored (`cacheflow_core::codec::pack`), or two where the value is long.
//! Its TTL is the key's own and saved by the server. In the AOF it is one
//! `CACHE.APPLY`.
//!
//! Payloads are hostile until they have passed the codec, and a packed value of one
//! until it has been unpacked. That of a file, which has a checksum over all of it,
//! is not: a million of them would take seconds. Reads of it are total all the same.
//! `max-value-size` is
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
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering::Relaxed};

use cacheflow_core::codec::{self, CodecError, Decoded};
use cacheflow_core::decide;
use cacheflow_core::entry::{Cost, Meta};
use cacheflow_core::packing::Content;
use cacheflow_core::saved::Saved;
use cacheflow_core::settings::Table;
use cacheflow_core::tag::Names;
use cacheflow_core::units::{Millis, Stamp, Time};

use crate::ahead;
use crate::border::cross;
use crate::commands::{apply, apply_lock, apply_state};
use crate::directives::key_of_companion;
use crate::ffi::args::Str;
use crate::ffi::ctx::Ctx;
use crate::ffi::io::{self, Io};
use crate::ffi::{api, raw};
use crate::hooks;
use crate::locks;
use crate::memory;
use crate::packing;
use crate::settings;
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
fn restore(db: usize, meta: &[u8], name: &[u8], value: &[u8]) -> Result<Stored, String> {
    let decoded = match codec::decode(meta) {
        // A file is loaded for what it has; a user is told.
        Err(CodecError::Unsaved) if Ctx::none().is_loading() => {
            Decoded { meta: Meta { dead: true, ..Meta::default() }, tags: Names::new(), unpacked: None }
        }
        other => other.map_err(|error| error.to_string())?,
    };
    let content = decoded.content(value).map_err(|error| error.to_string())?;
    if !Ctx::none().is_loading() {
        packing::check(content).map_err(|error| error.to_string())?;
    }
    let meta = Meta { born: state::admit(decoded.meta.born), ..decoded.meta };
    shard::make(db, &meta, name, content, &decoded.tags)
        .map_err(|error| format!("the entry cannot be built: {error:?}"))
}

const TRUNCATED: &str = "it is truncated";

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
        let Some(first) = rdb.load_bytes() else { return refuse(TRUNCATED) };
        let (meta, value) = match codec::unpack(first.bytes()) {
            Ok(parts) => parts,
            Err(why) => return refuse(&why.to_string()),
        };
        let second = if value.is_none() { rdb.load_bytes() } else { None };
        let Some(value) = value.or(second.as_ref().map(|second| second.bytes())) else {
            return refuse(TRUNCATED);
        };
        let (db, name) = (rdb.database(), rdb.key_name());
        match restore(db, meta, name, value) {
            Ok(entry) => {
                if Ctx::none().is_loading() {
                    shard::loaded(db, entry);
                }
                entry.raw().as_ptr()
            }
            Err(why) => refuse(&why),
        }
    })
}

/// Runs `body` on an entry as it is saved: its encoded metadata, settled, and
/// its value; or, for a digest, without what differs between servers that agree. Of a dead one nothing is left but that.
fn with_encoded<R>(db: usize, entry: Stored, saved: bool, body: impl FnOnce(&[u8], &[u8]) -> R) -> R {
    // Not the scratch buffer: a fork or the digest may be in the middle of it.
    let mut meta = Vec::with_capacity(64);
    match decide::settle(entry.view().meta(), shard::verdict_of_held(db, entry)) {
        Some(settled) => {
            // Of what is softly invalidated twice, each server knows since when
            // it is stale as far as its own sweep had come in between.
            let staled_at = if saved { settled.staled_at } else { settled.staled_at.map(|_| Time(0)) };
            shard::encode(&Meta { staled_at, ..settled }, entry, true, saved, &mut meta);
            body(&meta, entry.content().stored())
        }
        None => {
            codec::encode(&DEAD, None, std::iter::empty(), false, &mut meta);
            body(&meta, &[])
        }
    }
}

/// What is saved of an entry that was invalidated.
const DEAD: Meta = Meta {
    born: Stamp(0),
    written: Time(0),
    fresh_until: None,
    length: None,
    grace: Millis::ZERO,
    staled_at: None,
    cost: Cost(0),
    hits: 0,
    dead: true,
    adaptive: None,
};

fn save(rdb: Io, meta: &[u8], value: &[u8]) {
    let (first, second) = codec::pack(meta, value);
    rdb.save_bytes(&first);
    if let Some(second) = second {
        rdb.save_bytes(second);
    }
}

unsafe extern "C" fn rdb_save(rdb: *mut raw::RedisModuleIO, value: *mut c_void) {
    // SAFETY: what the server passed.
    let rdb = unsafe { Io::new(rdb) };
    let saved = cross("rdb_save", false, || {
        // SAFETY: what the server passed.
        let Some(entry) = (unsafe { stored(value) }) else { return false };
        with_encoded(rdb.database(), entry, true, |meta, value| save(rdb, meta, value));
        true
    });
    if !saved {
        exit_child();
        save(rdb, codec::UNSAVED, &[]);
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
        if !emit_state(aof) {
            return false;
        }
        // The server emits the key's TTL behind this.
        with_encoded(aof.database(), entry, true, |meta, value| {
            aof.emit(apply::NAME, key, apply::NO_EXPIRE, meta, value);
        });
        // The state before the first entry has the locks, but their fences take
        // what follows for writes by others. This says that they were none.
        if let Some(numbers) = locks::numbers(aof.database(), key.bytes()) {
            aof.emit_numbers(apply_lock::NAME, key, numbers);
        }
        true
    });
    if !emitted {
        exit_child();
    }
}

unsafe extern "C" fn mem_usage(value: *const c_void) -> usize {
    // SAFETY: what the server passed.
    cross("mem_usage", 0, || unsafe { stored(value) }.map_or(0, memory::usage))
}

unsafe extern "C" fn digest(digest: *mut raw::RedisModuleDigest, value: *mut c_void) {
    cross("digest", (), || {
        // SAFETY: what the server passed.
        let Some(entry) = (unsafe { stored(value) }) else { return };
        // SAFETY: what the server passed.
        let db = unsafe { io::database_digested(digest) };
        with_encoded(db, entry, false, |meta, value| {
            // SAFETY: what the server passed.
            unsafe { io::digest(digest, &[meta, value]) };
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
    // SAFETY: what the server passed.
    let Some(entry) = (unsafe { stored(value) }) else { return };
    state::UNLINKED.add(1);
    // SAFETY: what the server passed.
    let left = || shard::left(unsafe { io::database_left(ctx) }, entry);
    if !shard::told_again("unlink", left) {
        // It may be on its way to another key, where nobody would know what
        // became of it under this one.
        cross("missed", (), || shard::distrusted(entry));
    }
}

unsafe extern "C" fn copy2(ctx: *mut raw::RedisModuleKeyOptCtx, value: *const c_void) -> *mut c_void {
    cross("copy", null_mut(), || {
        // SAFETY: what the server passed.
        let ((from, (to, name)), Some(entry)) =
            (unsafe { (io::database_left(ctx), io::copys_place(ctx)) }, unsafe { stored(value) })
        else {
            return null_mut();
        };
        hooks::copies_from(from);
        let mut meta = shard::as_copied(from, to, name, entry);
        // The companion of a copy is made by us, where the key is copied.
        meta.dead |= entry.is_companion() || key_of_companion(name).is_some();
        let made = if meta.dead {
            Stored::build(&meta, name, Content::NOTHING, &[])
        } else if from == to {
            shard::remake(&meta, name, entry.content(), entry)
        } else {
            let tags = shard::tag_names(entry);
            let tags: Vec<&[u8]> = tags.iter().map(Vec::as_slice).collect();
            shard::make(to, &meta, name, entry.content(), &tags)
        };
        made.map_or(null_mut(), |copy| copy.raw().as_ptr())
    })
}

unsafe extern "C" fn defrag(
    ctx: *mut raw::RedisModuleDefragCtx,
    _: *mut raw::RedisModuleString,
    value: *mut *mut c_void,
) -> c_int {
    shard::told("defrag", || {
        shard::settle_loaded(); // it may be this one, and move
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
    // How much of it is written: a panic in the middle must not leave a head
    // that promises more.
    let mut written = 0;
    let saved = cross("aux_save", false, || {
        let last = state::last_stamp();
        // Nothing drawn, nothing to say: where the server can leave the record
        // out (7.2 and later), the file then loads without the module.
        let latest = shard::with(|index| index.latest());
        let nothing = last == Stamp(0) && latest == Stamp(0) && settings::look(Table::is_empty);
        if nothing && super::server_omits_empty_aux() {
            return true;
        }
        write_state(|part| {
            rdb.save_bytes(part);
            written += 1;
        })
    });
    if !saved {
        exit_child();
        if written == 0 {
            rdb.save_bytes(Saved::NOTHING);
        }
    }
}

/// Tells the shard's state part by part; false where memory ran out.
pub fn write_state(write: impl FnMut(&[u8])) -> bool {
    let Some(hot) = ahead::saved() else { return false };
    locks::with_all(|locks| {
        settings::look(|settings| {
            shard::with(|index| Saved::write(index, locks, settings, &hot, state::last_stamp(), write))
        })
    })
}

/// Emits the shard's state before the first entry of an AOF being rewritten,
/// which has no place for it: this process is a child that rewrites one, and
/// its copy of the flag is its own. False where memory ran out.
fn emit_state(aof: Io) -> bool {
    static EMITTED: AtomicBool = AtomicBool::new(false);
    let emit = |part: &[u8]| aof.emit_bytes(apply_state::NAME, part);
    EMITTED.swap(true, Relaxed) || write_state(emit)
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
        let refuse = |why: &dyn std::fmt::Debug| {
            rdb.log(&format!("cacheflow's state (version {version}) was refused: {why:?}"));
            refused
        };
        let saved = match Saved::decode(bytes.bytes()) {
            Ok(saved) if version == ENCODING_VERSION => saved,
            other => return refuse(&other),
        };
        for _ in 0..saved.parts {
            let Some(part) = rdb.load_bytes() else { return refuse(&"truncated") };
            if let Err(why) = apply_state::remember(part.bytes()) {
                return refuse(&why);
            }
        }
        for _ in 0..saved.locks {
            let Some(part) = rdb.load_bytes() else { return refuse(&"truncated") };
            if let Err(why) = Saved::decode_locks(part.bytes(), |lock| locks::apply(&lock)) {
                return refuse(&why);
            }
        }
        for _ in 0..saved.settings {
            let Some(part) = rdb.load_bytes() else { return refuse(&"truncated") };
            if let Err(why) = apply_state::set(part.bytes()) {
                return refuse(&why);
            }
        }
        for _ in 0..saved.hot {
            let Some(part) = rdb.load_bytes() else { return refuse(&"truncated") };
            if let Err(why) = ahead::restore(part.bytes()) {
                return refuse(&why);
            }
        }
        apply_state::observe(&saved);
        raw::REDISMODULE_OK as c_int
    })
}
