//! A SET as RESP: what `redis-cli --pipe` takes, whatever bytes are in it.

use super::Plain;
use std::io::{Result, Write};

/// Writes `SET key value [PX ttl]`.
pub fn write(out: &mut impl Write, plain: &Plain) -> Result<()> {
    let ttl = plain.ttl.map(|ttl| ttl.to_string());
    let words = [b"SET", plain.key.as_slice(), plain.value.as_slice()];
    let end = ttl.as_ref().map(|ttl| [b"PX", ttl.as_bytes()]);
    let words: Vec<&[u8]> = words.into_iter().chain(end.into_iter().flatten()).collect();
    write!(out, "*{}\r\n", words.len())?;
    for word in words {
        write!(out, "${}\r\n", word.len())?;
        out.write_all(word)?;
        out.write_all(b"\r\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bytes() {
        let mut out = Vec::new();
        write(&mut out, &Plain { key: b"a\r\n".to_vec(), value: vec![0, 0xff], ttl: Some(70) })
            .expect("memory");
        write(&mut out, &Plain { key: vec![], value: vec![], ttl: None }).expect("memory");
        let first = b"*5\r\n$3\r\nSET\r\n$3\r\na\r\n\r\n$2\r\n\0\xff\r\n$2\r\nPX\r\n$2\r\n70\r\n";
        assert_eq!(out, [&first[..], b"*3\r\n$3\r\nSET\r\n$0\r\n\r\n$0\r\n\r\n"].concat());
    }
}
