//! Where resources come from that may change while the proxy runs: files.
//!
//! This describes a source and reads it. `control` follows it.

pub mod compile;

use std::path::{Path, PathBuf};
use std::time::Duration;

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
