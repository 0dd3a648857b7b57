//! The entry that was loaded from a file last. It is taken into the index when
//! anybody looks at that next, as a rule for the next entry: what its
//! memberships will touch is fetched meanwhile (a quarter of the time that the
//! module adds to loading). Until then its key comes into being, or the server
//! does not want it, for it has expired, and frees it.
//!
//! Why not the notification `loaded`: it costs every key of a file some 0.2 µs,
//! native ones included.
//!
//! Atomic, for `free` may run on any thread.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use cacheflow_core::index::Db;

use crate::stored::Stored;

/// Null: there is none.
static ENTRY: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static INTO: AtomicUsize = AtomicUsize::new(0);

/// An entry is loaded that is to lie in `db`.
pub fn set(db: Db, entry: Stored) {
    INTO.store(db, Relaxed);
    ENTRY.store(entry.raw().as_ptr(), Relaxed);
}

/// Whether there is one.
#[inline]
pub fn is_any() -> bool {
    !ENTRY.load(Relaxed).is_null()
}

/// Hands it out, and where it lies.
pub fn take() -> Option<(Db, Stored)> {
    let entry = NonNull::new(ENTRY.swap(std::ptr::null_mut(), Relaxed))?;
    // SAFETY: an entry that is freed, moved or flushed is not here any more.
    Some((INTO.load(Relaxed), unsafe { Stored::new(entry) }))
}

/// Forgets it, if it is this one, which is about to be freed. On any thread.
pub fn freed(entry: Stored) {
    let _ = ENTRY.compare_exchange(entry.raw().as_ptr(), std::ptr::null_mut(), Relaxed, Relaxed);
}
