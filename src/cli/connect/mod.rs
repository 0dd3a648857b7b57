//! How every command reaches servers: a URL, TLS, an ACL user, a cluster, a group
//! that Sentinels watch.
//!
//! ```text
//! Place (the command line) ──▶ Reach (secrets, certificates) ──▶ Discovery ──▶ Node
//!                                                                  │ again and again:
//!                                                                  └ follows failovers
//! ```
//! Guarantees:
//! - A password comes from the environment or a file. One in a URL on the command line,
//!   which everybody on the machine can read, is refused; none is ever printed.
//! - Nothing waits longer than it is told to, but for the resolution of names.

mod discovery;
mod nodes;
mod secret;

pub use discovery::{Discovery, Kind, Node, Role};
pub use secret::Secret;

use anyhow::{bail, ensure, Context, Result};
use clap::Args;
use redis::{Client, ClientTlsConfig, Connection, ConnectionAddr, ConnectionInfo, TlsCertificates};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where servers are, and as whom to speak to them.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Servers")]
pub struct Place {
    /// A server, or any node of a cluster; several with commas between, of which one
    /// that answers will do. redis:// or rediss:// (TLS), unix://. With --sentinel the
    /// Sentinels' own.
    #[arg(
        long,
        env = "CACHEFLOW_URL",
        default_value = "redis://127.0.0.1:6379",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub url: Vec<String>,
    /// The name of the group that the Sentinels at --url watch.
    #[arg(long, value_name = "NAME")]
    pub sentinel: Option<String>,
    /// The ACL user. The password is CACHEFLOW_PASSWORD's or REDISCLI_AUTH's, or
    /// --password-file's.
    #[arg(long, env = "CACHEFLOW_USER")]
    pub user: Option<String>,
    /// A file with the password: its first line.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The Sentinels' ACL user. The password is CACHEFLOW_SENTINEL_PASSWORD's, or
    /// --sentinel-password-file's.
    #[arg(long, value_name = "USER", requires = "sentinel")]
    pub sentinel_user: Option<String>,
    /// A file with the Sentinels' password.
    #[arg(long, value_name = "FILE", requires = "sentinel")]
    pub sentinel_password_file: Option<PathBuf>,
    /// Certificates (PEM) that servers' are to be signed by, in place of the system's.
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// A certificate (PEM) to show to servers that ask for one.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Take any certificate: for tests. Whoever sits between reads and changes all.
    #[arg(long)]
    pub tls_insecure: bool,
}

/// How a server is spoken to, whichever it is.
#[derive(Clone)]
pub struct Reach {
    seeds: Vec<ConnectionInfo>,
    /// As whom servers are spoken to: Sentinels may know another.
    user: redis::RedisConnectionInfo,
    group: Option<String>,
}

impl Place {
    /// Reads URLs, secrets and certificates. Nobody is asked yet.
    pub fn reach(&self) -> Result<Reach> {
        let own = Secret::read(self.password_file.as_deref(), &["CACHEFLOW_PASSWORD", "REDISCLI_AUTH"])?;
        let certificates = self.certificates()?;
        let mut seeds = Vec::new();
        for url in &self.url {
            let mut info = seed(url, self.tls_insecure, certificates.as_ref())?;
            ensure_unseen(url, &info)?;
            self.fill_in(&mut info.redis, &own);
            seeds.push(info);
        }
        let Some(first) = seeds.first() else { bail!("--url names no server") };
        let user = first.redis.clone();
        if self.sentinel.is_some() {
            let secret =
                Secret::read(self.sentinel_password_file.as_deref(), &["CACHEFLOW_SENTINEL_PASSWORD"])?;
            for seed in &mut seeds {
                seed.redis.username = self.sentinel_user.clone();
                seed.redis.password = secret.as_ref().map(|secret| secret.reveal().to_string());
                seed.redis.db = 0;
            }
        }
        Ok(Reach { seeds, user, group: self.sentinel.clone() })
    }

    /// One more server, of which nothing is said but its URL. Its password is a
    /// variable's.
    pub fn plain(url: &str, variable: &str) -> Result<ConnectionInfo> {
        let mut info = seed(url, false, None)?;
        ensure_unseen(url, &info)?;
        if let Some(secret) = Secret::read(None, &[variable])? {
            info.redis.password = Some(secret.reveal().to_string());
        }
        Ok(info)
    }

    fn fill_in(&self, to: &mut redis::RedisConnectionInfo, secret: &Option<Secret>) {
        if self.user.is_some() {
            to.username.clone_from(&self.user);
        }
        if let Some(secret) = secret {
            to.password = Some(secret.reveal().to_string());
        }
    }

