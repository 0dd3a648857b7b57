//! What a command says of itself, and its registration with the server.
//!
//! Everything that COMMAND DOCS, ACL and cluster clients know of a command
//! comes from its [`Spec`]. By hand rather than by the crate's macro, which
//! needs functions that Redis 7.0 lacks.

use std::ffi::{CStr, CString};
use std::os::raw::{c_char, c_int};
use std::ptr;

use super::ctx::Ctx;
use super::{api, optional_api, raw};

/// Where a command's keys stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keys {
    /// It takes none.
    None,
    /// The first argument, used as the flags (`REDISMODULE_CMD_KEY_*`) say.
    First(u32),
    /// All arguments.
    All(u32),
}

/// An argument, for COMMAND DOCS.
#[derive(Clone, Copy)]
pub struct Arg {
    pub name: &'static CStr,
    pub kind: ArgKind,
    /// The word that comes before it, or that it is.
    pub token: Option<&'static CStr>,
    pub optional: bool,
    pub multiple: bool,
}

/// What an argument is.
#[derive(Clone, Copy)]
pub enum ArgKind {
    Key,
    Text,
    Integer,
    /// A decimal number.
    Number,
    Time,
    /// The bare token.
    Word,
    /// One of these.
    OneOf(&'static [Arg]),
    /// All of these, one after the other.
    Block(&'static [Arg]),
}

impl Arg {
    const fn new(name: &'static CStr, kind: ArgKind) -> Arg {
        Arg { name, kind, token: None, optional: false, multiple: false }
    }

    pub const fn key() -> Arg {
        Arg::new(c"key", ArgKind::Key)
    }

    pub const fn text(name: &'static CStr) -> Arg {
        Arg::new(name, ArgKind::Text)
    }

    pub const fn integer(name: &'static CStr) -> Arg {
        Arg::new(name, ArgKind::Integer)
    }

    pub const fn number(name: &'static CStr) -> Arg {
        Arg::new(name, ArgKind::Number)
    }

    pub const fn time(name: &'static CStr) -> Arg {
        Arg::new(name, ArgKind::Time)
    }

    pub const fn word(name: &'static CStr, token: &'static CStr) -> Arg {
        Arg { token: Some(token), ..Arg::new(name, ArgKind::Word) }
    }

    pub const fn one_of(name: &'static CStr, args: &'static [Arg]) -> Arg {
        Arg { optional: true, ..Arg::new(name, ArgKind::OneOf(args)) }
    }

    pub const fn block(name: &'static CStr, args: &'static [Arg]) -> Arg {
        Arg::new(name, ArgKind::Block(args))
    }

    /// As [`Arg::one_of`], and one of them must be there.
    pub const fn choice(name: &'static CStr, args: &'static [Arg]) -> Arg {
        Arg::new(name, ArgKind::OneOf(args))
    }

    pub const fn after(self, token: &'static CStr) -> Arg {
        Arg { token: Some(token), ..self }
    }

    pub const fn optional(self) -> Arg {
        Arg { optional: true, ..self }
    }

    pub const fn multiple(self) -> Arg {
        Arg { multiple: true, ..self }
    }
}

/// What a command says of itself.
pub struct Spec {
    /// In lower case, as COMMAND and the errors show it: a subcommand's as
    /// `command|subcommand`.
    pub name: &'static CStr,
    pub summary: &'static CStr,
    pub since: &'static CStr,
    pub complexity: &'static CStr,
    /// The server's flags: `readonly fast`, `write deny-oom`, …
    pub flags: &'static CStr,
    /// Those it has instead in a cluster, if others.
    pub cluster_flags: Option<&'static CStr>,
    /// ACL categories, where the server has them for modules (7.2 and later).
    pub acl: &'static CStr,
    /// The number of arguments with the name; negative: at least.
    pub arity: i32,
    pub keys: Keys,
    pub tips: Option<&'static CStr>,
    pub args: &'static [Arg],
}

impl Spec {
    /// Registers the command.
    ///
    /// # Errors
    /// What the server refused.
    pub fn register(&self, ctx: Ctx, call: raw::RedisModuleCmdFunc) -> Result<(), &'static str> {
        let (first, last) = match self.keys {
            Keys::None => (0, 0),
            Keys::First(_) => (1, 1),
            Keys::All(_) => (1, -1),
        };
        let step = c_int::from(first != 0);
        let flags = self.cluster_flags.filter(|_| ctx.is_cluster()).unwrap_or(self.flags);
        let created = match self.subcommand() {
            // SAFETY: C strings; the server copies them.
            None => unsafe {
                api!(RedisModule_CreateCommand)(
                    ctx.raw(),
                    self.name.as_ptr(),
                    call,
                    flags.as_ptr(),
                    first,
                    last,
                    step,
                )
            },
            Some((container, name)) => {
                let container = find(ctx, &container)?;
                // SAFETY: a live command, C strings; the server copies them.
                unsafe {
                    api!(RedisModule_CreateSubcommand)(
                        container,
                        name.as_ptr(),
                        call,
                        flags.as_ptr(),
                        first,
                        last,
                        step,
                    )
                }
            }
        };
        if created != raw::REDISMODULE_OK as c_int {
            return Err("the command could not be created");
        }
        let command = find(ctx, self.name)?;
        self.describe(command)?;
        if let Some(set_categories) = optional_api!(RedisModule_SetCommandACLCategories) {
            // SAFETY: a C string, a live command.
            let set = unsafe { set_categories(command, self.acl.as_ptr()) };
            if set != raw::REDISMODULE_OK as c_int {
                return Err("the server refused the ACL categories");
            }
        }
        Ok(())
    }

    /// The container's name and its own, where it is a subcommand.
    fn subcommand(&self) -> Option<(CString, CString)> {
        let name = self.name.to_bytes();
        let bar = name.iter().position(|&byte| byte == b'|')?;
        // No NUL is in a C string.
        Some((CString::new(&name[..bar]).ok()?, CString::new(&name[bar + 1..]).ok()?))
    }

    fn describe(&self, command: *mut raw::RedisModuleCommand) -> Result<(), &'static str> {
        let version = raw::RedisModuleCommandInfoVersion {
            version: 1,
            sizeof_historyentry: size_of::<raw::RedisModuleCommandHistoryEntry>(),
            sizeof_keyspec: size_of::<raw::RedisModuleCommandKeySpec>(),
            sizeof_arg: size_of::<raw::RedisModuleCommandArg>(),
        };
        let mut keys = self.key_specs();
        let mut args = RawArgs::of(self.args);
        let info = raw::RedisModuleCommandInfo {
            version: &version,
            summary: self.summary.as_ptr(),
            complexity: self.complexity.as_ptr(),
            since: self.since.as_ptr(),
            history: ptr::null_mut(),
            tips: self.tips.map_or(ptr::null(), CStr::as_ptr),
            arity: self.arity,
            key_specs: keys.as_mut_ptr(),
            args: args.list.as_mut_ptr(),
        };
        // SAFETY: everything pointed to lives past the call, which copies it;
        // the lists end in zeroed elements.
        let set = unsafe { api!(RedisModule_SetCommandInfo)(command, &info) };
        if set != raw::REDISMODULE_OK as c_int {
            return Err("the server refused the command's description");
        }
        Ok(())
    }

