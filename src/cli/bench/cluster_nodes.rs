//! A cluster of the benchmark's own: shards of a primary and a replica, formed
//! by CLUSTER commands (some servers ship no redis-cli), all on loopback, all
//! gone when this is dropped.
//!
//! Each shard has a hash tag that lies in it, and the benchmarks' keys begin
//! with it: what is measured of a shard is on that shard.

use super::server::{Recipe, Server};
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Primaries, each with a replica.
pub const SHARDS: usize = 3;
const SLOTS: usize = 16_384;
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(30);
/// After this a manual failover has given up, and is asked for again.
const GIVEN_UP: Duration = Duration::from_secs(6);

/// Nodes that agree on one another.
pub struct Cluster {
    nodes: Vec<Server>,
    shards: Vec<Shard>,
}

/// Who is what, by number among the nodes.
struct Shard {
    primary: usize,
    replica: usize,
    /// Lies in this shard.
    hash_tag: String,
}

impl Cluster {
    /// Starts the nodes and waits until they are a cluster.
    pub fn start(recipe: &Recipe) -> Result<Self> {
        let recipe = Recipe { cluster: true, ..recipe.clone() };
        let nodes = (0..2 * SHARDS).map(|_| recipe.start()).collect::<Result<Vec<_>>>()?;
        let shards = (0..SHARDS)
            .map(|number| {
                let hash_tag = hash_tag(share(number)).context("no hash tag lies in a shard")?;
                Ok(Shard { primary: 2 * number, replica: 2 * number + 1, hash_tag })
            })
            .collect::<Result<_>>()?;
        let mut cluster = Self { nodes, shards };
        cluster.form().context("the cluster is not formed")?;
        Ok(cluster)
    }

    fn form(&mut self) -> Result<()> {
        let places: Vec<_> = self.nodes.iter().map(|node| (node.address().port(), node.bus())).collect();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if number % 2 == 0 {
                let slots = share(number / 2);
                let mut command = cluster("ADDSLOTSRANGE");
                node.query::<()>(command.arg(slots.start).arg(slots.end - 1))?;
            }
            // All different, so that none must be negotiated.
            node.query::<()>(cluster("SET-CONFIG-EPOCH").arg(number + 1))?;
            for &(port, bus) in places.iter().take(number) {
                node.query::<()>(cluster("MEET").arg("127.0.0.1").arg(port).arg(bus))?;
            }
        }
        for shard in 0..SHARDS {
            let id: String = self.primary(shard)?.query(&cluster("MYID"))?;
            let replica = self.replica(shard)?;
            await_that("a replica to know its primary", || {
                let known: String = replica.query(&cluster("NODES"))?;
                Ok(known.lines().any(|line| line.starts_with(&id) && !line.contains("handshake")))
            })?;
            replica.query::<()>(cluster("REPLICATE").arg(id))?;
        }
        self.settle()
    }

    /// Waits until all nodes say that all is well, and the same of each other.
    pub fn settle(&mut self) -> Result<()> {
        await_that("the nodes to agree", || {
            let mut views = Vec::new();
            for node in &mut self.nodes {
                let (state, nodes): (String, String) =
                    (node.query(&cluster("INFO"))?, node.query(&cluster("NODES"))?);
                views.push(view(&nodes));
                let replication = node.info("replication")?;
                let linked = replication.text("role") == Some("master")
                    || replication.text("master_link_status") == Some("up");
                if !linked || !state.contains("cluster_state:ok") {
                    return Ok(false);
                }
            }
            let first = views.first().cloned().flatten();
            Ok(first.as_ref().is_some_and(|first| first.len() == views.len())
                && views.iter().all(|view| *view == first))
        })
    }

    /// The primary of a shard.
    pub fn primary(&mut self, shard: usize) -> Result<&mut Server> {
        let number = self.shard(shard)?.primary;
        self.nodes.get_mut(number).context("no such node")
    }

    fn replica(&mut self, shard: usize) -> Result<&mut Server> {
        let number = self.shard(shard)?.replica;
        self.nodes.get_mut(number).context("no such node")
    }

    fn shard(&self, shard: usize) -> Result<&Shard> {
        self.shards.get(shard).context("no such shard")
    }

    /// Where each shard's primary listens.
    pub fn primaries(&self) -> Result<Vec<SocketAddr>> {
        let address = |shard: &Shard| self.nodes.get(shard.primary).map(Server::address);
        self.shards.iter().map(|shard| address(shard).context("no such node")).collect()
    }

    /// Where all nodes listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Server::address).collect()
    }

    /// The beginning of keys that lie in a shard.
    pub fn prefix(&self, shard: usize, of: &str) -> Result<String> {
        Ok(format!("{{{}}}:{of}:", self.shard(shard)?.hash_tag))
    }

    /// Sets a directive on all nodes.
    pub fn set(&mut self, directive: &str, value: u32) -> Result<()> {
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg(directive).arg(value);
        self.nodes.iter_mut().try_for_each(|node| node.query(&command))
    }

    /// Makes a shard's replica its primary with the old one's help, and waits
    /// until it says that it is; see [`Cluster::settle`].
    pub fn failover(&mut self, shard: usize) -> Result<()> {
        let replica = self.replica(shard)?;
        let mut asked: Option<Instant> = None;
        await_that("the failover", || {
            if asked.is_none_or(|then| then.elapsed() > GIVEN_UP) {
                replica.query::<()>(&cluster("FAILOVER"))?;
                asked = Some(Instant::now());
            }
            Ok(replica.info("replication")?.text("role") == Some("master"))
        })?;
        let shard = self.shards.get_mut(shard).context("no such shard")?;
        std::mem::swap(&mut shard.primary, &mut shard.replica);
        Ok(())
    }
}

