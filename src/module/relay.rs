//! Invalidations on their way through the cluster.
//!
//! ```text
//! CACHE.INVALIDATE ─► done here, replicated ─► Relay ─ due ─► bus ─► other primaries
//!   the client is held  ◄── all, or time is up ── done ◄── bus ◄── done there, replicated
//! ```
//! What is decided is `cacheflow_core::relay`'s: whom it still has to reach,
//! what is sent again, what the caller is told. Here are the server's side of
//! it: the nodes, the bus, one timer.
//!
//! A timer comes every [`TICK`] while somebody has not acknowledged, and every
//! [`WATCH`] while invalidations are remembered: that is when a replica that was
//! promoted is noticed, which is sent them.

use std::collections::BTreeSet;
use std::os::raw::c_void;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cacheflow_core::bus::{decode, encode, Id, Invalidation, Message};
use cacheflow_core::relay::{Counts, Limits, Number, Outcome, Own, Relay, Told};
use cacheflow_core::units::{Millis, Time};
use lazy_static::lazy_static;

use crate::border::cross;
use crate::directives::MAX_WAITERS;
use crate::ffi::ctx::Ctx;
use crate::ffi::{raw, timer};
use crate::invalidation::{self, Kind};
use crate::relay_bus::{self as bus, BUS};
use crate::relay_clients as clients;
use crate::relay_replicas as replicas;
use crate::state::{self, MainThread};

/// How much is on its way at most.
const LIMITS: Limits = Limits { count: 100_000, bytes: 32 << 20 };
/// Messages to one node in a tick.
const BATCH: usize = 256;

pub const TICK: i64 = 10;
pub const WATCH: i64 = 100;

lazy_static! {
    pub static ref RELAY: MainThread<Relay> = MainThread::new(Relay::default());
}

static TICKS: AtomicBool = AtomicBool::new(false);
/// How much is on its way.
pub fn counts() -> Counts {
    RELAY.with(|relay| relay.counts())
}

// ── a command's invalidation ────────────────────────────────────────────────

/// What came of it.
pub enum Begun {
    /// It is everywhere; what it hit.
    Done(u64),
    /// It is on its way, and the client is not held.
    Relayed(Outcome),
    /// The client is held until all is known.
    Held,
}

/// Relays what was done here, with so many hits (`None`: this node is a
/// replica, and does nothing of its own); with `everywhere` to all primaries.
pub fn begin(
    ctx: Ctx,
    it: &Invalidation<'_>,
    hits: Option<u64>,
    everywhere: bool,
    timeout: Option<Millis>,
) -> Begun {
    let now = state::steady();
    if everywhere {
        refresh(ctx, now);
    }
    let awaits_replicas = hits.is_some() && replicas::needed() > 0;
    let own = match hits {
        None => Own::No,
        Some(hits) if awaits_replicas => Own::Awaited(hits),
        Some(hits) => Own::Done(hits),
    };
    let number = RELAY.with(Relay::number);
    let id = Id { incarnation: bus::incarnation(), number };
    let message: Rc<[u8]> = encode(id, &Message::Invalidate(it.clone())).unwrap_or_default().into();
    match RELAY.with(|relay| relay.begin(now, number, message.clone(), own, everywhere, LIMITS)) {
        // No room: it is sent this once, and not again.
        None => {
            let others = if everywhere { bus::primaries(ctx) } else { BTreeSet::new() };
            others.iter().for_each(|node| bus::send(ctx, node, &message));
            publish(ctx, it);
            let done = usize::from(hits.is_some());
            Begun::Relayed(Outcome::Partial { done, of: done + others.len() })
        }
        Some(Some(told)) => {
            publish(ctx, it);
            arm(ctx, WATCH);
            match told.outcome {
                Outcome::All(hits) => Begun::Done(hits),
                partial => Begun::Relayed(partial),
            }
        }
        Some(None) => {
            if awaits_replicas {
                replicas::await_own(ctx, number);
            }
            pump(ctx, now);
            arm(ctx, TICK);
            let most = usize::try_from(MAX_WAITERS.get()).unwrap_or(0);
            if !ctx.may_block() || clients::count() >= most {
                if RELAY.with(|relay| relay.told(number)).is_some() {
                    publish(ctx, it);
                }
                return Begun::Relayed(partial(number));
            }
            RELAY.with(|relay| relay.wait(number, now, timeout));
            clients::hold(ctx, number);
            Begun::Held
        }
    }
}

