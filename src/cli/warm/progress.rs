//! What has been done, shown while it is: a bar on a terminal, a line at the end.

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts, and shows.
pub struct Progress {
    bar: ProgressBar,
    quiet: bool,
    stored: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    expected: AtomicU64,
}

impl Progress {
    /// Nothing done. Of work without an end there is a spinner and no bar.
    pub fn new(quiet: bool, endless: bool) -> Self {
        let bar = match (quiet, endless) {
            (true, _) => ProgressBar::hidden(),
            (false, true) => ProgressBar::new_spinner(),
            (false, false) => ProgressBar::new(0),
        };
        let counts = "{pos} keys, {per_sec}{msg}";
        let template = if endless { format!("{{spinner}} {counts}") } else { format!("{{bar:40}} {counts}") };
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style);
        }
        let zero = || AtomicU64::new(0);
        Self { bar, quiet, stored: zero(), refused: zero(), failed: zero(), expected: zero() }
    }

    /// So many more may have to be done.
    pub fn expect(&self, more: u64) {
        let all = self.expected.fetch_add(more, Relaxed) + more;
        self.bar.set_length(all);
    }

    /// A key was stored.
    pub fn stored(&self) {
        self.stored.fetch_add(1, Relaxed);
        self.bar.inc(1);
    }

    /// A value was computed, and something newer had happened meanwhile.
    pub fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
        self.bar.inc(1);
    }

    /// One could not be computed, or not stored.
    pub fn failed(&self, key: &[u8], why: &anyhow::Error) {
        let failed = self.failed.fetch_add(1, Relaxed) + 1;
        self.bar.set_message(format!(", {failed} failed"));
        self.bar.inc(1);
        self.bar.suspend(|| eprintln!("cacheflow: {}: {why:#}", String::from_utf8_lossy(key).escape_debug()));
    }

    /// A shard cannot be reached for now.
    pub fn away(&self, address: &str, why: &anyhow::Error) {
        self.bar.suspend(|| eprintln!("cacheflow: {address}: {why:#}; trying again"));
    }

    /// How many could not be computed.
    pub fn failed_so_far(&self) -> u64 {
        self.failed.load(Relaxed)
    }

    /// The line at the end, or the same as JSON.
    pub fn end(&self, took: Duration, json: bool) {
        self.bar.finish_and_clear();
        let [stored, refused, failed] =
            [&self.stored, &self.refused, &self.failed].map(|of| of.load(Relaxed));
        let seconds = took.as_secs_f64();
        if json {
            let told =
                json!({ "stored": stored, "overtaken": refused, "failed": failed, "seconds": seconds });
            println!("{told}");
        } else if !self.quiet {
            println!("{stored} keys recomputed in {seconds:.1} s, {refused} overtaken, {failed} failed");
        }
    }
}