    fn certificates(&self) -> Result<Option<TlsCertificates>> {
        let read =
            |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let client_tls = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => {
                Some(ClientTlsConfig { client_cert: read(cert)?, client_key: read(key)? })
            }
            _ => None,
        };
        let root_cert = self.tls_ca.as_deref().map(read).transpose()?;
        let any = client_tls.is_some() || root_cert.is_some();
        Ok(any.then_some(TlsCertificates { client_tls, root_cert }))
    }
}

/// Reads a URL.
fn seed(url: &str, insecure: bool, certificates: Option<&TlsCertificates>) -> Result<ConnectionInfo> {
    // What the crate says of a URL may have the password in it.
    let client = match Client::open(url) {
        Ok(client) => client,
        Err(_) => bail!(
            "'{}' is no URL of a server: redis://HOST:PORT, rediss://HOST:PORT or unix://PATH",
            shown(url)
        ),
    };
    let mut info = client.get_connection_info().clone();
    if let ConnectionAddr::TcpTls { insecure: lax, .. } = &mut info.addr {
        *lax |= insecure;
        if let Some(certificates) = certificates {
            let client = Client::build_with_tls(info, certificates.clone());
            info = client.context("the certificates cannot be used")?.get_connection_info().clone();
        }
    } else {
        ensure!(
            certificates.is_none() && !insecure,
            "'{}' is without TLS, and --tls-… says how to do it: write rediss://",
            shown(url)
        );
    }
    Ok(info)
}

/// Whether nobody can read a URL's password but us.
fn ensure_unseen(url: &str, info: &ConnectionInfo) -> Result<()> {
    let is_seen = info.redis.password.is_some() && std::env::args().any(|argument| argument.contains(url));
    ensure!(
        !is_seen,
        "a password in a URL on the command line is read by everybody on this machine: it belongs into CACHEFLOW_PASSWORD, or into a file (--password-file)"
    );
    Ok(())
}

/// A URL without what is secret in it.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let scheme = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    format!("{scheme}{}", place.split(['?', '#']).next().unwrap_or_default())
}

/// Connects, within that time; answers may then take as long.
pub fn open(info: &ConnectionInfo, patience: Duration) -> Result<Connection> {
    let connection =
        Client::open(info.clone()).and_then(|client| client.get_connection_with_timeout(patience));
    let connection = connection.with_context(|| format!("cannot connect to {}", info.addr))?;
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    Ok(connection)
}

/// An error as one sentence: what a cause only repeats is said once.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !said.ends_with(&cause) {
            said += if said.is_empty() { "" } else { ": " };
            said += &cause;
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        place: Place,
    }

    fn reach(words: &str) -> Result<Reach> {
        let words = ["cacheflow"].into_iter().chain(words.split(' ').filter(|word| !word.is_empty()));
        Line::try_parse_from(words)?.place.reach()
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, text) in [
            ("redis://h:1/2", "redis://h:1/2"),
            ("redis://u:secret@h:1", "redis://h:1"),
            ("rediss://:sec@ret@h?password=secret", "rediss://h"),
            ("secret@h", "h"),
            ("unix:///a/b?user=x&pass=secret", "unix:///a/b"),
        ] {
            assert_eq!(shown(url), text);
        }
        let error = reach("--url foo://u:secret@h").err().expect("no scheme");
        assert!(!format!("{error:#?}").contains("secret"), "{error:#?}");
    }

    #[test]
    fn where_and_as_whom() {
        let reached = reach("--url rediss://a:1,rediss://b:2/3 --user u").expect("valid");
        let seeds: Vec<String> = reached.seeds.iter().map(|seed| seed.addr.to_string()).collect();
        assert_eq!(seeds, ["a:1", "b:2"]);
        assert_eq!((reached.user.username.as_deref(), reached.seeds[1].redis.db), (Some("u"), 3));
        let reached = reach("--url redis://a:1 --sentinel g --user u --sentinel-user s").expect("valid");
        assert_eq!(reached.group.as_deref(), Some("g"));
        assert_eq!(reached.user.username.as_deref(), Some("u"));
        assert_eq!(reached.seeds[0].redis.username.as_deref(), Some("s"));
    }

    #[test]
    fn what_does_not_go_together() {
        for wrong in [
            "--url nonsense",
            "--url redis://a --tls-insecure",
            "--url redis://a --sentinel-user s",
            "--url rediss://a --tls-cert /nowhere",
            "--url rediss://a --tls-ca /nowhere",
            "--url redis://a --password-file /nowhere",
        ] {
            assert!(reach(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_cause_repeats_is_said_once() {
        let refused = || std::io::Error::other("refused");
        let twice = anyhow::Error::new(refused()).context("no luck: refused").context("cannot connect");
        assert_eq!(sentence(&twice), "cannot connect: no luck: refused");
        assert_eq!(sentence(&anyhow::Error::new(refused())), "refused");
    }
}
