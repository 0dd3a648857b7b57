//! What a shard saves beside its entries (the RDB's aux data): MessagePack, so
//! that later versions can add fields that earlier ones skip.

use serde::{Deserialize, Serialize};

use crate::units::{Stamp, STAMP_LIMIT};

/// The longest aux payload that is looked at.
const LONGEST: usize = 1 << 20;

/// The state of a shard that belongs to no entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The stamps' high-water mark: a restart never draws as low a one.
    #[serde(default)]
    pub stamp: u64,
}

/// Why aux data was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedError {
    /// No MessagePack map of the fields, or longer than any that is written.
    Malformed,
    /// A stamp that no clock draws.
    Stamp,
}

impl Saved {
    /// The encoding of the default: an empty map.
    pub const NOTHING: &'static [u8] = &[0x80];

    /// The state as bytes, or `None` where memory ran out.
    pub fn encode(&self) -> Option<Vec<u8>> {
        rmp_serde::to_vec_named(self).ok()
    }

    /// The state from bytes that may be anything.
    ///
    /// # Errors
    /// [`SavedError`] says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Saved, SavedError> {
        if bytes.len() > LONGEST {
            return Err(SavedError::Malformed);
        }
        let saved: Saved = rmp_serde::from_slice(bytes).map_err(|_| SavedError::Malformed)?;
        if saved.stamp >= STAMP_LIMIT {
            return Err(SavedError::Stamp);
        }
        Ok(saved)
    }

    /// The high-water mark as a stamp.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(stamp in 0..STAMP_LIMIT) {
            let saved = Saved { stamp };
            prop_assert_eq!(Saved::decode(&saved.encode().unwrap_or_default()), Ok(saved));
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Saved::decode(&bytes);
        }
    }

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(Saved::decode(Saved::NOTHING), Ok(Saved::default()));
    }

    #[test]
    fn a_stamp_out_of_range_is_refused() {
        let bytes = Saved { stamp: STAMP_LIMIT }.encode().unwrap_or_default();
        assert_eq!(Saved::decode(&bytes), Err(SavedError::Stamp));
    }
}
