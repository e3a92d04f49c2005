//! The thread that writes the access logs.
//!
//! It may wait for a disk; nothing waits for it but the end of the process. A pipe without room does not
//! stop it: the lines for it are kept until there is room, up to `limits::LOG_QUEUE_BYTES_MAX`.
//!
//! Invariant: of a line everything is written or nothing, as long as its file takes bytes again before
//! the process ends.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::access_log::Lines;
use crate::access_log::files::Work;
use crate::access_log::sink::{Destination, LogFile, Order};

/// How long the writer waits for room in a pipe before it looks for other work.
const PIPE_WAIT: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How long the end of the process waits for room in a pipe.
pub(super) const FINISH_WAIT: Duration = Duration::from_secs(1);

/// The most bytes that a pipe takes without blocking when it is ready: `PIPE_BUF`.
const PIPE_BYTES: usize = 4096;

/// Starts the thread.
pub(super) fn start(work: Work) -> io::Result<Sender<Order>> {
    let Work { files, writer, orders } = work;
    let outputs = files.into_iter().map(Output::new).collect();
    let thread = thread::Builder::new().name("access_log".to_owned());
    thread.spawn(move || Writer { outputs, finishing: None }.run(&orders))?;
    Ok(writer)
}

struct Writer {
    /// By the numbers of their sinks.
    outputs: Vec<Output>,
    finishing: Option<Finishing>,
}

/// The process ends.
struct Finishing {
    done: Sender<()>,
    until: Instant,
}

impl Writer {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            if self.outputs.iter().any(Output::waits_for_room) {
                self.wait_for_room();
            } else if let Some(Finishing { done, .. }) = self.finishing.take() {
                // Whoever waited may have given up.
                let _sent = done.send(());
                return;
            } else if let Ok(order) = orders.recv() {
                self.carry_out(order);
            }
            while let Ok(order) = orders.try_recv() {
                self.carry_out(order);
            }
            self.outputs.iter_mut().for_each(Output::write);
            if self.finishing.as_ref().is_some_and(|it| it.until < Instant::now()) {
                self.outputs.iter_mut().for_each(Output::drop_all);
            }
        }
    }

    fn carry_out(&mut self, order: Order) {
        match order {
            Order::Write(index, lines) => {
                if let Some(output) = self.outputs.get_mut(index) {
                    output.queue.push_back(lines);
                    output.write();
                }
            }
            Order::WriteUncounted(index, lines) => {
                if let Some(output) = self.outputs.get_mut(index) {
                    output.log.sink.count(&lines);
                    output.queue.push_back(lines);
                    output.write();
                }
            }
            Order::Add(log) => self.outputs.push(Output::new(log)),
            Order::Reopen => self.outputs.iter_mut().for_each(Output::reopen),
            Order::Tick => self.outputs.iter_mut().for_each(Output::tick),
            Order::Finish(done) => {
                self.finishing = Some(Finishing { done, until: Instant::now() + FINISH_WAIT });
            }
        }
    }

    /// Waits until a pipe has room, but not for long.
    fn wait_for_room(&self) {
        let waiting = self.outputs.iter().filter(|output| output.waits_for_room());
        let mut files: Vec<PollFd<'_>> =
            waiting.map(|output| PollFd::new(&output.log.file, PollFlags::OUT)).collect();
        let _ready = poll(&mut files, Some(&PIPE_WAIT));
    }
}

/// One file.
struct Output {
    log: LogFile,
    kind: Kind,
    queue: VecDeque<Lines>,
    /// How much of the first lines in the queue is written.
    written: usize,
    condition: Condition,
    reopening: Reopening,
}

/// What a file is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// It always takes bytes, unless the disk is full.
    Regular,
    /// A pipe, a socket or a terminal: it may have no room.
    Stream,
}

/// Whether writing works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Condition {
    Good,
    /// It fails, and so many lines were dropped since.
    Failing(usize),
}

/// Whether the file is to be opened again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reopening {
    No,
    /// It could not be opened; it is tried again.
    Failed,
}

/// Why writing stopped.
enum Stopped {
    /// There is no room now.
    NoRoom,
    Failed(io::Error),
}

impl Output {
    fn new(log: LogFile) -> Self {
        Self {
            kind: Kind::of(&log.file),
            log,
            queue: VecDeque::new(),
            written: 0,
            condition: Condition::Good,
            reopening: Reopening::No,
        }
    }

    /// Whether it has lines that are written when there is room.
    fn waits_for_room(&self) -> bool {
        self.kind == Kind::Stream && !self.queue.is_empty() && self.condition == Condition::Good
    }

    /// Writes the lines in the queue.
    fn write(&mut self) {
        while let Some(lines) = self.queue.front() {
            let bytes = lines.bytes().len();
            match write_lines(&mut self.log.file, self.kind, lines, &mut self.written) {
                Ok(()) => {
                    self.written = 0;
                    self.queue.pop_front();
                    self.log.sink.written(bytes);
                    self.log.sink.stats().write_completed.inc();
                    self.works();
                }
                Err(Stopped::NoRoom) => return,
                Err(Stopped::Failed(error)) => return self.fails(&error),
            }
        }
    }

    fn works(&mut self) {
        if let Condition::Failing(dropped) = self.condition {
            self.condition = Condition::Good;
            tracing::info!(target: "main", "access log {}: writing works again; {dropped} lines were dropped", self.name());
        }
    }

