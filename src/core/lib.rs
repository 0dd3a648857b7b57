//! The decisions of CacheFlow, without Redis.
//!
//! # Goals
//! - Every rule that COMMANDS.md states about an entry is decided here and is
//!   tested here: how a request is read, when an entry is fresh, stale or
//!   gone, what a write keeps of the entry before it, how an entry lies in
//!   memory and how it travels.
//! - Total on hostile bytes: nothing in this crate panics on input.
//! - Time and chance are parameters. A race is a ten-line test.
//!
//! # Non-goals
//! - No Redis, no clock, no I/O, no `unsafe`. The module performs what is
//!   decided here: it replies, stores, replicates and notifies.
//!
//! # Where things live
//! | file | holds |
//! | --- | --- |
//! | [`units`] | lengths of time, points in time, stamps |
//! | [`stamp`] | the strictly monotonic clock that stamps are drawn from |
//! | [`number`] | integers as Redis reads and writes them |
//! | [`request`] | the options of SET, TOUCH and GET, from raw arguments |
//! | [`request_index`] | those of the commands that invalidate, list and look |
//! | [`glob`] | patterns |
//! | [`log`] | who invalidated what |
//! | [`metrics`], [`exposition`] | CACHE.METRICS: what there is, and the Prometheus text |
//! | [`tally`], [`histogram`] | what is counted of a namespace, and how long things took |
//! | [`times`] | a request's time options resolved to ends |
//! | [`adaptive`], [`rates`], [`recent`] | EXAUTO: TTLs chosen by how often a source changes |
//! | [`entry`] | the bytes of an entry in memory, drawn |
//! | [`hitters`], [`hotkeys`] | the heaviest of very many keys, by what |
//! | [`hits`] | the counter of reads in an entry |
//! | [`codec`] | the bytes of an entry's metadata in RDB, AOF, DUMP and replication |
//! | [`decide`] | what a command does with what it finds under a key |
//! | [`saved`], [`saved_settings`], [`saved_hot`] | the state of a shard that is no entry's (aux data) |
//! | [`packing`] | values kept in fewer bytes than they came in |
//! | [`footprint`] | what an entry costs the server beside its own bytes |
//! | [`gate`] | whether anybody listens to the replication stream |
//! | [`index`] | which entries there are, their tags, what was invalidated when |
//! | [`slot`] | hash slots of a cluster, and which of them a node has lost |
//! | [`slots`], [`names`], [`slab`], [`segments`] | what the index is made of |
//! | [`namespace`] | a key's namespace |
//! | [`sweep`] | how long a slice of the sweep is |
//! | [`tag`] | how many tags, how long |
//! | [`companion`], [`companions`] | the companions of native keys: their names, and who follows whom |
//! | [`ttl_marks`] | whose TTL has to be asked for |
//! | [`leases`] | FETCH's leases, locks, those who wait for them, and the fence |
//! | [`fills`] | namespaces as leases know them, and their measured fill times |
//! | [`origin`] | how many leases a namespace may have: MAXFILLS, BREAKER |
//! | [`refresh`] | early refresh, and the lengths of leases from measured fill times |
//! | [`budget`] | when something has to be evicted, and for how long |
//! | [`refresh_ahead`], [`workers`] | what is worth recomputing now, and who waits to be told |
//! | [`bus`] | what the nodes of a cluster say to each other |
//! | [`relay`], [`relay_seen`] | invalidations on their way to the other primaries, and what came from there |
//! | [`topology`] | which primaries of a cluster count |
//! | [`acknowledged`] | what waits until enough replicas have it |
//! | [`evict`] | which entry is to go |
//! | [`evict_class`], [`evict_table`], [`evict_follow`] | how entries are used, and what keeping them is learned to be worth |
//! | [`evict_choice`], [`evict_population`], [`evict_ahead`], [`evict_share`] | whom a choice falls on, out of which, drawn when, and where a namespace's lie |
//! | [`evict_ghosts`] | who was here before |
//! | [`evict_newest`] | who came last |
//! | [`request_lease`], [`request_hot`] | the options of FETCH, LOCK, UNLOCK and EXTEND; of HOTKEYS and REFRESH |
//! | [`settings`] | what operators have set for namespaces |
//! | [`request_namespace`] | the options of NAMESPACE |
#![forbid(unsafe_code)]

pub mod acknowledged;
pub mod adaptive;
pub mod budget;
pub mod bus;
pub mod codec;
pub mod companion;
pub mod companions;
pub mod decide;
pub mod entry;
pub mod evict;
pub mod evict_ahead;
pub mod evict_choice;
pub mod evict_class;
pub mod evict_follow;
pub mod evict_ghosts;
pub mod evict_newest;
pub mod evict_population;
pub mod evict_share;
pub mod evict_table;
pub mod exposition;
pub mod fills;
pub mod footprint;
pub mod gate;
pub mod glob;
pub mod histogram;
pub mod hits;
pub mod hitters;
pub mod hotkeys;
pub mod index;
pub mod leases;
pub mod log;
pub mod metrics;
pub mod names;
pub mod namespace;
pub mod number;
pub mod origin;
mod packed;
pub mod packing;
pub mod rates;
pub mod recent;
pub mod refresh;
pub mod refresh_ahead;
pub mod relay;
pub mod relay_seen;
pub mod request;
pub mod request_hot;
pub mod request_index;
pub mod request_lease;
pub mod request_namespace;
pub mod saved;
pub mod saved_hot;
pub mod saved_settings;
pub mod segments;
pub mod settings;
pub mod slab;
pub mod slot;
pub mod slots;
pub mod stamp;
pub mod sweep;
pub mod tag;
pub mod tally;
pub mod times;
pub mod topology;
pub mod ttl_marks;
pub mod units;
pub mod workers;
