//! What a stream's task and the session do to each other.

use std::cell::Cell;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::{Incoming, Session, Slot, Stream, Until};
use crate::http::{EndStream, HeadLimits, Method, RequestHead, TrailerRules, Underscores};
use crate::http2::{Connection, Event, Options};
use crate::pipe::outlet::{Framing, Outlet};
use crate::shard::by_hand::ByHand;
use crate::shard::ring::{self, Ring};
use crate::shard::socket::Socket;
use crate::stats::Http2Stats;
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

/// `pending_send_bytes`, `outbound_frames_active`, `outbound_control_frames_active`, `deferred_stream_close`
fn shown(stats: &Http2Stats) -> [u64; 4] {
    [
        stats.pending_send_bytes.value(),
        stats.outbound_frames_active.value(),
        stats.outbound_control_frames_active.value(),
        stats.deferred_stream_close.value(),
    ]
}

#[test]
fn what_waits_on_a_connection_is_shown_until_it_has_gone() {
    /// Windows of 65,535 bytes, until SETTINGS and WINDOW_UPDATE say otherwise.
    const WINDOW: usize = 65_535;
    let by_hand = ByHand::new(Ring::Epoll);
    let (session, _host) = session(&by_hand);
    let stats = Http2Stats::default();
    let show = || {
        session.show_waiting(&stats);
        shown(&stats)
    };
    let request = RequestHead::default();
    let (post, get) = (open(&session), open(&session));
    session.codec(|codec| codec.send_request(post.id(), &request, EndStream::No));
    session.codec(|codec| codec.send_request(get.id(), &request, EndStream::Yes));
    // The beginning has two frames, each request one, and the window is enough for four of DATA.
    let buffers = by_hand.shard.buffers;
    let mut body = Outlet::whole(vec![0; WINDOW + 90], Framing::Frames, buffers);
    assert_eq!(post.push(&mut body), Ok(WINDOW));
    assert_eq!(show(), [90, 2 + 2 + 4, 0, 0]);
    session.flush().unwrap();
    assert_eq!(show(), [90, 0, 0, 0]);
    // SETTINGS, a PING, a response and its body, of which nothing is read.
    let received = b"\0\0\0\x04\0\0\0\0\0\
        \0\0\x08\x06\0\0\0\0\0pingpong\
        \0\0\x01\x01\x04\0\0\0\x03\x88\
        \0\0\x02\0\x01\0\0\0\x03ok";
    let mut incoming = Incoming::new(received.to_vec());
    while let Some(event) = session.next_event(&mut incoming).unwrap() {
        if let Event::Head(block) = event {
            let limits = HeadLimits::default();
            session.take_response(&block, &mut incoming, Box::default(), &limits).unwrap();
        }
    }
    assert_eq!(show(), [90, 2, 2, 1], "with an acknowledgement and the answer to the PING");
    drop(get);
    assert_eq!(show(), [90, 2, 2, 0]);
    drop(post);
    assert_eq!(show(), [0, 3, 3, 0], "it was reset");
    session.show_ended(&stats);
    assert_eq!(shown(&stats), [0; 4]);
}

#[test]
fn a_connection_that_is_about_to_close_is_woken_when_what_it_has_posted_is_sent() {
    if ring::build(Ring::DeferTaskrun).is_err() {
        return; // without a ring nothing is posted
    }
    let by_hand = ByHand::new(Ring::DeferTaskrun);
    let (session, _host) = session(&by_hand);
    session.flush().unwrap();
    assert!(session.has_unsent(), "its first frames are posted");
    let (closing, alarm) = (Rc::clone(&session), by_hand.shard.timers.alarm());
    by_hand.shard.spawn(async move {
        closing.wait(&mut Incoming::default(), &alarm, Until::AllSent).await;
    });
    let task = by_hand.tasks()[0];
    by_hand.resume(task);
    assert!(by_hand.woken().is_empty());
    by_hand.take_events();
    assert!(!session.has_unsent());
    assert_eq!(by_hand.woken(), [task]);
    by_hand.resume(task);
    assert!(by_hand.tasks().is_empty(), "it waits no longer");
}
