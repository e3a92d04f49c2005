//! One connection to the admin endpoint, and the endpoint's own stats.

use std::borrow::Cow;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;

use crate::control::admin::log::{Ends, Entry};
use crate::control::admin::reply::{Pieces, Progress, Reply};
use crate::control::admin::{Admin, Order, reload};
use crate::http::Method;
use crate::request::manager::path::{Normalized, normalize};
use crate::request::manager::{EscapedSlashes, PathRules};
use crate::stats::HttpStats;

/// Answers requests until the connection ends.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    admin: Arc<Admin>,
    stream: S,
    ends: Ends,
) {
    let open = Open::new(Arc::clone(&admin));
    let io = TokioIo::new(Counted { stream, end: End::NotSeen, admin: Arc::clone(&admin) });
    let service = service_fn(|request| {
        let admin = Arc::clone(&admin);
        async move { Ok::<_, Infallible>(answer(&admin, &request, ends).await) }
    });
    let mut connection = http1::Builder::new().serve_connection(io, service);
    let ended = (&mut connection).await;
    if let Err(error) = ended
        && error.is_parse()
    {
        open.http().downstream_cx_protocol_error.inc();
        if !admin.settings.access_logs.is_empty() {
            Entry::malformed(ends).write(&admin.settings.access_logs);
        }
    }
    match connection.into_parts().io.into_inner().end {
        End::NotSeen => open.http().downstream_cx_destroy_local.inc(),
        End::Seen => open.http().downstream_cx_destroy_remote.inc(),
    }
}

async fn answer(
    admin: &Arc<Admin>,
    request: &Request<Incoming>,
    ends: Ends,
) -> Response<Pieces<Active>> {
    let mut active = Active::new(Arc::clone(admin));
    if !admin.settings.access_logs.is_empty() {
        active.entry = Some(Box::new(Entry::new(ends, request, admin.settings.own_address)));
    }
    let mut reply = match admit(request) {
        Ok(path) => admin.answer(request.method(), &path, request.uri().query()),
        Err(refusal) => refusal,
    };
    if let Some(reloaded) = reply.awaits.take() {
        reply = reload::reply(reloaded.await.ok());
    }
    active.then = reply.then.take();
    let status = reply.status.as_u16();
    admin.http.control().record_response(status);
    admin.listener_http.control().record_response(status);
    let (head, mut body) = reply.into_response(active).into_parts();
    let active = body.progress();
    if let Some(entry) = &mut active.entry {
        entry.answered(&head);
    }
    if request.method() == hyper::Method::HEAD {
        active.complete();
    }
    Response::from_parts(head, body)
}

/// The path of the request. Envoy's admin endpoint has a connection manager, and refuses what that refuses.
fn admit(request: &Request<Incoming>) -> Result<Cow<'_, str>, Reply> {
    let uri = request.uri();
    if request.version() == Version::HTTP_10 {
        return Err(Reply::refused(StatusCode::UPGRADE_REQUIRED, "Upgrade Required"));
    }
    if Method::of(request.method().as_str().as_bytes()) == Method::Custom {
        return Err(Reply::refused(StatusCode::BAD_REQUEST, "Bad Request"));
    }
    if !request.headers().contains_key(HOST) {
        return Err(Reply::refused(StatusCode::BAD_REQUEST, ""));
    }
    if uri.authority().is_some() || uri.path() == "*" {
        return Err(Reply::refused(StatusCode::NOT_FOUND, ""));
    }
    match normalize(uri.path().as_bytes(), &PATH_RULES) {
        Normalized::Unchanged => Ok(uri.path().into()),
        Normalized::Changed(path) => Ok(String::from_utf8_lossy(&path).into_owned().into()),
        Normalized::Redirect(_) | Normalized::Refused => {
            Err(Reply::refused(StatusCode::BAD_REQUEST, ""))
        }
    }
}

const PATH_RULES: PathRules = PathRules {
    normalize: true,
    merge_slashes: true,
    escaped_slashes: EscapedSlashes::KeepUnchanged,
};

/// A connection that is open.
struct Open {
    admin: Arc<Admin>,
    since: Instant,
}

impl Open {
    fn new(admin: Arc<Admin>) -> Self {
        let (http, listener) = (admin.http.control(), admin.listener.control());
        http.downstream_cx_total.inc();
        http.downstream_cx_active.inc();
        http.downstream_cx_http1_total.inc();
        http.downstream_cx_http1_active.inc();
        listener.downstream_cx_total.inc();
        listener.downstream_cx_active.inc();
        listener.main_thread_downstream_cx_total.inc();
        listener.main_thread_downstream_cx_active.inc();
        Self { admin, since: Instant::now() }
    }

    fn http(&self) -> &HttpStats {
        self.admin.http.control()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let (http, listener) = (self.admin.http.control(), self.admin.listener.control());
        let length = milliseconds(self.since);
        http.downstream_cx_destroy.inc();
        http.downstream_cx_active.dec();
        http.downstream_cx_http1_active.dec();
        http.downstream_cx_length_ms.record(length);
        listener.downstream_cx_destroy.inc();
        listener.downstream_cx_active.dec();
        listener.main_thread_downstream_cx_active.dec();
        listener.downstream_cx_length_ms.record(length);
    }
}

/// A request whose response is being sent.
pub(super) struct Active {
    admin: Arc<Admin>,
    since: Instant,
    then: Option<Order>,
    /// None: there is no access log.
    entry: Option<Box<Entry>>,
    body: BodyState,
}

/// How much of a response is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum BodyState {
    InProgress,
    Complete,
}

impl Active {
    fn new(admin: Arc<Admin>) -> Self {
        let http = admin.http.control();
        http.downstream_rq_total.inc();
        http.downstream_rq_http1_total.inc();
        http.downstream_rq_active.inc();
        Self { admin, since: Instant::now(), then: None, entry: None, body: BodyState::InProgress }
    }
}

impl Progress for Active {
    fn sent(&mut self, bytes: usize) {
        if let Some(entry) = &mut self.entry {
            entry.sent(bytes);
        }
    }

    fn complete(&mut self) {
        self.body = BodyState::Complete;
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(mut entry) = self.entry.take() {
            if self.body == BodyState::InProgress {
                entry.cut_off();
            }
            entry.write(&self.admin.settings.access_logs);
        }
        let http = self.admin.http.control();
        http.downstream_rq_active.dec();
        http.downstream_rq_time.record(milliseconds(self.since));
        if let Some(order) = self.then.take() {
            let server = Arc::clone(&self.admin.server);
            match Handle::try_current() {
                // The end of the body is in the connection's buffer now and is written before the
                // connection's task yields; this task runs after it.
                Ok(runtime) => drop(runtime.spawn(async move { server.order(order) })),
                Err(_) => server.order(order),
            }
        }
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A stream whose bytes are counted.
struct Counted<S> {
    stream: S,
    end: End,
    admin: Arc<Admin>,
}

/// Whether the client has closed its side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    NotSeen,
    Seen,
}

impl<S> Counted<S> {
    fn http(&self) -> &HttpStats {
        self.admin.http.control()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        let received = buffer.filled().len() - before;
        self.http().downstream_cx_rx_bytes_total.add(received as u64);
        if received == 0 && read.is_ready() {
            self.end = End::Seen;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count_written(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count_written(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> Counted<S> {
    fn count_written(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.http().downstream_cx_tx_bytes_total.add(*bytes as u64);
        }
    }
}
