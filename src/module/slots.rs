//! Which hash slots of a cluster are this node's, looked at while leases, locks or
//! waiters depend on it: of a slot that another node has taken the server tells a
//! module nothing, and answers its blocked clients nothing.
//!
//! A look is a CLUSTER SLOTS, 7 µs (Valkey 9, which keeps the answer) to 70 µs (Redis)
//! in a small cluster: as often as every
//! [`WAITED`] while somebody waits, who is to be sent on, and every [`HELD`] while
//! only tokens are remembered, which may not fill should the slot come back. A
//! waiter's slot has been seen to be owned by the time it waits ([`look_if_old`]),
//! or never: it came by ASKING, and stays.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cacheflow_core::slot::{self, Set, Watch};
use cacheflow_core::units::{Millis, Time};
use lazy_static::lazy_static;

use crate::ffi::args::Str;
use crate::ffi::cluster::{self, Range};
use crate::ffi::ctx::Ctx;
use crate::ffi::owned::Owned;
use crate::hooks;
use crate::leases;
use crate::state::{steady, MainThread};

const WAITED: Millis = Millis(100);
const HELD: Millis = Millis(1000);

#[derive(Default)]
struct Map {
    watch: Watch,
    ranges: Vec<Range>,
    looked: Option<Time>,
    /// There was nothing to see: a replica, or a server whose CLUSTER was renamed.
    in_vain: bool,
}

impl Map {
    fn is_old(&self) -> bool {
        self.looked.and_then(|looked| looked.after(WAITED)).is_none_or(|due| due <= steady())
    }

    fn owner(&self, slot: u16) -> Option<&Range> {
        self.ranges.iter().find(|range| (range.first..=range.last).contains(&slot))
    }
}

lazy_static! {
    static ref MAP: MainThread<Map> = MainThread::new(Map::default());
}

static IN_CLUSTER: AtomicBool = AtomicBool::new(false);
/// This is Valkey 8, which cannot be asked for the map ([`cluster`]).
static NO_MAP: AtomicBool = AtomicBool::new(false);

/// Takes note of whether this is a cluster: it never changes.
pub fn register(ctx: Ctx) {
    IN_CLUSTER.store(ctx.is_cluster(), Relaxed);
    NO_MAP.store(ctx.valkey().is_some_and(|major| major < 9), Relaxed);
}

fn map(ctx: Ctx) -> Option<Vec<Range>> {
    let has_map = IN_CLUSTER.load(Relaxed) && !NO_MAP.load(Relaxed);
    has_map.then(|| cluster::slots(ctx)).flatten()
}

/// When to look next; `None`: this is no cluster.
pub fn next_look(somebody_waits: bool) -> Option<Time> {
    if !IN_CLUSTER.load(Relaxed) {
        return None;
    }
    let period = if somebody_waits { WAITED } else { HELD };
    MAP.with(|map| match map.looked {
        Some(looked) if !map.watch.has_lost() && (map.in_vain || !map.watch.is_blind()) => {
            looked.after(period)
        }
        _ => Some(Time(0)),
    })
}

/// Looks, if it is time to.
pub fn look(ctx: Ctx, somebody_waits: bool) {
    if next_look(somebody_waits).is_some_and(|due| due <= steady()) {
        look_now(ctx);
    }
}

/// Somebody begins to depend on a key. Where there is no map its slot is to be
/// seen now: at the next look it may be lost.
#[inline]
pub fn depends_on(key: &[u8]) {
    if NO_MAP.load(Relaxed) && IN_CLUSTER.load(Relaxed) {
        see(key);
    }
}

#[cold]
fn see(key: &[u8]) {
    let slot = slot::of(key);
    if !MAP.with(|map| map.watch.has_seen(slot)) && cluster::owns(hooks::own(), Owned::new(key).get()) {
        MAP.with(|map| map.watch.saw(slot));
    }
}

