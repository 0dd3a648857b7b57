//! The shard's index, and the entries' memory as the index sees it.
//!
//! Who tells the index what: a command that writes ([`put`]), `unlink2` when an
//! entry leaves its key by whatever way ([`left`]), the notifications of what
//! brought one under a key ([`arrived`]), whole-database events (`hooks`), the
//! defragmenter ([`moved`]).

use std::os::raw::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cacheflow_core::index::{Counts, Db, Entries, Index};
use cacheflow_core::namespace;
use cacheflow_core::slots::Handle;
use lazy_static::lazy_static;

use crate::border::cross;
use crate::directives::NAMESPACE_DELIMITER;
use crate::ffi::ctx::{Ctx, Level};
use crate::state::MainThread;
use crate::stored::Stored;

lazy_static! {
    static ref INDEX: MainThread<Index> = MainThread::new(Index::default());
}

/// The address of an entry that was loaded from a file and whose key is not
/// there yet; 0: of none. Atomic, for `free` may run on any thread.
static LOADING: AtomicU64 = AtomicU64::new(0);

/// Entries' memory: a handle is an address.
struct Memory;

impl Entries for Memory {
    fn bytes(&self, handle: Handle) -> &[u8] {
        stored(handle).bytes()
    }

    fn bytes_mut(&mut self, handle: Handle) -> &mut [u8] {
        stored(handle).bytes_mut()
    }
}

fn handle(entry: Stored) -> Handle {
    Handle(entry.raw().as_ptr() as u64)
}

fn stored(handle: Handle) -> Stored {
    let address = NonNull::new(handle.0 as *mut c_void).unwrap_or(NonNull::dangling());
    // SAFETY: handles are made by `handle` and are in the index as long as the
    // entry lives: `unlink2` and the flush events take them out before.
    unsafe { Stored::new(address) }
}

/// Runs `body` on the index. `body` calls nothing of the server's.
fn with<R>(body: impl FnOnce(&mut Index) -> R) -> R {
    INDEX.with(body)
}

/// A border of the server's behind which the index is told something that it
/// must not miss: where that panics, the index is not believed any more.
pub fn told(name: &'static str, body: impl FnOnce()) {
    let done = cross(name, false, || {
        body();
        true
    });
    if !done {
        cross("distrust", (), distrust);
    }
}

/// Forgets all entries, looking at none, for some may be gone: what was missed
/// is not known. Entries come back as they are written, all of them by
/// CACHE.VERIFY REPAIR; their keys and values are untouched.
fn distrust() {
    flushed(None);
    let text = "the index missed something and has forgotten its entries; run CACHE.VERIFY REPAIR";
    Ctx::none().log(Level::Warning, text);
}

fn namespace_of(name: &[u8]) -> &[u8] {
    namespace::of(name, NAMESPACE_DELIMITER.get())
}

/// An entry was put under a key, in place of `old` if the key held one.
pub fn put(db: Db, name: &[u8], old: Option<Stored>, new: Stored) {
    with(|index| {
        if let Some(old) = old.map(handle) {
            if index.succeed(db, old, handle(new), &mut Memory) {
                return;
            }
            index.detach(db, old, &mut Memory);
        }
        index.attach(db, handle(new), namespace_of(name), &mut Memory);
    });
}

/// An entry came under a key by the server's doing.
pub fn arrived(db: Db, name: &[u8], entry: Stored) {
    with(|index| {
        if !index.holds(db, handle(entry), entry.view()) {
            index.attach(db, handle(entry), namespace_of(name), &mut Memory);
        }
    });
}

/// An entry left its key.
pub fn left(db: Db, entry: Stored) {
    with(|index| index.detach(db, handle(entry), &mut Memory));
}

/// An entry's memory moved.
pub fn moved(db: Db, to: Stored) {
    with(|index| index.relocate(db, to.view().slot(), handle(to)));
}

/// A database was emptied, or all were.
pub fn flushed(db: Option<Db>) {
    LOADING.store(0, Relaxed);
    with(|index| match db {
        Some(db) => index.flush(db),
        None => (0..index.extent()).for_each(|db| index.flush(db)),
    });
}

/// Two databases were exchanged.
pub fn swapped(one: Db, other: Db) {
    with(|index| index.swap(one, other));
}

/// Remembers an entry that was loaded, until its key is there.
pub fn loaded(entry: Stored) {
    LOADING.store(handle(entry).0, Relaxed);
}

/// The key of the entry that was loaded last is there.
pub fn loaded_under(db: Db, name: &[u8]) {
    let address = LOADING.swap(0, Relaxed);
    if address != 0 {
        arrived(db, name, stored(Handle(address)));
    }
}

/// An entry is about to be freed: one that was loaded and is not wanted (it
/// has expired) never gets its key. On any thread.
pub fn freed(entry: Stored) {
    // Whether it was that one or not: afterwards it is not.
    let _ = LOADING.compare_exchange(handle(entry).0, 0, Relaxed, Relaxed);
}

/// How much there is.
pub fn counts() -> Counts {
    with(|index| index.counts())
}

/// Bytes that the index holds.
pub fn allocated() -> usize {
    with(|index| index.allocated())
}

/// The entries that the index holds in a database.
pub fn entries(db: Db) -> Vec<Stored> {
    with(|index| index.handles(db).map(stored).collect())
}

/// What is wrong inside of the index.
pub fn problems() -> Vec<String> {
    with(|index| index.validate(&Memory))
}
