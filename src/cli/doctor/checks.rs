//! What is looked for, each with what to do.

use crate::connect::{Kind, Node, Role};
use redis::ConnectionAddr;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Good,
    /// Worth a thought.
    Note,
    Bad,
}

impl Health {
    pub fn word(self) -> &'static str {
        match self {
            Health::Good => "good",
            Health::Note => "note",
            Health::Bad => "bad",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub node: String,
    pub health: Health,
    pub what: String,
    /// What to do; empty: nothing.
    pub todo: String,
}

/// What a server said of itself.
#[derive(Default)]
pub struct Seen {
    pub info: HashMap<String, String>,
    /// CACHE.STATS; `None`: the module is not there.
    pub stats: Option<HashMap<String, i64>>,
    /// CONFIG GET maxmemory*; `None`: the user may not.
    pub config: Option<HashMap<String, String>>,
    /// Commands that the user may.
    pub may: HashMap<&'static str, bool>,
    /// By how many ms its clock is before ours, within half of `around`.
    pub clock: i64,
    pub around: i64,
}

impl Seen {
    fn text(&self, field: &str) -> &str {
        self.info.get(field).map_or("", String::as_str)
    }

    fn number(&self, field: &str) -> i64 {
        self.text(field).parse().unwrap_or(0)
    }

    fn stat(&self, field: &str) -> i64 {
        self.stats.as_ref().and_then(|stats| stats.get(field)).copied().unwrap_or(0)
    }

