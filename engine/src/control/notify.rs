//! Notifies the service manager: sd_notify(3), for units with `Type=notify` and `WatchdogSec=`.
//!
//! It is implemented here because a message is one datagram, and the crate for it does not support
//! abstract sockets, which containers use.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::shards::Shards;

/// The service manager that started this process, if any.
#[derive(Debug)]
pub(super) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// It kills the process when it receives no `WATCHDOG=1` for this long.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The service manager that the environment names.
    pub(super) fn from_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|address| {
            let connected = connect(&address);
            let failed = |error: &io::Error| {
                tracing::warn!(target: "main", "cannot use NOTIFY_SOCKET {address:?}: {error}");
            };
            connected.inspect_err(failed).ok()
        });
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    /// Reports that all listeners accept connections.
    pub(super) fn ready(&self) {
        self.notify("READY=1");
    }

    /// Reports that the process is about to exit; it may drain first.
    pub(super) fn stopping(&self) {
        self.notify("STOPPING=1");
    }

    /// Sends `WATCHDOG=1` as long as every shard answers heartbeats.
    pub(super) async fn watch(self: Rc<Self>, shards: Arc<Shards>) {
        let Some(within) = self.watchdog else { return };
        let mut stuck = None;
        loop {
            let asked = shards.ask_for_heartbeat();
            // Four per interval, so that one may be late.
            tokio::time::sleep(within / 4).await;
            let before = std::mem::replace(&mut stuck, shards.without_heartbeat(asked));
            match stuck {
                None => self.notify("WATCHDOG=1"),
                Some(shard) if before.is_none() => tracing::error!(
                    target: "main",
                    "shard {shard} is stuck: no WATCHDOG=1 is sent to the service manager"
                ),
                Some(_) => {}
            }
        }
    }

    fn notify(&self, state: &str) {
        let sent = self.socket.as_ref().map(|socket| socket.send(state.as_bytes()));
        if let Some(Err(error)) = sent {
            tracing::warn!(target: "main", "cannot send {state} to the service manager: {error}");
        }
    }
}

/// A path, or an abstract name that begins with `@`.
fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let address = match address.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(address)?,
        _ => return Err(io::Error::other("neither a path nor an abstract socket")),
    };
    let socket = UnixDatagram::unbound()?;
    // The control plane may block for a moment, not forever.
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// `WATCHDOG_USEC`, unless `WATCHDOG_PID` is another process.
fn watchdog(usec: Option<String>, pid: Option<String>) -> Option<Duration> {
    if pid.is_some_and(|pid| pid != std::process::id().to_string()) {
        return None;
    }
    let usec = usec?.parse().ok().filter(|usec| *usec > 0)?;
    Some(Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let usec = || Some("2000000".to_owned());
        let ours = Some(std::process::id().to_string());
        assert_eq!(watchdog(usec(), None), Some(Duration::from_secs(2)));
        assert_eq!(watchdog(usec(), ours), Some(Duration::from_secs(2)));
        assert_eq!(watchdog(usec(), Some("0".into())), None);
        assert_eq!(watchdog(Some("often".into()), None), None);
        assert_eq!(watchdog(Some("0".into()), None), None);
        assert_eq!(watchdog(None, None), None);
    }

    #[test]
    fn an_abstract_socket_is_notified_too() {
        let name = format!("@corvoy-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        let socket = connect(OsStr::new(&name)).unwrap();
        ServiceManager { socket: Some(socket), watchdog: None }.ready();
        let mut room = [0; 64];
        let length = manager.recv(&mut room).unwrap();
        assert_eq!(&room[..length], b"READY=1");
    }
}
