//! A server of the benchmark's own: a child process on a free loopback port
//! in a directory of its own, both gone when this is dropped. Where `setpriv`
//! is there, the kernel ends the child also if this program is killed.

use anyhow::{bail, Context, Result};
use redis::ConnectionLike;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of nodes of a cluster. They are on one busy machine: none is to be taken for
/// dead. Primaries vote for a shard once in twice that time. Replicas are not to
/// wait for others to join them.
const NODE: [&str; 10] = [
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "5000",
    "--cluster-replica-validity-factor",
    "0",
    "--cluster-allow-replica-migration",
    "no",
    "--repl-diskless-sync-delay",
    "0",
];
const START: Duration = Duration::from_secs(20);
/// With a file to load first.
const LOAD: Duration = Duration::from_secs(600);

/// What to start.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The server's program.
    pub program: PathBuf,
    /// The module to load, if any.
    pub module: Option<PathBuf>,
    /// As a node of a cluster that is yet to be formed.
    pub cluster: bool,
}

/// A running server.
pub struct Server {
    child: Child,
    address: SocketAddr,
    bus: Option<u16>,
    connection: redis::Connection,
    log: PathBuf,
    _directory: Option<tempfile::TempDir>,
}

impl Recipe {
    /// A server on its own.
    pub fn new(program: &Path, module: Option<&Path>) -> Self {
        Self { program: program.into(), module: module.map(Into::into), cluster: false }
    }

    /// The same server without the module.
    pub fn without_module(&self) -> Self {
        Self { module: None, ..self.clone() }
    }

    /// Starts it and waits until it answers. It saves nothing.
    pub fn start(&self) -> Result<Server> {
        self.start_in(None)
    }

    /// The same in a directory that stays, with the dump that lies there, if
    /// one does. One server at a time in a directory.
    pub fn start_from(&self, directory: &Path) -> Result<Server> {
        self.start_in(Some(directory))
    }

    fn start_in(&self, directory: Option<&Path>) -> Result<Server> {
        // Between finding a free port and taking it, another may take it.
        let mut failure = None;
        for _ in 0..3 {
            match self.try_start(directory) {
                Ok(server) => return Ok(server),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or_else(|| bail!("the server does not start"), Err)
    }

    fn try_start(&self, home: Option<&Path>) -> Result<Server> {
        let directory = match home {
            Some(_) => None,
            None => Some(temporary()?),
        };
        let home = home.or(directory.as_ref().map(|own| own.path())).context("no directory")?;
        let log = home.join("server.log");
        match fs::remove_file(&log) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let address = free_address()?;
        let bus = match self.cluster {
            true => Some(free_address()?.port()),
            false => None,
        };
        let mut command = self.command();
        command
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(home)
            .arg("--logfile")
            .arg(&log);
        if let Some(bus) = bus {
            command.args(["--cluster-port", &bus.to_string()]).args(NODE);
        }
        if let Some(module) = &self.module {
            let module = fs::canonicalize(module).with_context(|| {
                format!("there is no module at {} (build it with `cargo build --release`)", module.display())
            })?;
            command.arg("--loadmodule").arg(module);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let patience = if directory.is_some() { START } else { LOAD };
        match wait(&mut child, address, patience) {
            Ok(connection) => Ok(Server { child, address, bus, connection, log, _directory: directory }),
            Err(error) => {
                stop(&mut child);
                Err(error.context(format!(
                    "{} does not start; its log ends:\n{}",
                    self.program.display(),
                    tail(&log)
                )))
            }
        }
    }

    fn command(&self) -> Command {
        let setpriv = Path::new("/usr/bin/setpriv");
        if setpriv.exists() {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "TERM", "--"]).arg(&self.program);
            return command;
        }
        Command::new(&self.program)
    }
}

/// A directory that goes when this is dropped.
pub fn temporary() -> Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("cacheflow-bench-").tempdir().context("cannot make a directory")
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    Ok(listener.local_addr()?)
}

