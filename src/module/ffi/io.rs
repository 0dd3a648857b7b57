//! Saving and loading: RDB files, DUMP payloads, the AOF, digests.

use std::ffi::CStr;
use std::os::raw::{c_char, c_longlong};

use super::args::{slice, Str};
use super::{api, raw};

/// An RDB stream, or an AOF being rewritten.
#[derive(Clone, Copy)]
pub struct Io {
    raw: *mut raw::RedisModuleIO,
}

/// Bytes that the server loaded for us.
pub struct Loaded {
    ptr: *mut c_char,
    len: usize,
}

impl Loaded {
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the server's buffer of that length, ours until dropped.
        unsafe { slice(self.ptr, self.len) }
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        // SAFETY: allocated by the server for us to free, once.
        unsafe { api!(RedisModule_Free)(self.ptr.cast()) };
    }
}

impl Io {
    /// # Safety
    /// `raw` is what the server passed to the callback that uses the result.
    pub unsafe fn new(raw: *mut raw::RedisModuleIO) -> Io {
        Io { raw }
    }

    pub fn save_bytes(self, bytes: &[u8]) {
        // SAFETY: the server copies the bytes.
        unsafe { api!(RedisModule_SaveStringBuffer)(self.raw, bytes.as_ptr().cast::<c_char>(), bytes.len()) };
    }

    /// The next string, or `None` where the stream is broken there.
    pub fn load_bytes(self) -> Option<Loaded> {
        let mut len = 0;
        // SAFETY: the module handles I/O errors, so a broken stream answers
        // null or raises the stream's error flag.
        unsafe {
            let ptr = api!(RedisModule_LoadStringBuffer)(self.raw, &mut len);
            if ptr.is_null() {
                return None;
            }
            let loaded = Loaded { ptr, len };
            (api!(RedisModule_IsIOError)(self.raw) == 0).then_some(loaded)
        }
    }

    /// The name of the key being loaded or saved, where the server tells.
    pub fn key_name(&self) -> &[u8] {
        // SAFETY: the name lives as long as the callback.
        unsafe {
            let name = api!(RedisModule_GetKeyNameFromIO)(self.raw);
            if name.is_null() {
                &[]
            } else {
                Str::new(name).bytes()
            }
        }
    }

    /// The database of the key being loaded or saved.
    pub fn database(self) -> usize {
        // SAFETY: what the server passed.
        usize::try_from(unsafe { api!(RedisModule_GetDbIdFromIO)(self.raw) }).unwrap_or(0)
    }

    /// Emits `command bytes` into the AOF being rewritten.
    pub fn emit_bytes(self, command: &CStr, bytes: &[u8]) {
        let (ptr, len) = (bytes.as_ptr().cast::<c_char>(), bytes.len());
        // SAFETY: the format names the argument's type; the server copies.
        unsafe { api!(RedisModule_EmitAOF)(self.raw, command.as_ptr(), c"b".as_ptr(), ptr, len) };
    }

    /// Emits `command key number bytes value` into the AOF being rewritten.
    pub fn emit(self, command: &CStr, key: Str<'_>, number: i64, bytes: &[u8], value: &[u8]) {
        // SAFETY: the format names the arguments' types; the server copies.
        unsafe {
            api!(RedisModule_EmitAOF)(
                self.raw,
                command.as_ptr(),
                c"slbb".as_ptr(),
                key.raw(),
                number as c_longlong,
                bytes.as_ptr().cast::<c_char>(),
                bytes.len(),
                value.as_ptr().cast::<c_char>(),
                value.len(),
            )
        };
    }

    /// Emits `command key number number number` into the AOF being rewritten.
    pub fn emit_numbers(self, command: &CStr, key: Str<'_>, numbers: [i64; 3]) {
        let [one, two, three] = numbers.map(|number| number as c_longlong);
        // SAFETY: the format names the arguments' types; the server copies.
        unsafe {
            api!(RedisModule_EmitAOF)(
                self.raw,
                command.as_ptr(),
                c"slll".as_ptr(),
                key.raw(),
                one,
                two,
                three,
            )
        };
    }

