//! What everything takes, as the server's `used_memory` counts it: entries, what
//! the server has for their keys, the index, leases and those who wait, what is hot.

use std::os::raw::c_void;
use std::sync::atomic::Ordering::Relaxed;

use cacheflow_core::footprint::{Classes, Footprint, Keyspace, MEMBER, SLOT};

use crate::ahead;
use crate::directives::companion_of;
use crate::evict;
use crate::ffi::ctx::Ctx;
use crate::ffi::io;
use crate::hot;
use crate::leases;
use crate::natives_told;
use crate::packing;
use crate::shard;
use crate::state::{MainThread, BYTES};
use crate::stored::Stored;

/// How the server counts, and what it says its version is.
struct Server {
    footprint: Footprint,
    version: (u32, u32),
}

static SERVER: MainThread<Option<Server>> = MainThread::new(None);

/// How the server's allocator rounds.
pub fn classes() -> Classes {
    SERVER.with(|server| server.as_ref().map(|server| server.footprint.classes).unwrap_or_default())
}

/// Learns how the server keeps its keys and how its allocator rounds. Before
/// the first entry.
pub fn learn(ctx: Ctx) {
    let (valkey, version) = ctx.version();
    let keyspace = Keyspace::of(valkey, version, ctx.is_cluster());
    let footprint = Footprint { keyspace, classes: measured_classes(), companion: companion_of(b"").len() };
    SERVER.with(|server| *server = Some(Server { footprint, version }));
    shard::with(|index| index.measure_by(footprint));
}

/// The same: what it makes of two sizes that tell.
fn measured_classes() -> Classes {
    let taken = |bytes: usize| {
        let probe = vec![0_u8; bytes].into_boxed_slice();
        // SAFETY: a live allocation of ours.
        unsafe { io::allocated(probe.as_ptr().cast::<c_void>()) }
    };
    Classes { quantum: if taken(24) == 24 { 8 } else { 16 }, paged: taken(33_000) == 36_864 }
}

/// Bytes of the entries' allocations, those included that wait for the
/// lazy-free thread.
pub fn entries() -> u64 {
    u64::try_from(BYTES.load(Relaxed)).unwrap_or(0)
}

/// Bytes that the server has for the keys of entries.
pub fn keyspace() -> u64 {
    shard::with(|index| index.keyspace_bytes())
}

/// Bytes that a new entry will take about: what is optional in it is not known
/// yet.
pub fn expected(name: usize, value: usize, tags: usize) -> u64 {
    SERVER.with(|server| {
        let footprint = server.as_ref().map(|server| server.footprint).unwrap_or_default();
        footprint.of_new(name, value, tags) as u64
    })
}

/// Bytes of everything.
pub fn total() -> u64 {
    let beside = shard::allocated()
        + leases::allocated()
        + evict::allocated()
        + hot::allocated()
        + ahead::allocated()
        + packing::allocated()
        + natives_told::allocated();
    entries() + keyspace() + beside as u64
}

/// What MEMORY USAGE is told of an entry, so that with what the server adds it
/// comes to what the key takes. Its share of the tables is not in it.
pub fn usage(entry: Stored) -> usize {
    let (view, own) = (entry.view(), entry.allocated());
    let (name, timed) = (entry.key_name().len(), view.is_timed());
    SERVER.with(|server| {
        server.as_ref().map_or(own, |server| {
            let added = server.footprint.added_by_server(name, timed, server.version);
            let index = SLOT + MEMBER * view.tags().len();
            own + server.footprint.of_key(name, timed).saturating_sub(added) + index
        })
    })
}
