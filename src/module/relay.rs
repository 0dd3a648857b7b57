//! Invalidations on their way through the cluster.
//!
//! ```text
//! CACHE.INVALIDATE ─► done here, replicated ─► Relay ─ due ─► bus ─► other primaries
//!   the client is held  ◄── all, or time is up ── done ◄── bus ◄── done there, replicated
//! ```
//! What is decided is `cacheflow_core::relay`'s: whom it still has to reach,
//! what is sent again, what the caller is told. Here are the server's side of
//! it: the nodes, the bus, one timer.
//!
//! A timer comes every [`TICK`] while somebody has not acknowledged, and every
//! [`WATCH`] while invalidations are remembered: that is when a replica that was
//! promoted is noticed, which is sent them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::raw::{c_char, c_void};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cacheflow_core::acknowledged::{offset_of, Acknowledged};
use cacheflow_core::bus::{self, BusError, Id, Invalidation, Message};
use cacheflow_core::relay::{Counts, Limits, Node, Number, Outcome, Own, Relay, Told};
use cacheflow_core::relay_seen::Seen;
use cacheflow_core::topology;
use cacheflow_core::units::{Millis, Time};
use lazy_static::lazy_static;

use crate::border::cross;
use crate::directives::{INVALIDATE_MIN_REPLICAS, MAX_WAITERS};
use crate::ffi::ctx::{Ctx, Level, Reply};
use crate::ffi::owned::Owned;
use crate::ffi::{links, nodes, raw, timer};
use crate::invalidation::{self, Kind};
use crate::relay_clients as clients;
use crate::state::{self, Counter, MainThread};

/// The kind of our messages among the module's.
const KIND: u8 = 1;
/// How much is on its way at most.
const LIMITS: Limits = Limits { count: 100_000, bytes: 32 << 20 };
/// Messages to one node in a tick.
const BATCH: usize = 256;

pub const TICK: i64 = 10;
pub const WATCH: i64 = 100;
/// How often the replicas' offsets are looked at.
const ROUND: i64 = 2;
/// How often the others are told that this node has started, and how long.
const ANNOUNCE: i64 = 200;
const ANNOUNCED_FOR: Millis = Millis(60_000);
/// How long one that could not do something counts only if it has slots: what
/// gossip takes to tell of a demotion, and more.
const DOUBTED_FOR: Millis = Millis(30_000);
/// How often it is looked where the links go.
const LINKS: i64 = 1000;

/// What waits for this node's replicas.
enum Awaited {
    /// An invalidation of a caller here.
    Own(Number),
    /// One that another node has sent, and what it hit.
    Sent(Node, Id, u64),
}

#[derive(Default)]
struct Others {
    /// What they have sent already.
    seen: Seen,
    /// Who knows that this node has started.
    welcomed: BTreeSet<Node>,
    /// Who could not do something, and when: it may have been demoted, and be
    /// a primary for us still; it counts while it has slots.
    unable: BTreeMap<Node, Time>,
    /// When a complaint was last written into the log.
    complained: Option<Time>,
}

lazy_static! {
    pub static ref RELAY: MainThread<Relay> = MainThread::new(Relay::default());
    static ref OTHERS: MainThread<Others> = MainThread::new(Others::default());
    static ref AWAITED: MainThread<Acknowledged<Awaited>> = MainThread::new(Acknowledged::default());
    static ref INCARNATION: u64 = nodes::random();
    static ref STARTED: Time = state::steady();
}

static TICKS: AtomicBool = AtomicBool::new(false);
static ROUNDS: AtomicBool = AtomicBool::new(false);
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

/// How much is on its way.
pub fn counts() -> Counts {
    RELAY.with(|relay| relay.counts())
}

/// The primaries that have to acknowledge, this node aside.
fn primaries(ctx: Ctx) -> BTreeSet<Node> {
    let now = state::steady();
    let unable = OTHERS.with(|others| {
        others.unable.retain(|_, since| now.since(*since) < DOUBTED_FOR);
        others.unable.clone()
    });
    let nodes = nodes::all(ctx).into_iter().filter(|node| !node.is_self());
    let seen: Vec<topology::Seen> = nodes
        .map(|node| topology::Seen {
            node: node.name,
            primary: node.is_primary(),
            doubted: node.has_failed() || unable.contains_key(&node.name),
        })
        .collect();
    topology::primaries(&seen, || nodes_text(ctx)?.bytes().map(topology::owners))
}

