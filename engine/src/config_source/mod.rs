//! Where resources come from that may change while the proxy runs: files and management servers.
//!
//! This describes a source, and reads files. `control` follows it.

pub mod compile;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::tcp::proxy::backoff::Backoff;
use crate::token_bucket::Rate;

/// Where resources come from.
//= envoy: envoy.config.core.v3.ConfigSource
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigSource {
    /// What delivers them.
    pub origin: Origin,
    /// How long the first answer of a management server is waited for; none: forever.
    pub initial_fetch_timeout: Option<Duration>,
}

/// What delivers resources.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A file.
    File(FileSource),
    /// The stream that all resources of this origin share: `dynamic_resources.ads_config`.
    Ads,
    /// A management server, over a stream for these resources alone.
    Grpc(GrpcSource),
}

/// A management server.
//= envoy: envoy.config.core.v3.ApiConfigSource
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcSource {
    /// What it sends.
    pub protocol: Protocol,
    /// The name of its cluster.
    pub cluster: String,
    /// `:authority`; the name of the cluster by default.
    pub authority: String,
    /// Names and values that each stream begins with.
    pub metadata: Vec<(String, String)>,
    /// Whether only the first request of a stream has the node.
    pub node_on_first_message_only: bool,
    /// How many requests may be sent; none: all.
    pub rate_limit: Option<Rate>,
    /// The delay before a stream is opened again.
    pub back_off: Backoff,
    /// Bytes of a response; none: any number.
    pub message_max: Option<usize>,
}

/// What a management server sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// All resources, each time.
    StateOfTheWorld,
    /// What has changed.
    Delta,
}

impl ConfigSource {
    /// The management server that has a stream for these resources alone.
    #[must_use]
    pub const fn server(&self) -> Option<&GrpcSource> {
        match &self.origin {
            Origin::Grpc(server) => Some(server),
            Origin::File(_) | Origin::Ads => None,
        }
    }
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::File(file) => file.path.display().fmt(f),
            Origin::Ads => f.write_str("ADS"),
            Origin::Grpc(server) => write!(f, "cluster {}", server.cluster),
        }
    }
}

/// A file with a `DiscoveryResponse`.
//= envoy: envoy.config.core.v3.PathConfigSource
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileSource {
    /// The file.
    pub path: PathBuf,
    /// When it is read again.
    pub trigger: Trigger,
}

/// When a file is read again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trigger {
    /// When another file is moved to its path.
    Moved,
    /// When anything is moved into this directory.
    MovedInto(PathBuf),
    /// At this interval.
    Interval(Duration),
}

/// A place where files are moved to.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum MoveTarget {
    /// Any file in a directory.
    Directory(PathBuf),
    /// This file.
    File(PathBuf),
}

impl MoveTarget {
    /// The directory, and the name of the file if it is one file.
    #[must_use]
    pub fn parts(&self) -> (&Path, Option<&std::ffi::OsStr>) {
        match self {
            Self::Directory(path) => (path, None),
            Self::File(path) => (directory(path), path.file_name()),
        }
    }
}

/// The directory that a file is in.
#[must_use]
pub fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        // It has no parent, so it is the root.
        None => path,
    }
}
