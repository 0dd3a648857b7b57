//! A client that reads native keys, or sends PING, all the time, beside
//! whatever is done to the server: how long its commands take is how long the
//! server was not there.

use super::load::{Load, Template};
use anyhow::{anyhow, Result};
use hdrhistogram::Histogram;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Barrier;
use std::time::Duration;

/// Keys that it reads.
pub const KEYS: u32 = 10_000;
const VALUE: usize = 100;
const WARM_UP: Duration = Duration::from_millis(50);

/// One connection, one command at a time.
pub struct Probe {
    load: Load,
    ask: Template,
    pause: Duration,
}

/// Sets a flag when it goes, however that comes about.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Probe {
    /// Connects, writes its keys, which have no TTL, and reads for a moment.
    pub fn open(address: SocketAddr) -> Result<Self> {
        let template = |words: &[&str]| Template::new(words, "bench:n:", VALUE);
        let mut load = Load::connect(address, 1, 3)?;
        load.fill(&template(&["SET", "{key}", "{value}"]), KEYS)?;
        let get = template(&["GET", "{key}"]);
        load.run(&get, 1, KEYS, WARM_UP)?;
        Ok(Self { load, ask: get, pause: Duration::ZERO })
    }

    /// One that needs no keys.
    pub fn of_pings(address: SocketAddr) -> Result<Self> {
        let mut load = Load::connect(address, 1, 3)?;
        let ping = Template::new(&["PING"], "", 0);
        load.run(&ping, 1, KEYS, WARM_UP)?;
        Ok(Self { load, ask: ping, pause: Duration::ZERO })
    }

    /// One that reads entries of its own, whose keys begin so, and pauses after each.
    pub fn of_entries(address: SocketAddr, prefix: &str, pause: Duration) -> Result<Self> {
        let template = |words: &[&str]| Template::new(words, prefix, VALUE);
        let mut load = Load::connect(address, 1, 3)?;
        load.fill(&template(&["CACHE.SET", "{key}", "{value}", "EX", "3600"]), KEYS)?;
        let get = template(&["CACHE.GET", "{key}"]);
        load.run(&get, 1, KEYS, WARM_UP)?;
        Ok(Self { load, ask: get, pause })
    }

    /// Asks while `work` is done; how long each took, in nanoseconds.
    pub fn during<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<(T, Histogram<u64>)> {
        let (stop, ready) = (AtomicBool::new(false), Barrier::new(2));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                ready.wait();
                self.load.record(&self.ask, KEYS, self.pause, &stop)
            });
            ready.wait();
            let done = {
                let _until = Until(&stop);
                work()
            };
            let times = reader.join().map_err(|_| anyhow!("the thread that reads panicked"))?;
            // What the work says is more to the point than what the reader saw of it.
            Ok((done?, times?))
        })
    }
}
