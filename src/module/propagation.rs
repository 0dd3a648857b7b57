//! Performs `cacheflow_core::gate`: asks the server whether anybody listens to
//! the replication stream, and keeps the answer while it holds.

use std::cell::Cell;
use std::os::raw::c_void;

use cacheflow_core::gate::{Gate, Listeners, Sign};
use cacheflow_core::index::Index;
use cacheflow_core::settings::Table;
use cacheflow_core::units::Stamp;

use crate::ahead;
use crate::border::cross;
use crate::commands::apply_state;
use crate::datatype;
use crate::ffi::ctx::{Ctx, Level};
use crate::ffi::events::subscribe;
use crate::ffi::raw;
use crate::ffi::timer;
use crate::leases;
use crate::relay;
use crate::relay_promoted;
use crate::settings;
use crate::shard;
use crate::state::{self, MainThread};

/// Loading begins. (A flush, which leaves settings alone, comes before it or
/// after.)
const BEGINS: [u64; 3] = [
    raw::REDISMODULE_SUBEVENT_LOADING_RDB_START,
    raw::REDISMODULE_SUBEVENT_LOADING_AOF_START,
    raw::REDISMODULE_SUBEVENT_LOADING_REPL_START,
];

static GATE: MainThread<Cell<Gate>> = MainThread::new(Cell::new(Gate::Unknown));

/// Subscribes to the signs.
///
/// # Errors
/// Where the server refuses.
pub fn register(ctx: Ctx) -> Result<(), &'static str> {
    for event in [
        raw::REDISMODULE_EVENT_LOADING,
        raw::REDISMODULE_EVENT_FORK_CHILD,
        raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED,
        raw::REDISMODULE_EVENT_REPLICA_CHANGE,
    ] {
        subscribe(ctx, event, on_event)?;
    }
    Ok(())
}

unsafe extern "C" fn on_event(
    ctx: *mut raw::RedisModuleCtx,
    event: raw::RedisModuleEvent,
    subevent: u64,
    _: *mut c_void,
) {
    // A panic leaves the gate unknown, so that the server is asked.
    cross("replication_event", (), || {
        let sign = match event.id {
            raw::REDISMODULE_EVENT_LOADING => Sign::Loaded,
            raw::REDISMODULE_EVENT_FORK_CHILD => Sign::Forked,
            raw::REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED => Sign::RoleChanged,
            _ => Sign::ReplicaChanged,
        };
        GATE.with(|gate| gate.set(gate.get().after(sign)));
        if sign == Sign::Loaded && BEGINS.contains(&subevent) {
            settings::forget();
        }
        if sign == Sign::Loaded {
            shard::loading_ended();
        }
        if sign == Sign::RoleChanged && subevent == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_REPLICA {
            leases::demoted();
            ahead::demoted();
            // SAFETY: what the server passed.
            relay::demoted(unsafe { Ctx::new(ctx) });
        }
        if sign == Sign::RoleChanged && subevent == raw::REDISMODULE_EVENT_REPLROLECHANGED_NOW_MASTER {
            // SAFETY: what the server passed.
            let ctx = unsafe { Ctx::new(ctx) };
            state::promoted(ctx.is_cluster());
            relay_promoted::promoted(ctx);
        }
        if sign == Sign::Forked && subevent == raw::REDISMODULE_SUBEVENT_FORK_CHILD_BORN {
            // SAFETY: what the server passed.
            send_state_later(unsafe { Ctx::new(ctx) }, 0);
        }
    });
}

/// Not at once: the fork may be a command's (BGSAVE, BGREWRITEAOF), which would
/// be replicated with what it makes us say, and replicas would save too.
fn send_state_later(ctx: Ctx, milliseconds: i64) {
    if is_state_to_be_sent(ctx) {
        timer::start(ctx, milliseconds, on_timer);
    }
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    cross("send_state", (), || {
        // SAFETY: what the server passed.
        let ctx = unsafe { Ctx::new(ctx) };
        if ctx.is_paused() {
            send_state_later(ctx, PAUSE);
        } else {
            send_state(ctx);
        }
    });
}

/// When it is looked again, in milliseconds, whether a pause is over.
const PAUSE: i64 = 10;

/// Whether a rewritten file may have no place for the shard's state, and there
/// is some.
fn is_state_to_be_sent(ctx: Ctx) -> bool {
    let nothing_else = leases::look(|table| table.counts().locks == 0)
        && settings::look(Table::is_empty)
        && ahead::counts().0 == 0;
    let nothing =
        |index: &mut Index| index.counts().entries > 0 || (index.latest() == Stamp(0) && nothing_else);
    !shard::with(nothing) && !ctx.is_replica() && is_heard(ctx)
}

/// A file that is rewritten without an RDB preamble has a place for the shard's
/// state only before an entry. Where there is none, the state is sent behind it:
/// the server has begun the file of what comes after before it forked.
fn send_state(ctx: Ctx) {
    if ctx.is_replica() || !is_heard(ctx) {
        return;
    }
    let mut parts = Vec::new();
    if !datatype::write_state(|part| parts.push(part.to_vec())) {
        let text =
            "no memory to send what was invalidated; a file rewritten now without an RDB preamble lacks it";
        return ctx.log(Level::Warning, text);
    }
    parts.iter().for_each(|part| ctx.replicate_bytes(apply_state::NAME, part));
}

/// Whether a write must be replicated by its effect: somebody listens, or may.
#[inline]
pub fn is_heard(ctx: Ctx) -> bool {
    match GATE.with(|gate| gate.get()) {
        Gate::Open => true,
        Gate::Closed => false,
        Gate::Unknown => ask(ctx),
    }
}

#[cold]
fn ask(ctx: Ctx) -> bool {
    let [replicas, backlog] = ctx.server_info(c"replication", [c"connected_slaves", c"repl_backlog_active"]);
    let [aof] = ctx.server_info(c"persistence", [c"aof_enabled"]);
    // A field that is not there says nothing: assume a listener.
    let listeners = Listeners {
        cluster: ctx.is_cluster(),
        replica: ctx.is_replica(),
        replicas: replicas.unwrap_or(1),
        backlog: backlog != Some(0),
        aof: aof != Some(0),
    };
    let gate = GATE.with(|gate| {
        gate.set(gate.get().told(listeners));
        gate.get()
    });
    gate == Gate::Open
}
