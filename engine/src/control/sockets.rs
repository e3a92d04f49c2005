//! The listening sockets. They are created before the shards serve, so that a port that is in use
//! fails the start, not one shard.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

/// Whether another process may listen on the same addresses.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PortUse {
    /// The start fails if another process listens on an address.
    #[default]
    Exclusive,
    /// The kernel distributes new connections over all processes of the same user that listen there:
    /// for an upgrade that starts the new process before it stops the old one.
    Shared,
}

/// Checks that no process listens on the address. To be called for all addresses before the first
/// [`listen`]: one may be a wildcard for another.
///
/// # Errors
/// As bind(2); `AddrInUse` also when another process listens there with `SO_REUSEPORT`, because
/// connections would silently be shared with it.
pub fn probe(address: SocketAddr) -> io::Result<()> {
    // With port 0 the kernel chooses a free port.
    if address.port() == 0 { Ok(()) } else { bind(address, Share::Alone).map(drop) }
}

/// What to do about an address that cannot be listened on, to be appended to the error; may be empty.
#[must_use]
pub fn hint(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; `ss -ltnp 'sport = :{port}'` shows which process uses the port: stop it, or change port_value"
        ),
        io::ErrorKind::PermissionDenied if port < 1024 => format!(
            "; a port below 1024 needs CAP_NET_BIND_SERVICE (AmbientCapabilities= of a systemd unit, or \
             `setcap cap_net_bind_service=+ep` on the binary), or sysctl \
             net.ipv4.ip_unprivileged_port_start={port}"
        ),
        io::ErrorKind::AddrNotAvailable => {
            "; no interface of this machine has the address: see `ip address`".to_owned()
        }
        _ => String::new(),
    }
}

/// Creates one listening socket for each shard, all on the same address, and returns that address.
/// With port 0 the kernel chooses a port, which the sockets share.
///
/// # Errors
/// As bind(2).
pub fn listen(
    address: SocketAddr,
    shards: usize,
    backlog: i32,
    keepalive: Option<&TcpKeepalive>,
) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    let mut bound = address;
    let mut sockets = Vec::with_capacity(shards);
    for _ in 0..shards {
        let socket = bind(bound, Share::WithOtherShards)?;
        if let Some(keepalive) = keepalive {
            socket.set_tcp_keepalive(keepalive)?; // inherited as well
        }
        socket.listen(backlog)?;
        bound = socket
            .local_addr()?
            .as_socket()
            .ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))?;
        sockets.push(socket.into());
    }
    Ok((bound, sockets))
}

/// Which other sockets may listen on the address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Share {
    /// None, not even with `SO_REUSEPORT`.
    Alone,
    WithOtherShards,
}

fn bind(address: SocketAddr, share: Share) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share == Share::WithOtherShards {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Inherited by accepted connections: saves a system call per connection.
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    Ok(socket)
}

/// The maximum length of an accept queue; Envoy's default backlog.
#[must_use]
pub fn backlog_max() -> i32 {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
    let somaxconn = somaxconn.ok().and_then(|text| text.trim().parse().ok());
    somaxconn.unwrap_or(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: SocketAddr =
        SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0));

    #[test]
    fn every_shard_gets_a_socket_on_the_same_port() {
        let (address, sockets) = listen(LOOPBACK, 3, 16, None).unwrap();
        assert_ne!(address.port(), 0);
        assert_eq!(sockets.len(), 3);
        for socket in sockets {
            let local = Socket::from(socket).local_addr().unwrap().as_socket().unwrap();
            assert_eq!(local, address);
        }
    }

    #[test]
    fn hints_say_what_to_do() {
        let hint = |port, kind| hint(SocketAddr::new([127, 0, 0, 1].into(), port), &kind);
        let of = |kind: io::ErrorKind| io::Error::from(kind);
        assert!(hint(8080, of(io::ErrorKind::AddrInUse)).contains("ss -ltnp 'sport = :8080'"));
        let denied = || of(io::ErrorKind::PermissionDenied);
        assert!(hint(80, denied()).contains("CAP_NET_BIND_SERVICE"));
        // The port number is not the reason.
        assert_eq!(hint(8080, denied()), "");
        assert!(hint(80, of(io::ErrorKind::AddrNotAvailable)).contains("ip address"));
    }

    #[test]
    fn a_port_that_another_proxy_shares_is_taken() {
        let (address, _sockets) = listen(LOOPBACK, 1, 16, None).unwrap();
        let error = probe(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
