//! A directive that is one of some words.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::config::registered;
use super::ctx::Ctx;
use super::{api, raw};

/// See the module's text.
pub struct Choice {
    pub name: &'static CStr,
    /// The words, of which `value` is the place of one.
    pub words: &'static [&'static CStr],
    pub value: AtomicUsize,
    pub default: usize,
}

impl Choice {
    pub const fn new(name: &'static CStr, words: &'static [&'static CStr], default: usize) -> Choice {
        Choice { name, words, value: AtomicUsize::new(default), default }
    }

    /// The place of the word that was chosen.
    pub fn get(&self) -> usize {
        self.value.load(Relaxed)
    }

    /// Registers the directive with `default` in place of its own.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn register(&'static self, ctx: Ctx, default: usize) -> Result<(), &'static str> {
        let mut words: Vec<*const c_char> = self.words.iter().map(|word| word.as_ptr()).collect();
        let places: Vec<c_int> = (0..).take(words.len()).collect();
        // SAFETY: C strings, which the server copies as it does the places, as many
        // of the one as of the other; the private data is a static of this type.
        let done = unsafe {
            api!(RedisModule_RegisterEnumConfig)(
                ctx.raw(),
                self.name.as_ptr(),
                default as c_int,
                raw::REDISMODULE_CONFIG_DEFAULT,
                words.as_mut_ptr(),
                places.as_ptr(),
                places.len() as c_int,
                Some(get_choice),
                Some(set_choice),
                None,
                std::ptr::from_ref(self).cast_mut().cast::<c_void>(),
            )
        };
        registered(done)
    }
}

unsafe extern "C" fn get_choice(_: *const c_char, data: *mut c_void) -> c_int {
    // SAFETY: the private data that `register` passed, a static.
    let choice = unsafe { &*data.cast::<Choice>() };
    choice.get() as c_int
}

unsafe extern "C" fn set_choice(
    _: *const c_char,
    place: c_int,
    data: *mut c_void,
    _: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: as above. The server has found the word, so the place is one of ours.
    let choice = unsafe { &*data.cast::<Choice>() };
    choice.value.store(usize::try_from(place).unwrap_or(choice.default), Relaxed);
    raw::REDISMODULE_OK as c_int
}
