//! Directives: registration with the server's own CONFIG, so that redis.conf,
//! CONFIG GET, SET and REWRITE know them. The server puts the module's name
//! before each (`cacheflow.max-value-size`).

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_longlong, c_void};
use std::sync::atomic::{AtomicI64, AtomicPtr, AtomicU64, AtomicU8, Ordering::Relaxed};

use cacheflow_core::number::parse_decimal;

use super::args::Str;
use super::ctx::Ctx;
use super::owned::Owned;
use super::{api, raw};
use crate::border;

/// A directive that is a number.
pub struct Number {
    pub name: &'static CStr,
    pub value: AtomicI64,
    pub default: i64,
    pub min: i64,
    pub max: i64,
    /// In bytes: `512mb` will do.
    pub bytes: bool,
    /// Told of a new value, once all directives of the CONFIG SET have theirs.
    pub changed: Option<fn(Ctx)>,
}

impl Number {
    #[inline]
    pub fn get(&self) -> i64 {
        self.value.load(Relaxed)
    }

    /// Registers the directive with `default` in place of its own.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn register(&'static self, ctx: Ctx, default: i64) -> Result<(), &'static str> {
        let mut flags = raw::REDISMODULE_CONFIG_DEFAULT;
        if self.bytes {
            flags |= raw::REDISMODULE_CONFIG_MEMORY;
        }
        // SAFETY: a C string; the private data is a static of this type.
        let done = unsafe {
            api!(RedisModule_RegisterNumericConfig)(
                ctx.raw(),
                self.name.as_ptr(),
                default,
                flags,
                self.min,
                self.max,
                Some(get_number),
                Some(set_number),
                self.changed.map(|_| apply_number as unsafe extern "C" fn(_, _, _) -> _),
                std::ptr::from_ref(self).cast_mut().cast::<c_void>(),
            )
        };
        registered(done)
    }
}

/// A directive that is one byte, fixed once the server runs.
pub struct Byte {
    pub name: &'static CStr,
    pub value: AtomicU8,
    pub default: u8,
}

impl Byte {
    #[inline]
    pub fn get(&self) -> u8 {
        self.value.load(Relaxed)
    }

    /// Registers the directive with `default` in place of its own.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn register(&'static self, ctx: Ctx, default: u8) -> Result<(), &'static str> {
        let text = [default, 0];
        // SAFETY: C strings; the private data is a static of this type.
        let done = unsafe {
            api!(RedisModule_RegisterStringConfig)(
                ctx.raw(),
                self.name.as_ptr(),
                text.as_ptr().cast::<c_char>(),
                raw::REDISMODULE_CONFIG_IMMUTABLE,
                Some(get_byte),
                Some(set_byte),
                None,
                std::ptr::from_ref(self).cast_mut().cast::<c_void>(),
            )
        };
        registered(done)
    }
}

/// A directive that is a number with decimals, finite and not negative.
pub struct Decimal {
    pub name: &'static CStr,
    /// The bits of the number.
    value: AtomicU64,
    pub default: &'static CStr,
    /// What CONFIG GET shows, which the server does not free.
    shown: AtomicPtr<raw::RedisModuleString>,
}

impl Decimal {
    /// The default as text: the server sets it when it is registered.
    pub const fn new(name: &'static CStr, default: &'static CStr) -> Decimal {
        Decimal { name, value: AtomicU64::new(0), default, shown: AtomicPtr::new(std::ptr::null_mut()) }
    }

    #[inline]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.value.load(Relaxed))
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
                raw::REDISMODULE_CONFIG_DEFAULT,
                Some(get_decimal),
                Some(set_decimal),
                None,
                std::ptr::from_ref(self).cast_mut().cast::<c_void>(),
            )
        };
        registered(done)
    }
}

unsafe extern "C" fn get_decimal(_: *const c_char, data: *mut c_void) -> *mut raw::RedisModuleString {
    border::cross("config", std::ptr::null_mut(), || {
        // SAFETY: the private data that `register` passed, a static.
        let decimal = unsafe { &*data.cast::<Decimal>() };
        show(&decimal.shown, decimal.get().to_string().as_bytes())
    })
}

unsafe extern "C" fn set_decimal(
    _: *const c_char,
    value: *mut raw::RedisModuleString,
    data: *mut c_void,
    error: *mut *mut raw::RedisModuleString,
) -> c_int {
    border::cross("config", raw::REDISMODULE_ERR as c_int, || {
        // SAFETY: as above; the server passes a live string.
        let (decimal, text) = unsafe { (&*data.cast::<Decimal>(), Str::new(value).bytes()) };
        if let Some(number) = parse_decimal(text) {
            decimal.value.store(number.to_bits(), Relaxed);
            return raw::REDISMODULE_OK as c_int;
        }
        // SAFETY: what the server passed.
        unsafe { refuse(error, "must be a number that is not negative") }
    })
}

