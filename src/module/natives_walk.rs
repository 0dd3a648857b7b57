//! The walk over all companions, some with each tick of the cron: it finds those
//! whose key went and nobody was told. A key may have expired before a file was
//! loaded, another module may have deleted its own, a callback may have panicked.
//!
//! Not here: what is heard of (`natives_told`).

use std::time::{Duration, Instant};

use cacheflow_core::companions::Event;
use cacheflow_core::index::Db;
use cacheflow_core::slots::Slot;
use lazy_static::lazy_static;

use crate::natives;
use crate::natives_told;
use crate::shard;
use crate::state::MainThread;

/// Slots that a tick looks at, and for how long it does where it hurries.
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
    let mut steps = 0;
    while natives::is_any() && steps < shard::with(|index| index.extent()) + step_limit(hurries, began) {
        steps += 1;
        let Some((db, companion)) = WALK.with(Walk::next) else { break };
        let Some(key) = companion else { continue };
        let Some(ctx) = natives::context(db) else { continue };
        let there = natives::there(ctx, &key);
        if there.companion && !there.key && !natives_told::waits(db, &key) {
            natives::happened(ctx, &key, Event::KeyWent, there);
        }
    }
}

fn step_limit(hurries: bool, began: Instant) -> usize {
    match hurries {
        true if began.elapsed() < HURRY => usize::MAX / 2,
        true => 0,
        false => STEPS_A_TICK,
    }
}

impl Walk {
    /// The next slot's database, and the key of the companion in it, if one is;
    /// `None`: that was the last one.
    fn next(&mut self) -> Option<(Db, Option<Vec<u8>>)> {
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
        let entry = shard::at(self.db, self.slot).filter(|entry| entry.is_companion());
        Some((self.db, entry.map(|entry| entry.view().name().to_vec())))
    }
}
