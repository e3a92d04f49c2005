//! The origin's paths.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::FromRequest;
use axum::extract::{ConnectInfo, DefaultBodyLimit, OriginalUri, Path};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, any, get, on};
use hyper::body::Frame;
use serde_json::json;

use super::echo::Request;
use super::json::{OneLine, one_line, pretty};

/// The limit of a request body, which is buffered to be echoed.
const REQUEST_BODY_BYTES_MAX: usize = 16 << 20;
const DELAY_MAX: Duration = Duration::from_secs(10);
const RANDOM_BYTES_MAX: usize = 100 * 1024;
const STREAM_LINES_MAX: u64 = 100;

const WITH_BODY: [&str; 8] = ["url", "args", "form", "data", "origin", "headers", "files", "json"];

pub(super) fn router() -> Router {
    Router::new()
        .route("/", get(landing))
        .route("/anything", every_method().fallback(not_allowed))
        .route("/anything/{*rest}", every_method().fallback(not_allowed))
        .route("/bytes/{n}", get(bytes).fallback(not_allowed))
        .route("/delay/{seconds}", any(delay))
        .route("/delete", on(MethodFilter::DELETE, with_body).fallback(not_allowed))
        .route("/get", get(view_get).fallback(not_allowed))
        .route("/headers", get(headers).fallback(not_allowed))
        .route("/ip", get(ip).fallback(not_allowed))
        .route("/patch", on(MethodFilter::PATCH, with_body).fallback(not_allowed))
        .route("/post", on(MethodFilter::POST, with_body).fallback(not_allowed))
        .route("/put", on(MethodFilter::PUT, with_body).fallback(not_allowed))
        .route("/status/{codes}", any(status))
        .route("/stream/{n}", get(stream).fallback(not_allowed))
        .route("/user-agent", get(user_agent).fallback(not_allowed))
        .route("/uuid", get(uuid).fallback(not_allowed))
        .fallback(not_found)
        .layer(middleware::map_response(with_cors))
        .layer(DefaultBodyLimit::max(REQUEST_BODY_BYTES_MAX))
}

fn every_method() -> MethodRouter {
    let methods = MethodFilter::GET
        .or(MethodFilter::POST)
        .or(MethodFilter::PUT)
        .or(MethodFilter::DELETE)
        .or(MethodFilter::PATCH)
        .or(MethodFilter::TRACE);
    on(methods, anything)
}

async fn landing() -> &'static str {
    "Corvoy's built-in origin. Try /headers, /get, /anything, /status/500, /delay/1.\n"
}

async fn headers(request: Request) -> Response {
    json_reply(&request.describe(&["headers"]))
}

async fn view_get(request: Request) -> Response {
    json_reply(&request.describe(&["url", "args", "headers", "origin"]))
}

async fn with_body(request: Request) -> Response {
    json_reply(&request.describe(&WITH_BODY))
}

async fn anything(request: Request) -> Response {
    let keys: Vec<&str> = WITH_BODY.into_iter().chain(["method"]).collect();
    json_reply(&request.describe(&keys))
}

async fn ip(request: Request) -> Response {
    json_reply(&json!({ "origin": request.origin() }))
}

async fn user_agent(request: Request) -> Response {
    let agent = request.shown_headers().into_iter().find(|(name, _)| name == "User-Agent");
    json_reply(&json!({ "user-agent": agent.map(|(_, value)| value) }))
}

async fn uuid() -> Response {
    json_reply(&json!({ "uuid": random_uuid() }))
}

async fn delay(Path(seconds): Path<String>, request: Request) -> Response {
    let Ok(seconds) = seconds.parse::<f64>() else { return failed() };
    let Ok(delay) = Duration::try_from_secs_f64(seconds) else { return failed() };
    tokio::time::sleep(delay.min(DELAY_MAX)).await;
    json_reply(&request.describe(&["url", "args", "form", "data", "origin", "headers", "files"]))
}

