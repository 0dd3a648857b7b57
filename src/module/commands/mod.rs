//! The commands: one file each, one line each in [`TABLE`].
//!
//! A file holds the command's text with an example, its [`Spec`], and `run`,
//! which reads the arguments, asks the core what to do and does it. What it
//! answers as an [`Error`] becomes the error reply; by then it has changed
//! nothing.
//!
//! To add one: write the file, add the line, run `make docs`.

pub mod apply;
mod debug;
mod del;
mod get;
mod incrby;
mod meta;
mod mget;
mod set;
mod stale;
mod touch;

use std::ffi::CStr;
use std::os::raw::c_int;

use cacheflow_core::decide::{Found, IncrError, Write};
use cacheflow_core::entry::{BuildError, Meta};
use cacheflow_core::request::RequestError;
use cacheflow_core::times::{Defaults, InvalidTime};
use cacheflow_core::units::Time;

use crate::border::cross;
use crate::datatype::ours;
use crate::directives;
use crate::ffi::args::{Args, Str};
use crate::ffi::ctx::Ctx;
use crate::ffi::key::{Key, Kind};
use crate::ffi::raw;
use crate::ffi::register::Spec;
use crate::state::{self, COUNTERS};
use crate::stored::Stored;

/// A command.
pub trait Command {
    /// What it says of itself.
    const SPEC: Spec;

    /// Runs it: replies, or answers an error and has changed nothing.
    ///
    /// # Errors
    /// What the client is told.
    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error>;
}

/// A line of the table.
pub struct Entry {
    pub spec: &'static Spec,
    call: raw::RedisModuleCmdFunc,
}

const fn command<C: Command>() -> Entry {
    Entry { spec: &C::SPEC, call: Some(trampoline::<C>) }
}

/// Every command, in the order of the docs.
pub static TABLE: &[Entry] = &[
    command::<get::Get>(),
    command::<mget::MGet>(),
    command::<set::Set>(),
    command::<touch::Touch>(),
    command::<del::Del>(),
    command::<stale::Stale>(),
    command::<incrby::IncrBy>(),
    command::<meta::MetaOf>(),
    command::<apply::Apply>(),
];

/// The commands that are there only with `debug yes` among the module's
/// arguments.
pub static DEBUG_TABLE: &[Entry] = &[command::<debug::Debug>()];

impl Entry {
    /// Registers the command.
    ///
    /// # Errors
    /// What the server refused.
    pub fn register(&self, ctx: Ctx) -> Result<(), &'static str> {
        self.spec.register(ctx, self.call)
    }
}

unsafe extern "C" fn trampoline<C: Command>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: what the server passed, used within the call.
    let (ctx, args) = unsafe { (Ctx::new(ctx), Args::new(argv, argc)) };
    let name = const { name_of(C::SPEC.name) };
    if let Err(error) = cross(name, Err(Error::Internal), || C::run(ctx, args)) {
        ctx.reply_error(&error.text(name));
    }
    raw::REDISMODULE_OK as c_int
}