fn nodes_text(ctx: Ctx) -> Option<Reply> {
    ctx.call(c"CLUSTER", None, Owned::new(b"NODES").get())
}

// ── a command's invalidation ────────────────────────────────────────────────

/// What came of it.
pub enum Begun {
    /// It is everywhere; what it hit.
    Done(u64),
    /// It is on its way, and the client is not held.
    Relayed(Outcome),
    /// The client is held until all is known.
    Held,
}

/// Relays what was done here, with so many hits (`None`: this node is a
/// replica, and does nothing of its own); with `everywhere` to all primaries.
pub fn begin(
    ctx: Ctx,
    it: &Invalidation<'_>,
    hits: Option<u64>,
    everywhere: bool,
    timeout: Option<Millis>,
) -> Begun {
    let now = state::steady();
    if everywhere {
        refresh(ctx, now);
    }
    let awaits_replicas = hits.is_some() && needed() > 0;
    let own = match hits {
        None => Own::No,
        Some(hits) if awaits_replicas => Own::Awaited(hits),
        Some(hits) => Own::Done(hits),
    };
    let number = RELAY.with(Relay::number);
    let id = Id { incarnation: *INCARNATION, number };
    let message: Rc<[u8]> = bus::encode(id, &Message::Invalidate(it.clone())).unwrap_or_default().into();
    match RELAY.with(|relay| relay.begin(now, number, message.clone(), own, everywhere, LIMITS)) {
        // No room: it is sent this once, and not again.
        None => {
            let others = if everywhere { primaries(ctx) } else { BTreeSet::new() };
            others.iter().for_each(|node| send(ctx, node, &message));
            publish(ctx, it);
            let done = usize::from(hits.is_some());
            Begun::Relayed(Outcome::Partial { done, of: done + others.len() })
        }
        Some(Some(told)) => {
            publish(ctx, it);
            arm(ctx, WATCH);
            match told.outcome {
                Outcome::All(hits) => Begun::Done(hits),
                partial => Begun::Relayed(partial),
            }
        }
        Some(None) => {
            if awaits_replicas {
                await_replicas(ctx, number);
            }
            pump(ctx, now);
            arm(ctx, TICK);
            let most = usize::try_from(MAX_WAITERS.get()).unwrap_or(0);
            if !ctx.may_block() || clients::count() >= most {
                if RELAY.with(|relay| relay.told(number)).is_some() {
                    publish(ctx, it);
                }
                return Begun::Relayed(partial(number));
            }
            RELAY.with(|relay| relay.wait(number, now, timeout));
            clients::hold(ctx, number);
            Begun::Held
        }
    }
}

fn partial(number: Number) -> Outcome {
    RELAY.with(|relay| relay.partial(number)).unwrap_or(Outcome::Partial { done: 0, of: 0 })
}

fn publish(ctx: Ctx, it: &Invalidation<'_>) {
    invalidation::publish(ctx, kind(it), it.mode, &it.names);
}

fn publish_message(ctx: Ctx, message: &[u8]) {
    if let Ok((_, Message::Invalidate(it))) = bus::decode(message) {
        publish(ctx, &it);
    }
}

/// Tags or namespaces.
pub fn kind(it: &Invalidation<'_>) -> Kind {
    if it.namespaces {
        Kind::Namespaces
    } else {
        Kind::Tags
    }
}

/// Tells whom it concerns what became known. The channels first, and once.
pub fn tell(ctx: Ctx, told: Vec<Told>) {
    for told in told {
        if told.first {
            publish_message(ctx, &told.message);
        }
        if told.waits {
            clients::answer(told.number, told.outcome);
        }
    }
}

/// The client of an invalidation has gone.
pub fn gone(number: Number) {
    RELAY.with(|relay| relay.leave(number));
}

/// The client of an invalidation is let go before its time: what it is told.
pub fn cut_short(ctx: Ctx, number: Number) -> Outcome {
    let (outcome, untold) = RELAY.with(|relay| (relay.leave(number), relay.told(number)));
    if let Some(message) = untold {
        publish_message(ctx, &message);
    }
    outcome.unwrap_or(Outcome::Partial { done: 0, of: 0 })
}

/// This node has become a replica.
pub fn demoted(ctx: Ctx) {
    AWAITED.with(Acknowledged::clear);
    let told = RELAY.with(Relay::demoted);
    tell(ctx, told);
}

// ── the timer ───────────────────────────────────────────────────────────────

