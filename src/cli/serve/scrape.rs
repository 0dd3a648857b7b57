//! What a node answers to CACHE.METRICS, read. It comes over the network and goes to
//! others under our name: what is not well-formed is refused as a whole.

use anyhow::{bail, ensure, Context, Result};
use cacheflow_core::exposition::Kind;

/// A line of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The metric's name, with what a histogram puts behind it.
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
    /// The value as it was written.
    pub text: String,
}

impl Sample {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(of, _)| of == name).map(|(_, value)| value.as_str())
    }
}

/// A metric and its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub name: String,
    pub help: String,
    pub kind: Kind,
    pub samples: Vec<Sample>,
}

/// Reads the text.
///
/// # Errors
/// The first line that is wrong.
pub fn parse(text: &str) -> Result<Vec<Family>> {
    let mut families: Vec<Family> = Vec::new();
    let mut help: Option<(&str, String)> = None;
    for line in text.lines().filter(|line| !line.is_empty()) {
        let wrong = || format!("CACHE.METRICS answers what it should not: '{}'", line.escape_debug());
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
            help = Some((name, unescaped(text).with_context(wrong)?));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, word) = rest.split_once(' ').with_context(wrong)?;
            let kinds = [Kind::Counter, Kind::Gauge, Kind::Histogram];
            let kind = kinds.into_iter().find(|kind| kind.word() == word).with_context(wrong)?;
            ensure!(is_name(name) && families.iter().all(|family| family.name != name), wrong());
            let help = help.take().filter(|(of, _)| *of == name).map_or(String::new(), |(_, help)| help);
            families.push(Family { name: name.into(), help, kind, samples: Vec::new() });
        } else if !line.starts_with('#') {
            let sample = sample(line).with_context(wrong)?;
            let Some(family) = families.last_mut() else { bail!(wrong()) };
            let suffix = sample.name.strip_prefix(family.name.as_str());
            let fits = match family.kind {
                Kind::Histogram => matches!(suffix, Some("_bucket" | "_sum" | "_count")),
                Kind::Counter | Kind::Gauge => suffix == Some(""),
            };
            ensure!(fits, wrong());
            family.samples.push(sample);
        }
    }
    Ok(families)
}

fn is_name(name: &str) -> bool {
    let first = name.bytes().next();
    first.is_some_and(|c| !c.is_ascii_digit())
        && name.bytes().all(|c| c == b'_' || c == b':' || c.is_ascii_alphanumeric())
}

fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(behind) => labels(behind)?,
        None => (Vec::new(), rest),
    };
    let text = rest.strip_prefix(' ')?.to_string();
    let value = match text.as_str() {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        number => number.parse().ok()?,
    };
    is_name(name).then(|| Sample { name: name.into(), labels, value, text })
}

/// What stands between the braces, and the rest behind them.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut found = Vec::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((found, rest));
        }
        let (name, behind) = rest.split_once("=\"")?;
        let mut escaped = false;
        let end = behind.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        })?;
        if !is_name(name) {
            return None;
        }
        found.push((name.into(), unescaped(&behind[..end])?));
        rest = &behind[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cacheflow_core::exposition::{Exposition, Value};
    use cacheflow_core::histogram::Histogram;
    use cacheflow_core::units::Millis;

    #[test]
    fn it_reads_what_core_writes() {
        let mut page = Exposition::default();
        page.family("a_total", Kind::Counter, "Help\nwith \\ all.");
        let strange = "q\"b\\n\nend\\";
        page.sample("a_total", &[("namespace", strange), ("x", "")], Value::Micros(7));
        page.family("t_seconds", Kind::Histogram, "Times.");
        let mut times = Histogram::default();
        times.record(Millis(70));
        page.histogram("t_seconds", &[], &times);
        page.family("none", Kind::Gauge, "Nothing.");
        let families = parse(&page.into_text()).expect("well-formed");
        assert_eq!(families.len(), 3);
        assert_eq!(families[0].help, "Help\nwith \\ all.");
        assert_eq!(families[0].samples[0].label("namespace"), Some(strange));
        assert_eq!(
            (families[0].samples[0].value, families[0].samples[0].text.as_str()),
            (0.000_007, "0.000007")
        );
        assert_eq!(families[1].samples.last().map(|sample| sample.value), Some(1.0));
        assert!(families[2].samples.is_empty());
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        let head = "# TYPE a counter\n";
        for wrong in [
            "a 1", // of no metric
            "# TYPE a nonsense\na 1",
            "# TYPE 1a counter",
            "# TYPE a counter\n# TYPE a counter",
            "# TYPE a counter\nb 1",
            "# TYPE a counter\na_sum 1",
            "# TYPE a counter\na",
            "# TYPE a counter\na x",
            "# TYPE a counter\na{b=\"c} 1",
            "# TYPE a counter\na{b=\"c\"",
            "# TYPE a counter\na{b=\"\\x\"} 1",
            "# TYPE a counter\na{=\"\"} 1",
            "# TYPE a counter\na{b} 1",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse(&format!("{head}# anything\n\na{{}} +Inf\n")).expect("fine")[0].samples.len(), 1);
        assert!(parse("").expect("fine").is_empty());
    }
}
