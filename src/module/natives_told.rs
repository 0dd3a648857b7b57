//! What happens to native keys with tags and to their companions, as the server
//! tells of it; subscribed to when the first companion is made, so that a server
//! without any pays nothing.
//!
//! | event | of a key | of a companion |
//! | --- | --- | --- |
//! | `del`, `evicted` | it went | `unlink2` has noted that it went |
//! | `expired` | it went; noted | the same |
//! | `rename_from`, `rename_to`; `move_from`, `move_to` | its companion goes along | it went |
//! | `copy_to` | its companion is copied | a copy is none |
//! | `restore` | it came; noted | the same |
//!
//! What is noted is done before the next command of ours, and at the end of the
//! turn at the latest ([`settle`]): while the server walks its keys (it expires
//! some, it has lost a slot) no other key may be removed under it; and what is
//! replicated within the event of an arrival would go before the arrival.
//!
//! The server does not say whether a key is deleted or sent elsewhere (MIGRATE),
//! nor of what a key is a copy. That is read off the commands, seen before they
//! run; of a transaction's, when they are queued.

use std::collections::{HashMap, VecDeque};
use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

use cacheflow_core::companions::{self, Companions, Event, Remove, There};
use cacheflow_core::entry::Meta;
use cacheflow_core::index::{Db, Verdict};
use cacheflow_core::slot;
use cacheflow_core::units::Millis;
use lazy_static::lazy_static;

use crate::border::cross;
use crate::directives::{key_of_companion, TOMBSTONE_TTL};
use crate::ffi::args::Str;
use crate::ffi::ctx::{Ctx, Level};
use crate::ffi::events::subscribe_to_keys;
use crate::ffi::filter::{self, Command};
use crate::ffi::key::Key;
use crate::ffi::{raw, timer};
use crate::hooks;
use crate::natives;
use crate::natives_walk;
use crate::shard;
use crate::slots;
use crate::state::{self, steady, MainThread};
use crate::stored::Stored;

/// What was heard of and is yet to be done.
enum Note {
    KeyWent,
    KeySent,
    CompanionWent,
    CompanionSent(Vec<Vec<u8>>),
    KeyCame,
    CompanionCame {
        dead: bool,
    },
    /// Under this name, which is no key's then, lies what must not.
    Astray,
}

#[derive(Default)]
struct Told {
    notes: Vec<(Db, Vec<u8>, Note)>,
    companions: Companions,
    /// The key that RENAME or MOVE takes away, until it says where to.
    passing: Option<(Db, Vec<u8>)>,
    /// What COPY was asked for, the newest last: to, from, and whether it named a
    /// database.
    copies: VecDeque<(Vec<u8>, Vec<u8>, bool)>,
}

lazy_static! {
    static ref TOLD: MainThread<Told> = MainThread::new(Told::default());
}

static NOTED: AtomicBool = AtomicBool::new(false);
static ARMED: AtomicBool = AtomicBool::new(false);
/// The cron has come, and the walks with it: what is noted arms the timer in any turn.
static TICKED: AtomicBool = AtomicBool::new(false);
/// The command that is being run, as far as it matters.
static RUNNING: AtomicU8 = AtomicU8::new(OTHER);
const OTHER: u8 = 0;
const MIGRATE: u8 = 1;
const COPY: u8 = 2;

/// COPYs remembered: of those that a transaction queues.
const MOST_COPIES: usize = 1024;
/// When it is looked again, in milliseconds, whether a pause is over.
const PAUSE: i64 = 10;

/// A companion is being made: with the first comes everything that is listened to.
#[inline]
pub fn on_companion() {
    static LISTENS: AtomicBool = AtomicBool::new(false);
    if !LISTENS.swap(true, Relaxed) {
        listen();
    }
}

#[cold]
fn listen() {
    let ctx = hooks::own();
    let classes = (raw::REDISMODULE_NOTIFY_EXPIRED | raw::REDISMODULE_NOTIFY_EVICTED) as c_int;
    let done = subscribe_to_keys(ctx, classes, on_end).and_then(|()| filter::watch(ctx, on_command));
    if let Err(why) = done {
        ctx.log(Level::Warning, why);
    }
}

// ── commands ────────────────────────────────────────────────────────────────

