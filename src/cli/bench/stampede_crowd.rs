//! Thousands of clients in one thread, each of them a state machine behind a
//! socket of its own: epoll says who has a reply, a heap who has slept enough.
//!
//! What a client does is in `stampede_ways.rs`; here is how. All are told to
//! begin one after the other, as fast as the thread can write. A client asks
//! one thing at a time. `Origin` is the source that is slow: it answers after a
//! while that is the same for all, and counts who asked. Its first answer is
//! the moment from which waiting is measured.
//!
//! While replies come, the thread looks for them every 200 us, about a round
//! trip in a data centre, and sleeps in epoll only when none came for a while.
//! Who sleeps there is woken by single replies or by many, as the machine's
//! other work has it. By turns on a busy machine, nine rounds each, ten thousand
//! waiters had their value after 207 to 399 ms, and after 244 to 278 ms so. How
//! fast the machine itself is differs more than that: 165 to 268 ms when it did
//! nothing else.

use super::resp;
use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use redis::Value;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Connections that are made before the server is given time to accept them:
/// under its backlog, which is 511 by default.
const BATCH: usize = 256;
const CONNECT: Duration = Duration::from_secs(10);
/// Between two looks while replies come, and how long none must have come for
/// the thread to sleep until one does.
const LOOK: Duration = Duration::from_micros(200);
const QUIET: Duration = Duration::from_millis(5);
/// How long the thread sleeps at most, so that Ctrl-C is seen.
const NAP: Duration = Duration::from_millis(100);
/// Files that the program has open beside the sockets of a crowd.
const OTHER_FILES: u64 = 64;

/// What a client is told.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// To begin.
    Begin,
    /// That it has slept.
    Woken,
    /// What the origin was asked for.
    Loaded,
    /// What the server answers.
    Reply(Value),
}

/// What a client does then.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Sends this, one command, and hears the reply.
    Ask(Vec<u8>),
    /// Sleeps.
    Pause(Duration),
    /// Asks the origin.
    Origin,
    /// Has its value, and nothing to do any more.
    Done,
}

/// A client's mind.
pub trait Client {
    /// What it does next. An error ends the whole crowd.
    fn next(&mut self, event: Event) -> Result<Step>;
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Seen {
    /// How often the origin was asked.
    pub loads: u64,
    /// When it answered first.
    pub filled: Option<Instant>,
    /// When the last client was done; None if some were not when time was up.
    pub last: Option<Instant>,
}

/// Connections to a server.
pub struct Crowd {
    poll: Poll,
    members: Vec<Member>,
}

struct Member {
    socket: TcpStream,
    /// What has arrived of a reply.
    reply: Vec<u8>,
}

/// Who is woken when, and whether the origin does it: the earliest on top.
type Alarms = BinaryHeap<Reverse<(Instant, usize, bool)>>;

impl Crowd {
    /// Connects so many times.
    pub fn connect(address: SocketAddr, clients: usize) -> Result<Self> {
        raise_limit(clients as u64 + OTHER_FILES)?;
        let poll = Poll::new().context("the system has no epoll")?;
        let mut members = Vec::with_capacity(clients);
        for number in 0..clients {
            let mut socket = std::net::TcpStream::connect_timeout(&address, CONNECT)
                .with_context(|| format!("cannot connect to {address} for the {number}th time"))?;
            socket.set_nodelay(true)?;
            if number % BATCH == BATCH - 1 || number + 1 == clients {
                greet(&mut socket)?;
            }
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            poll.registry().register(&mut socket, Token(number), Interest::READABLE)?;
            members.push(Member { socket, reply: Vec::new() });
        }
        Ok(Self { poll, members })
    }

