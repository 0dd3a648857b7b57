//! What came over the bus already, so that what is sent again is answered as
//! before and done once.
//!
//! Bounded: of each sender its last messages, of the senders the last. What is
//! not remembered is done again, which does no harm.

use std::collections::{BTreeMap, VecDeque};

use crate::bus::Id;
use crate::relay::Node;

/// Messages that are remembered of a sender.
const MESSAGES: usize = 4096;
/// Senders that are remembered.
const SENDERS: usize = 1024;

#[derive(Debug, Default)]
struct Sender {
    incarnation: u64,
    hits: BTreeMap<u64, u64>,
}

/// See the module's text.
#[derive(Debug, Default)]
pub struct Seen {
    senders: BTreeMap<Node, Sender>,
    order: VecDeque<Node>,
}

impl Seen {
    /// What a message hit, if it was done.
    pub fn hits(&self, node: &Node, id: Id) -> Option<u64> {
        let sender = self.senders.get(node).filter(|sender| sender.incarnation == id.incarnation)?;
        sender.hits.get(&id.number).copied()
    }

    /// A message was done, and hit so much.
    pub fn note(&mut self, node: &Node, id: Id, hits: u64) {
        if !self.senders.contains_key(node) {
            if self.order.len() >= SENDERS {
                if let Some(oldest) = self.order.pop_front() {
                    self.senders.remove(&oldest);
                }
            }
            self.order.push_back(*node);
        }
        let sender = self.senders.entry(*node).or_default();
        if sender.incarnation != id.incarnation {
            *sender = Sender { incarnation: id.incarnation, hits: BTreeMap::new() };
        }
        sender.hits.insert(id.number, hits);
        if sender.hits.len() > MESSAGES {
            sender.hits.pop_first();
        }
    }

    /// Whether a sender's process is another than the one that was known, or
    /// none was; takes note of it.
    pub fn is_anew(&mut self, node: &Node, incarnation: u64) -> bool {
        let known = self.senders.get(node).map(|sender| sender.incarnation);
        if known == Some(incarnation) {
            return false;
        }
        // As a message would be, but with no number that any has.
        self.note(node, Id { incarnation, number: 0 }, 0);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_last_of_each_sender() {
        let mut seen = Seen::default();
        let (one, other) = ([1; 40], [2; 40]);
        let id = |incarnation, number| Id { incarnation, number };
        for number in 1..=MESSAGES as u64 + 10 {
            seen.note(&one, id(7, number), number * 2);
        }
        assert_eq!(seen.hits(&one, id(7, MESSAGES as u64)), Some(2 * MESSAGES as u64));
        assert_eq!(seen.hits(&one, id(7, 3)), None, "too long ago");
        assert_eq!(seen.hits(&one, id(8, MESSAGES as u64)), None, "another process");
        assert_eq!(seen.hits(&other, id(7, MESSAGES as u64)), None);
        seen.note(&one, id(8, 1), 5);
        assert_eq!(seen.hits(&one, id(7, MESSAGES as u64)), None, "it has started anew");
        assert_eq!(seen.hits(&one, id(8, 1)), Some(5));
    }

    #[test]
    fn tells_who_started_anew() {
        let mut seen = Seen::default();
        assert!(seen.is_anew(&[1; 40], 7));
        assert!(!seen.is_anew(&[1; 40], 7));
        seen.note(&[1; 40], Id { incarnation: 7, number: 1 }, 4);
        assert!(!seen.is_anew(&[1; 40], 7));
        assert!(seen.is_anew(&[1; 40], 8));
        assert_eq!(seen.hits(&[1; 40], Id { incarnation: 7, number: 1 }), None);
    }

    #[test]
    fn is_bounded() {
        let mut seen = Seen::default();
        for i in 0..3000u32 {
            let mut node = [0; 40];
            node[..4].copy_from_slice(&i.to_be_bytes());
            seen.note(&node, Id { incarnation: 1, number: 1 }, 0);
        }
        assert_eq!(seen.senders.len(), SENDERS);
        assert_eq!(seen.order.len(), SENDERS);
    }
}
