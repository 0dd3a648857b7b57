//! What an entry costs the server beside its own allocation: the object, the
//! key's name, its places in the server's tables.
//!
//! The servers count all of this in `used_memory`, and it is the larger part of
//! a small entry: 120 of 200 bytes. So what CacheFlow says that it holds
//! includes it, or a budget of 100 MB would let the server grow by 250.
//!
//! Guarantees: the figures are those of the allocations, to the byte of their
//! size class; of the tables it is what tables of that many keys take when they
//! are not being resized. Not here: what a server has for each hash slot of a
//! cluster however many keys it holds.
//!
//! ```text
//!                      Redis to 8.1        Redis from 8.2      Valkey 8.0        Valkey from 8.1
//! object               robj 16             ┐ robj, expiry,     robj 16           ┐ as Redis
//! name                 sds                 ┘ sds, in one       ┐ entry, sds,     ┘ from 8.2
//! entry of the table   24 (+16: to 7.2,    16 where it shares  ┘ in one          none
//!                      in a cluster)       its bucket
//! of the expiry's      24                  16 likewise         24                none
//! tables               8 a bucket, one or two buckets a key                      64 for 6.4 keys
//! module value         16                  16                  16                16
//! ```
//! Sources: object.c, db.c, dict.c and hashtable.c of these servers; measured
//! on each of them, see the tests of memory.

use crate::entry::BASE;

/// How a server keeps its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keyspace {
    /// Redis to 8.1.
    #[default]
    Apart,
    /// The same to 7.2 in a cluster, where the keys of a slot are linked.
    Linked,
    /// Redis from 8.2 on: the name lies in the object.
    InObject,
    /// Valkey 8.0: the name lies in the table's entry.
    InEntry,
    /// Valkey from 8.1 on: the name lies in the object, the table has buckets.
    InBuckets,
}

impl Keyspace {
    /// That of a server by its version.
    pub fn of(valkey: bool, version: (u32, u32), cluster: bool) -> Keyspace {
        match (valkey, version) {
            (true, version) if version >= (8, 1) => Keyspace::InBuckets,
            (true, _) => Keyspace::InEntry,
            (false, version) if version >= (8, 2) => Keyspace::InObject,
            (false, version) if version < (7, 4) && cluster => Keyspace::Linked,
            (false, _) => Keyspace::Apart,
        }
    }
}

/// The sizes that an allocator gives: jemalloc's, by the size that its smallest
/// classes are multiples of (Redis builds it with 8, Debian with 16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    /// That size: 8 or 16.
    pub quantum: usize,
    /// Large ones are multiples of a page, and not four a doubling.
    pub paged: bool,
}

impl Default for Classes {
    fn default() -> Self {
        Classes { quantum: 16, paged: false }
    }
}

const PAGE: usize = 4096;
/// From there on they are large.
const LARGE: usize = 4 * PAGE;

impl Classes {
    /// Bytes that an allocation of so many takes: multiples of the quantum up to
    /// eight of them, then four classes a doubling.
    #[inline]
    pub fn block(self, bytes: usize) -> usize {
        if bytes <= 8 * self.quantum {
            return bytes.max(1).next_multiple_of(self.quantum);
        }
        if self.paged && bytes >= LARGE {
            return bytes.next_multiple_of(PAGE);
        }
        bytes.next_multiple_of(1 << ((bytes - 1).ilog2() - 2))
    }
}

const OBJECT: usize = 16;
const MODULE_VALUE: usize = 16;
const TABLE_ENTRY: usize = 24;
const LINKS: usize = 16;
const CHAINED_ENTRY: usize = 16;
const POINTER: usize = 8;
const BUCKET: usize = 64;
/// An object with a name this long has room for an expiry from the beginning.
const LONG_NAME: usize = 128;

/// What the index holds of an entry: its slot.
pub const SLOT: usize = 8;
/// And of each of its tags: its place among the members.
pub const MEMBER: usize = 4;

