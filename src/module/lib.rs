//! CacheFlow: an application cache inside Redis and Valkey. The module, the
//! only crate with `unsafe`.
//!
//! # Goals
//! - Thin: what is to be done is decided in `cacheflow_core`; here it is
//!   looked up, done, replied, replicated and told.
//! - No panic crosses into the server ([`border`]).
//! - As fast as a native command: raw calls, no copies of arguments, one
//!   allocation an entry.
//!
//! # Non-goals
//! - No rule about caching lives here. If you find yourself writing one, it
//!   belongs in core.
//!
//! # Where things live
//! | module | holds |
//! | --- | --- |
//! | [`ffi`] | the server's API as safe Rust; knows nothing of caching |
//! | [`border`] | what catches panics |
//! | [`commands`] | a file a command, and their table |
//! | [`hot`] | reads and writes as they are counted for CACHE.HOTKEYS |
//! | [`ahead`], [`ahead_workers`] | CACHE.REFRESH: what is due, and the clients that wait for it |
//! | [`adaptive`] | what EXAUTO has learnt beside the entries |
//! | [`arrivals`] | what other nodes of a cluster bring |
//! | [`datatype`] | the data type's callbacks: RDB, AOF, copy, free, defrag |
//! | [`stored`] | an entry's memory |
//! | [`invalidation`] | invalidations performed: channels, log |
//! | [`removal`] | a key removed by ourselves |
//! | [`endings`] | entries that expire, or that the server evicts, counted |
//! | [`evict`] | budgets kept: who is evicted, and when |
//! | [`sweep`] | the removal of what was invalidated |
//! | [`ttl`] | whose TTL may be another than its entry's times say |
//! | [`turns`] | the event loop's turns, for who works in them |
//! | [`state`] | counters, the clock, dice |
//! | [`directives`] | `cacheflow.*` |
//! | [`info`] | the INFO sections |
//! | [`leases`] | the table of leases and locks: told, timed, replicated |
//! | [`metrics`] | the figures of CACHE.METRICS |
//! | [`memory`] | what everything takes, as the server counts it |
//! | [`natives`], [`natives_told`], [`natives_walk`] | native keys with tags: their companions, and what happens to both |
//! | [`locks`] | locks as replicas and files are told of them |
//! | [`waiters`] | clients that are held back, and their answers |
//! | [`sight`] | a key looked at for FETCH and LOCK |
//! | [`slots`] | which hash slots of a cluster are ours |
//! | [`shard`] | the index of the shard's entries |
//! | [`settings`] | what is set for namespaces |
//! | [`hooks`] | what the server tells of keys and databases |
//! | [`propagation`] | whether a write has to be replicated |

mod adaptive;
mod ahead;
mod ahead_workers;
mod arrivals;
mod border;
mod commands;
mod datatype;
mod directives;
mod endings;
mod evict;
mod ffi;
mod held;
mod hooks;
mod hot;
mod info;
mod invalidation;
mod leases;
mod loading;
mod locks;
mod memory;
mod metrics;
mod natives;
mod natives_told;
mod natives_walk;
mod packing;
mod propagation;
mod relay;
mod relay_bus;
mod relay_clients;
mod relay_promoted;
mod relay_replicas;
mod removal;
mod settings;
mod shard;
mod sight;
mod slots;
mod state;
mod stored;
mod sweep;
mod ttl;
mod turns;
mod waiters;

use std::os::raw::{c_char, c_int};

use ffi::args::Args;
use ffi::ctx::{Ctx, Level};
use ffi::{api, optional_api, raw};

/// The version that MODULE LIST shows: major · 10000 + minor · 100 + patch.
const VERSION: c_int = version();

const fn version() -> c_int {
    const fn number(text: &str) -> c_int {
        let mut n = 0;
        let mut i = 0;
        while i < text.len() {
            n = n * 10 + (text.as_bytes()[i] - b'0') as c_int;
            i += 1;
        }
        n
    }
    number(env!("CARGO_PKG_VERSION_MAJOR")) * 10000
        + number(env!("CARGO_PKG_VERSION_MINOR")) * 100
        + number(env!("CARGO_PKG_VERSION_PATCH"))
}

/// Whether the server leaves aux data out of an RDB file where nothing was
/// saved into it: since 7.2, as this function.
fn server_omits_empty_aux() -> bool {
    optional_api!(RedisModule_SetCommandACLCategories).is_some()
}

/// Without this option Valkey 9 refuses CLUSTER MIGRATESLOTS. What it needs is
/// there: entries are carried by what an AOF rewrite emits. (On Redis the bit has
/// no meaning yet, and may get another.)
const HANDLE_ATOMIC_SLOT_MIGRATION: u32 = 1 << 5;

/// What the server calls to load the module.
///
/// # Safety
/// Called by the server, once, with a live context and the module's arguments.
#[no_mangle]
pub unsafe extern "C" fn RedisModule_OnLoad(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    let refused = raw::REDISMODULE_ERR as c_int;
    // SAFETY: a C string, a live context. Nothing is allocated before this.
    let initialised = unsafe {
        raw::Export_RedisModule_Init(
            ctx,
            c"cacheflow".as_ptr().cast::<c_char>(),
            VERSION,
            raw::REDISMODULE_APIVER_1 as c_int,
        )
    };
    if initialised != raw::REDISMODULE_OK as c_int {
        return refused;
    }
    border::cross("load", refused, || {
        // SAFETY: what the server passed, used within the call. With no
        // arguments the server may pass a null vector.
        let (ctx, args) = unsafe {
            let none = std::ptr::NonNull::dangling().as_ptr();
            (Ctx::new(ctx), Args::new(if argv.is_null() { none } else { argv }, argc))
        };
        match load(ctx, args) {
            Ok(()) => raw::REDISMODULE_OK as c_int,
            Err(why) => {
                ctx.log(Level::Warning, &format!("CacheFlow cannot be loaded: {why}"));
                refused
            }
        }
    })
}

fn load(ctx: Ctx, args: Args<'_>) -> Result<(), String> {
    if let Some(name) = ffi::missing() {
        return Err(format!("this server lacks {name}; it must be Redis 7.0 or Valkey 8 or later"));
    }
    if !ffi::alloc::fallback_is_unused() {
        return Err("memory was allocated before the server's allocator was there".into());
    }
    border::install_hook();
    state::remember_process();
    let arguments = directives::arguments(args)?;
    let mut options =
        raw::REDISMODULE_OPTIONS_HANDLE_IO_ERRORS | raw::REDISMODULE_OPTION_NO_IMPLICIT_SIGNAL_MODIFIED;
    if ctx.valkey().is_some() {
        options |= HANDLE_ATOMIC_SLOT_MIGRATION;
    }
    // SAFETY: the context is live.
    unsafe { api!(RedisModule_SetModuleOptions)(ctx.raw(), options as c_int) };
    datatype::register(ctx)?;
    for entry in commands::TABLE.iter().chain(if arguments.debug { commands::DEBUG_TABLE } else { &[] }) {
        entry.register(ctx).map_err(|why| format!("{:?}: {why}", entry.spec.name))?;
    }
    info::register(ctx)?;
    propagation::register(ctx)?;
    sweep::register(ctx)?;
    hooks::register(ctx)?;
    relay_bus::register(ctx);
    slots::register(ctx);
    arguments.register(ctx)?;
    memory::learn(ctx);
    commands::fetch::learn(ctx);
    ctx.log(Level::Notice, concat!("CacheFlow ", env!("CARGO_PKG_VERSION"), " is loaded"));
    Ok(())
}