fn partial(number: Number) -> Outcome {
    RELAY.with(|relay| relay.partial(number)).unwrap_or(Outcome::Partial { done: 0, of: 0 })
}

fn publish(ctx: Ctx, it: &Invalidation<'_>) {
    invalidation::publish(ctx, kind(it), it.mode, &it.names);
}

fn publish_message(ctx: Ctx, message: &[u8]) {
    if let Ok((_, Message::Invalidate(it))) = decode(message) {
        publish(ctx, &it);
    }
}

/// Tags or namespaces.
pub fn kind(it: &Invalidation<'_>) -> Kind {
    if it.namespaces {
        Kind::Namespaces
    } else {
        Kind::Tags
    }
}

/// Tells whom it concerns what became known. The channels first, and once.
pub fn tell(ctx: Ctx, told: Vec<Told>) {
    for told in told {
        if told.first {
            publish_message(ctx, &told.message);
        }
        if told.waits {
            clients::answer(told.number, told.outcome);
        }
    }
}

/// The client of an invalidation has gone.
pub fn gone(number: Number) {
    RELAY.with(|relay| relay.leave(number));
}

/// The client of an invalidation is let go before its time: what it is told.
pub fn cut_short(ctx: Ctx, number: Number) -> Outcome {
    let (outcome, untold) = RELAY.with(|relay| (relay.leave(number), relay.told(number)));
    if let Some(message) = untold {
        publish_message(ctx, &message);
    }
    outcome.unwrap_or(Outcome::Partial { done: 0, of: 0 })
}

/// This node has become a replica.
pub fn demoted(ctx: Ctx) {
    replicas::demoted();
    let told = RELAY.with(Relay::demoted);
    tell(ctx, told);
}

// ── the timer ───────────────────────────────────────────────────────────────

/// Has the timer come, if it is not on its way.
pub fn arm(ctx: Ctx, milliseconds: i64) {
    if !TICKS.swap(true, Relaxed) {
        timer::start(ctx, milliseconds, on_tick);
    }
}

unsafe extern "C" fn on_tick(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    TICKS.store(false, Relaxed);
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    // After a panic it goes on: somebody may be waiting.
    if let Some(after) = cross("relay_tick", Some(WATCH), || tick(ctx)) {
        arm(ctx, after);
    }
}

/// When the next is due.
fn tick(ctx: Ctx) -> Option<i64> {
    let now = state::steady();
    if ctx.is_cluster() {
        refresh(ctx, now);
    }
    let told = RELAY.with(|relay| relay.timed_out(now));
    BUS.partial.add(told.len() as u64);
    tell(ctx, told);
    pump(ctx, now);
    let counts = RELAY.with(|relay| {
        relay.expire(now);
        relay.counts()
    });
    match counts {
        Counts { kept: 0, .. } => None,
        Counts { incomplete: 0, .. } => Some(WATCH),
        _ => Some(TICK),
    }
}

/// Looks who the primaries are.
fn refresh(ctx: Ctx, now: Time) {
    let nodes = bus::primaries(ctx);
    let told = RELAY.with(|relay| relay.primaries(now, &nodes));
    tell(ctx, told);
}

/// Sends what is due.
pub fn pump(ctx: Ctx, now: Time) {
    for (node, message) in RELAY.with(|relay| relay.due(now, BATCH)) {
        bus::send(ctx, &node, &message);
    }
}