/// Bytes of a string with its header and its end (sds.h).
const fn text(len: usize) -> usize {
    len + match len {
        0..=31 => 2,
        32..=255 => 4,
        256..=65_535 => 6,
        _ => 10,
    }
}

/// See the module's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// How the server keeps its keys.
    pub keyspace: Keyspace,
    /// How its allocator rounds.
    pub classes: Classes,
    /// By how much a companion's name is longer than its key's.
    pub companion: usize,
}

impl Footprint {
    /// Bytes that the server allocates for a key of ours beside the entry, its
    /// tables aside.
    #[inline]
    pub fn of_key(&self, name: usize, timed: bool) -> usize {
        let block = |bytes| self.classes.block(bytes);
        let expiry = if timed { block(TABLE_ENTRY) } else { 0 };
        MODULE_VALUE
            + match self.keyspace {
                Keyspace::Apart => OBJECT + block(text(name)) + block(TABLE_ENTRY) + expiry,
                Keyspace::Linked => OBJECT + block(text(name)) + block(TABLE_ENTRY + LINKS) + expiry,
                Keyspace::InEntry => OBJECT + block(2 * POINTER + 1 + text(name)) + expiry,
                Keyspace::InObject | Keyspace::InBuckets => block(with_object(name, timed)),
            }
    }

    /// Bytes that a new entry takes with its key, where what is optional in it is
    /// not known yet: as if it had an end, a grace and a cost.
    pub fn of_new(&self, name: usize, value: usize, tags: usize) -> usize {
        const OPTIONAL: usize = 10;
        const PAIR: usize = 8;
        let entry = BASE + OPTIONAL + name + value + tags * PAIR;
        self.classes.block(entry) + self.of_key(name, true) + SLOT + tags * MEMBER
    }

    /// Of that, what the server's MEMORY USAGE adds by itself to what it is told.
    pub fn added_by_server(&self, name: usize, timed: bool, version: (u32, u32)) -> usize {
        match self.keyspace {
            Keyspace::Apart => self.classes.block(text(name)) + TABLE_ENTRY,
            Keyspace::Linked => self.classes.block(text(name)) + TABLE_ENTRY + LINKS,
            Keyspace::InObject => self.classes.block(with_object(name, timed)),
            Keyspace::InBuckets if version >= (9, 0) => self.classes.block(with_object(name, timed)),
            Keyspace::InEntry | Keyspace::InBuckets => 0,
        }
    }

    /// Bytes of the server's tables for that many keys, of which so many have a
    /// TTL.
    pub fn tables(&self, keys: u64, timed: u64) -> u64 {
        self.table(keys) + self.table(timed)
    }

    fn table(&self, keys: u64) -> u64 {
        if keys == 0 {
            return 0;
        }
        match self.keyspace {
            Keyspace::InBuckets => {
                let buckets = (keys * 5).div_ceil(32).next_power_of_two();
                let full = buckets as f64 * overflow(keys as f64 / buckets as f64);
                (buckets + full as u64) * BUCKET as u64
            }
            Keyspace::InObject => {
                let buckets = keys.next_power_of_two();
                // Keys that are not the first of their bucket (Poisson).
                let filled = buckets as f64 * -(-(keys as f64) / buckets as f64).exp_m1();
                let chained = (keys as f64 - filled).max(0.0) as u64;
                buckets * POINTER as u64 + chained * self.classes.block(CHAINED_ENTRY) as u64
            }
            _ => keys.next_power_of_two() * POINTER as u64,
        }
    }
}

/// The share of buckets with more keys than they have room for, each of which has
/// another behind it (Poisson).
fn overflow(mean: f64) -> f64 {
    const ROOM: u32 = 7;
    let mut chance = (-mean).exp();
    let mut within = chance;
    for keys in 1..=ROOM {
        chance *= mean / f64::from(keys);
        within += chance;
    }
    1.0 - within
}

