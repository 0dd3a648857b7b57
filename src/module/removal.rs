//! An entry's key removed by ourselves: swept or evicted.

use std::ffi::CStr;

use cacheflow_core::index::Db;

use crate::commands::del;
use crate::datatype::ours;
use crate::ffi::ctx::Ctx;
use crate::ffi::key::{Key, Kind};
use crate::ffi::owned::Owned;
use crate::leases;
use crate::locks;
use crate::propagation;
use crate::stored::Stored;

/// The key that holds an entry, and its name. `None` where it does not any more:
/// opening may find that its time is up, and then the entry is freed.
pub fn open(ctx: Ctx, db: Db, entry: Stored) -> Option<(Key, Owned)> {
    if !ctx.select(db) {
        return None;
    }
    let name = Owned::new(&entry.key_name());
    let key = Key::write_untouched(ctx, name.get());
    (key.kind(ours()) == Kind::Ours(entry.raw())).then_some((key, name))
}

/// Removes an entry's key, tells who watches it, by that event, and has replicas
/// and the AOF do so. False where the entry was gone.
pub fn remove(ctx: Ctx, db: Db, entry: Stored, event: &'static CStr) -> bool {
    let Some((key, name)) = open(ctx, db, entry) else { return false };
    key.unlink();
    leases::explained(db, name.get().bytes());
    ctx.signal_modified(name.get());
    ctx.notify(event, name.get());
    if propagation::is_heard(ctx) {
        if !ctx.replicate_key(UNLINK, name.get()) {
            ctx.replicate_key(del::NAME, name.get());
        }
        if !leases::is_quiet() {
            // Others take it for a deletion, which breaks a lock's fence: whether
            // it did is ours to say.
            locks::tell_lock(ctx, db, name.get());
        }
    }
    true
}

const UNLINK: &CStr = c"UNLINK";