fn arm(ctx: Ctx, milliseconds: i64) {
    if !TICKS.swap(true, Relaxed) {
        timer::start(ctx, milliseconds, on_tick);
    }
}

unsafe extern "C" fn on_tick(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    TICKS.store(false, Relaxed);
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    // After a panic it goes on: somebody may be waiting.
    if let Some(after) = cross("relay_tick", Some(WATCH), || tick(ctx)) {
        arm(ctx, after);
    }
}

/// When the next is due.
fn tick(ctx: Ctx) -> Option<i64> {
    let now = state::steady();
    if ctx.is_cluster() {
        refresh(ctx, now);
    }
    let told = RELAY.with(|relay| relay.timed_out(now));
    BUS.partial.add(told.len() as u64);
    tell(ctx, told);
    pump(ctx, now);
    let counts = RELAY.with(|relay| {
        relay.expire(now);
        relay.counts()
    });
    match counts {
        Counts { kept: 0, .. } => None,
        Counts { incomplete: 0, .. } => Some(WATCH),
        _ => Some(TICK),
    }
}

/// Looks who the primaries are.
fn refresh(ctx: Ctx, now: Time) {
    let nodes = primaries(ctx);
    let told = RELAY.with(|relay| relay.primaries(now, &nodes));
    tell(ctx, told);
}

/// Sends what is due.
fn pump(ctx: Ctx, now: Time) {
    for (node, message) in RELAY.with(|relay| relay.due(now, BATCH)) {
        send(ctx, &node, &message);
    }
}

fn send(ctx: Ctx, to: &Node, message: &[u8]) {
    BUS.sent.add(1);
    // Where there is no link it is sent again in its time.
    nodes::send(ctx, to, KIND, message);
}

fn say(ctx: Ctx, to: &Node, id: Id, message: &Message<'_>) {
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

// ── the replicas ────────────────────────────────────────────────────────────

/// How many replicas have to have an invalidation before it is acknowledged.
pub fn needed() -> usize {
    usize::try_from(INVALIDATE_MIN_REPLICAS.get()).unwrap_or(0)
}

/// What this node has done is acknowledged once its replicas have it.
pub fn await_replicas(ctx: Ctx, number: Number) {
    AWAITED.with(|awaited| awaited.push(Awaited::Own(number)));
    arm_rounds(ctx);
}

fn arm_rounds(ctx: Ctx) {
    if !ROUNDS.swap(true, Relaxed) {
        timer::start(ctx, ROUND, on_round);
    }
}

unsafe extern "C" fn on_round(ctx: *mut raw::RedisModuleCtx, _: *mut c_void) {
    ROUNDS.store(false, Relaxed);
    // SAFETY: what the server passed.
    let ctx = unsafe { Ctx::new(ctx) };
    cross("relay_round", (), || round(ctx));
    if !AWAITED.with(|awaited| awaited.is_empty()) {
        arm_rounds(ctx);
    }
}

fn round(ctx: Ctx) {
    let (Some(offset), lines) = ctx.replication() else { return };
    let replicas = lines.iter().filter_map(|line| offset_of(line)).collect();
    let round = AWAITED.with(|awaited| awaited.round(offset, replicas, needed()));
    if round.ask && !ctx.is_paused() {
        ctx.ask_replicas();
    }
    for item in round.ready {
        match item {
            Awaited::Own(number) => {
                let told = RELAY.with(|relay| relay.own_done(number));
                tell(ctx, told.into_iter().collect());
            }
            Awaited::Sent(node, id, hits) => {
                let stamp = state::last_stamp();
                say(ctx, &node, id, &Message::Done { hits, stamp });
            }
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
            tell(ctx, told.into_iter().collect());
        }
        Message::NotDone if own => {
            OTHERS.with(|others| others.unable.insert(*sender, now));
            RELAY.with(|relay| relay.not_done(sender, id.number, now));
        }
        Message::Started => {
            if OTHERS.with(|others| others.seen.is_anew(sender, id.incarnation)) {
                RELAY.with(|relay| relay.restarted(sender, now));
                pump(ctx, now);
                if counts().kept > 0 {
                    arm(ctx, TICK);
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
        let hits = if ctx.select(it.db) { invalidation::relayed(ctx, kind(it), it) } else { 0 };
        OTHERS.with(|others| others.seen.note(sender, id, hits));
        hits
    });
    if needed() > 0 {
        AWAITED.with(|awaited| awaited.push(Awaited::Sent(*sender, id, hits)));
        return arm_rounds(ctx);
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
