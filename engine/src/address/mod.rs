//! Addresses of connections, and ranges of them. Pure: no name is resolved here.

mod cidr;
pub(crate) mod compile;

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use socket2::{Domain, SockAddr};

pub use cidr::Cidr;

/// Where a connection comes from or goes to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Address {
    /// IP and port.
    Ip(SocketAddr),
    /// A unix socket.
    Pipe(Pipe),
}

/// The name of a unix socket: a path, or `@` and a name that is not in the file system.
///
/// Names are kept for the life of the process, each once, so that an address can be copied like any
/// other. They come from the configuration only, never from a client.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pipe(&'static str);

/// Why a text is not the name of a unix socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PipeError {
    /// The kernel has no room for it.
    #[error("the path of a unix socket has at most {PATH_MAX} bytes")]
    TooLong,
    /// It has a NUL byte, which would end it.
    #[error("the path of a unix socket has no NUL byte")]
    Nul,
}

/// `sun_path` has 108 bytes, with a final NUL.
const PATH_MAX: usize = 107;

/// All names so far.
static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

impl Pipe {
    /// The unix socket with this path or `@` name.
    ///
    /// # Errors
    /// When the text is not a valid name.
    pub fn new(path: &str) -> Result<Self, PipeError> {
        if path.len() > PATH_MAX {
            return Err(PipeError::TooLong);
        }
        if path.contains('\0') {
            return Err(PipeError::Nul);
        }
        let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names.get(path) {
            return Ok(Self(known));
        }
        let name: &'static str = Box::leak(path.into());
        names.insert(name);
        Ok(Self(name))
    }

    /// The path or `@` name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }

    /// Whether it is in the file system.
    #[must_use]
    pub fn is_path(self) -> bool {
        !self.0.starts_with('@')
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}

impl Address {
    /// The IP address; a unix socket has none.
    #[must_use]
    pub const fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(address.ip()),
            Self::Pipe(_) => None,
        }
    }

    /// Whether a client with this address is on this machine, where it connects to `local`.
    #[must_use]
    pub fn is_on_this_machine(self, local: Self) -> bool {
        let Some(ip) = self.ip() else { return true };
        // Envoy: of 127.0.0.0/8 only this address.
        let is_loopback =
            ip == IpAddr::from([127, 0, 0, 1]) || matches!(ip, IpAddr::V6(ip) if ip.is_loopback());
        is_loopback || Some(ip) == local.ip()
    }

    /// The port; a unix socket has none.
    #[must_use]
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::Ip(address) => Some(address.port()),
            Self::Pipe(_) => None,
        }
    }

    /// For socket(2).
    #[must_use]
    pub const fn domain(self) -> Domain {
        match self {
            Self::Ip(address) => Domain::for_address(address),
            Self::Pipe(_) => Domain::UNIX,
        }
    }

    /// For bind(2) and connect(2).
    ///
    /// # Errors
    /// Never for a valid name.
    pub fn to_socket_address(self) -> io::Result<SockAddr> {
        match self {
            Self::Ip(address) => Ok(SockAddr::from(address)),
            Self::Pipe(Pipe(name)) => match name.strip_prefix('@') {
                Some(name) => SockAddr::unix(format!("\0{name}")),
                None => SockAddr::unix(name),
            },
        }
    }
}

/// The two ends of a connection with a client.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Ends {
    /// The client's.
    pub remote: Address,
    /// The proxy's.
    pub local: Address,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for Address {
    fn from((ip, port): (I, u16)) -> Self {
        Self::Ip(SocketAddr::new(ip.into(), port))
    }
}

/// `127.0.0.1:80`, `[::1]:80`, or the path.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Pipe(Pipe(name)) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_as_small_as_a_socket_address() {
        assert_eq!(size_of::<Address>(), size_of::<SocketAddr>());
    }

    #[test]
    fn a_name_is_kept_once() {
        let (one, other) = (Pipe::new("/run/a").unwrap(), Pipe::new("/run/a").unwrap());
        assert!(std::ptr::eq(one.name(), other.name()));
        assert_ne!(one, Pipe::new("@/run/a").unwrap());
        assert!(one.is_path() && !Pipe::new("@a").unwrap().is_path());
    }

    #[test]
    fn a_name_has_room_in_a_socket_address() {
        assert!(Pipe::new(&"a".repeat(107)).is_ok());
        assert_eq!(Pipe::new(&"a".repeat(108)), Err(PipeError::TooLong));
        assert_eq!(Pipe::new("/a\0b"), Err(PipeError::Nul));
        let address = Address::Pipe(Pipe::new("@a").unwrap()).to_socket_address().unwrap();
        assert_eq!(address.as_abstract_namespace(), Some(&b"a"[..]));
        let address = Address::Pipe(Pipe::new("/a").unwrap()).to_socket_address().unwrap();
        assert_eq!(address.as_pathname(), Some(std::path::Path::new("/a")));
    }
}
