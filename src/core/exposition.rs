//! The Prometheus text format, version 0.0.4, written.
//!
//! Of the crates that are kept well `prometheus-client` writes OpenMetrics alone,
//! whose counters a reader of 0.0.4 (`promtool check metrics`, a proxy) takes for
//! metrics without a type, and `prometheus` wants each sample as a tree of strings
//! first, on the event loop of a server. What is left are three rules of escaping;
//! two parsers that others wrote look at what comes of them (tests/test_metrics.py).

use std::fmt::{Display, Write};

use crate::histogram::Histogram;
use crate::units::Millis;

/// What kind of metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process ends or it is reset.
    Counter,
    /// It is what it is now.
    Gauge,
    /// Times, by buckets.
    Histogram,
}

impl Kind {
    /// The word of the format.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A number, in the unit of its metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// So many.
    Count(u64),
    /// A time, in seconds.
    Time(Millis),
    /// One in µs, in seconds.
    Micros(u64),
}

impl Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Value::Count(n) => write!(f, "{n}"),
            Value::Time(Millis(ms)) => write!(f, "{}.{:03}", ms / 1000, ms % 1000),
            Value::Micros(us) => write!(f, "{}.{:06}", us / 1_000_000, us % 1_000_000),
        }
    }
}

/// A label's name and its value.
pub type Label<'a> = (&'a str, &'a str);

/// A text that is being written.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Begins a metric: its samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        self.put("# HELP ");
        self.put(name);
        self.put(" ");
        self.escape(help, false);
        self.put("\n# TYPE ");
        self.put(name);
        self.put(" ");
        self.put(kind.word());
        self.put("\n");
    }

    /// A sample.
    pub fn sample(&mut self, name: &str, labels: &[Label<'_>], value: impl Display) {
        self.line(name, "", labels, None, value);
    }

    /// The samples of a histogram.
    pub fn histogram(&mut self, name: &str, labels: &[Label<'_>], of: &Histogram) {
        for (bound, count) in of.cumulative() {
            self.line(name, "_bucket", labels, Some(Some(bound)), count);
        }
        self.line(name, "_bucket", labels, Some(None), of.count());
        self.line(name, "_sum", labels, None, Value::Time(of.sum()));
        self.line(name, "_count", labels, None, of.count());
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.0
    }

    /// `bound`: of a bucket; `Some(None)`: of the last.
    fn line(
        &mut self,
        name: &str,
        suffix: &str,
        labels: &[Label<'_>],
        bound: Option<Option<Millis>>,
        value: impl Display,
    ) {
        self.put(name);
        self.put(suffix);
        let mut before = "{";
        for (label, text) in labels {
            self.put(before);
            self.put(label);
            self.put("=\"");
            self.escape(text, true);
            self.put("\"");
            before = ",";
        }
        match bound {
            Some(Some(Millis(ms))) => {
                // 0.5 and 30: as the reader would write it.
                self.print(format_args!("{before}le=\"{}\"", ms as f64 / 1000.0));
                before = ",";
            }
            Some(None) => {
                self.put(before);
                self.put("le=\"+Inf\"");
                before = ",";
            }
            None => {}
        }
        if before == "," {
            self.put("}");
        }
        self.print(format_args!(" {value}\n"));
    }

    fn put(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn print(&mut self, what: std::fmt::Arguments<'_>) {
        // A `Display` of ours never fails, a String neither.
        let _ = self.0.write_fmt(what);
    }

    fn escape(&mut self, text: &str, quoted: bool) {
        for c in text.chars() {
            match c {
                '\\' => self.put("\\\\"),
                '\n' => self.put("\\n"),
                '"' if quoted => self.put("\\\""),
                _ => self.0.push(c),
            }
        }
    }
}

/// Bytes as a label's value: text as it is, all else as `\xff`, and so that different
/// bytes are different text.
pub fn label_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains("\\x") => text.into(),
        _ => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page() {
        let mut page = Exposition::default();
        page.family("reads_total", Kind::Counter, "Reads.\nAll \\ of \"them\".");
        page.sample("reads_total", &[], Value::Count(7));
        page.sample("reads_total", &[("by", "a\"b\\c\nd"), ("to", "")], Value::Micros(1_000_020));
        let mut times = Histogram::default();
        times.record(Millis(30_000));
        page.histogram("took_seconds", &[("by", "x")], &times);
        let text = page.into_text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "# HELP reads_total Reads.\\nAll \\\\ of \"them\".",
                "# TYPE reads_total counter",
                "reads_total 7",
                "reads_total{by=\"a\\\"b\\\\c\\nd\",to=\"\"} 1.000020",
            ]
        );
        assert_eq!(lines[4], "took_seconds_bucket{by=\"x\",le=\"0.001\"} 0");
        assert_eq!(
            lines[lines.len() - 4..],
            [
                "took_seconds_bucket{by=\"x\",le=\"60\"} 1",
                "took_seconds_bucket{by=\"x\",le=\"+Inf\"} 1",
                "took_seconds_sum{by=\"x\"} 30.000",
                "took_seconds_count{by=\"x\"} 1",
            ]
        );
    }

    proptest! {
        #[test]
        fn other_bytes_are_other_labels(one: Vec<u8>, other: Vec<u8>) {
            prop_assert_eq!(label_of(&one) == label_of(&other), one == other);
            if !one.contains(&b'\\') {
                prop_assert_eq!(label_of(&one).as_bytes() == one, std::str::from_utf8(&one).is_ok());
            }
        }
    }

    #[test]
    fn what_looks_escaped_is_escaped() {
        assert_ne!(label_of(b"\xff"), label_of(b"\\xff"));
        assert_eq!((label_of("käse".as_bytes()).as_str(), label_of(b"").as_str()), ("käse", ""));
    }
}