/// An object with its name in it, and its expiry.
fn with_object(name: usize, timed: bool) -> usize {
    let expiry = if timed || name >= LONG_NAME { POINTER } else { 0 };
    OBJECT + expiry + 1 + text(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Measured with 16,000 keys: the growth of used_memory a key beyond the
    /// entry and our index. (server, cluster, quantum, name, with TTL) → bytes.
    #[test]
    fn it_is_what_servers_were_measured_to_take() {
        type Row = ((bool, (u32, u32)), bool, usize, usize, [f64; 2]);
        let rows: &[Row] = &[
            ((false, (7, 0)), false, 16, 20, [104.2, 144.4]),
            ((false, (7, 0)), false, 16, 31, [120.2, 160.4]),
            ((false, (7, 0)), false, 16, 200, [296.1, 336.4]),
            ((false, (7, 0)), true, 16, 30, [120.2, 160.4]),
            ((false, (7, 2)), true, 8, 32, [120.2, 152.4]),
            ((false, (7, 2)), false, 8, 20, [88.2, 120.3]),
            ((false, (7, 4)), false, 8, 60, [128.1, 160.4]),
            ((false, (8, 0)), false, 16, 60, [136.4, 176.5]),
            ((false, (8, 6)), false, 16, 20, [78.2, 92.2]),
            ((false, (8, 6)), false, 16, 60, [126.1, 140.1]),
            ((false, (8, 6)), false, 16, 200, [286.1, 300.1]),
            ((true, (8, 1)), false, 16, 20, [81.1, 98.3]),
            ((true, (9, 1)), false, 16, 60, [129.1, 146.4]),
            ((true, (9, 1)), false, 16, 200, [289.2, 306.3]),
        ];
        const KEYS: u64 = 16_000;
        for &((valkey, version), cluster, quantum, name, measured) in rows {
            let keyspace = Keyspace::of(valkey, version, cluster);
            let footprint = Footprint { keyspace, classes: Classes { quantum, paged: false }, companion: 0 };
            for (timed, measured) in [false, true].into_iter().zip(measured) {
                let tables = footprint.tables(KEYS, if timed { KEYS } else { 0 }) as f64 / KEYS as f64;
                let ours = footprint.of_key(name, timed) as f64 + tables;
                let off = (ours - measured).abs();
                assert!(off < 2.5, "{keyspace:?} {name} {timed}: {ours:.1}, measured {measured}");
            }
        }
    }

    #[test]
    fn classes_are_jemallocs() {
        let sixteen = [1, 16, 17, 128, 129, 160, 161, 256, 257, 5000].map(|n| Classes::default().block(n));
        assert_eq!(sixteen, [16, 16, 32, 128, 160, 160, 192, 256, 320, 5120]);
        let eight =
            [1, 8, 24, 33, 64, 65, 80, 81, 128, 129].map(|n| Classes { quantum: 8, paged: true }.block(n));
        assert_eq!(eight, [8, 8, 24, 40, 64, 80, 80, 96, 128, 160]);
        let large = [16_385, 33_000].map(|n| Classes { quantum: 8, paged: true }.block(n));
        assert_eq!(large, [20_480, 36_864]);
        assert_eq!(Classes::default().block(33_000), 40_960);
    }

    #[test]
    fn what_the_server_adds_is_part_of_it() {
        for keyspace in [Keyspace::Apart, Keyspace::Linked, Keyspace::InObject, Keyspace::InBuckets] {
            let footprint = Footprint { keyspace, ..Footprint::default() };
            for name in [0, 20, 31, 32, 300, 70_000] {
                for timed in [false, true] {
                    let added = footprint.added_by_server(name, timed, (9, 0));
                    assert!(added <= footprint.of_key(name, timed));
                }
            }
        }
        assert_eq!(Footprint::default().tables(0, 0), 0);
    }
}
