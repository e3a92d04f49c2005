//! The listening sockets. They are created before the shards serve, so that a port that is in use
//! fails the start, not one shard.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::{fs, io};

use socket2::{Domain, SockRef, Socket, Type};

use crate::address::{Address, Pipe};
use crate::downstream::socket_settings::SocketSettings;
use crate::shard::socket_option::{SocketState, set_all};

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
/// connections would silently be shared with it, or has a unix socket of this name, which would
/// silently be taken from it.
pub fn probe(address: Address, settings: &SocketSettings) -> io::Result<()> {
    match address {
        // With port 0 the kernel chooses a free port.
        Address::Ip(address) if address.port() == 0 => Ok(()),
        Address::Ip(_) => bind(address, settings, Share::Alone).map(drop),
        Address::Pipe(_) => {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            match socket.connect(&address.to_socket_address()?) {
                Ok(()) => Err(io::ErrorKind::AddrInUse.into()),
                // Nobody is there; what else is wrong is found when it is bound.
                Err(_) => Ok(()),
            }
        }
    }
}

/// What to do about an address that cannot be listened on, to be appended to the error; may be empty.
#[must_use]
pub fn hint(address: Address, error: &io::Error) -> String {
    let port = match address {
        Address::Ip(address) => address.port(),
        Address::Pipe(pipe) => return pipe_hint(pipe, error),
    };
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

fn pipe_hint(pipe: Pipe, error: &io::Error) -> String {
    let path = pipe.name();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "; `ss -lxp src {path}` shows which process uses the socket: stop it, or change the path"
        ),
        io::ErrorKind::AlreadyExists => {
            "; it is not a socket and is left alone: remove it, or change the path".to_owned()
        }
        io::ErrorKind::NotFound => "; its directory does not exist".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "; its directory must be writable for the user of this process".to_owned()
        }
        _ => String::new(),
    }
}

/// Creates a listening socket for each shard, all on the same address, and returns that address.
/// With port 0 the kernel chooses a port, which the sockets share.
///
/// # Errors
/// As bind(2).
pub fn listen(
    address: Address,
    settings: &SocketSettings,
    shards: usize,
    backlog: i32,
) -> io::Result<(Address, Vec<OwnedFd>)> {
    let (bound, sockets) = open(address, settings, shards)?;
    start(&sockets, bound, settings, backlog)?;
    Ok((bound, sockets))
}

/// As [`listen`], but no connection is established before [`start`].
///
/// # Errors
/// As bind(2).
pub fn open(
    address: Address,
    settings: &SocketSettings,
    shards: usize,
) -> io::Result<(Address, Vec<OwnedFd>)> {
    let first = bind(address, settings, settings.share())?;
    let bound = match first.local_addr()?.as_socket() {
        Some(bound) => Address::Ip(bound),
        None => address,
    };
    let mut sockets = Vec::with_capacity(shards);
    for _ in 1..shards {
        sockets.push(match settings.share() {
            Share::WithOtherShards if bound.ip().is_some() => {
                bind(bound, settings, Share::WithOtherShards)?.into()
            }
            // All shards accept from one socket.
            Share::WithOtherShards | Share::Alone => first.try_clone()?.into(),
        });
    }
    sockets.push(first.into());
    Ok((bound, sockets))
}

/// Lets the kernel establish connections.
///
/// # Errors
/// As listen(2).
pub fn start(
    sockets: &[OwnedFd],
    address: Address,
    settings: &SocketSettings,
    backlog: i32,
) -> io::Result<()> {
    sockets
        .iter()
        .try_for_each(|socket| start_listening(&SockRef::from(socket), address, settings, backlog))
}

/// Which other sockets may listen on the address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Share {
    /// None, not even with `SO_REUSEPORT`.
    Alone,
    WithOtherShards,
}

impl SocketSettings {
    const fn share(&self) -> Share {
        if self.reuse_port { Share::WithOtherShards } else { Share::Alone }
    }
}

