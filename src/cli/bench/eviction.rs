//! `cacheflow bench eviction`: what policies of eviction miss on traces, in
//! caches of a part of the trace's footprint, against exact LRU.
//!
//! Nothing runs here but the policies (`crate::replay` says what that leaves
//! out): no server, no clock. The same arguments give the same figures on every
//! machine. The footprint is the bytes of all keys that a trace asks for. A
//! capacity in which fewer than ten entries of the mean size would fit is left
//! out, and that is told: a figure of such a cache is luck.
//!
//! Redis's policies read a clock, and most traces have none, so a second is so
//! many requests (`--rate`) in all of them.

use super::eviction_figures::{figures, Row, GOALS};
use super::eviction_page::{self, Page};
use super::ratio;
use super::summary::{bytes_text, grouped};
use crate::interrupt;
use crate::replay::synthetic::{Synthetic, SYNTHETIC};
use crate::replay::{self, Kind, Misses, Terms, Workload, POLICIES};
use crate::trace::Trace;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A cache of fewer entries than this is left out.
const FEWEST_ENTRIES: u64 = 10;
/// What a directory's trace files end with.
const ENDINGS: [&str; 2] = [".cft", ".cft.zst"];

/// Replays traces to policies of eviction and counts what they miss. Without
/// --traces and --trace it draws traces of its own.
#[derive(Args)]
pub struct Options {
    /// A directory of trace files in the format CFT1 (*.cft, *.cft.zst).
    #[arg(long, value_name = "DIR")]
    traces: Option<PathBuf>,
    /// A trace file, of whatever name; may be given several times.
    #[arg(long, value_name = "FILE")]
    trace: Vec<PathBuf>,
    /// Only traces with one of these in their name.
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    only: Vec<String>,
    /// Only these policies; lru is always among them.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = kind)]
    policies: Vec<&'static Kind>,
    /// Capacities, in percent of a trace's footprint.
    #[arg(long, value_delimiter = ',', default_value = "0.1,1,10", value_name = "PERCENT", value_parser = percent)]
    capacities: Vec<f64>,
    /// So many of each trace's requests only.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// How many requests make a second of the clocks that Redis's policies read.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    rate: u64,
    /// Decides what is drawn: traces without --traces, costs, and the policies' chance.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many replays at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Also write the figures, and every row, to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the tables into this page, between its markers.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "docs/eviction.md")]
    markdown: Option<PathBuf>,
}

fn kind(name: &str) -> Result<&'static Kind, String> {
    POLICIES.iter().find(|kind| kind.name == name).ok_or_else(|| {
        format!("one of {}", POLICIES.iter().map(|kind| kind.name).collect::<Vec<_>>().join(", "))
    })
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= 100.0 => Ok(number),
        _ => Err("a number above 0, up to 100".into()),
    }
}

/// Replays and prints.
pub fn run(options: &Options) -> Result<()> {
    let sources = options.sources()?;
    if let Some(page) = &options.markdown {
        eviction_page::check(page)?;
    }
    println!(
        "{} replayed to caches of {} % of the footprint: what is missed of all that is asked for, and that against exact LRU. Costs are drawn, log-normal with a mean of 100 ms. A second is {} requests.",
        match sources.len() {
            1 => "a trace is".to_string(),
            traces => format!("{traces} traces are"),
        },
        options.capacities.iter().map(f64::to_string).collect::<Vec<_>>().join(", "),
        grouped(options.rate),
    );
    let mut page = Page::new(options.rate, options.seed);
    for source in &sources {
        let workload = source.open(options)?;
        println!(
            "{}: {} requests for {} keys of {}",
            workload.name,
            grouped(workload.len() as u64),
            grouped(u64::from(workload.keys())),
            bytes_text(workload.footprint as f64)
        );
        page.add_trace(&workload);
        options.replay(&workload, &mut page)?;
    }
    ensure!(
        !page.rows.is_empty(),
        "no trace has a footprint of which these parts hold {FEWEST_ENTRIES} entries"
    );
    if let Some(path) = &options.markdown {
        eviction_page::write(path, &page)?;
    }
    let rows: Vec<_> = page.rows.iter().map(Row::json).collect();
    let measured = serde_json::json!({
        "rate": options.rate, "seed": options.seed, "limit": options.limit, "rows": rows, "left-out": page.left_out,
    });
    ratio::conclude(&figures(&page.rows, GOALS), measured, options.json.as_deref())
}

