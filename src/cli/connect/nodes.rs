//! What servers say of each other, read: CLUSTER NODES, and what Sentinels know.

use super::{Kind, Role};
use redis::Value;
use std::collections::BTreeMap;

/// A node as another tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Its host; empty: the host of who tells it.
    pub host: String,
    pub port: u16,
    pub role: Role,
    /// What it and its replicas share: its slots, or the group's name.
    pub shard: String,
    /// The hash slots that it answers for.
    pub slots: Vec<(u16, u16)>,
    /// It is said to be down.
    pub down: bool,
}

/// CLUSTER NODES. Nodes without an address, and those that are being met, are left
/// out; a primary without slots is a shard of its own, called by its name.
pub fn of_cluster(text: &str, by_name: bool) -> Vec<Told> {
    struct Line<'a> {
        id: &'a str,
        of: &'a str,
        told: Told,
    }
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, address, flags, of, _, _, _, _, ranges @ ..] = words.as_slice() else { continue };
        let has = |flag: &str| flags.split(',').any(|one| one == flag);
        let Some((host, port)) = address_of(address, by_name) else { continue };
        if has("noaddr") || has("handshake") {
            continue;
        }
        let slots = ranges.iter().filter_map(|range| range_of(range)).collect();
        let role = if has("master") { Role::Primary } else { Role::Replica };
        let told = Told { host, port, role, shard: String::new(), slots, down: has("fail") };
        lines.push(Line { id, of, told });
    }
    let name = |line: &Line<'_>| match line.told.slots.first() {
        Some((first, last)) if line.told.slots.len() == 1 => format!("{first}-{last}"),
        Some((first, _)) => format!("{first}…"),
        None => line.id.chars().take(8).collect(),
    };
    let shards: BTreeMap<&str, String> = lines
        .iter()
        .filter(|line| line.told.role == Role::Primary)
        .map(|line| (line.id, name(line)))
        .collect();
    let shard = |line: &Line<'_>| {
        let of = if line.told.role == Role::Primary { line.id } else { line.of };
        shards.get(of).cloned().unwrap_or_else(|| of.chars().take(8).collect())
    };
    lines.iter().map(|line| Told { shard: shard(line), ..line.told.clone() }).collect()
}

/// `host:port@bus[,name]`.
fn address_of(text: &str, by_name: bool) -> Option<(String, u16)> {
    let mut parts = text.split(',');
    let address = parts.next()?.split('@').next()?;
    let (host, port) = address.rsplit_once(':')?;
    let name = parts.next().filter(|name| by_name && !name.is_empty() && !name.contains('='));
    let port = port.parse().ok().filter(|&port| port != 0)?;
    Some((name.unwrap_or(host).to_string(), port))
}

fn range_of(text: &str) -> Option<(u16, u16)> {
    // One in brackets is on its way: it belongs to who lists it without.
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// A node of a group, as a Sentinel lists it: a map, or a flat array.
pub fn of_sentinel(reply: &Value, role: Role, group: &str) -> Option<Told> {
    let fields: BTreeMap<String, String> = redis::from_redis_value(reply).ok()?;
    let flags = fields.get("flags").map_or("", String::as_str);
    Some(Told {
        host: fields.get("ip")?.clone(),
        port: fields.get("port")?.parse().ok()?,
        role,
        shard: group.to_string(),
        slots: Vec::new(),
        down: flags.split(',').any(|flag| matches!(flag, "s_down" | "o_down" | "disconnected")),
    })
}

/// What INFO says that a server is.
pub fn of_info(info: &str) -> (Kind, Role) {
    let has = |line: &str| info.lines().any(|one| one.trim() == line);
    let kind = if has("cluster_enabled:1") { Kind::Cluster } else { Kind::Single };
    (kind, if has("role:slave") { Role::Replica } else { Role::Primary })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: &str = "\
07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,host4 slave e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 1426238317239 4 connected
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 127.0.0.1:30002@31002 master - 0 1426238316232 2 connected 5461-10922 [93-<-292f]
292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f 127.0.0.1:30003@31003,,shard-id=x master,fail - 0 1426238318243 3 connected 10923 10925-16383
e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca :30001@31001 myself,master - 0 0 1 connected 0-5460
6ec23923021cf3ffec47632106199cb7f496ce01 127.0.0.1:30005@31005 master - 0 1426238316232 5 connected
824fe116063bc5fcf9f4ffd895bc17aee7731ac3 :0@0 slave,noaddr 292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f 0 1 6 disconnected
broken line
";

    #[test]
    fn nodes_of_a_cluster() {
        let told = of_cluster(NODES, true);
        let lines: Vec<_> = told
            .iter()
            .map(|one| (one.host.as_str(), one.port, one.role, one.shard.as_str(), one.down))
            .collect();
        let ip = "127.0.0.1";
        assert_eq!(
            lines,
            [
                ("host4", 30004, Role::Replica, "0-5460", false),
                (ip, 30002, Role::Primary, "5461-10922", false),
                (ip, 30003, Role::Primary, "10923…", true),
                ("", 30001, Role::Primary, "0-5460", false),
                (ip, 30005, Role::Primary, "6ec23923", false),
            ]
        );
        assert_eq!(told[2].slots, [(10923, 10923), (10925, 16383)]);
        assert_eq!(of_cluster(NODES, false)[0].host, ip);
        assert!(of_cluster("", false).is_empty());
    }

    #[test]
    fn a_node_of_a_group() {
        let flat = ["ip", "10.0.0.1", "port", "7", "flags", "slave,s_down"];
        let flat = Value::Array(flat.map(|word| Value::BulkString(word.into())).to_vec());
        let told = of_sentinel(&flat, Role::Replica, "g").expect("whole");
        assert_eq!(
            (told.host.as_str(), told.port, told.down, told.shard.as_str()),
            ("10.0.0.1", 7, true, "g")
        );
        assert_eq!(of_sentinel(&Value::Nil, Role::Replica, "g"), None);
    }
}