const fn name_of(name: &'static CStr) -> &'static str {
    match name.to_str() {
        Ok(name) => name,
        Err(_) => "",
    }
}

/// What a client is told. No user's bytes are ever in it.
#[derive(Debug)]
pub enum Error {
    Request(RequestError),
    WrongType,
    Overflow,
    TooBig { bytes: usize, limit: i64 },
    OutOfMemory,
    Payload(String),
    NothingToApplyTo,
    Internal,
}

impl Error {
    /// The reply's text, beginning with the stable prefix of COMMANDS.md.
    fn text(&self, command: &str) -> String {
        match self {
            Error::Request(RequestError::Syntax) => "ERR syntax error".into(),
            Error::Request(RequestError::NotAnInteger) => {
                "ERR value is not an integer or out of range".into()
            }
            Error::Request(RequestError::InvalidTime) => {
                format!("ERR invalid expire time in '{command}' command")
            }
            Error::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value".into(),
            Error::Overflow => "ERR increment or decrement would overflow".into(),
            Error::TooBig { bytes, limit } => {
                format!("TOOBIG value of {bytes} bytes exceeds cacheflow.max-value-size ({limit})")
            }
            Error::OutOfMemory => "OOM the allocator has no memory for this entry".into(),
            Error::Payload(why) => format!("ERR refused payload: {why}"),
            Error::NothingToApplyTo => "ERR no entry to apply this to".into(),
            Error::Internal => {
                format!(
                    "ERR internal error in '{command}', nothing is known of its effect; see the server's log"
                )
            }
        }
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Error::Request(error)
    }
}

impl From<InvalidTime> for Error {
    fn from(_: InvalidTime) -> Self {
        Error::Request(RequestError::InvalidTime)
    }
}

impl From<IncrError> for Error {
    fn from(error: IncrError) -> Self {
        match error {
            IncrError::NotAnInteger => Error::Request(RequestError::NotAnInteger),
            IncrError::Overflow => Error::Overflow,
            IncrError::WrongType => Error::WrongType,
        }
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::TooLong => Error::TooBig {
                bytes: cacheflow_core::entry::LONGEST_VALUE + 1,
                limit: directives::MAX_VALUE_SIZE.get(),
            },
            BuildError::OutOfMemory => Error::OutOfMemory,
        }
    }
}

/// Refuses a value past `cacheflow.max-value-size`.
///
/// # Errors
/// [`Error::TooBig`].
fn check_size(value: &[u8]) -> Result<(), Error> {
    let limit = directives::MAX_VALUE_SIZE.get();
    if i64::try_from(value.len()).is_ok_and(|len| len <= limit) {
        Ok(())
    } else {
        Err(Error::TooBig { bytes: value.len(), limit })
    }
}

/// The times that the key's namespace gives where a request is silent.
/// Namespaces have no settings yet, so none.
const NO_DEFAULTS: Defaults =
    Defaults { ttl: cacheflow_core::units::Millis::ZERO, grace: cacheflow_core::units::Millis::ZERO };

/// A key that a command writes, and what it held when it was opened.
struct Target<'a> {
    ctx: Ctx,
    name: Str<'a>,
    key: Key,
    old: Option<Stored>,
    /// Whether anything is there, of whatever type.
    present: bool,
}

impl<'a> Target<'a> {
    fn open(ctx: Ctx, name: Str<'a>) -> Target<'a> {
        let key = Key::write(ctx, name);
        let kind = key.kind(ours());
        let old = match kind {
            // SAFETY: a value of our type.
            Kind::Ours(value) => Some(unsafe { Stored::new(value) }),
            _ => None,
        };
        Target { ctx, name, key, old, present: kind != Kind::Absent }
    }

    fn found(&self) -> Found<'a> {
        match self.old {
            Some(entry) => Found::Entry(entry.view()),
            None if self.present => Found::Native,
            None => Found::Absent,
        }
    }

    /// The metadata of the entry that is there.
    fn meta(&self) -> Option<Meta> {
        self.old.map(|entry| entry.view().meta())
    }

    fn expire(&self) -> Option<Time> {
        self.key.expire().map(Time)
    }

    /// Puts an entry under the key, with that TTL, and tells its watchers.
    ///
    /// # Errors
    /// Where it cannot be built; the key is as it was.
    fn put(&self, meta: &Meta, value: &[u8], expire: Option<Time>) -> Result<(), Error> {
        let new = Stored::build(meta, self.name.bytes(), value)?;
        let had_expire = match self.old {
            Some(_) => {
                // SAFETY: a new entry; the old one is ours when it comes back,
                // and nothing looks at it after this.
                unsafe {
                    if let Some(old) = self.key.replace(ours(), new.raw()) {
                        Stored::new(old).free();
                    }
                }
                true
            }
            None => {
                // SAFETY: a new entry.
                unsafe { self.key.set(ours(), new.raw()) };
                false
            }
        };
        if expire.is_some() || had_expire {
            self.key.set_expire(expire.map(|at| at.0));
        }
        self.ctx.signal_modified(self.name);
        Ok(())
    }