    /// Logs what is wrong with the stream.
    pub fn log(self, text: &str) {
        let clean = super::ctx::c_text(text);
        // SAFETY: C strings; the text is an argument and never the format.
        unsafe {
            api!(RedisModule_LogIOError)(
                self.raw,
                c"warning".as_ptr(),
                c"%s".as_ptr(),
                clean.as_ptr().cast::<c_char>(),
            )
        };
    }
}

/// Adds byte strings to a dataset's digest.
///
/// # Safety
/// `digest` is what the server passed to the callback.
pub unsafe fn digest(digest: *mut raw::RedisModuleDigest, parts: &[&[u8]]) {
    for part in parts {
        // SAFETY: as promised; the server only reads the bytes.
        unsafe {
            api!(RedisModule_DigestAddStringBuffer)(digest, part.as_ptr().cast::<c_char>(), part.len());
        }
    }
    // SAFETY: as promised.
    unsafe { api!(RedisModule_DigestEndSequence)(digest) };
}

/// The database of the value being digested.
///
/// # Safety
/// `digest` is what the server passed to the callback.
pub unsafe fn database_digested(digest: *mut raw::RedisModuleDigest) -> usize {
    // SAFETY: as promised.
    usize::try_from(unsafe { api!(RedisModule_GetDbIdFromDigest)(digest) }).unwrap_or(0)
}

/// Where a copy goes: its database and its name.
///
/// # Safety
/// `ctx` is what the server passed to the callback, and `'a` ends with it.
pub unsafe fn copys_place<'a>(ctx: *mut raw::RedisModuleKeyOptCtx) -> (usize, &'a [u8]) {
    // SAFETY: as promised.
    unsafe {
        let name = api!(RedisModule_GetToKeyNameFromOptCtx)(ctx);
        let name = if name.is_null() { &[] } else { Str::new(name).bytes() };
        (usize::try_from(api!(RedisModule_GetToDbIdFromOptCtx)(ctx)).unwrap_or(0), name)
    }
}

/// The database that an entry leaves.
///
/// # Safety
/// `ctx` is what the server passed to the callback.
pub unsafe fn database_left(ctx: *mut raw::RedisModuleKeyOptCtx) -> usize {
    // SAFETY: as promised.
    usize::try_from(unsafe { api!(RedisModule_GetDbIdFromOptCtx)(ctx) }).unwrap_or(0)
}

/// The database of the entry being defragmented.
///
/// # Safety
/// `ctx` is what the server passed to the callback.
pub unsafe fn database_defragged(ctx: *mut raw::RedisModuleDefragCtx) -> usize {
    // SAFETY: as promised.
    usize::try_from(unsafe { api!(RedisModule_GetDbIdFromDefragCtx)(ctx) }).unwrap_or(0)
}

/// Moves an allocation to where the server's defragmenter wants it; true where
/// it moved.
///
/// # Safety
/// `ctx` is what the server passed, `place` holds an allocation of ours that
/// nothing else points to.
pub unsafe fn defrag(ctx: *mut raw::RedisModuleDefragCtx, place: *mut *mut std::os::raw::c_void) -> bool {
    // SAFETY: as promised; a null answer means that it stays.
    unsafe {
        let moved = api!(RedisModule_DefragAlloc)(ctx, *place);
        if !moved.is_null() {
            *place = moved;
        }
        !moved.is_null()
    }
}

/// The bytes that an allocation takes, the allocator's rounding included.
///
/// # Safety
/// `ptr` is a live allocation of ours.
pub unsafe fn allocated(ptr: *const std::os::raw::c_void) -> usize {
    // SAFETY: as promised.
    unsafe { api!(RedisModule_MallocSize)(ptr.cast_mut()) }
}
