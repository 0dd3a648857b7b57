//! Tags on native keys: a companion put beside a key, looked at, removed, alone or
//! with its key.
//!
//! The companion lies under a reserved name in the key's slot
//! (`cacheflow_core::companion`), is of our type, and has tags and no value. So
//! the index knows it as it knows entries, and files, replicas and migrations
//! carry it. Who follows whom is the core's to say (`cacheflow_core::companions`),
//! what happened is heard of in `natives_told`.
//!
//! Every removal is replicated as an UNLINK of its own. A replica, and a server that
//! loads a file, remove nothing by themselves: they follow.

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cacheflow_core::companions::{Event, Remove, There};
use cacheflow_core::decide;
use cacheflow_core::entry::Meta;
use cacheflow_core::index::{Db, Verdict};
use cacheflow_core::leases;
use cacheflow_core::packing::Content;
use cacheflow_core::slots::Slot;
use cacheflow_core::units::Millis;

use crate::commands::{apply, del, Error};
use crate::datatype::ours;
use crate::directives::{companion_of, is_reserved, key_of_companion, MAX_CLOCK_SKEW};
use crate::ffi::args::{Str, Strings};
use crate::ffi::ctx::Ctx;
use crate::ffi::key::{Key, Kind};
use crate::ffi::owned::Owned;
use crate::hooks::{self, Came};
use crate::natives_told as told;
use crate::propagation;
use crate::shard::{self, Tagged};
use crate::state::{self, COMPANIONS};
use crate::stored::Stored;

pub use crate::natives_told::on_companion;

/// Whether what is being removed just now is removed by us, who know why.
static OWN: AtomicBool = AtomicBool::new(false);

/// Whether any native key may be tagged.
#[inline]
pub fn is_any() -> bool {
    COMPANIONS.load(Relaxed) > 0
}

/// Whether this server only does what it is told.
pub fn follows(ctx: Ctx) -> bool {
    ctx.is_replica() || ctx.is_loading()
}

/// Whether it is us who remove what goes just now.
#[inline]
pub fn removes() -> bool {
    OWN.load(Relaxed)
}

/// The companion of a native key, where that opened holds it.
fn companion_in(opened: &Key, key: &[u8]) -> Option<Stored> {
    let Kind::Ours(value) = opened.kind(ours()) else { return None };
    // SAFETY: a value of our type.
    let entry = unsafe { Stored::new(value) };
    // Under its name may lie what was moved there, and goes in a moment.
    (entry.is_companion() && entry.view().name() == key).then_some(entry)
}

/// The same, unless an invalidation has killed it: then it waits for the sweep.
fn live_in(ctx: Ctx, opened: &Key, key: &[u8]) -> Option<Stored> {
    let db = ctx.database();
    companion_in(opened, key).filter(|entry| shard::verdict_of_held(db, *entry) == Verdict::Untouched)
}

/// What is there of a native key and its companion, in the context's database. An
/// entry under the key is no native key.
pub fn there(ctx: Ctx, key: &[u8]) -> There {
    let (name, companion) = (Owned::new(key), Owned::new(&companion_of(key)));
    let kind = Key::look(ctx, name.get()).kind(ours());
    There {
        key: matches!(kind, Kind::String | Kind::Other),
        companion: live_in(ctx, &Key::look(ctx, companion.get()), key).is_some(),
    }
}

/// A native key's tags, and how its companion is: those of the context's database.
pub fn look(ctx: Ctx, key: &[u8]) -> Option<(Meta, Vec<Vec<u8>>)> {
    if !is_any() {
        return None;
    }
    let companion = Owned::new(&companion_of(key));
    let opened = Key::look(ctx, companion.get());
    live_in(ctx, &opened, key).map(|entry| (entry.view().meta(), shard::tag_names(entry)))
}

/// Whether something lies under the name of a key's companion.
pub fn has_companion(db: Db, key: &[u8]) -> bool {
    let Some(ctx) = context(db) else { return false };
    let companion = Owned::new(&companion_of(key));
    Key::look(ctx, companion.get()).kind(ours()) != Kind::Absent
}

/// The tags of what a read has found: an entry, or a native key.
pub fn tags_read(ctx: Ctx, name: Str<'_>, there: leases::There, entry: Option<Stored>) -> Vec<Vec<u8>> {
    match entry {
        Some(entry) => shard::tag_names(entry),
        None if there == leases::There::Native => {
            look(ctx, name.bytes()).map(|(_, tags)| tags).unwrap_or_default()
        }
        None => Vec::new(),
    }
}

/// Gives a native key that is there these tags, which differ; with none its
/// companion goes. Replicas hear of it.
///
/// # Errors
/// Where a companion cannot be built; nothing is changed then.
pub fn set_tags(ctx: Ctx, key: &[u8], meta: &Meta, tags: &[&[u8]]) -> Result<(), Error> {
    if tags.is_empty() {
        remove(ctx, key, Remove::COMPANION);
        return Ok(());
    }
    let companion = Owned::new(&companion_of(key));
    let entry = put(ctx, companion.get(), meta, tags)?;
    if propagation::is_heard(ctx) {
        let mut encoded = state::scratch();
        shard::encode(meta, entry, true, false, &mut encoded);
        ctx.replicate(apply::NAME, companion.get(), apply::NO_EXPIRE, &encoded, Some(&[]));
        state::give_back(encoded);
    }
    Ok(())
}

