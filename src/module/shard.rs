//! The shard's index, and the entries' memory as the index sees it.
//!
//! Who tells the index what: a command that writes ([`replace`], [`arrived`]), `unlink2` when an
//! entry leaves its key by whatever way ([`left`]), the notifications of what
//! brought one under a key ([`arrived`]), loading (`loading`), whole-database events (`hooks`), the
//! defragmenter ([`moved`]), CACHE.INVALIDATE (`invalidation`).
//!
//! # Tags of an entry
//! An entry's memory carries numbers, each of which the index counts as a
//! reference from [`make`] until the memory is freed ([`release`]). Freeing may
//! happen on the lazy-free thread, which must not touch the index: there the
//! numbers are queued, and the main thread lets go of them ([`settle_debts`]).

use std::os::raw::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use cacheflow_core::codec;
use cacheflow_core::decide;
use cacheflow_core::entry::{mark_dead, BuildError, Meta, TagId};
use cacheflow_core::index::{Counts, Db, Entries, Index, Verdict};
use cacheflow_core::namespace;
use cacheflow_core::packing::Content;
use cacheflow_core::slots::{Handle, Slot};
use cacheflow_core::tally::Tally;
use cacheflow_core::units::Stamp;
use lazy_static::lazy_static;
use parking_lot::Mutex;
use smallvec::SmallVec;

use crate::adaptive;
use crate::ahead;
use crate::border::cross;
use crate::datatype::ours;
use crate::directives::NAMESPACE_DELIMITER;
use crate::endings;
use crate::evict;
use crate::ffi::ctx::{Ctx, Level};
use crate::ffi::key::Key;
use crate::ffi::prefetch;
use crate::leases;
use crate::loading;
use crate::natives_told;
use crate::natives_walk;
use crate::settings;
use crate::state::{is_main_thread, MainThread};
use crate::stored::Stored;
use crate::ttl;

lazy_static! {
    static ref INDEX: MainThread<Index> = MainThread::new(Index::default());
}

/// The address of an entry that left its key stale by invalidation, and since
/// when: if it is on its way to another key, it takes that along. Nobody frees
/// it on the way, and whoever frees it clears this.
static PASSING: AtomicU64 = AtomicU64::new(0);
static PASSING_SINCE: AtomicU64 = AtomicU64::new(0);

/// Tags to let go of, of entries that another thread has freed.
static DEBTS: Mutex<Vec<TagId>> = Mutex::new(Vec::new());
static IN_DEBT: AtomicBool = AtomicBool::new(false);

/// The stamp of the last invalidation: who was born later is untouched by any.
/// A copy of the index's own, for reads.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// Entries' memory: a handle is an address.
pub struct Memory;

impl Entries for Memory {
    fn bytes(&self, handle: Handle) -> &[u8] {
        stored(handle).bytes()
    }

    fn bytes_mut(&mut self, handle: Handle) -> &mut [u8] {
        stored(handle).bytes_mut()
    }

    fn both(&mut self, one: Handle, other: Handle) -> (&mut [u8], &[u8]) {
        // Two allocations: the index asks with two handles that differ.
        (stored(one).bytes_mut(), stored(other).bytes())
    }
}

fn handle(entry: Stored) -> Handle {
    Handle(entry.raw().as_ptr() as u64)
}

/// The entry of a handle that is in the index.
pub fn stored(handle: Handle) -> Stored {
    let address = NonNull::new(handle.0 as *mut c_void).unwrap_or(NonNull::dangling());
    // SAFETY: handles are made by `handle` and are in the index as long as the
    // entry lives: `unlink2` and the flush events take them out before.
    unsafe { Stored::new(address) }
}

/// Runs `body` on the index. `body` calls nothing of the server's.
#[inline]
pub fn with<R>(body: impl FnOnce(&mut Index) -> R) -> R {
    if loading::is_any() {
        settle_loaded();
    }
    INDEX.with(body)
}

/// Takes in the entry that was loaded last.
#[cold]
#[inline(never)]
pub fn settle_loaded() {
    if let Some((db, entry)) = loading::take() {
        let namespace = namespace_of(entry.view().name());
        INDEX.with(|index| index.attach(db, handle(entry), namespace, &mut Memory));
    }
}

