//! The package catalogue as an origin: a SQLite database in memory, slow by
//! decree, whose records the cache holds as JSON documents.

use crate::catalogue::{Catalogue, Package};
use crate::origin::{Keyspace, Latency, Origin};
use anyhow::{Context, Result};
use rand::{rngs::StdRng, seq::SliceRandom, SeedableRng};
use rusqlite::{params, Connection, OpenFlags};
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_64;

/// Shared by the connections of this process, gone with the last of them.
const DATABASE: &str = "file:cacheflow-origin?mode=memory&cache=shared";

/// The records, keys in order of their popularity.
pub struct Records {
    keys: Vec<Key>,
    latency: Latency,
    /// Keeps the database in memory.
    _anchor: std::sync::Mutex<Connection>,
}

struct Key {
    name: String,
    /// Where the package's name begins in `name`.
    package: usize,
    digest: u64,
    /// Of the document.
    bytes: usize,
}

impl Records {
    /// The sizes of all documents together.
    pub fn bytes(&self) -> usize {
        self.keys.iter().map(|key| key.bytes).sum()
    }

    /// Fills the database. Which records are popular is drawn by the seed, and
    /// `most` keeps so many of them.
    pub fn build(catalogue: Catalogue, latency: Latency, most: Option<usize>) -> Result<Self> {
        let mut packages = catalogue.packages;
        packages.shuffle(&mut StdRng::seed_from_u64(latency.seed));
        packages.truncate(most.unwrap_or(packages.len()));
        let mut anchor = open()?;
        fill(&mut anchor, &packages).context("cannot fill the origin's database")?;
        let keys = packages.iter().map(Key::of).collect();
        Ok(Self { keys, latency, _anchor: std::sync::Mutex::new(anchor) })
    }
}

impl Key {
    /// `pkg-<section>:<name>`: the section is the namespace.
    fn of(package: &Package) -> Self {
        let section = if package.section.is_empty() { "none" } else { &package.section };
        let namespace = format!("pkg-{section}:");
        let document = document(package);
        Self {
            package: namespace.len(),
            name: namespace + &package.name,
            digest: xxh3_64(&document),
            bytes: document.len(),
        }
    }
}

fn open() -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_URI
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(DATABASE, flags).context("cannot open the origin's database")
}

fn fill(database: &mut Connection, packages: &[Package]) -> rusqlite::Result<()> {
    database.execute_batch(
        "CREATE TABLE package (name TEXT PRIMARY KEY, version TEXT, section TEXT, maintainer TEXT,
         homepage TEXT, depends TEXT, description TEXT) WITHOUT ROWID",
    )?;
    let all = database.transaction()?;
    {
        let mut insert = all.prepare("INSERT INTO package VALUES (?, ?, ?, ?, ?, ?, ?)")?;
        for p in packages {
            insert.execute(params![
                p.name,
                p.version,
                p.section,
                p.maintainer,
                p.homepage,
                p.depends,
                p.description
            ])?;
        }
    }
    all.commit()
}

/// What an application would cache of a record.
fn document(package: &Package) -> Vec<u8> {
    serde_json::json!({
        "name": package.name,
        "version": package.version,
        "section": package.section,
        "maintainer": package.maintainer,
        "homepage": package.homepage,
        "depends": package.depends.split(", ").filter(|d| !d.is_empty()).collect::<Vec<_>>(),
        "description": package.description,
    })
    .to_string()
    .into_bytes()
}

impl Keyspace for Records {
    fn len(&self) -> u32 {
        u32::try_from(self.keys.len()).unwrap_or(u32::MAX)
    }

    fn name(&self, key: u32) -> &str {
        self.keys.get(key as usize).map_or("", |key| &key.name)
    }

    fn latency(&self, key: u32) -> Duration {
        self.latency.of(self.name(key))
    }

    fn holds(&self, key: u32, value: &[u8]) -> bool {
        self.keys.get(key as usize).is_some_and(|key| key.digest == xxh3_64(value))
    }

    fn connect(&self) -> Result<Box<dyn Origin + '_>> {
        Ok(Box::new(Reader { records: self, database: open()? }))
    }
}

struct Reader<'a> {
    records: &'a Records,
    database: Connection,
}

impl Origin for Reader<'_> {
    fn load(&mut self, key: u32) -> Result<Vec<u8>> {
        let entry = self.records.keys.get(key as usize).context("the origin has no such record")?;
        let name = &entry.name[entry.package..];
        std::thread::sleep(self.records.latency(key));
        let mut select = self.database.prepare_cached("SELECT * FROM package WHERE name = ?")?;
        let package = select
            .query_row([name], |row| {
                Ok(Package {
                    name: row.get(0)?,
                    version: row.get(1)?,
                    section: row.get(2)?,
                    maintainer: row.get(3)?,
                    homepage: row.get(4)?,
                    depends: row.get(5)?,
                    description: row.get(6)?,
                })
            })
            .with_context(|| format!("the origin cannot read {name}"))?;
        Ok(document(&package))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::parse;

    fn records(seed: u64, most: Option<usize>) -> Records {
        let packages = parse(
            "Package: a\nSection: web\nDepends: b, c\nDescription: \"quoted\" é\n\nPackage: b\n\nPackage: c\nSection: x/libs\n",
        );
        let catalogue = Catalogue { packages, source: String::new() };
        Records::build(catalogue, Latency { median: Duration::ZERO, seed }, most).unwrap()
    }

    /// One test, since the database is one a process.
    #[test]
    fn reads_what_was_put_in() {
        let names =
            |records: &Records| (0..records.len()).map(|k| records.name(k).to_string()).collect::<Vec<_>>();
        let first = names(&records(7, None));
        assert_eq!(first, names(&records(7, None)), "the same seed, the same popularity");
        assert!((0..20).any(|seed| names(&records(seed, None)) != first));
        assert_eq!(names(&records(7, Some(2))), first[..2]);

        let records = records(7, None);
        let mut origin = records.connect().unwrap();
        let mut sorted = first.clone();
        sorted.sort();
        assert_eq!(sorted, ["pkg-none:b", "pkg-web:a", "pkg-x/libs:c"]);
        for key in 0..3 {
            let value = origin.load(key).unwrap();
            assert!(records.holds(key, &value));
            assert!(!records.holds((key + 1) % 3, &value));
            if records.name(key) == "pkg-web:a" {
                let read: serde_json::Value = serde_json::from_slice(&value).unwrap();
                assert_eq!(read["depends"][1], "c");
                assert_eq!(read["description"], "\"quoted\" é");
            }
        }
        assert!(origin.load(3).is_err());
    }
}
