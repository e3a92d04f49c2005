//! Peers that make us work for nothing.

use super::*;

#[track_caller]
fn assert_flood(server: &Side, flood: Flood) {
    let cause = server.error.map(|error| error.cause);
    assert_eq!(cause, Some(Cause::Flood(flood)), "{:?}", server.events.len());
}

#[test]
fn a_client_that_does_not_read_the_answers_to_its_control_frames() {
    for (bytes, answers) in [
        (frame(PING, 0, 0, &[0; 8]), true),
        (frame(SETTINGS, 0, 0, &[]), true),
        (frame(PING, ACK, 0, &[0; 8]), false),
    ] {
        let mut server = Side::server_after(&bytes.repeat(1000));
        assert_eq!(server.error, None);
        server.receive(&bytes);
        match answers {
            true => assert_flood(&server, Flood::OutboundControl),
            false => assert!(server.error.is_none() && server.sent().is_empty()),
        }
        let mut server = Side::server_after(&[]);
        for _ in 0..10 {
            server.receive(&bytes.repeat(1000));
            server.sent();
        }
        assert_eq!(server.error, None, "one that reads may ask as often as it likes");
    }
}

#[test]
fn a_client_that_does_not_read_its_responses() {
    let options = Options { max_outbound_frames: 10, ..Options::default() };
    let mut server = Side::server_with(&options);
    server.receive(&[begun(), get(1, END_STREAM)].concat());
    server.respond(1, 200, EndStream::No);
    for _ in 0..20 {
        server.connection.send_data(StreamId::new(1), b"x", EndStream::No);
    }
    server.receive(&[]);
    assert_flood(&server, Flood::Outbound);
}

#[test]
fn a_client_that_reads_slowly_is_left_alone() {
    let mut server = Side::server_after(
        &[get(1, END_STREAM), window_update(0, 0x7000_0000), window_update(1, 0x7000_0000)]
            .concat(),
    );
    server.respond(1, 200, EndStream::No);
    // There are always some frames that it has not read.
    for _ in 0..20_000 {
        server.connection.send_data(StreamId::new(1), &[0; 1000], EndStream::No);
        if server.connection.out().len() > 64 * 1024 {
            server.connection.sent(1009);
        }
        server.receive(&[]);
    }
    assert_eq!(server.error, None);
}

#[test]
fn a_client_that_sends_frames_without_content() {
    let flood = |bytes: &[u8]| {
        let server = Side::server_after(bytes);
        server.error.map(|error| error.cause)
    };
    let empty = frame(DATA, 0, 1, b"");
    let padding = frame(DATA, PADDED, 1, &[3, 0, 0, 0]);
    let expected = Some(Cause::Flood(Flood::InboundEmpty));
    assert_eq!(flood(&[get(1, 0), empty.repeat(2)].concat()), expected);
    assert_eq!(flood(&[get(1, 0), padding.repeat(2)].concat()), expected);
    let block = [frame(HEADERS, 0, 1, b""), frame(CONTINUATION, 0, 1, b"")].concat();
    assert_eq!(flood(&block), expected);
    let block = [frame(HEADERS, 0, 1, &GET), frame(CONTINUATION, 0, 1, b"").repeat(2)].concat();
    assert_eq!(flood(&block), expected);
    // One is fine, and again after some content; and so is an end.
    let content = frame(DATA, 0, 1, b"x");
    let fine = [&*empty, &content, &empty, &content, &empty, &frame(DATA, END_STREAM, 1, b"")];
    assert_eq!(flood(&[get(1, 0), fine.concat()].concat()), None);
}

#[test]
fn a_client_that_sends_priorities() {
    let priority = frame(PRIORITY, 0, 1, &[0; 5]);
    let server = Side::server_after(&priority.repeat(100));
    assert_eq!(server.error, None);
    assert_flood(&Side::server_after(&priority.repeat(101)), Flood::InboundPriority);
    let more = [get(1, END_STREAM), priority.repeat(200)].concat();
    assert_eq!(Side::server_after(&more).error, None, "each stream may have as many");
    assert_flood(&Side::server_after(&[more, priority].concat()), Flood::InboundPriority);
}

#[test]
fn a_client_that_opens_windows_again_and_again() {
    for stream in [0, 1] {
        let update = window_update(stream, 1);
        let mut server = Side::server_after(&[get(1, END_STREAM), update.repeat(7)].concat());
        assert_eq!(server.error, None);
        server.respond(1, 200, EndStream::No);
        server.connection.send_data(StreamId::new(1), b"x", EndStream::Yes);
        server.receive(&update.repeat(20));
        assert_eq!(server.error, None, "for a DATA frame");
        server.receive(&update);
        assert_flood(&server, Flood::InboundWindowUpdate);
    }
}

#[test]
fn a_client_that_lets_its_windows_open_by_one_byte() {
    let mut server = Side::server();
    let settings = setting(4, 0);
    server.receive(&[PREFACE, &settings, &get(1, END_STREAM)].concat());
    server.respond(1, 200, EndStream::No);
    let (id, mut sent) = (StreamId::new(1), 0);
    while server.error.is_none() && sent < 10_000 {
        server.receive(&window_update(1, 1));
        sent += server.connection.send_data(id, &[0; 1000], EndStream::Yes);
        server.sent();
    }
    assert_flood(&server, Flood::InboundWindowUpdate);
    assert_eq!(sent, 1001);
}

#[test]
fn a_client_with_small_windows_is_served() {
    let mut server = Side::server();
    server.receive(&[PREFACE, &setting(4, 100), &get(1, END_STREAM)].concat());
    server.respond(1, 200, EndStream::No);
    let (id, mut left) = (StreamId::new(1), 200_000);
    while server.error.is_none() && left > 0 {
        left -= server.connection.send_data(id, &vec![0; left], EndStream::Yes);
        server.sent();
        server.receive(&[window_update(1, 100), window_update(0, 100)].concat());
    }
    assert_eq!((server.error, left), (None, 0));
}

