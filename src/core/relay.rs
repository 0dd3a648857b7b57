//! Invalidations on their way to the other primaries of a cluster: who has
//! acknowledged which, what is sent again when, and what the caller is told.
//!
//! # What must hold
//! - A caller is told "all" only when every primary there is has acknowledged,
//!   and exactly once is told anything.
//! - What a primary has not acknowledged is sent to it again until it does or
//!   is none any more.
//! - Whoever becomes a primary, or has started anew, is sent what was begun in
//!   the last [`REMEMBERED`], acknowledged or not: a replica that was promoted
//!   may not have had it from its primary, and a file that was loaded may be
//!   older. Doing it twice does no harm. This node itself is no exception: what
//!   it was asked for as a replica it has to do once it is promoted, and nobody
//!   is told "all" before.
//! - Memory is bounded: past [`Limits`] the oldest that are acknowledged are
//!   forgotten first, and then nothing more is taken.
//!
//! Not here: messages (`bus`), the network, who is a primary.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::units::{block, Millis, Time};

/// A node's name.
pub type Node = [u8; 40];
/// An invalidation's number.
pub type Number = u64;

/// How long what was begun is kept for those who become primaries: twice what
/// a failover takes with the default `cluster-node-timeout` of 15 s.
pub const REMEMBERED: Millis = Millis(30_000);
/// When something is first sent again; the time doubles.
const AGAIN: u64 = 100;
/// The longest time between two sendings.
const AGAIN_AT_MOST: u64 = 2_000;

/// What is kept at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Invalidations.
    pub count: usize,
    /// Bytes that they take.
    pub bytes: usize,
}

/// What this node itself has to do with an invalidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// It is no primary: it counts for nothing.
    No,
    /// It has done it, with so many hits.
    Done(u64),
    /// The same, but its replicas have to have it first ([`Relay::own_done`]).
    Awaited(u64),
    /// It has become a primary since, and has to do it ([`Relay::own_due`]); what
    /// it hit when it was one before.
    Due(u64),
}

/// What the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everybody has done it; what it hit.
    All(u64),
    /// Not everybody has.
    Partial {
        /// Primaries that have.
        done: usize,
        /// Primaries that there are.
        of: usize,
    },
}

/// Something became known about an invalidation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Which.
    pub number: Number,
    /// What.
    pub outcome: Outcome,
    /// Its message.
    pub message: Rc<[u8]>,
    /// The caller waits for this.
    pub waits: bool,
    /// It is the first that became known: nobody was told before.
    pub first: bool,
}

#[derive(Debug)]
struct Call {
    message: Rc<[u8]>,
    /// All primaries are to have it, not this node alone.
    everywhere: bool,
    began: Time,
    /// Primaries that have not acknowledged, this node included.
    left: usize,
    own: Own,
    hits: u64,
    waits: bool,
    deadline: Option<Time>,
    /// The outcome was told, if only a partial one.
    told: bool,
}

/// What another primary has not acknowledged.
#[derive(Debug, Default)]
struct Peer {
    pending: BTreeMap<Number, Sent>,
    due: BTreeSet<(Time, Number)>,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    due: Time,
    wait: u64,
}

impl Peer {
    fn add(&mut self, number: Number, now: Time) -> bool {
        let added = self.pending.insert(number, Sent { due: now, wait: AGAIN });
        if let Some(before) = added {
            self.due.remove(&(before.due, number));
        }
        self.due.insert((now, number));
        added.is_none()
    }

    fn remove(&mut self, number: Number) -> bool {
        let Some(sent) = self.pending.remove(&number) else { return false };
        self.due.remove(&(sent.due, number));
        true
    }
}

