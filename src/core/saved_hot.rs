//! What was hot, as it is saved behind what [`crate::saved`] saves: parts of
//! records of candidates ([`crate::refresh_ahead`]), the heaviest first.
//!
//! Bounded: past [`MOST_BYTES`] of names the lighter ones are left out. A server
//! that starts with it knows what to recompute first, though nothing is in its
//! cache.

use serde::{Deserialize, Serialize};

use crate::hitters::LONGEST_NAME;
use crate::packed::Bytes;
use crate::refresh_ahead::Saved;
use crate::saved::{SavedError, MOST_DATABASES};

/// Bytes of names that are saved.
const MOST_BYTES: usize = 1 << 20;
/// Records in a part.
const RECORDS: usize = 512;
/// The longest part that is looked at: more than one of the longest names.
const LONGEST: usize = 2 * RECORDS * LONGEST_NAME;
/// The highest figure: what is above is no figure of ours.
const HIGHEST: u64 = 1 << 53;

/// database, key, weight, hits
#[derive(Debug, Serialize, Deserialize)]
struct Record<'a>(u32, #[serde(borrow)] Bytes<'a>, u64, u64);

/// The parts; `None` where memory ran out.
pub fn parts<'a>(candidates: impl Iterator<Item = Saved<'a>>) -> Option<Vec<Vec<u8>>> {
    let mut bytes = 0;
    let saved: Vec<Record<'_>> = candidates
        .take_while(|candidate| {
            bytes += candidate.name.len();
            bytes <= MOST_BYTES
        })
        .map(|Saved { db, name, weight, hits }| {
            Record(db as u32, Bytes(name), weight.min(HIGHEST), hits.min(HIGHEST))
        })
        .collect();
    saved.chunks(RECORDS).map(|some| rmp_serde::to_vec(some).ok()).collect()
}

/// What a part of bytes that may be anything says was hot.
///
/// # Errors
/// [`SavedError`]; nothing of it is told then.
pub fn decode(bytes: &[u8], mut each: impl FnMut(Saved<'_>)) -> Result<(), SavedError> {
    if bytes.len() > LONGEST {
        return Err(SavedError::Malformed);
    }
    let records: Vec<Record<'_>> = rmp_serde::from_slice(bytes).map_err(|_| SavedError::Malformed)?;
    let is_one = |Record(db, name, weight, hits): &Record<'_>| {
        *db <= MOST_DATABASES && name.0.len() <= LONGEST_NAME && (*weight).max(*hits) <= HIGHEST
    };
    if records.len() > RECORDS || !records.iter().all(is_one) {
        return Err(SavedError::Malformed);
    }
    for Record(db, name, weight, hits) in records {
        each(Saved { db: db as usize, name: name.0, weight, hits });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn back(parts: &[Vec<u8>]) -> Vec<(usize, Vec<u8>, u64, u64)> {
        let mut all = Vec::new();
        for part in parts {
            decode(part, |of| all.push((of.db, of.name.to_vec(), of.weight, of.hits)))
                .expect("what was written");
        }
        all
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&bytes, |_| ());
        }

        #[test]
        fn all_come_back(all in proptest::collection::vec(
            (0usize..16, proptest::collection::vec(any::<u8>(), 0..9), 0..=HIGHEST, 0..=HIGHEST), 0..1200
        )) {
            let saved = all.iter().map(|(db, name, weight, hits)| Saved { db: *db, name, weight: *weight, hits: *hits });
            let parts = parts(saved).expect("memory");
            prop_assert_eq!(parts.len(), all.len().div_ceil(RECORDS));
            prop_assert_eq!(back(&parts), all);
        }
    }

    #[test]
    fn the_lighter_are_left_out() {
        let name = [b'n'; LONGEST_NAME];
        let many = (0..3000u64).map(|n| Saved { db: 0, name: &name, weight: 3000 - n, hits: 1 });
        let all = back(&parts(many).expect("memory"));
        assert_eq!((all.len(), all[0].2), (MOST_BYTES / LONGEST_NAME, 3000));
    }

    #[test]
    fn what_no_shard_writes_is_refused() {
        let long = [b'n'; LONGEST_NAME + 1];
        for (db, name, weight, hits) in
            [(u32::MAX, &b"n"[..], 1, 1), (0, &long, 1, 1), (0, b"n", u64::MAX, 1), (0, b"n", 1, HIGHEST + 1)]
        {
            let part = rmp_serde::to_vec(&[Record(db, Bytes(name), weight, hits)]).expect("memory");
            assert_eq!(decode(&part, |_| panic!("told")), Err(SavedError::Malformed));
        }
    }
}