    fn key_specs(&self) -> [raw::RedisModuleCommandKeySpec; 2] {
        // SAFETY: a C struct of integers, pointers and unions of such, for
        // which all zeros are the documented end of a list.
        let mut specs: [raw::RedisModuleCommandKeySpec; 2] = unsafe { std::mem::zeroed() };
        let (flags, last) = match self.keys {
            Keys::None => return specs,
            Keys::First(flags) => (flags, 0),
            Keys::All(flags) => (flags, -1),
        };
        let spec = &mut specs[0];
        spec.flags = u64::from(flags);
        spec.begin_search_type = raw::RedisModuleKeySpecBeginSearchType_REDISMODULE_KSPEC_BS_INDEX;
        spec.bs.index = raw::RedisModuleCommandKeySpec__bindgen_ty_1__bindgen_ty_1 { pos: 1 };
        spec.find_keys_type = raw::RedisModuleKeySpecFindKeysType_REDISMODULE_KSPEC_FK_RANGE;
        spec.fk.range = raw::RedisModuleCommandKeySpec__bindgen_ty_2__bindgen_ty_1 {
            lastkey: last,
            keystep: 1,
            limit: 0,
        };
        specs
    }
}

/// A command of this module.
fn find(ctx: Ctx, name: &CStr) -> Result<*mut raw::RedisModuleCommand, &'static str> {
    // SAFETY: a C string.
    let command = unsafe { api!(RedisModule_GetCommand)(ctx.raw(), name.as_ptr()) };
    if command.is_null() {
        return Err("a command was not found after it was created");
    }
    Ok(command)
}

/// The C form of arguments, with what it points to.
struct RawArgs {
    list: Vec<raw::RedisModuleCommandArg>,
    /// Held for the pointers in `list`.
    _below: Vec<RawArgs>,
}

impl RawArgs {
    fn of(args: &[Arg]) -> RawArgs {
        let mut below = Vec::new();
        let mut list: Vec<_> = args.iter().map(|arg| arg.raw(&mut below)).collect();
        // SAFETY: zeros are the documented end of a list.
        list.push(unsafe { std::mem::zeroed() });
        RawArgs { list, _below: below }
    }
}

impl Arg {
    fn raw(&self, below: &mut Vec<RawArgs>) -> raw::RedisModuleCommandArg {
        use raw::*;
        let mut subargs = ptr::null_mut();
        let mut has = |args| {
            let mut raw = RawArgs::of(args);
            subargs = raw.list.as_mut_ptr();
            below.push(raw);
        };
        let kind = match self.kind {
            ArgKind::Key => RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_KEY,
            ArgKind::Text => RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_STRING,
            ArgKind::Integer => RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_INTEGER,
            ArgKind::Number => RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_DOUBLE,
            ArgKind::Time => RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_UNIX_TIME,
            ArgKind::Word => RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_PURE_TOKEN,
            ArgKind::OneOf(args) => {
                has(args);
                RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_ONEOF
            }
            ArgKind::Block(args) => {
                has(args);
                RedisModuleCommandArgType_REDISMODULE_ARG_TYPE_BLOCK
            }
        };
        let flag = |set, flag: u32| if set { flag as c_int } else { 0 };
        RedisModuleCommandArg {
            name: self.name.as_ptr(),
            type_: kind,
            key_spec_index: if matches!(self.kind, ArgKind::Key) { 0 } else { -1 },
            token: self.token.map_or(ptr::null::<c_char>(), CStr::as_ptr),
            summary: ptr::null(),
            since: ptr::null(),
            flags: flag(self.optional, REDISMODULE_CMD_ARG_OPTIONAL)
                | flag(self.multiple, REDISMODULE_CMD_ARG_MULTIPLE),
            deprecated_since: ptr::null(),
            subargs,
            display_text: ptr::null(),
        }
    }
}