/// Bytes that one takes, its places in the tables included.
fn size_of_call(message: &[u8]) -> usize {
    block(message.len() + 2 * size_of::<usize>()) + 2 * size_of::<Call>()
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Primaries beside this node.
    pub peers: usize,
    /// Kept.
    pub kept: usize,
    /// Of those, not acknowledged by all.
    pub incomplete: usize,
    /// Bytes that they take.
    pub bytes: usize,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Relay {
    calls: BTreeMap<Number, Call>,
    /// Those that are complete; the lowest number is the oldest.
    complete: BTreeSet<Number>,
    peers: BTreeMap<Node, Peer>,
    deadlines: BTreeSet<(Time, Number)>,
    bytes: usize,
    last: Number,
}

impl Relay {
    /// A number for the next invalidation.
    pub fn number(&mut self) -> Number {
        self.last += 1;
        self.last
    }

    /// Who the primaries are, this node aside. What is no primary any more is
    /// waited for no longer; who is new is sent what is remembered.
    pub fn primaries(&mut self, now: Time, nodes: &BTreeSet<Node>) -> Vec<Told> {
        // First who comes: one that takes the place of another must have had
        // what that one had not.
        for node in nodes {
            if !self.peers.contains_key(node) {
                self.peers.insert(*node, Peer::default());
                self.send_all(node, now);
            }
        }
        let mut told = Vec::new();
        let gone: Vec<Node> = self.peers.keys().filter(|node| !nodes.contains(*node)).copied().collect();
        for node in gone {
            let Some(peer) = self.peers.remove(&node) else { continue };
            for number in peer.pending.into_keys() {
                told.extend(self.one_less(number, 0));
            }
        }
        told
    }

    /// A node has started anew: what it acknowledged it may have lost.
    pub fn restarted(&mut self, node: &Node, now: Time) {
        self.send_all(node, now);
    }

    fn send_all(&mut self, node: &Node, now: Time) {
        self.expire(now);
        let Some(peer) = self.peers.get_mut(node) else { return };
        for (number, call) in self.calls.iter_mut().filter(|(_, call)| call.everywhere) {
            // What was told stays told: this is for the node's sake.
            call.left += usize::from(peer.add(*number, now));
        }
        let calls = &self.calls;
        self.complete.retain(|number| calls.get(number).is_some_and(|call| call.left == 0));
    }

    /// An invalidation begins: with `everywhere` it is due to all primaries
    /// ([`Relay::due`]). `None` where there is no room, with nothing done.
    pub fn begin(
        &mut self,
        now: Time,
        number: Number,
        message: Rc<[u8]>,
        own: Own,
        everywhere: bool,
        limits: Limits,
    ) -> Option<Option<Told>> {
        let (count, bytes) = (self.calls.len() + 1, self.bytes + size_of_call(&message));
        if !self.make_room(count.saturating_sub(limits.count), bytes.saturating_sub(limits.bytes)) {
            return None;
        }
        self.bytes += size_of_call(&message);
        let hits = match own {
            Own::Done(hits) | Own::Awaited(hits) => hits,
            Own::No | Own::Due(_) => 0,
        };
        // One for the call itself, until everybody is counted.
        let call = Call {
            message,
            everywhere,
            began: now,
            left: 1 + usize::from(matches!(own, Own::Awaited(_))),
            own,
            hits,
            waits: false,
            deadline: None,
            told: false,
        };
        let call = self.calls.entry(number).or_insert(call);
        for peer in self.peers.values_mut().filter(|_| everywhere) {
            peer.add(number, now);
            call.left += 1;
        }
        Some(self.one_less(number, 0))
    }

    /// Gives up so many that are complete, and so many bytes of them; false
    /// where there are not enough.
    fn make_room(&mut self, mut count: usize, mut bytes: usize) -> bool {
        while count > 0 || bytes > 0 {
            let Some(number) = self.complete.pop_first() else { return false };
            count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(self.remove(number));
        }
        true
    }

    /// Forgets one; answers its bytes.
    fn remove(&mut self, number: Number) -> usize {
        let bytes = self.calls.remove(&number).map_or(0, |call| size_of_call(&call.message));
        self.bytes -= bytes;
        bytes
    }

    /// The caller of an invalidation waits for it, at most so long; `None`:
    /// without an end.
    pub fn wait(&mut self, number: Number, now: Time, timeout: Option<Millis>) {
        let Some(call) = self.calls.get_mut(&number) else { return };
        call.waits = true;
        call.deadline = timeout.and_then(|timeout| now.after(timeout));
        if let Some(deadline) = call.deadline {
            self.deadlines.insert((deadline, number));
        }
    }

    /// The caller waits no longer: it has gone, or its time was cut short. What
    /// it may be told.
    pub fn leave(&mut self, number: Number) -> Option<Outcome> {
        let outcome = self.partial(number)?;
        let call = self.calls.get_mut(&number)?;
        call.waits = false;
        if let Some(deadline) = call.deadline.take() {
            self.deadlines.remove(&(deadline, number));
        }
        Some(outcome)
    }

    /// What can be said of one that is not complete.
    pub fn partial(&self, number: Number) -> Option<Outcome> {
        let call = self.calls.get(&number)?;
        let others = if call.everywhere { self.peers.len() } else { 0 };
        let of = others + usize::from(call.own != Own::No);
        Some(Outcome::Partial { done: of.saturating_sub(call.left), of })
    }

    /// Those whose caller has waited long enough.
    pub fn timed_out(&mut self, now: Time) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(&(deadline, number)) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now)
        {
            self.deadlines.remove(&(deadline, number));
            let Some(outcome) = self.partial(number) else { continue };
            let Some(call) = self.calls.get_mut(&number) else { continue };
            let (message, waits, first) = (call.message.clone(), call.waits, !call.told);
            (call.deadline, call.waits, call.told) = (None, false, true);
            told.push(Told { number, outcome, message, waits, first });
        }
        told
    }

    /// The caller is told what is known without having waited for all of it;
    /// the message, if nobody was told anything before.
    pub fn told(&mut self, number: Number) -> Option<Rc<[u8]>> {
        let call = self.calls.get_mut(&number)?;
        let first = !std::mem::replace(&mut call.told, true);
        first.then(|| call.message.clone())
    }

    /// A node has acknowledged.
    pub fn done(&mut self, node: &Node, number: Number, hits: u64) -> Option<Told> {
        let pending = self.peers.get_mut(node).is_some_and(|peer| peer.remove(number));
        pending.then(|| self.one_less(number, hits)).flatten()
    }

    /// This node's replicas have it.
    pub fn own_done(&mut self, number: Number) -> Option<Told> {
        let call = self.calls.get_mut(&number)?;
        let Own::Awaited(hits) = call.own else { return None };
        call.own = Own::Done(hits);
        self.one_less(number, 0)
    }

    /// This node has become a primary: it may not have had from its old one what
    /// it was asked for itself, and has to do all that is remembered.
    pub fn promoted(&mut self, now: Time) {
        self.expire(now);
        for (number, call) in self.calls.iter_mut().filter(|(_, call)| call.everywhere) {
            let before = match call.own {
                Own::Awaited(_) | Own::Due(_) => continue,
                Own::No => 0,
                Own::Done(hits) => hits,
            };
            call.own = Own::Due(before);
            call.left += 1;
            self.complete.remove(number);
        }
    }

    /// What this node has to do since it was promoted.
    pub fn own_due(&self) -> Vec<(Number, Rc<[u8]>)> {
        let due = self.calls.iter().filter(|(_, call)| matches!(call.own, Own::Due(_)));
        due.map(|(number, call)| (*number, call.message.clone())).collect()
    }

    /// It has done it, with so many hits; `awaits`: its replicas have to have it
    /// first ([`Relay::own_done`]).
    pub fn own_did(&mut self, number: Number, hits: u64, awaits: bool) -> Option<Told> {
        let call = self.calls.get_mut(&number)?;
        let Own::Due(before) = call.own else { return None };
        call.hits += hits.saturating_sub(before);
        if awaits {
            call.own = Own::Awaited(hits);
            return None;
        }
        call.own = Own::Done(hits);
        self.one_less(number, 0)
    }

    /// This node is a primary no longer: what it waited for with its replicas,
    /// or had to do, is its new primary's affair.
    pub fn demoted(&mut self) -> Vec<Told> {
        let awaited = |call: &Call| matches!(call.own, Own::Awaited(_) | Own::Due(_));
        let numbers: Vec<Number> =
            self.calls.iter().filter(|(_, call)| awaited(call)).map(|(number, _)| *number).collect();
        let mut told = Vec::new();
        for number in numbers {
            if let Some(call) = self.calls.get_mut(&number) {
                call.own = Own::No;
            }
            told.extend(self.one_less(number, 0));
        }
        told
    }

    /// A node could not do it just now.
    pub fn not_done(&mut self, node: &Node, number: Number, now: Time) {
        let Some(peer) = self.peers.get_mut(node) else { return };
        let Some(sent) = peer.pending.get_mut(&number) else { return };
        let due = Time(now.0 + AGAIN / 4);
        peer.due.remove(&(sent.due, number));
        peer.due.insert((due, number));
        sent.due = due;
    }

    fn one_less(&mut self, number: Number, hits: u64) -> Option<Told> {
        let call = self.calls.get_mut(&number)?;
        call.left -= 1;
        call.hits += hits;
        if call.left > 0 {
            return None;
        }
        let everywhere = call.everywhere;
        if let Some(deadline) = call.deadline.take() {
            self.deadlines.remove(&(deadline, number));
        }
        let (waits, first) = (std::mem::take(&mut call.waits), !std::mem::replace(&mut call.told, true));
        let (outcome, message) = (Outcome::All(call.hits), call.message.clone());
        if everywhere {
            self.complete.insert(number);
        } else {
            // Nobody else is ever sent it.
            self.remove(number);
        }
        Some(Told { number, outcome, message, waits, first })
    }

    /// What is to be sent now, `most` to each node; it is due again later.
    pub fn due(&mut self, now: Time, most: usize) -> Vec<(Node, Rc<[u8]>)> {
        let mut out = Vec::new();
        for (node, peer) in &mut self.peers {
            for _ in 0..most {
                let Some(&(due, number)) = peer.due.first().filter(|(due, _)| *due <= now) else { break };
                peer.due.remove(&(due, number));
                let Some(sent) = peer.pending.get_mut(&number) else { continue };
                sent.due = Time(now.0 + sent.wait);
                sent.wait = (sent.wait * 2).min(AGAIN_AT_MOST);
                peer.due.insert((sent.due, number));
                if let Some(call) = self.calls.get(&number) {
                    out.push((*node, call.message.clone()));
                }
            }
        }
        out
    }

    /// Forgets what is complete and old.
    pub fn expire(&mut self, now: Time) {
        while let Some(&number) = self.complete.first() {
            let young = |call: &Call| now.since(call.began) < REMEMBERED;
            if self.calls.get(&number).is_some_and(young) {
                return;
            }
            self.make_room(1, 0);
        }
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        Counts {
            peers: self.peers.len(),
            kept: self.calls.len(),
            incomplete: self.calls.len() - self.complete.len(),
            bytes: self.bytes,
        }
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
