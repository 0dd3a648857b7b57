//! What has to be changed so that a server has what a file says.

use anyhow::{Context, Result};
use redis::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// POLICY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Policy {
    Cost,
    Lru,
    None,
}

impl Policy {
    fn word(self) -> &'static str {
        match self {
            Policy::Cost => "cost",
            Policy::Lru => "lru",
            Policy::None => "none",
        }
    }
}

/// What is set for a namespace; zero and `None`: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub max_memory: u64,
    pub ttl: u64,
    pub grace: u64,
    pub exauto: Option<(u64, u64)>,
    pub max_fills: u64,
    pub breaker: Option<(u64, u64)>,
    pub policy: Option<Policy>,
}

impl Settings {
    /// What CACHE.NAMESPACE GET answers.
    ///
    /// # Errors
    /// Where that is of another shape.
    pub fn of_reply(fields: &BTreeMap<String, Value>) -> Result<Settings> {
        let number = |name: &str| -> Result<u64> {
            let value = fields.get(name).map(redis::from_redis_value).transpose();
            Ok(value.with_context(|| format!("CACHE.NAMESPACE GET: {name}"))?.unwrap_or(0))
        };
        let pair = |name: &str| -> Result<Option<(u64, u64)>> {
            let value = fields.get(name).map(redis::from_redis_value).transpose();
            value.with_context(|| format!("CACHE.NAMESPACE GET: {name}"))
        };
        let policy = fields.get("policy").map(redis::from_redis_value::<String>).transpose()?;
        let policies = [Policy::Cost, Policy::Lru, Policy::None];
        Ok(Settings {
            max_memory: number("maxmemory")?,
            ttl: number("ttl")?,
            grace: number("grace")?,
            exauto: pair("exauto")?,
            max_fills: number("maxfills")?,
            breaker: pair("breaker")?,
            policy: policy.and_then(|word| policies.into_iter().find(|policy| policy.word() == word)),
        })
    }

    /// The words of CACHE.NAMESPACE SET that make it so, each with what it is before.
    fn words(&self) -> [(&'static str, Vec<String>); 7] {
        let one = |n: u64| vec![n.to_string()];
        // 0 unsets it, of a pair the first alone would not do.
        let two = |pair: Option<(u64, u64)>| {
            let (first, second) = pair.unwrap_or((0, 0));
            vec![first.to_string(), second.to_string()]
        };
        [
            ("MAXMEMORY", one(self.max_memory)),
            ("TTL", one(self.ttl)),
            ("GRACE", one(self.grace)),
            ("EXAUTO", two(self.exauto)),
            ("MAXFILLS", one(self.max_fills)),
            ("BREAKER", two(self.breaker)),
            ("POLICY", vec![self.policy.map_or("0", Policy::word).to_string()]),
        ]
    }

    /// It in words; `None`: nothing is set.
    fn text(&self) -> Option<String> {
        let nothing = Settings::default().words();
        let set = self.words().into_iter().zip(nothing).filter(|(own, unset)| own != unset);
        let text: Vec<String> = set.map(|((name, words), _)| format!("{name} {}", words.join(" "))).collect();
        (!text.is_empty()).then(|| text.join(" "))
    }
}

/// A namespace that has to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub namespace: String,
    /// What is set and will be, in words; `None`: nothing.
    pub before: Option<String>,
    pub after: Option<String>,
    /// The words of CACHE.NAMESPACE SET behind the name: what differs.
    pub words: Vec<String>,
}

/// What has to be changed. `prune`: nothing is to be set for others.
pub fn changes(
    wanted: &BTreeMap<String, Settings>,
    found: &BTreeMap<String, Settings>,
    prune: bool,
) -> Vec<Change> {
    let nothing = Settings::default();
    let gone = found.keys().filter(|name| prune && !wanted.contains_key(*name));
    let mut changes = Vec::new();
    for namespace in wanted.keys().chain(gone) {
        let after = wanted.get(namespace).unwrap_or(&nothing);
        let before = found.get(namespace).unwrap_or(&nothing);
        if after == before {
            continue;
        }
        let differ = after.words().into_iter().zip(before.words()).filter(|(after, before)| after != before);
        let words = differ.flat_map(|((name, words), _)| [name.to_string()].into_iter().chain(words));
        changes.push(Change {
            namespace: namespace.clone(),
            before: before.text(),
            after: after.text(),
            words: words.collect(),
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, u64)]) -> BTreeMap<String, Settings> {
        pairs.iter().map(|&(name, ttl)| (name.into(), Settings { ttl, ..Settings::default() })).collect()
    }

    #[test]
    fn what_differs_is_changed_and_nothing_else() {
        let (wanted, found) = (of(&[("a", 1), ("b", 2), ("c", 0)]), of(&[("a", 1), ("b", 3), ("d", 4)]));
        let summary = |prune| -> Vec<_> {
            let all = changes(&wanted, &found, prune).into_iter();
            all.map(|change| (change.namespace, change.before, change.after, change.words.join(" ")))
                .collect()
        };
        let text = |text: &str| Some(text.to_string());
        let b = ("b".to_string(), text("TTL 3"), text("TTL 2"), "TTL 2".to_string());
        assert_eq!(summary(false), std::slice::from_ref(&b));
        assert_eq!(summary(true), [b, ("d".to_string(), text("TTL 4"), None, "TTL 0".to_string())]);
        assert!(changes(&wanted, &wanted, true).is_empty());
    }

    #[test]
    fn what_is_unset_is_named() {
        let full = Settings {
            max_memory: 1,
            ttl: 2,
            grace: 3,
            exauto: None,
            max_fills: 4,
            breaker: Some((50, 6)),
            policy: Some(Policy::None),
        };
        let one = |of: Settings| BTreeMap::from([("n".to_string(), of)]);
        let less = Settings { ttl: 2, ..Settings::default() };
        let change = changes(&one(less), &one(full.clone()), false).remove(0);
        assert_eq!(change.words.join(" "), "MAXMEMORY 0 GRACE 0 MAXFILLS 0 BREAKER 0 0 POLICY 0");
        assert_eq!(
            change.before.as_deref(),
            Some("MAXMEMORY 1 TTL 2 GRACE 3 MAXFILLS 4 BREAKER 50 6 POLICY none")
        );
        let change = changes(&one(full), &one(Settings::default()), false).remove(0);
        assert!(change.words.join(" ").ends_with("BREAKER 50 6 POLICY none"), "{:?}", change.words);
    }
}
