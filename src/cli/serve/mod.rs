//! `cacheflow serve`: exporter, health, and what the dashboard shows, over HTTP.
//!
//! ```text
//!            ┌ /metrics ─▶ exporter: CACHE.METRICS of every node, one text
//! http ─ guard ┼ /healthz, /readyz
//!            ├ /api/…  ─▶ api: JSON, read only without the token
//!            └ /, /page/… ─▶ page: the dashboard, which lives on the API
//!                              │
//!                            fleet ─▶ nodes, each asked within --timeout
//!                              └────▶ discovery, every --discover
//! ```
//! A node that is down is shown as down, and takes nobody else's time: all are asked at
//! once, and none is waited for longer than the timeout.

mod api;
mod exporter;
mod fleet;
mod guard;
mod health;
mod http;
mod page;
mod scrape;

pub use api::{hot_keys_of, leases_of, namespaces_of, nodes_of, overview_of, BY};
pub use exporter::{LABELS, OWN};
pub use fleet::Fleet;

use crate::connect::{Place, Secret};
use crate::times::length;
use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::Router;
use clap::{Args, ValueEnum};
use guard::Guard;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Serves Prometheus metrics, health and a dashboard of servers, of a cluster or of a
/// Sentinel group, until it is stopped.
#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    place: Place,
    /// Where it listens. Anyone who reaches it may read.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9121")]
    listen: SocketAddr,
    /// How long a node may take to answer: below the scrape timeout of Prometheus.
    #[arg(long, default_value = "5s", value_parser = length)]
    timeout: Duration,
    /// How often it looks which nodes there are.
    #[arg(long, default_value = "5s", value_parser = length)]
    discover: Duration,
    /// A file with the token (its first line) that whoever invalidates must give. Without
    /// it nothing can be changed.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Show values of keys that are looked up. Without it their lengths.
    #[arg(long)]
    show_values: bool,
    /// A name that leads here, beside those of loopback, while it listens there: of a proxy.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<String>,
    /// What is logged, to stderr.
    #[arg(long, default_value = "info")]
    log: Level,
    /// Log JSON.
    #[arg(long)]
    log_json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

/// What every request is answered from.
pub struct Served {
    fleet: Arc<Fleet>,
    guard: Guard,
    show_values: bool,
    previews: api::Previews,
}

type Shared = State<Arc<Served>>;

/// Serves.
pub fn run(options: &Options) -> Result<()> {
    start_log(options);
    let reach = options.place.reach()?;
    let token = options.token_file.as_deref().map(Secret::of_file).transpose()?;
    let served = Arc::new(Served {
        fleet: Fleet::new(reach, options.timeout),
        guard: Guard::new(token, hosts(options)),
        show_values: options.show_values,
        previews: api::Previews::default(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.context("no threads can be started")?;
    let outcome = runtime.block_on(async {
        let listener = http::bind(options.listen).await?;
        // Where it was asked for any port: which it is.
        tracing::info!(address = %listener.local_addr()?, "listening");
        let following = tokio::spawn(served.fleet.clone().follow(options.discover));
        http::serve(listener, router(served)).await;
        following.abort();
        Ok(())
    });
    // Who still waits for a node that hangs is not waited for.
    runtime.shutdown_background();
    tracing::info!("stopped");
    outcome
}

/// Names that lead here. Whoever listens for others is reached by any.
fn hosts(options: &Options) -> Option<Vec<String>> {
    let own = ["localhost", "127.0.0.1", "[::1]"].map(String::from);
    let ip = match options.listen.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let all = own.into_iter().chain([ip]).chain(options.allow_host.iter().cloned());
    options.listen.ip().is_loopback().then(|| all.collect())
}

fn start_log(options: &Options) {
    let level = match options.log {
        Level::Error => tracing::Level::ERROR,
        Level::Warn => tracing::Level::WARN,
        Level::Info => tracing::Level::INFO,
        Level::Debug => tracing::Level::DEBUG,
    };
    let log = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    if options.log_json {
        log.json().init();
    } else {
        log.with_ansi(false).init();
    }
}

fn router(served: Arc<Served>) -> Router {
    let guard = served.clone();
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .nest("/api", api::router())
        .route("/", get(page::index))
        .route("/page/{*file}", get(page::file))
        .layer(axum::middleware::from_fn(move |request, next| {
            let served = guard.clone();
            async move { served.guard.watch(request, next).await }
        }))
        .with_state(served)
}

async fn metrics(State(served): Shared) -> impl IntoResponse {
    let text = exporter::write(&*served.fleet.look().await);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
