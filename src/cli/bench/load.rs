//! The load generator: cheaper than any server, so that it measures one.
//!
//! One thread goes round blocking sockets: send a batch on each, then for ever
//! read the replies of the next socket and send it another. No epoll, no
//! allocation, no building of commands: a command is encoded once, and only
//! the digits of its key and tags are written anew. Replies are counted, not built.

use super::resp::{self, Reply};
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use hdrhistogram::Histogram;
use rand::{rngs::SmallRng, Rng, SeedableRng};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Every key of the benchmarks is this long: a prefix, zeros, and its number.
pub const KEY_LENGTH: usize = 30;
/// How many tags `{tag}` to `{tag4}` draw from.
pub const TAGS: u32 = 10_000;
const DIGITS: usize = 9;
const TAG_DIGITS: usize = 5;
/// Tags that a command may name without one of them coming twice.
const DISTINCT: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two commands that are not due yet.
const NAP: Duration = Duration::from_micros(50);

/// A command with holes where the number of the key, and of its tags, go.
#[derive(Clone)]
pub struct Template {
    bytes: Vec<u8>,
    holes: Vec<Hole>,
}

/// Digits to be written.
#[derive(Debug, Clone, Copy)]
struct Hole {
    /// Where they begin.
    at: usize,
    digits: usize,
    number: Number,
}

/// Of what.
#[derive(Debug, Clone, Copy)]
enum Number {
    Key,
    /// Of the key's tags this one, from 0.
    Tag(u32),
}

impl Template {
    /// Encodes a command. The words `{key}` and `{value}` stand for a key that
    /// begins with `prefix`, and for a value of so many bytes; a word that ends
    /// with `{key}` for its beginning and the key; `{tag}`, `{tag2}`, `{tag3}`,
    /// `{tag4}` for different tags of [`TAGS`], drawn by the key: a key that is
    /// written again has the same tags again, as in an application.
    pub fn new(words: &[&str], prefix: &str, value: usize) -> Self {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        let mut holes = Vec::new();
        for word in words {
            let (argument, digits, number) = argument(word, prefix, value);
            bytes.extend(format!("${}\r\n", argument.len()).into_bytes());
            bytes.extend(&argument);
            if let Some(number) = number {
                holes.push(Hole { at: bytes.len() - digits, digits, number });
            }
            bytes.extend(b"\r\n");
        }
        Self { bytes, holes }
    }

    /// So many of this command, one after the other.
    fn batch(&self, pipeline: usize) -> Batch {
        Batch { bytes: self.bytes.repeat(pipeline), length: self.bytes.len(), holes: self.holes.clone() }
    }
}

/// The name that a template's `{key}` stands for.
pub fn key(prefix: &str, number: u32) -> String {
    let zeros = KEY_LENGTH - DIGITS;
    format!("{prefix:0<zeros$}{number:0DIGITS$}")
}

/// A word's bytes, and which number goes over how many of their last digits.
fn argument(word: &str, prefix: &str, value: usize) -> (Vec<u8>, usize, Option<Number>) {
    let tag =
        |number| (format!("tag:{:0<TAG_DIGITS$}", "").into_bytes(), TAG_DIGITS, Some(Number::Tag(number)));
    match word {
        "{value}" => ((b'a'..=b'z').cycle().take(value).collect(), 0, None),
        "{tag}" => tag(0),
        "{tag2}" => tag(1),
        "{tag3}" => tag(2),
        "{tag4}" => tag(3),
        word => match word.strip_suffix("{key}") {
            Some(before) => {
                (format!("{before}{prefix:0<KEY_LENGTH$}").into_bytes(), DIGITS, Some(Number::Key))
            }
            None => (word.as_bytes().to_vec(), 0, None),
        },
    }
}

