//! The state that the clients of a run share: the pace, the record, and the queue of idle clients.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IsTerminal, Write};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};

use crate::load::Options;
use crate::load::client::{Job, Wire};
use crate::load::pace::{Pace, Turn};
use crate::load::record::{Failure, Record, Summary};

pub(crate) struct Shared {
    job: Rc<Job>,
    pace: RefCell<Pace>,
    pub(crate) record: RefCell<Record>,
    /// Clients with nothing to send, the longest waiting first, so that all take part equally.
    waiting: RefCell<VecDeque<Waker>>,
    /// The due times of the requests that clients wait for.
    in_flight: RefCell<Vec<Option<u64>>>,
    began: Instant,
    ended_ns: Cell<Option<u64>>,
    close: bool,
    tick: Duration,
    /// None without a terminal.
    bar: Option<Bar>,
}

/// The length of a run, for the progress bar.
#[derive(Clone, Copy, Debug)]
struct Bar {
    seconds: u64,
}

impl Shared {
    pub(crate) fn new(job: Rc<Job>, pace: Pace, record: Record, options: &Options) -> Rc<Self> {
        Rc::new(Self {
            job,
            pace: RefCell::new(pace),
            record: RefCell::new(record),
            waiting: RefCell::new(VecDeque::with_capacity(options.connections)),
            in_flight: RefCell::new(vec![None; options.connections]),
            began: Instant::now(),
            ended_ns: Cell::new(None),
            close: options.close,
            tick: Duration::from_micros(options.tick_us.into()),
            bar: (!options.quiet && io::stderr().is_terminal())
                .then_some(Bar { seconds: options.seconds }),
        })
    }