async fn bytes(Path(n): Path<String>, request: Request) -> Response {
    let Ok(n) = n.parse::<usize>() else { return not_found().await };
    let seed = request.arg("seed").and_then(|seed| seed.parse().ok());
    let mut random = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
    let mut body = vec![0; n.min(RANDOM_BYTES_MAX)];
    random.fill(&mut body);
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

/// N lines of JSON, one chunk per line.
async fn stream(Path(n): Path<String>, request: Request) -> Response {
    let Ok(n) = n.parse::<u64>() else { return not_found().await };
    let (url, args) = (request.url().into(), request.args());
    let (headers, origin) = (request.shown_headers(), request.origin().into());
    let lines = (0..n.min(STREAM_LINES_MAX)).map(move |id| {
        let mut line = one_line([
            ("url", OneLine::Value(&url)),
            ("args", OneLine::Value(&args)),
            ("headers", OneLine::Strings(&headers)),
            ("origin", OneLine::Value(&origin)),
            ("id", OneLine::Number(id)),
        ]);
        line.push('\n');
        Bytes::from(line)
    });
    let body = Body::new(Lines(lines));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// `/status/500`, or one of several at random: `/status/200,500` or `/status/200:0.9,500:0.1`.
async fn status(method: Method, Path(codes): Path<String>) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::OK.into_response();
    }
    let choices: Option<Vec<(StatusCode, f64)>> = codes
        .split(',')
        .map(|choice| {
            let (code, weight) = choice.split_once(':').unwrap_or((choice, "1"));
            let code = code.parse().ok().filter(|code| (200..1000).contains(code))?;
            Some((StatusCode::from_u16(code).ok()?, weight.parse().ok()?))
        })
        .collect();
    let Some(choices) = choices else {
        return (StatusCode::BAD_REQUEST, "Invalid status code").into_response();
    };
    let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
    let mut point = fastrand::f64() * total;
    let chosen = choices.iter().find(|(_, weight)| {
        point -= weight;
        point <= 0.0
    });
    status_reply(chosen.map_or(StatusCode::OK, |(code, _)| *code))
}

/// The extra headers that httpbin sends with some codes.
fn status_reply(code: StatusCode) -> Response {
    let html = (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let fixed = |name: HeaderName, value| (name, HeaderValue::from_static(value));
    let extra = match code.as_u16() {
        301 | 302 | 303 | 305 | 307 => Some(fixed(header::LOCATION, "/redirect/1")),
        401 => Some(fixed(header::WWW_AUTHENTICATE, "Basic realm=\"Fake Realm\"")),
        304 | 407 => None,
        _ => Some(html),
    };
    (code, extra.into_iter().collect::<HeaderMap>(), Body::empty()).into_response()
}

async fn not_found() -> Response {
    let text = "The requested URL was not found on the server. If you entered the URL manually \
                please check your spelling and try again.";
    page(StatusCode::NOT_FOUND, "Not Found", text)
}

async fn not_allowed() -> Response {
    let text = "The method is not allowed for the requested URL.";
    page(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", text)
}

fn failed() -> Response {
    let text = "The server encountered an internal error and was unable to complete your request. \
                Either the server is overloaded or there is an error in the application.";
    page(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error", text)
}

fn page(code: StatusCode, title: &str, text: &str) -> Response {
    let html = format!(
        "<!doctype html>\n<html lang=en>\n<title>{} {title}</title>\n<h1>{title}</h1>\n<p>{text}</p>\n",
        code.as_u16()
    );
    (code, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response()
}

fn json_reply(value: &serde_json::Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], pretty(value)).into_response()
}

async fn with_cors(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::SERVER, HeaderValue::from_static("corvoy-origin"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    let allowed = HeaderValue::from_static("true");
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, allowed);
    response
}

fn random_uuid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let mut parts = Vec::with_capacity(5);
    let mut rest = hex.as_str();
    for length in [8, 4, 4, 4] {
        let (part, after) = rest.split_at(length);
        parts.push(part);
        rest = after;
    }
    parts.push(rest);
    parts.join("-")
}

impl<S: Send + Sync> FromRequest<S> for Request {
    type Rejection = Response;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Response> {
        let extensions = request.extensions();
        let remote = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        let uri = extensions.get::<OriginalUri>().map(|uri| uri.0.clone());
        let uri = uri.unwrap_or_else(|| request.uri().clone());
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let remote = remote.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        let body =
            Bytes::from_request(request, state).await.map_err(IntoResponse::into_response)?;
        Ok(Self { method, uri, headers, remote, body })
    }
}

/// A body with one frame, and so one chunk, per line.
struct Lines<I>(I);

impl<I: Iterator<Item = Bytes> + Unpin> hyper::body::Body for Lines<I> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.next().map(|line| Ok(Frame::data(line))))
    }
}
