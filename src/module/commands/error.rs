//! What a client is told when a command cannot be done.

use cacheflow_core::codec::CodecError;
use cacheflow_core::decide::IncrError;
use cacheflow_core::entry::{BuildError, LONGEST_VALUE};
use cacheflow_core::packing::UnpackError;
use cacheflow_core::request::RequestError;
use cacheflow_core::saved::SavedError;
use cacheflow_core::settings::{self, SettingsError};
use cacheflow_core::tag::TagError;
use cacheflow_core::times::InvalidTime;

use crate::directives::MAX_VALUE_SIZE;

/// What a client is told. No user's bytes are ever in it.
#[derive(Debug)]
pub enum Error {
    Request(RequestError),
    WrongType,
    Reserved,
    TryAgain,
    Overflow,
    TooBig { bytes: usize, limit: i64 },
    OutOfMemory,
    NoRoom,
    OverBudget,
    Payload(CodecError),
    Corrupt,
    NothingToApplyTo,
    TooManyLeases,
    Tags(TagError),
    MayNotInvalidate,
    ReadOnly,
    State(SavedError),
    Settings(SettingsError),
    Internal,
}

impl Error {
    /// The reply's text, beginning with the stable prefix of COMMANDS.md.
    pub fn text(&self, command: &str) -> String {
        match self {
            Error::Request(RequestError::Syntax) => "ERR syntax error".into(),
            Error::Request(RequestError::NotAnInteger) => {
                "ERR value is not an integer or out of range".into()
            }
            Error::Request(RequestError::InvalidTime) => {
                format!("ERR invalid expire time in '{command}' command")
            }
            Error::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value".into(),
            Error::TryAgain => "TRYAGAIN the key is on its way to another server, and its tags are there".into(),
            Error::Reserved => {
                "ERR names that begin with cacheflow.companion-prefix are reserved for companions of native keys"
                    .into()
            }
            Error::Overflow => "ERR increment or decrement would overflow".into(),
            Error::TooBig { bytes, limit } => {
                format!("TOOBIG value of {bytes} bytes exceeds cacheflow.max-value-size ({limit})")
            }
            Error::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.".into(),
            Error::OverBudget => {
                "OOM no room for this entry under cacheflow.max-memory or its namespace's MAXMEMORY".into()
            }
            Error::NoRoom => "OOM the allocator has no room for this entry".into(),
            Error::Payload(why) => format!("ERR refused payload: {why}"),
            Error::Corrupt => {
                "ERR the stored value does not unpack: delete the key, or write it again".into()
            }
            Error::TooManyLeases => "OOM more keys with leases or locks than cacheflow.max-leases".into(),
            Error::NothingToApplyTo => "ERR no entry to apply this to".into(),
            Error::Request(RequestError::Cursor) => "ERR invalid cursor".into(),
            Error::Tags(TagError::TooMany { count, limit }) => {
                format!("TOOMANYTAGS {count} tags exceed cacheflow.max-tags-per-entry ({limit})")
            }
            Error::Tags(TagError::TooLong { bytes, limit }) => {
                format!("ERR tag of {bytes} bytes exceeds cacheflow.max-tag-length ({limit})")
            }
            Error::MayNotInvalidate => {
                "NOPERM No permissions to access one of the channels that this invalidation is published on"
                    .into()
            }
            Error::ReadOnly => "READONLY You can't write against a read only replica.".into(),
            Error::State(why) => format!("ERR refused state: {why:?}"),
            Error::Settings(SettingsError::TooMany) => {
                format!("ERR more than {} namespaces with settings", settings::MOST)
            }
            Error::Settings(SettingsError::TooLong) => {
                format!("ERR name of a namespace exceeds {} bytes", settings::LONGEST_NAME)
            }
            Error::Internal => {
                format!(
                    "ERR internal error in '{command}', nothing is known of its effect; see the server's log"
                )
            }
        }
    }
}

impl From<RequestError> for Error {
    fn from(error: RequestError) -> Self {
        Error::Request(error)
    }
}

impl From<CodecError> for Error {
    fn from(error: CodecError) -> Self {
        Error::Payload(error)
    }
}

impl From<UnpackError> for Error {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Corrupt => Error::Corrupt,
            UnpackError::OutOfMemory => Error::NoRoom,
        }
    }
}

impl From<InvalidTime> for Error {
    fn from(_: InvalidTime) -> Self {
        Error::Request(RequestError::InvalidTime)
    }
}

impl From<IncrError> for Error {
    fn from(error: IncrError) -> Self {
        match error {
            IncrError::NotAnInteger => Error::Request(RequestError::NotAnInteger),
            IncrError::Overflow => Error::Overflow,
            IncrError::WrongType => Error::WrongType,
        }
    }
}

impl From<TagError> for Error {
    fn from(error: TagError) -> Self {
        Error::Tags(error)
    }
}

impl From<SavedError> for Error {
    fn from(error: SavedError) -> Self {
        Error::State(error)
    }
}

impl From<SettingsError> for Error {
    fn from(error: SettingsError) -> Self {
        Error::Settings(error)
    }
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::TooLong => Error::TooBig { bytes: LONGEST_VALUE + 1, limit: MAX_VALUE_SIZE.get() },
            BuildError::OutOfMemory => Error::NoRoom,
        }
    }
}
