//! What a replay came to, for people.

use super::cache::Holding;
use super::clients::Tally;
use hdrhistogram::Histogram;
use std::fmt;
use std::time::Duration;

/// A finished run.
pub struct Summary {
    /// What was replayed, against what.
    pub title: String,
    /// What was counted.
    pub tally: Tally,
    /// How long it took.
    pub time: Duration,
    /// What the server held before.
    pub before: Holding,
    /// And after.
    pub after: Holding,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, tally, time, before, after } = self;
        let (hits, misses) = (tally.hits.len(), tally.misses.len());
        let requests = hits + misses;
        writeln!(f, "{title}")?;
        writeln!(
            f,
            "  requests      {:>12}   in {}, {} a second",
            grouped(requests),
            time_text(*time),
            grouped((requests as f64 / time.as_secs_f64().max(1e-9)) as u64)
        )?;
        write!(f, "  hits          {:>12}   hit ratio {}", grouped(hits), percent(hits, requests))?;
        match tally.quarters[3] {
            (0, _) => writeln!(f)?,
            (requests, hits) => writeln!(f, ", in the last quarter {}", percent(hits, requests))?,
        }
        writeln!(f, "  origin reads  {:>12}   taking {}", grouped(tally.reads), time_text(tally.read_time))?;
        writeln!(f, "    saved       {:>12}   saving {}", grouped(hits), time_text(tally.saved_time))?;
        if after.coalesced > before.coalesced {
            let waited = grouped((after.coalesced - before.coalesced) as u64);
            writeln!(f, "    waited      {waited:>12}   of these, for a read that was under way")?;
        }
        writeln!(f, "                         p50        p99      p99.9")?;
        for (name, times) in [("hits", &tally.hits), ("misses", &tally.misses)] {
            writeln!(
                f,
                "  {name:<12}{}",
                [0.5, 0.99, 0.999].map(|at| format!(" {:>10}", quantile(times, at))).concat()
            )?;
        }
        if before.keys == 0 && after.keys > 0 {
            let bytes = (after.bytes - before.bytes).max(0.0);
            let each = bytes / after.keys as f64;
            let entries = grouped(after.keys);
            writeln!(
                f,
                "  in the cache  {:>12}   {entries} entries, {each:.0} bytes each",
                bytes_text(bytes)
            )?;
        } else {
            let (now, then) = (bytes_text(after.bytes), bytes_text(before.bytes));
            let (keys, held) = (grouped(after.keys), grouped(before.keys));
            writeln!(f, "  in the server {now:>12}   {keys} keys; before the run {held} in {then}")?;
        }
        if let Some(mean) = tally.stored.checked_div(tally.reads) {
            writeln!(f, "                               values stored: {mean} bytes each")?;
        }
        if after.evicted > before.evicted {
            writeln!(f, "  evicted       {:>12}", grouped((after.evicted - before.evicted) as u64))?;
        }
        write!(f, "  errors        {:>12}", grouped(tally.errors))?;
        if let Some(error) = &tally.first_error {
            write!(f, "   the first: {error}")?;
        }
        write!(f, "\n  wrong values  {:>12}", grouped(tally.wrong))
    }
}

fn quantile(times: &Histogram<u64>, at: f64) -> String {
    match times.is_empty() {
        true => "-".to_string(),
        false => time_text(Duration::from_nanos(times.value_at_quantile(at))),
    }
}

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `97.3 %`
pub fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_string(),
        whole => format!("{:.1} %", 100.0 * part as f64 / whole as f64),
    }
}

/// `41 us`, `1.2 ms`, `20.0 s`, `3 h 52 min`
pub fn time_text(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 1e-3 => format!("{:.0} us", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{} h {} min", (s / 3600.0) as u64, (s / 60.0) as u64 % 60),
    }
}

/// `812 B`, `14.6 MB`
pub fn bytes_text(bytes: f64) -> String {
    match bytes {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{:.1} KB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(0, 0), "-");
        let times = [41e-6, 1.23e-3, 20.0, 600.0, 13_920.0].map(Duration::from_secs_f64).map(time_text);
        assert_eq!(times, ["41 us", "1.2 ms", "20.0 s", "10 min", "3 h 52 min"]);
        assert_eq!([0.0, 999.0, 14.6e6, 2.5e9].map(bytes_text), ["0 B", "999 B", "14.6 MB", "2.5 GB"]);
    }

    fn summary(hits: u64, misses: u64) -> Summary {
        let histogram = |count, time| {
            let mut histogram = Histogram::new_with_bounds(1, 600_000_000_000, 3).unwrap();
            histogram.record_n(time, count).unwrap();
            histogram
        };
        let holding = |bytes, keys| Holding { bytes, keys, evicted: 0.0, limit: 0.0, coalesced: 0.0 };
        Summary {
            title: "a test".into(),
            tally: Tally {
                hits: histogram(hits, 40_000),
                misses: histogram(misses, 35_000_000),
                quarters: [(hits + misses, hits), (0, 0), (0, 0), (hits + misses, hits)],
                reads: misses,
                read_time: Duration::from_millis(35) * misses as u32,
                saved_time: Duration::from_millis(35) * hits as u32,
                stored: 500 * misses,
                wrong: 0,
                errors: 0,
                first_error: None,
            },
            time: Duration::from_secs(20),
            before: holding(1e6, 0),
            after: holding(1e6 + 700.0 * misses as f64, misses),
        }
    }

    #[test]
    fn a_run_is_summed_up() {
        let text = summary(9000, 1000).to_string();
        for part in [
            "10,000   in 20.0 s, 500 a second",
            "hit ratio 90.0 %, in the last quarter 90.0 %",
            "1,000   taking 35.0 s",
            "9,000   saving 5 min",
            "40 us",
            "35.0 ms",
            "700.0 KB   1,000 entries, 700 bytes each",
            "values stored: 500 bytes each",
            "errors                   0",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn a_run_of_nothing_is_summed_up_too() {
        let mut nothing = summary(0, 0);
        nothing.time = Duration::ZERO;
        nothing.before.keys = 7;
        nothing.tally.errors = 1;
        nothing.tally.first_error = Some("OOM".into());
        let text = nothing.to_string();
        assert!(text.contains("hit ratio -") && text.contains("the first: OOM"), "{text}");
        assert!(text.contains("0 keys; before the run 7 in 1.0 MB"), "{text}");
    }
}
