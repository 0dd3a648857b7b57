//! `CACHE.INVALIDATE [SOFT] [LOCAL] [TIMEOUT ms] TAGS tag [tag ...]`
//! `CACHE.INVALIDATE [SOFT] [LOCAL] [TIMEOUT ms] NAMESPACE name [name ...]`
//!
//! ```text
//! > CACHE.INVALIDATE TAGS team:7
//! (integer) 12
//! ```
//! Entries with any of the tags, or of the namespace, are dead at once, with
//! SOFT stale; whatever their number, the reply comes at once. Returns how many
//! it hit. Publishes `hard` or `soft` on `cache:<tag>` (`cache:@<namespace>`),
//! for which the user needs the channel permission. In a cluster it reaches
//! every primary, whichever node is asked, and the reply is the sum; see
//! `relay`.

use cacheflow_core::bus::Invalidation;
use cacheflow_core::decide::Moment;
use cacheflow_core::index::Mode;
use cacheflow_core::request_index::InvalidateOptions;
use cacheflow_core::tag::{self, Limits, Names, LONGEST_TAG};
use cacheflow_core::units::Millis;

use super::{invalidated, Command, Error};
use crate::directives::INVALIDATE_TIMEOUT;
use crate::ffi::args::{Args, Strings};
use crate::ffi::client::{self, User};
use crate::ffi::ctx::Ctx;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::invalidation::{self, Kind};
use crate::propagation;
use crate::relay::{self, Begun};
use crate::relay_clients;
use crate::relay_replicas;
use crate::state;

pub struct Invalidate;

impl Command for Invalidate {
    const SPEC: Spec = Spec {
        name: c"cache.invalidate",
        summary: c"Makes all entries with one of the tags, or of a namespace, dead or stale at once, and returns how many it hit.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of tags or namespaces named, whatever the number of entries",
        // No deny-oom: it frees memory.
        flags: c"write fast",
        // There a replica takes it too, to relay it; the rest of what "write"
        // means is this: it waits where writes are paused.
        cluster_flags: Some(c"may-replicate fast"),
        acl: c"write fast",
        arity: -3,
        keys: Keys::None,
        // In a cluster the node that is asked asks the others: no client may.
        tips: None,
        args: &[
            Arg::word(c"soft", c"SOFT").optional(),
            Arg::word(c"local", c"LOCAL").optional(),
            Arg::integer(c"timeout-ms").after(c"TIMEOUT").optional(),
            Arg::choice(
                c"what",
                &[
                    Arg::text(c"tag").after(c"TAGS").multiple(),
                    Arg::text(c"namespace").after(c"NAMESPACE").multiple(),
                ],
            ),
        ],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let options = InvalidateOptions::parse(args.from(1))?;
        let kind = if options.namespaces { Kind::Namespaces } else { Kind::Tags };
        let everywhere = ctx.is_cluster() && !options.local;
        let named = args.last(options.names);
        let asked = Asked::read(ctx, named, kind, options.mode)?;
        // A replica relays, and does nothing of its own; outside of a cluster
        // the server refuses what writes.
        let primary = !ctx.is_replica();
        if !primary && !everywhere {
            return Err(Error::ReadOnly);
        }
        let at = state::moment();
        let hits = primary.then(|| asked.perform(ctx, named, at));
        if !everywhere && relay_replicas::needed() == 0 {
            asked.publish(ctx);
            ctx.reply_integer(hits.unwrap_or(0));
            return Ok(());
        }
        let it = Invalidation {
            db: ctx.database(),
            mode: options.mode,
            namespaces: options.namespaces,
            stamp: at.stamp,
            names: asked.names.to_vec(),
            user: asked.user_name(),
            client: &asked.client,
        };
        let timeout = options.timeout.unwrap_or(Millis(INVALIDATE_TIMEOUT.get().unsigned_abs()));
        let timeout = (timeout != Millis::ZERO).then_some(timeout);
        let may_block = ctx.may_block();
        match relay::begin(ctx, &it, hits, everywhere, timeout) {
            Begun::Done(hits) => ctx.reply_integer(hits),
            // In a transaction or a script nobody waits.
            Begun::Relayed(_) if !may_block => ctx.reply_integer(hits.unwrap_or(0)),
            Begun::Relayed(outcome) => relay_clients::reply(ctx, outcome),
            Begun::Held => {}
        }
        Ok(())
    }
}

/// What a user asks for, read and permitted.
pub struct Asked<'a> {
    kind: Kind,
    mode: Mode,
    /// Each once.
    names: Names<'a>,
    user: Option<User>,
    client: Vec<u8>,
}

impl<'a> Asked<'a> {
    /// Reads names as a user's command has them.
    ///
    /// # Errors
    /// A name that is too long to exist, or a user who may not.
    pub fn read(ctx: Ctx, named: Strings<'a>, kind: Kind, mode: Mode) -> Result<Asked<'a>, Error> {
        let mut names = Names::new();
        // An entry may have longer tags than the directive allows by now. How
        // many are named is the line's affair.
        for some in named.bytes() {
            if some.len() > LONGEST_TAG {
                let limits = Limits { tags: 0, length: LONGEST_TAG };
                tag::once(std::iter::once(some), limits, &mut Names::new())?;
            }
        }
        tag::once_unlimited(named.bytes(), &mut names);
        let user = User::current(ctx);
        if let Some(user) = &user {
            if !names.iter().all(|name| user.may_publish(ctx, &invalidation::channel(kind, name))) {
                return Err(Error::MayNotInvalidate);
            }
        }
        let client = client::address(ctx).unwrap_or_default().into_bytes();
        Ok(Asked { kind, mode, names, user, client })
    }

    /// Tells who listens.
    pub fn publish(&self, ctx: Ctx) {
        invalidation::publish(ctx, self.kind, self.mode, &self.names);
    }

    fn user_name(&self) -> &[u8] {
        self.user.as_ref().map(User::name).unwrap_or_default()
    }

    /// Does it here, and has the replicas do it; answers what it hit. `named`
    /// is what it was read from.
    pub fn perform(&self, ctx: Ctx, named: Strings<'_>, at: Moment) -> u64 {
        let Asked { kind, mode, names, .. } = self;
        let hits = invalidation::perform(ctx, *kind, *mode, names, at.stamp);
        let (user, client) = (self.user_name(), &self.client);
        invalidation::log(&invalidation::Entry {
            kind: *kind,
            mode: *mode,
            names,
            hits: &hits,
            user,
            client,
            at: at.now,
        });
        if propagation::is_heard(ctx) {
            let words = [invalidation::word_of_mode(*mode), invalidation::word_of_kind(*kind)];
            // Below 2^53.
            ctx.replicate_strings(invalidated::NAME, at.stamp.0 as i64, words, named);
        } else {
            ctx.replicate_verbatim();
        }
        hits.iter().sum()
    }
}
