//! The codec of HTTP/2 talks to that of the `h2` crate, in both roles.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail"
)]

mod ours;

use bytes::Bytes;
use corvoy_engine::http2::Options;
use h2::{Reason, client, server};
use http::{Method, Request, Response};
use ours::{Echo, Get};
use tokio::io::{DuplexStream, duplex};

/// More than all windows, so that a side that waits for the other to read is waiting for a window.
const PIPE_BYTES: usize = 1 << 22;

/// Windows as small as Envoy allows.
fn narrow() -> Options {
    Options {
        initial_stream_window_size: 65_535,
        initial_connection_window_size: 65_535,
        ..Options::default()
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
}

/// A client of the crate, and what our server has seen when its client has gone.
async fn with_client<T>(
    options: &Options,
    windows: u32,
    talk: impl AsyncFnOnce(client::SendRequest<Bytes>) -> T,
) -> (T, Vec<String>) {
    let (near, far) = duplex(PIPE_BYTES);
    let talk = async {
        let (sender, connection) = client::Builder::new()
            .initial_window_size(windows)
            .max_frame_size(20_000)
            .handshake(near)
            .await
            .unwrap();
        // It may find that our server has gone away.
        let driven = async { connection.await.ok() };
        let talked = async { talk(sender.ready().await.unwrap()).await };
        tokio::join!(talked, driven).0
    };
    tokio::join!(talk, Echo::serve(far, options))
}

/// Reads a body, and gives its window back.
async fn read(mut body: h2::RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut read = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        read.extend_from_slice(&data);
        body.flow_control().release_capacity(data.len())?;
    }
    Ok(read)
}

/// Sends a request to be echoed.
async fn echo(sender: &client::SendRequest<Bytes>, body: Vec<u8>) -> Vec<u8> {
    let mut sender = sender.clone().ready().await.unwrap();
    let request = Request::post("http://a.test/echo").body(()).unwrap();
    let (response, mut stream) = sender.send_request(request, false).unwrap();
    stream.send_data(body.into(), true).unwrap();
    drop(sender);
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    read(response.into_body()).await.unwrap()
}

/// Bytes that show if something is lost, doubled or exchanged.
fn text(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at / 7 + at * seed) % 251).unwrap()).collect()
}

#[test]
fn bodies_of_all_sizes_are_echoed_to_a_client() {
    for (options, windows) in [(Options::default(), 65_535), (narrow(), 65_535), (narrow(), 1000)] {
        let (_, seen) = run(with_client(&options, windows, async |sender| {
            let lengths = [0, 1, 999, 1000, 1001, 16_384, 16_385, 65_535, 65_536, 300_000];
            let one = async |length: usize| {
                assert!(echo(&sender, text(length, 1)).await == text(length, 1), "{length}");
            };
            for length in lengths {
                one(length).await;
            }
            // All at once share the window of the connection.
            let [a, b, c, d] = [100_000, 200_000, 3, 150_000];
            tokio::join!(one(a), one(b), one(c), one(d));
        }));
        assert_eq!(seen.iter().filter(|event| event.starts_with("echo")).count(), 14, "{seen:?}");
    }
}

#[test]
fn a_client_sees_with_what_its_stream_was_reset() {
    let ((), seen) = run(with_client(&Options::default(), 65_535, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let request = Request::get("http://a.test/reset").body(()).unwrap();
        let (response, _stream) = sender.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap_err().reason(), Some(Reason::ENHANCE_YOUR_CALM));
        assert_eq!(echo(&sender, text(10, 2)).await, text(10, 2), "the connection goes on");
    }));
    assert_eq!(seen, ["reset", "echo 10"]);
}

#[test]
fn a_client_cancels_its_stream() {
    let ((), seen) = run(with_client(&Options::default(), 65_535, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let request = Request::post("http://a.test/echo").body(()).unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
        stream.send_reset(Reason::CANCEL);
        assert_eq!(response.await.unwrap_err().reason(), Some(Reason::CANCEL));
        assert_eq!(echo(&sender, text(10, 3)).await, text(10, 3), "the connection goes on");
    }));
    assert_eq!(seen, ["cancelled: Cancel", "echo 10"]);
}

