//! Flow control, with peers that respect it and peers that do not.

use super::*;

const WINDOW: usize = 65_535;

fn narrow() -> Options {
    Options {
        initial_stream_window_size: 65_535,
        initial_connection_window_size: 65_535,
        ..Options::default()
    }
}

/// DATA of so many bytes, in frames that are as long as may be.
fn data(stream: u32, bytes: usize) -> Vec<u8> {
    vec![b'x'; bytes].chunks(16_384).flat_map(|piece| frame(DATA, 0, stream, piece)).collect()
}

/// A server of a client that has sent these requests, and lets every response have 65,535 bytes.
fn server_of(numbers: &[u32]) -> Side {
    let mut server = Side::server_after(&[]);
    for &number in numbers {
        server.receive(&get(number, END_STREAM));
        server.respond(number, 200, EndStream::No);
    }
    server.sent();
    server.events.clear();
    server
}

#[test]
fn a_body_larger_than_all_windows_arrives() {
    let (mut client, mut server) = (Side::client(), Side::server_with(&narrow()));
    let id = client.begin_request(EndStream::No);
    settle(&mut client, &mut server, 1 << 20);
    let body = vec![b'x'; 1_000_000];
    let mut sent = 0;
    while sent < body.len() {
        let taken = client.connection.send_data(id, &body[sent..], EndStream::Yes);
        assert!(taken > 0, "the window opens again");
        sent += taken;
        settle(&mut client, &mut server, 1 << 20);
    }
    assert_eq!(server.events.last().unwrap(), "1 data 1000000 true");
}

#[test]
fn a_client_that_exceeds_the_window_of_a_stream() {
    let options = Options { initial_stream_window_size: 65_535, ..Options::default() };
    let mut server = Side::server_with(&options);
    server.reads = Reads::Never;
    server.receive(&[begun(), get(1, 0), data(1, WINDOW)].concat());
    assert_eq!(server.events.last().unwrap(), "1 data 65535 false");
    server.sent();
    server.receive(&[data(1, 1), get(3, END_STREAM)].concat());
    assert_eq!(server.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 3])]);
    assert_eq!(server.events.last().unwrap(), "3 / None", "the others go on");
}

#[test]
fn a_client_that_exceeds_the_window_of_the_connection() {
    let mut server = Side::server_with(&narrow());
    server.reads = Reads::Never;
    server.receive(&[begun(), get(1, 0), get(3, 0), data(1, WINDOW), data(3, 1)].concat());
    assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::FlowControlError));
}

#[test]
fn a_server_whose_data_exceeds_the_window_of_a_stream_and_has_no_head() {
    let options = Options {
        max_frame_size: 100_000,
        initial_stream_window_size: 65_535,
        initial_connection_window_size: 100_000,
        stream_reset_burst: 10_000,
        ..Options::default()
    };
    let mut client = Side::new(Connection::client(&options));
    client.receive(&frame(SETTINGS, 0, 0, &[]));
    for _ in 0..10 {
        let id = client.begin_request(EndStream::Yes);
        client.receive(&frame(DATA, 0, id.number(), &[b'x'; 80_000]));
        let reset = format!("{} reset: ProtocolError", id.number());
        assert_eq!(client.events.last(), Some(&reset));
        client.connection.release(id);
    }
    assert_eq!(client.error, None, "the window of the connection opens again");
}

#[test]
fn windows_are_given_back_when_half_of_them_was_read() {
    let mut server = Side::server_with(&narrow());
    server.reads = Reads::Never;
    server.receive(&[begun(), get(1, 0), data(1, WINDOW)].concat());
    server.sent();
    let id = StreamId::new(1);
    server.connection.consumed(id, 32_766);
    assert!(server.sent().is_empty());
    server.connection.consumed(id, 1);
    let half = 32_767_u32.to_be_bytes().to_vec();
    let updates = [(WINDOW_UPDATE, 1, half.clone()), (WINDOW_UPDATE, 0, half)];
    assert_eq!(server.sent_frames(), updates);
}