    /// (whether it is Valkey, the version, as numbers).
    fn version(&self) -> (bool, Vec<u32>) {
        let valkey = self.info.contains_key("valkey_version");
        let text = self.text(if valkey { "valkey_version" } else { "redis_version" });
        (valkey, text.split('.').map_while(|part| part.parse().ok()).collect())
    }
}

/// Reads that tell something of a hit ratio.
const ENOUGH_READS: i64 = 1000;
/// The share of hits below which it is worth a thought, in percent.
const FEW_HITS: i64 = 50;
/// How far clocks may be apart: the default of `cacheflow.max-clock-skew`.
const SKEW: i64 = 500;

/// Looks at a server by itself.
pub fn of_node(node: &Node, seen: &Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |health, what: String, todo: &str| {
        found.push(Finding { node: node.name.clone(), health, what, todo: todo.into() });
    };
    let (valkey, version) = seen.version();
    let engine = if valkey { "Valkey" } else { "Redis" };
    let written: Vec<String> = version.iter().map(u32::to_string).collect();
    let least: &[u32] = if valkey { &[8] } else { &[7] };
    if version.as_slice() < least {
        let what = format!("it is {engine} {}", written.join("."));
        say(Health::Bad, what, "CacheFlow needs Redis 7.0 or Valkey 8, or later: upgrade it");
    } else {
        say(Health::Good, format!("it is {engine} {}, a {}", written.join("."), node.role.word()), "");
    }
    if seen.stats.is_none() {
        let todo = "load it: loadmodule /path/libcacheflow.so in redis.conf, on every node; and let the user run CACHE.STATS";
        say(Health::Bad, "the module does not answer CACHE.STATS".into(), todo);
        return found;
    }
    if seen.number("cacheflow_panics") > 0 {
        let what = format!("the module has caught {} panics", seen.number("cacheflow_panics"));
        say(
            Health::Bad,
            what,
            "that is a bug: report the lines 'panic caught at' of the server's log; then CACHE.VERIFY",
        );
    }
    memory(seen, &mut say);
    reads(seen, &mut say);
    match &node.info.addr {
        ConnectionAddr::Tcp(host, _) if !is_loopback(host) => {
            say(
                Health::Note,
                "it is spoken to without TLS".into(),
                "passwords and values can be read on the way: tls-port, and rediss:// in --url",
            );
        }
        _ => {}
    }
    let denied: Vec<&str> = seen.may.iter().filter(|(_, may)| !**may).map(|(command, _)| *command).collect();
    if !denied.is_empty() {
        let denied = denied.into_iter().collect::<BTreeSet<_>>();
        let what = format!("the ACL user may not {}", denied.into_iter().collect::<Vec<_>>().join(", "));
        say(Health::Note, what, "exporter and dashboard need them: ACL SETUSER … +cache.metrics +cache.hotkeys +cache.log +cache.tags");
    }
    if seen.clock.abs() > SKEW + seen.around {
        let what = format!("its clock is {} ms from this machine's", seen.clock);
        say(Health::Note, what, "TTLs are by the server's clock: chrony or ntpd, on both");
    }
    if seen.text("role") == "slave" && seen.text("master_link_status") != "up" {
        say(
            Health::Bad,
            "the link to its primary is down".into(),
            "look at its log; until then it serves what it had",
        );
    }
    found
}

fn memory(seen: &Seen, say: &mut impl FnMut(Health, String, &str)) {
    let of_config = |name: &str| seen.config.as_ref().and_then(|config| config.get(name)).map(String::as_str);
    let limit =
        of_config("maxmemory").map_or_else(|| seen.number("maxmemory"), |text| text.parse().unwrap_or(0));
    let policy = of_config("maxmemory-policy").unwrap_or_else(|| seen.text("maxmemory_policy")).to_string();
    if limit == 0 {
        say(Health::Note, "maxmemory is not set".into(), "set it below the machine's memory, or cacheflow.max-memory: without a limit the kernel ends the server some day");
    } else if policy == "noeviction" {
        say(Health::Good, "maxmemory-policy noeviction: native keys are safe".into(), "give entries their own limit (cacheflow.evict-at 90 or cacheflow.max-memory), else writes are refused when it is full");
    } else if policy.starts_with("allkeys") && seen.number("evicted_keys") > 0 {
        let native = seen.number("evicted_keys") - seen.number("cacheflow_evicted_by_server");
        let health = if native > 0 { Health::Bad } else { Health::Note };
        let what =
            format!("{policy} has evicted {} keys, {native} of them no entries", seen.number("evicted_keys"));
        say(health, what, "locks and native keys go too: maxmemory-policy noeviction and cacheflow.evict-at 90 evict entries alone, the cheapest first");
    } else {
        say(
            Health::Note,
            format!("maxmemory-policy is {policy}"),
            "with noeviction and cacheflow.evict-at 90 entries are evicted alone, the cheapest first",
        );
    }
    if limit > 0 && seen.number("used_memory") * 100 > limit * 95 {
        let what = format!("{} % of maxmemory are used", seen.number("used_memory") * 100 / limit);
        say(Health::Note, what, "it is evicting, or about to: see evictions by reason, and raise the limit if the hit ratio falls");
    }
}

fn reads(seen: &Seen, say: &mut impl FnMut(Health, String, &str)) {
    let hits = seen.stat("hits") + seen.stat("stale-hits");
    let all = hits + seen.stat("misses");
    if all >= ENOUGH_READS {
        let ratio = hits * 100 / all;
        if ratio < FEW_HITS {
            say(Health::Note, format!("{ratio} % of {all} reads were hits"), "CACHE.STATS NAMESPACE tells which namespace; longer TTLs with tags to invalidate by, or a larger limit");
        } else {
            say(Health::Good, format!("{ratio} % of {all} reads were hits"), "");
        }
    }
    if seen.stat("open-breakers") > 0 {
        let what = format!("{} breakers are open", seen.stat("open-breakers"));
        say(
            Health::Bad,
            what,
            "an origin fails: CACHE.STATS NAMESPACE tells which, and the server's log since when",
        );
    }
    if seen.number("cacheflow_relay_incomplete") > 0 {
        let what = format!(
            "{} invalidations have not reached all primaries",
            seen.number("cacheflow_relay_incomplete")
        );
        say(
            Health::Bad,
            what,
            "a primary is down or cut off: it gets them when it is back, and serves old values until then",
        );
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Looks at all together.
pub fn of_all(kind: Kind, nodes: &[Node], seen: &[(&Node, Seen)]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut say = |health, what: String, todo: &str| {
        found.push(Finding { node: "all".into(), health, what, todo: todo.into() });
    };
    let with = seen.iter().filter(|(_, seen)| seen.stats.is_some()).count();
    if with > 0 && with < seen.len() {
        say(
            Health::Bad,
            format!("{with} of {} servers have the module", seen.len()),
            "an entry cannot be replicated or migrated to a server without it: load it on all",
        );
    }
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, seen) in seen {
        *versions
            .entry(seen.text(if seen.version().0 { "valkey_version" } else { "redis_version" }))
            .or_default() += 1;
    }
    if versions.len() > 1 {
        let list: Vec<&str> = versions.into_keys().collect();
        say(
            Health::Note,
            format!("the servers are of several versions: {}", list.join(", ")),
            "well enough while you upgrade",
        );
    }
    let clocks: Vec<i64> = seen.iter().map(|(_, seen)| seen.clock).collect();
    let apart = clocks.iter().max().unwrap_or(&0) - clocks.iter().min().unwrap_or(&0);
    let around = seen.iter().map(|(_, seen)| seen.around).max().unwrap_or(0);
    if apart > SKEW + around {
        say(
            Health::Bad,
            format!("the servers' clocks are {apart} ms apart"),
            "more than cacheflow.max-clock-skew (500): chrony or ntpd on all, or raise it, on all",
        );
    }
    match kind {
        Kind::Single => {}
        Kind::Cluster => {
            let covered: usize = nodes
                .iter()
                .filter(|node| node.role == Role::Primary && !node.down)
                .flat_map(|node| &node.slots)
                .map(|(first, last)| usize::from(*last) + 1 - usize::from(*first))
                .sum();
            if covered < 16_384 {
                say(
                    Health::Bad,
                    format!("{covered} of 16384 hash slots have a primary"),
                    "CLUSTER FAILOVER a replica, or redis-cli --cluster fix",
                );
            } else {
                say(Health::Good, "every hash slot has a primary".into(), "");
            }
            alone(nodes, &mut say);
        }
        Kind::Sentinel => alone(nodes, &mut say),
    }
    found
}

fn alone(nodes: &[Node], say: &mut impl FnMut(Health, String, &str)) {
    for primary in nodes.iter().filter(|node| node.role == Role::Primary) {
        let has = |node: &&Node| node.role == Role::Replica && node.shard == primary.shard && !node.down;
        let is_used = !primary.slots.is_empty() || nodes.len() > 1;
        if is_used && !nodes.iter().any(|node| has(&node)) {
            say(
                Health::Note,
                format!("{} has no replica", primary.name),
                "if it dies its part of the cache is cold, and its locks are gone",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connect::{Kind, Node, Role};
    use redis::{ConnectionInfo, RedisConnectionInfo};

    fn node(name: &str, role: Role, shard: &str, slots: &[(u16, u16)]) -> Node {
        let addr = ConnectionAddr::Tcp("127.0.0.1".into(), 1);
        let info = ConnectionInfo { addr, redis: RedisConnectionInfo::default() };
        Node { name: name.into(), role, shard: shard.into(), slots: slots.to_vec(), down: false, info }
    }

    fn seen(info: &[(&str, &str)], stats: &[(&str, i64)]) -> Seen {
        let own = [("redis_version", "7.0.15"), ("maxmemory", "100"), ("maxmemory_policy", "noeviction")];
        Seen {
            info: own.iter().chain(info).map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            stats: Some(stats.iter().map(|(name, value)| ((*name).into(), *value)).collect()),
            ..Seen::default()
        }
    }

    fn bad(found: &[Finding]) -> Vec<&str> {
        found.iter().filter(|one| one.health == Health::Bad).map(|one| one.what.as_str()).collect()
    }

    #[test]
    fn a_server_that_is_well() {
        let one = node("a", Role::Primary, "", &[]);
        let found = of_node(&one, &seen(&[], &[("hits", 2000), ("misses", 10)]));
        assert!(bad(&found).is_empty(), "{found:?}");
        assert!(found.iter().any(|one| one.what == "99 % of 2010 reads were hits"));
        assert!(of_all(Kind::Single, std::slice::from_ref(&one), &[(&one, seen(&[], &[]))]).is_empty());
    }

    #[test]
    fn what_is_to_be_mended_says_how() {
        let one = node("a", Role::Primary, "", &[]);
        for (info, stats, what) in [
            (&[("redis_version", "6.2.1")][..], &[][..], "it is Redis 6.2.1"),
            (&[("valkey_version", "7.2.1")], &[], "it is Valkey 7.2.1"),
            (&[("cacheflow_panics", "2")], &[], "caught 2 panics"),
            (
                &[
                    ("maxmemory_policy", "allkeys-lru"),
                    ("evicted_keys", "5"),
                    ("cacheflow_evicted_by_server", "3"),
                ],
                &[],
                "2 of them no entries",
            ),
            (&[], &[("open-breakers", 1)], "1 breakers are open"),
            (&[("cacheflow_relay_incomplete", "3")], &[], "3 invalidations"),
            (&[("role", "slave"), ("master_link_status", "down")], &[], "link to its primary"),
        ] {
            let found = of_node(&one, &seen(info, stats));
            assert!(bad(&found).iter().any(|text| text.contains(what)), "{what}: {found:?}");
            assert!(found.iter().filter(|one| one.health == Health::Bad).all(|one| !one.todo.is_empty()));
        }
        let without = Seen { stats: None, ..seen(&[], &[]) };
        assert_eq!(bad(&of_node(&one, &without)), ["the module does not answer CACHE.STATS"]);
    }

    #[test]
    fn a_cluster_as_a_whole() {
        let nodes = [
            node("a", Role::Primary, "0-8191", &[(0, 8191)]),
            node("b", Role::Primary, "8192-16383", &[(8192, 16383)]),
            node("c", Role::Replica, "0-8191", &[]),
        ];
        let whole: Vec<_> = nodes.iter().map(|node| (node, seen(&[], &[]))).collect();
        let found = of_all(Kind::Cluster, &nodes, &whole);
        assert!(bad(&found).is_empty());
        assert!(found.iter().any(|one| one.what == "b has no replica"));
        let holed = of_all(Kind::Cluster, &nodes[..1], &whole[..1]);
        assert_eq!(bad(&holed), ["8192 of 16384 hash slots have a primary"]);
        let late = Seen { clock: 2000, ..seen(&[], &[]) };
        let lacking = Seen { stats: None, ..seen(&[], &[]) };
        let found = of_all(Kind::Cluster, &nodes, &[(&nodes[0], late), (&nodes[1], lacking)]);
        assert_eq!(bad(&found).len(), 2, "{found:?}");
    }
}