fn bind(address: Address, settings: &SocketSettings, share: Share) -> io::Result<Socket> {
    let domain = address.domain();
    let socket = Socket::new(domain, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match address {
        Address::Ip(ip) => {
            socket.set_reuse_address(true)?;
            if share == Share::WithOtherShards {
                socket.set_reuse_port(true)?;
            }
            if ip.is_ipv6() {
                socket.set_only_v6(!settings.ipv4_compat)?;
            }
            // Inherited by accepted connections: saves a system call per connection.
            socket.set_tcp_nodelay(true)?;
        }
        Address::Pipe(pipe) => remove_stale(pipe)?,
    }
    set_all(&settings.options, SocketState::Prebind, domain, &socket)?;
    socket.bind(&address.to_socket_address()?)?;
    if let Address::Pipe(pipe) = address
        && let Some(mode) = settings.mode
    {
        fs::set_permissions(pipe.name(), fs::Permissions::from_mode(mode))?;
    }
    set_all(&settings.options, SocketState::Bound, domain, &socket)?;
    Ok(socket)
}

fn start_listening(
    socket: &Socket,
    address: Address,
    settings: &SocketSettings,
    backlog: i32,
) -> io::Result<()> {
    if let (Address::Ip(_), Some(keepalive)) = (address, &settings.keepalive) {
        socket.set_tcp_keepalive(keepalive)?; // inherited as well
    }
    socket.listen(settings.backlog.unwrap_or(backlog))?;
    set_all(&settings.options, SocketState::Listening, address.domain(), socket)
}

/// Removes the socket that a process has left behind. Anything else with this path is left alone.
fn remove_stale(pipe: Pipe) -> io::Result<()> {
    if !pipe.is_path() {
        return Ok(());
    }
    match fs::symlink_metadata(pipe.name()) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(pipe.name()),
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The maximum length of an accept queue; Envoy's default backlog.
#[must_use]
pub fn backlog_max() -> i32 {
    let somaxconn = fs::read_to_string("/proc/sys/net/core/somaxconn");
    let somaxconn = somaxconn.ok().and_then(|text| text.trim().parse().ok());
    somaxconn.unwrap_or(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> Address {
        Address::Ip(([127, 0, 0, 1], 0).into())
    }

    fn own_sockets() -> SocketSettings {
        SocketSettings { reuse_port: true, ..SocketSettings::default() }
    }

    fn local(socket: OwnedFd) -> Address {
        Address::Ip(Socket::from(socket).local_addr().unwrap().as_socket().unwrap())
    }

    #[test]
    fn every_shard_gets_a_socket_on_the_same_port() {
        for settings in [own_sockets(), SocketSettings::default()] {
            let (address, sockets) = listen(loopback(), &settings, 3, 16).unwrap();
            assert_ne!(address.port(), Some(0));
            assert_eq!(sockets.len(), 3);
            sockets.into_iter().for_each(|socket| assert_eq!(local(socket), address));
        }
    }

    #[test]
    fn a_unix_socket_is_shared_and_has_its_mode() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("socket");
        let address = Address::Pipe(Pipe::new(path.to_str().unwrap()).unwrap());
        let settings = SocketSettings { mode: Some(0o600), ..own_sockets() };
        let (bound, sockets) = listen(address, &settings, 2, 16).unwrap();
        assert_eq!((bound, sockets.len()), (address, 2));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = probe(address, &settings).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "somebody listens there");
        drop(sockets);
        probe(address, &settings).unwrap();
        listen(address, &settings, 1, 16).unwrap(); // in place of the stale one
    }

    #[test]
    fn a_file_in_place_of_a_unix_socket_is_left_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "precious").unwrap();
        let address = Address::Pipe(Pipe::new(path.to_str().unwrap()).unwrap());
        let error = listen(address, &own_sockets(), 1, 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(hint(address, &error).contains("not a socket"));
        assert_eq!(fs::read_to_string(path).unwrap(), "precious");
    }

    #[test]
    fn hints_say_what_to_do() {
        let hint = |port, kind| hint(Address::Ip(([127, 0, 0, 1], port).into()), &kind);
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
        let (address, _sockets) = listen(loopback(), &own_sockets(), 1, 16).unwrap();
        let error = probe(address, &own_sockets()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
