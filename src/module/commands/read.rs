//! How a command reads: a key looked up for GET and MGET.

use cacheflow_core::index::Verdict;
use cacheflow_core::packing::{Content, Packed};

use crate::datatype::ours;
use crate::ffi::args::Str;
use crate::ffi::ctx::{Ctx, Reply};
use crate::ffi::key::{Key, Kind};
use crate::hot;
use crate::shard;
use crate::state::{self, COUNTERS};
use crate::stored::Stored;

/// What a read of a key answers.
pub enum Read<'a> {
    /// An entry's value, there as long as the key is open.
    Value(&'a [u8], Key),
    /// The same of one that is packed. (Not a `Content` in one arm: that is more to
    /// be written and looked at again, on the path of every hit.)
    Packed(Packed<'a>, Key),
    /// A native string.
    NativeString,
    Nothing,
    OtherType,
}

/// Looks a key up for GET and MGET, and counts what comes of it.
#[inline]
pub fn read<'a>(ctx: Ctx, name: Str<'_>, stale_will_do: bool) -> Read<'a> {
    let key = Key::read(ctx, name);
    match key.kind(ours()) {
        Kind::Ours(value) => {
            // SAFETY: a value of our type.
            let entry = unsafe { Stored::new(value) };
            if entry.is_companion() {
                return Read::OtherType;
            }
            entry.prefetch();
            let db = ctx.database();
            let fresh = state::is_fresh(entry);
            let answered = match shard::verdict(db, name.bytes(), entry) {
                Verdict::Untouched if fresh => Some(true),
                Verdict::Untouched | Verdict::Stale(_) if stale_will_do => Some(false),
                _ => None,
            };
            let Some(fresh) = answered else {
                COUNTERS.misses.add(1);
                shard::tally(db, entry, |tally| tally.misses += 1);
                return Read::Nothing;
            };
            if fresh {
                COUNTERS.hits.add(1);
                shard::tally(db, entry, |tally| tally.hits += 1);
            } else {
                COUNTERS.stale_hits.add(1);
                shard::tally(db, entry, |tally| tally.stale_hits += 1);
            }
            entry.count_hit();
            hot::read(db, entry);
            match entry.content() {
                Content::Plain(value) => Read::Value(value, key),
                Content::Packed(packed) => Read::Packed(packed, key),
            }
        }
        Kind::Absent => {
            COUNTERS.misses.add(1);
            shard::tally_by_name(ctx.database(), name.bytes(), |tally| tally.misses += 1);
            Read::Nothing
        }
        Kind::String => {
            COUNTERS.hits.add(1);
            Read::NativeString
        }
        Kind::Other => Read::OtherType,
    }
}

/// Replies the value of a native string.
pub fn reply_native_string(ctx: Ctx, name: Str<'_>) {
    with_native_string(ctx, name, |bytes| match bytes {
        Some(bytes) => ctx.reply_bytes(bytes),
        None => ctx.reply_null(),
    });
}

/// A copy of the value of a native string; `None` where it is none any more.
pub fn native_string(ctx: Ctx, name: Str<'_>) -> Option<Vec<u8>> {
    with_native_string(ctx, name, |bytes| bytes.map(<[u8]>::to_vec))
}

/// Through GET, for the API's own way to a string changes the encoding of an
/// integer; by that way where GET was renamed.
fn with_native_string<R>(ctx: Ctx, name: Str<'_>, body: impl FnOnce(Option<&[u8]>) -> R) -> R {
    let reply = ctx.call(c"GET", None, name);
    if let Some(bytes) = reply.as_ref().and_then(Reply::bytes) {
        return body(Some(bytes));
    }
    let key = Key::look(ctx, name);
    match key.kind(ours()) {
        Kind::String => body(Some(key.string_bytes())),
        _ => body(None),
    }
}
