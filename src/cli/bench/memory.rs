//! Bytes a key: `used_memory` before and after so many keys, on fresh servers
//! that are started alike.

use super::load::Load;
use super::ratio::{Figure, Spread, Unit};
use super::rows::{template, MemoryRow};
use super::server::{Info, Recipe, Server};
use anyhow::{ensure, Result};
use std::time::{Duration, Instant};

/// How long a server may take to notice that connections closed.
const SETTLE: Duration = Duration::from_secs(5);

/// Measures both sides of a row.
pub fn measure(row: &MemoryRow, recipe: &Recipe, keys: u32, plain: bool) -> Result<Figure> {
    let a = bytes_a_key(row, row.a, recipe, keys, plain)?;
    let b = bytes_a_key(row, row.b, recipe, keys, plain)?;
    let beyond = b - a;
    Ok(Figure {
        name: row.name.to_string(),
        metric: "bytes a key, B-A",
        spread: Spread { median: beyond, min: beyond, max: beyond },
        sides: (a, b),
        unit: Unit::Bytes,
        target: row.beyond,
    })
}

fn bytes_a_key(
    row: &MemoryRow,
    words: &[&'static str],
    recipe: &Recipe,
    keys: u32,
    plain: bool,
) -> Result<f64> {
    let mut server = recipe.start()?;
    let before = alone(&mut server)?.number("used_memory")?;
    Load::connect(server.address(), 1, 0)?.fill(&template(words, "bench:m:", row.value, plain), keys)?;
    let after = alone(&mut server)?.number("used_memory")?;
    let keyspace = server.info("keyspace")?;
    ensure!(
        keyspace.text("db0").is_some_and(|db| db.starts_with(&format!("keys={keys},"))),
        "the server should hold {keys} keys and says: {}",
        keyspace.text("db0").unwrap_or("none")
    );
    Ok((after - before) / f64::from(keys))
}

/// INFO memory once no client but this one is connected, and the main
/// dictionaries have done most of their growing.
fn alone(server: &mut Server) -> Result<Info> {
    let start = Instant::now();
    while server.info("clients")?.number("connected_clients")? > 1.0 && start.elapsed() < SETTLE {
        std::thread::sleep(Duration::from_millis(20));
    }
    server.info("memory")
}
