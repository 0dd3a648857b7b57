//! The servers as they are now: found again every few seconds, asked within a time,
//! each over connections of its own.
//!
//! Guarantees:
//! - Whoever asks is answered within `--timeout`, a little more at the most, whatever a server
//!   does: what took longer is an error of that node.
//! - A node that hangs holds no more than [`AT_ONCE`] threads.
//! - To look for nodes never keeps anybody waiting: until somebody has answered, those on
//!   the command line are all there are, and they are down.

use super::scrape::{parse, Family};
use crate::connect::{sentence, Discovery, Kind, Node, Reach, Role};
use anyhow::{anyhow, Context, Result};
use redis::Connection;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Questions that a node is asked at once.
const AT_ONCE: usize = 4;
/// How old a look may be that others get, too: of a page that many have open the
/// servers notice one.
const SHARED_FOR: Duration = Duration::from_millis(900);

/// How a node is asked, whatever becomes of it.
struct Line {
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

/// A node, and how it is asked.
#[derive(Clone)]
struct Member {
    node: Node,
    line: Arc<Line>,
}

/// Those that there are, and what they are together.
#[derive(Clone, Default)]
pub struct Members {
    pub kind: Kind,
    members: Vec<Member>,
    /// Why it is not known who there is.
    pub failure: Option<String>,
}

impl Members {
    /// The nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.members.iter().map(|member| &member.node)
    }
}

/// What a node said of itself.
pub struct Seen {
    /// INFO, and what commands have taken.
    pub info: HashMap<String, String>,
    /// CACHE.METRICS.
    pub families: Vec<Family>,
}

/// A node, looked at.
pub struct NodeLook {
    pub node: Node,
    /// What it says that it is; if it says nothing, what others say.
    pub role: Role,
    pub seen: Result<Seen, String>,
    pub took: Duration,
}

/// All nodes, looked at together.
pub struct Look {
    /// When everybody was asked.
    pub at: SystemTime,
    pub kind: Kind,
    pub nodes: Vec<NodeLook>,
    /// Why it is not known who there is.
    pub failure: Option<String>,
}

/// See the module's text.
pub struct Fleet {
    discovery: Mutex<Discovery>,
    now: Mutex<Members>,
    patience: Duration,
    last: tokio::sync::Mutex<Option<(Instant, Arc<Look>)>>,
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fleet {
    /// Nobody is asked yet.
    pub fn new(reach: Reach, patience: Duration) -> Arc<Self> {
        let discovery = Discovery::new(reach, patience);
        let members = discovery.seeds().into_iter().map(Member::new).collect();
        let failure = Some("nobody has answered yet".to_string());
        let now = Members { kind: discovery.kind(), members, failure };
        Arc::new(Self {
            discovery: Mutex::new(discovery),
            now: Mutex::new(now),
            patience,
            last: tokio::sync::Mutex::default(),
        })
    }

    /// Those that there are.
    pub fn members(&self) -> Members {
        held(&self.now).clone()
    }

    /// Looks who there is, for as long as it runs.
    pub async fn follow(self: Arc<Self>, every: Duration) {
        loop {
            let fleet = self.clone();
            if let Err(error) = tokio::task::spawn_blocking(move || fleet.discover()).await {
                tracing::error!(%error, "looking for nodes was broken off");
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Looks who there is, once.
    pub fn discover(&self) {
        let (found, kind) = {
            let mut discovery = held(&self.discovery);
            (discovery.nodes(), discovery.kind())
        };
        let mut now = held(&self.now);
        match found {
            Ok(nodes) => {
                let (before, mut changes) = (std::mem::take(&mut now.members), false);
                for node in nodes {
                    let known = before.iter().find(|member| member.node.name == node.name);
                    changes |= known.is_none_or(|member| member.node.role != node.role);
                    let line = known.map(|member| member.line.clone());
                    now.members.push(line.map_or_else(
                        || Member::new(node.clone()),
                        |line| Member { node: node.clone(), line },
                    ));
                }
                if changes || before.len() != now.members.len() || now.failure.is_some() {
                    let nodes: Vec<String> =
                        now.nodes().map(|node| format!("{} {}", node.role.word(), node.name)).collect();
                    tracing::info!(nodes = nodes.join(", "), "these are the servers");
                }
                now.kind = kind;
                now.failure = None;
            }
            Err(error) => {
                let error = sentence(&error);
                if now.failure.as_ref() != Some(&error) {
                    tracing::warn!(%error, "it cannot be found out which servers there are");
                }
                now.failure = Some(error);
            }
        }
    }

    /// Asks a node.
    pub async fn ask<T: Send + 'static>(
        &self,
        node: &str,
        question: impl Fn(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let member = held(&self.now).members.iter().find(|member| member.node.name == node).cloned();
        let member = member.with_context(|| format!("there is no node {node}"))?;
        self.ask_member(member, question).await
    }

    async fn ask_member<T: Send + 'static>(
        &self,
        member: Member,
        question: impl Fn(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let patience = self.patience;
        let answer = async {
            let turn = member.line.turns.clone().acquire_owned().await.context("the node is gone")?;
            let thread = tokio::task::spawn_blocking(move || {
                // It ends with the thread, not with who waits for it.
                let _turn = turn;
                member.ask(patience, question)
            });
            thread.await.context("the question was broken off")?
        };
        match tokio::time::timeout(patience, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(anyhow!("no answer within {} ms", patience.as_millis())),
        }
    }

    /// Asks all nodes of `which` at once; each with its answer.
    pub async fn ask_each<T: Send + 'static>(
        self: &Arc<Self>,
        which: impl Fn(&Node) -> bool,
        question: impl Fn(&mut Connection) -> Result<T> + Clone + Send + 'static,
    ) -> Vec<(Node, Result<T>)> {
        let mut asked = JoinSet::new();
        let members = self.members().members;
        for (place, member) in members.into_iter().enumerate().filter(|(_, member)| which(&member.node)) {
            let (fleet, question) = (self.clone(), question.clone());
            asked.spawn(async move {
                let node = member.node.clone();
                (place, node, fleet.ask_member(member, question).await)
            });
        }
        let mut answers = Vec::new();
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) => tracing::error!(%error, "a question was broken off"),
            }
        }
        answers.sort_by_key(|(place, ..)| *place);
        answers.into_iter().map(|(_, node, answer)| (node, answer)).collect()
    }

