//! How a command reads: a key looked up for GET and MGET.

use crate::datatype::ours;
use crate::ffi::args::Str;
use crate::ffi::ctx::Ctx;
use crate::ffi::key::{Key, Kind};
use crate::state::{self, COUNTERS};
use crate::stored::Stored;

/// What a read of a key answers.
pub enum Read<'a> {
    /// An entry's value, there as long as the key is open.
    Value(&'a [u8], Key),
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
            if state::is_fresh(entry) {
                COUNTERS.hits.add(1);
            } else if stale_will_do {
                COUNTERS.stale_hits.add(1);
            } else {
                COUNTERS.misses.add(1);
                return Read::Nothing;
            }
            entry.count_hit();
            Read::Value(entry.value(), key)
        }
        Kind::Absent => {
            COUNTERS.misses.add(1);
            Read::Nothing
        }
        Kind::String => {
            COUNTERS.hits.add(1);
            Read::NativeString
        }
        Kind::Other => Read::OtherType,
    }
}

/// Replies the value of a native string. Through GET: the server's own API for
/// reading strings would change the encoding of an integer.
pub fn reply_native_string(ctx: Ctx, name: Str<'_>) {
    match ctx.call(c"GET", None, &[name.raw()], false) {
        Some(reply) => match reply.bytes() {
            Some(bytes) => ctx.reply_bytes(bytes),
            None => ctx.reply_null(),
        },
        None => ctx.reply_null(),
    }
}
