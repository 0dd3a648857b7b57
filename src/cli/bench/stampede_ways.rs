//! Ways to let one of many clients compute what all of them miss:
//! CACHE.FETCH, and what applications do without it. Each is a state machine
//! for the crowd, in its best form, and all are given their scripts loaded.
//!
//! - **CACHE.FETCH**: one command, answered when there is a value; who gets
//!   MISS computes, and stores by CACHE.SET … LEASE.
//! - **lock and spin**: GET; on a miss SET lock NX PX; who does not get it
//!   sleeps 10 to 50 ms and begins anew. (Who reads just before the fill and
//!   locks just after it computes once more.)
//! - **redis-py's Lock**: GET; on a miss a `redis.lock.Lock`, as redis-py 5's
//!   lock.py has it: SET NX PX with a token, tried again every 100 ms (its
//!   default), and let go by its script that compares and deletes. Who has it
//!   reads again, since somebody else may have computed meanwhile.
//! - **BLPOP script**: a script that reads, or takes the lock, or counts the
//!   caller among those who wait, and these BLPOP from a list of the key's; who
//!   has the lock computes, and a script stores the value and pushes it once
//!   for each who waits. (If that one dies, nobody is told.)

use super::server::Server;
use super::stampede_calls::Calls;
use super::stampede_crowd::{Client, Event, Step};
use anyhow::{bail, ensure, Context, Result};
use rand::{rngs::SmallRng, Rng, SeedableRng};
use redis::Value;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of the value.
const VALUE: usize = 100;
/// For how long the right to compute is given, in milliseconds.
const LEASE: &str = "10000";
const SPIN: (u64, u64) = (10, 50);
/// redis-py's `sleep`.
const RETRY: Duration = Duration::from_millis(100);

/// redis-py's `LUA_RELEASE_SCRIPT`.
const RELEASE: &str = "\
local token = redis.call('get', KEYS[1])
if not token or token ~= ARGV[1] then
  return 0
end
redis.call('del', KEYS[1])
return 1";

/// Of value, lock, number of those who wait: the value, 1 (compute) or 0 (wait).
const ENTER: &str = "\
local value = redis.call('GET', KEYS[1])
if value then return value end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
redis.call('INCR', KEYS[3])
return 0";

/// The same keys, and the list.
const LEAVE: &str = "\
redis.call('SET', KEYS[1], ARGV[1], 'EX', 60)
for _ = 1, tonumber(redis.call('GET', KEYS[3]) or 0) do
  redis.call('RPUSH', KEYS[4], ARGV[1])
end
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('EXPIRE', KEYS[4], 60)
return 1";

/// A way to compute once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The module's.
    Fetch,
    /// Polling.
    Spin,
    /// Polling for a lock that all must have once.
    Lock,
    /// Waiting for a list.
    List,
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Fetch, Self::Spin, Self::Lock, Self::List];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fetch => "CACHE.FETCH",
            Self::Spin => "lock and spin",
            Self::Lock => "redis-py's Lock",
            Self::List => "BLPOP script",
        }
    }

    /// Whether the server holds the replies of those who wait.
    pub fn blocks(self) -> bool {
        matches!(self, Self::Fetch | Self::List)
    }

    /// Loads its scripts, and makes clients that know them, for a key.
    pub fn prepare(self, server: &mut Server, key: &str) -> Result<Maker> {
        let scripts = match self {
            Self::Lock => [RELEASE].as_slice(),
            Self::List => &[ENTER, LEAVE],
            Self::Fetch | Self::Spin => &[],
        };
        let load = |script: &&str| server.query(redis::cmd("SCRIPT").arg("LOAD").arg(*script));
        let scripts = scripts.iter().map(load).collect::<Result<_>>()?;
        let value = ('a'..='z').cycle().take(VALUE).collect();
        Ok(Maker { way: self, shared: Arc::new(Shared { key: key.to_string(), value, scripts }) })
    }

    /// Commands that clients sent, of those that the server ran: without what
    /// scripts called.
    pub fn sent(self, ran: &Calls) -> u64 {
        match self {
            Self::Fetch | Self::Spin => ran.total(),
            // Its script calls GET, and DEL where the lock was the caller's.
            Self::Lock => ran.total().saturating_sub(ran.of("evalsha") + ran.of("del")),
            Self::List => ran.of("evalsha") + ran.of("blpop"),
        }
    }
}

/// Makes clients of a way and a key.
pub struct Maker {
    way: Way,
    shared: Arc<Shared>,
}