    /// Lets a client act on each connection until all are done, or `patience`
    /// is at its end: then the crowd is of no use any more, because replies are
    /// still under way. `asked` is called when the origin is.
    pub fn play(
        &mut self,
        clients: &mut [impl Client],
        origin: Duration,
        patience: Duration,
        asked: impl FnMut(),
    ) -> Result<Seen> {
        ensure!(clients.len() == self.members.len(), "not a connection for each client");
        let start = Instant::now();
        let mut play =
            Play { alarms: Alarms::new(), origin, asked, seen: Seen::default(), busy: clients.len() };
        let mut events = Events::with_capacity(1024);
        for (number, (member, client)) in self.members.iter_mut().zip(clients.iter_mut()).enumerate() {
            play.tell(Event::Begin, number, member, client)?;
        }
        let mut heard = start;
        while play.busy > 0 && start.elapsed() < patience {
            if interrupt::asked() {
                bail!("stopped");
            }
            // One, and a look for replies: who holds a lock is not to wait
            // for all who wake at the same time and want it.
            if let Some((number, event)) = play.due() {
                let (member, client) = (at(&mut self.members, number)?, at(clients, number)?);
                play.tell(event, number, member, client)?;
            }
            let busy = heard.elapsed() < QUIET;
            let nap = if busy { Duration::ZERO } else { play.nap() };
            match self.poll.poll(&mut events, Some(nap)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome.context("epoll failed")?,
            }
            if !events.is_empty() {
                heard = Instant::now();
            } else if busy {
                std::thread::sleep(play.nap().min(LOOK));
            }
            for event in &events {
                let number = event.token().0;
                let (member, client) = (at(&mut self.members, number)?, at(clients, number)?);
                for reply in member.receive()? {
                    play.tell(Event::Reply(reply), number, member, client)?;
                }
            }
        }
        Ok(play.seen)
    }
}

fn at<T>(slice: &mut [T], number: usize) -> Result<&mut T> {
    slice.get_mut(number).context("an event of no client")
}

/// While it goes on.
struct Play<F> {
    alarms: Alarms,
    origin: Duration,
    asked: F,
    seen: Seen,
    /// Who is not done.
    busy: usize,
}

impl<F: FnMut()> Play<F> {
    fn tell(
        &mut self,
        event: Event,
        number: usize,
        member: &mut Member,
        client: &mut impl Client,
    ) -> Result<()> {
        match client.next(event)? {
            Step::Ask(command) => member.send(&command)?,
            Step::Pause(time) => self.alarms.push(Reverse((Instant::now() + time, number, false))),
            Step::Origin => {
                self.seen.loads += 1;
                self.alarms.push(Reverse((Instant::now() + self.origin, number, true)));
                (self.asked)();
            }
            Step::Done => {
                self.busy -= 1;
                if self.busy == 0 {
                    self.seen.last = Some(Instant::now());
                }
            }
        }
        Ok(())
    }

    /// Whose time has come.
    fn due(&mut self) -> Option<(usize, Event)> {
        let now = Instant::now();
        let Reverse((_, number, loaded)) = *self.alarms.peek().filter(|Reverse((time, ..))| *time <= now)?;
        self.alarms.pop();
        if loaded {
            self.seen.filled.get_or_insert(now);
        }
        Some((number, if loaded { Event::Loaded } else { Event::Woken }))
    }

    /// Until the next one's.
    fn nap(&self) -> Duration {
        self.alarms
            .peek()
            .map_or(NAP, |Reverse((time, ..))| time.saturating_duration_since(Instant::now()).min(NAP))
    }
}

impl Member {
    fn send(&mut self, command: &[u8]) -> Result<()> {
        // Commands are short and go one at a time: they fit a socket's buffer.
        self.socket.write_all(command).context("the server does not read what is sent")
    }

    /// All replies that have arrived.
    fn receive(&mut self) -> Result<Vec<Value>> {
        let mut bytes = [0; 4096];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(count) => {
                    self.reply.extend_from_slice(bytes.get(..count).unwrap_or_default());
                    // That was all, and what comes from here on is an event
                    // of its own: epoll(7), on edges and short reads.
                    if count < bytes.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("the server does not answer"),
            }
        }
        let mut replies = Vec::new();
        let mut read = 0;
        while let Some(rest) = self.reply.get(read..) {
            match resp::skip(rest) {
                Ok(Some((_, length))) => {
                    let reply = redis::parse_redis_value(rest.get(..length).unwrap_or_default())
                        .and_then(Value::extract_error)
                        .context("the server does not do what it should")?;
                    replies.push(reply);
                    read += length;
                }
                Ok(None) => break,
                Err(resp::NotResp) => bail!("the server's answer is not in Redis's protocol"),
            }
        }
        self.reply.drain(..read);
        Ok(replies)
    }
}

