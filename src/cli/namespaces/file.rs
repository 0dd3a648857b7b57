//! The file, read.

use super::plan::{Policy, Settings};
use crate::times::length;
use anyhow::{bail, Context, Result};
use cacheflow_core::number::parse_bytes;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A namespace, as it is written.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Table {
    maxmemory: Option<Size>,
    ttl: Option<String>,
    grace: Option<String>,
    exauto: Option<Bounds>,
    maxfills: Option<u64>,
    breaker: Option<Breaker>,
    policy: Option<Policy>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Bytes(u64),
    Text(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Bounds {
    min: String,
    max: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Breaker {
    percent: u32,
    cooldown: String,
}

/// Reads it: the settings of each namespace that it has.
///
/// # Errors
/// What is wrong, and where.
pub fn read(text: &str) -> Result<BTreeMap<String, Settings>> {
    let tables: BTreeMap<String, Table> = toml::from_str(text)?;
    let each = tables.into_iter().map(|(name, table)| {
        let settings = settings(&table).with_context(|| format!("namespace '{name}'"))?;
        Ok((name, settings))
    });
    each.collect()
}

fn settings(table: &Table) -> Result<Settings> {
    let ms = |text: &String| -> Result<u64> {
        let time = length(text).map_err(anyhow::Error::msg)?;
        Ok(u64::try_from(time.as_millis())?)
    };
    let exauto = match &table.exauto {
        // The server takes these in seconds.
        Some(bounds) => {
            let (min, max) = (ms(&bounds.min)?, ms(&bounds.max)?);
            if min % 1000 != 0 || max % 1000 != 0 {
                bail!("exauto is in whole seconds");
            }
            Some((min / 1000, max / 1000))
        }
        None => None,
    };
    Ok(Settings {
        max_memory: match &table.maxmemory {
            None => 0,
            Some(Size::Bytes(bytes)) => *bytes,
            Some(Size::Text(text)) => {
                parse_bytes(text.as_bytes()).with_context(|| format!("'{text}' is no size: 512mb, 2gb"))?
            }
        },
        ttl: table.ttl.as_ref().map(ms).transpose()?.unwrap_or(0),
        grace: table.grace.as_ref().map(ms).transpose()?.unwrap_or(0),
        exauto,
        max_fills: table.maxfills.unwrap_or(0),
        breaker: match &table.breaker {
            Some(breaker) => Some((u64::from(breaker.percent), ms(&breaker.cooldown)?)),
            None => None,
        },
        policy: table.policy,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file() {
        let text = r#"
            [product]
            maxmemory = "512mb"
            ttl = "5m"
            grace = "1h"
            maxfills = 20
            breaker = { percent = 50, cooldown = "10s" }
            policy = "lru"
            [""]
            maxmemory = 1000
            [session]
            exauto = { min = "30s", max = "1h" }
            [bare]
        "#;
        let read = read(text).expect("valid");
        let product = Settings {
            max_memory: 512 << 20,
            ttl: 300_000,
            grace: 3_600_000,
            exauto: None,
            max_fills: 20,
            breaker: Some((50, 10_000)),
            policy: Some(Policy::Lru),
        };
        assert_eq!(read["product"], product);
        assert_eq!(read[""].max_memory, 1000);
        assert_eq!(read["session"].exauto, Some((30, 3600)));
        assert_eq!(read["bare"], Settings::default());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, word) in [
            ("[a]\nttl = \"soon\"", "no length of time"),
            ("[a]\nmaxmemory = \"much\"", "no size"),
            ("[a]\nmaxmemori = 1", "maxmemori"),
            ("[a]\npolicy = \"fifo\"", "fifo"),
            ("[a]\nexauto = { min = \"1500ms\", max = \"1h\" }", "whole seconds"),
            ("[a]\nbreaker = { percent = 50 }", "cooldown"),
            ("a", "expected"),
        ] {
            let error = format!("{:#}", read(text).err().unwrap_or_else(|| panic!("{text}")));
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
