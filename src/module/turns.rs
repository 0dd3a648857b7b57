//! The event loop's turns, heard of only while somebody has something to do in
//! each: to hear of them costs the server some 0.2 µs a turn.
//!
//! A timer comes once a millisecond at most. Who works in the turns works on as
//! soon as the clients that had something to say were served, and no later.

use std::os::raw::c_void;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use crate::border::cross;
use crate::ffi::ctx::Ctx;
use crate::ffi::events::{subscribe, unsubscribe};
use crate::ffi::raw;
use crate::{evict, leases, sweep};

/// Who may work in them.
#[derive(Clone, Copy)]
pub enum Who {
    Sweep = 1,
    Waiters = 2,
    Evict = 4,
}

static WANTED: AtomicU8 = AtomicU8::new(0);
static LISTENS: AtomicBool = AtomicBool::new(false);

fn wants(who: Who) -> bool {
    WANTED.load(Relaxed) & who as u8 != 0
}

/// Has somebody work in the turns, or not any more. Not from within one: the
/// server is walking its list of listeners then.
pub fn want(ctx: Ctx, who: Who, whether: bool) {
    let others = WANTED.load(Relaxed) & !(who as u8);
    let wanted = others | if whether { who as u8 } else { 0 };
    WANTED.store(wanted, Relaxed);
    if LISTENS.load(Relaxed) != (wanted != 0) {
        let event = raw::REDISMODULE_EVENT_EVENTLOOP;
        let done = if wanted != 0 { subscribe(ctx, event, on_turn) } else { unsubscribe(ctx, event) };
        // Refused: the timers alone do it, a millisecond apart.
        LISTENS.store(wanted != 0 && done.is_ok(), Relaxed);
    }
}

unsafe extern "C" fn on_turn(
    ctx: *mut raw::RedisModuleCtx,
    _: raw::RedisModuleEvent,
    turn: u64,
    _: *mut c_void,
) {
    if turn != raw::REDISMODULE_SUBEVENT_EVENTLOOP_BEFORE_SLEEP {
        return;
    }
    // What comes after this, the timers decide.
    cross("turn", (), || {
        // SAFETY: what the server passed.
        let ctx = unsafe { Ctx::new(ctx) };
        if wants(Who::Waiters) {
            leases::work_on(ctx);
        }
        if wants(Who::Sweep) {
            sweep::work_on(ctx);
        }
        if wants(Who::Evict) {
            evict::work_on(ctx);
        }
    });
}
