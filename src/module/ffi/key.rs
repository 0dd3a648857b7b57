//! An open key.

use std::os::raw::{c_int, c_void};
use std::ptr::NonNull;

use super::args::{slice, Str};
use super::ctx::Ctx;
use super::{api, optional_api, raw};

/// What an open key holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Absent,
    /// A native string.
    String,
    /// Another native type, or another module's.
    Other,
    /// A value of our type.
    Ours(NonNull<c_void>),
}

/// A key held open; closed when dropped.
pub struct Key {
    raw: *mut raw::RedisModuleKey,
}

const READ: c_int = raw::REDISMODULE_READ as c_int;
const WRITE: c_int = raw::REDISMODULE_WRITE as c_int;
const NOTOUCH: c_int = raw::REDISMODULE_OPEN_KEY_NOTOUCH as c_int;
const NOSTATS: c_int = (raw::REDISMODULE_OPEN_KEY_NOSTATS | raw::REDISMODULE_OPEN_KEY_NONOTIFY) as c_int;

/// Of LFU's logarithmic counter, which has eight bits.
const MOST_FREQUENT: i64 = 255;

impl Key {
    #[inline]
    fn open(ctx: Ctx, name: Str<'_>, mode: c_int) -> Key {
        // SAFETY: context and name are live.
        Key { raw: unsafe { api!(RedisModule_OpenKey)(ctx.raw(), name.raw(), mode) }.cast() }
    }

    /// Opens a key for reading; the read counts for LRU and LFU.
    #[inline]
    pub fn read(ctx: Ctx, name: Str<'_>) -> Key {
        Key::open(ctx, name, READ)
    }

    /// Opens a key for looking at it, unnoticed by LRU, LFU and the keyspace
    /// hits and misses.
    pub fn look(ctx: Ctx, name: Str<'_>) -> Key {
        // A server of before 7.2 has no NOSTATS; what it opens for writing it
        // does not count either.
        let uncounted = match optional_api!(RedisModule_GetOpenKeyModesAll) {
            Some(_) => NOSTATS,
            None => WRITE,
        };
        Key::open(ctx, name, READ | NOTOUCH | uncounted)
    }

    /// Opens a key for writing. Whoever changes it tells so by
    /// [`Ctx::signal_modified`]: with our module options neither opening nor
    /// closing does, so that a write that finds nothing to do breaks no WATCH.
    #[inline]
    pub fn write(ctx: Ctx, name: Str<'_>) -> Key {
        Key::open(ctx, name, READ | WRITE)
    }

    /// Opens a key for writing, unnoticed by LRU and LFU: for upkeep that is
    /// nobody's access.
    pub fn write_untouched(ctx: Ctx, name: Str<'_>) -> Key {
        Key::open(ctx, name, READ | WRITE | NOTOUCH)
    }

    /// What the key holds.
    #[inline]
    pub fn kind(&self, ours: *mut raw::RedisModuleType) -> Kind {
        if self.raw.is_null() {
            return Kind::Absent;
        }
        // SAFETY: the key is open, and closed by drop only.
        unsafe {
            if api!(RedisModule_ModuleTypeGetType)(self.raw) == ours {
                if let Some(value) = NonNull::new(api!(RedisModule_ModuleTypeGetValue)(self.raw)) {
                    return Kind::Ours(value);
                }
            }
            match api!(RedisModule_KeyType)(self.raw) as isize {
                raw::REDISMODULE_KEYTYPE_EMPTY => Kind::Absent,
                raw::REDISMODULE_KEYTYPE_STRING => Kind::String,
                _ => Kind::Other,
            }
        }
    }

    /// The bytes of a native string. The server decodes an encoded one for
    /// good, so ask GET first.
    pub fn string_bytes(&self) -> &[u8] {
        let mut len = 0;
        // SAFETY: the key is open, and holds a string as long as the borrow.
        unsafe { slice(api!(RedisModule_StringDMA)(self.raw, &mut len, READ), len) }
    }

    /// Removes the key, its value freed lazily where that is worth while. The
    /// key is open for writing.
    pub fn unlink(&self) {
        // SAFETY: as said.
        unsafe { api!(RedisModule_UnlinkKey)(self.raw) };
    }

    /// The database that the key is in. Not the context's where the key was not
    /// empty: in a transaction Valkey 9 tells the transaction's, whatever
    /// database the event of a key is of.
    pub fn database(&self) -> usize {
        // SAFETY: takes a null key too.
        usize::try_from(unsafe { api!(RedisModule_GetDbIdFromModuleKey)(self.raw) }).unwrap_or(0)
    }

    /// Has the key count as used just now (LRU), and as often as can be (LFU). It is
    /// nobody's access: nothing else notices.
    pub fn warm(&self) {
        if self.raw.is_null() {
            return;
        }
        // SAFETY: the key is open. Of the two the server takes that of its policy;
        // of an empty key neither.
        unsafe {
            api!(RedisModule_SetLRU)(self.raw, 0);
            api!(RedisModule_SetLFU)(self.raw, MOST_FREQUENT);
        }
    }

    /// The length of a string; of other types the number of elements.
    pub fn length(&self) -> usize {
        // SAFETY: takes a null key too.
        unsafe { api!(RedisModule_ValueLength)(self.raw) }
    }

    /// The key's TTL as a point in Unix time, in ms.
    pub fn expire(&self) -> Option<u64> {
        // SAFETY: both take the key as it is open, the first a null one too;
        // the second must not be asked of an empty key (Redis 8.6 crashes).
        unsafe {
            if api!(RedisModule_KeyType)(self.raw) as isize == raw::REDISMODULE_KEYTYPE_EMPTY {
                return None;
            }
            u64::try_from(api!(RedisModule_GetAbsExpire)(self.raw)).ok()
        }
    }

    /// Sets the key's TTL to a point in Unix time, in ms, or takes it away.
    /// The key is open for writing and not empty.
    #[inline]
    pub fn set_expire(&self, at: Option<u64>) {
        let at = at.and_then(|at| i64::try_from(at).ok()).unwrap_or(i64::from(raw::REDISMODULE_NO_EXPIRE));
        // SAFETY: the key is open.
        unsafe { api!(RedisModule_SetAbsExpire)(self.raw, at) };
    }

    /// Puts a value of our type in place of whatever is there; a TTL is taken
    /// away. The old value is freed by its own type.
    ///
    /// # Safety
    /// `value` is a value of type `ours`, and the key's from now on.
    pub unsafe fn set(&self, ours: *mut raw::RedisModuleType, value: NonNull<c_void>) {
        // SAFETY: the key is open for writing; the rest is the caller's.
        unsafe { api!(RedisModule_ModuleTypeSetValue)(self.raw, ours, value.as_ptr()) };
    }

    /// Puts a value of our type in place of another; the TTL stays. Returns
    /// the old value, the caller's from now on. None, with nothing done, where
    /// the key holds none of our type.
    ///
    /// # Safety
    /// As for [`Key::set`].
    #[inline]
    pub unsafe fn replace(
        &self,
        ours: *mut raw::RedisModuleType,
        value: NonNull<c_void>,
    ) -> Option<NonNull<c_void>> {
        let mut old = std::ptr::null_mut();
        // SAFETY: the key is open for writing; the rest is the caller's.
        unsafe { api!(RedisModule_ModuleTypeReplaceValue)(self.raw, ours, value.as_ptr(), &mut old) };
        NonNull::new(old)
    }
}

impl Drop for Key {
    #[inline]
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: opened by us, closed once.
            unsafe { api!(RedisModule_CloseKey)(self.raw) };
        }
    }
}