fn cluster(what: &str) -> redis::Cmd {
    let mut command = redis::cmd("CLUSTER");
    command.arg(what);
    command
}

/// Looks until it is so.
pub fn await_that(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !is_so()? {
        ensure!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        if interrupt::asked() {
            bail!("stopped");
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// A shard's slots.
fn share(shard: usize) -> std::ops::Range<usize> {
    SLOTS * shard / SHARDS..SLOTS * (shard + 1) / SHARDS
}

fn hash_tag(slots: std::ops::Range<usize>) -> Option<String> {
    (0..1000).map(|number| format!("c{number}")).find(|tag| slots.contains(&slot(tag.as_bytes())))
}

/// The slot of a key without a hash tag: CRC16/XMODEM, as the servers have it.
fn slot(key: &[u8]) -> usize {
    let crc = key.iter().fold(0u16, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    });
    usize::from(crc) % SLOTS
}

/// What CLUSTER NODES says of each node, apart from what differs from teller to
/// teller; None while anything is amiss.
fn view(text: &str) -> Option<Vec<String>> {
    let mut nodes = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let &[id, _, flags, primary, _, _, _, link, ref slots @ ..] = words.as_slice() else { return None };
        let bad = ["fail", "fail?", "handshake", "noaddr"];
        if link != "connected" || flags.split(',').any(|flag| bad.contains(&flag)) {
            return None;
        }
        let role = flags.trim_start_matches("myself,");
        nodes.push(format!("{id} {role} {primary} {}", slots.join(" ")));
    }
    nodes.sort_unstable();
    Some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_the_servers() {
        // The example of the cluster specification, and CLUSTER KEYSLOT's answer.
        assert_eq!(slot(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
    }

    #[test]
    fn shards_have_all_slots_and_a_hash_tag_each() {
        assert_eq!((share(0).start, share(2).end), (0, SLOTS));
        for shard in 0..SHARDS {
            assert!(shard == 0 || share(shard).start == share(shard - 1).end);
            assert!(share(shard).contains(&slot(hash_tag(share(shard)).unwrap().as_bytes())));
        }
    }

    #[test]
    fn views_agree_whoever_tells_and_not_while_anything_is_amiss() {
        let told = |own: &str, other: &str, link: &str| {
            format!(
                "aa 127.0.0.1:1@2 {own}master - 0 5 1 connected 0-5460\nbb 127.0.0.1:3@4 {other} aa 9 8 1 {link}\n"
            )
        };
        let one = view(&told("myself,", "slave", "connected"));
        assert_eq!(one, view(&told("", "myself,slave", "connected")));
        assert_eq!(one.unwrap().len(), 2);
        assert_eq!(view(&told("", "slave,fail?", "connected")), None);
        assert_eq!(view(&told("", "slave", "disconnected")), None);
    }
}
