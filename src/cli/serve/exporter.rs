//! `/metrics`: CACHE.METRICS of every node as one text, and what the exporter itself
//! knows of them.

use super::fleet::{Look, NodeLook};
use cacheflow_core::exposition::{Exposition, Kind, Label, Value};
use std::collections::HashMap;

/// The labels that every sample of a node's gets.
pub const LABELS: [&str; 3] = ["node", "role", "shard"];

/// A metric of the exporter's own.
pub struct Own {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    /// Labels beside [`LABELS`].
    pub labels: &'static [&'static str],
    of: Of,
}

/// Where its samples come from.
enum Of {
    /// Each node, be it up or down.
    Node(fn(&NodeLook) -> Value),
    /// The INFO of each that is up, a number.
    Info(&'static str),
    /// What the server of each that is up says of its version.
    Server,
    /// The exporter.
    Discovery,
    Version,
}

/// All of them, in the order of the text.
pub static OWN: &[Own] = &[
    own(
        "cacheflow_up",
        Of::Node(|look| Value::Count(u64::from(look.seen.is_ok()))),
        "Whether the node answered CACHE.METRICS in time (1) or not (0).",
    ),
    own(
        "cacheflow_scrape_duration_seconds",
        Of::Node(|look| Value::Micros(u64::try_from(look.took.as_micros()).unwrap_or(u64::MAX))),
        "How long the node took to answer, in seconds; the timeout where it did not.",
    ),
    Own {
        labels: &["engine", "version"],
        ..own(
            "cacheflow_server_info",
            Of::Server,
            "Always 1; what server it is, and of which version, are labels.",
        )
    },
    own(
        "cacheflow_server_uptime_seconds",
        Of::Info("uptime_in_seconds"),
        "How long the server has been running, in seconds.",
    ),
    own(
        "cacheflow_server_clients",
        Of::Info("connected_clients"),
        "Clients connected to the server, replicas aside.",
    ),
    own(
        "cacheflow_server_memory_bytes",
        Of::Info("used_memory"),
        "Memory that the server has allocated, in bytes, native keys included.",
    ),
    own(
        "cacheflow_server_memory_limit_bytes",
        Of::Info("maxmemory"),
        "The server's maxmemory, in bytes; 0: none.",
    ),
    Own {
        kind: Kind::Counter,
        ..own(
            "cacheflow_server_evicted_keys_total",
            Of::Info("evicted_keys"),
            "Keys that the server has evicted for its own maxmemory, native ones included.",
        )
    },
    Own {
        kind: Kind::Counter,
        ..own(
            "cacheflow_server_commands_total",
            Of::Info("total_commands_processed"),
            "Commands that the server has run.",
        )
    },
    own(
        "cacheflow_discovery_up",
        Of::Discovery,
        "Whether it could be found out which servers there are (1) or not (0).",
    ),
    Own {
        labels: &["version"],
        ..own("cacheflow_exporter_info", Of::Version, "Always 1; the version of the exporter is a label.")
    },
];

const fn own(name: &'static str, of: Of, help: &'static str) -> Own {
    Own { name, kind: Kind::Gauge, help, labels: &[], of }
}

impl Own {
    /// Whether it is a node's: its samples have [`LABELS`].
    pub fn is_of_nodes(&self) -> bool {
        !matches!(self.of, Of::Discovery | Of::Version)
    }

    fn write(&self, look: &Look, to: &mut Exposition) {
        let name = self.name;
        for node in &look.nodes {
            let labels = labels_of(node);
            match (&self.of, &node.seen) {
                (Of::Node(value), _) => to.sample(name, &labels, value(node)),
                (Of::Info(field), Ok(seen)) => {
                    if let Some(number) = seen.info.get(*field).and_then(|text| text.parse().ok()) {
                        to.sample(name, &labels, Value::Count(number));
                    }
                }
                (Of::Server, Ok(seen)) => {
                    let (engine, version) = engine(&seen.info);
                    to.sample(name, &with(&labels, &[("engine", engine), ("version", version)]), 1);
                }
                _ => {}
            }
        }
        match self.of {
            Of::Discovery => to.sample(name, &[], u8::from(look.failure.is_none())),
            Of::Version => to.sample(name, &[("version", env!("CARGO_PKG_VERSION"))], 1),
            _ => {}
        }
    }
}

/// What server it is, and its version.
pub fn engine(info: &HashMap<String, String>) -> (&'static str, &str) {
    let of = |field: &str| info.get(field).map(String::as_str);
    match of("valkey_version") {
        Some(version) => ("valkey", version),
        None => ("redis", of("redis_version").unwrap_or_default()),
    }
}

fn labels_of(look: &NodeLook) -> [Label<'_>; 3] {
    let values = [look.node.name.as_str(), look.role.word(), look.node.shard.as_str()];
    [(LABELS[0], values[0]), (LABELS[1], values[1]), (LABELS[2], values[2])]
}

fn with<'a>(labels: &[Label<'a>], more: &[Label<'a>]) -> Vec<Label<'a>> {
    labels.iter().chain(more).copied().collect()
}

/// The text. A metric of which two nodes disagree what kind it is (of two versions) is
/// that of the first.
pub fn write(look: &Look) -> String {
    let mut text = Exposition::default();
    for own in OWN {
        text.family(own.name, own.kind, own.help);
        own.write(look, &mut text);
    }
    let seen = || look.nodes.iter().filter_map(|node| Some((node, node.seen.as_ref().ok()?)));
    let (mut order, mut places) = (Vec::new(), HashMap::new());
    for (_, seen) in seen() {
        for family in &seen.families {
            let is_own = OWN.iter().any(|own| own.name == family.name);
            if !is_own && places.insert(family.name.as_str(), ()).is_none() {
                order.push(family);
            }
        }
    }
    for first in order {
        text.family(&first.name, first.kind, &first.help);
        for (node, seen) in seen() {
            let same =
                seen.families.iter().find(|family| (&family.name, family.kind) == (&first.name, first.kind));
            let labels = labels_of(node);
            for sample in same.into_iter().flat_map(|family| &family.samples) {
                let own = sample.labels.iter().filter(|(name, _)| !LABELS.contains(&name.as_str()));
                let own: Vec<Label<'_>> = own.map(|(name, value)| (name.as_str(), value.as_str())).collect();
                text.sample(&sample.name, &with(&labels, &own), &sample.text);
            }
        }
    }
    text.into_text()
}
