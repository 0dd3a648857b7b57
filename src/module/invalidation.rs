//! Invalidations performed: the index told, the channels, the log.

use cacheflow_core::index::Mode;
use cacheflow_core::log::{Log, Record};
use cacheflow_core::units::{Stamp, Time};
use lazy_static::lazy_static;

use crate::directives::LOG_MAX_LEN;
use crate::ffi::client::{self, User};
use crate::ffi::ctx::Ctx;
use crate::ffi::owned::Owned;
use crate::leases;
use crate::shard;
use crate::state::{MainThread, COUNTERS};
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
    let hits = shard::with_stamps(|index| {
        let each = names.iter().map(|name| match kind {
            Kind::Tags => index.invalidate_tag(db, name, stamp, mode),
            Kind::Namespaces => index.invalidate_namespace(db, name, stamp, mode),
        });
        each.collect::<Vec<u64>>()
    });
    if kind == Kind::Namespaces {
        names.iter().for_each(|name| leases::namespace_invalidated(db, name, stamp));
    }
    COUNTERS.invalidations.add(names.len() as u64);
    COUNTERS.invalidated.add(hits.iter().sum());
    // Each may leave a tombstone: it takes two old ones away.
    sweep::forget(2 * names.len());
    sweep::arm(ctx);
    hits
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
    pub user: Option<&'a User>,
    pub at: Time,
}

/// Writes it into the log.
pub fn log(ctx: Ctx, entry: &Entry<'_>) {
    let most = usize::try_from(LOG_MAX_LEN.get()).unwrap_or(0);
    if most == 0 {
        return with_log(Log::reset);
    }
    let client = client::address(ctx).unwrap_or_default();
    let user = entry.user.map(User::name).unwrap_or_default();
    for (name, &hits) in entry.names.iter().zip(entry.hits) {
        let record = Record {
            id: 0,
            at: entry.at,
            mode: entry.mode,
            namespace: entry.kind == Kind::Namespaces,
            name: (*name).into(),
            hits,
            user: user.into(),
            client: client.as_bytes().into(),
        };
        with_log(|log| log.add(record, most));
    }
}

/// Runs `body` on the log. `body` calls nothing of the server's but replies.
pub fn with_log<R>(body: impl FnOnce(&mut Log) -> R) -> R {
    LOG.with(body)
}
