//! Settings of namespaces as a shard saves them: parts of `saved`, of records
//! that later versions can add fields to, which earlier ones skip.
//!
//! A record says all that is set for its name, be it nothing. So the order of
//! records does not matter, and a part that comes twice changes nothing.

use serde::{Deserialize, Serialize};

use crate::adaptive::Bounds;
use crate::packed::Bytes;
use crate::saved::SavedError;
use crate::settings::{Breaker, Policy, Settings, LONGEST_NAME};
use crate::units::Millis;

/// name, what is set
#[derive(Debug, Serialize, Deserialize)]
struct Record<'a>(#[serde(borrow)] Bytes<'a>, Fields);

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Zeros: nothing.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Fields {
    #[serde(skip_serializing_if = "is_zero")]
    max_memory: u64,
    #[serde(skip_serializing_if = "is_zero")]
    ttl: u64,
    #[serde(skip_serializing_if = "is_zero")]
    grace: u64,
    #[serde(skip_serializing_if = "is_zero")]
    exauto_min: u64,
    #[serde(skip_serializing_if = "is_zero")]
    exauto_max: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_fills: u64,
    #[serde(skip_serializing_if = "is_zero")]
    breaker_percent: u64,
    #[serde(skip_serializing_if = "is_zero")]
    breaker_cooldown: u64,
    /// 1 and its place in [`Policy::ALL`].
    #[serde(skip_serializing_if = "is_zero")]
    policy: u64,
}

fn fields(settings: &Settings) -> Fields {
    let [min, max] = settings.exauto.map_or([0, 0], Bounds::seconds);
    let breaker = settings.breaker.map_or((0, 0), |of| (u64::from(of.percent), of.cooldown.0));
    let policy = settings.policy.and_then(|policy| Policy::ALL.iter().position(|one| *one == policy));
    Fields {
        max_memory: settings.max_memory,
        ttl: settings.ttl.0,
        grace: settings.grace.0,
        exauto_min: u64::from(min),
        exauto_max: u64::from(max),
        max_fills: settings.max_fills,
        breaker_percent: breaker.0,
        breaker_cooldown: breaker.1,
        policy: policy.map_or(0, |place| place as u64 + 1),
    }
}

/// The settings of fields that may be anything.
fn settings(fields: &Fields) -> Option<Settings> {
    let exauto = match (fields.exauto_min, fields.exauto_max) {
        (0, 0) => None,
        (min, max) => Some(Bounds::new(u32::try_from(min).ok()?, u32::try_from(max).ok()?)?),
    };
    let breaker = Breaker {
        percent: u32::try_from(fields.breaker_percent).ok()?,
        cooldown: Millis(fields.breaker_cooldown),
    };
    let policy = match fields.policy {
        0 => None,
        place => Some(*Policy::ALL.get(usize::try_from(place - 1).ok()?)?),
    };
    let settings = Settings {
        max_memory: fields.max_memory,
        ttl: Millis(fields.ttl),
        grace: Millis(fields.grace),
        exauto,
        max_fills: fields.max_fills,
        breaker: (breaker.percent > 0 || breaker.cooldown > Millis::ZERO).then_some(breaker),
        policy,
    };
    settings.is_sound().then_some(settings)
}

/// A part with these settings; `None` where memory ran out.
pub fn encode(some: &[(&[u8], &Settings)]) -> Option<Vec<u8>> {
    let records: Vec<Record<'_>> = some.iter().map(|(name, of)| Record(Bytes(name), fields(of))).collect();
    rmp_serde::to_vec_named(&records).ok()
}