/// Puts a companion under its name, in place of whatever is there.
///
/// # Errors
/// Where it cannot be built; nothing is changed then.
pub fn put(ctx: Ctx, name: Str<'_>, meta: &Meta, tags: &[&[u8]]) -> Result<Stored, Error> {
    let db = ctx.database();
    let key = Key::write_untouched(ctx, name);
    let new = shard::make(db, meta, name.bytes(), Content::Plain(&[]), tags)?;
    // SAFETY: a new entry; nothing looks at the old one after this.
    unsafe {
        match key.kind(ours()) {
            Kind::Ours(_) => shard::replace(db, name.bytes(), &key, new, Tagged::Itself),
            _ => {
                key.set(ours(), new.raw());
                shard::arrived(db, name.bytes(), new);
            }
        }
    }
    key.warm();
    Ok(new)
}

/// Another server's companion, as it was there: what is brought by CACHE.APPLY.
///
/// # Errors
/// Where it cannot be built; nothing is changed then.
pub fn apply(ctx: Ctx, name: Str<'_>, key: &[u8], meta: &Meta, tags: &[&[u8]]) -> Result<(), Error> {
    put(ctx, name, meta, tags)?;
    ctx.replicate_verbatim();
    came(ctx, key, meta, tags);
    Ok(())
}

/// A companion was brought to the context's database.
pub fn came(ctx: Ctx, key: &[u8], meta: &Meta, tags: &[&[u8]]) {
    if !follows(ctx) {
        told::companion_came(ctx.database(), key, is_invalidated(ctx, meta, tags));
    }
}

/// Whether one of the tags was invalidated, softly or not, since a companion was
/// born: on another node of a cluster, by another clock.
fn is_invalidated(ctx: Ctx, meta: &Meta, tags: &[&[u8]]) -> bool {
    let skew = if ctx.is_cluster() { Millis(MAX_CLOCK_SKEW.get().unsigned_abs()) } else { Millis::ZERO };
    let db = ctx.database();
    let judged = shard::with(|index| {
        decide::arrived(*meta, tags.iter().filter_map(|tag| index.stamps(db, tag)), skew)
    });
    judged.dead || judged.staled_at.is_some()
}

/// Tells the core, and does what it answers. The context is of the database.
pub fn happened(ctx: Ctx, key: &[u8], event: Event<'_>, there: There) {
    let remove_these = told::happened(ctx.database(), key, event, there);
    remove(ctx, key, remove_these);
}

/// Removes a native key, its companion, or both, from the context's database, as
/// UNLINK would; replicas hear of it.
pub fn remove(ctx: Ctx, key: &[u8], what: Remove) {
    if what == Remove::NONE {
        return;
    }
    let name = Owned::new(key);
    let companion = Owned::new(&companion_of(key));
    let gone = unlink(ctx, name.get(), companion.get(), what);
    let names = [(gone.key, name.get().raw()), (gone.companion, companion.get().raw())];
    let names: Vec<_> = names.into_iter().filter(|(is_gone, _)| *is_gone).map(|(_, name)| name).collect();
    if !names.is_empty() && propagation::is_heard(ctx) {
        // SAFETY: the strings live until the end of this function.
        let names = unsafe { Strings::of(&names) };
        if !ctx.replicate_keys(UNLINK, names) {
            ctx.replicate_keys(del::NAME, names);
        }
    }
}

/// Removes them here, and tells who watches the key; answers who was there.
fn unlink(ctx: Ctx, name: Str<'_>, companion: Str<'_>, what: Remove) -> Remove {
    let mut gone = Remove::NONE;
    let by_us = OWN.swap(true, Relaxed);
    if what.companion {
        let opened = Key::write_untouched(ctx, companion);
        gone.companion = companion_in(&opened, name.bytes()).is_some();
        if gone.companion {
            opened.unlink();
        }
    }
    OWN.store(by_us, Relaxed);
    gone.key = what.key && unlink_key(ctx, name);
    gone
}

/// Removes a native key here, if it is one, and tells who watches it.
fn unlink_key(ctx: Ctx, name: Str<'_>) -> bool {
    let opened = Key::write_untouched(ctx, name);
    if !matches!(opened.kind(ours()), Kind::String | Kind::Other) {
        return false;
    }
    let by_us = OWN.swap(true, Relaxed);
    opened.unlink();
    drop(opened);
    ctx.signal_modified(name);
    ctx.notify_deleted(name);
    OWN.store(by_us, Relaxed);
    true
}

const UNLINK: &CStr = c"UNLINK";

