//! The floor: a proxy that only parses heads and forwards bytes, on a plain ring.
//!
//! It is the least that forwarding costs on this kernel, the limit that proxies are compared with:
//! one connection to the origin per client, no routing, no added header, no timeouts, no counters,
//! no pool. One thread; SINGLE_ISSUER and DEFER_TASKRUN; a receive at the start of a message waits
//! for readiness first (POLL_FIRST), and the send of a message's end is submitted in the same enter
//! as the next receive.
//!
//! Invariant: a slot is reused only when none of its operations is in flight, so the kernel never
//! writes into a buffer that has another owner.
#![expect(unsafe_code, reason = "operations of the ring carry pointers into the slots' buffers")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::Context;
use ring::squeue::Entry;
use ring::{IoUring, opcode, types};
use rustix::net::Shutdown;

use crate::http::{self, Body, Head, Malformed};
use crate::{origin, runtime};

/// Where the floor listens, and where it forwards to.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:24010")]
    listen: SocketAddr,
    /// The origin to forward to.
    #[arg(long, default_value = "127.0.0.1:24000")]
    origin: SocketAddr,
}

/// Forwards until the process is stopped.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    runtime::raise_descriptor_limit();
    forward(origin::listen(options.listen)?, options.origin)
}

fn forward(listener: TcpListener, origin: SocketAddr) -> anyhow::Result<()> {
    let mut floor = Floor::new(listener, origin)?;
    floor.accept();
    let mut completed = Vec::with_capacity(COMPLETIONS as usize);
    loop {
        match floor.ring.submit_and_wait(1) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(error.into());
            }
            Ok(_) | Err(_) => {}
        }
        completed.extend(floor.ring.completion().map(|entry| {
            (Operation::from_user_data(entry.user_data()), entry.result(), entry.flags())
        }));
        for (operation, result, flags) in completed.drain(..) {
            floor.complete(operation, result, flags);
        }
    }
}

struct Floor {
    ring: IoUring,
    listener: TcpListener,
    origin: SocketAddr,
    slots: Vec<Slot>,
    free: Vec<usize>,
}

/// One client, its connection to the origin, and the data in transit.
struct Slot {
    /// None while the slot is free.
    sockets: Option<Sockets>,
    request: Message,
    answer: Message,
    /// The direction that starts when a send from the buffer that it needs is complete.
    turn: Option<Direction>,
    in_flight: u32,
    closing: bool,
}

struct Sockets {
    client: OwnedFd,
    origin: OwnedFd,
}

