//! Integers as Redis reads and writes them.

/// Reads a 64-bit integer the way Redis's `string2ll` (src/util.c) does: an
/// optional minus, no plus, no spaces, no leading zeros, no `-0`.
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    match digits {
        [] => return None,
        [b'0'] => return (!negative).then_some(0),
        [b'0', ..] => return None,
        _ => {}
    }
    let mut value: i64 = 0;
    for &c in digits {
        if !c.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(c - b'0');
        value = value.checked_mul(10)?;
        value = if negative { value.checked_sub(digit)? } else { value.checked_add(digit)? };
    }
    Some(value)
}

/// Reads an integer that must not be negative.
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    parse_i64(text).and_then(|n| u64::try_from(n).ok())
}

/// Reads a size in bytes as redis.conf writes it: an integer with an optional
/// unit (`b`, `k`, `kb`, `m`, `mb`, `g`, `gb`, any case; `k` is 1000, `kb` 1024,
/// as Redis's `memtoull` has it).
pub fn parse_bytes(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|c| c.is_ascii_digit()).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    parse_u64(number)?.checked_mul(factor)
}

/// A number with decimals: finite and not negative. Rust reads more than a user
/// means by a number: `inf`, `nan`, and what overflows to infinity are none, and
/// `-0` is 0.
pub fn parse_decimal(text: &[u8]) -> Option<f64> {
    let number = std::str::from_utf8(text).ok()?.parse::<f64>().ok()?;
    // -0.0 + 0.0 is 0.0.
    (number.is_finite() && number >= 0.0).then_some(number + 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn reads_what_it_writes(n in any::<i64>()) {
            prop_assert_eq!(parse_i64(n.to_string().as_bytes()), Some(n));
        }

        #[test]
        fn reads_only_what_it_would_write(text in "[-+0-9 a]{0,22}") {
            if let Some(n) = parse_i64(text.as_bytes()) {
                prop_assert_eq!(n.to_string(), text);
            }
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes(b"512mb"), Some(512 << 20));
        assert_eq!(parse_bytes(b"1K"), Some(1000));
        assert_eq!(parse_bytes(b"7"), Some(7));
        for bad in [&b""[..], b"mb", b"-1", b"1tb", b"1 mb", b"18446744073709551615gb"] {
            assert_eq!(parse_bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn decimals() {
        assert_eq!([&b"0"[..], b"1.5", b"2", b"1e2"].map(parse_decimal), [0.0, 1.5, 2.0, 100.0].map(Some));
        assert_eq!(parse_decimal(b"-0").map(f64::to_bits), Some(0));
        for none in [&b""[..], b"x", b"-1", b"nan", b"inf", b"1e999", b" 1", b"\xff"] {
            assert_eq!(parse_decimal(none), None);
        }
    }
}