/// A command of ours has put an entry in the place of a native key: its tags are
/// the entry's own.
pub fn replaced(ctx: Ctx, key: &[u8]) {
    if is_any() && !follows(ctx) {
        remove(ctx, key, Remove::COMPANION);
    }
}

/// Removes the native keys whose companions lay in these slots of the context's
/// database when they were invalidated, and whose companion has left them since.
/// Each is looked at anew: whoever is told of a removal may remove others.
pub fn invalidate(ctx: Ctx, natives: &[Slot], tags: &[&[u8]]) {
    if follows(ctx) {
        return;
    }
    let db = ctx.database();
    let dead = |slot: Slot| {
        let entry = shard::at(db, slot).filter(|entry| entry.is_companion())?;
        (shard::verdict_of_held(db, entry) == Verdict::Dead).then(|| Owned::new(entry.view().name()))
    };
    // In a cluster a command's keys are of one slot.
    let batch = if told::is_quiet() && !ctx.is_cluster() { BATCH } else { 1 };
    for slots in natives.chunks(batch) {
        let keys: Vec<Owned> = slots.iter().filter_map(|&slot| dead(slot)).collect();
        if keys.len() < 2 || !unlink_keys(ctx, &keys) {
            keys.iter().for_each(|key| remove_invalidated(ctx, key));
        }
    }
    for key in told::left_behind(db, tags) {
        remove(ctx, &key, Remove::KEY);
        told::happened(db, &key, Event::KeyWent, There::default());
    }
}

/// Keys of a batch: of more, a turn of the stream to replicas would be long.
const BATCH: usize = 1000;

/// Removes invalidated keys by one UNLINK, as clients would: half the work of opening
/// and removing each. Whoever puts an entry over a native key removes its companion,
/// so that none of them holds one. False where the server has no such command
/// (`rename-command`).
fn unlink_keys(ctx: Ctx, keys: &[Owned]) -> bool {
    let names: Vec<_> = keys.iter().map(|key| key.get().raw()).collect();
    let by_us = OWN.swap(true, Relaxed);
    // SAFETY: the strings live until the end of this function.
    let done = ctx.perform_keys(UNLINK, unsafe { Strings::of(&names) });
    OWN.store(by_us, Relaxed);
    done
}

/// Its companion is left to the sweep.
fn remove_invalidated(ctx: Ctx, key: &Owned) {
    let gone = unlink_key(ctx, key.get());
    if gone && propagation::is_heard(ctx) && !ctx.replicate_key(UNLINK, key.get()) {
        ctx.replicate_key(del::NAME, key.get());
    }
    if !told::is_quiet() {
        // If it has yet to come it goes then.
        let there = There { key: gone, companion: false };
        told::happened(ctx.database(), key.get().bytes(), Event::Invalidated, there);
    }
}

/// Takes in what has come under the name of a companion, or was one.
pub fn took_in(db: Db, name: Str<'_>, entry: Stored, how: Came) {
    let Some(ctx) = context(db) else { return };
    let key = key_of_companion(name.bytes());
    match (key, how) {
        (Some(key), Came::Brought) => {
            let tags = shard::tag_names(entry);
            let tags: Vec<&[u8]> = tags.iter().map(Vec::as_slice).collect();
            let meta = entry.view().meta();
            if entry.is_companion() && entry.view().name() == key && shard::is_at_home(db, entry) {
                shard::arrived(db, name.bytes(), entry);
            } else if put(ctx, name, &meta, &tags).is_err() {
                shard::distrusted(entry);
                return told::astray(db, name.bytes());
            }
            came(ctx, key, &meta, &tags);
        }
        (Some(_), Came::Found) if entry.is_companion() => shard::arrived(db, name.bytes(), entry),
        // Nobody but us says what a key's companion is.
        _ => {
            shard::distrusted(entry);
            told::astray(db, name.bytes());
        }
    }
}

/// Removes what lies under a name that a companion was moved to, or that is one's.
pub fn remove_astray(ctx: Ctx, name: &[u8]) {
    let owned = Owned::new(name);
    let key = Key::write_untouched(ctx, owned.get());
    let Kind::Ours(value) = key.kind(ours()) else { return };
    // SAFETY: a value of our type.
    if !unsafe { Stored::new(value) }.head().is_marked_dead() {
        return;
    }
    key.unlink();
    drop(key);
    ctx.signal_modified(owned.get());
    if propagation::is_heard(ctx) && !ctx.replicate_key(UNLINK, owned.get()) {
        ctx.replicate_key(del::NAME, owned.get());
    }
}

/// Refuses a name that no key of a user's may have.
///
/// # Errors
/// [`Error::Reserved`].
#[inline]
pub fn check_name(name: &[u8]) -> Result<(), Error> {
    if is_reserved(name) {
        Err(Error::Reserved)
    } else {
        Ok(())
    }
}

/// The context that is used where none is passed in whose database could be
/// selected, of that database.
pub fn context(db: Db) -> Option<Ctx> {
    let ctx = hooks::own();
    ctx.select(db).then_some(ctx)
}
