//! Reads cache traces of the format CFT1, packed by zstd or not.
//!
//! ```text
//! "CFT1"  u32 n requests  u32 m keys  u32 flags (1 sizes, 2 times, 4 class)
//! u32[n]  key ids, each below m
//! u32[m]  sizes in bytes                            where flag 1
//! u32[n]  milliseconds since the request before     where flag 2
//! u16[m]  class (read past, not kept)               where flag 4
//! ```
//! All little endian. The file is hostile input: the counts in the header
//! reserve nothing, arrays grow only as their bytes really arrive, and every
//! way to be malformed has a sentence of its own.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const MAGIC: &[u8; 4] = b"CFT1";
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];
const SIZES: u32 = 1;
const TIMES: u32 = 2;
const CLASS: u32 = 4;
/// More requests than this are kept only in part, by a limit: 12 bytes each.
const MOST_REQUESTS: usize = 1 << 27;

/// A recorded workload.
#[derive(Debug, PartialEq)]
pub struct Trace {
    /// The key of each request.
    pub ids: Vec<u32>,
    /// The size of each key's value in bytes, if recorded.
    pub sizes: Option<Vec<u32>>,
    /// Milliseconds between each request and the one before, if recorded.
    pub gaps: Option<Vec<u32>>,
}

/// What is wrong with a trace file.
#[derive(Debug)]
pub enum TraceError {
    /// It could not be read.
    Io(io::Error),
    /// What zstd packed cannot be unpacked.
    Damaged(io::Error),
    /// It does not begin as a trace does.
    BadMagic([u8; 4]),
    /// It has flags that this program does not know.
    UnknownFlags(u32),
    /// It ends inside of a part.
    Truncated {
        /// Which part.
        part: &'static str,
        /// How many items the header announces.
        want: usize,
        /// How many are there.
        have: usize,
    },
    /// A request names a key that the header does not announce.
    KeyOutOfRange {
        /// Which request, from 0.
        request: usize,
        /// The key it names.
        key: u32,
        /// How many keys there are.
        keys: u32,
    },
    /// There are bytes after its last part.
    Trailing,
    /// It has no requests.
    Empty,
    /// It has more requests than fit, and no limit was given.
    TooLarge(usize),
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot be read: {error}"),
            Self::Damaged(error) => write!(f, "is damaged or truncated inside its zstd packing: {error}"),
            Self::BadMagic(magic) => write!(
                f,
                "is no trace: it begins with \"{}\" instead of \"CFT1\" (bad magic)",
                magic.escape_ascii()
            ),
            Self::UnknownFlags(flags) => {
                write!(f, "has the flags {flags:#x}, of which only 0x1, 0x2 and 0x4 are known")
            }
            Self::Truncated { part, want, have } => {
                write!(f, "is truncated: its {part} should be {want} and are {have}")
            }
            Self::KeyOutOfRange { request, key, keys } => write!(
                f,
                "has a key id out of range: request {request} names key {key}, but there are {keys} keys"
            ),
            Self::Trailing => write!(f, "goes on after its last part: the counts in its header are wrong"),
            Self::Empty => write!(f, "holds no requests"),
            Self::TooLarge(requests) => {
                write!(f, "holds {requests} requests, more than {MOST_REQUESTS}: name a --limit")
            }
        }
    }
}

impl std::error::Error for TraceError {}

impl Trace {
    /// Opens a trace file and keeps its first `limit` requests.
    pub fn open(path: &Path, limit: Option<usize>) -> Result<Self, TraceError> {
        let file = BufReader::new(File::open(path).map_err(TraceError::Io)?);
        Self::read(file, limit)
    }

    /// Reads a trace, packed or not: its first bytes tell.
    pub fn read(mut input: impl Read, limit: Option<usize>) -> Result<Self, TraceError> {
        let mut magic = Vec::with_capacity(4);
        input.by_ref().take(4).read_to_end(&mut magic).map_err(TraceError::Io)?;
        let whole = io::Cursor::new(magic.clone()).chain(input);
        if magic == ZSTD_MAGIC {
            let unpacked = zstd::stream::read::Decoder::new(whole).map_err(TraceError::Damaged)?;
            Parts { input: BufReader::new(unpacked), failed: TraceError::Damaged }.trace(limit)
        } else {
            Parts { input: BufReader::new(whole), failed: TraceError::Io }.trace(limit)
        }
    }

    /// What a trace file is called: of `traces/web07.cft.zst` this is `web07`.
    pub fn name(path: &Path) -> &str {
        path.file_name().and_then(|name| name.to_str()?.split('.').next()).unwrap_or_default()
    }

    /// How many different keys the requests kept here name at most.
    pub fn keys(&self) -> u32 {
        self.ids.iter().max().map_or(0, |id| id + 1)
    }
}

/// The parts of a trace, one after the other.
struct Parts<R> {
    input: R,
    failed: fn(io::Error) -> TraceError,
}

