//! The files of all access logs. They are opened while the configuration is compiled: one that cannot
//! be opened is an error of the configuration, as in Envoy.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::sink::{Destination, Order, Sink};
use crate::stats::Registry;

/// An open file, for the writer.
#[derive(Debug)]
pub struct LogFile {
    /// Its sink.
    pub sink: Arc<Sink>,
    /// What it is.
    pub destination: Destination,
    /// The open file.
    pub file: File,
}

/// The files that were opened so far, each once.
#[derive(Debug)]
pub struct Files {
    opened: RefCell<Vec<LogFile>>,
    writer: Sender<Order>,
    orders: Receiver<Order>,
}

/// What the writer works with: the files, and the orders for it.
#[derive(Debug)]
pub struct Work {
    /// The files, by the numbers of their sinks.
    pub files: Vec<LogFile>,
    /// For whoever has orders.
    pub writer: Sender<Order>,
    /// The orders.
    pub orders: Receiver<Order>,
}

impl Default for Files {
    fn default() -> Self {
        let (writer, orders) = channel();
        Self { opened: RefCell::default(), writer, orders }
    }
}

impl Files {
    /// The sink of this destination, which is opened if it is not open yet.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self, destination: Destination, registry: &Registry) -> io::Result<Arc<Sink>> {
        let mut opened = self.opened.borrow_mut();
        if let Some(known) = opened.iter().find(|file| file.destination == destination) {
            return Ok(Arc::clone(&known.sink));
        }
        let file = destination.open()?;
        let (stats, drops) = (registry.scope("filesystem."), registry.scope("access_log."));
        let sink = Arc::new(Sink::new(opened.len(), self.writer.clone(), stats, drops));
        opened.push(LogFile { sink: Arc::clone(&sink), destination, file });
        Ok(sink)
    }

    /// All of them, for the writer.
    #[must_use]
    pub fn into_work(self) -> Work {
        let Self { opened, writer, orders } = self;
        Work { files: opened.into_inner(), writer, orders }
    }
}

impl Destination {
    /// Opens it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn open(&self) -> io::Result<File> {
        match self {
            Self::File(path) => open_file(path),
            Self::Stdout => duplicate(io::stdout().as_fd()),
            Self::Stderr => duplicate(io::stderr().as_fd()),
        }
    }
}

/// Opens a file to append to. A pipe is opened for reading too, so that it need not have a reader yet
/// and stays open when its reader goes.
fn open_file(path: &Path) -> io::Result<File> {
    let is_pipe = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .read(is_pipe)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    match opened {
        // Under systemd these are sockets, which cannot be opened by name.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => match path.to_str() {
            Some("/dev/stdout" | "/proc/self/fd/1") => duplicate(io::stdout().as_fd()),
            Some("/dev/stderr" | "/proc/self/fd/2") => duplicate(io::stderr().as_fd()),
            _ => Err(error),
        },
        opened => opened,
    }
}

fn duplicate(descriptor: BorrowedFd<'_>) -> io::Result<File> {
    descriptor.try_clone_to_owned().map(File::from)
}
