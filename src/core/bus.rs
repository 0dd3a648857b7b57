//! What nodes of a cluster say to each other over its bus.
//!
//! ```text
//! byte 0      0xCF
//! byte 1      the version of the rest; 0: "I do not speak your version"
//! bytes 2-9   the sender's incarnation, big endian; in an answer the asker's
//! bytes 10-17 the number that the message, or what it answers, has there
//! byte 18     the kind; where byte 1 is 0 the version that the sender speaks
//! then        MessagePack, by kind
//! ```
//! The first nineteen bytes are the same in every version, so that a message of
//! another one is refused by name and never misread. What changes the meaning
//! of the rest takes a new version.

use serde::{Deserialize, Serialize};

use crate::index::{Db, Mode};
use crate::packed::Bytes;
use crate::tag::LONGEST_TAG;
use crate::units::{Stamp, STAMP_LIMIT};

/// The version that this build speaks.
pub const VERSION: u8 = 1;
const MAGIC: u8 = 0xCF;
const HEAD: usize = 19;
/// Says which version the sender speaks.
const REFUSAL: u8 = 0;

/// What a message is about: the process that said it first, and its number
/// there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Drawn at random when the module is loaded.
    pub incarnation: u64,
    /// Counted up.
    pub number: u64,
}

/// An invalidation on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation<'a> {
    /// The database.
    pub db: Db,
    /// Hard or soft.
    pub mode: Mode,
    /// Of namespaces, not of tags.
    pub namespaces: bool,
    /// The sender's clock.
    pub stamp: Stamp,
    /// Tags or namespaces, each once.
    pub names: Vec<&'a [u8]>,
    /// Whose command it was: the user's name.
    pub user: &'a [u8],
    /// The client's address.
    pub client: &'a [u8],
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Invalidate this.
    Invalidate(Invalidation<'a>),
    /// It is done.
    Done {
        /// What it hit.
        hits: u64,
        /// The sender's clock.
        stamp: Stamp,
    },
    /// It is not done, for the sender is no primary, or cannot now: it is to
    /// be sent again, to whom it concerns by then.
    NotDone,
    /// The sender has started, and may have lost what it had acknowledged.
    Started,
    /// That is known.
    Welcome,
    /// The sender speaks another version, this one.
    Refused(u8),
}

/// Why a message was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusError {
    /// No message of CacheFlow's.
    NotOurs,
    /// Of another version.
    Version {
        /// Which.
        version: u8,
        /// What it was about.
        id: Id,
    },
    /// Of this version, but not of its form.
    Malformed,
}

/// database, soft, namespaces, stamp, names, user, client
#[derive(Serialize, Deserialize)]
struct InvalidateBody<'a>(
    u32,
    bool,
    bool,
    u64,
    #[serde(borrow)] Vec<Bytes<'a>>,
    #[serde(borrow)] Bytes<'a>,
    #[serde(borrow)] Bytes<'a>,
);

/// hits, stamp
#[derive(Serialize, Deserialize)]
struct DoneBody(u64, u64);

const INVALIDATE: u8 = 1;
const DONE: u8 = 2;
const NOT_DONE: u8 = 3;
const STARTED: u8 = 4;
const WELCOME: u8 = 5;

/// A message as it is sent; `None` where memory ran out.
pub fn encode(id: Id, message: &Message<'_>) -> Option<Vec<u8>> {
    let head = |version, kind| {
        let mut out = vec![MAGIC, version];
        out.extend_from_slice(&id.incarnation.to_be_bytes());
        out.extend_from_slice(&id.number.to_be_bytes());
        out.push(kind);
        out
    };
    let with = |kind, body: Result<Vec<u8>, rmp_serde::encode::Error>| -> Option<Vec<u8>> {
        let mut out = head(VERSION, kind);
        out.extend_from_slice(&body.ok()?);
        Some(out)
    };
    match message {
        Message::Invalidate(it) => {
            let names = it.names.iter().map(|name| Bytes(name)).collect();
            let (db, soft) = (u32::try_from(it.db).ok()?, it.mode == Mode::Soft);
            let (user, client) = (Bytes(it.user), Bytes(it.client));
            let body = InvalidateBody(db, soft, it.namespaces, it.stamp.0, names, user, client);
            with(INVALIDATE, rmp_serde::to_vec(&body))
        }
        Message::Done { hits, stamp } => with(DONE, rmp_serde::to_vec(&DoneBody(*hits, stamp.0))),
        Message::NotDone => Some(head(VERSION, NOT_DONE)),
        Message::Started => Some(head(VERSION, STARTED)),
        Message::Welcome => Some(head(VERSION, WELCOME)),
        Message::Refused(version) => Some(head(REFUSAL, *version)),
    }
}

