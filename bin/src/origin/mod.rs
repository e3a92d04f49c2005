//! The built-in origin: a small httpbin, so that there is an origin to proxy to on any machine.
//! `corvoy` without a configuration starts it behind the proxy, `corvoy --origin` starts it alone.
//!
//! It answers with httpbin's JSON: the same keys, order, escapes and layout. It is a demonstration
//! and a test double, not a part of the proxy: it has its own event loop and is never started when
//! a configuration is given.

mod echo;
mod form;
mod json;
mod routes;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

/// Serves the origin on `listener` from a new thread, until the process exits.
///
/// # Errors
/// If the thread cannot be started.
pub(crate) fn serve(listener: TcpListener) -> io::Result<()> {
    thread::Builder::new().name("origin".into()).spawn(move || {
        if let Err(error) = run(listener) {
            tracing::error!(target: "origin", "the built-in origin stopped: {error}");
        }
    })?;
    Ok(())
}

/// Serves the origin on `listener` from this thread, until the process exits.
///
/// # Errors
/// If the event loop cannot be started with the listener.
pub(crate) fn run(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let service = routes::router().into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service).await
    })
}
