//! Invalidations performed: the index told, the channels, the log.

use std::ffi::CStr;

use cacheflow_core::bus::Invalidation;
use cacheflow_core::index::Mode;
use cacheflow_core::log::{Log, Record};
use cacheflow_core::units::{Stamp, Time};
use lazy_static::lazy_static;

use crate::commands::invalidated;
use crate::directives::LOG_MAX_LEN;
use crate::ffi::ctx::Ctx;
use crate::ffi::owned::Owned;
use crate::leases;
use crate::natives;
use crate::natives_told;
use crate::propagation;
use crate::shard;
use crate::state::{self, MainThread, COUNTERS};
use crate::sweep;

lazy_static! {
    static ref LOG: MainThread<Log> = MainThread::new(Log::default());
}

/// What is invalidated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Tags,
    Namespaces,
}

/// The channel that an invalidation is published on.
pub fn channel(kind: Kind, name: &[u8]) -> Owned {
    let prefix: &[u8] = match kind {
        Kind::Tags => b"cache:",
        Kind::Namespaces => b"cache:@",
    };
    Owned::new(&[prefix, name].concat())
}

/// Invalidates names in the selected database; answers what each hit.
pub fn perform(ctx: Ctx, kind: Kind, mode: Mode, names: &[&[u8]], stamp: Stamp) -> Vec<u64> {
    let db = ctx.database();
    natives_told::settle();
    let mut natives = Vec::new();
    let hits = shard::with_stamps(|index| {
        let each = names.iter().map(|name| match kind {
            Kind::Tags => {
                natives.extend(index.natives(db, name, &shard::Memory));
                index.invalidate_tag(db, name, stamp, mode)
            }
            Kind::Namespaces => index.invalidate_namespace(db, name, stamp, mode),
        });
        each.collect::<Vec<u64>>()
    });
    if kind == Kind::Tags {
        natives::invalidate(ctx, &natives, names);
    } else {
        names.iter().for_each(|name| leases::namespace_invalidated(db, name, stamp));
    }
    COUNTERS.invalidations.add(names.len() as u64);
    COUNTERS.invalidated.add(hits.iter().sum());
    // Each may leave a tombstone: it takes two old ones away.
    sweep::forget(2 * names.len());
    sweep::arm(ctx);
    hits
}

/// Performs an invalidation that another node of the cluster relays, as a
/// user's command would be; answers what it hit.
pub fn relayed(ctx: Ctx, kind: Kind, it: &Invalidation<'_>) -> u64 {
    let at = state::moment();
    let hits = perform(ctx, kind, it.mode, &it.names, at.stamp);
    let (user, client) = (it.user, it.client);
    log(&Entry { kind, mode: it.mode, names: &it.names, hits: &hits, user, client, at: at.now });
    if propagation::is_heard(ctx) {
        // Below 2^53.
        let words = [word_of_mode(it.mode), word_of_kind(kind)];
        ctx.replicate_names(invalidated::NAME, at.stamp.0 as i64, words, &it.names);
    }
    hits.iter().sum()
}

/// As the internal command writes it.
pub fn word_of_mode(mode: Mode) -> &'static CStr {
    match mode {
        Mode::Hard => c"HARD",
        Mode::Soft => c"SOFT",
    }
}

/// As the internal command writes it.
pub fn word_of_kind(kind: Kind) -> &'static CStr {
    match kind {
        Kind::Tags => c"TAGS",
        Kind::Namespaces => c"NAMESPACE",
    }
}

/// Tells who listens.
pub fn publish(ctx: Ctx, kind: Kind, mode: Mode, names: &[&[u8]]) {
    let message = Owned::new(match mode {
        Mode::Hard => b"hard",
        Mode::Soft => b"soft",
    });
    for name in names {
        ctx.publish(channel(kind, name).get(), message.get());
    }
}

/// Who invalidated what.
pub struct Entry<'a> {
    pub kind: Kind,
    pub mode: Mode,
    pub names: &'a [&'a [u8]],
    pub hits: &'a [u64],
    /// The user's name and the client's address; empty: of nobody.
    pub user: &'a [u8],
    pub client: &'a [u8],
    pub at: Time,
}

/// Writes it into the log.
pub fn log(entry: &Entry<'_>) {
    let most = usize::try_from(LOG_MAX_LEN.get()).unwrap_or(0);
    if most == 0 {
        return with_log(Log::reset);
    }
    for (name, &hits) in entry.names.iter().zip(entry.hits) {
        let record = Record {
            id: 0,
            at: entry.at,
            mode: entry.mode,
            namespace: entry.kind == Kind::Namespaces,
            name: (*name).into(),
            hits,
            user: entry.user.into(),
            client: entry.client.into(),
        };
        with_log(|log| log.add(record, most));
    }
}

/// Runs `body` on the log. `body` calls nothing of the server's but replies.
pub fn with_log<R>(body: impl FnOnce(&mut Log) -> R) -> R {
    LOG.with(body)
}