impl Maker {
    /// The client of this number.
    pub fn client(&self, number: u64) -> Waiter {
        Waiter {
            way: self.way,
            shared: Arc::clone(&self.shared),
            state: State::New,
            token: format!("{number:032x}"),
            random: SmallRng::seed_from_u64(number),
        }
    }
}

/// What the clients of a key have in common.
struct Shared {
    key: String,
    value: String,
    /// Their digests.
    scripts: Vec<String>,
}

impl Shared {
    /// A script's digest.
    fn script(&self, which: usize) -> &str {
        self.scripts.get(which).map_or("", String::as_str)
    }
}

/// One client.
pub struct Waiter {
    way: Way,
    shared: Arc<Shared>,
    state: State,
    /// Of the lease, or what a lock of its own is known by.
    token: String,
    random: SmallRng,
}

/// Which reply it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Reading,
    Locking,
    /// With the lock.
    Rereading,
    /// For the list.
    Waiting,
    Computing,
    Storing,
    Unlocking,
}

impl Client for Waiter {
    fn next(&mut self, event: Event) -> Result<Step> {
        use State::{Computing, Locking, New, Reading, Rereading, Storing, Unlocking, Waiting};
        match (self.way, self.state, event) {
            (_, New, Event::Begin) => Ok(self.read()),
            (Way::Fetch, Reading, Event::Reply(reply)) => self.fetched(&reply),
            (Way::List, Reading, Event::Reply(reply)) => match reply {
                Value::Int(0) => {
                    let list = self.name("list");
                    Ok(self.ask(Waiting, &["BLPOP", &list, "30"]))
                }
                Value::Int(1) => Ok(self.compute()),
                value => self.had(&value),
            },
            (Way::List, Waiting, Event::Reply(Value::Array(item))) => {
                self.had(item.get(1).context("an item of no list")?)
            }
            (Way::Spin | Way::Lock, Reading, Event::Reply(Value::Nil)) => Ok(self.lock()),
            (Way::Spin | Way::Lock, Reading, Event::Reply(value)) => self.had(&value),
            (Way::Spin, Locking, Event::Reply(Value::Nil)) => {
                self.state = New;
                Ok(Step::Pause(Duration::from_millis(self.random.random_range(SPIN.0..=SPIN.1))))
            }
            (Way::Spin, New, Event::Woken) => Ok(self.read()),
            (Way::Spin, Locking, Event::Reply(_)) => Ok(self.compute()),
            (Way::Lock, Locking, Event::Reply(Value::Nil)) => Ok(Step::Pause(RETRY)),
            (Way::Lock, Locking, Event::Woken) => Ok(self.lock()),
            (Way::Lock, Locking, Event::Reply(_)) => {
                let shared = Arc::clone(&self.shared);
                Ok(self.ask(Rereading, &["GET", &shared.key]))
            }
            (Way::Lock, Rereading, Event::Reply(Value::Nil)) => Ok(self.compute()),
            (Way::Lock, Rereading, Event::Reply(value)) => {
                self.had(&value)?;
                Ok(self.unlock())
            }
            (_, Computing, Event::Loaded) => Ok(self.store()),
            (Way::Fetch, Storing, Event::Reply(reply)) => {
                ensure!(reply == Value::Okay, "the fill was answered {reply:?}");
                Ok(Step::Done)
            }
            (Way::Spin | Way::Lock, Storing, Event::Reply(_)) => Ok(self.unlock()),
            (Way::List, Storing, Event::Reply(_)) => Ok(Step::Done),
            (Way::Spin | Way::Lock, Unlocking, Event::Reply(_)) => Ok(Step::Done),
            (way, state, event) => bail!("{}: {event:?} to one who is {state:?}", way.name()),
        }
    }
}

impl Waiter {
    /// Of what belongs to the key, a hash tag as in a cluster.
    fn name(&self, what: &str) -> String {
        format!("{what}:{{{}}}", self.shared.key)
    }

    fn ask(&mut self, state: State, words: &[&str]) -> Step {
        self.state = state;
        let mut command = redis::Cmd::new();
        command.arg(words);
        Step::Ask(command.get_packed_command())
    }

    fn read(&mut self) -> Step {
        let shared = Arc::clone(&self.shared);
        match self.way {
            Way::Fetch => {
                self.ask(State::Reading, &["CACHE.FETCH", &shared.key, "LEASE", LEASE, "BLOCK", "30000"])
            }
            Way::Spin | Way::Lock => self.ask(State::Reading, &["GET", &shared.key]),
            Way::List => {
                let token = self.token.clone();
                let (lock, waiters) = (self.name("lock"), self.name("waiters"));
                let words = ["EVALSHA", shared.script(0), "3", &shared.key, &lock, &waiters, &token, LEASE];
                self.ask(State::Reading, &words)
            }
        }
    }

