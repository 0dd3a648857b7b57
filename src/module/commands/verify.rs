//! `CACHE.VERIFY [REPAIR]`
//!
//! ```text
//! > CACHE.VERIFY
//! 1) "keys"         2) (integer) 1000
//! 3) "entries"      4) (integer) 1000
//! 5) "tags"         6) (integer) 0
//! 7) "memberships"  8) (integer) 0
//! 9) "problems"    10) (empty array)
//! ```
//! Walks everything: every entry of the index against the keyspace and back,
//! every count anew. An operator's command: it holds the server up for about a
//! microsecond a key, and where values are packed for as long as it takes to unpack
//! them. With REPAIR what is wrong between index and keyspace is put right, and told
//! all the same. A packed value that does not unpack is told; nothing can put it right
//! but a write.

use std::collections::{HashMap, HashSet};
use std::os::raw::c_void;
use std::ptr::NonNull;

use cacheflow_core::companions::Remove;
use cacheflow_core::packing::UnpackError;
use cacheflow_core::request::RequestError;
use cacheflow_core::slot::{self, Set};

use super::{Command, Error};
use crate::ahead;
use crate::datatype::ours;
use crate::ffi::args::{Args, Str};
use crate::ffi::ctx::Ctx;
use crate::ffi::owned::Owned;
use crate::ffi::register::{Arg, Keys, Spec};
use crate::hooks::{self, Came};
use crate::leases;
use crate::natives;
use crate::natives_told;
use crate::packing;
use crate::shard;
use crate::slots;
use crate::stored::Stored;

/// Problems that are told at most; the rest are counted.
const MOST_TOLD: usize = 100;

pub struct Verify;

impl Command for Verify {
    const SPEC: Spec = Spec {
        name: c"cache.verify",
        summary: c"Walks the index and the keyspace and returns a map of what there is and what is wrong between them. REPAIR puts it right.",
        since: c"0.1.0",
        complexity: c"O(N) where N is the number of keys in all databases",
        flags: c"admin",
        cluster_flags: None,
        acl: c"admin dangerous",
        arity: -1,
        keys: Keys::None,
        tips: Some(c"request_policy:all_shards response_policy:special"),
        args: &[Arg::word(c"repair", c"REPAIR").optional()],
    };

    fn run(ctx: Ctx, args: Args<'_>) -> Result<(), Error> {
        let repair = match args.opt(1).map(Str::bytes) {
            None => false,
            Some(word) if word.eq_ignore_ascii_case(b"REPAIR") && args.len() == 2 => true,
            Some(_) => return Err(RequestError::Syntax.into()),
        };
        natives_told::settle();
        let selected = ctx.database();
        let (mut keys, mut problems) = (0, shard::problems());
        let inside = !problems.is_empty();
        problems.extend(leases::look(|table| table.validate()));
        problems.extend(ahead::problems());
        let own = slots::of_shard(ctx);
        for db in (0..).take_while(|&db| ctx.select(db)) {
            keys += check(ctx, db, own.as_ref(), repair, inside, &mut problems);
        }
        ctx.select(selected);
        let counts = shard::counts();
        ctx.reply_map(5);
        for (field, n) in [
            ("keys", keys),
            ("entries", counts.entries),
            ("tags", counts.tags),
            ("memberships", counts.memberships),
        ] {
            ctx.reply_bytes(field.as_bytes());
            ctx.reply_integer(n);
        }
        ctx.reply_bytes(b"problems");
        let more = problems.len().saturating_sub(MOST_TOLD);
        problems.truncate(MOST_TOLD);
        if more > 0 {
            problems.push(format!("and {more} more"));
        }
        ctx.reply_array(problems.len());
        problems.iter().for_each(|problem| ctx.reply_bytes(problem.as_bytes()));
        Ok(())
    }
}

/// Every entry of the index lies under the key whose name it bears, and every
/// key's entry is in the index; `inside`: something is wrong inside of the
/// index; `own`: the slots whose keys the server shows, all if none. Answers how
/// many keys there are.
fn check(
    ctx: Ctx,
    db: usize,
    own: Option<&Set>,
    repair: bool,
    inside: bool,
    problems: &mut Vec<String>,
) -> u64 {
    let mut expected: HashSet<NonNull<c_void>> = shard::entries(db).into_iter().map(Stored::raw).collect();
    let (wrong, mut companions) = (problems.len(), Vec::new());
    let mut corrupt = 0;
    let mut seen: HashMap<NonNull<c_void>, Vec<u8>> = HashMap::new();
    ctx.each_value(ours(), |name, value| {
        // The walk may tell of a key twice.
        if seen.insert(value, name.bytes().to_vec()).is_some() {
            return;
        }
        // SAFETY: a value of our type.
        let entry = unsafe { Stored::new(value) };
        if entry.is_companion() {
            companions.push(entry.view().name().to_vec());
        }
        corrupt += u64::from(packing::check(entry.content()) == Err(UnpackError::Corrupt));
        if !expected.remove(&value) {
            problems.push(format!("db {db}: a key's entry is not in the index"));
        } else if *entry.key_name() != *name.bytes() {
            problems.push(format!("db {db}: an entry bears another name than its key"));
        }
    });
    let mut hidden = Vec::new();
    if let Some(own) = own {
        expected.retain(|&value| {
            // SAFETY: a value of our type, that the index holds.
            let entry = unsafe { Stored::new(value) };
            let is_shown = own.has(slot::of(entry.view().name()));
            if !is_shown {
                hidden.push(entry);
            }
            is_shown
        });
    }
    problems.extend(expected.iter().map(|_| format!("db {db}: the index holds an entry that no key does")));
    if repair && (inside || problems.len() > wrong) {
        // From the keyspace alone: nothing that the index says is believed.
        shard::disowned(db);
        for (&value, name) in &seen {
            // SAFETY: a value of our type, under that key.
            let entry = unsafe { Stored::new(value) };
            if shard::is_at_home(db, entry) && *entry.key_name() == **name {
                shard::arrived(db, name, entry);
            } else {
                hooks::came_under(ctx, Owned::new(name).get(), Came::Found);
            }
        }
        hidden.iter().for_each(|&entry| shard::arrived(db, &entry.key_name(), entry));
    }
    problems.extend((corrupt > 0).then(|| format!("db {db}: {corrupt} packed values do not unpack")));
    // Last: it may remove some of those seen.
    problems.extend(lonely(ctx, db, &companions, repair));
    (seen.len() + hidden.len()) as u64
}

/// Companions whose key is not there, nor on its way; with `repair` they go.
fn lonely(ctx: Ctx, db: usize, companions: &[Vec<u8>], repair: bool) -> Vec<String> {
    if natives::follows(ctx) {
        // Its primary removes them, and where it keeps one that waits, it says nothing.
        return Vec::new();
    }
    let mut problems = Vec::new();
    for key in companions {
        let is_lonely = || {
            let there = natives::there(ctx, key);
            there.companion && !there.key && !natives_told::waits(db, key)
        };
        // The first look may have found that the key's time is up.
        let still = is_lonely() && {
            natives_told::settle();
            is_lonely()
        };
        if !still {
            continue;
        }
        problems.push(format!("db {db}: a companion is without its key"));
        if repair {
            natives::remove(ctx, key, Remove::COMPANION);
        }
    }
    problems
}