    /// Drops the lines in the queue, except one of which a part is written: its rest is written first
    /// when the file takes bytes again.
    fn fails(&mut self, error: &io::Error) {
        self.log.sink.stats().write_failed.inc();
        if self.condition == Condition::Good {
            tracing::error!(target: "main", "access log {}: lines are dropped: {error}", self.name());
            self.condition = Condition::Failing(0);
        }
        let mut dropped = 0;
        if let Some(lines) = self.queue.front_mut() {
            let bytes = lines.bytes().len();
            let removed = lines.keep_begun(self.written);
            self.log.sink.dropped(removed, bytes - lines.bytes().len());
            dropped += removed;
            if lines.bytes().len() == self.written {
                self.log.sink.written(self.written);
                self.written = 0;
                self.queue.pop_front();
            }
        }
        let kept = usize::from(self.written > 0);
        for lines in self.queue.drain(kept..) {
            self.log.sink.dropped(lines.count(), lines.bytes().len());
            dropped += lines.count();
        }
        if let Condition::Failing(so_far) = &mut self.condition {
            *so_far += dropped;
        }
    }

    /// Drops everything: the process ends.
    fn drop_all(&mut self) {
        self.written = 0;
        for lines in self.queue.drain(..) {
            self.log.sink.dropped(lines.count(), lines.bytes().len());
        }
    }

    fn tick(&mut self) {
        self.log.sink.stats().flushed_by_timer.inc();
        self.log.sink.count_refused();
        if self.reopening == Reopening::Failed {
            self.reopen();
        }
    }

    /// Opens the file by its name again, after it was moved away. What was handed over before goes to
    /// the old file.
    fn reopen(&mut self) {
        let Destination::File(_) = self.log.destination else { return };
        self.write();
        match self.log.destination.open() {
            Ok(file) => {
                self.drop_begun();
                self.kind = Kind::of(&file);
                self.log.file = file;
                self.reopening = Reopening::No;
            }
            Err(error) => {
                self.log.sink.stats().reopen_failed.inc();
                if self.reopening == Reopening::No {
                    tracing::warn!(target: "main", "access log {} cannot be reopened: {error}; the old file is kept", self.name());
                }
                self.reopening = Reopening::Failed;
            }
        }
    }

    /// Gives up the line of which a part is written: its rest would be a line of its own in the new file.
    fn drop_begun(&mut self) {
        let Some(lines) = self.queue.front() else { return };
        let (end, bytes) = (lines.end_of_begun(self.written), lines.bytes().len());
        if end == self.written {
            return;
        }
        // Its bytes are counted as written together with those of the other lines.
        self.log.sink.dropped(1, 0);
        self.written = end;
        if end == bytes {
            self.log.sink.written(bytes);
            self.written = 0;
            self.queue.pop_front();
        }
    }

    fn name(&self) -> String {
        match &self.log.destination {
            Destination::File(path) => path.display().to_string(),
            Destination::Stdout => "standard output".to_owned(),
            Destination::Stderr => "standard error".to_owned(),
        }
    }
}

impl Kind {
    fn of(file: &File) -> Self {
        let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        if is_regular { Self::Regular } else { Self::Stream }
    }
}

/// Writes what is left of `lines`; `written` says how much is.
fn write_lines(
    file: &mut File,
    kind: Kind,
    lines: &Lines,
    written: &mut usize,
) -> Result<(), Stopped> {
    while *written < lines.bytes().len() {
        let end = match kind {
            Kind::Regular => lines.bytes().len(),
            // Whole lines, so that those of other programs on the same pipe stand between them.
            Kind::Stream => lines.end_within(*written, PIPE_BYTES).min(*written + PIPE_BYTES),
        };
        if kind == Kind::Stream && !has_room(file) {
            return Err(Stopped::NoRoom);
        }
        match file.write(lines.bytes().get(*written..end).unwrap_or_default()) {
            Ok(0) => return Err(Stopped::Failed(ErrorKind::WriteZero.into())),
            Ok(bytes) => *written += bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(Stopped::NoRoom),
            Err(error) => return Err(Stopped::Failed(error)),
        }
    }
    Ok(())
}

/// Whether a stream takes bytes, or reports an error, without blocking.
fn has_room(file: &File) -> bool {
    let mut files = [PollFd::from_borrowed_fd(file.as_fd(), PollFlags::OUT)];
    poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::access_log::files::Files;
    use crate::stats::Registry;

    /// A log that goes to a reader that has stopped, after so many bytes of its lines.
    fn stalled(path: &std::path::Path, written: usize) -> (Output, UnixStream) {
        let files = Files::default();
        files.open(Destination::File(path.to_owned()), &Registry::new(1)).unwrap();
        let mut log = files.begin().unwrap().files.remove(0);
        let (mut end, reader) = UnixStream::pair().unwrap();
        end.set_nonblocking(true).unwrap();
        while end.write(&[b'x'; 4096]).is_ok() {}
        log.file = File::from(OwnedFd::from(end));
        let mut output = Output::new(log);
        let mut lines = Lines::default();
        for line in ["one\n", "two\n", "three\n"] {
            lines.append(|out| out.extend_from_slice(line.as_bytes()));
        }
        output.queue.push_back(lines);
        output.written = written;
        (output, reader)
    }

    #[test]
    fn a_reopened_file_gets_every_line_but_the_one_that_was_begun() {
        for (written, rest) in [
            (0, "one\ntwo\nthree\n"),
            (1, "two\nthree\n"),
            (4, "two\nthree\n"),
            (5, "three\n"),
            (9, ""),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("log");
            let (mut output, _reader) = stalled(&path, written);
            output.reopen();
            output.write();
            assert_eq!(fs::read_to_string(&path).unwrap(), rest, "{written}");
            assert!(output.queue.is_empty());
        }
    }
}