unsafe extern "C" fn on_command(filter: *mut raw::RedisModuleCommandFilterCtx) {
    cross("command", (), || {
        // SAFETY: what the server passed.
        let command = unsafe { Command::new(filter) };
        let name = command.arg(0).unwrap_or_default();
        RUNNING.store(OTHER, Relaxed);
        if name.len() == 7 && name.eq_ignore_ascii_case(b"MIGRATE") {
            RUNNING.store(MIGRATE, Relaxed);
        } else if name.len() == 4 && name.eq_ignore_ascii_case(b"COPY") {
            RUNNING.store(COPY, Relaxed);
            note_copy(command);
        }
    });
}

fn note_copy(command: Command) {
    let (Some(from), Some(to)) = (command.arg(1), command.arg(2)) else { return };
    let elsewhere = command.arg(3).is_some_and(|word| word.eq_ignore_ascii_case(b"DB"))
        || command.arg(4).is_some_and(|word| word.eq_ignore_ascii_case(b"DB"));
    TOLD.with(|told| {
        if told.copies.len() == MOST_COPIES {
            told.copies.pop_front();
        }
        told.copies.push_back((to.to_vec(), from.to_vec(), elsewhere));
    });
}

// ── events ──────────────────────────────────────────────────────────────────

unsafe extern "C" fn on_end(
    ctx: *mut raw::RedisModuleCtx,
    _: c_int,
    event: *const c_char,
    key: *mut raw::RedisModuleString,
) -> c_int {
    cross("native_end_event", (), || {
        // SAFETY: what the server passed.
        let (ctx, event, name) = unsafe { (Ctx::new(ctx), CStr::from_ptr(event), Str::new(key)) };
        told(ctx, event.to_bytes(), name);
    });
    raw::REDISMODULE_OK as c_int
}

/// The server tells of a key. Those of others than companions and keys that have one
/// are passed by.
#[inline]
pub fn told(ctx: Ctx, event: &[u8], name: Str<'_>) {
    if natives::is_any() || !is_quiet() {
        take_in(ctx, event, name);
    }
}

fn take_in(ctx: Ctx, event: &[u8], name: Str<'_>) {
    if natives::removes() || natives::follows(ctx) {
        return;
    }
    let (db, key) = (ctx.database(), name.bytes());
    if key_of_companion(key).is_some() {
        // `unlink2` has noted why it is heard of.
        if matches!(event, b"del" | b"evicted" | b"rename_from" | b"move_from") {
            settle_if_safe(ctx);
        }
        return;
    }
    match event {
        // Most keys have none, nobody waits for them, and none has left them in this turn.
        b"del" | b"evicted" if is_quiet() && !natives::has_companion(db, key) && !NOTED.load(Relaxed) => {}
        b"del" | b"evicted" => {
            note(db, key, Note::KeyWent);
            settle_if_safe(ctx);
        }
        // Not even looked: that may expire a companion, under the server's walk.
        b"expired" => note(db, key, Note::KeyWent),
        b"rename_from" | b"move_from" => TOLD.with(|told| told.passing = Some((db, key.to_vec()))),
        // As of entries: the key knows its own database.
        b"rename_to" | b"move_to" => passed(Key::look(ctx, name).database(), key),
        b"copy_to" => copied(Key::look(ctx, name).database(), key),
        b"restore" => note(db, key, Note::KeyCame),
        _ => {}
    }
}

/// RENAME or MOVE has brought a key here: its companion comes along, and that of
/// what was here goes.
fn passed(db: Db, to: &[u8]) {
    let Some((from_db, from)) = TOLD.with(|told| told.passing.take()) else { return };
    let Some(ctx) = natives::context(from_db) else { return };
    let carried = natives::look(ctx, &from);
    natives::happened(ctx, &from, Event::KeyWent, natives::there(ctx, &from));
    give(db, to, carried);
}

/// A key has been copied here: so is its companion.
fn copied(db: Db, to: &[u8]) {
    let of = |(of, _, _): &&(Vec<u8>, Vec<u8>, bool)| of == to;
    let copy = TOLD.with(|told| told.copies.iter().rev().find(of).cloned());
    if RUNNING.load(Relaxed) == COPY {
        // Not a transaction's: it need not be remembered.
        TOLD.with(|told| told.copies.pop_back());
    }
    let Some((_, from, elsewhere)) = copy else { return give(db, to, None) };
    let databases = if elsewhere { 0..shard::with(|index| index.extent()) } else { db..db + 1 };
    // Not what it replaced.
    let databases = databases.filter(|&of| of != db || from != to);
    let found = databases.filter_map(|db| natives::look(natives::context(db)?, &from));
    // Which database it was is not told. Where keys of that name are tagged in
    // several, the copy has the tags of all.
    let carried = found.reduce(|(meta, mut tags), (_, more)| {
        tags.extend(more);
        tags.sort();
        tags.dedup();
        (meta, tags)
    });
    give(db, to, carried);
}