    pub(crate) fn summary(&self) -> Summary {
        self.record.borrow().summary(self.ended_ns.get().unwrap_or_else(|| self.now_ns()))
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The due time of the next request, once there is one to send; None at the end of the run.
    async fn turn(&self) -> Option<u64> {
        poll_fn(|task| match self.pace.borrow_mut().next(self.now_ns()) {
            Turn::Send { due_ns } => Poll::Ready(Some(due_ns)),
            Turn::Finished => Poll::Ready(None),
            Turn::Wait => {
                self.waiting.borrow_mut().push_back(task.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    async fn client(self: Rc<Self>, index: usize, mut wire: Option<Wire>) -> Option<Wire> {
        while let Some(due_ns) = self.turn().await {
            self.mark(index, Some(due_ns));
            wire = self.exchange(wire, due_ns).await;
            self.mark(index, None);
        }
        wire
    }

    async fn exchange(&self, wire: Option<Wire>, due_ns: u64) -> Option<Wire> {
        let sent_ns = self.now_ns();
        let connected = match wire {
            Some(wire) => Ok(wire),
            None => {
                self.record.borrow_mut().reconnects += u64::from(!self.close);
                self.connect().await
            }
        };
        let mut wire = match connected {
            Ok(wire) => wire,
            Err(failure) => {
                self.record.borrow_mut().failed(failure);
                monoio::time::sleep(RECONNECT_PAUSE).await;
                return None;
            }
        };
        let result = self.job.ask(&mut wire).await;
        let mut record = self.record.borrow_mut();
        match result {
            Ok(outcome) => {
                record.answered(due_ns, sent_ns, self.now_ns());
                record.body_bytes += outcome.body_bytes;
                (outcome.keep_alive && !self.close).then_some(wire)
            }
            Err(failure) => {
                record.failed(failure);
                None
            }
        }
    }

    /// Once the clients have warmed up, a client that can resume sessions has one for each connection.
    async fn connect(&self) -> Result<Wire, Failure> {
        let wire = self.job.connect().await?;
        let resumes = self.job.tls.as_ref().is_some_and(|client| client.resumes);
        if wire.is_resumed() == resumes { Ok(wire) } else { Err(Failure::Tls) }
    }

    fn mark(&self, index: usize, due_ns: Option<u64>) {
        if let Some(entry) = self.in_flight.borrow_mut().get_mut(index) {
            *entry = due_ns;
        }
    }

    /// Wakes a waiting client for each due request, or all of them at the end of the run.
    fn release(&self) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let pace = self.pace.borrow();
        let over = matches!(&*pace, Pace::Open { issued, total, .. } if issued == total);
        let due = usize::try_from(pace.overdue(self.now_ns())).unwrap_or(usize::MAX);
        let count = if over { waiting.len() } else { due.min(waiting.len()) };
        waiting.drain(..count).for_each(Waker::wake);
        !over
    }

    /// Ends the run; requests without an answer count as unanswered.
    fn end(&self) {
        let now = self.now_ns();
        self.ended_ns.set(Some(now));
        let mut record = self.record.borrow_mut();
        for due_ns in self.in_flight.borrow().iter().flatten() {
            record.unanswered(*due_ns, now);
        }
        let mut pace = self.pace.borrow_mut();
        while let (Pace::Open { .. }, Turn::Send { due_ns }) = (*pace, pace.next(now)) {
            record.unsent(due_ns, now);
        }
    }
}

/// Connects every client and lets it send a few requests.
pub(crate) async fn warm_up(job: &Rc<Job>, options: &Options) -> anyhow::Result<Vec<Option<Wire>>> {
    let next = Rc::new(Cell::new(0));
    let (total, warm, close) = (options.connections, options.warm, options.close);
    let tasks: Vec<_> = (0..CONNECTING_MAX.min(total))
        .map(|_| {
            let (job, next) = (Rc::clone(job), Rc::clone(&next));
            monoio::spawn(async move {
                let mut wires = Vec::new();
                while next.get() < total {
                    next.set(next.get() + 1);
                    wires.push(warm_client(&job, warm, close).await?);
                }
                Ok::<_, anyhow::Error>(wires)
            })
        })
        .collect();
    let mut wires = Vec::with_capacity(total);
    for task in tasks {
        wires.extend(task.await?);
    }
    Ok(wires)
}

async fn warm_client(job: &Job, warm: u64, close: bool) -> anyhow::Result<Option<Wire>> {
    let mut wire = None;
    for _ in 0..warm {
        let mut open = match wire.take() {
            Some(open) => open,
            None => job.connect().await.map_err(warm_up_failed)?,
        };
        let outcome = job.ask(&mut open).await.map_err(warm_up_failed)?;
        wire = (outcome.keep_alive && !close).then_some(open);
    }
    Ok(wire)
}

fn warm_up_failed(failure: Failure) -> anyhow::Error {
    anyhow::anyhow!("the target failed before the run began: {failure:?}")
}

/// Runs until every request is answered or abandoned; returns the connections, still open.
pub(crate) async fn drive(shared: &Rc<Shared>, wires: Vec<Option<Wire>>) -> Vec<Option<Wire>> {
    let clients: Vec<_> = wires
        .into_iter()
        .enumerate()
        .map(|(index, wire)| monoio::spawn(Rc::clone(shared).client(index, wire)))
        .collect();
    if let Pace::Open { rate, issued: _, total } = *shared.pace.borrow() {
        let length = Duration::from_secs(total / rate.max(1));
        drop(monoio::spawn(tick(Rc::clone(shared), length + ANSWER_PATIENCE)));
    }
    drop(monoio::spawn(progress(Rc::clone(shared))));
    let all = async {
        let mut wires = Vec::with_capacity(clients.len());
        for client in clients {
            wires.push(client.await);
        }
        wires
    };
    let limit = match *shared.pace.borrow() {
        Pace::Open { rate, total, .. } => Duration::from_secs(total / rate.max(1)),
        Pace::Closed { end_ns, .. } => Duration::from_nanos(end_ns),
    };
    let wires = monoio::time::timeout(limit + ANSWER_PATIENCE, all).await.unwrap_or_default();
    shared.end();
    wires
}

/// Checks the pace at each tick, with a kernel timer, because monoio's own timers have
/// milliseconds.
async fn tick(shared: Rc<Shared>, limit: Duration) {
    let Ok(timer) = timer(shared.tick) else { return };
    let mut buffer = vec![0; 8];
    while shared.release() && shared.began.elapsed() < limit {
        let (result, returned) = timer.read_at(buffer, 0).await;
        if result.is_err() {
            return;
        }
        buffer = returned;
    }
    shared.release();
}

fn timer(tick: Duration) -> io::Result<monoio::fs::File> {
    let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let every = Timespec { tv_sec: 0, tv_nsec: tick.subsec_nanos().into() };
    let order = Itimerspec { it_interval: every, it_value: every };
    rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &order)?;
    monoio::fs::File::from_std(File::from(timer))
}

async fn progress(shared: Rc<Shared>) {
    let Some(bar) = shared.bar else { return };
    let mut before = 0;
    while shared.ended_ns.get().is_none() {
        monoio::time::sleep(Duration::from_secs(1)).await;
        let record = shared.record.borrow();
        let (answered, failed) = (record.service.len(), record.failures.total());
        let p99 = record.latency.value_at_quantile(0.99) / 1000;
        let seconds = shared.began.elapsed().as_secs();
        let rate = answered - before;
        let bar = bar.at(seconds);
        write!(io::stderr(), "\r{bar} {rate:9}/s  p99 {p99:7} µs  {failed} failed ").ok();
        before = answered;
    }
    writeln!(io::stderr()).ok();
}

impl Bar {
    fn at(self, seconds: u64) -> String {
        let Self { seconds: total } = self;
        let done = BAR_WIDTH * seconds.min(total) / total.max(1);
        let width = |count: u64| usize::try_from(count).unwrap_or_default();
        let (done, left) = ("#".repeat(width(done)), "·".repeat(width(BAR_WIDTH - done)));
        format!("[{done}{left}] {seconds}/{total} s")
    }
}

const BAR_WIDTH: u64 = 30;
/// The number of connections opened at once: below every backlog.
const CONNECTING_MAX: usize = 64;
const RECONNECT_PAUSE: Duration = Duration::from_millis(5);
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_empty_half_and_full() {
        let bar = Bar { seconds: 10 };
        assert_eq!(bar.at(0), format!("[{}] 0/10 s", "·".repeat(30)));
        assert_eq!(bar.at(5), format!("[{}{}] 5/10 s", "#".repeat(15), "·".repeat(15)));
        assert_eq!(bar.at(12), format!("[{}] 12/10 s", "#".repeat(30)));
    }
}
