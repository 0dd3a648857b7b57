//! Entries where the server keeps them: a thin pointer to one allocation, laid
//! out by `cacheflow_core::entry`.

use std::borrow::Cow;
use std::os::raw::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use cacheflow_core::entry::{self, BuildError, Meta, TagId, View, BASE};
use cacheflow_core::evict_class::Marks;
use cacheflow_core::packing::Content;
use cacheflow_core::units::{Millis, Time};

use crate::directives::{companion_of, key_of_companion};
use crate::evict;
use crate::ffi::prefetch;
use crate::hooks;
use crate::natives;
use crate::packing;
use crate::shard;
use crate::state::{dice, BYTES, COMPANIONS, ENTRIES};

/// An entry that the server holds or that we are about to give it.
#[derive(Clone, Copy)]
pub struct Stored {
    ptr: NonNull<u8>,
}

impl Stored {
    /// Lays an entry out, or what is under the name of a companion: that has its
    /// key's name, and no value. The caller has referred to the tags for it.
    ///
    /// # Errors
    /// See [`entry::build`].
    pub fn build(meta: &Meta, name: &[u8], value: Content<'_>, tags: &[TagId]) -> Result<Stored, BuildError> {
        hooks::on_entry();
        let bytes = match key_of_companion(name) {
            None => entry::build(meta, name, value, tags)?,
            Some(key) => {
                natives::on_companion();
                entry::build_companion(meta, key, tags)?
            }
        };
        // SAFETY: from a box.
        let stored = Stored { ptr: unsafe { NonNull::new_unchecked(Box::into_raw(bytes).cast()) } };
        stored.counter().fetch_add(1, Relaxed);
        BYTES.fetch_add(stored.allocated() as i64, Relaxed);
        packing::count(stored.content(), 1);
        Ok(stored)
    }

    /// # Safety
    /// `value` is what [`Stored::raw`] gave, and not freed.
    #[inline]
    pub unsafe fn new(value: NonNull<c_void>) -> Stored {
        Stored { ptr: value.cast() }
    }

    /// The pointer for the server to hold.
    pub fn raw(self) -> NonNull<c_void> {
        self.ptr.cast()
    }

    /// The entry's bytes, read. `'a` must end before the entry is replaced or
    /// freed: use it within a command, before the write.
    #[inline]
    pub fn view<'a>(self) -> View<'a> {
        View::new(self.bytes())
    }

    /// The entry's bytes; `'a` as in [`Stored::view`].
    #[inline]
    pub fn bytes<'a>(self) -> &'a [u8] {
        // SAFETY: the allocation holds an entry made by `build`: at least
        // BASE bytes, then what they say of the head, then what that says of
        // the whole. Nothing writes it meanwhile but `count_hit`, between
        // views.
        unsafe {
            let ptr = self.ptr.as_ptr().cast_const();
            let head = entry::head_size(self.base());
            let size = entry::size(std::slice::from_raw_parts(ptr, head));
            std::slice::from_raw_parts(ptr, size)
        }
    }

    /// The entry's bytes, for the index to write its numbers into. No view is
    /// alive meanwhile.
    pub fn bytes_mut<'a>(self) -> &'a mut [u8] {
        let size = self.bytes().len();
        // SAFETY: as in `bytes`; the main thread alone writes, one at a time.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), size) }
    }

    /// The bytes that every entry has.
    #[inline]
    fn base<'a>(self) -> &'a [u8; BASE] {
        // SAFETY: as in `view`.
        unsafe { &*self.ptr.as_ptr().cast_const().cast() }
    }

    /// Whether a read at `now` is answered with a fresh value.
    #[inline]
    pub fn is_fresh(self, now: Time) -> bool {
        entry::is_fresh(self.base(), now)
    }

    /// See [`entry::left_at_a_glance`].
    #[inline]
    pub fn left_at_a_glance(self, now: Time) -> Option<Option<Millis>> {
        entry::left_at_a_glance(self.base(), now)
    }

    /// What every entry has in its first bytes: birth, slot, namespace.
    #[inline]
    pub fn head<'a>(self) -> View<'a> {
        View::new(self.base())
    }

    /// The value, without a look at the rest: the path of every hit. `'a` as
    /// in [`Stored::view`].
    #[inline]
    pub fn content<'a>(self) -> Content<'a> {
        // SAFETY: as in `view`.
        unsafe {
            let ptr = self.ptr.as_ptr().cast_const();
            let head = std::slice::from_raw_parts(ptr, entry::head_size(self.base()));
            let (at, len, unpacked) = entry::value_span(head);
            Content::kept(std::slice::from_raw_parts(ptr.add(at), len), unpacked)
        }
    }

    /// Has the processor fetch the cache lines behind the first while the first
    /// is looked at: the value lies there, behind the name, and on a hit is
    /// copied next.
    #[inline]
    pub fn prefetch(self) {
        let ptr = self.ptr.as_ptr().cast_const().cast::<u8>();
        prefetch(ptr.wrapping_add(64));
        prefetch(ptr.wrapping_add(128));
    }

    /// Counts a read answered with the value.
    #[inline]
    pub fn count_hit(self) {
        // SAFETY: at least BASE bytes, and no view is alive in the callers.
        let base = unsafe { &mut *self.ptr.as_ptr().cast::<[u8; BASE]>() };
        entry::count_hit(base, dice);
        if evict::is_on() {
            evict::used(self);
        }
    }

    /// How it was used, as eviction keeps it.
    pub fn marks(self) -> Marks {
        entry::marks(self.base())
    }

    /// Sets how it was used.
    pub fn set_marks(self, marks: Marks) {
        // SAFETY: as in `count_hit`.
        let base = unsafe { &mut *self.ptr.as_ptr().cast::<[u8; BASE]>() };
        entry::set_marks(base, marks);
    }

    /// Whether it is a native key's companion, and no entry to users.
    #[inline]
    pub fn is_companion(self) -> bool {
        self.head().is_companion()
    }

    /// The name of the key that it lies under, or is to.
    pub fn key_name(self) -> Cow<'static, [u8]> {
        let name = self.view().name();
        if self.is_companion() {
            Cow::Owned(companion_of(name))
        } else {
            Cow::Borrowed(name)
        }
    }

    /// Where such as it are counted.
    fn counter(self) -> &'static AtomicI64 {
        if self.is_companion() {
            &COMPANIONS
        } else {
            &ENTRIES
        }
    }

    /// Bytes that the allocation takes.
    pub fn allocated(self) -> usize {
        // SAFETY: a live allocation of ours.
        unsafe { crate::ffi::io::allocated(self.ptr.as_ptr().cast()) }
    }

    /// Frees the entry. On any thread.
    ///
    /// # Safety
    /// Nothing uses the entry any more.
    pub unsafe fn free(self) {
        let tags = self.view().tags();
        if tags.len() > 0 {
            shard::release(tags);
        }
        // SAFETY: as promised.
        unsafe { self.free_as_succeeded() };
    }

    /// As [`Stored::free`], of one whose references to its tags another has
    /// taken over.
    ///
    /// # Safety
    /// Nothing uses the entry any more.
    pub unsafe fn free_as_succeeded(self) {
        self.counter().fetch_sub(1, Relaxed);
        BYTES.fetch_sub(self.allocated() as i64, Relaxed);
        packing::count(self.content(), -1);
        let size = self.view().size();
        // SAFETY: the box that `build` leaked, of that size.
        drop(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(self.ptr.as_ptr(), size)) });
    }
}