/// Reads a message. Total: whatever the bytes.
///
/// # Errors
/// [`BusError`] says what they are instead.
pub fn decode(bytes: &[u8]) -> Result<(Id, Message<'_>), BusError> {
    let (head, body) = bytes.split_at_checked(HEAD).ok_or(BusError::NotOurs)?;
    let number = |at: usize| head[at..].first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk));
    let (id, kind) = (Id { incarnation: number(2), number: number(10) }, head[HEAD - 1]);
    match (head[0], head[1]) {
        (MAGIC, VERSION) => {}
        (MAGIC, REFUSAL) => return Ok((id, Message::Refused(kind))),
        (MAGIC, version) => return Err(BusError::Version { version, id }),
        _ => return Err(BusError::NotOurs),
    }
    let malformed = |_| BusError::Malformed;
    let message = match kind {
        INVALIDATE => {
            let InvalidateBody(db, soft, namespaces, stamp, names, user, client) =
                rmp_serde::from_slice(body).map_err(malformed)?;
            let names: Vec<&[u8]> = names.into_iter().map(|name| name.0).collect();
            if stamp >= STAMP_LIMIT || i32::try_from(db).is_err() {
                return Err(BusError::Malformed);
            }
            if names.iter().any(|name| name.len() > LONGEST_TAG) {
                return Err(BusError::Malformed);
            }
            Message::Invalidate(Invalidation {
                db: db as Db,
                mode: if soft { Mode::Soft } else { Mode::Hard },
                namespaces,
                stamp: Stamp(stamp),
                names,
                user: user.0,
                client: client.0,
            })
        }
        DONE => {
            let DoneBody(hits, stamp) = rmp_serde::from_slice(body).map_err(malformed)?;
            if stamp >= STAMP_LIMIT {
                return Err(BusError::Malformed);
            }
            Message::Done { hits, stamp: Stamp(stamp) }
        }
        NOT_DONE => Message::NotDone,
        STARTED => Message::Started,
        WELCOME => Message::Welcome,
        _ => return Err(BusError::Malformed),
    };
    Ok((id, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: Id = Id { incarnation: 0x0102_0304_0506_0708, number: 77 };

    fn invalidation<'a>(names: Vec<&'a [u8]>, soft: bool, db: Db) -> Message<'a> {
        let mode = if soft { Mode::Soft } else { Mode::Hard };
        Message::Invalidate(Invalidation {
            db,
            mode,
            namespaces: soft,
            stamp: Stamp(5),
            names,
            user: b"u",
            client: b"1.2.3.4:5",
        })
    }

    proptest! {
        #[test]
        fn what_is_said_is_heard(
            names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
            soft: bool, db in 0usize..100, hits: u64, version: u8
        ) {
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            let done = Message::Done { hits, stamp: Stamp(hits % STAMP_LIMIT) };
            for message in [invalidation(names, soft, db), done, Message::NotDone, Message::Started,
                            Message::Welcome, Message::Refused(version)] {
                let bytes = encode(ID, &message).expect("memory");
                prop_assert_eq!(decode(&bytes), Ok((ID, message)));
            }
        }

        #[test]
        fn decoding_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..8) {
            let _ = decode(&bytes);
            let mut bytes = bytes;
            if bytes.len() >= HEAD {
                (bytes[0], bytes[1], bytes[HEAD - 1]) = (MAGIC, VERSION, kind);
                let _ = decode(&bytes);
            }
        }

        #[test]
        fn a_flipped_bit_is_another_message_or_none(at in 0usize..60, bit in 0u32..8) {
            let mut bytes = encode(ID, &invalidation(vec![b"tag", b"other"], false, 0)).expect("memory");
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            if at < 2 {
                prop_assert!(!matches!(decode(&bytes), Ok((_, Message::Invalidate(_)))));
            } else {
                let _ = decode(&bytes);
            }
        }
    }

    #[test]
    fn truncated_ones_are_refused() {
        let bytes = encode(ID, &invalidation(vec![b"tag", b"other"], true, 3)).expect("memory");
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = encode(ID, &Message::Started).expect("memory");
        bytes[1] = 9;
        bytes.truncate(HEAD);
        assert_eq!(decode(&bytes), Err(BusError::Version { version: 9, id: ID }));
        let answer = encode(ID, &Message::Refused(VERSION)).expect("memory");
        assert_eq!(decode(&answer), Ok((ID, Message::Refused(VERSION))));
    }
}