/// One direction: bytes that were received but not sent yet.
struct Message {
    buffer: Box<[u8]>,
    filled: usize,
    /// None while the head is incomplete.
    body: Option<Body>,
    keep_alive: bool,
    sending: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    Request,
    Answer,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Operation {
    Accept,
    Receive(usize, Direction),
    Send(usize, Direction),
}

impl Floor {
    fn new(listener: TcpListener, origin: SocketAddr) -> anyhow::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)
            .context("io_uring with SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1 or newer)")?;
        Ok(Self { ring, listener, origin, slots: Vec::new(), free: Vec::new() })
    }

    fn complete(&mut self, operation: Operation, result: i32, flags: u32) {
        let moved = match operation {
            Operation::Accept => {
                if !ring::cqueue::more(flags) {
                    self.accept();
                }
                return self.accepted(result);
            }
            Operation::Receive(slot, direction) => self.received(slot, direction, result),
            Operation::Send(slot, direction) => self.sent(slot, direction, result),
        };
        let (Operation::Receive(slot, _) | Operation::Send(slot, _)) = operation else { return };
        if moved.is_none() {
            self.close(slot);
        }
        self.recycle(slot);
    }

    fn accept(&mut self) {
        let entry = opcode::AcceptMulti::new(types::Fd(self.listener.as_raw_fd())).build();
        self.push(&entry.user_data(Operation::Accept.user_data()));
    }

    fn accepted(&mut self, fd: RawFd) {
        if fd < 0 {
            return;
        }
        // SAFETY: the kernel created this descriptor in this completion; it has no other owner.
        let client = unsafe { OwnedFd::from_raw_fd(fd) };
        let Ok(origin) = TcpStream::connect(self.origin) else { return };
        origin.set_nodelay(true).ok();
        let index = self.free.pop().unwrap_or(self.slots.len());
        if index == self.slots.len() {
            self.slots.push(Slot::new());
        }
        if let Some(slot) = self.slots.get_mut(index) {
            slot.begin(Sockets { client, origin: origin.into() });
        }
        self.receive(index, Direction::Request, true);
    }

    /// Some bytes arrived: sends them, and receives the next ones. None: this pair is finished.
    fn received(&mut self, index: usize, direction: Direction, result: i32) -> Option<()> {
        let slot = self.slots.get_mut(index)?;
        slot.in_flight -= 1;
        let received = usize::try_from(result).ok().filter(|&n| n > 0 && !slot.closing)?;
        let message = slot.message(direction);
        let complete = match message.take(received, direction).ok()? {
            Taken::PartOfHead => {
                self.receive(index, direction, true);
                return Some(());
            }
            Taken::Bytes { complete } => complete,
        };
        message.sending = true;
        self.send(index, direction);
        if complete {
            self.turn(index, direction.other());
        }
        Some(())
    }

    fn sent(&mut self, index: usize, direction: Direction, result: i32) -> Option<()> {
        let slot = self.slots.get_mut(index)?;
        slot.in_flight -= 1;
        let message = slot.message(direction);
        message.sending = false;
        let whole = usize::try_from(result).is_ok_and(|sent| sent == message.filled);
        if !whole || slot.closing {
            return None; // MSG_WAITALL sends everything, or the connection is broken
        }
        let message = slot.message(direction);
        message.filled = 0;
        if message.body.is_some_and(|body| !body.is_complete()) {
            self.receive(index, direction, false);
            return Some(());
        }
        if direction == Direction::Answer && !message.keep_alive {
            return None;
        }
        if slot.turn.take_if(|waiting| *waiting == direction).is_some() {
            self.turn(index, direction);
        }
        Some(())
    }

    /// The other side sends next.
    fn turn(&mut self, index: usize, direction: Direction) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if direction == Direction::Request && !slot.answer.keep_alive {
            return;
        }
        if slot.message(direction).sending {
            slot.turn = Some(direction);
            return;
        }
        let message = slot.message(direction);
        message.body = None;
        message.filled = 0;
        self.receive(index, direction, true);
    }

    fn receive(&mut self, index: usize, direction: Direction, begins: bool) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(fd) = slot.socket(direction) else { return };
        slot.in_flight += 1;
        let space = slot.message(direction).space();
        let length = u32::try_from(space.len()).unwrap_or(u32::MAX);
        // The first bytes of a message are rarely there yet: wait for readiness.
        let flags = if begins { POLL_FIRST } else { 0 };
        let entry = opcode::Recv::new(fd, space.as_mut_ptr(), length).ioprio(flags);
        self.push(&entry.build().user_data(Operation::Receive(index, direction).user_data()));
    }

    fn send(&mut self, index: usize, direction: Direction) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(fd) = slot.socket(direction.other()) else { return };
        slot.in_flight += 1;
        let bytes = slot.message(direction).bytes();
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(fd, bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL);
        self.push(&entry.build().user_data(Operation::Send(index, direction).user_data()));
    }

    fn push(&mut self, entry: &Entry) {
        loop {
            // SAFETY: the entry points into a boxed buffer of a slot, which is neither moved nor
            // handed to another client while `in_flight` counts this operation.
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() {
                return;
            }
            self.ring.submit().ok(); // the queue is full: submitting makes room
        }
    }

    /// Waits for the operations in flight on both sockets; the last completion frees the slot.
    fn close(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.closing = true;
        if slot.in_flight > 0
            && let Some(Sockets { client, origin }) = &slot.sockets
        {
            rustix::net::shutdown(client, Shutdown::Both).ok();
            rustix::net::shutdown(origin, Shutdown::Both).ok();
        }
    }

    fn recycle(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        if slot.closing && slot.in_flight == 0 && slot.sockets.take().is_some() {
            self.free.push(index);
        }
    }
}

impl Slot {
    fn new() -> Self {
        let (request, answer) = (Message::new(), Message::new());
        Self { sockets: None, request, answer, turn: None, in_flight: 0, closing: false }
    }

    fn begin(&mut self, sockets: Sockets) {
        self.sockets = Some(sockets);
        self.request.clear();
        self.answer.clear();
        self.turn = None;
        self.closing = false;
    }

    /// The socket that this direction reads from.
    fn socket(&self, direction: Direction) -> Option<types::Fd> {
        let Sockets { client, origin } = self.sockets.as_ref()?;
        Some(types::Fd(match direction {
            Direction::Request => client.as_raw_fd(),
            Direction::Answer => origin.as_raw_fd(),
        }))
    }

    fn message(&mut self, direction: Direction) -> &mut Message {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Answer => &mut self.answer,
        }
    }
}

enum Taken {
    PartOfHead,
    Bytes { complete: bool },
}