    /// Looks at all nodes, or answers with what was seen a moment ago.
    pub async fn look(self: &Arc<Self>) -> Arc<Look> {
        let mut last = self.last.lock().await;
        if let Some((_, look)) = last.as_ref().filter(|(at, _)| at.elapsed() < SHARED_FOR) {
            return look.clone();
        }
        let (at, members) = (SystemTime::now(), self.members());
        let answers = self.ask_each(
            |_| true,
            |connection| {
                let began = Instant::now();
                see(connection).map(|seen| (seen, began.elapsed()))
            },
        );
        let nodes = answers.await.into_iter().map(|(node, answer)| match answer {
            Ok((seen, took)) => {
                let is_replica = seen.info.get("role").map(String::as_str) == Some("slave");
                let role = if is_replica { Role::Replica } else { Role::Primary };
                NodeLook { node, role, seen: Ok(seen), took }
            }
            Err(error) => {
                let role = node.role;
                NodeLook { node, role, seen: Err(sentence(&error)), took: self.patience }
            }
        });
        let look = Look { at, kind: members.kind, nodes: nodes.collect(), failure: members.failure };
        let look = Arc::new(look);
        *last = Some((Instant::now(), look.clone()));
        look
    }
}

impl Member {
    fn new(node: Node) -> Self {
        Self {
            node,
            line: Arc::new(Line { idle: Mutex::default(), turns: Arc::new(Semaphore::new(AT_ONCE)) }),
        }
    }

    fn ask<T>(&self, patience: Duration, question: impl Fn(&mut Connection) -> Result<T>) -> Result<T> {
        // One that was used before may have been closed since: that says nothing.
        let idle = held(&self.line.idle).pop();
        if let Some(mut connection) = idle {
            match question(&mut connection) {
                Err(error) if is_broken(&error) => {}
                answer => {
                    held(&self.line.idle).push(connection);
                    return answer;
                }
            }
        }
        let mut connection = self.node.open(patience)?;
        let answer = question(&mut connection);
        if !answer.as_ref().err().is_some_and(is_broken) {
            held(&self.line.idle).push(connection);
        }
        answer
    }
}

/// Whether the connection is of no use any more.
fn is_broken(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<redis::RedisError>();
    error.is_some_and(|error| error.is_io_error() || error.is_unrecoverable_error())
}

fn see(connection: &mut Connection) -> Result<Seen> {
    let sections = ["default", "commandstats", "latencystats"];
    let said: String = redis::cmd("INFO").arg(&sections).query(connection).context("INFO")?;
    let info = said.lines().filter_map(|line| line.trim_end().split_once(':'));
    let info = info.map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let text: String = redis::cmd("CACHE.METRICS").query(connection).context("CACHE.METRICS")?;
    Ok(Seen { info, families: parse(&text)? })
}
