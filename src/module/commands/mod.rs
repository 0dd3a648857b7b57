//! The commands: one file each, one line each in [`TABLE`].
//!
//! A file holds the command's text with an example, its [`Spec`], and `run`,
//! which reads the arguments, asks the core what to do and does it. What it
//! answers as an [`Error`] becomes the error reply; by then it has changed
//! nothing.
//!
//! To add one: write the file, add the line, run `make docs`.

pub mod apply;
pub mod apply_lock;
pub mod apply_state;
mod debug;
pub mod del;
mod error;
mod extend;
pub mod fetch;
mod get;
mod hotkeys;
mod incrby;
mod invalidate;
pub mod invalidated;
mod keys;
mod lock;
mod log;
mod meta;
mod metrics;
mod mget;
mod namespace;
pub mod read;
mod refresh;
mod set;
mod stale;
mod stats;
mod tag;
mod tags;
mod touch;
mod unlock;
mod untag;
mod verify;
mod write;

use std::ffi::CStr;
use std::os::raw::c_int;

use crate::border::cross;
use crate::ffi::args::Args;
use crate::ffi::ctx::Ctx;
use crate::ffi::raw;
use crate::ffi::register::Spec;

pub use error::Error;

/// A command.
pub trait Command {
    /// What it says of itself.
    const SPEC: Spec;

    /// Runs it: replies, or answers an error and has changed nothing.
    ///
    /// # Errors
    /// What the client is told.
    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error>;
}

/// A line of the table.
pub struct Entry {
    pub spec: &'static Spec,
    call: raw::RedisModuleCmdFunc,
}

const fn command<C: Command>() -> Entry {
    Entry { spec: &C::SPEC, call: Some(trampoline::<C>) }
}

/// A command that is nothing but its subcommands, which follow it.
const fn container(spec: &'static Spec) -> Entry {
    Entry { spec, call: None }
}

/// Every command, in the order of the docs.
pub static TABLE: &[Entry] = &[
    command::<get::Get>(),
    command::<mget::MGet>(),
    command::<fetch::FetchOf>(),
    command::<set::Set>(),
    command::<touch::Touch>(),
    command::<del::Del>(),
    command::<stale::Stale>(),
    command::<incrby::IncrBy>(),
    command::<tag::Tag>(),
    command::<untag::Untag>(),
    command::<meta::MetaOf>(),
    command::<lock::Lock>(),
    command::<unlock::Unlock>(),
    command::<extend::Extend>(),
    command::<invalidate::Invalidate>(),
    container(&namespace::SPEC),
    command::<namespace::Set>(),
    command::<namespace::Get>(),
    command::<namespace::List>(),
    command::<namespace::Del>(),
    command::<tags::TagList>(),
    command::<keys::KeyList>(),
    command::<refresh::Refresh>(),
    command::<log::Log>(),
    command::<hotkeys::HotKeyList>(),
    command::<stats::Stats>(),
    command::<metrics::Metrics>(),
    command::<verify::Verify>(),
    command::<apply::Apply>(),
    command::<apply_state::ApplyState>(),
    command::<apply_lock::ApplyLock>(),
    command::<invalidated::Invalidated>(),
];

/// The commands that are there only with `debug yes` among the module's
/// arguments.
pub static DEBUG_TABLE: &[Entry] = &[command::<debug::Debug>()];

impl Entry {
    /// Registers the command.
    ///
    /// # Errors
    /// What the server refused.
    pub fn register(&self, ctx: Ctx) -> Result<(), &'static str> {
        self.spec.register(ctx, self.call)
    }
}

unsafe extern "C" fn trampoline<C: Command>(
    ctx: *mut raw::RedisModuleCtx,
    argv: *mut *mut raw::RedisModuleString,
    argc: c_int,
) -> c_int {
    // SAFETY: what the server passed, used within the call.
    let (ctx, args) = unsafe { (Ctx::new(ctx), Args::new(argv, argc)) };
    let name = const { name_of(C::SPEC.name) };
    if let Err(error) = cross(name, Err(Error::Internal), || C::run(ctx, args)) {
        ctx.reply_error(&error.text(name));
    }
    raw::REDISMODULE_OK as c_int
}

const fn name_of(name: &'static CStr) -> &'static str {
    match name.to_str() {
        Ok(name) => name,
        Err(_) => "",
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
