//! The module's INFO sections.

use std::ffi::CStr;

use super::{api, raw};

/// An INFO reply being made.
#[derive(Clone, Copy)]
pub struct Info {
    raw: *mut raw::RedisModuleInfoCtx,
}

impl Info {
    /// # Safety
    /// `raw` is what the server passed to the callback that uses the result.
    pub unsafe fn new(raw: *mut raw::RedisModuleInfoCtx) -> Info {
        Info { raw }
    }

    /// Opens the section `cacheflow_<name>`; false where it was not asked for.
    pub fn section(self, name: &CStr) -> bool {
        // SAFETY: a C string.
        unsafe { api!(RedisModule_InfoAddSection)(self.raw, name.as_ptr()) == raw::REDISMODULE_OK as i32 }
    }

    /// Adds the field `cacheflow_<name>`.
    pub fn number(self, name: &CStr, value: u64) {
        // SAFETY: a C string.
        unsafe { api!(RedisModule_InfoAddFieldULongLong)(self.raw, name.as_ptr(), value) };
    }
}
