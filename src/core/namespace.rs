//! A key's namespace: what stands before the first delimiter.

/// The namespace of a key: what stands before the first `delimiter`, a leading
/// `{` skipped; a key without the delimiter is in the namespace `""`.
///
/// ```
/// use cacheflow_core::namespace::of;
/// assert_eq!(of(b"product:42", b':'), b"product");
/// assert_eq!(of(b"{product:42}:price", b':'), b"product");
/// assert_eq!(of(b"counter", b':'), b"");
/// ```
pub fn of(key: &[u8], delimiter: u8) -> &[u8] {
    let name = key.strip_prefix(b"{").unwrap_or(key);
    match name.iter().position(|&c| c == delimiter) {
        Some(end) => &name[..end],
        None => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn edges() {
        assert_eq!(of(b"", b':'), b"");
        assert_eq!(of(b":x", b':'), b"");
        assert_eq!(of(b"{", b':'), b"");
        assert_eq!(of(b"{{a:b", b':'), b"{a");
        assert_eq!(of(b"a/b:c", b'/'), b"a");
        assert_eq!(of(b"{user}:42", b':'), b"user}");
        assert_eq!(of(b"\0\xff:y", b':'), b"\0\xff");
    }
}