impl Options {
    fn sources(&self) -> Result<Vec<Source>> {
        let mut sources: Vec<Source> = self.trace.iter().cloned().map(Source::File).collect();
        if let Some(directory) = &self.traces {
            sources.extend(files(directory)?.into_iter().map(Source::File));
        }
        if self.trace.is_empty() && self.traces.is_none() {
            sources.extend(SYNTHETIC.iter().map(Source::Drawn));
        }
        sources.retain(|source| {
            self.only.is_empty() || self.only.iter().any(|part| source.name().contains(part.as_str()))
        });
        ensure!(!sources.is_empty(), "there is no such trace");
        Ok(sources)
    }

    fn kinds(&self) -> Vec<&'static Kind> {
        let chosen = |kind: &&Kind| {
            self.policies.is_empty() || self.policies.iter().any(|chosen| chosen.name == kind.name)
        };
        let (lru, others) = POLICIES.split_at(1);
        lru.iter().chain(others.iter().filter(chosen)).collect()
    }

    /// Replays a workload to every policy at every capacity.
    fn replay(&self, workload: &Workload, page: &mut Page) -> Result<()> {
        let capacity = |percent: f64| (workload.footprint as f64 * percent / 100.0) as u64;
        let (kept, left_out): (Vec<f64>, Vec<f64>) = self
            .capacities
            .iter()
            .partition(|percent| workload.entries(capacity(**percent)) >= FEWEST_ENTRIES);
        for percent in left_out {
            let told = format!(
                "{} at {percent} %: room for {} of the entries",
                workload.name,
                workload.entries(capacity(percent))
            );
            println!("  left out: {told}");
            page.left_out.push(told);
        }
        let kinds = self.kinds();
        let tasks: Vec<(u64, &Kind)> = kept
            .iter()
            .flat_map(|percent| kinds.iter().map(move |kind| (capacity(*percent), *kind)))
            .collect();
        let misses = self.share_out(workload, &tasks)?;
        for ((percent, tasks), misses) in
            kept.iter().zip(tasks.chunks(kinds.len())).zip(misses.chunks(kinds.len()))
        {
            let (Some(lru), Some((capacity, _))) = (misses.first(), tasks.first()) else { continue };
            let bound = replay::bound(workload, *capacity);
            for ((capacity, kind), misses) in tasks.iter().zip(misses) {
                let row = Row {
                    trace: workload.name.clone(),
                    percent: *percent,
                    capacity: *capacity,
                    entries: workload.entries(*capacity),
                    kind,
                    misses: *misses,
                    lru: *lru,
                    bound,
                };
                println!("  {}", row.line());
                page.rows.push(row);
            }
        }
        Ok(())
    }

    /// What each task misses, by so many threads.
    fn share_out(&self, workload: &Workload, tasks: &[(u64, &'static Kind)]) -> Result<Vec<Misses>> {
        let terms = Terms { rate: self.rate, seed: self.seed };
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Misses)>> {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Relaxed);
                let Some((capacity, kind)) = tasks.get(number) else { return Ok(done) };
                done.push((number, replay::replay(kind, workload, *capacity, terms)?));
            }
        };
        let mut done = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.jobs).map(|_| scope.spawn(work)).collect();
            let mut done = Vec::new();
            for thread in threads {
                match thread.join() {
                    Ok(part) => done.extend(part?),
                    Err(_) => bail!("a policy panicked"),
                }
            }
            Ok(done)
        })?;
        done.sort_unstable_by_key(|(number, _)| *number);
        Ok(done.into_iter().map(|(_, misses)| misses).collect())
    }
}

