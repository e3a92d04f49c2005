//! The task of an HTTP/2 connection: it receives, hands on what has arrived, sends and watches the clock.

use std::rc::Rc;

use super::connection::Connection;
use crate::http2::{Cause, ConnectionError, ErrorCode, Event, StreamId};
use crate::session::pings::Unanswered;
use crate::session::{Broken, Incoming, Until, counts};
use crate::shard::clock::Millis;
use crate::shard::socket::Received;
use crate::shard::timers::Alarm;
use crate::upstream::connection::ClosedBy;

/// Serves a connection until it ends.
pub(super) async fn serve(connection: Rc<Connection>) {
    let alarm = connection.pool.shard().timers.alarm();
    let incoming = Incoming::default();
    let mut task = Task { connection, incoming, alarm, closed_by: ClosedBy::Us };
    task.closed_by = task.run().await;
}

/// A connection in service. However its task ends, the connection is counted as ended.
struct Task {
    connection: Rc<Connection>,
    incoming: Incoming,
    alarm: Alarm,
    closed_by: ClosedBy,
}

/// A connection has been idle for too long, or does not answer.
struct Expired;

impl Task {
    async fn run(&mut self) -> ClosedBy {
        let connection = Rc::clone(&self.connection);
        let (session, pool) = (&connection.session, &connection.pool);
        loop {
            let taken = self.take_events();
            session.count(connection.stats());
            if let Err(error) = taken {
                return self.violated(&error);
            }
            if let Err(Expired) = self.check_timers(pool.now()) {
                return ClosedBy::Us;
            }
            match session.flush() {
                Ok(sent) => pool.count_sent(sent),
                Err(_) => return ClosedBy::Host,
            }
            let until = match connection.is_draining() && connection.is_idle() {
                true if !session.has_unsent() => return ClosedBy::Us,
                true => Until::AllSent,
                false => Until::Work,
            };
            self.arm(pool.now());
            session.show_waiting(connection.stats());
            session.wait(&mut self.incoming, &self.alarm, until).await;
            match session.receive(&mut self.incoming) {
                Ok(Received::Bytes(bytes)) => {
                    pool.count_received(bytes);
                    connection.pings.heard(pool.now());
                }
                Ok(Received::Nothing) => {}
                Ok(Received::End) | Err(_) => return ClosedBy::Host,
            }
        }
    }

    /// Handles everything that was received.
    fn take_events(&mut self) -> Result<(), ConnectionError> {
        let Self { connection, incoming, .. } = self;
        let limits = &connection.pool.cluster().http.http2_head_limits;
        while let Some(event) = connection.session.next_event(incoming)? {
            match event {
                Event::Head(block) => {
                    let head = connection.take_head();
                    let unused =
                        connection.session.take_response(&block, incoming, head, limits)?;
                    unused.into_iter().for_each(|head| connection.give_head(head));
                }
                Event::GoAway { last, .. } => go_away(connection, last),
                Event::PingAck(_) => connection.pings.answered(connection.pool.now()),
                // The host may allow more streams now.
                Event::PeerSettings => connection.pool.wake_waiting(connection.room()),
                Event::Data { .. }
                | Event::Trailers(_)
                | Event::Reset { .. }
                | Event::WindowOpened { .. } => {
                    debug_assert!(false, "the session handles {event:?}");
                }
            }
        }
        Ok(())
    }

    fn check_timers(&self, now: Millis) -> Result<(), Expired> {
        let connection = &*self.connection;
        let stats = connection.pool.stats();
        if let Err(Unanswered) = connection.pings.step(now, &connection.session) {
            connection.stats().keepalive_timeout.inc();
            return Err(Expired);
        }
        if self.idle_at().is_some_and(|at| at <= now) {
            stats.upstream_cx_idle_timeout.inc();
            return Err(Expired);
        }
        if !connection.is_draining() && self.expires_at() <= now {
            stats.upstream_cx_max_duration_reached.inc();
            connection.drain();
        }
        Ok(())
    }

    fn arm(&self, now: Millis) {
        let age = Some(self.expires_at()).filter(|_| !self.connection.is_draining());
        let due = [self.connection.pings.due(), self.idle_at(), age];
        let next = due.into_iter().flatten().min().filter(|at| *at < Millis::MAX);
        self.alarm.set(next, now);
    }

    fn idle_at(&self) -> Option<Millis> {
        let since = self.connection.idle_since()?;
        Some(since.saturating_add(self.connection.pool.idle_ms_max()))
    }

    fn expires_at(&self) -> Millis {
        self.connection.opened.saturating_add(self.connection.pool.age_ms_max())
    }

    /// Ends the connection with GOAWAY. All its requests end with a protocol error.
    fn violated(&self, error: &ConnectionError) -> ClosedBy {
        let Self { connection, .. } = self;
        tracing::debug!(target: "http2", "{}: {error}", connection.pool.host().address);
        connection.pool.stats().upstream_cx_protocol_error.inc();
        if let Cause::Flood(flood) = error.cause {
            counts::flood(connection.stats(), flood);
        }
        connection.session.fail_all(Broken::Reset(ErrorCode::ProtocolError));
        connection.session.codec(|codec| codec.fail(error));
        // What does not fit now is lost: nobody waits for a host that violates the protocol.
        drop(connection.session.flush());
        connection.session.count(connection.stats());
        ClosedBy::Us
    }
}

/// The host takes no more requests, and has not seen those above `last`.
fn go_away(connection: &Connection, last: StreamId) {
    connection.pool.stats().upstream_cx_close_notify.inc();
    connection.drain();
    let unseen: Vec<StreamId> =
        connection.session.codec(|codec| codec.ids().filter(|id| *id > last).collect());
    for id in unseen {
        connection.session.fail(id, Broken::NotProcessed);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.connection.ended(self.closed_by);
    }
}
