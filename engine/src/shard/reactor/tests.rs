use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::shard::socket::{Received, Socket};
use crate::shard::splice::{Pipe, Pipes};

/// Runs a story as the only task of a shard, on each interface that this kernel offers.
fn on_a_shard<F>(story: impl Fn(&'static Reactor) -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let story = std::sync::Arc::new(story);
    for ring in [Ring::DeferTaskrun, Ring::CoopTaskrun, Ring::Plain, Ring::Epoll] {
        if ring != Ring::Epoll && super::super::ring::build(ring).is_err() {
            eprintln!("SKIPPED: {ring} is not available here");
            continue;
        }
        let story = std::sync::Arc::clone(&story);
        let (end, ended) = channel();
        // The shard never ends; its thread ends with the process.
        std::thread::spawn(move || {
            super::super::ring::block_on(ring, async move {
                let reactor = Reactor::start(ring, Box::leak(Box::default())).unwrap();
                let mut story = Box::pin(story(reactor));
                monoio::spawn(poll_fn(move |cx| {
                    reactor.task_resumed();
                    story.as_mut().poll(cx).map(|()| end.send(()).unwrap())
                }));
                monoio::spawn(reactor.run());
                monoio::spawn(reactor.run());
                std::future::pending::<()>().await
            })
        });
        let outcome = ended.recv_timeout(Duration::from_secs(20));
        assert!(outcome.is_ok(), "{ring}: the story does not end: {outcome:?}");
    }
}

fn pair() -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (Socket::new(ours.into()).unwrap(), theirs)
}

async fn readable(socket: &Socket) {
    poll_fn(|cx| socket.poll_readable(cx)).await;
}

async fn writable(socket: &Socket) {
    poll_fn(|cx| socket.poll_writable(cx)).await;
}

#[test]
fn bytes_that_arrived_before_the_wait_end_it_and_received_bytes_do_not() {
    on_a_shard(|_| async {
        let (ours, mut theirs) = pair();
        let mut buffer = Vec::with_capacity(100);
        for message in [&b"one"[..], b"two", b"three"] {
            theirs.write_all(message).unwrap();
            readable(&ours).await;
            buffer.clear();
            assert_eq!(ours.receive(&mut buffer).unwrap(), Received::Bytes(message.len()));
            assert_eq!(ours.receive(&mut buffer).unwrap(), Received::Nothing);
            assert_eq!(buffer, message);
            assert!(ours.is_quiet());
        }
    });
}

#[test]
fn the_end_after_the_last_bytes_is_not_lost() {
    on_a_shard(|_| async {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"last").unwrap();
        drop(theirs);
        readable(&ours).await;
        let mut buffer = Vec::with_capacity(100);
        assert_eq!(ours.receive(&mut buffer).unwrap(), Received::Bytes(4));
        readable(&ours).await;
        assert_eq!(ours.receive(&mut buffer).unwrap(), Received::End);
    });
}

#[test]
fn messages_are_posted_alone_or_together() {
    on_a_shard(|_| async {
        let ends: Vec<_> = (0..5).map(|_| pair()).collect();
        if !ends.iter().all(|(ours, _)| ours.may_post()) {
            return; // this interface sends everything directly
        }
        for posted in [1, 5] {
            for (ours, _) in ends.iter().take(posted) {
                ours.post(b"message".to_vec());
                assert!(!ours.may_post());
                assert_eq!(ours.send(b"overtakes").unwrap(), 0);
            }
            for (ours, theirs) in ends.iter().take(posted) {
                writable(ours).await;
                let mut message = [0; 7];
                let mut theirs: &UnixStream = theirs;
                theirs.read_exact(&mut message).unwrap();
                assert_eq!(&message, b"message");
                assert!(ours.may_post());
            }
        }
    });
}

#[test]
fn a_message_that_finds_no_room_is_sent_whole_when_there_is() {
    on_a_shard(|_| async {
        let (ours, mut theirs) = pair();
        if !ours.may_post() {
            return;
        }
        let filler = vec![b'f'; 1 << 20];
        let filled = ours.send(&filler).unwrap();
        assert!(filled < filler.len());
        let message = vec![b'm'; 100_000];
        ours.post(message.clone());
        let reader = std::thread::spawn(move || {
            let mut all = vec![0; filled + 100_000];
            theirs.read_exact(&mut all).unwrap();
            all
        });
        writable(&ours).await;
        assert!(!ours.is_posting());
        assert_eq!(reader.join().unwrap()[filled..], message);
    });
}

