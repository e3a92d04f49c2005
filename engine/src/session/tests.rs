//! What a stream's task and the session do to each other.

use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::{Session, Slot, Stream};
use crate::http::{EndStream, Method, RequestHead, TrailerRules, Underscores};
use crate::http2::{Connection, Options};
use crate::shard::by_hand::ByHand;
use crate::shard::ring::Ring;
use crate::shard::socket::Socket;
use crate::transport::Transport;

/// The client's side of a connection whose host says nothing.
fn session(by_hand: &ByHand) -> (Rc<Session>, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let transport = Transport::Plain(Socket::new(ours.into()).unwrap());
    let codec = Connection::client(&Options::default());
    let trailers = TrailerRules {
        bytes_max: 1000,
        fields_max: 10,
        underscores: Underscores::Allow,
        kept: true,
    };
    (Session::new(by_hand.shard, transport, codec, trailers), theirs)
}

fn open(session: &Rc<Session>) -> Stream {
    let id = session.codec(|codec| codec.open(Slot::request(Method::Get))).unwrap();
    Stream::new(session, id)
}

thread_local! {
    /// What a task owns that only its waker keeps alive.
    static OWNED_BY_TASK: Cell<Option<Stream>> = const { Cell::new(None) };
}

/// The waker of such a task: with it the task is dropped.
struct LastOfTask;

impl Wake for LastOfTask {
    fn wake(self: Arc<Self>) {}
}

impl Drop for LastOfTask {
    fn drop(&mut self) {
        drop(OWNED_BY_TASK.take());
    }
}

#[test]
fn a_waker_that_is_replaced_may_take_a_task_and_its_stream_along() {
    let by_hand = ByHand::new(Ring::Epoll);
    let (session, _host) = session(&by_hand);
    for wait in [Stream::poll_in, Stream::poll_out, Stream::poll_gone] {
        let (stream, of_task) = (open(&session), open(&session));
        // Nothing can be sent on a stream without a window, so that it waits in every way.
        session
            .codec(|codec| codec.send_request(stream.id(), &RequestHead::default(), EndStream::No));
        let window = session.codec(|codec| codec.capacity(stream.id()));
        session.codec(|codec| codec.send_data(stream.id(), &vec![0; window], EndStream::No));
        OWNED_BY_TASK.set(Some(of_task));
        let waker = Waker::from(Arc::new(LastOfTask));
        assert_eq!(wait(&stream, &Context::from_waker(&waker)), Poll::Pending);
        drop(waker);
        assert_eq!(session.streams(), 2);
        assert_eq!(wait(&stream, &Context::from_waker(Waker::noop())), Poll::Pending);
        assert_eq!(session.streams(), 1);
    }
}
