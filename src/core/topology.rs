//! Which primaries of a cluster count: those that serve, and those that have
//! failed with slots that nobody has taken over.
//!
//! The module API does not tell who has slots; `CLUSTER NODES` does.

use std::collections::{BTreeMap, BTreeSet};

use crate::number::parse_u64;
use crate::relay::Node;
use crate::units::{Millis, Time};

/// The nodes that have slots, from the text of `CLUSTER NODES`: per line
/// `name address flags primary ping pong epoch link slots…`; what begins with
/// `[` is a slot on its way.
pub fn owners(text: &[u8]) -> BTreeSet<Node> {
    const BEFORE_SLOTS: usize = 8;
    let has_slots = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').skip(BEFORE_SLOTS);
        fields.any(|field| field.first().is_some_and(u8::is_ascii_digit))
    };
    let lines = text.split(|byte| *byte == b'\n').filter(|line| has_slots(line));
    lines.filter_map(|line| line.first_chunk().copied()).collect()
}

/// The bus ports of the other nodes, from the same text: the address is
/// `ip:port@busport[,hostname]`.
pub fn bus_ports(text: &[u8]) -> Vec<u16> {
    let others = text.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(1);
        let (address, flags) = (fields.next()?, fields.next()?);
        (!flags.starts_with(b"myself")).then_some(address)
    });
    let mut ports: Vec<u16> = others
        .filter_map(|address| {
            let at = address.iter().position(|byte| *byte == b'@')?;
            let port = address[at + 1..].split(|byte| *byte == b',').next()?;
            u16::try_from(parse_u64(port)?).ok().filter(|port| *port != 0)
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// A node as it is seen.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its name.
    pub node: Node,
    /// It is a primary.
    pub primary: bool,
    /// The cluster has agreed that it has failed, or it has said itself that it
    /// could not do something: after a manual failover the old primary is seen
    /// as one for seconds, without slots.
    pub doubted: bool,
}

/// How long one is doubted that could not do something: what gossip takes to
/// tell of a demotion, and more.
const DOUBTED_FOR: Millis = Millis(30_000);

/// Who could not do something, and when he said so.
#[derive(Clone, Debug, Default)]
pub struct Doubts {
    since: BTreeMap<Node, Time>,
}

impl Doubts {
    /// A node has said that it could not.
    pub fn note(&mut self, node: Node, now: Time) {
        self.since.retain(|_, since| now.since(*since) < DOUBTED_FOR);
        self.since.insert(node, now);
    }

    /// Whether a node is doubted.
    pub fn are_about(&self, node: &Node, now: Time) -> bool {
        self.since.get(node).is_some_and(|since| now.since(*since) < DOUBTED_FOR)
    }
}

/// The primaries that have to acknowledge; `owners` is only asked for where one
/// is doubted, and `None` where it cannot be known.
pub fn primaries(seen: &[Seen], owners: impl FnOnce() -> Option<BTreeSet<Node>>) -> BTreeSet<Node> {
    let all = || seen.iter().filter(|node| node.primary);
    if !all().any(|node| node.doubted) {
        return all().map(|node| node.node).collect();
    }
    let owners = owners();
    let counts =
        |node: &&Seen| !node.doubted || owners.as_ref().is_none_or(|owners| owners.contains(&node.node));
    all().filter(counts).map(|node| node.node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(letter: u8) -> Node {
        [letter; 40]
    }

    fn line(letter: u8, rest: &str) -> String {
        let name = String::from_utf8(vec![letter; 40]).expect("ASCII");
        format!("{name} 127.0.0.1:7000@17000,host {rest}\n")
    }

    #[test]
    fn who_has_slots() {
        let text = line(b'a', "myself,master - 0 0 1 connected 0-5460 5462")
            + &line(b'b', "master,fail - 1 2 2 disconnected")
            + &line(b'c', "slave aaaa 0 1 1 connected")
            + &line(b'd', "master - 0 1 3 connected [5461->-aaaa]")
            + &line(b'e', "master - 0 1 4 connected 5461");
        assert_eq!(owners(text.as_bytes()), [node(b'a'), node(b'e')].into());
        assert_eq!(owners(b""), BTreeSet::new());
        assert_eq!(bus_ports(text.as_bytes()), [17000]);
        assert_eq!(bus_ports(line(b'a', "myself,slave").as_bytes()), []);
        assert_eq!(bus_ports(b"name :0@0 master\nname :0 master\nname"), []);
    }

    #[test]
    fn one_that_failed_counts_while_it_has_slots() {
        let seen = |letter, primary, doubted| Seen { node: node(letter), primary, doubted };
        let all = [
            seen(b'a', true, false),
            seen(b'b', true, true),
            seen(b'c', true, true),
            seen(b'd', false, true),
        ];
        let some = primaries(&all, || Some([node(b'b')].into()));
        assert_eq!(some, [node(b'a'), node(b'b')].into());
        assert_eq!(primaries(&all, || None).len(), 3, "not known: all that may have");
        assert_eq!(primaries(&all[..1], || panic!("nobody has failed")), [node(b'a')].into());
    }

    #[test]
    fn doubts_pass() {
        let mut doubts = Doubts::default();
        doubts.note(node(b'a'), Time(0));
        assert!(
            doubts.are_about(&node(b'a'), Time(DOUBTED_FOR.0 - 1)) && !doubts.are_about(&node(b'b'), Time(0))
        );
        assert!(!doubts.are_about(&node(b'a'), Time(DOUBTED_FOR.0)));
        doubts.note(node(b'b'), Time(DOUBTED_FOR.0));
        assert_eq!(doubts.since.len(), 1, "and are forgotten");
    }

    proptest! {
        #[test]
        fn reading_is_total(text in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (owners(&text), bus_ports(&text));
        }
    }
}
