//! The tables of `bench eviction` as a part of a page, docs/eviction.md: what
//! lies between two markers is written anew, the rest is left.

use super::eviction_figures::{rows_of, Measure, Row, MEASURES};
use super::ratio::Spread;
use super::summary::{bytes_text, grouped};
use crate::replay::{Kind, Workload, POLICIES};
use anyhow::{Context, Result};
use std::fmt::{self, Write};
use std::path::Path;

const BEGIN: &str = "<!-- begin of what `cacheflow bench eviction --markdown` writes -->\n";
const END: &str = "<!-- end of what it writes -->\n";

/// What is told.
pub struct Page {
    /// Requests in a second.
    rate: u64,
    /// Of what is drawn.
    seed: u64,
    /// All rows, by trace, capacity and policy.
    pub rows: Vec<Row>,
    /// Why a trace has no row at a capacity.
    pub left_out: Vec<String>,
    traces: Vec<[String; 4]>,
}

impl Page {
    /// Without rows so far.
    pub fn new(rate: u64, seed: u64) -> Self {
        Self { rate, seed, rows: Vec::new(), left_out: Vec::new(), traces: Vec::new() }
    }

    /// Tells of a trace.
    pub fn add_trace(&mut self, workload: &Workload) {
        self.traces.push([
            workload.name.clone(),
            grouped(workload.len() as u64),
            grouped(u64::from(workload.keys())),
            bytes_text(workload.footprint as f64),
        ]);
    }

    fn render(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        let measured = |kind: &&Kind| self.rows.iter().any(|row| row.kind.name == kind.name);
        let kinds: Vec<&Kind> = POLICIES.iter().skip(1).filter(measured).collect();
        writeln!(
            out,
            "{} traces, {} rows a policy; {} requests make a second; seed {}. Misses against exact LRU's, in percent: the mean of the rows, and the worst of them.\n",
            self.traces.len(),
            self.rows.iter().filter(|row| row.kind.name == POLICIES[0].name).count(),
            grouped(self.rate),
            self.seed,
        )?;
        let heads = MEASURES.map(|measure| format!("{}, mean | worst", measure.name));
        writeln!(out, "| policy | {} |", heads.join(" | "))?;
        writeln!(out, "| --- |{}", " ---: |".repeat(2 * MEASURES.len()))?;
        for kind in &kinds {
            write!(out, "| {} |", kind.name)?;
            for measure in &MEASURES {
                let spread = measure.spread(&rows_of(&self.rows, kind)).ok_or(fmt::Error)?;
                write!(out, " {} | {} |", percent(spread.median), percent(spread.max))?;
            }
            writeln!(out)?;
        }
        self.render_bound(&mut out)?;
        for measure in &MEASURES {
            self.render_rows(&mut out, measure, &kinds)?;
        }
        writeln!(out, "\n### The traces, as they were replayed\n")?;
        writeln!(out, "| trace | requests | keys | footprint |\n| --- | ---: | ---: | ---: |")?;
        for trace in &self.traces {
            writeln!(out, "| {} |", trace.join(" | "))?;
        }
        if !self.left_out.is_empty() {
            writeln!(out, "\nLeft out, for a cache of so few entries is luck:\n")?;
            for told in &self.left_out {
                writeln!(out, "- {told}")?;
            }
        }
        Ok(out)
    }

    /// The row of what anybody must miss.
    fn render_bound(&self, out: &mut String) -> fmt::Result {
        let caches = rows_of(&self.rows, &POLICIES[0]);
        write!(out, "| bound |")?;
        for measure in &MEASURES {
            let spread = Spread::of(caches.iter().map(|row| measure.bound(row))).ok_or(fmt::Error)?;
            let mean = caches.iter().map(|row| measure.bound(row)).sum::<f64>() / caches.len() as f64;
            write!(out, " {} | {} |", percent(mean), percent(spread.max))?;
        }
        writeln!(out)
    }

