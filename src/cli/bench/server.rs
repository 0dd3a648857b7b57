//! A server of the benchmark's own: a child process on a free loopback port
//! in a directory of its own, both gone when this is dropped. Where `setpriv`
//! is there, the kernel ends the child also if this program is killed.

use anyhow::{bail, Context, Result};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(20);

/// What to start.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The server's program.
    pub program: PathBuf,
    /// The module to load, if any.
    pub module: Option<PathBuf>,
}

/// A running server.
pub struct Server {
    child: Child,
    address: SocketAddr,
    connection: redis::Connection,
    _directory: tempfile::TempDir,
}

impl Recipe {
    /// The same server without the module.
    pub fn without_module(&self) -> Self {
        Self { module: None, ..self.clone() }
    }

    /// Starts it and waits until it answers. It saves nothing.
    pub fn start(&self) -> Result<Server> {
        // Between finding a free port and taking it, another may take it.
        let mut failure = None;
        for _ in 0..3 {
            match self.try_start() {
                Ok(server) => return Ok(server),
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or_else(|| bail!("the server does not start"), Err)
    }

    fn try_start(&self) -> Result<Server> {
        let directory = tempfile::Builder::new().prefix("cacheflow-bench-").tempdir()?;
        let log = directory.path().join("server.log");
        let address = free_address()?;
        let mut command = self.command();
        command
            .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(directory.path())
            .arg("--logfile")
            .arg(&log);
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
        match wait(&mut child, address) {
            Ok(connection) => Ok(Server { child, address, connection, _directory: directory }),
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

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("there is no free port")?;
    Ok(listener.local_addr()?)
}

fn wait(child: &mut Child, address: SocketAddr) -> Result<redis::Connection> {
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
        if start.elapsed() > START || crate::interrupt::asked() {
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
    fn the_scheduler_tells_this_process_time() {
        let before = scheduled(std::process::id());
        assert!(before.is_none_or(|time| time > Duration::ZERO));
    }
}
