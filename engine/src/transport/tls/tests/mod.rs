mod client_hello;
mod support;

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use self::support::*;
use super::Failure;
use super::failure::Mismatch;
use crate::limits;
use crate::shard::Shard;
use crate::shard::socket::{Peeked, Received, Socket};
use crate::transport::Transport;
use crate::transport::tls::context::ServerContext;

/// Lengths around those of records, blocks and large blocks.
const LENGTHS: [usize; 10] =
    [1, 16_383, 16_384, 16_385, 20_480, 32_769, 114_688, 114_689, 131_072, 1_000_003];

async fn echo(shard: &'static Shard, transport: Transport) {
    handshake(shard, &transport).await.unwrap();
    assert!(transport.tls().is_some());
    for length in LENGTHS {
        let bytes = receive_all(&transport, length).await;
        assert!(bytes == pattern(length), "{length} bytes");
        send_all(&transport, &bytes).await;
    }
}

fn echoed(peer: &mut Peer) {
    for length in LENGTHS {
        let bytes = pattern(length);
        peer.say(&bytes);
        assert!(peer.hear(length) == bytes, "{length} bytes");
    }
}

#[test]
fn any_length_passes_a_server_unchanged() {
    for certified in both_versions() {
        let config = Arc::clone(&certified.context);
        on_a_shard(
            move |shard, socket| echo(shard, server(socket, &config)),
            |stream| echoed(&mut Peer::client(stream, &certified)),
        );
    }
}

#[test]
fn any_length_passes_a_client_unchanged() {
    for certified in both_versions() {
        let config = Arc::clone(&certified.client);
        on_a_shard(
            |shard, socket| echo(shard, client(socket, config)),
            |stream| echoed(&mut Peer::server(stream, &certified)),
        );
    }
}

#[test]
fn a_handshake_byte_by_byte_succeeds() {
    for certified in both_versions() {
        let config = Arc::clone(&certified.context);
        on_a_shard(
            |shard, socket| async move {
                let transport = server(socket, &config);
                handshake(shard, &transport).await.unwrap();
                send_all(&transport, &receive_all(&transport, 5).await).await;
            },
            |stream| {
                let mut peer = Peer::client(stream, &certified);
                while peer.tls.is_handshaking() {
                    for byte in peer.records() {
                        peer.stream.write_all(&[byte]).unwrap();
                    }
                    if peer.tls.is_handshaking() {
                        match peer.tls.read_tls(&mut peer.stream) {
                            Err(error) if error.kind() == ErrorKind::Interrupted => {}
                            read => assert!(read.unwrap() > 0),
                        }
                        peer.tls.process_new_packets().unwrap();
                    }
                }
                peer.say(b"hello");
                assert_eq!(peer.hear(5), b"hello");
            },
        );
    }
}

#[test]
fn what_exceeds_the_buffer_stays_and_is_ready() {
    let certified = certified(&[&rustls::version::TLS13]);
    let config = Arc::clone(&certified.context);
    on_a_shard(
        |shard, socket| async move {
            let transport = server(socket, &config);
            handshake(shard, &transport).await.unwrap();
            let mut buffer = Vec::with_capacity(100);
            readable(&transport).await;
            while buffer.is_empty() {
                transport.receive_at_most(&mut buffer, 3).unwrap();
            }
            assert_eq!(buffer, b"hel");
            // The kernel has nothing more.
            readable(&transport).await;
            assert_eq!(transport.peek(), Peeked::Bytes);
            assert_eq!(transport.receive(&mut buffer).unwrap(), Received::Bytes(2));
            assert_eq!(transport.receive(&mut Vec::new()).unwrap(), Received::Nothing, "no room");
            send_all(&transport, b"!").await;
        },
        |stream| {
            let mut peer = Peer::client(stream, &certified);
            peer.say(b"hello");
            peer.hear(1);
        },
    );
}

