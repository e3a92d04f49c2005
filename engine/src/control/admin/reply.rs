//! The response of an endpoint: sent in pieces, chunked, never buffered as a whole.

use std::convert::Infallible;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderValue, SERVER,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use tokio::sync::oneshot;

use crate::control::admin::{Order, Reloaded};

/// The answer of an endpoint.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    content_type: &'static str,
    source: Source,
    pieces: Box<dyn Iterator<Item = String> + Send>,
    /// What to do once it is sent.
    pub(super) then: Option<Order>,
    /// What is awaited: the answer follows from it.
    pub(super) awaits: Option<oneshot::Receiver<Reloaded>>,
}

/// Who answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Source {
    /// An endpoint.
    Endpoint,
    /// The connection, before any endpoint; the body has this many bytes.
    Connection(usize),
}

impl Reply {
    /// A response to a request that reaches no endpoint.
    pub(super) fn refused(status: StatusCode, why: &'static str) -> Self {
        let source = Source::Connection(why.len());
        Self { source, ..Self::text(why).with_status(status).with_content_type("text/plain") }
    }

    /// A text.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::pieces(iter::once(text.into()))
    }

    /// `OK`
    pub(super) fn ok() -> Self {
        Self::text("OK\n")
    }

    /// A text in pieces, each made when it is sent.
    pub(super) fn pieces(pieces: impl Iterator<Item = String> + Send + 'static) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: "text/plain; charset=UTF-8",
            source: Source::Endpoint,
            pieces: Box::new(pieces),
            then: None,
            awaits: None,
        }
    }

    /// An answer that is known once the configuration has been read again.
    pub(super) fn later(reloaded: oneshot::Receiver<Reloaded>) -> Self {
        Self { awaits: Some(reloaded), ..Self::text("") }
    }

    /// A bad request, and why it is one.
    pub(super) fn bad_request(why: impl Into<String>) -> Self {
        Self::text(why).with_status(StatusCode::BAD_REQUEST)
    }

    pub(super) fn with_status(self, status: StatusCode) -> Self {
        Self { status, ..self }
    }

    /// Carries out an order once the reply is sent.
    pub(super) fn then(self, order: Order) -> Self {
        Self { then: Some(order), ..self }
    }

    pub(super) fn with_content_type(self, content_type: &'static str) -> Self {
        Self { content_type, ..self }
    }

    /// Envoy's headers in Envoy's order. `progress` lives as long as the body is being sent.
    pub(super) fn into_response<T: Progress>(self, progress: T) -> Response<Pieces<T>> {
        let mut response = Response::new(Pieces { pieces: self.pieces, yielded: false, progress });
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        if self.source != Source::Connection(0) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        match self.source {
            Source::Endpoint => {
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, max-age=0"));
                headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            }
            Source::Connection(bytes) => {
                headers.insert(CONTENT_LENGTH, bytes.into());
                if self.status != StatusCode::NOT_FOUND {
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
            }
        }
        let date = httpdate::fmt_http_date(SystemTime::now());
        if let Ok(date) = HeaderValue::try_from(date) {
            headers.insert(DATE, date);
        }
        headers.insert(SERVER, HeaderValue::from_static("envoy"));
        response
    }
}

/// A body of unknown length. It yields between two pieces, so that the control plane does its other work.
pub(super) struct Pieces<T> {
    pieces: Box<dyn Iterator<Item = String> + Send>,
    yielded: bool,
    progress: T,
}

/// Follows a body while it is sent.
pub(super) trait Progress: Unpin {
    /// So many bytes more.
    fn sent(&mut self, bytes: usize);

    /// All of it.
    fn complete(&mut self);
}

impl<T> Pieces<T> {
    pub(super) const fn progress(&mut self) -> &mut T {
        &mut self.progress
    }
}

impl<T: Progress> Body for Pieces<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.yielded = !self.yielded;
        if self.yielded {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        // A chunk without bytes would end the body.
        let piece = self.pieces.find(|piece| !piece.is_empty());
        match &piece {
            Some(piece) => self.progress.sent(piece.len()),
            None => self.progress.complete(),
        }
        Poll::Ready(piece.map(|piece| Ok(Frame::data(piece.into()))))
    }
}
