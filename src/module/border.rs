//! The border between the server and us: no panic crosses it.
//!
//! Every function that the server calls goes through [`cross`]. A panic there
//! is a counter, a line in the server's log with its place, and the answer
//! that the caller gave for it. Costs about eleven instructions.
//!
//! `CACHE.DEBUG FAULT name` makes the border of that name panic before it does
//! anything, so that tests can prove it of each. The command is there only
//! where `debug yes` is among the module's arguments.

use std::panic::{catch_unwind, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::ffi::ctx::{Ctx, Level};

/// Panics caught.
pub static PANICS: AtomicU64 = AtomicU64::new(0);

static ARMED: AtomicBool = AtomicBool::new(false);
static FAULT: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Runs `body`; answers `otherwise` where it panics.
#[inline]
pub fn cross<R>(name: &'static str, otherwise: R, body: impl FnOnce() -> R) -> R {
    match catch_unwind(AssertUnwindSafe(|| {
        if ARMED.load(Relaxed) {
            fault(name);
        }
        body()
    })) {
        Ok(answer) => answer,
        Err(_) => {
            PANICS.fetch_add(1, Relaxed);
            otherwise
        }
    }
}

/// Panics where the fault asked for is this border's, or one of those asked
/// for, with commas between them.
#[cold]
#[allow(clippy::panic)] // what it is for; `cross` catches it
fn fault(name: &'static str) {
    if FAULT.lock().split(|&byte| byte == b',').any(|one| one == name.as_bytes()) {
        std::panic::panic_any(name);
    }
}

/// Arms the fault at the border of this name; the empty name disarms.
pub fn arm(name: &[u8]) {
    *FAULT.lock() = name.to_vec();
    ARMED.store(!name.is_empty(), Relaxed);
}

/// Sends what a panic says to the server's log.
pub fn install_hook() {
    std::panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
        let said = info.payload();
        let said = said
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| said.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        Ctx::none().log(Level::Warning, &format!("panic caught at {place}: {said}"));
    }));
}