    fn render_rows(&self, out: &mut String, measure: &Measure, kinds: &[&Kind]) -> fmt::Result {
        let mut title = measure.name.to_string();
        title[..1].make_ascii_uppercase();
        writeln!(out, "\n### {title}, one by one\n")?;
        let names: Vec<_> = kinds.iter().map(|kind| kind.name).collect();
        writeln!(out, "| trace | capacity | lru misses | {} | bound |", names.join(" | "))?;
        writeln!(out, "| --- | ---: | ---: |{}", " ---: |".repeat(kinds.len() + 1))?;
        let mut rows = self.rows.as_slice();
        while let Some(first) = rows.first() {
            let of_cache = |row: &Row| row.trace == first.trace && row.percent == first.percent;
            let length = rows.iter().take_while(|row| of_cache(row)).count();
            let (cache, rest) = rows.split_at(length);
            write!(out, "| {} | {} % | {:.2} % |", first.trace, first.percent, 100.0 * measure.lru(first))?;
            for kind in kinds {
                match cache.iter().find(|row| row.kind.name == kind.name) {
                    Some(row) => write!(out, " {} |", percent(measure.against_lru(row)))?,
                    None => write!(out, " |")?,
                }
            }
            writeln!(out, " {} |", percent(measure.bound(first)))?;
            rows = rest;
        }
        Ok(())
    }
}

/// `−7.4`, `+2.0`, `0.0`
fn percent(ratio: f64) -> String {
    match format!("{:+.1}", (ratio - 1.0) * 100.0).as_str() {
        "+0.0" | "-0.0" => "0.0".to_string(),
        text => text.replace('-', "−"),
    }
}

/// Whether a page has the markers, before hours are spent.
pub fn check(path: &Path) -> Result<()> {
    split(&read(path)?).map(|_| ()).with_context(|| format!("the page {}", path.display()))
}

/// Writes the tables into a page.
pub fn write(path: &Path, page: &Page) -> Result<()> {
    let old = read(path)?;
    let (head, tail) = split(&old).with_context(|| format!("the page {}", path.display()))?;
    let tables = page.render().context("cannot write the tables")?;
    std::fs::write(path, format!("{head}{BEGIN}\n{tables}\n{END}{tail}"))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// What is before the markers, and after.
fn split(page: &str) -> Result<(&str, &str)> {
    let markers = || format!("has no lines {:?} and {:?}", BEGIN.trim_end(), END.trim_end());
    let (head, rest) = page.split_once(BEGIN).with_context(markers)?;
    let (_, tail) = rest.split_once(END).with_context(markers)?;
    Ok((head, tail))
}

#[cfg(test)]
mod tests {
    use super::super::eviction_figures::tests::rows;
    use super::*;

    #[test]
    fn the_part_between_the_markers_is_written_anew() {
        let page = Page { rows: rows(), ..Page::new(1000, 1) };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("eviction.md");
        std::fs::write(&path, format!("# Head\n{BEGIN}old\n{END}tail\n")).unwrap();
        check(&path).unwrap();
        write(&path, &page).unwrap();
        let once = std::fs::read_to_string(&path).unwrap();
        assert!(once.starts_with("# Head\n<!--") && once.ends_with("-->\ntail\n") && !once.contains("old"));
        write(&path, &page).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), once);
        std::fs::write(&path, "# Head\n").unwrap();
        assert!(format!("{:#}", check(&path).unwrap_err()).contains("has no lines"));
    }

    #[test]
    fn tables_have_a_cell_for_every_heading() {
        let page = Page { rows: rows(), ..Page::new(1000, 1) };
        let text = page.render().unwrap();
        let widths: Vec<Vec<usize>> = text
            .split("\n\n")
            .filter(|part| part.starts_with('|'))
            .map(|table| table.lines().map(|line| line.matches('|').count()).collect())
            .collect();
        assert_eq!(widths.len(), 5);
        assert!(widths.iter().all(|lines| lines.iter().all(|width| *width == lines[0])), "{text}");
        assert!(text.contains("| loop | 50 % | 100.00 % |"), "{text}");
        assert_eq!([0.926, 1.02, 1.0001, 0.9999].map(percent), ["−7.4", "+2.0", "0.0", "0.0"]);
    }
}
