//! The listener: a time for everything, and an end that lets answers go out.

use crate::interrupt;
use anyhow::{Context, Result};
use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// How long a client may take for the head of a request, or be idle.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may last: whoever reads an answer slowly goes with it.
const WHOLE: Duration = Duration::from_secs(600);
/// Connections at once.
const CONNECTIONS: usize = 256;
/// How long answers have to go out once it is to end.
const FAREWELL: Duration = Duration::from_secs(5);

/// Listens.
pub async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Answers until somebody asks the program to stop.
pub async fn serve(listener: TcpListener, router: Router) {
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let stopped = stopped();
    tokio::pin!(stopped);
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Of one that was aborted, or no file is left: the next may do.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let connection = graceful.watch(connection(stream, router.clone()));
        tokio::spawn(async move {
            let _place = place;
            // Ended by whom and how is of no account but to who looks for a fault.
            if let Ok(Err(error)) = tokio::time::timeout(WHOLE, connection).await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(FAREWELL, graceful.shutdown()).await.is_err() {
        tracing::warn!("some answers did not go out in time");
    }
}

fn connection(
    stream: TcpStream,
    router: Router,
) -> hyper::server::conn::http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

async fn stopped() {
    while !interrupt::asked() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
