//! Entries that other nodes of a cluster bring, judged where they arrive
//! (`cacheflow_core::decide::arrived`).
//!
//! The primary alone judges. Its replicas and its AOF have heard of a RESTORE as
//! it was sent, and are told of the entry as it became: behind that, for what we
//! replicate from within a notification would go before it; and in the same turn
//! of the event loop, so that both are sent at once. So it is with the CACHE.APPLY
//! of a slot that Valkey 9 migrates here: it passes the other node's commands on
//! to the replicas as they came. (Another CACHE.APPLY is replicated as it was
//! judged, and needs none of this.) So, too, with the settings of namespaces that
//! the other node tells of, none of which is taken here.

use std::os::raw::c_void;

use cacheflow_core::decide;
use cacheflow_core::entry::Meta;
use cacheflow_core::index::Db;
use cacheflow_core::saved::RECORDS;
use cacheflow_core::saved_settings;
use cacheflow_core::units::Millis;

use crate::border::cross;
use crate::commands::{apply, apply_state, del};
use crate::datatype::ours;
use crate::directives::MAX_CLOCK_SKEW;
use crate::ffi::ctx::{Ctx, Level};
use crate::ffi::key::{Key, Kind};
use crate::ffi::owned::Owned;
use crate::ffi::{raw, timer};
use crate::hooks;
use crate::settings;
use crate::shard;
use crate::state::MainThread;
use crate::stored::Stored;

/// What others are to be told of.
struct ToTell {
    entries: Vec<(Db, Vec<u8>)>,
    settings: Vec<Vec<u8>>,
}

const NOTHING: ToTell = ToTell { entries: Vec::new(), settings: Vec::new() };

static TO_TELL: MainThread<ToTell> = MainThread::new(NOTHING);
/// When it is looked again, in milliseconds, whether a pause is over.
const PAUSE: i64 = 10;

/// What arrives under a key with these tags, as what was invalidated here leaves
/// it.
pub fn judge<'a>(db: Db, name: &[u8], meta: Meta, tags: impl Iterator<Item = &'a [u8]>) -> Meta {
    let skew = Millis(MAX_CLOCK_SKEW.get().unsigned_abs());
    let namespace = shard::namespace_of(name);
    shard::with(|index| {
        let of_tags = tags.filter_map(|tag| index.stamps(db, tag));
        decide::arrived(meta, of_tags.chain([index.namespace_stamps(db, namespace)]), skew)
    })
}

/// Replicas and the AOF are told of the entry under a key as it is now.
pub fn tell_later(db: Db, name: &[u8]) {
    later(|to_tell| to_tell.entries.push((db, name.to_vec())));
}

/// The same, of what is set for a namespace.
pub fn tell_settings_later(namespace: &[u8]) {
    later(|to_tell| to_tell.settings.push(namespace.to_vec()));
}

fn later(add: impl FnOnce(&mut ToTell)) {
    let first = TO_TELL.with(|to_tell| {
        let first = to_tell.entries.is_empty() && to_tell.settings.is_empty();
        add(to_tell);
        first
    });
    if first {
        timer::start(hooks::own(), 0, on_timer);
    }
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    cross("tell_arrivals", (), || {
        // SAFETY: what the server passed.
        let ctx = unsafe { Ctx::new(ctx) };
        if ctx.is_paused() {
            timer::start(ctx, PAUSE, on_timer);
            return;
        }
        let to_tell = TO_TELL.with(|to_tell| std::mem::replace(to_tell, NOTHING));
        if ctx.is_primary_in_cluster() {
            to_tell.entries.iter().for_each(|(db, name)| tell(ctx, *db, name));
            tell_settings(ctx, &to_tell.settings);
        }
    });
}

fn tell(ctx: Ctx, db: Db, name: &[u8]) {
    ctx.select(db);
    let name = Owned::new(name);
    let key = Key::look(ctx, name.get());
    let entry = match key.kind(ours()) {
        // SAFETY: a value of our type.
        Kind::Ours(value) => unsafe { Stored::new(value) },
        Kind::Absent => {
            ctx.replicate_key(del::NAME, name.get());
            return;
        }
        Kind::String | Kind::Other => return,
    };
    let settled = decide::settle(entry.view().meta(), shard::verdict_of_held(db, entry));
    let meta = settled.unwrap_or(Meta { dead: true, ..entry.view().meta() });
    let expire = key.expire().and_then(|at| i64::try_from(at).ok()).unwrap_or(apply::NO_EXPIRE);
    let mut encoded = Vec::new();
    shard::encode(&meta, entry, false, false, &mut encoded);
    drop(key);
    ctx.replicate(apply::NAME, name.get(), expire, &encoded, None);
}

fn tell_settings(ctx: Ctx, namespaces: &[Vec<u8>]) {
    let all: Vec<_> = namespaces.iter().map(|name| (&**name, settings::of(name))).collect();
    let all: Vec<_> = all.iter().map(|(name, settings)| (*name, settings)).collect();
    for some in all.chunks(RECORDS) {
        match saved_settings::encode(some) {
            Some(part) => ctx.replicate_bytes(apply_state::NAME, &part),
            None => ctx.log(Level::Warning, "no memory to tell replicas of what is set for namespaces"),
        }
    }
}
