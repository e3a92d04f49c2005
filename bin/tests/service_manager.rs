//! systemd notifications: what the process sends to the service manager.

use std::os::unix::net::UnixDatagram;

use tempfile::TempDir;

use crate::support::{Config, Origin, PATIENCE, Proxy, Signal, is_oracle};

/// Listens like systemd.
struct ServiceManager {
    socket: UnixDatagram,
    path: String,
    _folder: TempDir,
}

impl ServiceManager {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned(), _folder: folder }
    }

    #[track_caller]
    fn receives(&self) -> String {
        let mut room = [0; 256];
        let length = self.socket.recv(&mut room).expect("a message");
        String::from_utf8_lossy(&room[..length]).trim_end().to_owned()
    }
}

#[test]
fn start_and_stop_are_notified() {
    if is_oracle() {
        return; // Envoy leaves this to a wrapper.
    }
    let manager = ServiceManager::new();
    let origin = Origin::that_stalls();
    let proxy =
        Proxy::with(Config::to(&origin).shards(2).environment("NOTIFY_SOCKET", &manager.path));
    assert_eq!(manager.receives(), "READY=1");
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(1);
    proxy.signal(Signal::Term);
    // During the drain, not after it.
    assert_eq!(manager.receives(), "STOPPING=1");
    assert!(proxy.is_running());
    proxy.signal(Signal::Term);
    proxy.exit();
    manager.socket.set_nonblocking(true).unwrap();
    assert!(manager.socket.recv(&mut [0; 16]).is_err(), "there was more than that");
}

#[test]
fn quitquitquit_is_notified_too() {
    if is_oracle() {
        return;
    }
    let manager = ServiceManager::new();
    let proxy = Proxy::with(Config::to_addresses(&[]).environment("NOTIFY_SOCKET", &manager.path));
    assert_eq!(manager.receives(), "READY=1");
    proxy.admin_post("/quitquitquit");
    assert_eq!(manager.receives(), "STOPPING=1");
    assert_eq!(proxy.exit().code(), Some(0));
}

#[test]
fn the_watchdog_is_notified_while_serving_and_while_draining() {
    if is_oracle() {
        return;
    }
    let manager = ServiceManager::new();
    let origin = Origin::that_stalls();
    let config = Config::to(&origin).shards(2).environment("NOTIFY_SOCKET", &manager.path);
    let proxy = Proxy::with(config.environment("WATCHDOG_USEC", "400000"));
    assert_eq!(manager.receives(), "READY=1");
    for _ in 0..3 {
        assert_eq!(manager.receives(), "WATCHDOG=1");
    }
    let mut client = proxy.connect();
    client.ask("/");
    origin.has_seen(1);
    proxy.signal(Signal::Term);
    let received: Vec<_> = std::iter::repeat_with(|| manager.receives()).take(12).collect();
    let stopping = received.iter().position(|message| message == "STOPPING=1").expect("STOPPING=1");
    assert!(received[stopping + 1..].iter().all(|message| message == "WATCHDOG=1"));
    assert!(stopping < 11);
}
