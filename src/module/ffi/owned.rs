//! A string of the server's that we own.

use std::os::raw::c_char;

use super::args::Str;
use super::{api, raw};

/// Freed when dropped.
pub struct Owned {
    raw: *mut raw::RedisModuleString,
}

impl Owned {
    /// A copy of these bytes.
    pub fn new(bytes: &[u8]) -> Owned {
        let (ptr, len) = (bytes.as_ptr().cast::<c_char>(), bytes.len());
        // SAFETY: the server copies the bytes; a null context is allowed.
        let raw = unsafe { api!(RedisModule_CreateString)(std::ptr::null_mut(), ptr, len) };
        Owned { raw }
    }

    /// # Safety
    /// `raw` is a string that the server gave us to free, or null.
    pub unsafe fn given(raw: *mut raw::RedisModuleString) -> Option<Owned> {
        // Lazily: an `Owned` that is dropped frees what it holds.
        (!raw.is_null()).then(|| Owned { raw })
    }

    /// The string, to be freed by another.
    pub fn leak(self) -> *mut raw::RedisModuleString {
        std::mem::ManuallyDrop::new(self).raw
    }

    /// The string, for passing on.
    pub fn get(&self) -> Str<'_> {
        // SAFETY: live until dropped.
        unsafe { Str::new(self.raw) }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: ours, freed once; a null context is allowed.
        unsafe { api!(RedisModule_FreeString)(std::ptr::null_mut(), self.raw) };
    }
}
