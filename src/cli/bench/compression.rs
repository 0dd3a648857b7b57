//! `cacheflow bench compression`: what packing values saves and what it costs.
//!
//! One server; the same values are written and read under two prefixes, with
//! `cacheflow.compress-min-size` at its lowest and at 0. Slices of both alternate
//! (A B, B A, …), and the figure is the median of the ratios of neighbours, as in
//! `bench hot`: so it holds on a noisy machine. CPU is the server's, a command,
//! sixteen of them a round trip. Memory is what the server's own MEMORY USAGE says
//! of each key, which the tests of memory hold against the allocator.
//!
//! Values are made, each another: records as an API answers them, pages as a shop
//! shows them, and bytes that are as good as random (pictures, what is compressed or
//! encrypted already). Real ones compress better or worse; `bytes` says what these
//! do.

use super::ratio::Spread;
use super::server::{Recipe, Server};
use super::summary::bytes_text;
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use redis::Connection;
use std::fmt::Write;
use std::path::PathBuf;

const SIZES: [usize; 6] = [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10];
const PIPELINE: usize = 16;
/// Keys of a side, each with a value of its own.
const KEYS: usize = 64;
const MIN: &str = "cacheflow.compress-min-size";
/// To try the longest too.
const MAX: &str = "cacheflow.compress-max-size";

/// Writes and reads values of several sorts and sizes, packed and not, and prints
/// memory and server CPU of both as ratios.
#[derive(Args)]
pub struct Options {
    /// The server to start.
    #[arg(long, default_value = "redis-server", value_name = "PROGRAM")]
    server: PathBuf,
    /// The module to load into it.
    #[arg(long, default_value = "target/release/libcacheflow.so", value_name = "FILE")]
    module: PathBuf,
    /// Pairs of slices for each sort and size.
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pairs: u32,
    /// Bytes of values that a slice writes, and reads.
    #[arg(long, default_value_t = 4 << 20, value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    slice: u32,
}

/// What values are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Json,
    Html,
    Random,
}

impl Sort {
    const ALL: [Self; 3] = [Self::Json, Self::Html, Self::Random];

    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON",
            Self::Html => "HTML",
            Self::Random => "random",
        }
    }

    /// A value of exactly so many bytes.
    fn value(self, size: usize, dice: &mut SmallRng) -> Vec<u8> {
        let mut text = String::with_capacity(size + 400);
        match self {
            Self::Random => return (0..size).map(|_| dice.random()).collect(),
            Self::Json => text.push('['),
            Self::Html => text.push_str("<!doctype html><html><body><ul class=\"products\">\n"),
        }
        while text.len() < size {
            let (id, pence): (u32, u32) = (dice.random(), dice.random_range(99..99_999));
            let (pounds, pence) = (pence / 100, pence % 100);
            let (name, about) = (words(dice, 3), words(dice, 9));
            // Writing to a string cannot fail.
            let _ = match self {
                Self::Json => write!(
                    text,
                    "{{\"id\":{id},\"name\":\"{name}\",\"price\":{pounds}.{pence:02},\
                     \"active\":{},\"description\":\"{about}\"}},",
                    id % 2 == 0,
                ),
                _ => writeln!(
                    text,
                    "<li class=\"product\"><a href=\"/p/{id}\"><img src=\"/i/{id}.jpg\" alt=\"{name}\"></a>\
                     <h2>{name}</h2><p>{about}</p><span class=\"price\">{pounds}.{pence:02}</span></li>",
                ),
            };
        }
        let mut value = text.into_bytes();
        value.truncate(size);
        value
    }
}

/// Words of a vocabulary of some hundreds, made of syllables.
fn words(dice: &mut SmallRng, count: usize) -> String {
    const SYLLABLES: [&str; 16] = [
        "ba", "cor", "den", "el", "fi", "gra", "ho", "is", "jun", "ka", "lo", "men", "no", "per", "ri", "sta",
    ];
    let mut text = String::new();
    for word in 0..count {
        text.push_str(if word == 0 { "" } else { " " });
        // The commoner the earlier, as words are.
        let rank = dice.random_range(1..=16_u32) * dice.random_range(1..=16);
        let mut left = rank;
        while left > 0 {
            text.push_str(SYLLABLES[(left % 16) as usize]);
            left /= 16;
        }
    }
    text
}

/// What was measured of a sort and size: B is packed.
struct Row {
    sort: Sort,
    size: usize,
    /// Bytes a key.
    memory: (f64, f64),
    set: Measured,
    get: Measured,
}

/// Server CPU a command: µs of A and B, and the ratio of neighbours.
struct Measured {
    micros: (f64, f64),
    ratio: f64,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let recipe = Recipe::new(&options.server, Some(&options.module));
    let mut server = recipe.start()?;
    let version = server.info("server")?.version();
    server.query::<()>(redis::cmd("CONFIG").arg("SET").arg(MAX).arg(SIZES[SIZES.len() - 1]))?;
    println!(
        "{version}: {KEYS} values of a sort and size, {} pairs of slices of {}, {PIPELINE} commands a round trip.\n\
         Bytes are a key's as MEMORY USAGE tells them, us the server's CPU a command; x is with compression\n\
         / without, of CPU the median of the pairs.\n",
        options.pairs,
        bytes_text(f64::from(options.slice)),
    );
    println!("| value | size | bytes a key | x | SET us | x | GET us | x |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for sort in Sort::ALL {
        for size in SIZES {
            let row = measure(sort, size, &mut server, options).with_context(|| sort.name())?;
            println!("{}", row.line());
        }
    }
    Ok(())
}