    /// Performs a write that the core decided on. `value` is the bytes to
    /// store; the effect is replicated with its absolute times. False where
    /// there was nothing to do.
    ///
    /// # Errors
    /// Where the entry cannot be built; nothing is changed then.
    fn perform(self, write: Write, value: Value<'_>, event: &'static CStr) -> Result<bool, Error> {
        match write {
            Write::Nothing => Ok(false),
            Write::Remove => {
                let Target { ctx, name, key, .. } = self;
                drop(key);
                ctx.call(c"UNLINK", None, &[name.raw()], true);
                Ok(true)
            }
            Write::Store { meta, expire } => {
                self.store(&meta, expire, value)?;
                self.ctx.notify(event, self.name);
                Ok(true)
            }
        }
    }

    /// Puts an entry as another server had it, and passes it on verbatim.
    ///
    /// # Errors
    /// Where it cannot be built; nothing is changed then.
    fn apply(&self, meta: &Meta, expire: Option<Time>, value: Option<Str<'_>>) -> Result<(), Error> {
        self.store(meta, expire, value.map_or(Value::Same, Value::Argument))?;
        self.ctx.notify(c"cache.set", self.name);
        Ok(())
    }

    fn store(&self, meta: &Meta, expire: Option<Time>, value: Value<'_>) -> Result<(), Error> {
        match value {
            Value::Argument(value) => self.put(meta, value.bytes(), expire)?,
            Value::Bytes(bytes) => self.put(meta, bytes, expire)?,
            Value::Same => {
                let Some(old) = self.old else { return Err(Error::NothingToApplyTo) };
                self.put(meta, old.view().value(), expire)?;
            }
        }
        let expire = expire.and_then(|at| i64::try_from(at.0).ok()).unwrap_or(apply::NO_EXPIRE);
        let mut encoded = state::scratch();
        cacheflow_core::codec::encode(meta, false, &mut encoded);
        match value {
            Value::Argument(value) => {
                self.ctx.replicate_with_value(apply::NAME, self.name, expire, &encoded, value);
            }
            Value::Bytes(bytes) => {
                self.ctx.replicate_with_bytes(apply::NAME, self.name, expire, &encoded, bytes);
            }
            Value::Same => self.ctx.replicate(apply::NAME, self.name, expire, &encoded),
        }
        state::give_back(encoded);
        Ok(())
    }
}

/// The value of a write.
#[derive(Clone, Copy)]
enum Value<'a> {
    /// An argument of the command.
    Argument(Str<'a>),
    /// Bytes of our own.
    Bytes(&'a [u8]),
    /// That of the entry which is there.
    Same,
}

/// What a read of a key answers.
enum Read {
    /// This entry's value; the key is held open meanwhile.
    Entry(Stored, Key),
    /// A native string.
    NativeString,
    Nothing,
    OtherType,
}

/// Looks a key up for GET and MGET, and counts what comes of it.
#[inline]
fn read(ctx: Ctx, name: Str<'_>, stale_will_do: bool) -> Read {
    let key = Key::read(ctx, name);
    match key.kind(ours()) {
        Kind::Ours(value) => {
            // SAFETY: a value of our type.
            let entry = unsafe { Stored::new(value) };
            if entry.view().is_fresh(state::now()) {
                COUNTERS.hits.add(1);
            } else if stale_will_do {
                COUNTERS.stale_hits.add(1);
            } else {
                COUNTERS.misses.add(1);
                return Read::Nothing;
            }
            entry.count_hit();
            Read::Entry(entry, key)
        }
        Kind::Absent => {
            COUNTERS.misses.add(1);
            Read::Nothing
        }
        Kind::String => {
            COUNTERS.hits.add(1);
            Read::NativeString
        }
        Kind::Other => Read::OtherType,
    }
}

/// Replies the value of a native string. Through GET: the server's own API for
/// reading strings would change the encoding of an integer.
fn reply_native_string(ctx: Ctx, name: Str<'_>) {
    match ctx.call(c"GET", None, &[name.raw()], false) {
        Some(reply) => match reply.bytes() {
            Some(bytes) => ctx.reply_bytes(bytes),
            None => ctx.reply_null(),
        },
        None => ctx.reply_null(),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