/// Gives a key that has just come the tags that it had elsewhere, and no others.
fn give(db: Db, to: &[u8], carried: Option<(Meta, Vec<Vec<u8>>)>) {
    let Some(ctx) = natives::context(db) else { return };
    happened(db, to, Event::KeyWent, There::default());
    // That is done with, and does not say whose a companion is that goes later in this turn.
    TOLD.with(|told| {
        told.notes.retain(|note| note.0 != db || note.1 != to || !matches!(note.2, Note::KeyWent))
    });
    let native = natives::there(ctx, to).key;
    let (_, tags) = carried.filter(|_| native).unwrap_or_default();
    // Born anew, as an entry that is moved: it was valid just now, and what was
    // invalidated here before does not touch it.
    let at = state::moment();
    let meta = Meta { born: at.stamp, written: at.now, ..Meta::default() };
    let tags: Vec<&[u8]> = tags.iter().map(Vec::as_slice).collect();
    if natives::set_tags(ctx, to, &meta, &tags).is_err() {
        // No memory: untagged it could outlive an invalidation.
        natives::remove(ctx, to, Remove::BOTH);
    }
}

/// A companion leaves its key, by whatever way: from within `unlink2`, so that
/// nothing is looked at.
pub fn companion_left(db: Db, entry: Stored) {
    let is_dead = || shard::verdict_of_held(db, entry) != Verdict::Untouched;
    if natives::removes() || natives::follows(Ctx::none()) || is_dead() {
        return;
    }
    let sent = RUNNING.load(Relaxed) == MIGRATE;
    let note_it = if sent { Note::CompanionSent(shard::tag_names(entry)) } else { Note::CompanionWent };
    note(db, entry.view().name(), note_it);
}

/// A companion was brought by another than us.
pub fn companion_came(db: Db, key: &[u8], dead: bool) {
    note(db, key, Note::CompanionCame { dead });
}

/// Under this name lies what must not.
pub fn astray(db: Db, name: &[u8]) {
    note(db, name, Note::Astray);
}

// ── what was noted ──────────────────────────────────────────────────────────

fn note(db: Db, key: &[u8], what: Note) {
    let what = match what {
        Note::KeyWent if RUNNING.load(Relaxed) == MIGRATE => Note::KeySent,
        other => other,
    };
    TOLD.with(|told| told.notes.push((db, key.to_vec(), what)));
    NOTED.store(true, Relaxed);
    arm(0);
}

fn arm(milliseconds: i64) {
    if !ARMED.swap(true, Relaxed) {
        timer::start(hooks::own(), milliseconds, on_timer);
    }
}

unsafe extern "C" fn on_timer(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    ARMED.store(false, Relaxed);
    // A panic leaves the rest to the next.
    cross("natives", (), || {
        // SAFETY: what the server passed.
        let ctx = unsafe { Ctx::new(ctx) };
        if ctx.is_paused() {
            return arm(PAUSE);
        }
        settle();
        let follows = natives::follows(ctx);
        if !follows {
            end_waits();
        }
        if TICKED.swap(false, Relaxed) {
            natives_walk::warm(ctx);
            if !follows {
                natives_walk::walk();
            }
        }
    });
}

/// In a cluster the server may just be walking the keys of a slot that it has lost:
/// so it tells of each.
fn settle_if_safe(ctx: Ctx) {
    if !ctx.is_cluster() {
        settle();
    }
}

/// Does what was noted. From where any key may be removed.
#[inline]
pub fn settle() {
    if NOTED.load(Relaxed) {
        settle_noted();
    }
}

