//! What a shard saves beside its entries (the RDB's aux data): MessagePack, so
//! that later versions can add fields that earlier ones skip.
//!
//! A head, and then as many parts as it says, each with some of what was
//! invalidated when, then with some of the locks that were held, then with some
//! of the namespaces' settings (`saved_settings`), then with some of what was hot
//! (`saved_hot`): no single string grows with the number of tags.

use serde::{Deserialize, Serialize};

use crate::index::{Db, Index, Invalidated, Stamps};
use crate::packed::Bytes;
use crate::saved_settings;
use crate::settings::{Settings, Table};
use crate::tag::LONGEST_TAG;
use crate::units::{Millis, Stamp, Time, LAST_TIME, STAMP_LIMIT};

/// The longest head or part that is looked at: twice a part of the longest
/// names, and more than the keys of all locks.
const LONGEST: usize = 4 * RECORDS * LONGEST_TAG;
/// Bytes of keys in a part with locks, a single longer one aside.
const LOT: usize = 1 << 20;
/// Records in a part.
pub const RECORDS: usize = 512;
/// The most parts that are looked at: 2^31 names.
const MOST_PARTS: u64 = 1 << 22;
/// Databases that a server can have.
pub(crate) const MOST_DATABASES: u32 = i32::MAX as u32;

/// The state of a shard that belongs to no entry: the head.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// The stamps' high-water mark: a restart never draws as low a one.
    #[serde(default)]
    pub stamp: u64,
    /// The index's low-water mark.
    #[serde(default)]
    pub low_water: u64,
    /// Parts that follow.
    #[serde(default)]
    pub parts: u64,
    /// Parts with locks that follow those.
    #[serde(default)]
    pub locks: u64,
    /// Parts with settings that follow those.
    #[serde(default)]
    pub settings: u64,
    /// Parts with what was hot that follow those ([`crate::saved_hot`]).
    #[serde(default)]
    pub hot: u64,
}

/// A lock, to be saved or replicated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedLock<'a> {
    /// The database.
    pub db: Db,
    /// Its key.
    pub key: &'a [u8],
    /// Its token.
    pub token: Stamp,
    /// When it ends, by the wall clock.
    pub ends: Time,
    /// The time it had left when it was saved.
    pub left: Millis,
    /// Its fence is not broken.
    pub whole: bool,
    /// A native key was there at the grant.
    pub native: bool,
}

impl SavedLock<'_> {
    /// The time it has left at `now`: what it had, less what has passed since.
    /// A clock that was set back gives it no more.
    pub fn left_at(&self, now: Time) -> Millis {
        self.left.min(self.ends.since(now))
    }
}

/// database, key, token, end, time left, whole, native
#[derive(Debug, Serialize, Deserialize)]
struct LockRecord<'a>(u32, #[serde(borrow)] Bytes<'a>, u64, u64, u64, bool, bool);

/// database, namespace?, name, hard, soft
#[derive(Debug, Serialize, Deserialize)]
struct Record<'a>(u32, bool, #[serde(borrow)] Bytes<'a>, u64, u64);

/// Why aux data was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavedError {
    /// No MessagePack of this form, or longer than any that is written.
    Malformed,
    /// A stamp that no clock draws.
    Stamp,
    /// More namespaces with settings than may have some.
    TooMany,
}

fn stamp(stamp: u64) -> Result<Stamp, SavedError> {
    if stamp < STAMP_LIMIT {
        Ok(Stamp(stamp))
    } else {
        Err(SavedError::Stamp)
    }
}

impl Saved {
    /// The encoding of the default: an empty map.
    pub const NOTHING: &'static [u8] = &[0x80];

    /// The head and the parts, one by one; `last` is the last stamp drawn.
    /// False where memory ran out.
    pub fn write(
        index: &Index,
        locks: &[SavedLock<'_>],
        settings: &Table,
        hot: &[Vec<u8>],
        last: Stamp,
        mut write: impl FnMut(&[u8]),
    ) -> bool {
        let all: Vec<Invalidated<'_>> = index.invalidated().collect();
        let set = settings.all();
        let lots = lots(locks);
        let head = Saved {
            stamp: last.0,
            low_water: index.low_water().0,
            parts: all.len().div_ceil(RECORDS) as u64,
            locks: lots.len() as u64,
            settings: set.len().div_ceil(RECORDS) as u64,
            hot: hot.len() as u64,
        };
        let Ok(bytes) = rmp_serde::to_vec_named(&head) else { return false };
        write(&bytes);
        for some in all.chunks(RECORDS) {
            let records: Vec<Record<'_>> = some.iter().copied().map(record).collect();
            let Ok(bytes) = rmp_serde::to_vec(&records) else { return false };
            write(&bytes);
        }
        for some in lots {
            let records: Vec<LockRecord<'_>> = some.iter().map(lock_record).collect();
            let Ok(bytes) = rmp_serde::to_vec(&records) else { return false };
            write(&bytes);
        }
        for some in set.chunks(RECORDS) {
            let Some(bytes) = saved_settings::encode(some) else { return false };
            write(&bytes);
        }
        hot.iter().for_each(|part| write(part));
        true
    }

    /// The head from bytes that may be anything.
    ///
    /// # Errors
    /// [`SavedError`] says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Saved, SavedError> {
        if bytes.len() > LONGEST {
            return Err(SavedError::Malformed);
        }
        let saved: Saved = rmp_serde::from_slice(bytes).map_err(|_| SavedError::Malformed)?;
        stamp(saved.stamp)?;
        stamp(saved.low_water)?;
        if saved.parts.max(saved.locks).max(saved.settings).max(saved.hot) > MOST_PARTS {
            return Err(SavedError::Malformed);
        }
        Ok(saved)
    }