impl Row {
    fn line(&self) -> String {
        let cpu = |of: &Measured| format!("{:.1} → {:.1} | {:.2}", of.micros.0, of.micros.1, of.ratio);
        let (plain, packed) = self.memory;
        format!(
            "| {} | {} | {plain:.0} → {packed:.0} | {:.2} | {} | {} |",
            self.sort.name(),
            size_text(self.size),
            packed / plain,
            cpu(&self.set),
            cpu(&self.get),
        )
    }
}

/// `256 B`, `4 KB`: powers of two, as the values are.
fn size_text(bytes: usize) -> String {
    if bytes < 1 << 10 {
        format!("{bytes} B")
    } else {
        format!("{} KB", bytes >> 10)
    }
}

fn measure(sort: Sort, size: usize, server: &mut Server, options: &Options) -> Result<Row> {
    // The same ones in each run.
    let mut dice = SmallRng::seed_from_u64(size as u64);
    let values: Vec<Vec<u8>> = (0..KEYS).map(|_| sort.value(size, &mut dice)).collect();
    let client = redis::Client::open(format!("redis://{}", server.address()))?;
    let mut connection = client.get_connection()?;
    redis::cmd("FLUSHALL").exec(&mut connection)?;
    let rounds = (options.slice as usize / (size * KEYS)).max(1);
    let (mut sets, mut gets) = (Vec::new(), Vec::new());
    for pair in 0..options.pairs {
        if interrupt::asked() {
            bail!("stopped");
        }
        let (mut set, mut get) = ([0.0; 2], [0.0; 2]);
        for turn in 0..2 {
            let packed = (turn + pair as usize) % 2;
            set[packed] = write(packed == 1, &values, rounds, server, &mut connection)?;
            get[packed] = read(packed == 1, &values, rounds, server, &mut connection)?;
        }
        sets.push(set);
        gets.push(get);
    }
    let memory = (usage(false, &mut connection)?, usage(true, &mut connection)?);
    Ok(Row { sort, size, memory, set: Measured::of(&sets)?, get: Measured::of(&gets)? })
}

impl Measured {
    fn of(pairs: &[[f64; 2]]) -> Result<Self> {
        let median = |series: Vec<f64>| Spread::of(series).map(|spread| spread.median).context("no pairs");
        Ok(Self {
            micros: (
                median(pairs.iter().map(|pair| pair[0]).collect())?,
                median(pairs.iter().map(|pair| pair[1]).collect())?,
            ),
            ratio: median(pairs.iter().map(|pair| pair[1] / pair[0]).collect())?,
        })
    }
}

fn key(packed: bool, number: usize) -> String {
    format!("bench:{}:{number:08}", if packed { "packed" } else { "plain" })
}

/// µs a CACHE.SET.
fn write(
    packed: bool,
    values: &[Vec<u8>],
    rounds: usize,
    server: &mut Server,
    connection: &mut Connection,
) -> Result<f64> {
    let least = if packed { "1" } else { "0" };
    redis::cmd("CONFIG").arg("SET").arg(MIN).arg(least).exec(connection)?;
    let before = server.cpu()?;
    for _ in 0..rounds {
        for (begin, values) in (0..).step_by(PIPELINE).zip(values.chunks(PIPELINE)) {
            let mut pipe = redis::pipe();
            for (number, value) in (begin..).zip(values) {
                pipe.cmd("CACHE.SET").arg(key(packed, number)).arg(value).arg("EX").arg(86_400);
            }
            pipe.exec(connection)?;
        }
    }
    micros(before, rounds * values.len(), server)
}

/// µs a CACHE.GET; each must answer what was written.
fn read(
    packed: bool,
    values: &[Vec<u8>],
    rounds: usize,
    server: &mut Server,
    connection: &mut Connection,
) -> Result<f64> {
    let before = server.cpu()?;
    for _ in 0..rounds {
        for (begin, values) in (0..).step_by(PIPELINE).zip(values.chunks(PIPELINE)) {
            let mut pipe = redis::pipe();
            for number in (begin..).take(values.len()) {
                pipe.cmd("CACHE.GET").arg(key(packed, number));
            }
            let got: Vec<Vec<u8>> = pipe.query(connection)?;
            ensure!(got == values, "CACHE.GET answered another value than was written");
        }
    }
    micros(before, rounds * values.len(), server)
}

fn micros(before: std::time::Duration, commands: usize, server: &mut Server) -> Result<f64> {
    Ok(server.cpu()?.saturating_sub(before).as_secs_f64() * 1e6 / commands as f64)
}

/// Bytes that a key takes, in the mean.
fn usage(packed: bool, connection: &mut Connection) -> Result<f64> {
    let mut total = 0;
    for number in 0..KEYS {
        let bytes: u64 = redis::cmd("MEMORY").arg("USAGE").arg(key(packed, number)).query(connection)?;
        total += bytes;
    }
    Ok(total as f64 / KEYS as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_long_as_asked_and_all_different() {
        for sort in Sort::ALL {
            for size in SIZES {
                let mut dice = SmallRng::seed_from_u64(1);
                let (one, other) = (sort.value(size, &mut dice), sort.value(size, &mut dice));
                assert_eq!((one.len(), other.len()), (size, size));
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn a_row_is_a_line_of_the_table() {
        let measured = |a, b| Measured { micros: (a, b), ratio: b / a };
        let row = Row {
            sort: Sort::Json,
            size: 4 << 10,
            memory: (5000.0, 2000.0),
            set: measured(5.0, 20.0),
            get: measured(2.0, 3.0),
        };
        assert_eq!(row.line(), "| JSON | 4 KB | 5000 → 2000 | 0.40 | 5.0 → 20.0 | 4.00 | 2.0 → 3.0 | 1.50 |");
        assert_eq!([256, 1 << 10, 256 << 10].map(size_text), ["256 B", "1 KB", "256 KB"]);
    }
}