    fn lock(&mut self) -> Step {
        let (lock, token) = (self.name("lock"), self.token.clone());
        self.ask(State::Locking, &["SET", &lock, &token, "NX", "PX", LEASE])
    }

    fn unlock(&mut self) -> Step {
        let (shared, lock, token) = (Arc::clone(&self.shared), self.name("lock"), self.token.clone());
        match self.way {
            Way::Lock => self.ask(State::Unlocking, &["EVALSHA", shared.script(0), "1", &lock, &token]),
            _ => self.ask(State::Unlocking, &["DEL", &lock]),
        }
    }

    fn compute(&mut self) -> Step {
        self.state = State::Computing;
        Step::Origin
    }

    fn store(&mut self) -> Step {
        let (shared, token) = (Arc::clone(&self.shared), self.token.clone());
        let Shared { key, value, .. } = shared.as_ref();
        match self.way {
            Way::Fetch => self.ask(State::Storing, &["CACHE.SET", key, value, "LEASE", &token, "EX", "60"]),
            Way::Spin | Way::Lock => self.ask(State::Storing, &["SET", key, value, "EX", "60"]),
            Way::List => {
                let names = [self.name("lock"), self.name("waiters"), self.name("list")];
                let [lock, waiters, list] = &names;
                let words = ["EVALSHA", shared.script(1), "4", key, lock, waiters, list, value];
                self.ask(State::Storing, &words)
            }
        }
    }

    /// Of CACHE.FETCH: `[state, value, token, ms]`.
    fn fetched(&mut self, reply: &Value) -> Result<Step> {
        let lease = Lease::of(reply)?;
        match (lease.state.as_str(), lease.token) {
            ("FRESH", None) => self.had(&lease.value),
            ("MISS", Some(token)) => {
                self.token = token.to_string();
                Ok(self.compute())
            }
            _ => bail!("CACHE.FETCH was answered {reply:?}"),
        }
    }

    fn had(&mut self, value: &Value) -> Result<Step> {
        match value {
            Value::BulkString(bytes) if bytes == self.shared.value.as_bytes() => Ok(Step::Done),
            value => bail!("{}: another value than was stored: {value:?}", self.way.name()),
        }
    }
}

/// A reply of CACHE.FETCH.
#[derive(Debug, PartialEq)]
pub struct Lease {
    /// In capitals.
    pub state: String,
    /// Nil where there is none.
    pub value: Value,
    /// Where the caller was elected.
    pub token: Option<u64>,
}