fn wait(child: &mut Child, address: SocketAddr, patience: Duration) -> Result<redis::Connection> {
    let client = redis::Client::open(format!("redis://{address}"))?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("it ended at once ({status})");
        }
        if let Ok(mut connection) = client.get_connection() {
            if redis::cmd("PING").query::<String>(&mut connection).is_ok() {
                return Ok(connection);
            }
        }
        if start.elapsed() > patience || crate::interrupt::asked() {
            bail!("it does not answer");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn stop(child: &mut Child) {
    // By its own process id; it has nothing to save.
    let _ = child.kill();
    let _ = child.wait();
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens to other nodes, in a cluster.
    pub fn bus(&self) -> Option<u16> {
        self.bus
    }

    /// CPU time that all its threads have used, user and system, as exactly as
    /// the kernel tells: nanoseconds from the scheduler, else INFO's figures.
    pub fn cpu(&mut self) -> Result<Duration> {
        match scheduled(self.child.id()) {
            Some(time) => Ok(time),
            None => {
                let info = self.info("cpu")?;
                let seconds = info.number("used_cpu_user")? + info.number("used_cpu_sys")?;
                Ok(Duration::from_secs_f64(seconds))
            }
        }
    }

    /// Asks it.
    pub fn query<T: redis::FromRedisValue>(&mut self, command: &redis::Cmd) -> Result<T> {
        command.query(&mut self.connection).context("the server does not do what it should")
    }

    /// Sends a packed command; its reply, unless that is an error.
    pub fn raw(&mut self, command: &[u8]) -> Result<redis::Value> {
        self.connection
            .req_packed_command(command)
            .and_then(redis::Value::extract_error)
            .context("the server does not do what it should")
    }

    /// Whether it has this command.
    pub fn knows(&mut self, command: &str) -> Result<bool> {
        let known: Vec<redis::Value> = self.query(redis::cmd("COMMAND").arg("INFO").arg(command))?;
        Ok(known.iter().any(|known| *known != redis::Value::Nil))
    }

    /// Keys in the selected database.
    pub fn keys(&mut self) -> Result<u64> {
        self.query(&redis::cmd("DBSIZE"))
    }

    /// Clients whose reply it holds back.
    pub fn blocked(&mut self) -> Result<u64> {
        Ok(self.info("clients")?.number("blocked_clients")? as u64)
    }

    /// How long it took to load its dump when it started, by its own clock.
    pub fn loading(&self) -> Result<Duration> {
        let text = fs::read_to_string(&self.log).context("the server's log cannot be read")?;
        loaded(&text).context("the server's log does not say how long loading took")
    }

    /// A section of INFO.
    pub fn info(&mut self, section: &str) -> Result<Info> {
        Info::of(&mut self.connection, section)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

/// `DB loaded from disk: 1.234 seconds` in a log.
fn loaded(log: &str) -> Option<Duration> {
    let (_, rest) = log.rsplit_once("DB loaded from disk: ")?;
    Duration::try_from_secs_f64(rest.split_whitespace().next()?.parse().ok()?).ok()
}

/// What the scheduler gave to each thread. Threads that ended are missing, but
/// a server starts its threads once.
fn scheduled(pid: u32) -> Option<Duration> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let line = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        total += line.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    (total > 0).then_some(Duration::from_nanos(total))
}

/// Fields of an INFO section.
pub struct Info(String);

impl Info {
    /// Asks a server.
    pub fn of(connection: &mut redis::Connection, section: &str) -> Result<Self> {
        let text = redis::cmd("INFO").arg(section).query(connection).context("the server refuses INFO")?;
        Ok(Self(text))
    }

    /// All of it.
    pub fn all(&self) -> &str {
        &self.0
    }

    /// The text of a field.
    pub fn text(&self, field: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).map(str::trim)
    }

    /// The number in a field.
    pub fn number(&self, field: &str) -> Result<f64> {
        self.text(field)
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("the server's INFO has no number {field}"))
    }

    /// `redis 7.0.15` or `valkey 8.1.1`.
    pub fn version(&self) -> String {
        match (self.text("valkey_version"), self.text("redis_version")) {
            (Some(version), _) => format!("valkey {version}"),
            (None, Some(version)) => format!("redis {version}"),
            (None, None) => "an unknown server".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_fields_are_found_by_their_whole_name() {
        let info = Info("# Memory\r\nused_memory_rss:9\r\nused_memory:123\r\nredis_version:7.2.4\r\n".into());
        assert_eq!(info.number("used_memory").unwrap(), 123.0);
        assert!(info.number("memory").is_err());
        assert_eq!(info.version(), "redis 7.2.4");
    }

    #[test]
    fn the_log_says_how_long_loading_took() {
        let log = "1:M 24 Nov 2026 10:00:00.000 * Done loading RDB, keys loaded: 9.\n1:M 24 Nov 2026 10:00:00.000 * DB loaded from disk: 1.250 seconds\n1:M * Ready\n";
        assert_eq!(loaded(log), Some(Duration::from_millis(1250)));
        assert_eq!(loaded("* Ready to accept connections"), None);
    }

    #[test]
    fn the_scheduler_tells_this_process_time() {
        let before = scheduled(std::process::id());
        assert!(before.is_none_or(|time| time > Duration::ZERO));
    }
}