    /// What a part of bytes that may be anything says was invalidated.
    ///
    /// # Errors
    /// [`SavedError`]; nothing of it is told then.
    pub fn decode_part(bytes: &[u8], mut each: impl FnMut(Invalidated<'_>)) -> Result<(), SavedError> {
        if bytes.len() > LONGEST {
            return Err(SavedError::Malformed);
        }
        let records: Vec<Record<'_>> = rmp_serde::from_slice(bytes).map_err(|_| SavedError::Malformed)?;
        for Record(db, _, name, hard, soft) in &records {
            if *db > MOST_DATABASES || name.0.len() > LONGEST_TAG {
                return Err(SavedError::Malformed);
            }
            stamp(*hard)?;
            stamp(*soft)?;
        }
        for Record(db, namespace, name, hard, soft) in records {
            let stamps = Stamps { hard: Stamp(hard), soft: Stamp(soft) };
            each(Invalidated { db: db as usize, namespace, name: name.0, stamps });
        }
        Ok(())
    }

    /// What a part of bytes that may be anything says was locked.
    ///
    /// # Errors
    /// [`SavedError`]; nothing of it is told then.
    pub fn decode_locks(bytes: &[u8], mut each: impl FnMut(SavedLock<'_>)) -> Result<(), SavedError> {
        if bytes.len() > LONGEST {
            return Err(SavedError::Malformed);
        }
        let records: Vec<LockRecord<'_>> = rmp_serde::from_slice(bytes).map_err(|_| SavedError::Malformed)?;
        for LockRecord(db, _, token, ends, ..) in &records {
            if *db > MOST_DATABASES || *ends > LAST_TIME {
                return Err(SavedError::Malformed);
            }
            stamp(*token)?;
        }
        for LockRecord(db, key, token, ends, left, whole, native) in records {
            let (token, ends, left) = (Stamp(token), Time(ends), Millis(left));
            each(SavedLock { db: db as usize, key: key.0, token, ends, left, whole, native });
        }
        Ok(())
    }

    /// What a part of bytes that may be anything says is set for namespaces.
    ///
    /// # Errors
    /// [`SavedError`]; nothing of it is told then.
    pub fn decode_settings(bytes: &[u8], each: impl FnMut(&[u8], Settings)) -> Result<(), SavedError> {
        if bytes.len() > LONGEST {
            return Err(SavedError::Malformed);
        }
        saved_settings::decode(bytes, each)
    }

    /// The high-water mark as a stamp.
    pub fn stamp(&self) -> Stamp {
        Stamp(self.stamp)
    }

    /// The low-water mark as a stamp.
    pub fn low_water(&self) -> Stamp {
        Stamp(self.low_water)
    }
}

/// Locks in lots of a part each: so many, and so many bytes of their keys.
fn lots<'s, 'a>(locks: &'s [SavedLock<'a>]) -> Vec<&'s [SavedLock<'a>]> {
    let (mut lots, mut rest) = (Vec::new(), locks);
    while !rest.is_empty() {
        let mut bytes = 0;
        let many = rest.iter().take(RECORDS).take_while(|lock| {
            bytes += lock.key.len();
            bytes <= LOT
        });
        let (lot, others) = rest.split_at(many.count().max(1));
        lots.push(lot);
        rest = others;
    }
    lots
}

fn lock_record<'a>(of: &SavedLock<'a>) -> LockRecord<'a> {
    let SavedLock { db, key, token, ends, left, whole, native } = *of;
    LockRecord(db as u32, Bytes(key), token.0, ends.0, left.0, whole, native)
}