/// Looks where the last look is no recent one: somebody is going to wait.
pub fn look_if_old(ctx: Ctx) {
    look(ctx, true);
}

fn look_now(ctx: Ctx) {
    if NO_MAP.load(Relaxed) {
        return probe(ctx);
    }
    let ranges = if ctx.is_replica() { None } else { map(ctx) };
    MAP.with(|map| {
        (map.looked, map.in_vain) = (Some(steady()), ranges.is_none());
        let Some(ranges) = ranges else { return map.watch.forget() };
        let mut own = Set::default();
        ranges.iter().filter(|range| range.mine).for_each(|range| own.add(range.first, range.last));
        map.watch.look(own);
        map.ranges = ranges;
    });
}

/// Without a map: of each slot that somebody depends on a key is asked for.
fn probe(ctx: Ctx) {
    let keys = if ctx.is_replica() { None } else { Some(leases::look(|table| table.key_of_each_slot())) };
    let own = keys.map(|keys| {
        let mut own = Set::default();
        for (slot, name) in keys {
            if cluster::owns(ctx, Owned::new(&name).get()) {
                own.add(slot, slot);
            }
        }
        own
    });
    MAP.with(|map| {
        (map.looked, map.in_vain) = (Some(steady()), own.is_none());
        match own {
            Some(own) => map.watch.look(own),
            None => map.watch.forget(),
        }
    });
}

/// Whether this node serves a key.
pub fn serves(ctx: Ctx, key: Str<'_>) -> bool {
    !IN_CLUSTER.load(Relaxed) || cluster::owns(ctx, key)
}

/// The slots that were lost; told once.
pub fn take_lost() -> Option<Set> {
    MAP.with(|map| map.watch.take_lost())
}

/// Nothing depends on slots any more: the next look is as the first.
pub fn forget() {
    if IN_CLUSTER.load(Relaxed) {
        MAP.with(|map| map.watch.forget());
    }
}

/// The clock that looks are timed by was turned.
pub fn clock_turned() {
    MAP.with(|map| map.looked = None);
}

/// The slots of this node's shard; `None`: this is no cluster, or it is not known.
/// Keys of others are there while a slot comes or goes as a whole, and the server
/// shows them to nobody.
pub fn of_shard(ctx: Ctx) -> Option<Set> {
    let ranges = map(ctx)?;
    let mut own = Set::default();
    ranges.iter().filter(|range| range.of_shard).for_each(|range| own.add(range.first, range.last));
    Some(own)
}

/// Whether a key comes from another node, with its slot: this is a primary, and
/// the slot is not its own yet.
pub fn is_imported(ctx: Ctx, key: &[u8]) -> bool {
    if NO_MAP.load(Relaxed) || !ctx.is_primary_in_cluster() {
        return false; // Valkey 8 moves slots by RESTORE
    }
    let is_others =
        || MAP.with(|map| !map.in_vain && map.owner(slot::of(key)).is_some_and(|range| !range.mine));
    // One that went a moment ago may come back now, before the next look. Who puts
    // a key into a slot of this node's own pays for a look each time.
    if MAP.with(|map| map.is_old()) || (!is_others() && !ctx.is_loading()) {
        look_now(ctx);
    }
    is_others()
}

/// The same, by a map that is looked at now: where it is to be acted on once.
pub fn is_surely_imported(ctx: Ctx, key: &[u8]) -> bool {
    is_imported(ctx, key) && {
        clock_turned();
        is_imported(ctx, key)
    }
}

/// What is answered to whom another node is to serve.
pub fn redirection(slot: u16) -> String {
    if NO_MAP.load(Relaxed) {
        // Its client asks here again, and the server itself says where to.
        return "TRYAGAIN the key's hash slot has moved: ask again".into();
    }
    MAP.with(|map| match map.owner(slot) {
        Some(range) => format!("MOVED {slot} {}", range.address),
        None => "CLUSTERDOWN Hash slot not served".into(),
    })
}
