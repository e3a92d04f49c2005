//! Errands for a shard, from the control plane or another shard.
//!
//! A queue and an eventfd that wakes the shard. Not on the path of a request, except the first one of
//! a connection that is handed over.
#![expect(unsafe_code, reason = "eventfd has no safe wrapper here")]

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::Shard;
use super::socket::Socket;

/// Work for a shard, done on its thread between the turns of its tasks. Whoever has something to say
/// to a shard brings the code along: the shard knows neither listeners nor clusters.
pub type Errand = Box<dyn FnOnce(&'static Shard) + Send>;

/// The sending end of a mailbox.
#[derive(Debug)]
pub struct Mailbox {
    errands: Sender<Errand>,
    event: Arc<EventFd>,
}

/// Wakes the shard.
#[derive(Debug)]
struct EventFd {
    descriptor: OwnedFd,
    /// Whether it was signaled since the shard last began to empty its mailbox.
    signaled: AtomicBool,
}

impl Mailbox {
    /// Creates a mailbox and its receiving end.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> io::Result<(Self, Inbox)> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created, and nothing else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(fd) };
        let event = Arc::new(EventFd { descriptor, signaled: AtomicBool::new(false) });
        let (sender, receiver) = channel();
        let inbox = Inbox { errands: receiver, event: Arc::clone(&event) };
        Ok((Self { errands: sender, event }, inbox))
    }

    /// Sends an errand and wakes the shard. One to a shard that has ended is dropped.
    pub fn send(&self, errand: Errand) {
        // If the event is signaled already, the shard has yet to empty its mailbox and finds this errand.
        if self.errands.send(errand).is_err() || self.event.signaled.swap(true, Ordering::AcqRel) {
            return;
        }
        let one = 1_u64.to_ne_bytes();
        // SAFETY: `one` is valid for its length and the descriptor is open. The counter cannot
        // overflow in practice; if it did, the shard would be awake already.
        let _written = unsafe {
            libc::write(self.event.descriptor.as_raw_fd(), one.as_ptr().cast(), one.len())
        };
    }
}

/// The receiving end, before it is on the shard's thread.
#[derive(Debug)]
pub struct Inbox {
    errands: Receiver<Errand>,
    event: Arc<EventFd>,
}

impl Inbox {
    /// Opens the inbox; must be called on the shard's thread.
    ///
    /// # Errors
    /// When the eventfd cannot be registered with the reactor.
    pub fn open(self) -> io::Result<OpenInbox> {
        let descriptor = Socket::new(self.event.descriptor.try_clone()?)?;
        Ok(OpenInbox { errands: self.errands, event: self.event, descriptor })
    }
}

/// The receiving end, on the shard's thread.
#[derive(Debug)]
pub struct OpenInbox {
    errands: Receiver<Errand>,
    event: Arc<EventFd>,
    descriptor: Socket,
}

impl OpenInbox {
    /// Runs errands forever; a task of its own.
    pub async fn run(self, shard: &'static Shard) {
        loop {
            while let Ok(errand) = self.errands.try_recv() {
                shard.run_errand(errand);
                // Other shards may hand over many connections: serve existing ones in between.
                poll_fn(|cx| shard.poll_proceed(cx)).await;
            }
            poll_fn(|cx| self.descriptor.poll_readable(cx)).await;
            self.descriptor.take_counter();
            // Errands sent from here on signal again; those sent before are received above.
            self.event.signaled.swap(false, Ordering::AcqRel);
        }
    }
}
