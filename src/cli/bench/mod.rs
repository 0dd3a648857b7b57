//! `cacheflow bench`: how fast the module is (`hot`), and what a cache does
//! for a workload (`replay`).

mod cache;
mod clients;
mod hot;
mod load;
mod memory;
mod ratio;
mod replay;
mod resp;
mod rows;
mod server;
mod summary;

use clap::Subcommand;

/// What to measure.
#[derive(Subcommand)]
pub enum Bench {
    /// The module's commands against the server's own, as ratios.
    Hot(hot::Options),
    /// A workload read through the cache in front of a slow source.
    Replay(replay::Options),
}

/// Runs one of them.
pub fn run(bench: Bench) -> anyhow::Result<()> {
    match bench {
        Bench::Hot(options) => hot::run(&options),
        Bench::Replay(options) => replay::run(&options),
    }
}
