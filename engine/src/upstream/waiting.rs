//! The requests that wait for a connection of a pool.
//!
//! Invariant: what was handed to a request that gives up is handed on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::connection::Connection;
use super::error::Error;
use super::pool::Pool;

/// The queue of a pool.
#[derive(Debug, Default)]
pub(super) struct Waiting(RefCell<VecDeque<Rc<Waiter>>>);

/// A request that waits for a connection.
#[derive(Debug, Default)]
struct Waiter {
    connection: RefCell<Option<Connection>>,
    /// Another connection has ended: a new one may be allowed.
    capacity: Cell<bool>,
    /// There will be no connection.
    failed: Cell<Option<Error>>,
    waker: RefCell<Option<Waker>>,
}

/// How waiting for a connection ended.
#[derive(Debug)]
pub(super) enum WaitOutcome {
    Connection(Connection),
    /// A new connection may be allowed.
    Capacity,
    Failed(Error),
}

impl Waiter {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Waiting {
    /// Hands a connection to the first; returns it if nobody waits, else whether others still wait.
    pub(super) fn offer(&self, connection: Connection) -> Result<bool, Connection> {
        let mut waiting = self.0.borrow_mut();
        let Some(waiter) = waiting.pop_front() else { return Err(connection) };
        let others = !waiting.is_empty();
        drop(waiting);
        *waiter.connection.borrow_mut() = Some(connection);
        waiter.wake();
        Ok(others)
    }
}

impl Pool {
    /// How many requests wait.
    pub(super) fn waiting_requests(&self) -> usize {
        self.waiting.0.borrow().len()
    }

    /// Whether any request waits.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting_requests() > 0
    }

    /// Wakes the first `most` requests in the queue: there may be room for them, or a new connection may
    /// be allowed.
    pub(super) fn wake_waiting(&self, most: usize) {
        for _ in 0..most {
            let first = self.waiting.0.borrow_mut().pop_front();
            let Some(waiter) = first else { return };
            waiter.capacity.set(true);
            waiter.wake();
        }
    }

    /// Envoy: when the host cannot be reached, all waiting requests fail, without further attempts.
    pub(super) fn eject(&self, error: Error) {
        let waiting = std::mem::take(&mut *self.waiting.0.borrow_mut());
        for waiter in waiting {
            self.stats().upstream_rq_pending_failure_eject.inc();
            waiter.failed.set(Some(error));
            waiter.wake();
        }
    }

    /// Waits until another request releases a connection, or a new one may be allowed.
    pub(super) async fn wait(&self) -> WaitOutcome {
        let entry = QueueEntry { pool: self, waiter: Rc::default() };
        self.waiting.0.borrow_mut().push_back(Rc::clone(&entry.waiter));
        poll_fn(|cx| {
            let waiter = &entry.waiter;
            if let Some(connection) = waiter.connection.borrow_mut().take() {
                return Poll::Ready(WaitOutcome::Connection(connection));
            }
            if let Some(error) = waiter.failed.get() {
                return Poll::Ready(WaitOutcome::Failed(error));
            }
            if waiter.capacity.take() {
                return Poll::Ready(WaitOutcome::Capacity);
            }
            *waiter.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// An entry of the queue. Dropping it early passes on what it has received in the meantime.
struct QueueEntry<'a> {
    pool: &'a Pool,
    waiter: Rc<Waiter>,
}

impl Drop for QueueEntry<'_> {
    fn drop(&mut self) {
        self.pool.waiting.0.borrow_mut().retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        if let Some(connection) = self.waiter.connection.borrow_mut().take() {
            let pool = Rc::clone(connection.pool());
            let now = pool.now();
            pool.release(connection, now);
        } else if self.waiter.capacity.get() {
            self.pool.wake_waiting(1);
        }
    }
}
