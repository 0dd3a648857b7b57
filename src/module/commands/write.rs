//! How a command writes: a key held open, a decision of the core's performed
//! on it, its effect replicated.

use std::ffi::CStr;

use cacheflow_core::codec;
use cacheflow_core::decide::{Found, Write};
use cacheflow_core::entry::Meta;
use cacheflow_core::times::Defaults;
use cacheflow_core::units::{Millis, Time};

use super::{apply, del, Error};
use crate::datatype::ours;
use crate::directives::MAX_VALUE_SIZE;
use crate::ffi::args::Str;
use crate::ffi::ctx::Ctx;
use crate::ffi::key::{Key, Kind};
use crate::propagation;
use crate::shard;
use crate::state;
use crate::stored::Stored;

/// Refuses a value past `cacheflow.max-value-size`.
///
/// # Errors
/// [`Error::TooBig`].
pub fn check_size(value: &[u8]) -> Result<(), Error> {
    let limit = MAX_VALUE_SIZE.get();
    if i64::try_from(value.len()).is_ok_and(|len| len <= limit) {
        Ok(())
    } else {
        Err(Error::TooBig { bytes: value.len(), limit })
    }
}

/// The times that the key's namespace gives where a request is silent.
/// Namespaces have no settings yet, so none.
pub const NO_DEFAULTS: Defaults = Defaults { ttl: Millis::ZERO, grace: Millis::ZERO };

/// A key that a command writes, and what it held when it was opened.
pub struct Target<'a> {
    ctx: Ctx,
    name: Str<'a>,
    key: Key,
    old: Option<Stored>,
    /// Whether anything is there, of whatever type.
    present: bool,
}

impl<'a> Target<'a> {
    pub fn open(ctx: Ctx, name: Str<'a>) -> Target<'a> {
        let key = Key::write(ctx, name);
        let kind = key.kind(ours());
        let old = match kind {
            // SAFETY: a value of our type.
            Kind::Ours(value) => Some(unsafe { Stored::new(value) }),
            _ => None,
        };
        Target { ctx, name, key, old, present: kind != Kind::Absent }
    }

    pub fn found(&self) -> Found<'a> {
        match self.old {
            Some(entry) if entry.is_dead() => Found::Absent,
            Some(entry) => Found::Entry(entry.view()),
            None if self.present => Found::Native,
            None => Found::Absent,
        }
    }

    /// The metadata of the entry that is there.
    pub fn meta(&self) -> Option<Meta> {
        self.old.filter(|entry| !entry.is_dead()).map(|entry| entry.view().meta())
    }

    pub fn expire(&self) -> Option<Time> {
        self.key.expire().map(Time)
    }

    /// Puts an entry under the key, with that TTL, and tells its watchers.
    ///
    /// # Errors
    /// Where it cannot be built; the key is as it was.
    fn put(&self, meta: &Meta, value: &[u8], expire: Option<Time>) -> Result<(), Error> {
        let new = Stored::build(meta, self.name.bytes(), value)?;
        shard::put(self.ctx.database(), self.name.bytes(), self.old, new);
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

    /// Whether a command can see what is there.
    pub fn is_visible(&self) -> bool {
        self.present && !self.old.is_some_and(Stored::is_dead)
    }

    /// Removes what is there, and tells its watchers; false where nothing is.
    /// Not through UNLINK, which may have been renamed.
    pub fn remove(&self) -> bool {
        if self.present {
            self.key.unlink();
            self.ctx.signal_modified(self.name);
            self.ctx.notify_deleted(self.name);
        }
        self.present
    }

    /// Performs a write that the core decided on. `value` is the bytes to
    /// store; the effect is replicated with its absolute times. False where
    /// there was nothing to do.
    ///
    /// # Errors
    /// Where the entry cannot be built; nothing is changed then.
    pub fn perform(self, write: Write, value: Value<'_>, event: &'static CStr) -> Result<bool, Error> {
        match write {
            Write::Nothing => Ok(false),
            Write::Remove => {
                if self.remove() {
                    self.ctx.replicate_key(del::NAME, self.name);
                }
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
    pub fn apply(&self, meta: &Meta, expire: Option<Time>, value: Option<&[u8]>) -> Result<(), Error> {
        self.store(meta, expire, value.map_or(Value::Same, Value::New))?;
        self.ctx.notify(c"cache.set", self.name);
        Ok(())
    }

    fn store(&self, meta: &Meta, expire: Option<Time>, value: Value<'_>) -> Result<(), Error> {
        let sent = match value {
            Value::New(bytes) => {
                self.put(meta, bytes, expire)?;
                Some(bytes)
            }
            Value::Same => {
                let Some(old) = self.old else { return Err(Error::NothingToApplyTo) };
                self.put(meta, old.view().value(), expire)?;
                None
            }
        };
        if !propagation::is_heard(self.ctx) {
            self.ctx.replicate_verbatim();
            return Ok(());
        }
        let expire = expire.and_then(|at| i64::try_from(at.0).ok()).unwrap_or(apply::NO_EXPIRE);
        let mut encoded = state::scratch();
        codec::encode(meta, false, &mut encoded);
        self.ctx.replicate(apply::NAME, self.name, expire, &encoded, sent);
        state::give_back(encoded);
        Ok(())
    }
}

/// The value of a write.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// These bytes.
    New(&'a [u8]),
    /// That of the entry which is there.
    Same,
}
