//! `cacheflow`: the program beside the module.
//!
//! It speaks to servers over the wire only, and never links the module. Each
//! command is a file or a directory here, and they all reach servers by `connect`. Every failure is one
//! clear sentence on stderr and exit code 1; what clap refuses is exit code 2;
//! Ctrl-C is 130, but of `serve`, which is there to be stopped, and of `top`, to which
//! it is a key: 0.

mod bench;
mod catalogue;
mod connect;
mod doctor;
mod export;
mod generate;
mod interrupt;
mod invalidate;
mod namespaces;
mod origin;
mod records;
mod replay;
mod serve;
mod simulate_ttl;
mod times;
mod top;
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
    /// Look whether servers are as they should be, and say what to do.
    Doctor(doctor::Options),
    /// Write all entries as plain strings with their TTLs: the way out.
    Export(export::Options),
    /// Make completions for a shell.
    #[command(subcommand)]
    Generate(generate::What),
    /// Invalidate tags or namespaces, on all primaries.
    Invalidate(invalidate::Options),
    /// Set namespaces as a file says.
    #[command(subcommand)]
    Namespaces(namespaces::Namespaces),
    /// Serve metrics, health and a dashboard over HTTP.
    Serve(serve::Options),
    /// Show what goes on, in the terminal.
    Top(top::Options),
    /// Recompute what is hot before its readers miss it.
    Warm(warm::Options),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // To be stopped is how it ends.
    let serves = matches!(cli.command, Command::Serve(_));
    let outcome = interrupt::install().and_then(|()| match cli.command {
        Command::Bench(bench) => bench::run(bench),
        Command::Doctor(options) => doctor::run(&options),
        Command::Invalidate(options) => invalidate::run(&options),
        Command::Namespaces(command) => namespaces::run(&command),
        Command::Export(options) => export::run(&options),
        Command::Generate(what) => generate::run::<Cli>(&what),
        Command::Serve(options) => serve::run(&options),
        Command::Top(options) => top::run(&options),
        Command::Warm(options) => warm::run(&options),
    });
    match outcome {
        _ if interrupt::asked() && !serves => ExitCode::from(130),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cacheflow: {}", connect::sentence(&error));
            ExitCode::FAILURE
        }
    }
}
