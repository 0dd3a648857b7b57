//! `cacheflow`: the program beside the module.
//!
//! It speaks to servers over the wire only, and never links the module. Each
//! command is a directory here: `bench` measures, `warm` recomputes what is hot. Every failure is one
//! clear sentence on stderr and exit code 1; what clap refuses is exit code 2;
//! Ctrl-C is 130.

mod bench;
mod catalogue;
mod interrupt;
mod origin;
mod records;
mod replay;
mod simulate_ttl;
mod trace;
mod warm;
mod zipf;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The program beside the CacheFlow module.
#[derive(Parser)]
#[command(name = "cacheflow", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure the module, or replay a workload through it.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Recompute what is hot before its readers miss it.
    Warm(warm::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = interrupt::install().and_then(|()| match cli.command {
        Command::Bench(bench) => bench::run(bench),
        Command::Warm(options) => warm::run(&options),
    });
    match outcome {
        _ if interrupt::asked() => ExitCode::from(130),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cacheflow: {error:#}");
            ExitCode::FAILURE
        }
    }
}