/// As [`with`], for what may raise the stamp of the last invalidation.
pub fn with_stamps<R>(body: impl FnOnce(&mut Index) -> R) -> R {
    with(|index| {
        let answer = body(index);
        LATEST.store(index.latest().0, Relaxed);
        answer
    })
}

/// A border of the server's behind which the index is told something that it
/// must not miss: where that panics, the index is not believed any more.
/// Whether it did not.
pub fn told(name: &'static str, body: impl FnOnce()) -> bool {
    let done = cross(name, false, || {
        body();
        true
    });
    if !done {
        cross("distrust", (), distrust);
    }
    done
}

/// As [`told`], and told once more where that panicked: of what was missed
/// nobody would ever know.
pub fn told_again(name: &'static str, body: impl Fn()) -> bool {
    told(name, &body)
        || cross("distrust", false, || {
            body();
            true
        })
}

/// Forgets all entries, looking at none, for some may be gone: what was missed
/// is not known. Entries come back as they are written, all of them by
/// CACHE.VERIFY REPAIR; their keys and values are untouched. Their tags are
/// believed, and what was invalidated: it is dead before they are back, and
/// invalidations go on to hit what is not.
fn distrust() {
    loading::take();
    with(|index| (0..index.extent()).for_each(|db| index.disown(db)));
    let text = "the index missed something and has forgotten its entries; run CACHE.VERIFY REPAIR";
    Ctx::none().log(Level::Warning, text);
}

/// The namespace of a key.
pub fn namespace_of(name: &[u8]) -> &[u8] {
    namespace::of(name, NAMESPACE_DELIMITER.get())
}

// ── what invalidations have made of an entry ────────────────────────────────

/// What the invalidations since its birth have made of an entry under a key.
#[inline]
pub fn verdict(db: Db, name: &[u8], entry: Stored) -> Verdict {
    let head = entry.head();
    if head.born().0 >= LATEST.load(Relaxed) {
        return if head.is_marked_dead() { Verdict::Dead } else { Verdict::Untouched };
    }
    looked_up_verdict(db, name, entry)
}

#[inline(never)]
fn looked_up_verdict(db: Db, name: &[u8], entry: Stored) -> Verdict {
    // One that the index does not hold has no namespace's number yet.
    if entry.head().slot() == 0 {
        arrived(db, name, entry);
    }
    with(|index| index.verdict(db, entry.view()))
}

/// An entry's metadata as invalidations have left it; `None`: it is dead.
pub fn settled(db: Db, name: &[u8], entry: Stored) -> Option<Meta> {
    decide::settle(entry.view().meta(), verdict(db, name, entry))
}

/// The verdict where no key is at hand: on what the index holds.
pub fn verdict_of_held(db: Db, entry: Stored) -> Verdict {
    with(|index| index.verdict(db, entry.view()))
}

// ── tags ────────────────────────────────────────────────────────────────────

/// Lays out an entry that is to lie in `db`, its tags all different.
///
/// # Errors
/// See [`Stored::build`].
pub fn make(
    db: Db,
    meta: &Meta,
    name: &[u8],
    value: Content<'_>,
    tags: &[&[u8]],
) -> Result<Stored, BuildError> {
    if tags.is_empty() {
        return Stored::build(meta, name, value, &[]);
    }
    settle_debts();
    let mut ids = Ids::new();
    with(|index| {
        index.intern_all(db, tags.iter().copied(), |id| ids.push(id));
        ids.iter().for_each(|&id| prefetch(index.members_end(id)));
    });
    build_with(meta, name, value, &ids)
}

/// Lays out an entry with the tags of another of the same database.
///
/// # Errors
/// See [`Stored::build`].
pub fn remake(meta: &Meta, name: &[u8], value: Content<'_>, like: Stored) -> Result<Stored, BuildError> {
    heir(meta, name, value, like).inspect(|&made| retain_all(made))
}

/// As [`remake`], for [`replace`] alone: it refers to the tags only once it is
/// there in the place of the other.
///
/// # Errors
/// See [`Stored::build`].
pub fn heir(meta: &Meta, name: &[u8], value: Content<'_>, of: Stored) -> Result<Stored, BuildError> {
    let ids: Ids = of.view().tags().collect();
    Stored::build(meta, name, value, &ids)
}

fn retain_all(entry: Stored) {
    with(|index| entry.view().tags().for_each(|id| index.retain(id)));
}

