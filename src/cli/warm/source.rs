//! Where values come from: a command's output, or an HTTP source.
//!
//! A key may hold any bytes. To a command it is one argument, to a shell "$1", in
//! a URL it is percent-encoded: nothing in it is ever read as syntax.

use crate::interrupt;
use anyhow::{bail, ensure, Context, Result};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const KEY: &str = "{key}";
/// The longest value that is taken: what an entry can hold.
const LONGEST: u64 = 512 << 20;

/// See the module's text.
pub enum Source {
    /// Words of a command, each of which may have the key in it.
    Command(Vec<String>),
    /// A shell's text.
    Shell(String),
    /// A URL with the key in it.
    Http(String, ureq::Agent),
}

impl Source {
    /// A command of words.
    pub fn command(text: &str) -> Result<Self> {
        let words: Vec<String> = text.split_whitespace().map(str::to_string).collect();
        ensure!(!words.is_empty(), "--exec names no command");
        Ok(Self::Command(words))
    }

    /// A command that a shell is to run.
    pub fn shell(text: &str) -> Self {
        Self::Shell(text.replace(KEY, "\"$1\""))
    }

    /// A URL.
    pub fn http(url: &str, timeout: Duration) -> Result<Self> {
        ensure!(
            url.starts_with("http://") || url.starts_with("https://"),
            "--http takes http:// and https:// URLs; for others: --exec 'curl -fsS {url}'"
        );
        ensure!(url.contains(KEY), "the URL has no {KEY} in it: every key would get one value");
        let config = ureq::Agent::config_builder().timeout_global(Some(timeout)).build();
        Ok(Self::Http(url.to_string(), config.new_agent()))
    }

    /// The value of a key.
    pub fn load(&self, key: &[u8], timeout: Duration) -> Result<Vec<u8>> {
        match self {
            Self::Command(words) => {
                let mut words = words.iter().map(|word| with_key(word, key));
                let program = words.next().context("no command")?;
                let mut command = Command::new(program);
                command.args(words);
                output(command, timeout)
            }
            Self::Shell(text) => {
                let mut command = Command::new("sh");
                command.args(["-c", text, "sh"]).arg(OsString::from_vec(key.to_vec()));
                output(command, timeout)
            }
            Self::Http(url, agent) => {
                let mut response = agent.get(url.replace(KEY, &encoded(key))).call()?;
                let value = response.body_mut().with_config().limit(LONGEST).read_to_vec();
                value.context("the source's answer breaks off")
            }
        }
    }
}

/// A word of a command with the key in its place.
fn with_key(word: &str, key: &[u8]) -> OsString {
    let parts: Vec<&[u8]> = word.split(KEY).map(str::as_bytes).collect();
    OsString::from_vec(parts.join(key))
}

/// A key as it stands in a URL.
fn encoded(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for &byte in key {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte.into()),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// What a command prints, if it ends well and in time.
fn output(mut command: Command, timeout: Duration) -> Result<Vec<u8>> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let outcome = wait(&mut child, timeout);
    if outcome.is_err() {
        // By its own process id; where it has ended there is nothing to kill.
        let _ = child.kill();
        child.wait()?;
    }
    outcome.with_context(|| program)
}

fn wait(child: &mut Child, timeout: Duration) -> Result<Vec<u8>> {
    let stdout = child.stdout.take().context("it has no output")?;
    let reader = std::thread::spawn(move || {
        let mut value = Vec::new();
        stdout.take(LONGEST + 1).read_to_end(&mut value).map(|_| value)
    });
    let (began, mut pause) = (Instant::now(), Duration::from_micros(500));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        ensure!(began.elapsed() < timeout, "it took longer than {timeout:?}");
        ensure!(!interrupt::asked(), "stopped");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    };
    ensure!(status.success(), "it ended with {status}");
    match reader.join() {
        Ok(value) => {
            let value = value.context("its output cannot be read")?;
            ensure!(value.len() as u64 <= LONGEST, "its output is longer than an entry can be");
            Ok(value)
        }
        Err(_) => bail!("its output cannot be read"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn a_key_is_an_argument_whatever_is_in_it() {
        let echo = Source::command("printf %s <{key}>").unwrap();
        for key in ["a", "a b", "$(id)", "; rm", "\"'", "-n"] {
            assert_eq!(echo.load(key.as_bytes(), SOON).unwrap(), format!("<{key}>").as_bytes());
        }
        assert_eq!(echo.load(b"\xff\n", SOON).unwrap(), b"<\xff\n>");
        assert!(echo.load(b"a\0b", SOON).is_err(), "no argument can hold it");
    }

    #[test]
    fn a_shell_sees_it_as_its_argument() {
        let upper = Source::shell("printf %s {key} | tr a-z A-Z");
        assert_eq!(upper.load(b"a $(b); 'c'", SOON).unwrap(), b"A $(B); 'C'");
    }

    #[test]
    fn what_fails_says_how() {
        let error = |text: &str, timeout| Source::command(text).unwrap().load(b"k", timeout).unwrap_err();
        assert!(format!("{:#}", error("false", SOON)).contains("ended with"));
        assert!(format!("{:#}", error("/no/such/program", SOON)).contains("cannot run"));
        assert!(format!("{:#}", error("sleep 60", Duration::from_millis(20))).contains("longer than"));
        assert!(Source::command(" ").is_err());
    }

    #[test]
    fn keys_in_urls() {
        assert_eq!(encoded(b"a-Z_0.9~"), "a-Z_0.9~");
        assert_eq!(encoded(b"a/b?c=d&e #\xff"), "a%2Fb%3Fc%3Dd%26e%20%23%FF");
        assert!(Source::http("https://x/{key}", SOON).is_ok());
        assert!(Source::http("ftp://x/{key}", SOON).is_err());
        assert!(Source::http("http://x/", SOON).is_err());
    }
}
