//! Two walks over all companions, some with each tick of the cron. One finds those
//! whose key went and nobody was told: a key may have expired before a file was
//! loaded, another module may have deleted its own, a callback may have panicked.
//! The other has them count as used to the server's eviction.
//!
//! Not here: what is heard of (`natives_told`).

use std::time::{Duration, Instant};

use cacheflow_core::companions::{self, Event};
use cacheflow_core::index::Db;
use cacheflow_core::slots::Slot;
use lazy_static::lazy_static;

use crate::directives::companion_of;
use crate::ffi::ctx::Ctx;
use crate::ffi::key::Key;
use crate::ffi::owned::Owned;
use crate::natives;
use crate::natives_told;
use crate::shard;
use crate::state::MainThread;

/// Slots that a tick looks at, and for how long it does at most.
const STEPS_A_TICK: usize = 20;
const HURRY: Duration = Duration::from_micros(200);

/// Where it is.
#[derive(Default)]
struct Walk {
    db: Db,
    slot: Slot,
    /// A file was loaded, from which what had expired was left out.
    hurries: bool,
}

lazy_static! {
    static ref WALK: MainThread<Walk> = MainThread::new(Walk::default());
    /// The other walk's: what it comes by is warmed.
    static ref WARMTH: MainThread<Walk> = MainThread::new(Walk::default());
}

/// A file was loaded.
pub fn loaded() {
    WALK.with(|walk| *walk = Walk { hurries: true, ..Walk::default() });
}

/// Looks whether some companions have their keys: of a key that went nobody may
/// have been told (it had expired when a file was loaded; a panic).
pub fn walk() {
    let began = Instant::now();
    let hurries = WALK.with(|walk| walk.hurries);
    let goes_on = |steps| if hurries { began.elapsed() < HURRY } else { steps < STEPS_A_TICK };
    each(&WALK, goes_on, |ctx, db, key| {
        let there = natives::there(ctx, &key);
        if there.companion && !there.key && !natives_told::waits(db, &key) {
            natives::happened(ctx, &key, Event::KeyWent, there);
        }
    });
}

/// Warms some companions, where the server may evict keys: nobody reads them, so they
/// would go first, and take keys along that are read all the time.
pub fn warm(ctx: Ctx) {
    if !natives::is_any() || !ctx.evicts() {
        return;
    }
    let began = Instant::now();
    let slots = shard::with(|index| (0..index.extent()).map(|db| index.slots(db)).sum());
    let most = companions::warmed_a_tick(slots);
    let goes_on = |steps| steps < most && began.elapsed() < HURRY;
    each(&WARMTH, goes_on, |ctx, _, key| {
        let companion = Owned::new(&companion_of(&key));
        Key::look(ctx, companion.get()).warm();
    });
}

/// Does something with each companion that a walk comes by, as long as it goes on, or
/// until it is through.
fn each(walk: &MainThread<Walk>, goes_on: impl Fn(usize) -> bool, mut body: impl FnMut(Ctx, Db, Vec<u8>)) {
    let mut steps = 0;
    while natives::is_any() && goes_on(steps) {
        let Some((db, slot)) = walk.with(Walk::next) else { break };
        let Some(slot) = slot else { continue };
        steps += 1;
        let Some(entry) = shard::at(db, slot).filter(|entry| entry.is_companion()) else { continue };
        let key = entry.view().name().to_vec();
        if let Some(ctx) = natives::context(db) {
            body(ctx, db, key);
        }
    }
}

impl Walk {
    /// The next slot, and its database; no slot: a database begins; `None`: that was
    /// the last one.
    fn next(&mut self) -> Option<(Db, Option<Slot>)> {
        let (extent, slots) = shard::with(|index| (index.extent(), index.slots(self.db)));
        if self.slot as usize >= slots {
            self.slot = 0;
            self.db += 1;
            if self.db >= extent {
                *self = Walk::default();
                return None;
            }
            return Some((self.db, None));
        }
        self.slot += 1;
        Some((self.db, Some(self.slot)))
    }
}
