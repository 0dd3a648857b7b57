//! Lengths of time, as people write them.

use std::time::Duration;

/// Reads one: 500ms, 30s, 5m, 2h, 1d.
pub fn length(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let wrong = || format!("'{text}' is no length of time: 500ms, 30s, 5m, 2h, 1d");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    match number.checked_mul(unit).filter(|ms| (1..1 << 48).contains(ms)) {
        Some(ms) => Ok(Duration::from_millis(ms)),
        None => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time() {
        for (text, ms) in
            [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("1d", 86_400_000)]
        {
            assert_eq!(length(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "0s", "-1s", "1.5s", "1w", "99999999999999999999s", "9999999999999h"] {
            assert!(length(text).is_err(), "{text}");
        }
    }
}
