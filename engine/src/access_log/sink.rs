//! Where lines go: a file of the process, and the buffer that each shard has for it.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::Lines;
use crate::limits;
use crate::shard::Shard;
use crate::stats::{AccessLogStats, FilesystemStats, Scope};

/// How often, and from how many bytes on, lines are handed over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flush {
    /// `--file-flush-interval-msec`
    pub interval: Duration,
    /// `--file-flush-min-size-kb`, in bytes.
    pub min_bytes: usize,
}

impl Default for Flush {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10), min_bytes: 64 * 1024 }
    }
}

/// What a sink writes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Destination {
    /// A file.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One file for the lines of all shards.
#[derive(Debug)]
pub struct Sink {
    /// Its place among all sinks.
    pub(super) index: usize,
    pub(super) writer: Sender<Order>,
    /// Bytes that were handed over and are not written yet. Changed once per handover, not per line.
    queued: AtomicUsize,
    /// Lines of the control plane that were dropped and that the writer has not counted yet.
    refused: AtomicU64,
    stats: Arc<Scope<FilesystemStats>>,
    drops: Arc<Scope<AccessLogStats>>,
}

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

/// What the writer is asked to do.
#[derive(Debug)]
pub enum Order {
    /// To write lines of a shard to the sink of this number.
    Write(usize, Lines),
    /// The same for lines of the control plane, which are not in the stats yet.
    WriteUncounted(usize, Lines),
    /// To write to one more file.
    Add(LogFile),
    /// To open all files again.
    Reopen,
    /// The flush interval has passed once more.
    Tick,
    /// To write everything, then to answer.
    Finish(Sender<()>),
}

impl Sink {
    pub(super) fn new(
        index: usize,
        writer: Sender<Order>,
        stats: Arc<Scope<FilesystemStats>>,
        drops: Arc<Scope<AccessLogStats>>,
    ) -> Self {
        // Shown from the start, so that a rule for alerts finds it.
        let _shown = drops.control();
        Self {
            index,
            writer,
            queued: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            stats,
            drops,
        }
    }

    /// The writer's stats, for its thread only.
    #[must_use]
    pub fn stats(&self) -> &FilesystemStats {
        self.stats.control()
    }

    /// The writer has written these bytes.
    pub fn written(&self, bytes: usize) {
        self.queued.fetch_sub(bytes, Relaxed);
        self.stats.control().write_total_buffered.sub(bytes as u64);
    }

    /// The writer has dropped lines, of this many bytes together.
    pub fn dropped(&self, lines: usize, bytes: usize) {
        self.written(bytes);
        self.drops.control().lines_dropped.add(lines as u64);
    }

    /// Counts lines of the control plane that the writer has received. For its thread only.
    pub fn count(&self, lines: &Lines) {
        let stats = self.stats.control();
        stats.write_buffered.add(lines.count() as u64);
        stats.write_total_buffered.add(lines.bytes().len() as u64);
    }

    /// Counts the lines that the control plane has dropped. For the writer's thread only.
    pub fn count_refused(&self) {
        let refused = self.refused.swap(0, Relaxed);
        if refused > 0 {
            self.drops.control().lines_dropped.add(refused);
        }
    }

    /// Hands a line of the control plane over, unless the writer has too many to write already. It is
    /// written at once: there are few of them.
    pub(super) fn hand_over_from_control(&self, line: Lines) {
        let (bytes, count) = (line.bytes().len(), line.count() as u64);
        let is_full = self.queued.load(Relaxed).saturating_add(bytes) > limits::LOG_QUEUE_BYTES_MAX;
        if !is_full {
            self.queued.fetch_add(bytes, Relaxed);
            if self.writer.send(Order::WriteUncounted(self.index, line)).is_ok() {
                return;
            }
        }
        self.refused.fetch_add(count, Relaxed);
    }

    /// Hands lines of a shard over, unless the writer has too many to write already.
    fn hand_over(&self, lines: Lines, shard: usize) {
        let (bytes, count) = (lines.bytes().len(), lines.count() as u64);
        let is_full = self.queued.load(Relaxed).saturating_add(bytes) > limits::LOG_QUEUE_BYTES_MAX;
        if !is_full {
            self.queued.fetch_add(bytes, Relaxed);
            if self.writer.send(Order::Write(self.index, lines)).is_ok() {
                return;
            }
        }
        self.stats.shard(shard).write_total_buffered.sub(bytes as u64);
        self.drops.shard(shard).lines_dropped.add(count);
    }
}

/// The lines of one shard for one sink.
#[derive(Debug)]
pub struct Buffer {
    shard: &'static Shard,
    sink: Arc<Sink>,
    /// Handed over when it has more bytes.
    flush_bytes: usize,
    lines: RefCell<Lines>,
}

impl Buffer {
    /// Appends a line.
    pub(super) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut lines = self.lines.borrow_mut();
        let bytes = lines.append(write);
        let stats = self.sink.stats.shard(self.shard.id);
        stats.write_buffered.inc();
        stats.write_total_buffered.add(bytes as u64);
        if lines.bytes().len() > self.flush_bytes {
            let next = Lines::with_capacity(lines.bytes().len(), lines.count());
            self.sink.hand_over(std::mem::replace(&mut lines, next), self.shard.id);
        }
    }

    /// Hands over what there is.
    fn flush(&self) {
        let mut lines = self.lines.borrow_mut();
        if lines.count() > 0 {
            self.sink.hand_over(std::mem::take(&mut lines), self.shard.id);
        }
    }
}

/// The buffers of a shard.
#[derive(Debug)]
pub struct Buffers {
    shard: &'static Shard,
    flush_bytes: Cell<usize>,
    /// By the number of the sink.
    buffers: RefCell<Vec<&'static Buffer>>,
}

impl Buffers {
    /// Those of this shard.
    pub fn of(shard: &'static Shard) -> &'static Self {
        shard.kept(|shard| Self {
            shard,
            flush_bytes: Cell::new(Flush::default().min_bytes),
            buffers: RefCell::default(),
        })
    }

    /// From how many bytes on buffers are handed over, for those made from here on.
    pub fn set_flush_bytes(&self, bytes: usize) {
        self.flush_bytes.set(bytes);
    }

    /// The one for this sink.
    pub(super) fn of_sink(&self, sink: &Arc<Sink>) -> &'static Buffer {
        let mut buffers = self.buffers.borrow_mut();
        if let Some(buffer) = buffers.iter().find(|buffer| Arc::ptr_eq(&buffer.sink, sink)) {
            return buffer;
        }
        // Log files are opened once, and written until the process ends.
        let buffer: &'static Buffer = Box::leak(Box::new(Buffer {
            shard: self.shard,
            sink: Arc::clone(sink),
            flush_bytes: self.flush_bytes.get(),
            lines: RefCell::default(),
        }));
        buffers.push(buffer);
        buffer
    }

    /// Hands over everything.
    pub fn flush(&self) {
        self.buffers.borrow().iter().for_each(|buffer| buffer.flush());
    }
}