#[test]
fn a_stream_that_has_ended_needs_no_window() {
    let mut server = Side::server_with(&narrow());
    server.receive(&[begun(), get(1, 0)].concat());
    server.sent();
    server.receive(&[data(1, WINDOW - 1), frame(DATA, END_STREAM, 1, b"x")].concat());
    let streams: Vec<_> = server.sent_frames().iter().map(|(_, stream, _)| *stream).collect();
    assert_eq!(streams, [1, 0, 0], "while it was open; the connection goes on");
    server.connection.release(StreamId::new(1));
}

#[test]
fn what_nobody_reads_does_not_fill_the_window_of_the_others() {
    let options = Options { stream_reset_burst: 10_000, ..narrow() };
    let mut server = Side::server_with(&options);
    server.reads = Reads::Never;
    server.receive(&begun());
    for number in (1..2001).step_by(2) {
        server.receive(&[get(number, 0), data(number, 10_000)].concat());
        if number % 3 == 0 {
            server.receive(&rst_stream(number, 8));
        }
        server.connection.reset(StreamId::new(number), ErrorCode::Cancel);
        // More of it was on its way.
        if number % 3 != 0 {
            server.receive(&data(number, 10_000));
        }
        server.connection.release(StreamId::new(number));
        if number % 3 != 0 {
            server.receive(&data(number, 10_000));
        }
        server.sent();
    }
    assert_eq!(server.error, None);
}

#[test]
fn padding_is_given_back() {
    let mut server = Side::server_with(&narrow());
    server.receive(&[begun(), get(1, 0)].concat());
    server.reads = Reads::Never;
    for _ in 0..1000 {
        let padded = [frame(DATA, PADDED, 1, &[255; 256]), frame(DATA, 0, 1, b"x")].concat();
        server.receive(&padded);
    }
    assert_eq!(server.error, None, "256,000 bytes of padding went through a window of 65,535");
    assert_eq!(server.events.last().unwrap(), "1 data 1000 false");
}

#[test]
fn a_response_is_as_long_as_the_windows_allow() {
    let mut server = server_of(&[1]);
    let id = StreamId::new(1);
    assert_eq!(server.connection.send_data(id, &[0; 100_000], EndStream::Yes), WINDOW);
    let sizes: Vec<_> = server.sent_frames().iter().map(|(_, _, payload)| payload.len()).collect();
    assert_eq!(sizes, [16_384, 16_384, 16_384, 16_383]);
    assert_eq!(server.connection.capacity(id), 0);
    server.receive(&window_update(1, 10));
    assert_eq!(server.connection.capacity(id), 0, "the one of the connection is still closed");
    server.receive(&window_update(0, 100));
    assert_eq!(server.connection.capacity(id), 10);
    assert_eq!(server.connection.send_data(id, &[0; 10], EndStream::Yes), 10);
    assert_eq!(server.sent()[4], END_STREAM);
}

#[test]
fn an_end_without_data_needs_no_window() {
    let mut server = server_of(&[1]);
    let id = StreamId::new(1);
    server.connection.send_data(id, &[0; WINDOW], EndStream::No);
    server.sent();
    assert_eq!(server.connection.send_data(id, b"", EndStream::Yes), 0);
    assert_eq!(server.sent(), frame(DATA, END_STREAM, 1, b""));
}

#[test]
fn a_client_that_reduces_its_window_while_it_is_in_use() {
    let mut server = server_of(&[1]);
    let id = StreamId::new(1);
    server.connection.send_data(id, &[0; 40_000], EndStream::No);
    server.receive(&setting(4, 30_000));
    assert_eq!(server.connection.capacity(id), 0, "it is -10,000");
    server.receive(&window_update(1, 10_000));
    assert_eq!((server.connection.capacity(id), server.events.len()), (0, 1));
    server.receive(&window_update(1, 5));
    assert_eq!(server.events[1..], ["1 opened"]);
    assert_eq!(server.connection.capacity(id), 5);
}

