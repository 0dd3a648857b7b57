//! The raw layer: the server's API as safe Rust, with nothing of caching in
//! it. Why not the crate's own wrappers: a `Vec` of owned strings and a
//! `RedisValue` a command cost 700 instructions of GET's 3,600, its logging
//! passes the message as a printf format, and its strings panic on NUL.
//!
//! Function pointers are filled in by `RedisModule_Init`; those in
//! [`REQUIRED`] are checked once at load, so that [`api!`] never meets a null
//! one later.

pub mod alloc;
pub mod args;
pub mod blocked;
pub mod choice;
pub mod client;
pub mod cluster;
pub mod config;
pub mod ctx;
pub mod events;
pub mod filter;
pub mod info;
pub mod io;
pub mod key;
pub mod links;
pub mod nodes;
pub mod owned;
pub mod register;
mod replicate;
pub mod scan;
pub mod text;
pub mod timer;

pub use redis_module::raw;

/// Has the processor fetch the cache line at `at` while other work goes on.
#[inline]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, whatever the address.
    unsafe {
        use std::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// A function that some servers lack.
macro_rules! optional_api {
    ($name:ident) => {{
        #[allow(unused_unsafe)] // most uses stand inside of the call's own block
        // SAFETY: written once by RedisModule_Init on this thread, before any
        // other code of ours ran; only read since.
        let function = unsafe { $crate::ffi::raw::$name };
        function
    }};
}
pub(crate) use optional_api;

/// A function of the server's API. One that is missing unwinds into the
/// nearest border, which answers an error: it cannot happen for functions that
/// [`missing`] found at load.
macro_rules! api {
    ($name:ident) => {
        match $crate::ffi::optional_api!($name) {
            Some(function) => function,
            None => $crate::ffi::absent(stringify!($name)),
        }
    };
}
pub(crate) use api;

/// Unwinds into the nearest border.
#[cold]
#[inline(never)]
#[allow(clippy::panic)] // caught there
pub fn absent(name: &'static str) -> ! {
    std::panic::panic_any(name)
}

macro_rules! required {
    ($($name:ident),* $(,)?) => {
        /// The first of the functions we cannot do without that this server
        /// lacks.
        pub fn missing() -> Option<&'static str> {
            $(if optional_api!($name).is_none() {
                return Some(stringify!($name));
            })*
            None
        }
    };
}

required!(
    RedisModule_ACLAddLogEntry,
    RedisModule_ACLCheckChannelPermissions,
    RedisModule_Alloc,
    RedisModule_AvoidReplicaTraffic,
    RedisModule_BlockClient,
    RedisModule_Call,
    RedisModule_CallReplyArrayElement,
    RedisModule_CallReplyInteger,
    RedisModule_CallReplyLength,
    RedisModule_CallReplyStringPtr,
    RedisModule_CallReplyType,
    RedisModule_CloseKey,
    RedisModule_CommandFilterArgGet,
    RedisModule_CreateCommand,
    RedisModule_CreateDataType,
    RedisModule_CreateString,
    RedisModule_CreateSubcommand,
    RedisModule_CreateTimer,
    RedisModule_DefragAlloc,
    RedisModule_DigestAddStringBuffer,
    RedisModule_DigestEndSequence,
    RedisModule_EmitAOF,
    RedisModule_Free,
    RedisModule_FreeCallReply,
    RedisModule_FreeClusterNodesList,
    RedisModule_FreeModuleUser,
    RedisModule_FreeServerInfo,
    RedisModule_FreeString,
    RedisModule_GetAbsExpire,
    RedisModule_GetBlockedClientHandle,
    RedisModule_GetBlockedClientPrivateData,
    RedisModule_GetClientId,
    RedisModule_GetClientInfoById,
    RedisModule_GetClientUserNameById,
    RedisModule_GetClusterNodeInfo,
    RedisModule_GetClusterNodesList,
    RedisModule_GetCommand,
    RedisModule_GetContextFlags,
    RedisModule_GetCurrentUserName,
    RedisModule_GetDbIdFromDefragCtx,
    RedisModule_GetDbIdFromDigest,
    RedisModule_GetDbIdFromIO,
    RedisModule_GetDbIdFromModuleKey,
    RedisModule_GetDbIdFromOptCtx,
    RedisModule_GetDetachedThreadSafeContext,
    RedisModule_GetKeyNameFromIO,
    RedisModule_GetKeyspaceNotificationFlagsAll,
    RedisModule_GetModuleUserFromUserName,
    RedisModule_GetMyClusterID,
    RedisModule_GetRandomBytes,
    RedisModule_GetSelectedDb,
    RedisModule_GetServerInfo,
    RedisModule_GetToDbIdFromOptCtx,
    RedisModule_GetToKeyNameFromOptCtx,
    RedisModule_GetUsedMemoryRatio,
    RedisModule_InfoAddFieldULongLong,
    RedisModule_InfoAddSection,
    RedisModule_IsIOError,
    RedisModule_KeyType,
    RedisModule_LoadConfigs,
    RedisModule_LoadStringBuffer,
    RedisModule_Log,
    RedisModule_LogIOError,
    RedisModule_MallocSize,
    RedisModule_ModuleTypeGetType,
    RedisModule_ModuleTypeGetValue,
    RedisModule_ModuleTypeReplaceValue,
    RedisModule_ModuleTypeSetValue,
    RedisModule_NotifyKeyspaceEvent,
    RedisModule_OpenKey,
    RedisModule_PublishMessage,
    RedisModule_RegisterClusterMessageReceiver,
    RedisModule_RegisterCommandFilter,
    RedisModule_RegisterEnumConfig,
    RedisModule_RegisterInfoFunc,
    RedisModule_RegisterNumericConfig,
    RedisModule_RegisterStringConfig,
    RedisModule_Replicate,
    RedisModule_ReplicateVerbatim,
    RedisModule_ReplyWithArray,
    RedisModule_ReplyWithCallReply,
    RedisModule_ReplyWithError,
    RedisModule_ReplyWithLongLong,
    RedisModule_ReplyWithMap,
    RedisModule_ReplyWithNull,
    RedisModule_ReplyWithSimpleString,
    RedisModule_ReplyWithStringBuffer,
    RedisModule_SaveStringBuffer,
    RedisModule_Scan,
    RedisModule_ScanCursorCreate,
    RedisModule_ScanCursorDestroy,
    RedisModule_SelectDb,
    RedisModule_SendClusterMessage,
    RedisModule_ServerInfoGetFieldC,
    RedisModule_ServerInfoGetFieldUnsigned,
    RedisModule_SetAbsExpire,
    RedisModule_SetCommandInfo,
    RedisModule_SetDisconnectCallback,
    RedisModule_SetModuleOptions,
    RedisModule_SignalModifiedKey,
    RedisModule_StopTimer,
    RedisModule_StringDMA,
    RedisModule_StringPtrLen,
    RedisModule_SubscribeToKeyspaceEvents,
    RedisModule_SubscribeToServerEvent,
    RedisModule_UnblockClient,
    RedisModule_UnlinkKey,
    RedisModule_ValueLength,
);
