//! Socket options that the configuration names by level and number.
#![expect(unsafe_code, reason = "setsockopt(2) with any level and name has no safe wrapper")]

pub(crate) mod compile;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};

use crate::address::Address;

/// One option of a socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SocketOption {
    /// Such as `SOL_SOCKET`.
    pub level: i32,
    /// Such as `SO_RCVBUF`.
    pub name: i32,
    /// Its value.
    pub value: OptionValue,
    /// When it is set.
    pub state: SocketState,
    /// The sockets that it is for.
    pub family: Family,
}

/// How the local end of a connection is made.
#[derive(Clone, Debug, Default)]
pub struct LocalEnd {
    /// The address to connect from; with port 0 the kernel chooses a port.
    pub address: Option<SocketAddr>,
    /// Its options.
    pub options: Vec<SocketOption>,
    /// The same for hosts of the other IP version.
    pub other_family: Option<Box<Self>>,
}

impl LocalEnd {
    //= envoy: BindConfig.extra_source_addresses
    /// The local end of a connection to this address: that of its IP version, if there are two.
    #[must_use]
    pub fn toward(&self, remote: Address) -> &Self {
        let (Some(ours), Some(other)) = (self.address, &self.other_family) else { return self };
        match remote.ip() {
            Some(ip) if ip.is_ipv4() != ours.is_ipv4() => other,
            _ => self,
        }
    }
}

/// The value of an option.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OptionValue {
    /// An int.
    Int(i32),
    /// Anything else.
    Bytes(Vec<u8>),
}

/// When an option is set.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SocketState {
    /// Before bind(2); for a connection, before connect(2).
    Prebind,
    /// After bind(2).
    Bound,
    /// After listen(2).
    Listening,
}

/// The sockets that an option is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the families of addresses")]
pub enum Family {
    Any,
    V4,
    V6,
}

/// `freebind`: the address need not exist yet.
pub fn freebind() -> [SocketOption; 2] {
    on((libc::SOL_IP, libc::IP_FREEBIND), (libc::SOL_IPV6, libc::IPV6_FREEBIND))
}

/// `transparent`: the kernel delivers connections to other addresses too (TPROXY).
pub fn transparent() -> [SocketOption; 2] {
    on((libc::SOL_IP, libc::IP_TRANSPARENT), (libc::SOL_IPV6, libc::IPV6_TRANSPARENT))
}

/// A switch of IP sockets, which has a name per family.
fn on((v4_level, v4): (i32, i32), (v6_level, v6): (i32, i32)) -> [SocketOption; 2] {
    let option = |level, name, family| SocketOption {
        level,
        name,
        value: OptionValue::Int(1),
        state: SocketState::Prebind,
        family,
    };
    [option(v4_level, v4, Family::V4), option(v6_level, v6, Family::V6)]
}

/// `tcp_fast_open_queue_length`
pub fn fast_open(length: u32) -> [SocketOption; 2] {
    [Family::V4, Family::V6].map(|family| SocketOption {
        level: libc::SOL_TCP,
        name: libc::TCP_FASTOPEN,
        value: OptionValue::Int(i32::try_from(length).unwrap_or(i32::MAX)),
        state: SocketState::Listening,
        family,
    })
}

/// bind(2) chooses no port yet.
pub const fn bind_address_no_port() -> SocketOption {
    SocketOption {
        level: libc::SOL_IP,
        name: libc::IP_BIND_ADDRESS_NO_PORT,
        value: OptionValue::Int(1),
        state: SocketState::Prebind,
        family: Family::Any,
    }
}

impl SocketOption {
    /// Whether the option is for a socket of this family.
    const fn is_for(&self, domain: socket2::Domain) -> bool {
        match self.family {
            Family::Any => true,
            Family::V4 => matches!(domain, socket2::Domain::IPV4),
            Family::V6 => matches!(domain, socket2::Domain::IPV6),
        }
    }

    fn set(&self, socket: &impl AsFd) -> io::Result<()> {
        let bytes = match &self.value {
            OptionValue::Int(value) => &value.to_ne_bytes()[..],
            OptionValue::Bytes(bytes) => bytes,
        };
        let length = libc::socklen_t::try_from(bytes.len()).map_err(io::Error::other)?;
        // SAFETY: the kernel reads `length` bytes, which is the length of `bytes`; the descriptor is
        // open while it is borrowed.
        let result = unsafe {
            libc::setsockopt(
                socket.as_fd().as_raw_fd(),
                self.level,
                self.name,
                bytes.as_ptr().cast(),
                length,
            )
        };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        let Self { level, name, .. } = self;
        Err(io::Error::new(error.kind(), format!("socket option {level}/{name}: {error}")))
    }
}

/// Sets those of the options that are due in this state.
///
/// # Errors
/// The first error of setsockopt(2).
pub fn set_all(
    options: &[SocketOption],
    state: SocketState,
    domain: socket2::Domain,
    socket: &impl AsFd,
) -> io::Result<()> {
    let mut due = options.iter().filter(|it| it.state == state && it.is_for(domain));
    due.try_for_each(|option| option.set(socket))
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    fn option(name: i32, value: OptionValue, family: Family) -> SocketOption {
        SocketOption { level: libc::SOL_SOCKET, name, value, state: SocketState::Prebind, family }
    }

    #[test]
    fn options_are_set_in_their_state_and_family() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let keepalive = option(libc::SO_KEEPALIVE, OptionValue::Int(1), Family::Any);
        let options = [keepalive, option(libc::SO_KEEPALIVE, OptionValue::Int(0), Family::V6)];
        set_all(&options, SocketState::Bound, Domain::IPV4, &socket).unwrap();
        assert!(!socket.keepalive().unwrap());
        set_all(&options, SocketState::Prebind, Domain::IPV4, &socket).unwrap();
        assert!(socket.keepalive().unwrap());
    }

    #[test]
    fn bytes_are_a_value_and_errors_name_the_option() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let bytes = OptionValue::Bytes(1_i32.to_ne_bytes().to_vec());
        let options = [option(libc::SO_KEEPALIVE, bytes, Family::V4)];
        set_all(&options, SocketState::Prebind, Domain::IPV4, &socket).unwrap();
        assert!(socket.keepalive().unwrap());
        let options = [option(9999, OptionValue::Int(1), Family::Any)];
        let error = set_all(&options, SocketState::Prebind, Domain::IPV4, &socket).unwrap_err();
        assert!(error.to_string().starts_with("socket option 1/9999: "), "{error}");
    }
}