fn record(of: Invalidated<'_>) -> Record<'_> {
    let Invalidated { db, namespace, name, stamps } = of;
    Record(db as u32, namespace, Bytes(name), stamps.hard.0, stamps.soft.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Entries, Mode};
    use crate::slots::Handle;
    use crate::units::Millis;
    use proptest::prelude::*;

    struct NoEntries;

    impl Entries for NoEntries {
        fn bytes(&self, _: Handle) -> &[u8] {
            &[]
        }
        fn bytes_mut(&mut self, _: Handle) -> &mut [u8] {
            &mut []
        }
        fn both(&mut self, _: Handle, _: Handle) -> (&mut [u8], &[u8]) {
            (&mut [], &[])
        }
    }

    fn read(parts: &[Vec<u8>]) -> Result<(Saved, Index), SavedError> {
        let mut index = Index::default();
        let saved = Saved::decode(&parts[0])?;
        assert_eq!(saved.parts as usize, parts.len() - 1);
        for part in &parts[1..] {
            Saved::decode_part(part, |invalidated| {
                index.remember(invalidated, Millis(0), &mut NoEntries);
            })?;
        }
        index.raise_low_water(saved.low_water());
        Ok((saved, index))
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Saved::decode(&bytes);
            let _ = Saved::decode_part(&bytes, |_| ());
            let _ = Saved::decode_locks(&bytes, |_| ());
            let _ = Saved::decode_settings(&bytes, |_, _| ());
        }

        #[test]
        fn locks_come_back(locks in proptest::collection::vec(
            (0usize..16, proptest::collection::vec(any::<u8>(), 0..9), 0..STAMP_LIMIT, 0..=LAST_TIME, any::<u64>(), any::<bool>(), any::<bool>()),
            0..20,
        )) {
            let locks: Vec<SavedLock<'_>> = locks
                .iter()
                .map(|(db, key, token, ends, left, whole, native)| SavedLock {
                    db: *db,
                    key,
                    token: Stamp(*token),
                    ends: Time(*ends),
                    left: Millis(*left),
                    whole: *whole,
                    native: *native,
                })
                .collect();
            let mut parts = Vec::new();
            prop_assert!(Saved::write(&Index::default(), &locks, &Table::default(), &[], Stamp(9), |part| parts.push(part.to_vec())));
            let saved = Saved::decode(&parts[0]).expect("a head");
            prop_assert_eq!((saved.parts, saved.locks), (0, u64::from(!locks.is_empty())));
            let mut seen = 0;
            for part in &parts[1..] {
                let all = Saved::decode_locks(part, |lock| {
                    assert_eq!(lock, locks[seen]);
                    seen += 1;
                });
                prop_assert_eq!(all, Ok(()));
            }
            prop_assert_eq!(seen, locks.len());
        }

        #[test]
        fn a_flipped_bit_is_answered(at in 0usize..200, bit in 0u8..8) {
            let mut index = Index::default();
            index.invalidate_tag(3, b"tag", Stamp(5), Mode::Soft);
            index.invalidate_namespace(0, b"name", Stamp(6), Mode::Hard);
            let mut parts = Vec::new();
            prop_assert!(Saved::write(&index, &[], &Table::default(), &[], Stamp(9), |part| parts.push(part.to_vec())));
            let mut part = parts[1].clone();
            let at = at % part.len();
            part[at] ^= 1 << bit;
            let _ = Saved::decode_part(&part, |_| ());
        }
    }

    #[test]
    fn round_trip_in_parts() {
        let mut index = Index::default();
        for n in 0..1500u32 {
            index.invalidate_tag(n as usize % 3, &n.to_be_bytes(), Stamp(5 + u64::from(n)), Mode::Hard);
        }
        index.invalidate_namespace(2, b"\xff\0", Stamp(7), Mode::Soft);
        index.forget(Stamp(6), usize::MAX, 1);
        let mut parts = Vec::new();
        assert!(
            Saved::write(&index, &[], &Table::default(), &[], Stamp(9999), |part| parts.push(part.to_vec()))
        );
        assert_eq!(parts.len(), 4);
        let (saved, other) = read(&parts).expect("what was written");
        assert_eq!((saved.stamp(), other.low_water()), (Stamp(9999), Stamp(5)));
        assert!(other.invalidated().eq(index.invalidated()));
    }

    #[test]
    fn locks_are_saved_in_lots() {
        let (long, short) = (vec![b'k'; LOT + 1], vec![b'k'; LOT / 2]);
        let lock = |key| SavedLock {
            db: 0,
            key,
            token: Stamp(5),
            ends: Time(900),
            left: Millis(300),
            whole: true,
            native: false,
        };
        let locks = [&long, &short, &short, &short].map(|key| lock(key));
        assert_eq!(lots(&locks).iter().map(|lot| lot.len()).collect::<Vec<_>>(), [1, 2, 1]);
        let many: Vec<_> = (0..RECORDS + 1).map(|_| lock(b"k")).collect();
        assert_eq!(lots(&many).len(), 2);
        assert!(lots(&[]).is_empty());
        // 300 ms were left at 600.
        assert_eq!(
            [600, 700, 900, 1000, 100].map(|now| lock(b"k").left_at(Time(now)).0),
            [300, 200, 0, 0, 300]
        );
    }

    #[test]
    fn settings_are_saved_last_and_mistaken_for_nothing_else() {
        let (mut table, set) = (Table::default(), Settings { max_fills: 7, ..Settings::default() });
        for n in 0..RECORDS as u32 + 1 {
            table.put(&n.to_be_bytes(), set).expect("room");
        }
        let mut index = Index::default();
        index.invalidate_tag(0, b"tag", Stamp(5), Mode::Hard);
        let mut parts = Vec::new();
        assert!(Saved::write(&index, &[], &table, &[], Stamp(9), |part| parts.push(part.to_vec())));
        let saved = Saved::decode(&parts[0]).expect("a head");
        assert_eq!((saved.parts, saved.locks, saved.settings, parts.len()), (1, 0, 2, 4));
        let mut other = Table::default();
        for part in &parts[2..] {
            assert_eq!(Saved::decode(part), Err(SavedError::Malformed));
            assert_eq!(Saved::decode_part(part, |_| ()), Err(SavedError::Malformed));
            assert_eq!(Saved::decode_locks(part, |_| ()), Err(SavedError::Malformed));
            let put = |name: &[u8], settings| assert_eq!(other.put(name, settings), Ok(true));
            assert_eq!(Saved::decode_settings(part, put), Ok(()));
        }
        assert_eq!(other.all(), table.all());
        assert_eq!(Saved::decode_settings(&parts[1], |_, _| ()), Err(SavedError::Malformed));
    }

    #[test]
    fn a_head_of_before_there_were_settings_is_read() {
        // {"stamp": 5, "low_water": 4, "parts": 3, "locks": 2}
        let head = b"\x84\xa5stamp\x05\xa9low_water\x04\xa5parts\x03\xa5locks\x02";
        let saved = Saved { stamp: 5, low_water: 4, parts: 3, locks: 2, settings: 0, hot: 0 };
        assert_eq!(Saved::decode(head), Ok(saved));
    }

    #[test]
    fn what_was_hot_comes_last() {
        let (mut parts, hot) = (Vec::new(), [vec![1], vec![2]]);
        assert!(Saved::write(&Index::default(), &[], &Table::default(), &hot, Stamp(9), |part| parts
            .push(part.to_vec())));
        assert_eq!((Saved::decode(&parts[0]).map(|saved| saved.hot), &parts[1..]), (Ok(2), &hot[..]));
    }

    #[test]
    fn nothing_is_the_default() {
        assert_eq!(Saved::decode(Saved::NOTHING), Ok(Saved::default()));
    }

    #[test]
    fn what_no_shard_writes_is_refused() {
        let head = |saved: Saved| rmp_serde::to_vec_named(&saved).expect("memory");
        let saved = Saved::default();
        assert_eq!(Saved::decode(&head(Saved { stamp: STAMP_LIMIT, ..saved })), Err(SavedError::Stamp));
        assert_eq!(Saved::decode(&head(Saved { low_water: STAMP_LIMIT, ..saved })), Err(SavedError::Stamp));
        assert_eq!(Saved::decode(&head(Saved { parts: u64::MAX, ..saved })), Err(SavedError::Malformed));
        assert_eq!(Saved::decode(&head(Saved { settings: u64::MAX, ..saved })), Err(SavedError::Malformed));
        let long = vec![b'n'; LONGEST_TAG + 1];
        for (db, name, stamp, error) in [
            (u32::MAX, &b"t"[..], 1, SavedError::Malformed),
            (0, b"t", STAMP_LIMIT, SavedError::Stamp),
            (0, &long, 1, SavedError::Malformed),
        ] {
            let part = rmp_serde::to_vec(&[Record(db, false, Bytes(name), stamp, 0)]).expect("memory");
            assert_eq!(Saved::decode_part(&part, |_| panic!("told")), Err(error));
        }
        let lock = |db, token, ends| {
            let part = [LockRecord(db, Bytes(b"k"), token, ends, 1, true, false)];
            Saved::decode_locks(&rmp_serde::to_vec(&part).expect("memory"), |_| ())
        };
        assert_eq!(lock(0, 1, LAST_TIME), Ok(()));
        assert_eq!(lock(u32::MAX, 1, 1), Err(SavedError::Malformed));
        assert_eq!(lock(0, STAMP_LIMIT, 1), Err(SavedError::Stamp));
        assert_eq!(lock(0, 1, LAST_TIME + 1), Err(SavedError::Malformed));
    }
}