#[test]
fn nothing_is_lost_when_the_peer_reads_late() {
    for certified in both_versions() {
        let config = Arc::clone(&certified.context);
        const COUNT: usize = 4 << 20;
        let (told, go_on) = channel::<()>();
        on_a_shard(
            |shard, socket| async move {
                let transport = server(socket, &config);
                handshake(shard, &transport).await.unwrap();
                receive_all(&transport, 1).await;
                let bytes = pattern(COUNT);
                let mut sent = 0;
                loop {
                    match transport.send(&bytes[sent..]).unwrap() {
                        0 => break,
                        more => sent += more,
                    }
                }
                assert!(
                    sent < COUNT && transport.has_unsent(),
                    "the buffers of the kernel are full"
                );
                told.send(()).unwrap();
                send_all(&transport, &bytes[sent..]).await;
                transport.shutdown_write();
                while transport.has_unsent() {
                    poll_fn(|cx| transport.poll_writable(cx)).await;
                }
            },
            |stream| {
                let mut peer = Peer::client(stream, &certified);
                peer.say(b"?");
                go_on.recv_timeout(PATIENCE).unwrap();
                assert!(peer.hear(COUNT) == pattern(COUNT));
                peer.is_ended();
            },
        );
    }
}

/// Performs the handshake and reports how the connection ends.
async fn report_end(
    shard: &'static Shard,
    socket: Socket,
    context: Arc<ServerContext>,
    report: Sender<Result<Received, ErrorKind>>,
) {
    let transport = server(socket, &context);
    handshake(shard, &transport).await.unwrap();
    let mut buffer = Vec::with_capacity(100);
    let end = loop {
        match receive(&transport, &mut buffer).await {
            Ok(Received::Bytes(_)) => {}
            end => break end,
        }
    };
    assert_eq!(buffer, b"hello");
    let again = transport.receive(&mut buffer);
    assert_eq!(again.is_err(), end.is_err(), "an end is final");
    report.send(end.map_err(|error| error.kind())).unwrap();
}

#[test]
fn only_close_notify_is_an_end() {
    for certified in both_versions() {
        for is_notified in [true, false] {
            let config = Arc::clone(&certified.context);
            let (report, reported) = channel();
            on_a_shard(
                |shard, socket| report_end(shard, socket, config, report),
                |stream| {
                    let mut peer = Peer::client(stream, &certified);
                    peer.say(b"hello");
                    if is_notified {
                        peer.notify_close();
                    }
                    peer.stream.shutdown(Shutdown::Write).unwrap();
                    let end = reported.recv_timeout(PATIENCE).unwrap();
                    let wanted =
                        if is_notified { Ok(Received::End) } else { Err(ErrorKind::UnexpectedEof) };
                    assert_eq!(end, wanted);
                },
            );
        }
    }
}

#[test]
fn each_direction_is_closed_on_its_own() {
    let certified = certified(&[&rustls::version::TLS13]);
    let config = Arc::clone(&certified.context);
    on_a_shard(
        |shard, socket| async move {
            let transport = server(socket, &config);
            handshake(shard, &transport).await.unwrap();
            transport.shutdown_write();
            assert!(transport.send(b"more").is_err(), "the sending side is closed");
            assert_eq!(receive_all(&transport, 5).await, b"still");
        },
        |stream| {
            let mut peer = Peer::client(stream, &certified);
            peer.is_ended();
            peer.say(b"still");
        },
    );
}

#[test]
fn keys_are_updated_in_both_directions() {
    let certified = certified(&[&rustls::version::TLS13]);
    let config = Arc::clone(&certified.context);
    on_a_shard(
        |shard, socket| async move {
            let transport = server(socket, &config);
            handshake(shard, &transport).await.unwrap();
            for _ in 0..3 {
                let bytes = receive_all(&transport, 5).await;
                send_all(&transport, &bytes).await;
            }
        },
        |stream| {
            let mut peer = Peer::client(stream, &certified);
            for _ in 0..3 {
                peer.say(b"hello");
                peer.tls.refresh_traffic_keys().unwrap();
                assert_eq!(peer.hear(5), b"hello");
            }
        },
    );
}

