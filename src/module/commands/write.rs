//! How a command writes: a key held open, a decision of the core's performed
//! on it, its effect replicated.

use std::ffi::CStr;

use cacheflow_core::adaptive::{Bounds, Lesson, Outlook};
use cacheflow_core::codec::Decoded;
use cacheflow_core::decide::{self, Found, Live, Write};
use cacheflow_core::entry::{size_of, Cost, Meta};
use cacheflow_core::leases::{Change, Evidence, Under};
use cacheflow_core::packing::Content;
use cacheflow_core::times::Defaults;
use cacheflow_core::units::{Stamp, Time};

use super::{apply, del, Error};
use crate::adaptive;
use crate::datatype::ours;
use crate::directives::{self, MAX_VALUE_SIZE};
use crate::ffi::args::Str;
use crate::ffi::ctx::Ctx;
use crate::ffi::key::{Key, Kind};
use crate::hot;
use crate::leases::{self, Fill};
use crate::natives;
use crate::packing;
use crate::propagation;
use crate::settings;
use crate::shard::{self, Tagged};
use crate::sight;
use crate::state::{self, COUNTERS};
use crate::stored::Stored;
use crate::ttl;

/// Refuses a value past `cacheflow.max-value-size`.
///
/// # Errors
/// [`Error::TooBig`].
pub fn check_size(bytes: usize) -> Result<(), Error> {
    let limit = MAX_VALUE_SIZE.get();
    if i64::try_from(bytes).is_ok_and(|len| len <= limit) {
        Ok(())
    } else {
        Err(Error::TooBig { bytes, limit })
    }
}

/// A key that a command writes, and what it held when it was opened.
pub struct Target<'a> {
    ctx: Ctx,
    name: Str<'a>,
    db: usize,
    key: Key,
    old: Option<Stored>,
    /// That of `old` as invalidations have left it; `None` where it is dead.
    settled: Option<Meta>,
    /// Whether anything is there, of whatever type.
    present: bool,
    /// Whether it is a write, to leases and those who wait. What is none is told
    /// them by the command.
    is_write: bool,
    /// The lease that is filled.
    fill: Option<Fill>,
}

impl<'a> Target<'a> {
    pub fn open(ctx: Ctx, name: Str<'a>) -> Target<'a> {
        let key = Key::write(ctx, name);
        let db = ctx.database();
        let kind = key.kind(ours());
        let old = match kind {
            // SAFETY: a value of our type.
            Kind::Ours(value) => Some(unsafe { Stored::new(value) }).filter(|entry| !entry.is_companion()),
            _ => None,
        };
        let settled = old.and_then(|entry| shard::settled(db, name.bytes(), entry));
        let present = kind != Kind::Absent;
        Target { ctx, name, db, key, old, settled, present, is_write: true, fill: None }
    }

    /// It is no write to leases and those who wait.
    pub fn writing_nothing(self) -> Target<'a> {
        Target { is_write: false, ..self }
    }