/// What a part of bytes that may be anything says is set.
///
/// # Errors
/// [`SavedError`]; nothing of it is told then.
pub fn decode(bytes: &[u8], mut each: impl FnMut(&[u8], Settings)) -> Result<(), SavedError> {
    let records: Vec<Record<'_>> = rmp_serde::from_slice(bytes).map_err(|_| SavedError::Malformed)?;
    let sound = records.iter().map(|Record(Bytes(name), fields)| {
        settings(fields).filter(|_| name.len() <= LONGEST_NAME).map(|settings| (*name, settings))
    });
    let sound: Option<Vec<_>> = sound.collect();
    sound.ok_or(SavedError::Malformed)?.into_iter().for_each(|(name, settings)| each(name, settings));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{LARGEST, LONGEST};
    use proptest::prelude::*;

    fn any_settings() -> impl Strategy<Value = Settings> {
        let time = || prop_oneof![Just(0), 0..=LONGEST.0].prop_map(Millis);
        let exauto = proptest::option::of(
            (1..=u32::MAX, 1..=u32::MAX)
                .prop_filter_map("bounds", |(one, other)| Bounds::new(one.min(other), one.max(other))),
        );
        let breaker = proptest::option::of(
            (1u32..=100, 1..=LONGEST.0).prop_map(|(percent, ms)| Breaker { percent, cooldown: Millis(ms) }),
        );
        let policy = proptest::option::of((0usize..3).prop_map(|place| Policy::ALL[place]));
        (0..=LARGEST, time(), time(), exauto, 0..=LARGEST, breaker, policy).prop_map(
            |(max_memory, ttl, grace, exauto, max_fills, breaker, policy)| Settings {
                max_memory,
                ttl,
                grace,
                exauto,
                max_fills,
                breaker,
                policy,
            },
        )
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Settings)>, SavedError> {
        let mut seen = Vec::new();
        decode(bytes, |name, settings| seen.push((name.to_vec(), settings)))?;
        Ok(seen)
    }

    proptest! {
        #[test]
        fn settings_come_back(some in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..9), any_settings()), 0..9)
        ) {
            let borrowed: Vec<_> = some.iter().map(|(name, settings)| (&name[..], settings)).collect();
            prop_assert_eq!(read(&encode(&borrowed).expect("memory")), Ok(some));
        }

        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_flipped_bit_is_sound_or_refused(settings in any_settings(), at in 0usize..200, bit in 0u8..8) {
            let mut bytes = encode(&[(b"name", &settings)]).expect("memory");
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if let Ok(all) = read(&bytes) {
                prop_assert!(all.iter().all(|(_, settings)| settings.is_sound()));
            }
        }
    }

    #[test]
    fn what_no_shard_writes_is_refused() {
        let of = |fields: Fields| rmp_serde::to_vec_named(&[Record(Bytes(b"n"), fields)]).expect("memory");
        let ttl = |ttl| Fields { ttl, ..Fields::default() };
        assert_eq!(read(&of(ttl(LONGEST.0 + 1))), Err(SavedError::Malformed));
        assert_eq!(read(&of(Fields { policy: 4, ..ttl(1) })), Err(SavedError::Malformed));
        assert_eq!(read(&of(Fields { exauto_min: 1, ..ttl(1) })), Err(SavedError::Malformed));
        assert_eq!(read(&of(Fields { breaker_percent: 1 << 32, ..ttl(1) })), Err(SavedError::Malformed));
        let long = [Record(Bytes(&[b'n'; LONGEST_NAME + 1]), ttl(1))];
        assert_eq!(read(&rmp_serde::to_vec_named(&long).expect("memory")), Err(SavedError::Malformed));
        let sound = [Record(Bytes(b"a"), ttl(1)), Record(Bytes(b"b"), ttl(LONGEST.0 + 1))];
        let bytes = rmp_serde::to_vec_named(&sound).expect("memory");
        assert_eq!(decode(&bytes, |_, _| panic!("told")), Err(SavedError::Malformed), "all or none");
    }

    #[test]
    fn fields_of_later_versions_are_skipped() {
        #[derive(Serialize)]
        struct Later {
            ttl: u64,
            later: Vec<u8>,
        }
        let bytes =
            rmp_serde::to_vec_named(&[(Bytes(b"n"), Later { ttl: 5, later: vec![1] })]).expect("memory");
        assert_eq!(
            read(&bytes),
            Ok(vec![(b"n".to_vec(), Settings { ttl: Millis(5), ..Settings::default() })])
        );
    }
}
