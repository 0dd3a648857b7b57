//! Bytes a key: `used_memory` before and after so many keys, on fresh servers
//! that are started alike.
//!
//! What the module says it holds is compared with what it takes. What it takes
//! is what the server grew by, less what it grows by for as many native keys
//! whose object takes as much as the two headers that it puts around any
//! module's value (`rows::BARE`): names, expiry and the dictionaries are the
//! server's, with the module or without, and nothing that the module could know.
//! What it says is `cacheflow_bytes` (the entries) and `cacheflow_index_bytes`
//! (everything that leads to them) of INFO.

use super::load::Load;
use super::ratio::{Figure, Spread, Unit};
use super::rows::{template, MemoryRow, Weigh};
use super::server::{Info, Recipe, Server};
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use std::time::{Duration, Instant};

/// Memberships are weighed with values of the row's size and of so many bytes
/// more, and the mean taken: the allocator's classes are 32 bytes apart there,
/// and with one size of value a tag would cost all of such a step, or nothing.
const CLASS_STEPS: [usize; 3] = [8, 16, 24];

/// How long a server may take to notice that connections closed.
const SETTLE: Duration = Duration::from_secs(5);

/// Weighs keys, and each kind of them once.
pub struct Scales<'a> {
    recipe: &'a Recipe,
    keys: u32,
    plain: bool,
    weighed: Vec<(&'static [&'static str], usize, Weight)>,
}

/// Bytes a key.
#[derive(Debug, Clone, Copy)]
struct Weight {
    /// That `used_memory` grew by.
    used: f64,
    /// That the module says it grew by; None without the module.
    reported: Option<f64>,
}

impl<'a> Scales<'a> {
    /// Scales for so many keys on servers of this recipe; `plain`: without the module.
    pub fn new(recipe: &'a Recipe, keys: u32, plain: bool) -> Self {
        Self { recipe, keys, plain, weighed: Vec::new() }
    }

    /// Measures both sides of a row; None where there is no module to ask.
    pub fn measure(&mut self, row: &MemoryRow) -> Result<Option<Figure>> {
        if row.weigh == Weigh::Reported && self.plain {
            return Ok(None);
        }
        let (mut a, mut b) = (self.weigh(row.a, row.value)?, self.weigh(row.b, row.value)?);
        if let Weigh::Membership(_) = row.weigh {
            for more in CLASS_STEPS {
                let (one, other) =
                    (self.weigh(row.a, row.value + more)?, self.weigh(row.b, row.value + more)?);
                a.used += one.used;
                b.used += other.used;
            }
            a.used /= (CLASS_STEPS.len() + 1) as f64;
            b.used /= (CLASS_STEPS.len() + 1) as f64;
        }
        let beyond = b.used - a.used;
        let (metric, figure, sides, unit) = match row.weigh {
            Weigh::Key => ("bytes a key, B-A", beyond, (a.used, b.used), Unit::Bytes),
            Weigh::Membership(tags) => {
                ("bytes a membership", beyond / f64::from(tags), (a.used, b.used), Unit::Bytes)
            }
            Weigh::Reported => {
                let reported = b.reported.context("the server's INFO has no cacheflow_bytes")?;
                ("bytes a key", reported / beyond, (beyond, reported), Unit::BytesRatio)
            }
        };
        Ok(Some(Figure {
            name: row.name.to_string(),
            metric,
            spread: Spread { median: figure, min: figure, max: figure },
            sides: Some(sides),
            unit,
            target: row.target,
        }))
    }

    fn weigh(&mut self, words: &'static [&'static str], value: usize) -> Result<Weight> {
        if let Some((.., weight)) = self.weighed.iter().find(|known| (known.0, known.1) == (words, value)) {
            return Ok(*weight);
        }
        let weight = self.weigh_anew(words, value)?;
        self.weighed.push((words, value, weight));
        Ok(weight)
    }

    fn weigh_anew(&self, words: &[&str], value: usize) -> Result<Weight> {
        if interrupt::asked() {
            bail!("stopped");
        }
        let keys = self.keys;
        let mut server = self.recipe.start()?;
        let before = (alone(&mut server)?.number("used_memory")?, reported(&mut server)?);
        Load::connect(server.address(), 1, 0)?.fill(&template(words, "bench:m:", value, self.plain), keys)?;
        let after = (alone(&mut server)?.number("used_memory")?, reported(&mut server)?);
        let keyspace = server.info("keyspace")?;
        ensure!(
            keyspace.text("db0").is_some_and(|db| db.starts_with(&format!("keys={keys},"))),
            "the server should hold {keys} keys and says: {}",
            keyspace.text("db0").unwrap_or("none")
        );
        let each = |before: f64, after: f64| (after - before) / f64::from(keys);
        Ok(Weight {
            used: each(before.0, after.0),
            reported: before.1.zip(after.1).map(|(before, after)| each(before, after)),
        })
    }
}

/// What the module says it holds, if it says anything.
fn reported(server: &mut Server) -> Result<Option<f64>> {
    let info = server.info("cacheflow_memory")?;
    let Ok(entries) = info.number("cacheflow_bytes") else { return Ok(None) };
    // A module without an index has none to report.
    Ok(Some(entries + info.number("cacheflow_index_bytes").unwrap_or(0.0)))
}

/// INFO memory once no client but this one is connected, and the main
/// dictionaries have done most of their growing.
fn alone(server: &mut Server) -> Result<Info> {
    among(server, 1.0)
}

/// INFO memory once no more than so many clients are connected.
pub fn among(server: &mut Server, clients: f64) -> Result<Info> {
    let start = Instant::now();
    while server.info("clients")?.number("connected_clients")? > clients && start.elapsed() < SETTLE {
        std::thread::sleep(Duration::from_millis(20));
    }
    server.info("memory")
}
