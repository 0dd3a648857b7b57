//! A directive that is a word, fixed once the server runs.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering::Relaxed};

use super::args::Str;
use super::config::{refuse, registered, show};
use super::ctx::Ctx;
use super::{api, raw};
use crate::border;

/// See the module's text.
pub struct Text {
    pub name: &'static CStr,
    pub default: &'static CStr,
    /// Whether a word will do.
    pub accepts: fn(&[u8]) -> bool,
    /// What a word is to be, for who gave another.
    pub expected: &'static str,
    /// What was set, if anything. Never freed: it is set at load, at most twice.
    value: AtomicPtr<Box<[u8]>>,
    /// What CONFIG GET shows, which the server does not free.
    shown: AtomicPtr<raw::RedisModuleString>,
}

impl Text {
    pub const fn new(
        name: &'static CStr,
        default: &'static CStr,
        accepts: fn(&[u8]) -> bool,
        expected: &'static str,
    ) -> Text {
        let (value, shown) = (AtomicPtr::new(std::ptr::null_mut()), AtomicPtr::new(std::ptr::null_mut()));
        Text { name, default, accepts, expected, value, shown }
    }

    #[inline]
    pub fn get(&self) -> &'static [u8] {
        // SAFETY: null, or a box that was leaked.
        unsafe { self.value.load(Relaxed).as_ref() }.map_or(self.default.to_bytes(), |word| word)
    }

    fn set(&self, word: &[u8]) {
        self.value.store(Box::leak(Box::new(word.into())), Relaxed);
    }

    /// Registers the directive with `default` in place of its own.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn register(&'static self, ctx: Ctx, default: &CStr) -> Result<(), &'static str> {
        // SAFETY: C strings, which the server copies; the private data is a static
        // of this type.
        let done = unsafe {
            api!(RedisModule_RegisterStringConfig)(
                ctx.raw(),
                self.name.as_ptr(),
                default.as_ptr(),
                raw::REDISMODULE_CONFIG_IMMUTABLE,
                Some(get_text),
                Some(set_text),
                None,
                std::ptr::from_ref(self).cast_mut().cast::<c_void>(),
            )
        };
        registered(done)
    }
}

unsafe extern "C" fn get_text(_: *const c_char, data: *mut c_void) -> *mut raw::RedisModuleString {
    border::cross("config", std::ptr::null_mut(), || {
        // SAFETY: the private data that `register` passed, a static.
        let text = unsafe { &*data.cast::<Text>() };
        show(&text.shown, text.get())
    })
}

unsafe extern "C" fn set_text(
    _: *const c_char,
    value: *mut raw::RedisModuleString,
    data: *mut c_void,
    error: *mut *mut raw::RedisModuleString,
) -> c_int {
    border::cross("config", raw::REDISMODULE_ERR as c_int, || {
        // SAFETY: as above; the server passes a live string.
        let (text, word) = unsafe { (&*data.cast::<Text>(), Str::new(value).bytes()) };
        if (text.accepts)(word) {
            text.set(word);
            return raw::REDISMODULE_OK as c_int;
        }
        // SAFETY: what the server passed.
        unsafe { refuse(error, text.expected) }
    })
}
