//! Invalidations that wait until enough of this node's replicas have them
//! (`cacheflow_core::acknowledged`).

use std::os::raw::c_void;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cacheflow_core::acknowledged::{offset_of, Acknowledged};
use cacheflow_core::bus::{Id, Message};
use cacheflow_core::relay::{Node, Number};
use lazy_static::lazy_static;

use crate::border::cross;
use crate::directives::INVALIDATE_MIN_REPLICAS;
use crate::ffi::ctx::Ctx;
use crate::ffi::{raw, timer};
use crate::relay::{self, RELAY};
use crate::relay_bus as bus;
use crate::state::{self, MainThread};

/// How often the replicas' offsets are looked at.
const ROUND: i64 = 1;

/// What waits for this node's replicas.
enum Awaited {
    /// An invalidation of a caller here.
    Own(Number),
    /// One that another node has sent, and what it hit.
    Sent(Node, Id, u64),
}

lazy_static! {
    static ref AWAITED: MainThread<Acknowledged<Awaited>> = MainThread::new(Acknowledged::default());
}

static ROUNDS: AtomicBool = AtomicBool::new(false);

/// How many replicas have to have an invalidation before it is acknowledged.
pub fn needed() -> usize {
    usize::try_from(INVALIDATE_MIN_REPLICAS.get()).unwrap_or(0)
}

/// What this node was asked for and has done is acknowledged once its replicas
/// have it.
pub fn await_own(ctx: Ctx, number: Number) {
    await_them(ctx, Awaited::Own(number));
}

/// The same, of what another node has sent.
pub fn await_sent(ctx: Ctx, sender: Node, id: Id, hits: u64) {
    await_them(ctx, Awaited::Sent(sender, id, hits));
}

fn await_them(ctx: Ctx, what: Awaited) {
    AWAITED.with(|awaited| awaited.push(what));
    arm_rounds(ctx);
}

/// This node has become a replica: it acknowledges nothing.
pub fn demoted() {
    AWAITED.with(Acknowledged::clear);
}

fn arm_rounds(ctx: Ctx) {
    if !ROUNDS.swap(true, Relaxed) {
        timer::start(ctx, ROUND, on_round);
    }
}

unsafe extern "C" fn on_round(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    ROUNDS.store(false, Relaxed);
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    cross("relay_round", (), || round(ctx));
    if !AWAITED.with(|awaited| awaited.is_empty()) {
        arm_rounds(ctx);
    }
}

fn round(ctx: Ctx) {
    let (Some(offset), lines) = ctx.replication() else { return };
    let replicas = lines.iter().filter_map(|line| offset_of(line)).collect();
    let round = AWAITED.with(|awaited| awaited.round(offset, replicas, needed()));
    if round.ask && !ctx.is_paused() {
        ctx.ask_replicas();
    }
    for item in round.ready {
        match item {
            Awaited::Own(number) => {
                let told = RELAY.with(|relay| relay.own_done(number));
                relay::tell(ctx, told.into_iter().collect());
            }
            Awaited::Sent(node, id, hits) => {
                let stamp = state::last_stamp();
                bus::say(ctx, &node, id, &Message::Done { hits, stamp });
            }
        }
    }
}