#[test]
fn tickets_do_not_make_an_idle_connection_look_busy_and_bytes_do() {
    let certified = certified(&[&rustls::version::TLS13]);
    let config = Arc::clone(&certified.client);
    let (told, go_on) = channel::<()>();
    on_a_shard(
        |shard, socket| async move {
            let transport = client(socket, config);
            handshake(shard, &transport).await.unwrap();
            send_all(&transport, b"?").await;
            // The tickets of the server make the socket readable, and are no bytes.
            poll_fn(|cx| transport.socket().poll_readable(cx)).await;
            assert_eq!(transport.peek(), Peeked::Silent);
            told.send(()).unwrap();
            readable(&transport).await;
            assert!(!transport.is_quiet());
            assert_eq!(transport.peek(), Peeked::Bytes);
            assert_eq!(receive_all(&transport, 5).await, b"extra");
            readable(&transport).await;
            assert_eq!(transport.peek(), Peeked::Gone);
        },
        |stream| {
            let mut peer = Peer::server(stream, &certified);
            assert_eq!(peer.hear(1), b"?");
            let records = peer.records();
            peer.stream.write_all(&records).unwrap();
            go_on.recv_timeout(PATIENCE).unwrap();
            peer.say(b"extra");
            peer.notify_close();
        },
    );
}

#[test]
fn a_posted_block_arrives_before_later_bytes() {
    let certified = certified(&[&rustls::version::TLS13]);
    let config = Arc::clone(&certified.context);
    on_a_shard(
        |shard, socket| async move {
            let transport = server(socket, &config);
            handshake(shard, &transport).await.unwrap();
            if transport.may_post() {
                let mut block = shard.buffers.take();
                block.extend_from_slice(&pattern(limits::BLOCK_BYTES));
                transport.post(block);
                assert!(transport.has_unsent());
            } else {
                send_all(&transport, &pattern(limits::BLOCK_BYTES)).await;
            }
            send_all(&transport, b"later").await;
        },
        |stream| {
            let mut peer = Peer::client(stream, &certified);
            assert!(peer.hear(limits::BLOCK_BYTES) == pattern(limits::BLOCK_BYTES));
            assert_eq!(peer.hear(5), b"later");
        },
    );
}

#[test]
fn what_is_not_tls_is_refused_as_by_envoy() {
    let junk = [0_u8; 40];
    let alert: &[u8] = &[0x15, 3, 1, 0, 2, 2, 70];
    let cases: [(&[u8], &[u8]); 3] =
        [(b"GET / HTTP/1.1\r\n\r\n", b""), (b"PRI * HTTP/2.0\r\n\r\n", alert), (&junk, alert)];
    for (sent, answer) in cases {
        let certified = certified(&[&rustls::version::TLS13]);
        let config = Arc::clone(&certified.context);
        on_a_shard(
            |shard, socket| async move {
                let failed = handshake(shard, &server(socket, &config)).await;
                assert_eq!(failed, Err(Failure::NotTls));
            },
            |mut stream| {
                stream.write_all(sent).unwrap();
                let mut received = Vec::new();
                stream.read_to_end(&mut received).unwrap();
                assert_eq!(received, answer);
            },
        );
    }
}

#[test]
fn a_client_without_its_certificate_gets_the_alert_of_its_version() {
    use rustls::AlertDescription::{CertificateRequired, HandshakeFailure};
    for (certified, expected) in both_versions().iter().zip([CertificateRequired, HandshakeFailure])
    {
        let config = certified.asking_for_certificates();
        on_a_shard(
            |shard, socket| async move {
                let failed = handshake(shard, &server(socket, &config)).await;
                assert_eq!(failed, Err(Failure::NoCertificate));
            },
            |stream| {
                let error = Peer::client(stream, certified).receive(1).unwrap_err();
                let alert = format!("AlertReceived({expected:?})");
                assert!(format!("{error:?}").contains(&alert), "{error:?}");
            },
        );
    }
}

#[test]
fn a_client_of_an_old_version_is_told_so() {
    let certified = certified(&[&rustls::version::TLS12]);
    let config = Arc::clone(&certified.context);
    // TLS 1.1, with one cipher suite and no extensions.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x0a, 1, 0]);
    on_a_shard(
        |shard, socket| async move {
            let failed = handshake(shard, &server(socket, &config)).await;
            assert_eq!(failed, Err(Failure::Incompatible(Mismatch::Version)));
        },
        |mut stream| {
            stream.write_all(&hello).unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            assert_eq!(received, [0x15, 3, 1, 0, 2, 2, 70]);
        },
    );
}