#[test]
fn a_message_to_a_closed_peer_ends_the_wait_for_an_answer() {
    on_a_shard(|_| async {
        let (ours, theirs) = pair();
        drop(theirs);
        if ours.may_post() {
            ours.post(b"anybody there?".to_vec());
        }
        readable(&ours).await;
        let received = ours.receive(&mut Vec::with_capacity(10));
        assert!(matches!(received, Ok(Received::End) | Err(_)), "{received:?}");
    });
}

#[test]
fn a_dropped_socket_is_closed_and_removed() {
    on_a_shard(|reactor| async move {
        let before = reactor.sources.borrow().len();
        let (ours, mut theirs) = pair();
        drop(ours);
        // The next poll completes the operations in the ring.
        let (other, mut wakes) = pair();
        wakes.write_all(b"!").unwrap();
        readable(&other).await;
        drop((other, wakes));
        let (other, mut wakes) = pair();
        wakes.write_all(b"!").unwrap();
        readable(&other).await;
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0);
        assert!(reactor.sources.borrow().len() <= before + 2);
    });
}

#[test]
fn a_busy_task_does_not_prevent_polling() {
    on_a_shard(|reactor| async move {
        let (ours, mut theirs) = pair();
        theirs.write_all(b"!").unwrap();
        poll_fn(|cx| {
            if !ours.is_quiet() {
                return Poll::Ready(());
            }
            reactor.defer(cx.waker());
            Poll::Pending
        })
        .await;
    });
}

#[test]
fn a_listener_that_drops_handshakes_still_accepts_established_connections() {
    on_a_shard(|_| async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let ours = Socket::new(listener.into()).unwrap();
        assert!(!ours.has_waiting());
        let before = std::net::TcpStream::connect(address).unwrap();
        ours.drop_new_handshakes().unwrap();
        // Neither refused nor connected.
        let moment = Duration::from_millis(50);
        let late = std::net::TcpStream::connect_timeout(&address, moment);
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(ours.has_waiting());
        let (_, peer) = ours.accept().unwrap().unwrap();
        assert_eq!(peer, before.local_addr().ok());
        assert!(ours.accept().unwrap().is_none());
    });
}

/// Yields to the other tasks.
async fn yield_now(reactor: &'static Reactor) {
    let mut resumed = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut resumed, true) {
            return Poll::Ready(());
        }
        reactor.defer(cx.waker());
        Poll::Pending
    })
    .await;
}

#[test]
fn a_new_task_does_not_wait_for_all_busy_tasks() {
    on_a_shard(|reactor| async move {
        let (runs, over) = (Rc::new(Cell::new(0_usize)), Rc::new(Cell::new(false)));
        for _ in 0..100 {
            let (runs, over) = (Rc::clone(&runs), Rc::clone(&over));
            monoio::spawn(async move {
                while !over.get() {
                    reactor.task_resumed();
                    runs.set(runs.get() + 1);
                    yield_now(reactor).await;
                }
            });
        }
        yield_now(reactor).await;
        yield_now(reactor).await;
        assert!(runs.get() >= 100, "they are busy");
        for _ in 0..10 {
            let (ours, mut theirs) = pair();
            theirs.write_all(b"!").unwrap();
            let before = runs.get();
            readable(&ours).await;
            let waited_for = runs.get() - before;
            assert!(waited_for <= 4, "{waited_for} runs");
        }
        over.set(true);
    });
}

#[test]
fn busy_tasks_run_equally_often() {
    on_a_shard(|reactor| async move {
        let runs: Rc<[Cell<usize>]> = (0..50).map(|_| Cell::new(0)).collect();
        for at in 0..runs.len() {
            let runs = Rc::clone(&runs);
            monoio::spawn(async move {
                for _ in 0..20 {
                    reactor.task_resumed();
                    runs[at].set(runs[at].get() + 1);
                    yield_now(reactor).await;
                    let all = runs.iter().map(Cell::get);
                    let (least, most) = (all.clone().min().unwrap(), all.max().unwrap());
                    assert!(most - least <= 1, "{least} and {most} runs");
                }
            });
        }
        while runs.iter().any(|runs| runs.get() < 20) {
            yield_now(reactor).await;
        }
    });
}

