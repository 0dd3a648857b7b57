//! A command's arguments, where the server keeps them.

use std::os::raw::{c_char, c_int};

use super::{api, raw};

/// A string of the server's, borrowed.
#[derive(Clone, Copy)]
pub struct Str<'a> {
    raw: *const raw::RedisModuleString,
    life: std::marker::PhantomData<&'a ()>,
}

impl<'a> Str<'a> {
    /// # Safety
    /// `raw` is a live string of the server's for all of `'a`.
    pub unsafe fn new(raw: *const raw::RedisModuleString) -> Str<'a> {
        Str { raw, life: std::marker::PhantomData }
    }

    /// Its bytes.
    #[inline]
    pub fn bytes(self) -> &'a [u8] {
        let mut len = 0;
        // SAFETY: the string is live for 'a, and nothing of ours appends to it.
        unsafe {
            let ptr = api!(RedisModule_StringPtrLen)(self.raw, &mut len);
            slice(ptr, len)
        }
    }

    pub fn raw(self) -> *mut raw::RedisModuleString {
        self.raw.cast_mut()
    }
}

/// # Safety
/// `ptr` is null, or `len` bytes from it are readable and unchanged for `'a`.
pub unsafe fn slice<'a>(ptr: *const c_char, len: usize) -> &'a [u8] {
    if ptr.is_null() {
        return &[];
    }
    // SAFETY: as promised by the caller.
    unsafe { std::slice::from_raw_parts(ptr.cast(), len) }
}

/// The arguments of a command; the first is its name.
#[derive(Clone, Copy)]
pub struct Args<'a> {
    argv: &'a [*mut raw::RedisModuleString],
}

impl<'a> Args<'a> {
    /// # Safety
    /// `argv` and `argc` are as the server passed them, and `'a` ends with the
    /// call.
    pub unsafe fn new(argv: *mut *mut raw::RedisModuleString, argc: c_int) -> Args<'a> {
        let len = usize::try_from(argc).unwrap_or(0);
        // SAFETY: the server passes argc live strings, the command's name
        // among them, so argv is not null.
        Args { argv: unsafe { std::slice::from_raw_parts(argv, len) } }
    }

    pub fn len(&self) -> usize {
        self.argv.len()
    }

    /// The argument at `i`. The server has checked the arity that the
    /// command's SPEC declares; one past the end unwinds into the border.
    #[inline]
    pub fn get(&self, i: usize) -> Str<'a> {
        // SAFETY: live as long as the call, see `new`.
        unsafe { Str::new(self.argv[i]) }
    }

    /// The argument at `i`, where there is one.
    pub fn opt(&self, i: usize) -> Option<Str<'a>> {
        (i < self.argv.len()).then(|| self.get(i))
    }

    /// The last `count` arguments, to be passed on.
    pub fn last(self, count: usize) -> Strings<'a> {
        Strings { argv: &self.argv[self.argv.len().saturating_sub(count)..] }
    }

    /// The bytes of the arguments from `i` on.
    pub fn from(self, i: usize) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.strings_from(i).map(Str::bytes)
    }

    /// The arguments from `i` on.
    pub fn strings_from(self, i: usize) -> impl ExactSizeIterator<Item = Str<'a>> {
        // SAFETY: live as long as the call, see `new`.
        self.argv.iter().skip(i).map(|&raw| unsafe { Str::new(raw) })
    }
}

/// Some of a command's arguments.
#[derive(Clone, Copy)]
pub struct Strings<'a> {
    argv: &'a [*mut raw::RedisModuleString],
}

impl<'a> Strings<'a> {
    /// # Safety
    /// The strings live as long as the slice.
    pub unsafe fn of(argv: &'a [*mut raw::RedisModuleString]) -> Strings<'a> {
        Strings { argv }
    }

    /// Their bytes.
    pub fn bytes(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        // SAFETY: live as long as the call, see `Args::new`.
        self.argv.iter().map(|&raw| unsafe { Str::new(raw) }.bytes())
    }

    /// As the server takes them.
    pub fn raw(self) -> (*const *mut raw::RedisModuleString, usize) {
        (self.argv.as_ptr(), self.argv.len())
    }
}
