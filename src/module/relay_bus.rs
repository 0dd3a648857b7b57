//! The bus at work: messages from the other nodes and to them, and what is
//! known of those.

use std::collections::BTreeSet;
use std::os::raw::{c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cacheflow_core::bus::{self, BusError, Id, Invalidation, Message};
use cacheflow_core::relay::Node;
use cacheflow_core::relay_seen::Seen;
use cacheflow_core::topology::{self, Doubts};
use cacheflow_core::units::{Millis, Time};
use lazy_static::lazy_static;

use crate::border::cross;
use crate::ffi::ctx::{Ctx, Level, Reply};
use crate::ffi::owned::Owned;
use crate::ffi::{links, nodes, raw, timer};
use crate::invalidation;
use crate::relay::{self, RELAY, TICK};
use crate::relay_replicas as replicas;
use crate::state::{self, Counter, MainThread};

/// The kind of our messages among the module's.
const KIND: u8 = 1;
/// How often the others are told that this node has started, and how long.
const ANNOUNCE: i64 = 200;
const ANNOUNCED_FOR: Millis = Millis(60_000);
/// How often it is looked where the links go.
const LINKS: i64 = 1000;

#[derive(Default)]
struct Others {
    /// What they have sent already.
    seen: Seen,
    /// Who knows that this node has started.
    welcomed: BTreeSet<Node>,
    /// Who could not do something.
    doubts: Doubts,
    /// When a complaint was last written into the log.
    complained: Option<Time>,
}

lazy_static! {
    static ref OTHERS: MainThread<Others> = MainThread::new(Others::default());
    static ref INCARNATION: u64 = nodes::random();
    static ref STARTED: Time = state::steady();
}

/// `CACHE.DEBUG DEAF 1`: nothing that comes over the bus is heard.
pub static DEAF: AtomicBool = AtomicBool::new(false);

/// What is counted of the bus.
pub struct Bus {
    pub sent: Counter,
    pub received: Counter,
    pub refused: Counter,
    pub partial: Counter,
}

pub static BUS: Bus =
    Bus { sent: Counter::new(), received: Counter::new(), refused: Counter::new(), partial: Counter::new() };

/// Listens to the bus, and tells the others that this node has started.
pub fn register(ctx: Ctx) {
    if ctx.is_cluster() {
        nodes::listen(ctx, KIND, Some(on_message));
        lazy_static::initialize(&STARTED);
        links::look_after();
        timer::start(ctx, ANNOUNCE, on_watch);
    }
}

/// This process, as the others know it.
pub fn incarnation() -> u64 {
    *INCARNATION
}

/// The primaries that have to acknowledge, this node aside.
pub fn primaries(ctx: Ctx) -> BTreeSet<Node> {
    let now = state::steady();
    let doubts = OTHERS.with(|others| others.doubts.clone());
    let nodes = nodes::all(ctx).into_iter().filter(|node| !node.is_self());
    let seen: Vec<topology::Seen> = nodes
        .map(|node| topology::Seen {
            node: node.name,
            primary: node.is_primary(),
            doubted: node.has_failed() || doubts.are_about(&node.name, now),
        })
        .collect();
    topology::primaries(&seen, || nodes_text(ctx)?.bytes().map(topology::owners))
}

fn nodes_text(ctx: Ctx) -> Option<Reply> {
    ctx.call(c"CLUSTER", None, Owned::new(b"NODES").get())
}

/// Sends a message to a node.
pub fn send(ctx: Ctx, to: &Node, message: &[u8]) {
    BUS.sent.add(1);
    // Where there is no link it is sent again in its time.
    nodes::send(ctx, to, KIND, message);
}

/// The same, of one that is yet to be encoded.
pub fn say(ctx: Ctx, to: &Node, id: Id, message: &Message<'_>) {
    if let Some(bytes) = bus::encode(id, message) {
        send(ctx, to, &bytes);
    }
}

unsafe extern "C" fn on_watch(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    let has_just_started = state::steady().since(*STARTED) < ANNOUNCED_FOR;
    cross("relay_watch", (), || {
        if let Some(text) = nodes_text(ctx) {
            links::set_ports(text.bytes().map(topology::bus_ports).unwrap_or_default());
        }
        if has_just_started {
            announce(ctx);
        }
    });
    timer::start(ctx, if has_just_started { ANNOUNCE } else { LINKS }, on_watch);
}

fn announce(ctx: Ctx) {
    let id = Id { incarnation: *INCARNATION, number: 0 };
    for node in nodes::all(ctx) {
        if !node.is_self() && !OTHERS.with(|others| others.welcomed.contains(&node.name)) {
            say(ctx, &node.name, id, &Message::Started);
        }
    }
}

// ── messages ────────────────────────────────────────────────────────────────

unsafe extern "C" fn on_message(
    ctx: *mut raw::RedisModuleCtx,
    sender: *const c_char,
    _: u8,
    payload: *const u8,
    len: u32,
) {
    cross("bus", (), || {
        // SAFETY: what the server passed.
        let (ctx, (sender, bytes)) = unsafe { (Ctx::new(ctx), nodes::received(sender, payload, len)) };
        if !DEAF.load(Relaxed) {
            receive(ctx, &sender, bytes);
        }
    });
}

/// A message came from a node.
pub fn receive(ctx: Ctx, sender: &Node, bytes: &[u8]) {
    BUS.received.add(1);
    let (id, message) = match bus::decode(bytes) {
        Ok(message) => message,
        Err(why) => return refuse(ctx, sender, why),
    };
    let now = state::steady();
    let own = id.incarnation == *INCARNATION;
    match message {
        Message::Invalidate(it) => requested(ctx, sender, id, &it),
        Message::Done { hits, stamp } if own => {
            state::admit(stamp);
            let told = RELAY.with(|relay| relay.done(sender, id.number, hits));
            relay::tell(ctx, told.into_iter().collect());
        }
        Message::NotDone if own => {
            OTHERS.with(|others| others.doubts.note(*sender, now));
            RELAY.with(|relay| relay.not_done(sender, id.number, now));
        }
        Message::Started => {
            if OTHERS.with(|others| others.seen.is_anew(sender, id.incarnation)) {
                RELAY.with(|relay| relay.restarted(sender, now));
                relay::pump(ctx, now);
                if relay::counts().kept > 0 {
                    relay::arm(ctx, TICK);
                }
            }
            say(ctx, sender, id, &Message::Welcome);
        }
        Message::Welcome if own => {
            OTHERS.with(|others| others.welcomed.insert(*sender));
        }
        Message::Refused(version) if own => complain(ctx, sender, &other_version(version)),
        // Meant for the process that was here before.
        Message::Done { .. } | Message::NotDone | Message::Welcome | Message::Refused(_) => {}
    }
}

/// Another node's invalidation.
fn requested(ctx: Ctx, sender: &Node, id: Id, it: &Invalidation<'_>) {
    // While a file is loaded, or a failover waits for the replicas, nothing may
    // be written; a replica has it from its primary.
    if ctx.is_loading() || ctx.is_replica() || ctx.is_paused() {
        return say(ctx, sender, id, &Message::NotDone);
    }
    state::admit(it.stamp);
    let known = OTHERS.with(|others| others.seen.hits(sender, id));
    let hits = known.unwrap_or_else(|| {
        let hits = if ctx.select(it.db) { invalidation::relayed(ctx, relay::kind(it), it) } else { 0 };
        OTHERS.with(|others| others.seen.note(sender, id, hits));
        hits
    });
    if replicas::needed() > 0 {
        return replicas::await_sent(ctx, *sender, id, hits);
    }
    say(ctx, sender, id, &Message::Done { hits, stamp: state::last_stamp() });
}

fn other_version(version: u8) -> String {
    format!("it speaks version {version} of the bus, this one {}", bus::VERSION)
}

fn refuse(ctx: Ctx, sender: &Node, why: BusError) {
    BUS.refused.add(1);
    match why {
        BusError::Version { version, id } => {
            say(ctx, sender, id, &Message::Refused(bus::VERSION));
            complain(ctx, sender, &other_version(version));
        }
        other => complain(ctx, sender, &format!("{other:?}")),
    }
}

/// Into the log, once a minute.
fn complain(ctx: Ctx, sender: &Node, what: &str) {
    const A_MINUTE: Millis = Millis(60_000);
    let now = state::steady();
    let due = OTHERS.with(|others| {
        let due = others.complained.is_none_or(|last| now.since(last) >= A_MINUTE);
        if due {
            others.complained = Some(now);
        }
        due
    });
    if due {
        let sender = String::from_utf8_lossy(sender);
        ctx.log(Level::Warning, &format!("a message of node {sender} was refused: {what}"));
    }
}