/// A round trip: whoever connected before is accepted then.
fn greet(socket: &mut std::net::TcpStream) -> Result<()> {
    socket.set_read_timeout(Some(CONNECT))?;
    socket.write_all(b"*1\r\n$4\r\nPING\r\n")?;
    let mut reply = Vec::new();
    BufReader::new(socket).read_until(b'\n', &mut reply).context("the server does not answer")?;
    ensure!(
        reply == b"+PONG\r\n",
        "the server takes no more connections: {}",
        String::from_utf8_lossy(&reply).trim_end()
    );
    Ok(())
}

/// Lets this program have so many files open.
fn raise_limit(files: u64) -> Result<()> {
    use nix::sys::resource::{getrlimit, setrlimit, Resource::RLIMIT_NOFILE};
    let (soft, hard) = getrlimit(RLIMIT_NOFILE)?;
    if soft < files {
        setrlimit(RLIMIT_NOFILE, files, hard.max(files)).with_context(|| {
            format!("{files} files must be open at once, and the limit is {soft} of {hard} (ulimit -Hn)")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    /// Greets, sleeps, asks the origin, asks again.
    struct Polite(u32);

    impl Client for Polite {
        fn next(&mut self, event: Event) -> Result<Step> {
            self.0 += 1;
            let pong = Event::Reply(Value::SimpleString("PONG".into()));
            Ok(match self.0 {
                1 if event == Event::Begin => Step::Ask(b"*1\r\n$4\r\nPING\r\n".to_vec()),
                2 if event == pong => Step::Pause(Duration::from_millis(5)),
                3 if event == Event::Woken => Step::Origin,
                4 if event == Event::Loaded => Step::Ask(b"*1\r\n$4\r\nPING\r\n".to_vec()),
                5 if event == pong => Step::Done,
                _ => bail!("{event:?} in state {}", self.0),
            })
        }
    }

    /// Answers so many connections: each PING in two halves, or never more
    /// than `answers` of them.
    fn server(connections: usize, answers: u32) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for socket in listener.incoming().take(connections) {
                let mut socket = socket.unwrap();
                std::thread::spawn(move || {
                    let mut answered = 0;
                    let mut bytes = [0; 14];
                    while socket.read_exact(&mut bytes).is_ok() {
                        answered += 1;
                        if answered <= answers {
                            let half = if answered == 1 { 7 } else { 3 };
                            socket.write_all(&b"+PONG\r\n"[..half]).unwrap();
                            std::thread::sleep(Duration::from_millis(1));
                            socket.write_all(&b"+PONG\r\n"[half..]).unwrap();
                        }
                    }
                });
            }
        });
        address
    }

    #[test]
    fn clients_act_side_by_side() {
        let mut crowd = Crowd::connect(server(7, 9), 7).unwrap();
        let mut asked = 0;
        let mut clients: Vec<_> = (0..7).map(|_| Polite(0)).collect();
        let start = Instant::now();
        let origin = Duration::from_millis(20);
        let seen = crowd.play(&mut clients, origin, Duration::from_secs(20), || asked += 1).unwrap();
        assert_eq!((seen.loads, asked), (7, 7));
        assert!(seen.filled.unwrap() - start >= Duration::from_millis(25));
        assert!(seen.last.unwrap() >= seen.filled.unwrap());
    }

    #[test]
    fn who_is_not_answered_in_time_is_told_of() {
        let mut crowd = Crowd::connect(server(2, 1), 2).unwrap();
        let mut clients: Vec<_> = (0..2).map(|_| Polite(0)).collect();
        let patience = Duration::from_millis(300);
        let seen = crowd.play(&mut clients, Duration::ZERO, patience, || ()).unwrap();
        assert!(seen.last.is_none());
    }

    #[test]
    fn the_limit_of_files_is_raised_or_the_reason_said() {
        raise_limit(8).unwrap();
        let error = raise_limit(1 << 40).unwrap_err().to_string();
        assert!(error.starts_with("1099511627776 files must be open at once"), "{error}");
    }
}