impl<R: Read> Parts<R> {
    fn trace(mut self, limit: Option<usize>) -> Result<Trace, TraceError> {
        let mut magic = Vec::with_capacity(4);
        self.bytes("magic bytes", 4, |byte: [u8; 1]| magic.extend(byte))?;
        match <[u8; 4]>::try_from(magic.as_slice()) {
            Ok(magic) if &magic == MAGIC => {}
            Ok(magic) => return Err(TraceError::BadMagic(magic)),
            Err(_) => return Err(TraceError::Truncated { part: "magic bytes", want: 4, have: 0 }),
        }
        let header = self.numbers("header numbers", 3, 3)?;
        let (requests, keys, flags) = match header.as_slice() {
            [requests, keys, flags] => (*requests as usize, *keys, *flags),
            other => {
                return Err(TraceError::Truncated { part: "header numbers", want: 3, have: other.len() })
            }
        };
        if flags & !(SIZES | TIMES | CLASS) != 0 {
            return Err(TraceError::UnknownFlags(flags));
        }
        let kept = requests.min(limit.unwrap_or(requests));
        if kept > MOST_REQUESTS {
            return Err(TraceError::TooLarge(requests));
        }
        if kept == 0 {
            return Err(TraceError::Empty);
        }
        let ids = self.numbers("requests", requests, kept)?;
        if let Some((request, &key)) = ids.iter().enumerate().find(|(_, &id)| id >= keys) {
            return Err(TraceError::KeyOutOfRange { request, key, keys });
        }
        let named = ids.iter().max().map_or(0, |&id| id as usize + 1);
        let sizes = match flags & SIZES {
            0 => None,
            _ => Some(self.numbers("sizes", keys as usize, named)?),
        };
        let gaps = match flags & TIMES {
            0 => None,
            _ => Some(self.numbers("times", requests, kept)?),
        };
        if flags & CLASS != 0 {
            self.bytes("classes", keys as usize, |_: [u8; 2]| ())?;
        }
        match self.input.read(&mut [0]) {
            Ok(0) => Ok(Trace { ids, sizes, gaps }),
            Ok(_) => Err(TraceError::Trailing),
            Err(error) => Err((self.failed)(error)),
        }
    }

    /// Reads `count` numbers and keeps the first `keep` of them.
    fn numbers(&mut self, part: &'static str, count: usize, keep: usize) -> Result<Vec<u32>, TraceError> {
        let mut kept = Vec::new();
        self.bytes(part, count, |item| {
            if kept.len() < keep {
                kept.push(u32::from_le_bytes(item));
            }
        })?;
        Ok(kept)
    }

    /// Reads `count` items of N bytes.
    fn bytes<const N: usize>(
        &mut self,
        part: &'static str,
        count: usize,
        mut item: impl FnMut([u8; N]),
    ) -> Result<(), TraceError> {
        for have in 0..count {
            let mut bytes = [0; N];
            let mut filled = 0;
            while filled < N {
                match self.input.read(&mut bytes[filled..]) {
                    Ok(0) => return Err(TraceError::Truncated { part, want: count, have }),
                    Ok(read) => filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err((self.failed)(error)),
                }
            }
            item(bytes);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(requests: u32, keys: u32, flags: u32, rest: &[u8]) -> Vec<u8> {
        let header = [requests, keys, flags].map(u32::to_le_bytes).concat();
        [MAGIC.as_slice(), &header, rest].concat()
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn full() -> Vec<u8> {
        let mut rest = words(&[0, 1, 0, 2, /* sizes */ 10, 20, 30, /* times */ 0, 5, 7, 9]);
        rest.extend([1, 0, 2, 0, 3, 0]);
        file(4, 3, 7, &rest)
    }

    #[test]
    fn reads_every_part() {
        let trace = Trace::read(full().as_slice(), None).unwrap();
        assert_eq!(trace.ids, [0, 1, 0, 2]);
        assert_eq!(trace.sizes, Some(vec![10, 20, 30]));
        assert_eq!(trace.gaps, Some(vec![0, 5, 7, 9]));
        assert_eq!(trace.keys(), 3);
    }

    #[test]
    fn reads_packed_files_whatever_their_name() {
        let packed = zstd::encode_all(full().as_slice(), 3).unwrap();
        assert_eq!(
            Trace::read(packed.as_slice(), None).unwrap(),
            Trace::read(full().as_slice(), None).unwrap()
        );
    }

    #[test]
    fn a_limit_keeps_the_first_requests_and_their_keys_only() {
        let trace = Trace::read(full().as_slice(), Some(3)).unwrap();
        assert_eq!(trace.ids, [0, 1, 0]);
        assert_eq!(trace.sizes, Some(vec![10, 20]));
        assert_eq!(trace.gaps, Some(vec![0, 5, 7]));
    }

    #[test]
    fn every_truncation_is_named() {
        let whole = full();
        for end in 0..whole.len() {
            let error = Trace::read(&whole[..end], None).unwrap_err();
            assert!(matches!(error, TraceError::Truncated { .. }), "{end}: {error}");
        }
        let packed = zstd::encode_all(whole.as_slice(), 3).unwrap();
        for end in 0..packed.len() {
            let error = Trace::read(&packed[..end], None).unwrap_err().to_string();
            assert!(
                error.contains(if end < 4 { "truncated" } else { "inside its zstd packing" }),
                "{end}: {error}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_is_an_error_or_a_trace() {
        let whole = full();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = Trace::read(bytes.as_slice(), None);
        }
    }

    #[test]
    fn malformed_files_say_what_is_wrong() {
        let cases = [
            (b"GIF89a..........".to_vec(), "bad magic"),
            (file(1, 1, 8, &words(&[0])), "flags 0x8"),
            (file(2, 2, 0, &words(&[0, 2])), "request 1 names key 2"),
            (file(1, 1, 0, &words(&[0, 0])), "goes on after"),
            (file(0, 0, 0, &[]), "no requests"),
            (file(u32::MAX, u32::MAX, 7, &words(&[0])), "--limit"),
            (file(1 << 26, 1, 0, &words(&[0])), "should be 67108864 and are 1"),
        ];
        for (bytes, expected) in cases {
            let error = Trace::read(bytes.as_slice(), None).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
