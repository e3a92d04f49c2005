//! Where encoded entries wait: in a buffer of their shard, then in the queue of the control plane, which sends them.
//!
//! Invariant: an entry is handed over whole, or counted as dropped; a shard waits for neither.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::mpsc::UnboundedSender;

use crate::limits;
use crate::shard::Shard;
use crate::stats::{RemoteLogStats, Scope};

/// Encoded entries, and how many there are.
#[derive(Debug, Default)]
pub struct Batch {
    /// Each with its tag and its length, as a repeated field of a message.
    pub bytes: Vec<u8>,
    /// How many.
    pub count: u64,
}

/// The queue of one destination, for all shards.
#[derive(Debug)]
pub struct Queue {
    batches: UnboundedSender<Batch>,
    waiting: Arc<Waiting>,
    /// A buffer with so many bytes is handed over.
    flush_bytes: usize,
}

/// What waits in a queue, and its stats.
#[derive(Debug)]
pub struct Waiting {
    bytes: AtomicUsize,
    stats: Arc<Scope<RemoteLogStats>>,
}

impl Waiting {
    /// Nothing waits.
    #[must_use]
    pub fn new(stats: Arc<Scope<RemoteLogStats>>) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), stats })
    }

    /// So many bytes were sent.
    pub fn sent(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    /// The control plane has given up a batch.
    pub fn dropped(&self, batch: &Batch) {
        self.sent(batch.bytes.len());
        self.stats.control().logs_dropped.add(batch.count);
    }
}

impl Queue {
    /// A queue whose other end is that of `batches`.
    #[must_use]
    pub fn new(
        batches: UnboundedSender<Batch>,
        waiting: Arc<Waiting>,
        flush_bytes: usize,
    ) -> Arc<Self> {
        Arc::new(Self { batches, waiting, flush_bytes })
    }

    /// Hands a batch over, unless too much waits already.
    fn hand_over(&self, batch: Batch, stats: &RemoteLogStats) {
        let (bytes, count) = (batch.bytes.len(), batch.count);
        let waiting = &self.waiting.bytes;
        let is_full = waiting.load(Relaxed).saturating_add(bytes) > limits::LOG_QUEUE_BYTES_MAX;
        if !is_full {
            waiting.fetch_add(bytes, Relaxed);
            if self.batches.send(batch).is_ok() {
                return stats.logs_written.add(count);
            }
        }
        stats.logs_dropped.add(count);
    }

    /// Hands an entry of the control plane over. It is sent soon: there are few of them.
    pub(in crate::access_log) fn hand_over_from_control(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut batch = Batch { bytes: Vec::new(), count: 1 };
        write(&mut batch.bytes);
        self.hand_over(batch, self.waiting.stats.control());
    }
}

/// The entries of one shard for one queue.
#[derive(Debug)]
pub struct Buffer {
    shard: &'static Shard,
    queue: Arc<Queue>,
    batch: RefCell<Batch>,
}

impl Buffer {
    /// Appends an entry.
    pub(in crate::access_log) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut batch = self.batch.borrow_mut();
        write(&mut batch.bytes);
        batch.count += 1;
        if batch.bytes.len() >= self.queue.flush_bytes {
            let next = Batch { bytes: Vec::with_capacity(batch.bytes.len()), count: 0 };
            self.hand_over(std::mem::replace(&mut batch, next));
        }
    }

    fn flush(&self) {
        let mut batch = self.batch.borrow_mut();
        if batch.count > 0 {
            self.hand_over(std::mem::take(&mut batch));
        }
    }

    fn hand_over(&self, batch: Batch) {
        self.queue.hand_over(batch, self.queue.waiting.stats.shard(self.shard.id));
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The buffers of a shard, as long as something writes to them.
#[derive(Debug, Default)]
pub struct Buffers(RefCell<Vec<Weak<Buffer>>>);

impl Buffers {
    fn of(shard: &'static Shard) -> &'static Self {
        shard.kept(|_| Self::default())
    }

    /// The one for this queue.
    pub(in crate::access_log) fn of_queue(queue: &Arc<Queue>, shard: &'static Shard) -> Rc<Buffer> {
        let mut buffers = Self::of(shard).0.borrow_mut();
        buffers.retain(|buffer| buffer.strong_count() > 0);
        let known = buffers.iter().filter_map(Weak::upgrade);
        if let Some(buffer) = known.into_iter().find(|it| Arc::ptr_eq(&it.queue, queue)) {
            return buffer;
        }
        let buffer = Rc::new(Buffer { shard, queue: Arc::clone(queue), batch: RefCell::default() });
        buffers.push(Rc::downgrade(&buffer));
        buffer
    }

    /// Hands over what there is for this queue; without one, for all.
    pub fn flush(shard: &'static Shard, queue: Option<&Arc<Queue>>) {
        let buffers = Self::of(shard).0.borrow();
        for buffer in buffers.iter().filter_map(Weak::upgrade) {
            if queue.is_none_or(|queue| Arc::ptr_eq(&buffer.queue, queue)) {
                buffer.flush();
            }
        }
    }
}
