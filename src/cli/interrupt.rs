//! Ctrl-C and TERM, seen as a flag, so that whoever started a server or made a
//! directory leaves by way of its destructors. A second signal ends at once.

use anyhow::{Context, Result};
use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Listens for INT, TERM and HUP from here on.
pub fn install() -> Result<()> {
    ctrlc::set_handler(|| {
        if ASKED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .context("cannot listen for Ctrl-C")
}

/// Whether somebody asked the program to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// Sleeps, and wakes soon when somebody asks the program to stop.
pub fn sleep(mut time: std::time::Duration) {
    let step = std::time::Duration::from_millis(100);
    while !time.is_zero() && !asked() {
        let nap = time.min(step);
        std::thread::sleep(nap);
        time -= nap;
    }
}
