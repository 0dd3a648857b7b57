//! Skips replies without building them: the load generator only has to know
//! where each ends, and whether it was a value, nothing, or an error.

/// What a reply was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Anything but nil and errors.
    Value,
    /// Nil, at the top.
    Nil,
    /// An error, at the top.
    Error,
}

/// Why bytes are no reply.
#[derive(Debug, PartialEq, Eq)]
pub struct NotResp;

/// The first reply in `bytes` and its length, or None if it is not all there.
pub fn skip(bytes: &[u8]) -> Result<Option<(Reply, usize)>, NotResp> {
    let mut at = 0;
    let mut left: u64 = 1;
    let mut top = None;
    while left > 0 {
        let Some(line) = bytes.get(at..).and_then(line) else { return Ok(None) };
        let (&kind, rest) = line.split_first().ok_or(NotResp)?;
        at += line.len() + 2;
        left -= 1;
        let reply = match kind {
            b'+' | b':' | b'#' | b',' | b'(' => Reply::Value,
            b'-' => Reply::Error,
            b'_' => Reply::Nil,
            b'$' | b'=' | b'!' => match count(rest)? {
                None => Reply::Nil,
                Some(length) => {
                    at = usize::try_from(length)
                        .ok()
                        .and_then(|l| at.checked_add(l)?.checked_add(2))
                        .ok_or(NotResp)?;
                    if kind == b'!' {
                        Reply::Error
                    } else {
                        Reply::Value
                    }
                }
            },
            b'*' | b'~' | b'>' | b'%' | b'|' => match count(rest)? {
                None => Reply::Nil,
                Some(items) => {
                    let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
                    left = items.checked_mul(each).and_then(|n| left.checked_add(n)).ok_or(NotResp)?;
                    if kind == b'|' {
                        left += 1
                    }
                    Reply::Value
                }
            },
            _ => return Err(NotResp),
        };
        top.get_or_insert(reply);
    }
    Ok((at <= bytes.len()).then_some((top.unwrap_or(Reply::Value), at)))
}

/// The line at the start of `bytes`, without its end.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| byte == b'\r')?;
    bytes.get(end + 1).map(|_| &bytes[..end])
}

/// A length, None where it is -1.
fn count(digits: &[u8]) -> Result<Option<u64>, NotResp> {
    if digits == b"-1" {
        return Ok(None);
    }
    if digits.is_empty() {
        return Err(NotResp);
    }
    digits
        .iter()
        .try_fold(0u64, |sum, digit| match digit {
            b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
            _ => None,
        })
        .map(Some)
        .ok_or(NotResp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_every_kind_and_waits_for_it() {
        let cases: &[(&[u8], Reply)] = &[
            (b"+OK\r\n", Reply::Value),
            (b":12\r\n", Reply::Value),
            (b"-ERR no\r\n", Reply::Error),
            (b"_\r\n", Reply::Nil),
            (b"$-1\r\n", Reply::Nil),
            (b"*-1\r\n", Reply::Nil),
            (b"$0\r\n\r\n", Reply::Value),
            (b"$5\r\na\r\nb.\r\n", Reply::Value),
            (b"*4\r\n$5\r\nFRESH\r\n$1\r\nv\r\n$-1\r\n:59000\r\n", Reply::Value),
            (b"%1\r\n+a\r\n*2\r\n:1\r\n:2\r\n", Reply::Value),
            (b"*0\r\n", Reply::Value),
        ];
        for (bytes, reply) in cases {
            let more = [bytes, b"+next\r\n".as_slice()].concat();
            assert_eq!(skip(&more), Ok(Some((*reply, bytes.len()))));
            for end in 0..bytes.len() {
                assert_eq!(skip(&bytes[..end]), Ok(None), "{end} of {:?}", bytes.escape_ascii().to_string());
            }
        }
    }

    #[test]
    fn refuses_what_is_no_reply() {
        for bytes in [
            "HTTP/1.1 400\r\n",
            "$x\r\n",
            "$99999999999999999999\r\n",
            "$\r\n",
            "\r\n",
            "*-2\r\n",
            "$18446744073709551615\r\n",
        ] {
            assert_eq!(skip(bytes.as_bytes()), Err(NotResp), "{bytes}");
        }
    }
}