impl Message {
    fn new() -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self { buffer, filled: 0, body: None, keep_alive: true, sending: false }
    }

    fn clear(&mut self) {
        self.filled = 0;
        self.body = None;
        self.keep_alive = true;
        self.sending = false;
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.filled).unwrap_or_default()
    }

    fn space(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// Counts received bytes and returns whether the message ends with them.
    fn take(&mut self, received: usize, direction: Direction) -> Result<Taken, Malformed> {
        self.filled += received;
        let (mut body, begin) = match self.body {
            Some(body) => (body, 0),
            None => {
                let Some(Head { len, body, keep_alive }) = self.head(direction)? else {
                    let full = self.filled == self.buffer.len();
                    return if full { Err(Malformed) } else { Ok(Taken::PartOfHead) };
                };
                self.keep_alive = keep_alive && body != Body::UntilClose;
                (body, len)
            }
        };
        let rest = self.bytes().get(begin..).unwrap_or_default();
        if body.consume(rest)? < rest.len() {
            return Err(Malformed); // the bench does not pipeline
        }
        self.body = Some(body);
        Ok(Taken::Bytes { complete: body.is_complete() })
    }

    fn head(&self, direction: Direction) -> Result<Option<Head>, Malformed> {
        match direction {
            Direction::Request => Ok(http::request(self.bytes())?.map(|(head, _)| head)),
            Direction::Answer => Ok(http::response(self.bytes())?.map(|(head, _)| head)),
        }
    }
}

impl Direction {
    fn other(self) -> Self {
        match self {
            Self::Request => Self::Answer,
            Self::Answer => Self::Request,
        }
    }
}

impl Operation {
    fn user_data(self) -> u64 {
        match self {
            Self::Accept => 0,
            Self::Receive(slot, Direction::Request) => (slot as u64) << 3 | 1,
            Self::Receive(slot, Direction::Answer) => (slot as u64) << 3 | 2,
            Self::Send(slot, Direction::Request) => (slot as u64) << 3 | 3,
            Self::Send(slot, Direction::Answer) => (slot as u64) << 3 | 4,
        }
    }

    fn from_user_data(data: u64) -> Self {
        let slot = usize::try_from(data >> 3).unwrap_or(usize::MAX);
        match data & 7 {
            1 => Self::Receive(slot, Direction::Request),
            2 => Self::Receive(slot, Direction::Answer),
            3 => Self::Send(slot, Direction::Request),
            4 => Self::Send(slot, Direction::Answer),
            _ => Self::Accept,
        }
    }
}

const ENTRIES: u32 = 4096;
const COMPLETIONS: u32 = 16_384;
/// From this size on the allocator maps fresh pages, which cost nothing until they are used.
const BUFFER_BYTES: usize = 128 << 10;
/// IORING_RECVSEND_POLL_FIRST
const POLL_FIRST: u16 = 1;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn an_operation_survives_the_round_trip_through_user_data() {
        for slot in [0, 1, 14_999] {
            for direction in [Direction::Request, Direction::Answer] {
                for operation in
                    [Operation::Receive(slot, direction), Operation::Send(slot, direction)]
                {
                    assert_eq!(Operation::from_user_data(operation.user_data()), operation);
                }
            }
        }
        assert_eq!(Operation::from_user_data(Operation::Accept.user_data()), Operation::Accept);
    }

    #[test]
    fn a_message_is_complete_with_its_last_byte() {
        let mut message = Message::new();
        let bytes = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nabcd";
        let cut = bytes.len() - 2;
        message.space()[..cut].copy_from_slice(&bytes[..cut]);
        let taken = message.take(cut, Direction::Request).unwrap();
        assert!(matches!(taken, Taken::Bytes { complete: false }));
        message.filled = 0; // sent on
        message.space()[..2].copy_from_slice(b"cd");
        let taken = message.take(2, Direction::Request).unwrap();
        assert!(matches!(taken, Taken::Bytes { complete: true }));
    }

    #[test]
    fn the_floor_forwards_the_origins_answer() {
        let origin = origin::tests::on_a_thread();
        let listener = origin::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || forward(listener, origin).unwrap());
        let mut client = TcpStream::connect(address).unwrap();
        let get = |page: &str| format!("GET {page} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes();
        for (page, bytes) in [("/13", 13), ("/64k", 64 << 10), ("/10m", 10 << 20), ("/13", 13)] {
            assert_eq!(ask(&mut client, &get(page)), (200, bytes), "{page}");
        }
        assert_eq!(ask(&mut client, &get("/chunked")).0, 200);
        let mut post = b"POST /1k HTTP/1.1\r\ncontent-length: 1048576\r\n\r\n".to_vec();
        post.resize(post.len() + (1 << 20), b'x');
        assert_eq!(ask(&mut client, &post), (200, 1 << 10));
        let last = b"GET /13 HTTP/1.1\r\nconnection: close\r\n\r\n";
        assert_eq!(ask(&mut client, last), (200, 13));
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "the floor closes after the last one");
    }

    fn ask(client: &mut TcpStream, request: &[u8]) -> (u16, u64) {
        client.write_all(request).unwrap();
        let (mut answer, mut buffer) = (http::Answer::default(), vec![0; 1 << 16]);
        loop {
            let received = client.read(&mut buffer).unwrap();
            assert_ne!(received, 0, "closed in the middle of an answer");
            if answer.feed(&buffer[..received]).unwrap() {
                return (answer.status(), answer.body_bytes());
            }
        }
    }
}