impl Lease {
    /// Reads it.
    pub fn of(reply: &Value) -> Result<Self> {
        let (state, value, token, _): (String, Value, Option<u64>, i64) =
            redis::from_redis_value(reply).with_context(|| format!("CACHE.FETCH was answered {reply:?}"))?;
        Ok(Self { state, value, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "k";

    fn client(way: Way) -> Waiter {
        let scripts = ["sha0", "sha1"].map(String::from).to_vec();
        let shared = Shared { key: KEY.into(), value: "value".into(), scripts };
        Maker { way, shared: Arc::new(shared) }.client(7)
    }

    fn value() -> Event {
        reply(Value::BulkString(b"value".to_vec()))
    }

    fn reply(value: Value) -> Event {
        Event::Reply(value)
    }

    fn fetch(state: &str, value: Value, token: Value) -> Event {
        reply(Value::Array(vec![Value::SimpleString(state.into()), value, token, Value::Int(9)]))
    }

    /// Plays it: what it asks, in words, and what else it does.
    fn play(way: Way, events: Vec<Event>) -> Vec<String> {
        let mut client = client(way);
        let step = |event| match client.next(event) {
            Ok(Step::Ask(command)) => {
                let words = redis::parse_redis_value(&command).unwrap();
                redis::from_redis_value::<Vec<String>>(&words).unwrap().join(" ")
            }
            Ok(Step::Pause(time)) => {
                let (low, high) = if way == Way::Spin { (10, 50) } else { (100, 100) };
                assert!((low..=high).contains(&time.as_millis()));
                "pause".into()
            }
            Ok(Step::Origin) => "origin".into(),
            Ok(Step::Done) => "done".into(),
            Err(error) => format!("error: {error}"),
        };
        events.into_iter().map(step).collect()
    }

    #[test]
    fn a_fetch_computes_where_it_was_elected_and_else_is_done() {
        let read = "CACHE.FETCH k LEASE 10000 BLOCK 30000";
        let elected =
            vec![Event::Begin, fetch("MISS", Value::Nil, Value::Int(42)), Event::Loaded, reply(Value::Okay)];
        assert_eq!(play(Way::Fetch, elected), [read, "origin", "CACHE.SET k value LEASE 42 EX 60", "done"]);
        let value = Value::BulkString(b"value".to_vec());
        assert_eq!(play(Way::Fetch, vec![Event::Begin, fetch("FRESH", value, Value::Nil)]), [read, "done"]);
        for wrong in [
            fetch("BUSY", Value::Nil, Value::Nil),
            fetch("FRESH", Value::BulkString(b"another".to_vec()), Value::Nil),
            reply(Value::Nil),
        ] {
            let said = play(Way::Fetch, vec![Event::Begin, wrong]);
            assert!(said[1].starts_with("error: "), "{said:?}");
        }
    }

    #[test]
    fn who_spins_sleeps_and_begins_anew() {
        let nil = || reply(Value::Nil);
        let (get, set) = ("GET k", "SET lock:{k} 00000000000000000000000000000007 NX PX 10000");
        let loser = vec![Event::Begin, nil(), nil(), Event::Woken, value()];
        assert_eq!(play(Way::Spin, loser), [get, set, "pause", get, "done"]);
        let winner = vec![
            Event::Begin,
            nil(),
            reply(Value::Okay),
            Event::Loaded,
            reply(Value::Okay),
            reply(Value::Int(1)),
        ];
        assert_eq!(
            play(Way::Spin, winner),
            [get, set, "origin", "SET k value EX 60", "DEL lock:{k}", "done"]
        );
    }

    #[test]
    fn who_waits_for_a_lock_must_have_it_and_let_it_go() {
        let nil = || reply(Value::Nil);
        let token = "00000000000000000000000000000007";
        let (get, set) = ("GET k", format!("SET lock:{{k}} {token} NX PX 10000"));
        let release = format!("EVALSHA sha0 1 lock:{{k}} {token}");
        let loser =
            vec![Event::Begin, nil(), nil(), Event::Woken, reply(Value::Okay), value(), reply(Value::Int(1))];
        assert_eq!(play(Way::Lock, loser), [get, &set, "pause", &set, get, &release, "done"]);
        let winner = vec![
            Event::Begin,
            nil(),
            reply(Value::Okay),
            nil(),
            Event::Loaded,
            reply(Value::Okay),
            reply(Value::Int(1)),
        ];
        assert_eq!(
            play(Way::Lock, winner),
            [get, &set, get, "origin", "SET k value EX 60", &release, "done"]
        );
    }

    #[test]
    fn who_waits_for_a_list_is_given_the_value_by_it() {
        let enter = "EVALSHA sha0 3 k lock:{k} waiters:{k} 00000000000000000000000000000007 10000";
        let item = reply(Value::Array(vec![Value::Nil, Value::BulkString(b"value".to_vec())]));
        let loser = vec![Event::Begin, reply(Value::Int(0)), item];
        assert_eq!(play(Way::List, loser), [enter, "BLPOP list:{k} 30", "done"]);
        let winner = vec![Event::Begin, reply(Value::Int(1)), Event::Loaded, reply(Value::Int(1))];
        let leave = "EVALSHA sha1 4 k lock:{k} waiters:{k} list:{k} value";
        assert_eq!(play(Way::List, winner), [enter, "origin", leave, "done"]);
        assert_eq!(play(Way::List, vec![Event::Begin, value()]), [enter, "done"]);
    }

    #[test]
    fn what_scripts_call_was_not_sent() {
        let calls = |text: &str| Calls::parse(text);
        let lock = calls(
            "cmdstat_get:calls=7\r\ncmdstat_set:calls=5\r\ncmdstat_evalsha:calls=2\r\ncmdstat_del:calls=2",
        );
        assert_eq!(Way::Lock.sent(&lock), 5 + 5 + 2);
        let list = calls("cmdstat_get:calls=7\r\ncmdstat_rpush:calls=9\r\ncmdstat_evalsha:calls=5\r\ncmdstat_blpop:calls=3");
        assert_eq!(Way::List.sent(&list), 8);
        assert_eq!(Way::Fetch.sent(&list), 24);
    }
}
