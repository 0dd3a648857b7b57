//! A walk over a database.

use std::os::raw::c_void;
use std::ptr::NonNull;

use super::args::Str;
use super::ctx::Ctx;
use super::{api, raw};

impl Ctx {
    /// Walks the selected database's keys with the values of type `ours` that
    /// they hold, expired ones included. `each` changes no key.
    pub fn each_value(self, ours: *mut raw::RedisModuleType, mut each: impl FnMut(Str<'_>, NonNull<c_void>)) {
        struct Walk<'a> {
            ours: *mut raw::RedisModuleType,
            each: &'a mut dyn FnMut(Str<'_>, NonNull<c_void>),
        }
        unsafe extern "C" fn call(
            _: *mut raw::RedisModuleCtx,
            name: *mut raw::RedisModuleString,
            key: *mut raw::RedisModuleKey,
            walk: *mut c_void,
        ) {
            crate::border::cross("scan", (), || {
                // SAFETY: the walk below, alive for the scan; a live name; a
                // key that is null or open.
                unsafe {
                    let walk = &mut *walk.cast::<Walk<'_>>();
                    if !key.is_null() && api!(RedisModule_ModuleTypeGetType)(key) == walk.ours {
                        if let Some(value) = NonNull::new(api!(RedisModule_ModuleTypeGetValue)(key)) {
                            (walk.each)(Str::new(name), value);
                        }
                    }
                }
            });
        }
        let mut walk = Walk { ours, each: &mut each };
        // SAFETY: the cursor is made and destroyed here; the private data
        // outlives the scan.
        unsafe {
            let cursor = api!(RedisModule_ScanCursorCreate)();
            let data = std::ptr::from_mut(&mut walk).cast();
            while api!(RedisModule_Scan)(self.raw(), cursor, Some(call), data) != 0 {}
            api!(RedisModule_ScanCursorDestroy)(cursor);
        }
    }
}
