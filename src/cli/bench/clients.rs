//! Clients that look aside: read the cache; who is to compute the value reads
//! the origin and stores; the others wait for that. Each is a thread with a connection to both, one request at a time.

use super::cache::{Cache, Failure, Read, Refill};
use crate::interrupt;
use crate::origin::Keyspace;
use crate::trace::Trace;
use crate::zipf::ranks;
use anyhow::{bail, Context, Result};
use hdrhistogram::Histogram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Which keys are asked for, and when.
pub enum Requests {
    /// The first keys most, as Zipf's law has it with this exponent.
    Zipf {
        /// 0 is uniform; 1 is the classic law.
        exponent: f64,
        /// Another seed, other draws.
        seed: u64,
        /// For so long.
        time: Duration,
    },
    /// Those of a trace, in its order.
    Trace {
        /// The recording.
        trace: Trace,
        /// When each request is due, if its times are followed.
        due: Option<Vec<Duration>>,
        /// No longer than this.
        time: Option<Duration>,
    },
}

/// What is seen of a run while it goes on.
#[derive(Default)]
pub struct Progress {
    /// Requests answered.
    pub requests: AtomicU64,
    /// Hits among them.
    pub hits: AtomicU64,
    stop: AtomicBool,
}

/// What a run, or a client's share of it, came to.
pub struct Tally {
    /// How long hits took, in nanoseconds.
    pub hits: Histogram<u64>,
    /// How long misses took, origin and storing included.
    pub misses: Histogram<u64>,
    /// Requests and hits by quarter of the run.
    pub quarters: [(u64, u64); 4],
    /// Reads of the origin.
    pub reads: u64,
    /// What the origin took for them.
    pub read_time: Duration,
    /// What the origin would have taken for the hits.
    pub saved_time: Duration,
    /// Bytes of the values stored.
    pub stored: u64,
    /// Answers with another value than the origin's.
    pub wrong: u64,
    /// Errors that the server answered.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
}

impl Tally {
    fn new() -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, 600_000_000_000, 3).context("no histogram");
        Ok(Self {
            hits: histogram()?,
            misses: histogram()?,
            quarters: Default::default(),
            reads: 0,
            read_time: Duration::ZERO,
            saved_time: Duration::ZERO,
            stored: 0,
            wrong: 0,
            errors: 0,
            first_error: None,
        })
    }

    fn add(&mut self, other: Self) -> Result<()> {
        self.hits.add(&other.hits)?;
        self.misses.add(&other.misses)?;
        for (mine, its) in self.quarters.iter_mut().zip(other.quarters) {
            *mine = (mine.0 + its.0, mine.1 + its.1);
        }
        self.reads += other.reads;
        self.read_time += other.read_time;
        self.saved_time += other.saved_time;
        self.stored += other.stored;
        self.wrong += other.wrong;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        Ok(())
    }

    fn refused(&mut self, error: String) {
        self.errors += 1;
        self.first_error.get_or_insert(error);
    }
}

/// Runs a client on each connection, and `watch` every tenth of a second.
pub fn run(
    requests: &Requests,
    keys: &dyn Keyspace,
    caches: &mut [Cache],
    watch: impl Fn(&Progress),
) -> Result<(Tally, Duration)> {
    let progress = Progress::default();
    let next = AtomicU64::new(0);
    let start = Instant::now();
    let outcomes = std::thread::scope(|scope| {
        let threads: Vec<_> = caches
            .iter_mut()
            .enumerate()
            .map(|(number, cache)| {
                let (progress, next) = (&progress, &next);
                scope.spawn(move || {
                    let outcome = client(requests, keys, cache, number as u64, next, progress, start);
                    if outcome.is_err() {
                        progress.stop.store(true, Relaxed);
                    }
                    outcome
                })
            })
            .collect();
        while threads.iter().any(|thread| !thread.is_finished()) {
            watch(&progress);
            std::thread::sleep(Duration::from_millis(100));
        }
        threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
    });
    let time = start.elapsed();
    let mut total = Tally::new()?;
    for outcome in outcomes {
        match outcome {
            Ok(tally) => total.add(tally?)?,
            Err(_) => bail!("a client thread panicked"),
        }
    }
    Ok((total, time))
}

fn client(
    requests: &Requests,
    keys: &dyn Keyspace,
    cache: &mut Cache,
    number: u64,
    next: &AtomicU64,
    progress: &Progress,
    start: Instant,
) -> Result<Tally> {
    let mut tally = Tally::new()?;
    let mut origin = keys.connect()?;
    let mut draw = drawing(requests, keys.len(), number)?;
    while !progress.stop.load(Relaxed) && !interrupt::asked() {
        let Some((key, quarter)) = draw(next, start) else { break };
        let asked = Instant::now();
        let (value, refill) = match cache.read(keys.name(key)) {
            Ok(Read::Value(value, refill)) => (Some(value), refill),
            Ok(Read::Nothing(refill)) => (None, refill),
            Err(Failure::Lost(error)) => return Err(error),
            Err(Failure::Refused(error)) => {
                tally.refused(error);
                (None, Refill::No)
            }
        };
        let hit = value.is_some();
        if let Some(value) = value {
            tally.hits.saturating_record(nanos(asked.elapsed()));
            tally.wrong += u64::from(!keys.holds(key, &value));
            tally.saved_time += keys.latency(key);
        }
        if !hit || refill != Refill::No {
            let value = origin.load(key)?;
            tally.reads += 1;
            tally.read_time += keys.latency(key);
            match cache.fill(keys.name(key), &value, refill) {
                Ok(()) => tally.stored += value.len() as u64,
                Err(Failure::Lost(error)) => return Err(error),
                Err(Failure::Refused(error)) => tally.refused(error),
            }
            if !hit {
                tally.misses.saturating_record(nanos(asked.elapsed()));
            }
        }
        if let Some(quarter) = tally.quarters.get_mut(quarter) {
            *quarter = (quarter.0 + 1, quarter.1 + u64::from(hit));
        }
        progress.requests.fetch_add(1, Relaxed);
        progress.hits.fetch_add(u64::from(hit), Relaxed);
    }
    Ok(tally)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The next key for a client and the quarter of the run that it is in.
type Draw<'a> = Box<dyn FnMut(&AtomicU64, Instant) -> Option<(u32, usize)> + 'a>;

fn drawing(requests: &Requests, keys: u32, client: u64) -> Result<Draw<'_>> {
    Ok(match requests {
        Requests::Zipf { exponent, seed, time } => {
            let mut ranks = ranks(keys, *exponent, seed.wrapping_add(client))?;
            Box::new(move |_, start| {
                let elapsed = start.elapsed();
                let quarter = (4.0 * elapsed.as_secs_f64() / time.as_secs_f64()) as usize;
                (elapsed < *time).then(|| (ranks(), quarter))
            })
        }
        Requests::Trace { trace, due, time } => Box::new(move |next, start| {
            let over = || time.is_some_and(|time| start.elapsed() >= time);
            if over() {
                return None;
            }
            let request = next.fetch_add(1, Relaxed) as usize;
            let key = *trace.ids.get(request)?;
            if let Some(due) = due.as_ref().and_then(|due| due.get(request)) {
                interrupt::sleep((*due).min(time.unwrap_or(*due)).saturating_sub(start.elapsed()));
                if over() {
                    return None;
                }
            }
            Some((key, request * 4 / trace.ids.len()))
        }),
    })
}
