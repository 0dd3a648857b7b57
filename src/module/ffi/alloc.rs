//! The global allocator: the server's, so that what we hold counts in its
//! used_memory, is evicted for and defragmented.
//!
//! Why not the crate's `RedisAlloc`: it aborts where memory runs out even for
//! `try_reserve`, has neither `realloc` nor `alloc_zeroed`, and aborts
//! `cargo test`. Without a server (tests) this one is the system's.
//!
//! Memory must be freed where it came from: nothing may be allocated before
//! the server's functions are there and outlive that moment.
//! [`fallback_is_unused`] is asserted at load.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::raw::c_void;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::optional_api;

/// See the module's text.
pub struct ServerAlloc;

#[cfg_attr(not(test), global_allocator)]
#[cfg_attr(test, allow(dead_code))]
static ALLOCATOR: ServerAlloc = ServerAlloc;

/// The alignment that every allocator of the servers gives. Not 16: the
/// jemalloc that Redis bundles has classes of 24, 40 and 56 bytes
/// (`--with-lg-quantum=3`; Debian's builds link another), and a hash table whose
/// groups are read by SSE crashed on one.
const NATURAL: usize = 8;

static FALLBACK: AtomicUsize = AtomicUsize::new(0);

/// Whether nothing was ever allocated without the server.
pub fn fallback_is_unused() -> bool {
    FALLBACK.load(Relaxed) == 0
}

/// Room for a larger alignment than natural: the block's own start is kept in
/// the word before what is handed out.
fn widened(layout: Layout) -> Option<usize> {
    layout.size().checked_add(layout.align())?.checked_add(size_of::<usize>())
}

// SAFETY: every block comes from the server's allocator, or, where that is not
// there, from System, and goes back to the one it came from: the choice depends
// on function pointers that are set once, before the first allocation that is
// kept (asserted at load). Null is returned where there is no memory.
unsafe impl GlobalAlloc for ServerAlloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(fallible) = optional_api!(RedisModule_TryAlloc).or(optional_api!(RedisModule_Alloc)) else {
            FALLBACK.fetch_add(1, Relaxed);
            // SAFETY: the caller's own promise on `layout`.
            return unsafe { System.alloc(layout) };
        };
        if layout.align() <= NATURAL {
            // SAFETY: any size may be asked for.
            return unsafe { fallible(layout.size()).cast() };
        }
        let Some(size) = widened(layout) else { return std::ptr::null_mut() };
        // SAFETY: any size may be asked for; what is handed out lies inside the
        // block, aligned, with a word of the block before it.
        unsafe {
            let block: *mut u8 = fallible(size).cast();
            if block.is_null() {
                return block;
            }
            let first = block.add(size_of::<usize>());
            let given = first.add(first.align_offset(layout.align()));
            given.cast::<*mut u8>().sub(1).write_unaligned(block);
            given
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        let Some(free) = optional_api!(RedisModule_Free) else {
            // SAFETY: without the server the block came from System.
            return unsafe { System.dealloc(ptr, layout) };
        };
        // SAFETY: the block came from the server, behind a word with its start
        // where the alignment is larger than natural (see `alloc`).
        unsafe {
            if layout.align() <= NATURAL {
                free(ptr.cast::<c_void>());
            } else {
                free(ptr.cast::<*mut c_void>().sub(1).read_unaligned());
            }
        }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if let (Some(realloc), true) = (optional_api!(RedisModule_TryRealloc), layout.align() <= NATURAL) {
            // SAFETY: the block came from the server and is its own start.
            return unsafe { realloc(ptr.cast::<c_void>(), new_size).cast() };
        }
        // SAFETY: the caller promises that the new size is a valid one for the
        // alignment; the smaller of both sizes is readable and writable.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(ptr, new, layout.size().min(new_size));
                self.dealloc(ptr, layout);
            }
            new
        }
    }
}