/// What CONFIG GET shows, in place of what it showed before: the server frees neither.
pub(super) fn show(shown: &AtomicPtr<raw::RedisModuleString>, text: &[u8]) -> *mut raw::RedisModuleString {
    let text = Owned::new(text).leak();
    // SAFETY: made here before, and shown to nobody any more.
    drop(unsafe { Owned::given(shown.swap(text, Relaxed)) });
    text
}

/// Refuses what CONFIG SET was given.
///
/// # Safety
/// `error` is what the server passed to be filled.
pub(super) unsafe fn refuse(error: *mut *mut raw::RedisModuleString, why: &str) -> c_int {
    // SAFETY: as promised; the server takes the string over.
    unsafe { *error = Owned::new(why.as_bytes()).leak() };
    raw::REDISMODULE_ERR as c_int
}

pub(super) fn registered(done: c_int) -> Result<(), &'static str> {
    if done == raw::REDISMODULE_OK as c_int {
        Ok(())
    } else {
        Err("the server refused the directive")
    }
}

/// Takes the directives' values from redis.conf and the command line.
///
/// # Errors
/// Where one of them was refused; the server has logged which.
pub fn load(ctx: Ctx) -> Result<(), &'static str> {
    // SAFETY: the context is live.
    let done = unsafe { api!(RedisModule_LoadConfigs)(ctx.raw()) };
    if done == raw::REDISMODULE_OK as c_int {
        Ok(())
    } else {
        Err("a directive's value was refused")
    }
}

unsafe extern "C" fn get_number(_: *const c_char, data: *mut c_void) -> c_longlong {
    // SAFETY: the private data that `register` passed, a static.
    let number = unsafe { &*data.cast::<Number>() };
    number.get()
}

unsafe extern "C" fn set_number(
    _: *const c_char,
    value: c_longlong,
    data: *mut c_void,
    _: *mut *mut raw::RedisModuleString,
) -> c_int {
    // SAFETY: as above. The server has checked the range.
    let number = unsafe { &*data.cast::<Number>() };
    number.value.store(value, Relaxed);
    raw::REDISMODULE_OK as c_int
}

unsafe extern "C" fn apply_number(
    ctx: *mut raw::RedisModuleCtx,
    data: *mut c_void,
    _: *mut *mut raw::RedisModuleString,
) -> c_int {
    border::cross("config", raw::REDISMODULE_ERR as c_int, || {
        // SAFETY: as above, and what the server passed.
        let (number, ctx) = unsafe { (&*data.cast::<Number>(), Ctx::new(ctx)) };
        if let Some(changed) = number.changed {
            changed(ctx);
        }
        raw::REDISMODULE_OK as c_int
    })
}

unsafe extern "C" fn get_byte(_: *const c_char, data: *mut c_void) -> *mut raw::RedisModuleString {
    border::cross("config", std::ptr::null_mut(), || {
        // SAFETY: as above.
        let byte = unsafe { &*data.cast::<Byte>() };
        // The server does not free what a getter returns: one string a value.
        static TEXTS: [std::sync::atomic::AtomicPtr<raw::RedisModuleString>; 256] =
            [const { std::sync::atomic::AtomicPtr::new(std::ptr::null_mut()) }; 256];
        let text = &TEXTS[usize::from(byte.get())];
        if text.load(Relaxed).is_null() {
            let value = [byte.get()];
            // SAFETY: the server copies the byte; a null context is allowed.
            let string = unsafe {
                api!(RedisModule_CreateString)(std::ptr::null_mut(), value.as_ptr().cast::<c_char>(), 1)
            };
            text.store(string, Relaxed);
        }
        text.load(Relaxed)
    })
}

unsafe extern "C" fn set_byte(
    _: *const c_char,
    value: *mut raw::RedisModuleString,
    data: *mut c_void,
    error: *mut *mut raw::RedisModuleString,
) -> c_int {
    border::cross("config", raw::REDISMODULE_ERR as c_int, || {
        // SAFETY: as above; the server passes a live string.
        let (byte, text) = unsafe { (&*data.cast::<Byte>(), Str::new(value).bytes()) };
        if let [one] = text {
            byte.value.store(*one, Relaxed);
            return raw::REDISMODULE_OK as c_int;
        }
        // SAFETY: the server takes the string over.
        unsafe { *error = Owned::new(b"must be exactly one byte").leak() };
        raw::REDISMODULE_ERR as c_int
    })
}
