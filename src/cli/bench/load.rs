//! The load generator: cheaper than any server, so that it measures one.
//!
//! One thread goes round blocking sockets: send a batch on each, then for ever
//! read the replies of the next socket and send it another. No epoll, no
//! allocation, no building of commands: a command is encoded once, and only
//! the digits of its key are written anew. Replies are counted, not built.

use super::resp::{self, Reply};
use anyhow::{bail, ensure, Context, Result};
use rand::{rngs::SmallRng, Rng, SeedableRng};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Every key of the benchmarks is this long: a prefix, zeros, and its number.
pub const KEY_LENGTH: usize = 30;
const DIGITS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(30);

/// A command with a hole where the number of the key goes.
#[derive(Clone)]
pub struct Template {
    bytes: Vec<u8>,
    /// Where the digits begin, for each argument that is a key.
    holes: Vec<usize>,
}

impl Template {
    /// Encodes a command; the words `{key}` and `{value}` stand for a key that
    /// begins with `prefix`, and for a value of so many bytes.
    pub fn new(words: &[&str], prefix: &str, value: usize) -> Self {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        let mut holes = Vec::new();
        for word in words {
            let argument = match *word {
                "{key}" => format!("{prefix:0<KEY_LENGTH$}").into_bytes(),
                "{value}" => (b'a'..=b'z').cycle().take(value).collect(),
                word => word.as_bytes().to_vec(),
            };
            bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
            bytes.extend(&argument);
            if *word == "{key}" {
                holes.push(bytes.len() - DIGITS);
            }
            bytes.extend(b"\r\n");
        }
        Self { bytes, holes }
    }

    /// So many of this command, one after the other.
    fn batch(&self, pipeline: usize) -> Batch {
        let holes = (0..pipeline)
            .flat_map(|i| self.holes.iter().map(move |hole| i * self.bytes.len() + hole))
            .collect();
        Batch { bytes: self.bytes.repeat(pipeline), holes, pipeline }
    }
}

struct Batch {
    bytes: Vec<u8>,
    holes: Vec<usize>,
    pipeline: usize,
}

impl Batch {
    fn aim(&mut self, mut key: impl FnMut() -> u32) {
        for &hole in &self.holes {
            let mut number = key();
            for digit in self.bytes[hole..hole + DIGITS].iter_mut().rev() {
                *digit = b'0' + (number % 10) as u8;
                number /= 10;
            }
        }
    }
}

/// What a slice of load did.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// Commands answered.
    pub commands: u64,
    /// From the first byte sent to the last reply.
    pub time: Duration,
    /// How many answers were nil.
    pub nils: u64,
}

/// Connections to one server.
pub struct Load {
    connections: Vec<Connection>,
    random: SmallRng,
}

struct Connection {
    socket: TcpStream,
    replies: Vec<u8>,
    /// Of `replies`, what has arrived and was not looked at yet.
    unread: std::ops::Range<usize>,
}

impl Load {
    /// Connects so many times.
    pub fn connect(address: SocketAddr, connections: usize, seed: u64) -> Result<Self> {
        let connections = (0..connections).map(|_| Connection::open(address)).collect::<Result<_>>()?;
        Ok(Self { connections, random: SmallRng::seed_from_u64(seed) })
    }

    /// Sends the command for keys drawn uniformly from `keys`, until the time is up.
    pub fn run(&mut self, template: &Template, pipeline: usize, keys: u32, time: Duration) -> Result<Slice> {
        let random = &mut self.random;
        let start = Instant::now();
        drive(
            &mut self.connections,
            template,
            pipeline,
            || random.random_range(0..keys),
            |_| start.elapsed() < time,
        )
    }

    /// Sends the command once for each key from 0 up, or a few more.
    pub fn fill(&mut self, template: &Template, keys: u32) -> Result<Slice> {
        let mut next = 0;
        let key = || {
            next = (next + 1).min(keys);
            next - 1
        };
        drive(&mut self.connections, template, 64, key, |sent| sent < u64::from(keys))
    }
}

fn drive(
    connections: &mut [Connection],
    template: &Template,
    pipeline: usize,
    mut key: impl FnMut() -> u32,
    mut more: impl FnMut(u64) -> bool,
) -> Result<Slice> {
    let mut batch = template.batch(pipeline);
    let mut slice = Slice { commands: 0, time: Duration::ZERO, nils: 0 };
    let mut sent = 0;
    let start = Instant::now();
    for connection in connections.iter_mut() {
        batch.aim(&mut key);
        connection.socket.write_all(&batch.bytes).context("the server closed the connection")?;
        sent += pipeline as u64;
    }
    while more(sent) {
        for connection in connections.iter_mut() {
            slice.nils += connection.read(pipeline)?;
            batch.aim(&mut key);
            connection.socket.write_all(&batch.bytes).context("the server closed the connection")?;
        }
        let round = (connections.len() * batch.pipeline) as u64;
        slice.commands += round;
        sent += round;
    }
    for connection in connections.iter_mut() {
        slice.nils += connection.read(pipeline)?;
        slice.commands += pipeline as u64;
    }
    slice.time = start.elapsed();
    Ok(slice)
}

impl Connection {
    fn open(address: SocketAddr) -> Result<Self> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)
            .with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket, replies: vec![0; 64 << 10], unread: 0..0 })
    }

    /// Reads so many replies; the number of nils among them.
    fn read(&mut self, mut replies: usize) -> Result<u64> {
        let mut nils = 0;
        while replies > 0 {
            let bytes = &self.replies[self.unread.clone()];
            match resp::skip(bytes) {
                Ok(Some((Reply::Error, length))) => {
                    bail!(
                        "the server answered an error: {}",
                        String::from_utf8_lossy(&bytes[..length]).trim_end()
                    )
                }
                Ok(Some((reply, length))) => {
                    nils += u64::from(reply == Reply::Nil);
                    self.unread.start += length;
                    replies -= 1;
                }
                Ok(None) => self.receive()?,
                Err(resp::NotResp) => bail!("the server's answer is not in Redis's protocol"),
            }
        }
        Ok(nils)
    }

    fn receive(&mut self) -> Result<()> {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.start > 0 {
            self.replies.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        if self.unread.end == self.replies.len() {
            self.replies.resize(self.replies.len() * 2, 0);
        }
        let count =
            self.socket.read(&mut self.replies[self.unread.end..]).context("the server does not answer")?;
        ensure!(count > 0, "the server closed the connection");
        self.unread.end += count;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_a_command_with_a_key_of_fixed_length() {
        let template = Template::new(&["SET", "{key}", "{value}", "EX", "60"], "bench:a:", 3);
        let mut batch = template.batch(2);
        let mut keys = [7, 123_456_789].into_iter();
        batch.aim(|| keys.next().unwrap());
        let text = String::from_utf8(batch.bytes).unwrap();
        let one = |digits: &str| {
            format!("*5\r\n$3\r\nSET\r\n$30\r\nbench:a:0000000000000{digits}\r\n$3\r\nabc\r\n$2\r\nEX\r\n$2\r\n60\r\n")
        };
        assert_eq!(text, one("000000007") + &one("123456789"));
    }
}