#[test]
fn a_client_whose_header_block_has_no_end() {
    let long = frame(CONTINUATION, 0, 1, &[0; 16_384]);
    let server = Side::server_after(&[frame(HEADERS, 0, 1, &GET), long.repeat(16)].concat());
    assert_flood(&server, Flood::HeaderBlock);
    let short = frame(CONTINUATION, 0, 1, b"x");
    let server = Side::server_after(&[frame(HEADERS, 0, 1, &GET), short.repeat(129)].concat());
    assert_flood(&server, Flood::HeaderBlock);
    // Who may have long heads may have long blocks.
    let mut server = Side::server_after(&[]);
    server.connection.allow_heads_of(8 << 20);
    server.receive(&[frame(HEADERS, 0, 1, &GET), long.repeat(512)].concat());
    assert_eq!(server.error, None);
}

/// A request that `then` resets, or makes us reset.
fn tricks() -> Vec<(&'static str, Vec<u8>)> {
    let length = frame(HEADERS, END_HEADERS, 1, &[&GET[..], &[0x0f, 0x0d, 1], b"3"].concat());
    let overflow = window_update(1, 0x7fff_ffff);
    let malformed = frame(HEADERS, END_HEADERS, 1, &[0x82, 0x86]);
    vec![
        ("cancels", [get(1, 0), rst_stream(1, 8)].concat()),
        ("opens a window by nothing", [get(1, 0), window_update(1, 0)].concat()),
        ("opens a window too far", [get(1, 0), overflow].concat()),
        ("sends too short a body", [&*length, &frame(DATA, END_STREAM, 1, b"x")].concat()),
        ("sends too long a body", [&*length, &frame(DATA, 0, 1, b"xxxx")].concat()),
        ("has trailers without an end", [get(1, 0), frame(HEADERS, END_HEADERS, 1, &[])].concat()),
        ("is malformed", malformed),
    ]
}

/// The same frames on another stream.
fn on_stream(frames: &[u8], number: u32) -> Vec<u8> {
    let mut frames = frames.to_vec();
    let mut at = 0;
    while at < frames.len() {
        let length = usize::from(frames[at + 1]) << 8 | usize::from(frames[at + 2]);
        frames[at + 5..at + 9].copy_from_slice(&number.to_be_bytes());
        at += 9 + length;
    }
    frames
}

#[test]
fn a_client_that_resets_its_requests_or_makes_us_reset_them() {
    let options = Options {
        stream_errors: StreamErrors::EndTheStream,
        max_inbound_window_update_frames_per_data_frame_sent: u32::MAX,
        ..Options::default()
    };
    for (trick, frames) in tricks() {
        let mut server = Side::server_with(&options);
        server.receive(&begun());
        let mut count = 0;
        while server.error.is_none() && count < 2000 {
            let number = 2 * count + 1;
            server.receive(&on_stream(&frames, number));
            server.connection.release(StreamId::new(number));
            server.sent();
            count += 1;
        }
        assert_eq!(count, 1001, "{trick}");
        assert_flood(&server, Flood::Resets);
        assert_eq!(server.error.map(|error| error.code), Some(ErrorCode::InternalError));
    }
}

#[test]
fn a_client_that_cancels_much_is_left_alone() {
    let mut server = Side::server_after(&[]);
    for number in 0..3000 {
        server.now_ms = u64::from(number) * 20;
        server.receive(&get(2 * number + 1, END_STREAM));
        // Every second of 50 a second.
        if number % 2 == 0 {
            server.receive(&rst_stream(2 * number + 1, 8));
        }
        server.connection.release(StreamId::new(2 * number + 1));
        server.sent();
    }
    assert_eq!(server.error, None);
}

#[test]
fn a_client_that_ignores_how_many_streams_it_may_have() {
    let options = Options { max_concurrent_streams: 1, ..Options::default() };
    let mut server = Side::server_with(&options);
    server.receive(&[begun(), get(1, 0)].concat());
    let mut number = 1;
    let mut refuse = |server: &mut Side, count| {
        for _ in 0..count {
            number += 2;
            server.receive(&get(number, END_STREAM));
            server.sent();
        }
    };
    refuse(&mut server, 1000);
    assert_eq!(server.error, None, "it may not know yet");
    server.receive(&frame(SETTINGS, ACK, 0, &[]));
    refuse(&mut server, 1000);
    assert_eq!(server.error, None);
    refuse(&mut server, 1);
    assert_flood(&server, Flood::Resets);
}

#[test]
fn a_client_that_never_takes_notice_of_how_many_streams_it_may_have() {
    let options = Options { max_concurrent_streams: 1, ..Options::default() };
    let mut server = Side::server_with(&options);
    server.receive(&[begun(), get(1, 0)].concat());
    let mut refused = 0;
    while server.error.is_none() && refused < 3000 {
        refused += 1;
        server.receive(&get(2 * refused + 1, END_STREAM));
        server.sent();
    }
    assert_flood(&server, Flood::Resets);
    assert_eq!(
        refused, 2001,
        "a thousand may have been on their way, and then the burst of resets"
    );
}

#[test]
fn an_origin_that_resets_everything_is_no_attacker() {
    let mut client = Side::client_with_request();
    client.connection.release(StreamId::new(1));
    for _ in 0..3000 {
        let id = client.begin_request(EndStream::Yes);
        client.receive(&rst_stream(id.number(), 7));
        client.connection.release(id);
        client.sent();
    }
    assert_eq!(client.error, None);
}
