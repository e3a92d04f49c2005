//! The files and queues of all access logs. Files are opened while the configuration is compiled: one that cannot
//! be opened is an error of the configuration, as in Envoy.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};

use super::remote::{self, queue::Queue};
use super::sink::{Destination, LogFile, Order, Sink};
use crate::stats::Registry;

/// The files that were opened so far, each once.
#[derive(Debug)]
pub struct Files {
    sinks: RefCell<Vec<(Destination, Arc<Sink>)>>,
    /// Those that the writer does not have yet.
    opened: RefCell<Vec<LogFile>>,
    writer: Sender<Order>,
    /// Until the writer takes it.
    orders: RefCell<Option<Receiver<Order>>>,
    /// The queues of logs that go to a service, each with what it was made for, as long as they are in use.
    queues: RefCell<Vec<(String, Weak<Queue>)>>,
    /// Those that nothing sends yet.
    works: RefCell<Vec<remote::Work>>,
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
        let orders = RefCell::new(Some(orders));
        Self {
            sinks: RefCell::default(),
            opened: RefCell::default(),
            writer,
            orders,
            queues: RefCell::default(),
            works: RefCell::default(),
        }
    }
}

impl Files {
    /// The sink of this destination, which is opened if it is not open yet.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self, destination: Destination, registry: &Registry) -> io::Result<Arc<Sink>> {
        let mut sinks = self.sinks.borrow_mut();
        if let Some((_, known)) = sinks.iter().find(|(known, _)| *known == destination) {
            return Ok(Arc::clone(known));
        }
        let file = destination.open()?;
        let (stats, drops) = (registry.scope("filesystem."), registry.scope("access_log."));
        let sink = Arc::new(Sink::new(sinks.len(), self.writer.clone(), stats, drops));
        sinks.push((destination.clone(), Arc::clone(&sink)));
        self.opened.borrow_mut().push(LogFile { sink: Arc::clone(&sink), destination, file });
        Ok(sink)
    }

    /// The queue of what `key` stands for, which is made if there is none.
    pub(super) fn queue(
        &self,
        key: &str,
        make: impl FnOnce() -> (Arc<Queue>, remote::Work),
    ) -> Arc<Queue> {
        let mut queues = self.queues.borrow_mut();
        queues.retain(|(_, queue)| queue.strong_count() > 0);
        let known = queues.iter().find(|(known, _)| known == key);
        if let Some(queue) = known.and_then(|(_, queue)| queue.upgrade()) {
            return queue;
        }
        let (queue, work) = make();
        queues.push((key.to_owned(), Arc::downgrade(&queue)));
        self.works.borrow_mut().push(work);
        queue
    }

    /// The queues that nothing sends yet.
    pub fn take_works(&self) -> Vec<remote::Work> {
        self.works.take()
    }

    /// What a writer begins with; none: there are no files, or one has begun already.
    pub fn begin(&self) -> Option<Work> {
        if self.opened.borrow().is_empty() {
            return None;
        }
        let orders = self.orders.take()?;
        Some(Work { files: self.opened.take(), writer: self.writer.clone(), orders })
    }

    /// Hands the files over that were opened since the writer has begun.
    pub fn hand_over(&self) {
        for file in self.opened.take() {
            // The writer ends with the process.
            let _sent = self.writer.send(Order::Add(file));
        }
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
