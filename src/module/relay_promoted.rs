//! What a promoted node has to do itself.
//!
//! A replica that is asked to invalidate something relays it and does nothing of
//! its own: it has it from its primary, as a replica has everything. Where that
//! one dies with it, and the replica takes its place, nobody else would bring it:
//! who relays sends to the others. Nothing is due on a node that is a replica
//! again ([`relay::demoted`]).

use std::os::raw::c_void;

use cacheflow_core::bus::{self, Message};

use crate::border::cross;
use crate::ffi::ctx::Ctx;
use crate::ffi::{raw, timer};
use crate::invalidation;
use crate::relay::{self, RELAY, TICK, WATCH};
use crate::relay_replicas as replicas;
use crate::state;

/// This node has become a primary: what it was asked for as a replica it may not
/// have had from its old one. It is done by a timer, for an event may come in the
/// middle of a command.
pub fn promoted(ctx: Ctx) {
    RELAY.with(|relay| relay.promoted(state::steady()));
    if !RELAY.with(|relay| relay.own_due()).is_empty() {
        timer::start(ctx, 0, on_promoted);
    }
}

unsafe extern "C" fn on_promoted(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    // After a panic the rest is tried.
    if let Some(after) = cross("relay_promoted", Some(WATCH), || attempt(ctx)) {
        timer::start(ctx, after, on_promoted);
    }
}

/// When it is to be tried again.
fn attempt(ctx: Ctx) -> Option<i64> {
    if ctx.is_loading() || ctx.is_paused() {
        return Some(TICK);
    }
    let awaits = replicas::needed() > 0;
    for (number, message) in RELAY.with(|relay| relay.own_due()) {
        let hits = match bus::decode(&message) {
            Ok((_, Message::Invalidate(it))) if ctx.select(it.db) => {
                invalidation::relayed(ctx, relay::kind(&it), &it)
            }
            _ => 0,
        };
        let told = RELAY.with(|relay| relay.own_did(number, hits, awaits));
        if awaits {
            replicas::await_own(ctx, number);
        }
        relay::tell(ctx, told.into_iter().collect());
    }
    None
}