#[cold]
fn settle_noted() {
    if Ctx::none().is_paused() {
        return arm(PAUSE);
    }
    NOTED.store(false, Relaxed);
    let notes = TOLD.with(|told| std::mem::take(&mut told.notes));
    if natives::follows(Ctx::none()) {
        return;
    }
    let last = |is: fn(&Note) -> bool| -> HashMap<(Db, &[u8]), usize> {
        let those = notes.iter().enumerate().filter(|(_, note)| is(&note.2));
        those.map(|(at, (db, key, _))| ((*db, key.as_slice()), at)).collect()
    };
    let brought = last(|note| matches!(note, Note::CompanionCame { .. }));
    let any_left = notes.iter().any(|note| matches!(note.2, Note::CompanionWent));
    let ended = if any_left { last(|note| matches!(note, Note::KeyWent)) } else { HashMap::new() };
    // Of a slot that is on its way here its owner says what goes.
    let own = if any_left { slots::of_shard(hooks::own()) } else { None };
    for (at, (db, key, what)) in notes.iter().enumerate() {
        let Some(ctx) = natives::context(*db) else { continue };
        let of = |those: &HashMap<(Db, &[u8]), usize>| those.get(&(*db, key.as_slice())).copied();
        let (came, went) = (of(&brought), of(&ended));
        // The key went too: who is there now is another, who does not go with this companion.
        let is_of_another = went.is_some_and(|went| came.is_none_or(|came| came < went || came > at));
        let is_of_others = own.as_ref().is_some_and(|own| !own.has(slot::of(key)));
        let mut there = natives::there(ctx, key);
        if matches!(what, Note::KeyWent | Note::KeySent | Note::KeyCame) {
            // A companion that came later in the turn is not that of the key that went, nor,
            // where the key came first, another's that the key finds.
            there.companion &= came.is_none_or(|came| came < at);
        }
        let event = match what {
            Note::KeyWent => Event::KeyWent,
            Note::KeySent => Event::KeySent,
            Note::CompanionWent if is_of_another || is_of_others => continue,
            Note::CompanionWent => Event::CompanionWent,
            Note::CompanionSent(tags) => Event::CompanionSent(tags),
            Note::KeyCame => Event::KeyCame,
            Note::CompanionCame { dead } => Event::CompanionCame { dead: *dead },
            Note::Astray => {
                natives::remove_astray(ctx, key);
                continue;
            }
        };
        natives::happened(ctx, key, event, there);
    }
}

// ── those who wait for each other ───────────────────────────────────────────

/// Whether nobody waits for anybody.
#[inline]
pub fn is_quiet() -> bool {
    TOLD.with(|told| told.companions.is_empty())
}

/// Tells the core what happened; answers who is to be removed.
pub fn happened(db: Db, key: &[u8], event: Event<'_>, there: There) -> Remove {
    let ttl = Millis(TOMBSTONE_TTL.get().unsigned_abs());
    TOLD.with(|told| told.companions.happened(db, key, event, there, companions::wait(ttl, steady())))
}

/// See [`Companions::left_behind`].
pub fn left_behind(db: Db, tags: &[&[u8]]) -> Vec<Vec<u8>> {
    if is_quiet() {
        return Vec::new();
    }
    TOLD.with(|told| told.companions.left_behind(db, tags))
}

/// Whether a companion waits for its key.
pub fn waits(db: Db, key: &[u8]) -> bool {
    TOLD.with(|told| told.companions.waits(db, key))
}

/// Whether a companion waits to be sent where its key is.
pub fn is_to_be_sent(db: Db, key: &[u8]) -> bool {
    !is_quiet() && TOLD.with(|told| told.companions.is_to_be_sent(db, key))
}

/// Whether a key's companion is on another server already.
pub fn is_left_behind(db: Db, key: &[u8]) -> bool {
    !is_quiet() && TOLD.with(|told| told.companions.is_left_behind(db, key))
}

fn end_waits() {
    while let Some((db, key)) = TOLD.with(|told| told.companions.next_due(steady())) {
        let there = natives::context(db).map(|ctx| natives::there(ctx, &key)).unwrap_or_default();
        let what = TOLD.with(|told| told.companions.end(db, &key, there));
        if let Some(ctx) = natives::context(db) {
            natives::remove(ctx, &key, what);
        }
    }
}

/// A tick of the cron.
pub fn tick() {
    if natives::is_any() || !is_quiet() {
        TICKED.store(true, Relaxed);
        arm(0);
    }
}

/// A database was emptied, or all were.
pub fn flushed(db: Option<Db>) {
    TOLD.with(|told| {
        told.notes.retain(|(of, ..)| db.is_some_and(|db| db != *of));
        told.companions.flushed(db);
    });
}

/// Two databases were exchanged.
pub fn swapped(one: Db, other: Db) {
    TOLD.with(|told| {
        for (db, ..) in &mut told.notes {
            *db = match *db {
                db if db == one => other,
                db if db == other => one,
                db => db,
            };
        }
        told.companions.swapped(one, other);
    });
}

/// Bytes allocated.
pub fn allocated() -> usize {
    TOLD.with(|told| told.companions.allocated())
}
