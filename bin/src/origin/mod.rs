//! The built-in origin: a small httpbin, so that there is something to proxy to on a machine that
//! has nothing else. `corvoy` without a configuration starts it behind the proxy, `corvoy --origin`
//! alone.
//!
//! It answers with the JSON that httpbin answers with: the same keys, order, escapes and layout. It
//! is a demonstration and a test double, not a part of the proxy: it has its own event loop, and is
//! never started when a configuration is given.

mod echo;
mod form;
mod json;
mod routes;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

/// Serves the origin on `listener` from a thread of its own, for as long as the process lives.
///
/// # Errors
/// When the thread cannot be started.
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    thread::Builder::new().name("origin".into()).spawn(move || {
        if let Err(error) = run(listener) {
            tracing::error!(target: "origin", "the built-in origin stopped: {error}");
        }
    })?;
    Ok(())
}

/// Serves the origin on `listener` from this thread, for as long as the process lives.
///
/// # Errors
/// When the listener cannot be handed to the event loop.
pub(crate) fn run(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let service = routes::router().into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).await
    })
}
