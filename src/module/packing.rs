//! Values packed and unpacked (`cacheflow_core::packing` says how, and when it pays):
//! by which directives, in which buffers, and counted.
//!
//! ```text
//! SET ── max-value-size ── decided ── packed? ── stored ──► replicated as stored
//! GET, MGET, FETCH, waiters ── found ── unpacked into a buffer that is kept ── replied
//! TOUCH, STALE, TAG, COPY, RENAME, DUMP, RDB, AOF ── as it is stored
//! RESTORE, APPLY by a client ── unpacked once to see that it can be ── as it is stored
//! ```
//! What a server is told by its primary or its own files it stores as it is told,
//! whatever its directives: so servers that agree agree on bytes too (DEBUG DIGEST).

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use cacheflow_core::packing::{pays, trim, Content, Limits, Packed, Packer, UnpackError};

use crate::directives::{COMPRESS_MAX_SIZE, COMPRESS_MIN_SIZE};
use crate::memory;
use crate::state::{Counter, MainThread};

/// Entries whose value is packed, those included that wait for the lazy-free
/// thread; and bytes of those values.
pub struct Counts {
    pub entries: AtomicI64,
    /// As they are stored.
    pub packed: AtomicI64,
    /// As they came.
    pub unpacked: AtomicI64,
}

pub static COUNTS: Counts =
    Counts { entries: AtomicI64::new(0), packed: AtomicI64::new(0), unpacked: AtomicI64::new(0) };

/// Values that did not unpack, each time that one was asked for.
pub static CORRUPT: Counter = Counter::new();

/// Takes note of an entry that was made (1) or is freed (-1). On any thread.
#[inline]
pub fn count(value: Content<'_>, sign: i64) {
    if value.unpacked().is_some() {
        // No value is longer than 512 MB.
        COUNTS.entries.fetch_add(sign, Relaxed);
        COUNTS.packed.fetch_add(sign * value.stored().len() as i64, Relaxed);
        COUNTS.unpacked.fetch_add(sign * value.length() as i64, Relaxed);
    }
}

static PACKER: MainThread<Option<Packer>> = MainThread::new(None);
/// What values are unpacked into.
static UNPACKED: MainThread<Vec<u8>> = MainThread::new(Vec::new());

/// Whether a new value of so many bytes is to be tried.
#[inline]
pub fn is_tried(length: usize) -> bool {
    let of = |number: i64| usize::try_from(number).unwrap_or(0);
    let min = of(COMPRESS_MIN_SIZE.get());
    min != 0 && Limits { min, max: of(COMPRESS_MAX_SIZE.get()) }.admit(length)
}

/// Runs `body` on a value as it is to be stored: packed, where that pays. `size` is
/// that of the entry, given the length of its value there and whether it is packed.
pub fn packed<R>(
    value: &[u8],
    size: impl Fn(usize, bool) -> Option<usize>,
    body: impl FnOnce(Content<'_>) -> R,
) -> R {
    // Taken, so that whatever `body` calls may come here again.
    let mut packer = PACKER.with(Option::take).unwrap_or_default();
    let classes = memory::classes();
    let pays = |length| {
        size(value.len(), false)
            .zip(size(length, true))
            .is_some_and(|(plain, packed)| pays(classes, plain, packed))
    };
    let done = body(packer.pack(value, pays).map_or(Content::Plain(value), Content::Packed));
    packer.rest();
    PACKER.with(|kept| *kept = Some(packer));
    done
}

/// Runs `body` on a value as its reader is to have it.
///
/// # Errors
/// Where it does not unpack; `body` is not run then.
#[inline]
pub fn with<R>(value: Content<'_>, body: impl FnOnce(&[u8]) -> R) -> Result<R, UnpackError> {
    match value {
        Content::Plain(bytes) => Ok(body(bytes)),
        Content::Packed(packed) => with_unpacked(packed, body),
    }
}

/// The same of a packed one.
///
/// # Errors
/// As [`with`].
#[inline(never)]
pub fn with_unpacked<R>(packed: Packed<'_>, body: impl FnOnce(&[u8]) -> R) -> Result<R, UnpackError> {
    let mut buffer = UNPACKED.with(std::mem::take);
    let done = packed.unpack(&mut buffer).map(body);
    trim(&mut buffer);
    UNPACKED.with(|kept| *kept = buffer);
    done.inspect_err(|&why| {
        if why == UnpackError::Corrupt {
            CORRUPT.add(1);
        }
    })
}

/// Whether what comes from elsewhere unpacks.
///
/// # Errors
/// Where it does not.
pub fn check(value: Content<'_>) -> Result<(), UnpackError> {
    with(value, |_| ())
}

/// Bytes allocated.
pub fn allocated() -> usize {
    PACKER.with(|packer| packer.as_ref().map_or(0, Packer::allocated))
        + UNPACKED.with(|buffer| buffer.capacity())
}
