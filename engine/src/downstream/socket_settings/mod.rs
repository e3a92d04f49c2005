//! How the listening sockets of a listener are made.

pub mod compile;

use socket2::TcpKeepalive;

use crate::shard::socket_option::SocketOption;

/// The settings of all sockets of a listener.
#[derive(Clone, Debug, Default)]
pub struct SocketSettings {
    /// `tcp_backlog_size`; `None`: the maximum of the kernel.
    pub backlog: Option<i32>,
    /// `tcp_keepalive` of its connections.
    pub keepalive: Option<TcpKeepalive>,
    /// `enable_reuse_port`: each shard has its own socket, and the kernel distributes connections.
    /// Otherwise all shards accept from one.
    pub reuse_port: bool,
    /// `ipv4_compat`: a socket of IPv6 accepts connections of IPv4 too.
    pub ipv4_compat: bool,
    /// `pipe.mode`; `None`: as the umask says.
    pub mode: Option<u32>,
    /// `socket_options`, `freebind`, `transparent` and `tcp_fast_open_queue_length`.
    pub options: Vec<SocketOption>,
}
