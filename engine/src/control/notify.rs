//! What the service manager hears: sd_notify(3), for units with `Type=notify` and `WatchdogSec=`.
//!
//! Written here because a message is one datagram, and the crate for it cannot send to an abstract
//! socket, which containers hand out.

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

/// The service manager that has started this process, if one has.
#[derive(Debug)]
pub(super) struct ServiceManager {
    socket: Option<UnixDatagram>,
    /// It ends the process when it has not heard a `WATCHDOG=1` for so long.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names.
    pub(super) fn of_environment() -> Self {
        let socket = env::var_os("NOTIFY_SOCKET").and_then(|address| {
            let connected = connect(&address);
            let failed = |error: &io::Error| {
                tracing::warn!(target: "main", "NOTIFY_SOCKET {address:?} is of no use: {error}");
            };
            connected.inspect_err(failed).ok()
        });
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"));
        Self { watchdog: watchdog.filter(|_| socket.is_some()), socket }
    }

    /// All listeners accept connections.
    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    /// The process is about to end; it may drain first.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Sends `WATCHDOG=1` for as long as every shard turns.
    pub(super) async fn watch(self: Rc<Self>, shards: Arc<Shards>) {
        let Some(within) = self.watchdog else { return };
        let mut stuck = None;
        loop {
            let asked = shards.ask_for_heartbeat();
            // Several in the time that is given, so that one may come late.
            tokio::time::sleep(within / 4).await;
            let before = std::mem::replace(&mut stuck, shards.without_heartbeat(asked));
            match stuck {
                None => self.tell("WATCHDOG=1"),
                Some(shard) if before.is_none() => tracing::error!(
                    target: "main",
                    "shard {shard} is stuck: the service manager gets no WATCHDOG=1"
                ),
                Some(_) => {}
            }
        }
    }

    fn tell(&self, state: &str) {
        let sent = self.socket.as_ref().map(|socket| socket.send(state.as_bytes()));
        if let Some(Err(error)) = sent {
            tracing::warn!(target: "main", "the service manager cannot be told {state}: {error}");
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
    // The control plane can wait for a moment, not for ever.
    socket.set_write_timeout(Some(Duration::from_secs(1)))?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

/// `WATCHDOG_USEC`, unless `WATCHDOG_PID` says that it is meant for another process.
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
    fn an_abstract_socket_is_told_as_well() {
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