/// rustls has no alert for it.
#[test]
fn a_client_of_tls_1_2_that_misbehaves_gets_an_alert() {
    let certified = certified(&[&rustls::version::TLS12]);
    let warning = [0x15, 3, 3, 0, 2, 1, 41];
    let cases: [(&[u8], u8); 2] =
        [(&warning.repeat(8), 50), (&[22, 3, 3, 0, 1, 16, 0x14, 3, 3, 0, 1, 1], 10)];
    for (bytes, alert) in cases {
        let config = Arc::clone(&certified.context);
        on_a_shard(
            |shard, socket| async move {
                let failed = handshake(shard, &server(socket, &config)).await;
                assert_eq!(failed, Err(Failure::Misbehaved));
            },
            |mut stream| {
                stream.write_all(&client_hello::of_rustls(&[])).unwrap();
                stream.write_all(bytes).unwrap();
                let mut received = Vec::new();
                // Bytes that were not read make the end a reset.
                let _reset = stream.read_to_end(&mut received);
                assert!(received.ends_with(&[0x15, 3, 3, 0, 2, 2, alert]), "{received:?}");
            },
        );
    }
}

#[test]
fn a_failed_handshake_tells_the_peer_why() {
    let ours = certified(&[&rustls::version::TLS13]);
    let theirs = certified(&[&rustls::version::TLS13]);
    let config = Arc::clone(&ours.client);
    on_a_shard(
        |shard, socket| async move {
            let failed = handshake(shard, &client(socket, config)).await.unwrap_err();
            assert!(matches!(failed, Failure::Certificate(_)), "{failed}");
        },
        |stream| {
            let mut peer = Peer::server(stream, &theirs);
            let error = peer.receive(1).unwrap_err();
            assert!(error.to_string().contains("UnknownCA"), "{error}");
        },
    );
}

#[test]
fn a_record_that_was_changed_on_its_way_is_an_error() {
    let certified = certified(&[&rustls::version::TLS13]);
    let config = Arc::clone(&certified.context);
    on_a_shard(
        |shard, socket| async move {
            let transport = server(socket, &config);
            handshake(shard, &transport).await.unwrap();
            send_all(&transport, b"?").await;
            let failed = receive(&transport, &mut Vec::with_capacity(100)).await.unwrap_err();
            assert_eq!(failed.to_string(), "TLS record cannot be decrypted");
            assert!(transport.send(b"more").is_err());
        },
        |stream| {
            let mut peer = Peer::client(stream, &certified);
            peer.hear(1);
            peer.tls.writer().write_all(b"hello").unwrap();
            let mut records = peer.records();
            *records.last_mut().unwrap() ^= 1;
            peer.stream.write_all(&records).unwrap();
            let error = peer.receive(1).unwrap_err();
            assert!(error.to_string().contains("BadRecordMac"), "{error}");
        },
    );
}

#[test]
fn a_connection_that_waits_holds_no_block() {
    let certified = certified(&[&rustls::version::TLS13]);
    let config = Arc::clone(&certified.context);
    let (tell_end, end) = channel::<()>();
    let (told, go_on) = channel::<()>();
    on_a_shard(
        |shard, socket| async move {
            let transport = server(socket, &config);
            handshake(shard, &transport).await.unwrap();
            assert_eq!(receive_all(&transport, 5).await, b"hello");
            let Transport::Tls(tls) = &transport else { panic!("not TLS") };
            let held = || tls.session.borrow().held_bytes();
            idle(&transport).await;
            assert_eq!(held(), 0, "an idle connection");
            told.send(()).unwrap();
            // Half a record arrives, and then nothing.
            while held() == 0 {
                readable(&transport).await;
                idle(&transport).await;
            }
            assert_eq!(held(), 10, "a connection with half a record");
            tell_end.send(()).unwrap();
        },
        |stream| {
            let mut peer = Peer::client(stream, &certified);
            peer.say(b"hello");
            go_on.recv_timeout(PATIENCE).unwrap();
            peer.tls.writer().write_all(b"again").unwrap();
            let records = peer.records();
            peer.stream.write_all(&records[..10]).unwrap();
            end.recv_timeout(PATIENCE).unwrap();
        },
    );
}
