//! Who computes is killed: how long until somebody else does.
//!
//! A process of its own takes the lease and says so; a client waits behind it;
//! the process is killed by SIGKILL, and the time is taken until the client is
//! elected. With SET NX PX nobody but the clock lets go of the lock, and who
//! waits asks every 5 ms: what is measured is the lock's length, here 3 s,
//! less the moment for which the holder lived.

use super::ratio::{Figure, Spread, Target, Unit};
use super::server::Server;
use super::stampede_ways::Lease;
use super::summary::time_text;
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Of the lease, in milliseconds: far beyond the target.
const LEASE: &str = "60000";
/// Of the lock that is compared.
const LOCK: &str = "3000";
const POLL: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);
const TARGET: Target = Target::AtMost(50e-3);

/// Takes the right to compute, says its token, and does nothing until its
/// input ends.
#[derive(Args)]
pub struct HolderOptions {
    /// The server.
    #[arg(long)]
    address: SocketAddr,
    /// The key.
    #[arg(long)]
    key: String,
    /// By SET NX PX.
    #[arg(long)]
    lock: bool,
}

/// The process that is killed.
pub fn hold(options: &HolderOptions) -> Result<()> {
    let mut connection = redis::Client::open(format!("redis://{}", options.address))?.get_connection()?;
    let token = take(options.lock, &options.key, &mut connection)?.context("somebody else computes")?;
    let mut out = std::io::stdout();
    writeln!(out, "{token}")?;
    out.flush()?;
    // Its parent holds the other end, and is there as long as it is needed.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// A token, or None where somebody has it.
fn take(lock: bool, key: &str, connection: &mut redis::Connection) -> Result<Option<u64>> {
    if lock {
        let mut set = redis::cmd("SET");
        set.arg(key).arg(1).arg("NX").arg("PX").arg(LOCK);
        return Ok((set.query::<redis::Value>(connection)? == redis::Value::Okay).then_some(1));
    }
    let reply = redis::cmd("CACHE.FETCH").arg(key).arg("LEASE").arg(LEASE).query(connection)?;
    Ok(Lease::of(&reply)?.token)
}

/// It, as its parent sees it.
struct Holder {
    process: Child,
    token: u64,
}

impl Holder {
    fn start(address: SocketAddr, key: &str, lock: bool) -> Result<Self> {
        let program = std::env::current_exe().context("this program does not know where it is")?;
        let mut command = Command::new(program);
        command.args(["bench", "hold", "--address", &address.to_string(), "--key", key]);
        if lock {
            command.arg("--lock");
        }
        let process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut holder = Self { process, token: 0 };
        let mut line = String::new();
        BufReader::new(holder.process.stdout.take().context("no pipe")?).read_line(&mut line)?;
        holder.token = line.trim().parse().context("the process that holds the lease has none")?;
        Ok(holder)
    }

    /// SIGKILL.
    fn kill(&mut self) -> Result<()> {
        self.process.kill().context("the process that holds the lease cannot be killed")
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Seconds from the kill until the one who waits is elected.
pub fn fetch(key: &str, server: &mut Server) -> Result<f64> {
    let mut holder = Holder::start(server.address(), key, false)?;
    let mut waiter = redis::Client::open(format!("redis://{}", server.address()))?.get_connection()?;
    waiter.set_read_timeout(Some(PATIENCE))?;
    let mut fetch = redis::cmd("CACHE.FETCH");
    fetch.arg(key).arg("LEASE").arg(LEASE).arg("BLOCK").arg(LEASE);
    waiter.send_packed_command(&fetch.get_packed_command())?;
    let start = Instant::now();
    while server.blocked()? == 0 {
        ensure!(start.elapsed() < PATIENCE && !interrupt::asked(), "the server does not let a client wait");
        std::thread::sleep(POLL);
    }
    let killed = Instant::now();
    holder.kill()?;
    let reply = match waiter.recv_response() {
        Err(error) if error.is_timeout() => return Ok(f64::INFINITY),
        reply => reply.context("CACHE.FETCH of the one who waits")?,
    };
    let time = killed.elapsed();
    let lease = Lease::of(&reply)?;
    ensure!(
        lease.state == "MISS" && lease.token.is_some_and(|token| token > holder.token),
        "the one who waited behind token {} was answered {reply:?}",
        holder.token
    );
    Ok(time.as_secs_f64())
}

/// The same with SET NX PX.
pub fn lock(key: &str, server: &mut Server) -> Result<f64> {
    let mut holder = Holder::start(server.address(), key, true)?;
    let mut waiter = redis::Client::open(format!("redis://{}", server.address()))?.get_connection()?;
    ensure!(take(true, key, &mut waiter)?.is_none(), "the lock is held by nobody");
    let killed = Instant::now();
    holder.kill()?;
    while take(true, key, &mut waiter)?.is_none() {
        if interrupt::asked() {
            bail!("stopped");
        }
        if killed.elapsed() > PATIENCE {
            return Ok(f64::INFINITY);
        }
        std::thread::sleep(POLL);
    }
    Ok(killed.elapsed().as_secs_f64())
}

/// For people.
pub fn line(name: &str, time: f64) -> String {
    let time = Duration::try_from_secs_f64(time).map_or("never".into(), time_text);
    format!("  {name}, the holder killed: the next one computes after {time}")
}

/// What is measured of either.
pub fn figures(fetches: &[f64], locks: &[f64]) -> Vec<Figure> {
    let figure = |name: String, times: &[f64], target| {
        Some(Figure {
            name,
            metric: "next one computes",
            spread: Spread::of(times.iter().copied())?,
            sides: None,
            unit: Unit::Time,
            target,
        })
    };
    [
        figure(format!("holder killed, CACHE.FETCH LEASE {LEASE}"), fetches, TARGET),
        figure(format!("holder killed, SET NX PX {LOCK}"), locks, Target::None),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_the_module_s() {
        let figures = figures(&[0.002, 0.003, f64::INFINITY], &[2.9]);
        assert!(
            figures[0].line().ends_with("3.0 ms    2.0 ms-never  <= 50.0 ms reached"),
            "{}",
            figures[0].line()
        );
        assert!(figures[1].line().ends_with("2.9 s"), "{}", figures[1].line());
        assert!(line("CACHE.FETCH", f64::INFINITY).ends_with("after never"));
    }
}