/// A key's tag: each of a key's four is drawn from a residue class of its own,
/// so that they differ, and which class comes first is drawn too, so that one
/// tag a key is drawn from all of them.
fn tag(key: u32, which: u32) -> u32 {
    let draw = |salt: u64| {
        // SplitMix64: Steele, Lea, Flood, OOPSLA 2014.
        let mut z = (u64::from(key) << 8 | salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    };
    let class = (draw(u64::from(DISTINCT)) + which) % DISTINCT;
    draw(u64::from(which)) % (TAGS / DISTINCT) * DISTINCT + class
}

struct Batch {
    bytes: Vec<u8>,
    /// Of one command.
    length: usize,
    /// In one command.
    holes: Vec<Hole>,
}

impl Batch {
    fn aim(&mut self, mut key: impl FnMut() -> u32) {
        for command in self.bytes.chunks_exact_mut(self.length) {
            let key = key();
            for hole in &self.holes {
                let mut number = match hole.number {
                    Number::Key => key,
                    Number::Tag(which) => tag(key, which),
                };
                for digit in command[hole.at..hole.at + hole.digits].iter_mut().rev() {
                    *digit = b'0' + (number % 10) as u8;
                    number /= 10;
                }
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
    unread: Range<usize>,
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
            std::slice::from_ref(template),
            pipeline,
            || random.random_range(0..keys),
            |_| start.elapsed() < time,
        )
    }

    /// Sends the command once for each key from 0 up, or a few more.
    pub fn fill(&mut self, template: &Template, keys: u32) -> Result<Slice> {
        self.each(template, 64, 0..keys)
    }

    /// Sends the command once for each of these keys, so many a round trip; for the
    /// last a few times more.
    pub fn each(&mut self, template: &Template, pipeline: usize, keys: Range<u32>) -> Result<Slice> {
        let (mut next, last) = (keys.start, keys.end.saturating_sub(1));
        let key = || {
            let key = next.min(last);
            next = next.saturating_add(1);
            key
        };
        let more = |sent| sent < keys.len() as u64 && !interrupt::asked();
        let slice = drive(&mut self.connections, std::slice::from_ref(template), pipeline, key, more)?;
        if interrupt::asked() {
            bail!("stopped");
        }
        Ok(slice)
    }

    /// Sends these commands, one after the other, for new keys from `next` on,
    /// which is moved on, until the time is up: all connections the first, for a key
    /// each, then the second for the same keys. Counted are the keys.
    pub fn run_on(
        &mut self,
        templates: &[Template],
        pipeline: usize,
        next: &mut u32,
        time: Duration,
    ) -> Result<Slice> {
        let at_once = u32::try_from(self.connections.len() * pipeline)?;
        let keys = Keys { first: *next, at_once, commands: u32::try_from(templates.len())? };
        let (start, mut asked) = (Instant::now(), 0);
        let key = || {
            asked += 1;
            keys.of(asked - 1)
        };
        let mut slice = drive(&mut self.connections, templates, pipeline, key, |_| start.elapsed() < time)?;
        *next = keys.after(asked);
        slice.commands /= u64::from(keys.commands);
        Ok(slice)
    }

    /// Sends the command for one key after the other from `next` on, one at a time on a
    /// connection and so many a second.
    pub fn pace(
        &mut self,
        template: &Template,
        a_second: u32,
        next: &mut u32,
        time: Duration,
    ) -> Result<Slice> {
        let mut batch = template.batch(1);
        let mut slice = Slice { commands: 0, time: Duration::ZERO, nils: 0 };
        let start = Instant::now();
        while slice.time < time {
            let due = (slice.time.as_secs_f64() * f64::from(a_second)) as u64;
            let behind = due.saturating_sub(slice.commands);
            for connection in self.connections.iter_mut().take(usize::try_from(behind)?) {
                batch.aim(|| *next);
                *next = next.saturating_add(1);
                connection.socket.write_all(&batch.bytes).context("the server closed the connection")?;
                slice.nils += connection.read(1)?;
                slice.commands += 1;
            }
            if behind == 0 {
                std::thread::sleep(NAP);
            }
            slice.time = start.elapsed();
        }
        Ok(slice)
    }
}

impl Load {
    /// Sends the command for keys drawn from `keys` on the first connection,
    /// one at a time with a pause after each, until `stop`: how long each took,
    /// in nanoseconds. A closed loop: who waits asks nothing meanwhile. It sends
    /// one at least.
    pub fn record(
        &mut self,
        template: &Template,
        keys: u32,
        pause: Duration,
        stop: &AtomicBool,
    ) -> Result<Histogram<u64>> {
        let mut times = Histogram::new_with_bounds(1, 600_000_000_000, 3).context("no histogram")?;
        let connection = self.connections.first_mut().context("no connection")?;
        let mut batch = template.batch(1);
        loop {
            batch.aim(|| self.random.random_range(0..keys));
            let asked = Instant::now();
            connection.socket.write_all(&batch.bytes).context("the server closed the connection")?;
            let nils = connection.read(1)?;
            times.saturating_record(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
            ensure!(nils == 0, "an answer was nil: all should be hits");
            if stop.load(Relaxed) {
                return Ok(times);
            }
            if !pause.is_zero() {
                std::thread::sleep(pause);
            }
        }
    }
}

/// The keys of [`Load::run_on`]: so many at once, each for every command.
#[derive(Clone, Copy)]
struct Keys {
    first: u32,
    at_once: u32,
    commands: u32,
}

impl Keys {
    /// The key that the nth command goes for, from 0.
    fn of(self, nth: u32) -> u32 {
        let round = nth / (self.at_once * self.commands);
        self.first.saturating_add(round * self.at_once + nth % self.at_once)
    }

    /// The first key that none of so many went for.
    fn after(self, commands: u32) -> u32 {
        self.first.saturating_add(commands.div_ceil(self.at_once * self.commands) * self.at_once)
    }
}

/// Sends batches until there are no more: of the first command on all connections, then
/// of the second, and so on.
fn drive(
    connections: &mut [Connection],
    templates: &[Template],
    pipeline: usize,
    mut key: impl FnMut() -> u32,
    mut more: impl FnMut(u64) -> bool,
) -> Result<Slice> {
    let mut batches: Vec<Batch> = templates.iter().map(|template| template.batch(pipeline)).collect();
    let mut slice = Slice { commands: 0, time: Duration::ZERO, nils: 0 };
    let round = (connections.len() * pipeline) as u64;
    let start = Instant::now();
    let mut rounds = 0;
    while rounds == 0 || more(rounds * round) {
        let turn = rounds as usize % batches.len().max(1);
        let batch = batches.get_mut(turn).context("no command")?;
        for connection in connections.iter_mut() {
            if rounds > 0 {
                slice.nils += connection.read(pipeline)?;
            }
            batch.aim(&mut key);
            connection.socket.write_all(&batch.bytes).context("the server closed the connection")?;
        }
        rounds += 1;
    }
    for connection in connections.iter_mut() {
        slice.nils += connection.read(pipeline)?;
    }
    slice.commands = rounds * round;
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

    #[test]
    fn each_key_has_every_command() {
        let keys = Keys { first: 7, at_once: 3, commands: 2 };
        let of: Vec<_> = (0..9).map(|nth| keys.of(nth)).collect();
        assert_eq!(of, [7, 8, 9, 7, 8, 9, 10, 11, 12]);
        assert_eq!([0, 3, 6, 7, 12].map(|commands| keys.after(commands)), [7, 10, 10, 13, 13]);
    }

    #[test]
    fn tags_are_drawn_by_the_key_and_differ() {
        let template = Template::new(&["SADD", "of:{key}", "{tag}", "{tag2}"], "bench:a:", 0);
        let mut batch = template.batch(2);
        batch.aim(|| 7);
        let text = String::from_utf8(batch.bytes).unwrap();
        let one = format!(
            "*4\r\n$4\r\nSADD\r\n$33\r\nof:bench:a:0000000000000000000007\r\n$9\r\ntag:{:05}\r\n$9\r\ntag:{:05}\r\n",
            tag(7, 0),
            tag(7, 1)
        );
        assert_eq!(text, one.repeat(2));
        let mut counts = vec![0; TAGS as usize];
        for key in 0..100_000 {
            let mut tags: Vec<_> = (0..DISTINCT).map(|which| tag(key, which)).collect();
            counts[tags[0] as usize] += 1;
            tags.sort_unstable();
            tags.dedup();
            assert_eq!(tags.len(), DISTINCT as usize, "{key}");
        }
        // Ten each on average; by Poisson's law none of 10,000 is without any or has thirty.
        assert!(counts.iter().filter(|count| **count == 0).count() < 5);
        assert!(counts.iter().all(|count| *count < 30), "{:?}", counts.iter().max());
    }
}
