//! Which servers there are now: asked again whenever it matters.
//!
//! | what `--url` is | who is asked | what there is |
//! | --- | --- | --- |
//! | a server | itself | itself |
//! | a node of a cluster | any node that answers | all nodes |
//! | a Sentinel, `--sentinel` | any Sentinel that answers | the primary and its replicas |
//!
//! Nodes of a cluster that were found once are asked as well, so that it does not
//! matter if those on the command line are gone.

use super::nodes::{of_cluster, of_info, of_sentinel, Told};
use super::{open, Reach};
use anyhow::{bail, Context, Result};
use redis::{Connection, ConnectionAddr, ConnectionInfo, Value};
use std::time::Duration;

/// What the servers are together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One server.
    #[default]
    Single,
    /// A cluster.
    Cluster,
    /// A primary and its replicas, which Sentinels watch.
    Sentinel,
}

/// What a server is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It takes writes.
    Primary,
    /// It has what another has.
    Replica,
}

impl Role {
    /// The word for it, in labels and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Role::Primary => "primary",
            Role::Replica => "replica",
        }
    }
}

/// A server.
#[derive(Clone)]
pub struct Node {
    /// Its address: what it is called everywhere.
    pub name: String,
    pub role: Role,
    /// What it and its replicas share: hash slots, or the group's name; empty: alone.
    pub shard: String,
    /// The hash slots that it answers for.
    pub slots: Vec<(u16, u16)>,
    /// Others say that it is down.
    pub down: bool,
    /// How it is reached.
    pub info: ConnectionInfo,
}

impl Node {
    /// Connects, see [`open`].
    pub fn open(&self, patience: Duration) -> Result<Connection> {
        open(&self.info, patience)
    }

    /// Whether it answers for a hash slot.
    pub fn has_slot(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

/// See the module's text.
pub struct Discovery {
    reach: Reach,
    patience: Duration,
    /// Whom it was found out from last, and who was found.
    known: Vec<ConnectionInfo>,
    kind: Kind,
}

impl Discovery {
    /// `patience`: how long each that is asked may take.
    pub fn new(reach: Reach, patience: Duration) -> Self {
        let kind = if reach.group.is_some() { Kind::Sentinel } else { Kind::Single };
        Self { reach, patience, known: Vec::new(), kind }
    }

    /// What they are together, as far as anybody has said.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What a node is reached as that nobody could be asked about.
    pub fn seeds(&self) -> Vec<Node> {
        if self.reach.group.is_some() {
            return Vec::new();
        }
        let node = |info: &ConnectionInfo| Node {
            name: info.addr.to_string(),
            role: Role::Primary,
            shard: String::new(),
            slots: Vec::new(),
            down: true,
            info: info.clone(),
        };
        self.reach.seeds.iter().map(node).collect()
    }

    /// Asks who there is.
    pub fn nodes(&mut self) -> Result<Vec<Node>> {
        let mut failure = None;
        let whom: Vec<ConnectionInfo> = self.reach.seeds.iter().chain(&self.known).cloned().collect();
        for info in whom {
            match self.ask(&info) {
                Ok((kind, mut nodes)) => {
                    nodes.sort_by(|one, other| {
                        (&one.shard, one.role, &one.name).cmp(&(&other.shard, other.role, &other.name))
                    });
                    if kind == Kind::Cluster {
                        self.known = nodes.iter().map(|node| node.info.clone()).collect();
                    }
                    self.kind = kind;
                    return Ok(nodes);
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or_else(|| bail!("there is no server to ask"), Err)
    }

    /// Those that take writes, each of which must be there.
    pub fn primaries(&mut self) -> Result<Vec<Node>> {
        let mut nodes = self.nodes()?;
        // Who alone is asked for is meant, whatever it is.
        if self.kind != Kind::Single {
            nodes.retain(|node| node.role == Role::Primary && !node.down);
        }
        if self.kind == Kind::Cluster {
            // One without slots has nothing.
            nodes.retain(|node| !node.slots.is_empty());
        }
        Ok(nodes)
    }

    fn ask(&self, info: &ConnectionInfo) -> Result<(Kind, Vec<Node>)> {
        let mut connection = open(info, self.patience)?;
        if let Some(group) = &self.reach.group {
            return Ok((Kind::Sentinel, self.of_group(&mut connection, info, group)?));
        }
        let said: String = redis::cmd("INFO").query(&mut connection).context("INFO")?;
        let (kind, role) = of_info(&said);
        if kind == Kind::Single {
            let name = info.addr.to_string();
            let node =
                Node { name, role, shard: String::new(), slots: vec![], down: false, info: info.clone() };
            return Ok((kind, vec![node]));
        }
        let text: String =
            redis::cmd("CLUSTER").arg("NODES").query(&mut connection).context("CLUSTER NODES")?;
        let by_name = matches!(info.addr, ConnectionAddr::TcpTls { .. });
        Ok((kind, of_cluster(&text, by_name).into_iter().map(|told| self.node(told, info)).collect()))
    }

    fn of_group(&self, connection: &mut Connection, info: &ConnectionInfo, group: &str) -> Result<Vec<Node>> {
        let mut ask = |what: &str| -> Result<Value> {
            let asked = redis::cmd("SENTINEL").arg(what).arg(group).query(connection);
            asked.with_context(|| format!("{} does not know '{group}'", info.addr))
        };
        let primary = of_sentinel(&ask("MASTER")?, Role::Primary, group);
        let primary =
            primary.with_context(|| format!("{}: SENTINEL MASTER answers what it should not", info.addr))?;
        let replicas: Vec<Value> = redis::from_redis_value(&ask("REPLICAS")?)?;
        let replicas = replicas.iter().filter_map(|reply| of_sentinel(reply, Role::Replica, group));
        Ok([primary].into_iter().chain(replicas).map(|told| self.node(told, info)).collect())
    }

    /// A node that another told of, spoken to as that is.
    fn node(&self, told: Told, by: &ConnectionInfo) -> Node {
        let at = |own: &str| if told.host.is_empty() { own.to_string() } else { told.host.clone() };
        let addr = match &by.addr {
            ConnectionAddr::TcpTls { host, insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: at(host),
                port: told.port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            ConnectionAddr::Tcp(host, _) => ConnectionAddr::Tcp(at(host), told.port),
            ConnectionAddr::Unix(_) => ConnectionAddr::Tcp(at("127.0.0.1"), told.port),
        };
        let redis = redis::RedisConnectionInfo {
            db: if self.kind == Kind::Sentinel { self.reach.user.db } else { 0 },
            ..self.reach.user.clone()
        };
        Node {
            name: addr.to_string(),
            role: told.role,
            shard: told.shard,
            slots: told.slots,
            down: told.down,
            info: ConnectionInfo { addr, redis },
        }
    }
}