/// Where a trace comes from.
enum Source {
    File(PathBuf),
    Drawn(&'static Synthetic),
}

impl Source {
    fn name(&self) -> &str {
        match self {
            Self::File(path) => Trace::name(path),
            Self::Drawn(synthetic) => synthetic.name,
        }
    }

    fn open(&self, options: &Options) -> Result<Workload> {
        if interrupt::asked() {
            bail!("stopped");
        }
        let limit = options.limit.map(|limit| limit as usize);
        let trace = match self {
            Self::File(path) => {
                Trace::open(path, limit).with_context(|| format!("the trace {}", path.display()))?
            }
            Self::Drawn(synthetic) => {
                println!("{}: {}", synthetic.name, synthetic.about);
                let mut trace = (synthetic.draw)(options.seed)?;
                trace.ids.truncate(limit.unwrap_or(usize::MAX));
                trace
            }
        };
        Ok(Workload::new(self.name(), trace, options.seed))
    }
}

/// The trace files of a directory, by name.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read the directory {}", directory.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(cannot)? {
        let path = entry.with_context(cannot)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            files.push(path);
        }
    }
    files.sort();
    ensure!(!files.is_empty(), "there are no traces (*.cft, *.cft.zst) in {}", directory.display());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(words: &[&str]) -> Options {
        Line::parse_from([&["eviction"], words].concat()).options
    }

    #[test]
    fn lru_is_always_there_and_the_first() {
        let names = |options: &Options| options.kinds().iter().map(|kind| kind.name).collect::<Vec<_>>();
        assert_eq!(names(&options(&["--policies", "sieve"])), ["lru", "sieve"]);
        assert_eq!(names(&options(&["--policies", "lru"])), ["lru"]);
        assert_eq!(names(&options(&[])).len(), POLICIES.len());
        assert!(Line::try_parse_from(["eviction", "--policies", "fifo"]).is_err());
    }

    #[test]
    fn traces_are_chosen_by_parts_of_their_names() {
        let names = |words: &[&str]| -> Vec<String> {
            let sources = options(words).sources().unwrap();
            sources.iter().map(|source| source.name().to_string()).collect()
        };
        assert_eq!(names(&[]), ["zipf", "drift", "loop", "scan"]);
        assert_eq!(names(&["--only", "oo,can"]), ["loop", "scan"]);
        assert_eq!(names(&["--trace", "/x/web07.cft.zst"]), ["web07"]);
        assert!(options(&["--only", "none"]).sources().is_err());
    }

    #[test]
    fn a_directory_has_its_traces_only() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["b.cft", "README.md", "a.cft.zst"] {
            std::fs::write(directory.path().join(name), "").unwrap();
        }
        let found = files(directory.path()).unwrap();
        assert_eq!(found.iter().map(|path| Trace::name(path)).collect::<Vec<_>>(), ["a", "b"]);
        std::fs::remove_file(&found[0]).unwrap();
        std::fs::remove_file(&found[1]).unwrap();
        assert!(files(directory.path()).unwrap_err().to_string().contains("no traces"));
    }

    #[test]
    fn many_threads_find_what_one_finds_and_small_caches_are_left_out() {
        let rows = |jobs: &str| {
            let options = options(&["--only", "zipf", "--limit", "3000", "--jobs", jobs]);
            let mut page = Page::new(1000, 1);
            let workload = options.sources().unwrap()[0].open(&options).unwrap();
            options.replay(&workload, &mut page).unwrap();
            assert_eq!(page.left_out.len(), 1, "{:?}", page.left_out);
            page.rows.iter().map(Row::line).collect::<Vec<_>>()
        };
        let one = rows("1");
        assert_eq!(one.len(), 2 * POLICIES.len());
        assert_eq!(one, rows("3"));
    }
}
