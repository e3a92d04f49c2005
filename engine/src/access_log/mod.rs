//! Access logs: a line for each request and each connection.
//!
//! Here an entry is selected, formatted and put into a buffer of its shard: as a line for a file, or encoded for a
//! service ([`remote`]). Files are written elsewhere (`control/access_log_writer.rs`), entries are sent elsewhere
//! (`control/remote_logs.rs`), and what an entry shows comes from the exchange or the connection.
//!
//! Invariant: an entry is handed over whole, or counted as dropped; a shard waits for neither.

pub mod compile;
pub mod entry_type;
pub mod files;
pub mod filter;
mod lines;
pub mod remote;
pub mod sink;

use std::rc::Rc;
use std::sync::Arc;

use self::filter::Filter;
pub use self::lines::Lines;
use self::remote::{RemoteLog, queue};
use self::sink::{Buffer, Buffers, Sink};
use crate::format::{Format, Inputs};
use crate::shard::Shard;

/// One `AccessLog`.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Which requests it has; none: all.
    filter: Option<Filter>,
    output: Output,
}

/// Where entries go.
#[derive(Clone, Debug)]
enum Output {
    /// To a file, as lines.
    Lines(Format, Arc<Sink>),
    /// To a service.
    Remote(Arc<RemoteLog>),
}

/// The access logs of one place in the configuration.
#[derive(Clone, Debug, Default)]
pub struct AccessLogs(Arc<[AccessLog]>);

impl AccessLogs {
    /// Whether nothing is logged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These and `more`.
    #[must_use]
    pub(crate) fn with(self, more: Option<AccessLog>) -> Self {
        match more {
            Some(more) => Self(self.0.iter().cloned().chain([more]).collect()),
            None => self,
        }
    }

    /// Writes an entry of the control plane to every log whose filter passes it.
    pub(crate) fn write_from_control(&self, inputs: &Inputs<'_>, random: u64) {
        for log in &*self.0 {
            let passes = |filter: &Filter| filter.passes(inputs, random);
            if log.filter.as_ref().is_none_or(passes) {
                match &log.output {
                    Output::Lines(format, sink) => {
                        let mut line = Lines::default();
                        line.append(|out| format.write(inputs, out));
                        sink.hand_over_from_control(line);
                    }
                    Output::Remote(remote) => {
                        remote.queue.hand_over_from_control(|out| remote.encode(inputs, out));
                    }
                }
            }
        }
    }
}

/// The same on one shard.
#[derive(Debug, Default)]
pub struct LocalLogs {
    logs: Arc<[AccessLog]>,
    /// Of each log its buffer.
    buffers: Box<[LocalBuffer]>,
}

/// Where the entries of a log wait on a shard.
#[derive(Debug)]
enum LocalBuffer {
    Lines(&'static Buffer),
    Remote(Rc<queue::Buffer>),
}

impl LocalLogs {
    /// `logs` for what one shard serves.
    pub(crate) fn new(logs: &AccessLogs, shard: &'static Shard) -> Self {
        let buffers = logs.0.iter().map(|log| match &log.output {
            Output::Lines(_, sink) => LocalBuffer::Lines(Buffers::of(shard).of_sink(sink)),
            Output::Remote(remote) => {
                LocalBuffer::Remote(queue::Buffers::of_queue(&remote.queue, shard))
            }
        });
        Self { logs: Arc::clone(&logs.0), buffers: buffers.collect() }
    }

    /// Whether nothing is logged.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// Writes an entry to every log whose filter passes it. `random` is one random number per request.
    pub(crate) fn write(&self, inputs: &Inputs<'_>, random: u64) {
        for (log, buffer) in self.logs.iter().zip(&self.buffers) {
            let passes = |filter: &Filter| filter.passes(inputs, random);
            if log.filter.as_ref().is_none_or(passes) {
                match (&log.output, buffer) {
                    (Output::Lines(format, _), LocalBuffer::Lines(buffer)) => {
                        buffer.append(|out| format.write(inputs, out));
                    }
                    (Output::Remote(remote), LocalBuffer::Remote(buffer)) => {
                        buffer.append(|out| remote.encode(inputs, out));
                    }
                    // Each buffer was made for its log.
                    (Output::Lines(..), LocalBuffer::Remote(_))
                    | (Output::Remote(_), LocalBuffer::Lines(_)) => {}
                }
            }
        }
    }
}
