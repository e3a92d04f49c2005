//! Support for the stories: the real binary as a process, a client that writes and reads raw bytes,
//! and origins named by their misbehaviour.
//!
//! Ports come from the kernel, or from [`free_address`] where a port has to be known before. Nothing sleeps to synchronise: every wait is for a condition, with a
//! deadline. With `CORVOY_ORACLE=/path/to/envoy` the same stories run against the real Envoy.

mod client;
mod config;
mod management_server;
mod origin;
mod proxy;
mod service;
pub(crate) mod tcp;
mod tls;
mod wire;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use client::Client;
pub(crate) use config::Config;
pub(crate) use management_server::{ManagementServer, Request};
pub(crate) use origin::{Act, Origin, Refusing};
pub(crate) use proxy::{Proxy, Signal, corvoy, is_oracle};
pub(crate) use service::Service;
pub(crate) use tls::{Handshake, Session, Tls, transport_socket};
pub(crate) use wire::{Broken, Message, Wire};

/// The longest time that a test waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `ready` returns a value.
///
/// # Panics
/// If that takes longer than `PATIENCE`; `what` names what was waited for.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The same for a condition.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    wait_for(what, || holds().then_some(()));
}

/// An address that is free and that nobody else is given: its port lies below those that the kernel
/// chooses for connections and for port 0, and each call has another one.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = first + NEXT.fetch_add(1, Relaxed);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