#[test]
fn deferred_tasks_are_resumed_one_by_one_or_in_step_with_the_others() {
    on_a_shard(|reactor| async move {
        let tickets: Vec<Ticket> = (0..20).map(|_| reactor.defer(Waker::noop())).collect();
        let resumed = || tickets.iter().filter(|ticket| reactor.has_resumed(**ticket)).count();
        assert_eq!(resumed(), 0);
        reactor.count_work(5 * limits::TASK_BUDGET);
        reactor.resume_deferred();
        assert_eq!(resumed(), 6);
        reactor.resume_deferred();
        assert_eq!(resumed(), 7);
        reactor.count_work(u32::MAX);
        reactor.resume_deferred();
        assert_eq!(resumed(), tickets.len());
    });
}

#[test]
fn what_a_socket_moves_is_charged_to_the_task() {
    on_a_shard(|reactor| async move {
        let (ours, theirs) = pair();
        let stop = std::thread::spawn(move || {
            let mut theirs = theirs;
            // Until the other side closes.
            while theirs.write_all(&[b'x'; 64 * 1024]).is_ok() {}
        });
        let (mut moved, mut buffer) = (0, Vec::with_capacity(limits::LARGE_BLOCK_BYTES));
        reactor.budget().refill();
        while !reactor.budget().is_spent() {
            buffer.clear();
            if let Received::Bytes(bytes) = ours.receive(&mut buffer).unwrap() {
                moved += bytes;
            }
        }
        let most = (limits::TASK_BUDGET * limits::BYTES_PER_UNIT) as usize;
        assert!(moved <= most + limits::LARGE_BLOCK_BYTES, "{moved} bytes");
        drop(ours);
        reactor.budget().refill();
        // The next poll closes it.
        yield_now(reactor).await;
        drop(stop);
    });
}

#[test]
fn a_pipe_moves_bytes_between_two_sockets_until_one_has_none_or_the_other_no_room() {
    on_a_shard(|_| async {
        let pipes: &'static Pipes = Box::leak(Box::new(Pipes::at_most(3)));
        let (source, mut sender) = pair();
        let (sink, mut receiver) = pair();
        let mut pipe = pipes.take().unwrap();
        assert_eq!(source.splice_into(&mut pipe).unwrap(), Received::Nothing);
        assert!(source.is_quiet(), "a wait is for new bytes");
        let sent: Vec<u8> = (0..=250).cycle().take(4 << 20).collect();
        let block = sent.clone();
        std::thread::spawn(move || sender.write_all(&block).unwrap());
        let reading = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50)); // the sink has no room meanwhile
            let mut received = Vec::new();
            receiver.read_to_end(&mut received).unwrap();
            received
        });
        loop {
            if pipe.is_empty() {
                readable(&source).await;
                if source.splice_into(&mut pipe).unwrap() == Received::End {
                    break;
                }
            } else {
                writable(&sink).await;
                sink.splice_from(&mut pipe).unwrap();
            }
        }
        sink.shutdown_write();
        assert!(reading.join().unwrap() == sent, "bytes were lost or changed");
        pipes.give(pipe);
    });
}

#[test]
fn a_shard_has_a_limited_number_of_pipes_and_closes_those_that_are_not_empty() {
    on_a_shard(|_| async {
        let pipes: &'static Pipes = Box::leak(Box::new(Pipes::at_most(3)));
        let mut taken: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(taken.len(), 3);
        let (source, mut sender) = pair();
        sender.write_all(b"unsent").unwrap();
        readable(&source).await;
        let mut used = taken.pop().unwrap();
        assert_eq!(source.splice_into(&mut used).unwrap(), Received::Bytes(6));
        pipes.give(used);
        pipes.give(taken.pop().unwrap());
        taken.extend([pipes.take().unwrap(), pipes.take().unwrap()]);
        assert!(taken.iter().all(Pipe::is_empty), "the other one was closed");
        assert!(pipes.take().is_none());
    });
}