    /// The write fills a lease: it is judged by what is there, and
    /// [`Target::perform`] ends it, whichever way.
    pub fn filling(self, token: Stamp, touch: bool, tags: &mut dyn Iterator<Item = &[u8]>) -> Target<'a> {
        let fill = Some(self.judge(token, touch, tags));
        Target { fill, ..self }
    }

    fn judge(&self, token: Stamp, touch: bool, tags: &mut dyn Iterator<Item = &[u8]>) -> Fill {
        let (db, name) = (self.db, self.name.bytes());
        let under = match self.found() {
            Found::Absent => Under::Nothing,
            Found::Native => Under::Native,
            Found::Entry(_) => Under::Entry,
        };
        let evidence = Evidence { under, touch, ..sight::evidence(db, name, self.old) };
        Fill::judge(db, name, token, evidence, tags)
    }

    /// What the entry's cost becomes, where a command names this or nothing;
    /// `None`: it stays.
    pub fn cost(&self, named: Option<Cost>) -> Option<Cost> {
        let took = self.fill.as_ref().and_then(Fill::accepted).and_then(|filled| filled.took);
        decide::cost_of_fill(named, self.settled.map(|meta| meta.cost), took)
    }

    /// What there is to choose a TTL by, the entry going to have these tags.
    pub fn outlook(&self, tags: &[&[u8]], bounds: Bounds) -> Outlook {
        let dead = self.old.filter(|_| self.settled.is_none());
        adaptive::outlook(self.db, self.name.bytes(), tags, dead, bounds)
    }

    /// The last invalidation that hit what is there.
    pub fn invalidated(&self) -> Stamp {
        sight::invalidated(self.db, self.name.bytes(), self.old)
    }

    /// The database that it is in.
    pub fn database(&self) -> usize {
        self.db
    }

    pub fn found(&self) -> Found<'a> {
        match (self.old, self.settled) {
            (Some(entry), Some(meta)) => Found::Entry(Live { meta, value: entry.content() }),
            (None, _) if self.present => Found::Native,
            _ => Found::Absent,
        }
    }

    /// The metadata of the live entry that is there.
    pub fn meta(&self) -> Option<Meta> {
        self.settled
    }

    /// Whether an entry is there, dead or alive.
    pub fn has_value(&self) -> bool {
        self.old.is_some()
    }

    /// The names of the tags of the live entry that is there.
    pub fn tags(&self) -> Vec<Vec<u8>> {
        self.old.filter(|_| self.settled.is_some()).map(shard::tag_names).unwrap_or_default()
    }

    /// The times that the key's namespace gives where a request is silent.
    pub fn defaults(&self) -> Defaults {
        Defaults { jitter: directives::jitter(), ..settings::defaults(self.name.bytes()) }
    }

    pub fn expire(&self) -> Option<Time> {
        self.key.expire().map(Time)
    }

    /// Puts an entry under the key, with that TTL.
    ///
    /// # Errors
    /// Where it cannot be built; the key is as it was.
    fn put(
        &self,
        meta: &Meta,
        value: Value<'_>,
        tags: Tags<'_>,
        expire: Option<Time>,
    ) -> Result<Stored, Error> {
        match (value, self.old) {
            (Value::New(bytes), _) if packing::is_tried(bytes.len()) => {
                let tagged = match tags {
                    Tags::These(names) => names.len(),
                    Tags::Same => self.old.map_or(0, |old| old.view().tags().len()),
                };
                let size = |length, packed| size_of(meta, self.name.bytes().len(), length, packed, tagged);
                packing::packed(bytes, size, |content| self.put_stored(meta, content, tags, expire))
            }
            (Value::New(bytes), _) => self.put_stored(meta, Content::Plain(bytes), tags, expire),
            (Value::Stored(content), _) => self.put_stored(meta, content, tags, expire),
            (Value::Same, Some(old)) => self.put_stored(meta, old.content(), tags, expire),
            (Value::Same, None) => Err(Error::NothingToApplyTo),
        }
    }

    fn put_stored(
        &self,
        meta: &Meta,
        value: Content<'_>,
        tags: Tags<'_>,
        expire: Option<Time>,
    ) -> Result<Stored, Error> {
        let (name, old) = (self.name.bytes(), self.old);
        let (new, tagged) = match (tags, old) {
            // A refill: no name is looked up.
            (Tags::These(names), Some(old)) if shard::has_tags(old, names) => {
                (shard::heir(meta, name, value, old)?, Tagged::AsHeir)
            }
            (Tags::These(names), _) => (shard::make(self.db, meta, name, value, names)?, Tagged::Itself),
            (Tags::Same, Some(old)) if self.settled.is_some() => {
                (shard::heir(meta, name, value, old)?, Tagged::AsHeir)
            }
            (Tags::Same, _) => (shard::make(self.db, meta, name, value, &[])?, Tagged::Itself),
        };
        let had_expire = old.is_some();
        // SAFETY: a new entry; nothing looks at the old one after this.
        unsafe {
            if had_expire {
                shard::replace(self.db, name, &self.key, new, tagged);
            } else {
                self.key.set(ours(), new.raw());
                shard::arrived(self.db, name, new);
                if self.present {
                    natives::replaced(self.ctx, name);
                }
            }
        }
        if expire != decide::own_expire(meta) {
            ttl::changed(name);
        }
        if expire.is_some() || had_expire {
            self.key.set_expire(expire.map(|at| at.0));
        }
        Ok(new)
    }

    /// Whether a command can see what is there.
    pub fn is_visible(&self) -> bool {
        self.present && (self.old.is_none() || self.settled.is_some())
    }

    /// Removes what is there, and tells its watchers; false where nothing is.
    /// Not through UNLINK, which may have been renamed.
    pub fn remove(&self) -> bool {
        if self.present {
            self.key.unlink();
            self.ctx.signal_modified(self.name);
            self.ctx.notify_deleted(self.name);
        } else {
            adaptive::outdated(self.db, self.name.bytes());
        }
        match self.fill {
            Some(_) => leases::explained(self.db, self.name.bytes()),
            None => leases::changed(self.db, self.name.bytes(), Change::Deleted),
        }
        self.present
    }

    /// Performs a write that the core decided on; the effect is replicated with
    /// its absolute times. False where there was nothing to do, or the fill of a
    /// lease is refused.
    ///
    /// # Errors
    /// Where the entry cannot be built; nothing is changed then.
    pub fn perform(
        self,
        write: Write,
        value: Value<'_>,
        tags: Tags<'_>,
        event: &'static CStr,
    ) -> Result<bool, Error> {
        let is_refused = self.fill.as_ref().is_some_and(|fill| fill.accepted().is_none());
        match write {
            Write::Store { meta, expire, lesson } if !is_refused => {
                self.store(&meta, expire, lesson, value, tags, event)?
            }
            Write::Remove if !is_refused => {
                if self.remove() {
                    self.ctx.replicate_key(del::NAME, self.name);
                }
                self.end();
            }
            _ => {
                self.end();
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts an entry as another server had it, and passes it on verbatim.
    ///
    /// # Errors
    /// Where it cannot be built; nothing is changed then.
    pub fn apply(self, decoded: &Decoded<'_>, expire: Option<Time>, value: Value<'_>) -> Result<(), Error> {
        self.store(&decoded.meta, expire, None, value, Tags::These(&decoded.tags), c"cache.set")
    }

    fn store(
        self,
        meta: &Meta,
        expire: Option<Time>,
        lesson: Option<Lesson>,
        value: Value<'_>,
        tags: Tags<'_>,
        event: &'static CStr,
    ) -> Result<(), Error> {
        let new = self.put(meta, value, tags, expire)?;
        adaptive::stored(self.db, self.name.bytes(), new, lesson);
        if self.is_write {
            COUNTERS.writes.add(1);
            shard::tally(self.db, new, |tally| tally.writes += 1);
        }
        self.replicate(meta, expire, value, new);
        // Last, and with the key closed: an entry whose time is up just now is
        // removed where its watchers are told (Redis 8.6), and replicas hear of
        // that; they must have heard of this before.
        let Target { ctx, name, key, db, is_write, fill, settled, .. } = self;
        drop(key);
        ctx.signal_modified(name);
        ctx.notify(event, name);
        match fill {
            Some(fill) => fill.end(ctx, name, settled.map(|meta| meta.cost).unwrap_or_default()),
            None if is_write => leases::changed(db, name.bytes(), Change::Written),
            None => {}
        }
        hot::written(ctx, db, name.bytes(), meta, value.new_bytes());
        Ok(())
    }

    /// Ends a fill of which nothing is stored.
    fn end(self) {
        let Target { ctx, name, key, fill, .. } = self;
        drop(key);
        if let Some(fill) = fill {
            fill.end(ctx, name, Cost(0));
        }
    }

    fn replicate(&self, meta: &Meta, expire: Option<Time>, value: Value<'_>, new: Stored) {
        // A fill's token means nothing to others.
        if self.fill.is_none() && !propagation::is_heard(self.ctx) {
            return self.ctx.replicate_verbatim();
        }
        // As it is stored: a replica has what its primary has.
        let sent = match value {
            Value::New(_) | Value::Stored(_) => Some(new.content().stored()),
            Value::Same => None,
        };
        let expire = expire.and_then(|at| i64::try_from(at.0).ok()).unwrap_or(apply::NO_EXPIRE);
        let mut encoded = state::scratch();
        shard::encode(meta, new, sent.is_some(), false, &mut encoded);
        self.ctx.replicate(apply::NAME, self.name, expire, &encoded, sent);
        state::give_back(encoded);
    }
}

/// The value of a write.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// These bytes, to be packed where it pays.
    New(&'a [u8]),
    /// What another server has stored, as it is.
    Stored(Content<'a>),
    /// That of the entry which is there.
    Same,
}

impl Value<'_> {
    /// How many bytes are new.
    fn new_bytes(self) -> Option<usize> {
        match self {
            Value::New(bytes) => Some(bytes.len()),
            Value::Stored(content) => Some(content.length()),
            Value::Same => None,
        }
    }
}

/// The tags of a write.
#[derive(Clone, Copy)]
pub enum Tags<'a> {
    /// Those of these names, which differ.
    These(&'a [&'a [u8]]),
    /// Those of the live entry which is there; where none is, none.
    Same,
}
