//! What is said to the replicas and the AOF, and how far they are.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_longlong};

use super::args::{Str, Strings};
use super::ctx::{c_text, Ctx};
use super::owned::Owned;
use super::{api, raw};

impl Ctx {
    /// Replicates `command key`; false where the server has no such command
    /// (`rename-command`).
    pub fn replicate_key(self, command: &CStr, key: Str<'_>) -> bool {
        // SAFETY: the format names the argument's type.
        let done =
            unsafe { api!(RedisModule_Replicate)(self.raw(), command.as_ptr(), c"s".as_ptr(), key.raw()) };
        done == raw::REDISMODULE_OK as c_int
    }

    /// Replicates `command keys…`, all of one slot; false where the server has no
    /// such command.
    pub fn replicate_keys(self, command: &CStr, keys: Strings<'_>) -> bool {
        let (argv, argc) = keys.raw();
        // SAFETY: the format names the arguments' type; the server retains the
        // strings.
        let done =
            unsafe { api!(RedisModule_Replicate)(self.raw(), command.as_ptr(), c"v".as_ptr(), argv, argc) };
        done == raw::REDISMODULE_OK as c_int
    }

    /// Performs and replicates `command keys…`; false where the server has no such
    /// command, or refused it.
    pub fn perform_keys(self, command: &CStr, keys: Strings<'_>) -> bool {
        let (argv, argc) = keys.raw();
        // SAFETY: the format names the arguments' type; the server retains the
        // strings. The reply is ours, and freed once.
        unsafe {
            let reply = api!(RedisModule_Call)(self.raw(), command.as_ptr(), c"!v".as_ptr(), argv, argc);
            if reply.is_null() {
                return false;
            }
            let is_done = api!(RedisModule_CallReplyType)(reply) == raw::REDISMODULE_REPLY_INTEGER as c_int;
            api!(RedisModule_FreeCallReply)(reply);
            is_done
        }
    }

    /// Replicates the command being run as it came.
    pub fn replicate_verbatim(self) {
        // SAFETY: the context is that of a command.
        unsafe { api!(RedisModule_ReplicateVerbatim)(self.raw()) };
    }

    /// Replicates `command key number bytes [value]`.
    pub fn replicate(self, command: &CStr, key: Str<'_>, number: i64, bytes: &[u8], value: Option<&[u8]>) {
        let replicate = api!(RedisModule_Replicate);
        let (command, key, number) = (command.as_ptr(), key.raw(), number as c_longlong);
        let (ptr, len) = (bytes.as_ptr().cast::<c_char>(), bytes.len());
        // SAFETY: the formats name the arguments' types; the server copies or
        // retains each.
        unsafe {
            match value {
                Some(v) => {
                    let value = v.as_ptr().cast::<c_char>();
                    replicate(self.raw(), command, c"slbb".as_ptr(), key, number, ptr, len, value, v.len())
                }
                None => replicate(self.raw(), command, c"slb".as_ptr(), key, number, ptr, len),
            }
        };
    }

    /// Replicates `command key numbers…`.
    pub fn replicate_numbers(self, command: &CStr, key: Str<'_>, [a, b, c]: [i64; 3]) {
        // SAFETY: the format names the arguments' types.
        unsafe {
            api!(RedisModule_Replicate)(
                self.raw(),
                command.as_ptr(),
                c"slll".as_ptr(),
                key.raw(),
                a as c_longlong,
                b as c_longlong,
                c as c_longlong,
            )
        };
    }

    /// Replicates `command bytes`.
    pub fn replicate_bytes(self, command: &CStr, bytes: &[u8]) {
        let (ptr, len) = (bytes.as_ptr().cast::<c_char>(), bytes.len());
        scrub_stack();
        // SAFETY: the format names the argument's type; the server copies.
        unsafe { api!(RedisModule_Replicate)(self.raw(), command.as_ptr(), c"b".as_ptr(), ptr, len) };
    }

    /// Replicates `command number word word strings…`.
    pub fn replicate_strings(self, command: &CStr, number: i64, words: [&CStr; 2], strings: Strings<'_>) {
        let (argv, argc) = strings.raw();
        let [one, other] = words;
        scrub_stack();
        // SAFETY: the format names the arguments' types; the server retains
        // the strings.
        unsafe {
            api!(RedisModule_Replicate)(
                self.raw(),
                command.as_ptr(),
                c"lccv".as_ptr(),
                number as c_longlong,
                one.as_ptr(),
                other.as_ptr(),
                argv,
                argc,
            )
        };
    }

    /// Replicates `command number word word names…`, the names being ours.
    pub fn replicate_names(self, command: &CStr, number: i64, words: [&CStr; 2], names: &[&[u8]]) {
        let owned: Vec<Owned> = names.iter().map(|name| Owned::new(name)).collect();
        let raw: Vec<_> = owned.iter().map(|name| name.get().raw()).collect();
        // SAFETY: `owned` lives until the end of this function.
        self.replicate_strings(command, number, words, unsafe { Strings::of(&raw) });
    }

    /// Has the replicas say how far they are.
    pub fn ask_replicas(self) {
        scrub_stack();
        // SAFETY: C strings; the first letter keeps it out of the AOF.
        unsafe {
            api!(RedisModule_Replicate)(
                self.raw(),
                c"REPLCONF".as_ptr(),
                c"Acc".as_ptr(),
                c"GETACK".as_ptr(),
                c"*".as_ptr(),
            )
        };
    }

    /// How far the replication stream is, and INFO's lines of the replicas.
    pub fn replication(self) -> (Option<u64>, Vec<Vec<u8>>) {
        // SAFETY: C strings; the data is freed once, after its last use.
        unsafe {
            let data = api!(RedisModule_GetServerInfo)(self.raw(), c"replication".as_ptr());
            let mut error = 0;
            let field = c"master_repl_offset".as_ptr();
            let offset = api!(RedisModule_ServerInfoGetFieldUnsigned)(data, field, &mut error);
            let offset = (error == raw::REDISMODULE_OK as c_int).then_some(offset);
            let mut lines = Vec::new();
            for i in 0.. {
                let name = c_text(&format!("slave{i}"));
                let line = api!(RedisModule_ServerInfoGetFieldC)(data, name.as_ptr().cast::<c_char>());
                if line.is_null() {
                    break;
                }
                lines.push(CStr::from_ptr(line).to_bytes().to_vec());
            }
            api!(RedisModule_FreeServerInfo)(self.raw(), data);
            (offset, lines)
        }
    }
}

/// Zeroes the part of the stack that the function called next is going to use.
///
/// While Valkey 9.0 and 9.1 export a slot, `VM_Replicate` looks what slot a
/// command is of, and takes a flag ("it crosses slots") from a local variable that
/// nobody sets where the command has no keys. Whatever bit lies there then fails
/// the export ("A module replicated a cross-slot command"): one in three or so of
/// those during which something was invalidated. 2 KB take some 30 ns.
#[inline(never)]
fn scrub_stack() {
    let mut below = [0u64; 256];
    for place in &mut below {
        // SAFETY: a reference to a place of ours. Volatile, or nothing is written.
        unsafe { std::ptr::write_volatile(place, 0) };
    }
    std::hint::black_box(&below);
}