/// Whether an entry carries these tags, in this order.
pub fn has_tags(entry: Stored, names: &[&[u8]]) -> bool {
    let ids = entry.view().tags();
    ids.len() == names.len()
        && with(|index| ids.zip(names).all(|(id, &name)| index.name(id).is_some_and(|of| *of == *name)))
}

/// Numbers of tags, few of them in place: a write allocates none for them.
type Ids = SmallVec<[TagId; 8]>;

fn build_with(meta: &Meta, name: &[u8], value: Content<'_>, ids: &[TagId]) -> Result<Stored, BuildError> {
    Stored::build(meta, name, value, ids).inspect_err(|_| release(ids.iter().copied()))
}

/// Lets go of the tags of memory that is being freed. On any thread.
pub fn release(ids: impl Iterator<Item = TagId>) {
    if is_main_thread() {
        with(|index| ids.for_each(|id| index.release(id)));
    } else {
        DEBTS.lock().extend(ids);
        IN_DEBT.store(true, Relaxed);
    }
}

/// Lets go of the tags of what another thread has freed, some of them at a
/// time.
pub fn settle_debts() {
    const AT_A_TIME: usize = 256;
    if !IN_DEBT.load(Relaxed) {
        return;
    }
    let mut debts = DEBTS.lock();
    let rest = debts.len().saturating_sub(AT_A_TIME);
    with(|index| debts.drain(rest..).for_each(|id| index.release(id)));
    if debts.is_empty() {
        *debts = Vec::new();
        IN_DEBT.store(false, Relaxed);
    }
}

/// Whether [`settle_debts`] has more to do.
pub fn is_in_debt() -> bool {
    IN_DEBT.load(Relaxed)
}

/// The names of an entry's tags.
pub fn tag_names(entry: Stored) -> Vec<Vec<u8>> {
    with(|index| entry.view().tags().map(|id| index.name(id).unwrap_or_default().to_vec()).collect())
}

/// Runs `body` on the name of an entry's first tag.
pub fn with_first_tag<R>(entry: Stored, body: impl FnOnce(Option<&[u8]>) -> R) -> R {
    with(|index| body(entry.view().tag(0).and_then(|id| index.name(id))))
}

/// Appends the encoding of `meta` with an entry's tags; `with_value`: its value goes
/// with it, so that whoever reads it must know how that is stored.
pub fn encode(meta: &Meta, entry: Stored, with_value: bool, with_hits: bool, out: &mut Vec<u8>) {
    let tags = entry.view().tags();
    let unpacked = if with_value { entry.content().unpacked() } else { None };
    with(|index| {
        codec::encode(meta, unpacked, tags.map(|id| index.name(id).unwrap_or_default()), with_hits, out);
    });
}

// ── entries coming and going ────────────────────────────────────────────────

/// How an entry that replaces another came to its tags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tagged {
    /// It refers to them itself ([`make`], [`remake`]).
    Itself,
    /// It has those of the other ([`heir`]).
    AsHeir,
}

/// Puts an entry in the place of the one that an open key holds, and frees
/// that.
///
/// # Safety
/// The key holds an entry, `new` is under none, and nobody looks at the old one
/// after this.
pub unsafe fn replace(db: Db, name: &[u8], key: &Key, new: Stored, tagged: Tagged) {
    // SAFETY: as promised; what comes back is the entry.
    let old = unsafe { key.replace(ours(), new.raw()).map(|old| Stored::new(old)) };
    let heir = tagged == Tagged::AsHeir;
    let succeeded =
        old.is_some_and(|old| with(|index| index.succeed(db, handle(old), handle(new), &mut Memory)));
    if !succeeded {
        if heir {
            retain_all(new);
        }
        with(|index| {
            if let Some(old) = old {
                index.detach(db, handle(old), &mut Memory);
            }
            index.attach(db, handle(new), namespace_of(name), &mut Memory);
        });
    }
    if let Some(old) = old {
        evict::succeeded(db, new, old.marks(), succeeded);
        // SAFETY: as promised. The references of one that an heir succeeded are
        // the heir's by now.
        unsafe {
            if succeeded && heir {
                old.free_as_succeeded();
            } else {
                old.free();
            }
        }
    }
}

/// An entry is under a key, by whatever way.
pub fn arrived(db: Db, name: &[u8], entry: Stored) {
    let is_new = with(|index| {
        let is_new = !index.holds(db, handle(entry), entry.view());
        is_new && index.attach(db, handle(entry), namespace_of(name), &mut Memory)
    });
    if is_new {
        evict::came(db, entry);
    }
}