#[test]
fn a_client_that_opens_a_window_too_far() {
    let most = 0x7fff_ffff - 65_535;
    for stream in [0, 1] {
        let mut server = server_of(&[1]);
        server.receive(&window_update(stream, most));
        assert_eq!(server.error, None);
        server.receive(&[window_update(stream, 1), get(3, END_STREAM)].concat());
        if stream == 0 {
            assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::FlowControlError));
        } else {
            assert_eq!(server.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 3])]);
            assert_eq!(server.events, ["1 reset: FlowControlError", "3 / None"]);
        }
    }
    // By a detour.
    let mut server = server_of(&[1]);
    server.receive(&[window_update(1, most), setting(4, 65_536)].concat());
    assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::FlowControlError));
    // It was the window of a stream that is released now.
    let mut server = server_of(&[1]);
    server.receive(&window_update(1, most));
    server.connection.release(StreamId::new(1));
    server.receive(&setting(4, 65_536));
    assert_eq!(server.error, None);
}

#[test]
fn a_client_that_opens_a_window_by_nothing() {
    let mut server = server_of(&[1]);
    server.receive(&[window_update(1, 0), get(3, END_STREAM)].concat());
    assert_eq!(server.sent_frames(), [(RST_STREAM, 1, vec![0, 0, 0, 1])]);
    assert_eq!(server.events, ["1 reset: ProtocolError", "3 / None"]);
    server.receive(&window_update(0, 0));
    assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::ProtocolError));
}

/// Which streams are woken, by what their owner keeps for them.
fn woken(connection: &mut Connection<u32>) -> Vec<u32> {
    let mut woken = Vec::new();
    connection.wake_writers(|number| woken.push(*number));
    woken
}

#[test]
fn streams_that_wait_for_the_connection_have_their_turns() {
    let mut connection = client_of(&[1, 3, 5, 7]);
    let ids = [1, 3, 5, 7].map(StreamId::new);
    assert_eq!(connection.send_data(ids[0], &[0; 100_000], EndStream::No), WINDOW);
    for id in ids.into_iter().rev() {
        assert_eq!(connection.capacity(id), 0);
        assert_eq!(connection.capacity(id), 0, "twice is once");
    }
    assert_eq!(woken(&mut connection), [0; 0]);
    let mut turns = Vec::new();
    for _ in 0..6 {
        receive(&mut connection, &window_update(0, 16_384));
        for number in woken(&mut connection) {
            turns.push(number);
            let id = StreamId::new(number);
            connection.send_data(id, &[0; 20_000], EndStream::No);
            connection.capacity(id);
        }
    }
    // The first one has to wait for its own, too.
    assert_eq!(turns, [1, 7, 5, 3, 7, 5, 3]);
}

#[test]
fn what_a_woken_stream_does_not_use_is_for_the_next() {
    let mut connection = client_of(&[1, 3, 5]);
    connection.send_data(StreamId::new(1), &[0; WINDOW], EndStream::No);
    for number in [3, 5] {
        connection.capacity(StreamId::new(number));
    }
    receive(&mut connection, &window_update(0, 100));
    assert_eq!(woken(&mut connection), [3]);
    // It was reset in the meantime.
    connection.release(StreamId::new(3));
    assert_eq!(woken(&mut connection), [5]);
    assert_eq!(woken(&mut connection), [0; 0]);
}

#[test]
fn settings_that_open_the_windows_wake_all() {
    let mut connection = client_of(&[1, 3]);
    receive(&mut connection, &setting(4, 0));
    assert_eq!(woken(&mut connection), [0; 0]);
    assert_eq!(connection.capacity(StreamId::new(1)), 0);
    receive(&mut connection, &setting(4, 10));
    let mut all = woken(&mut connection);
    all.sort_unstable();
    assert_eq!(all, [1, 3]);
    assert_eq!(woken(&mut connection), [0; 0], "once");
    assert_eq!(connection.capacity(StreamId::new(1)), 10);
}

/// A client with these requests, whose bodies are to come.
fn client_of(numbers: &[u32]) -> Connection<u32> {
    let mut connection = Connection::client(&Options::default());
    connection.start();
    for &number in numbers {
        let id = connection.open(number).unwrap();
        connection.send_request(id, &request("/"), EndStream::No);
    }
    receive(&mut connection, &frame(SETTINGS, 0, 0, &[]));
    connection
}

fn receive(connection: &mut Connection<u32>, bytes: &[u8]) {
    let mut handled = 0;
    while connection.next(&mut Input::new(bytes, &mut handled), 0).unwrap().is_some() {}
    assert_eq!(handled, bytes.len());
}
