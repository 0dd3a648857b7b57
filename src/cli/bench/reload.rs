//! `cacheflow bench reload`: how long a server takes to start from its dump.
//!
//! Three dumps are made once: native strings with a TTL on a server without
//! the module, the same on one with it, and entries with three tags each. Then
//! servers start from them in turns (1 2 3, 3 2 1, …), and say in their log how
//! long loading took; the figure is the median of the rounds' ratios. The
//! target is against the server without the module, which is what somebody has
//! who does not use it; what the module costs the loading of native keys is
//! shown beside. The dumps are compressed, as is the default, and are in the
//! page cache.

use super::load::Load;
use super::ratio::{self, Figure, Spread, Target, Unit};
use super::rows;
use super::server::{self, Recipe};
use super::summary::{bytes_text, grouped, time_text};
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

const VALUE: usize = 100;
const TARGET: Target = Target::AtMost(2.0);
/// Longer than any run: what expires is not loaded.
const NATIVE: &[&str] = &["SET", "{key}", "{value}", "EX", "86400"];
const ENTRY: &[&str] = &["CACHE.SET", "{key}", "{value}", "EX", "86400", "TAGS", "{tag}", "{tag2}", "{tag3}"];

/// Restarts servers from their RDB files: native strings, and entries with
/// three tags of 10,000.
#[derive(Args)]
pub struct Options {
    /// The server to start.
    #[arg(long, default_value = "redis-server", value_name = "PROGRAM")]
    server: PathBuf,
    /// The module to load into it.
    #[arg(long, default_value = "target/release/libcacheflow.so", value_name = "FILE")]
    module: PathBuf,
    /// How many keys are loaded.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=50_000_000))]
    keys: u32,
    /// How often each file is.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Also write the figures to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Without the module, strings in the entries' place: shows the noise.
    #[arg(long)]
    plain: bool,
}

/// A dump, and the server that loads it.
struct Dump {
    name: &'static str,
    recipe: Recipe,
    directory: tempfile::TempDir,
    keys: u32,
    bytes: u64,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let recipe = Recipe::new(&options.server, (!options.plain).then_some(options.module.as_path()));
    let version = recipe.start()?.info("server")?.version();
    let bare = recipe.without_module();
    let dumps = [
        ("native strings", bare, NATIVE),
        ("native strings, module loaded", recipe.clone(), NATIVE),
        ("entries with 3 tags", recipe, ENTRY),
    ];
    let mut made = Vec::new();
    for (name, recipe, words) in dumps {
        made.push(Dump::make(name, recipe, words, options).with_context(|| name)?);
    }
    let sizes: Vec<_> = made.iter().map(|dump| bytes_text(dump.bytes as f64)).collect();
    println!(
        "{version}{}: {} keys from RDB files of {}, {} rounds. B/A is the median of the rounds' ratios.",
        if options.plain { " without the module on all sides" } else { "" },
        grouped(u64::from(options.keys)),
        sizes.join(", "),
        options.rounds,
    );
    let mut times: Vec<[f64; 3]> = Vec::new();
    for round in 0..options.rounds {
        let times_of_round = in_turns(round, |which| made.get(which).context("no dump")?.load())?;
        let shown = made.iter().zip(times_of_round).map(|(dump, time)| {
            format!("{} {}", dump.name, Duration::try_from_secs_f64(time).map_or("?".into(), time_text))
        });
        println!("  {}", shown.collect::<Vec<_>>().join("; "));
        times.push(times_of_round);
    }
    let figures = figures(&times).context("no rounds")?;
    let measured = serde_json::json!({ "server": version, "keys": options.keys, "rounds": times });
    ratio::conclude(&figures, measured, options.json.as_deref())
}

impl Dump {
    fn make(name: &'static str, recipe: Recipe, words: &[&str], options: &Options) -> Result<Self> {
        proceed()?;
        let directory = server::temporary()?;
        let mut server = recipe.start_from(directory.path())?;
        let template = rows::template(words, "bench:r:", VALUE, options.plain);
        Load::connect(server.address(), 4, 1)?.fill(&template, options.keys)?;
        server.query::<()>(&redis::cmd("SAVE"))?;
        let file = directory.path().join("dump.rdb");
        let bytes = std::fs::metadata(&file).context("the server saved no dump.rdb")?.len();
        Ok(Self { name, recipe, directory, keys: options.keys, bytes })
    }

    /// Seconds to load it.
    fn load(&self) -> Result<f64> {
        proceed()?;
        let mut server = self.recipe.start_from(self.directory.path()).with_context(|| self.name)?;
        let keys = server.keys()?;
        ensure!(keys == u64::from(self.keys), "{keys} of {} keys were loaded: {}", self.keys, self.name);
        Ok(server.loading()?.as_secs_f64())
    }
}

/// Does three things in the order of the round, back and forth.
fn in_turns(round: u32, mut measure: impl FnMut(usize) -> Result<f64>) -> Result<[f64; 3]> {
    let mut measured = [0.0; 3];
    for turn in 0..3 {
        let which = if round % 2 == 0 { turn } else { 2 - turn };
        measured[which] = measure(which)?;
    }
    Ok(measured)
}

fn figures(times: &[[f64; 3]]) -> Option<[Figure; 2]> {
    let side = |which: usize| Some(Spread::of(times.iter().map(|times| times[which]))?.median);
    let figure = |name: &str, which: usize, target| {
        Some(Figure {
            name: name.to_string(),
            metric: "loading an RDB",
            spread: Spread::of(times.iter().map(|times| times[which] / times[0]))?,
            sides: Some((side(0)?, side(which)?)),
            unit: Unit::Times,
            target,
        })
    };
    Some([
        figure("entries with 3 tags / native strings", 2, TARGET)?,
        figure("native strings, with module / without", 1, Target::None)?,
    ])
}

fn proceed() -> Result<()> {
    if interrupt::asked() {
        bail!("stopped");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_go_back_and_forth() {
        let mut order = Vec::new();
        for round in 0..2 {
            let measured = in_turns(round, |which| {
                order.push(which);
                Ok(which as f64)
            });
            assert_eq!(measured.unwrap(), [0.0, 1.0, 2.0]);
        }
        assert_eq!(order, [0, 1, 2, 2, 1, 0]);
    }

    #[test]
    fn the_target_is_against_the_server_without_the_module() {
        let figures = figures(&[[1.0, 1.1, 2.1], [1.0, 1.1, 1.9], [2.0, 2.2, 3.8]]).unwrap();
        assert_eq!(figures[0].spread.median, 1.9);
        assert!(figures[0].line().ends_with("reached"), "{}", figures[0].line());
        assert!((figures[1].spread.median - 1.1).abs() < 1e-9);
        assert_eq!(figures[1].target, Target::None);
    }
}