/// An entry left its key. If it goes to another it takes along what has become
/// of it here.
pub fn left(db: Db, entry: Stored) {
    if entry.is_companion() {
        natives_told::companion_left(db, entry);
        with(|index| index.detach(db, handle(entry), &mut Memory));
        return;
    }
    if !leases::is_quiet() {
        leases::entry_leaves(db, entry);
    }
    let verdict = verdict_of_held(db, entry);
    adaptive::leaves(db, entry, verdict != Verdict::Untouched);
    evict::leaves(entry);
    if verdict != Verdict::Dead {
        endings::left(db, entry);
    }
    if ahead::is_used() {
        ahead::due(db, entry.view().name());
    }
    with(|index| {
        match verdict {
            Verdict::Untouched => {}
            Verdict::Dead => mark_dead(entry.bytes_mut()),
            Verdict::Stale(since) => {
                PASSING_SINCE.store(since.0, Relaxed);
                PASSING.store(handle(entry).0, Relaxed);
            }
        }
        index.detach(db, handle(entry), &mut Memory);
    });
}

/// What an entry that just came under a key by RENAME or MOVE has to become
/// there; `None`: it may stay as it is.
pub fn as_moved(db: Db, name: &[u8], entry: Stored) -> Option<Meta> {
    let passing = PASSING.swap(0, Relaxed) == handle(entry).0;
    let since = passing.then(|| Stamp(PASSING_SINCE.load(Relaxed)));
    let view = entry.view();
    with(|index| {
        let names = view.tags().filter_map(|id| index.name(id));
        let last = index.last_stamp(db, namespace_of(name), names);
        let at_home = view.tags().all(|id| index.is_of(id, db));
        let meta = view.meta();
        let moved = decide::moved(meta, since.map_or(Verdict::Untouched, Verdict::Stale), last);
        (!at_home || moved != meta || view.name() != name).then_some(moved)
    })
}

/// What a copy of an entry in `from` is, under another name or in another
/// database.
pub fn as_copied(from: Db, to: Db, name: &[u8], entry: Stored) -> Meta {
    let view = entry.view();
    with(|index| {
        let names = view.tags().filter_map(|id| index.name(id));
        let last = index.last_stamp(to, namespace_of(name), names);
        decide::moved(view.meta(), index.verdict(from, view), last)
    })
}

/// An entry's memory moved.
pub fn moved(db: Db, to: Stored) {
    with(|index| index.relocate(db, to.view().slot(), handle(to)));
}

/// A database was emptied, or all were.
pub fn flushed(db: Option<Db>) {
    loading::take();
    adaptive::forget();
    with(|index| match db {
        Some(db) => index.flush(db),
        None => (0..index.extent()).for_each(|db| index.flush(db)),
    });
    evict::flushed(db);
}

/// Forgets the entries of a database, that are all there still and come again.
pub fn disowned(db: Db) {
    with(|index| index.disown(db));
}

/// Whether an entry's tags are those of the database that it lies in.
pub fn is_at_home(db: Db, entry: Stored) -> bool {
    with(|index| entry.view().tags().all(|id| index.is_of(id, db)))
}

/// An entry that may have escaped an invalidation, for nobody took note of how
/// it came to its key: dead.
pub fn distrusted(entry: Stored) {
    mark_dead(entry.bytes_mut());
}

/// Two databases were exchanged.
pub fn swapped(one: Db, other: Db) {
    adaptive::forget();
    with(|index| index.swap(one, other));
    evict::flushed(None);
    evict::survey();
}

/// An entry was loaded from a file: its key comes next.
pub fn loaded(db: Db, entry: Stored) {
    settle_loaded();
    loading::set(db, entry);
}

/// Loading has ended: what was loaded has its key.
pub fn loading_ended() {
    settle_loaded();
    natives_walk::loaded();
    ttl::all_may_differ();
    evict::survey();
}

/// An entry is about to be freed: it goes under no key. On any thread.
pub fn freed(entry: Stored) {
    loading::freed(entry);
    // Where it is another's it stays.
    let _ = PASSING.compare_exchange(handle(entry).0, 0, Relaxed, Relaxed);
}

#[path = "shard_look.rs"]
mod look;

pub use look::*;