#[test]
fn a_client_is_told_to_go_away_when_its_requests_are_answered() {
    let ((), seen) = run(with_client(&Options::default(), 65_535, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let request = Request::get("http://a.test/goaway").body(()).unwrap();
        let (response, _stream) = sender.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        let Err(error) = sender.ready().await else { panic!("it has gone away") };
        assert_eq!(error.reason(), Some(Reason::NO_ERROR), "{error}");
    }));
    assert_eq!(seen, ["goaway", "echo 0"]);
}

#[test]
fn heads_and_trailers_arrive_at_a_client() {
    let (trailers, _) = run(with_client(&Options::default(), 65_535, async |sender| {
        let mut sender = sender.ready().await.unwrap();
        let long = "~".repeat(40_000);
        let request = Request::post("http://a.test/echo").header("x-long", &long).body(()).unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.headers()["x-long"], long.as_str());
        let mut body = response.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "abc");
        body.trailers().await.unwrap().unwrap()
    }));
    assert_eq!(trailers["x-sum"], "7");
}

/// A server of the crate that echoes, until its client has gone.
async fn serve(io: DuplexStream, windows: u32) {
    let mut builder = server::Builder::new();
    let builder = builder.initial_window_size(windows).max_concurrent_streams(4);
    let mut connection = builder.handshake::<_, Bytes>(io).await.unwrap();
    let mut answers = tokio::task::JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let Ok((request, mut respond)) = accepted else { break };
        let path = request.uri().path().to_owned();
        if path == "/goaway" {
            connection.graceful_shutdown();
        }
        answers.spawn(async move {
            if path == "/refused" {
                return respond.send_reset(Reason::REFUSED_STREAM);
            }
            let length = request.headers().get("content-length").cloned();
            let method = request.method().clone();
            let body = read(request.into_body()).await.unwrap();
            assert!(method == Method::GET || length.is_none_or(|it| it == body.len().to_string()));
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(body.into(), true).unwrap();
        });
    }
    while answers.join_next().await.is_some() {}
}

/// What our client has got from a server of the crate.
fn got(options: &Options, windows: u32, gets: Vec<Get>) -> Vec<String> {
    run(async {
        let (near, far) = duplex(PIPE_BYTES);
        let ours = Box::pin(ours::get_all(near, options, gets));
        tokio::join!(ours, Box::pin(serve(far, windows))).0
    })
}

#[test]
fn bodies_of_all_sizes_are_echoed_by_a_server() {
    for (options, windows) in [(Options::default(), 65_535), (narrow(), 65_535), (narrow(), 1000)] {
        let lengths = [0, 1, 999, 1000, 1001, 16_384, 16_385, 65_535, 65_536, 300_000];
        let gets = lengths.map(|length| Get { path: "/echo", body: text(length, 5) });
        let expected = lengths.map(|length| format!("200 and {length} bytes"));
        let mut seen = got(&options, windows, gets.into());
        seen.sort_by_key(|event| event.split(' ').nth(2).and_then(|it| it.parse::<usize>().ok()));
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_server_refuses_a_stream() {
    let gets = ["/refused", "/echo"].map(|path| Get { path, body: text(3, 1) });
    let mut seen = got(&Options::default(), 65_535, gets.into());
    seen.sort();
    assert_eq!(seen, ["200 and 3 bytes", "reset: RefusedStream"]);
}

#[test]
fn a_server_that_goes_away_answers_first() {
    let gets = vec![Get { path: "/goaway", body: text(70_000, 1) }];
    let seen = got(&Options::default(), 65_535, gets);
    assert_eq!(seen, ["goaway: NoError", "goaway: NoError", "200 and 70000 bytes"]);
}
