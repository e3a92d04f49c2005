//! Requests that the proxy makes itself: to services that filters ask, and copies of requests.
//!
//! A call is an exchange like any other, whose client's side is memory: clusters, pools, codecs, timeouts,
//! retries and stats are those of forwarded requests, and what fails is answered with the same local
//! replies. It runs in a task of its own on the shard that asks, and ends when its [`Call`] is dropped.
//!
//! It does not know what is asked, or what an answer means (`filters/`).
//!
//! Invariant: memory is bounded on both ways: the exchange pauses while the caller does not take its
//! response, and a caller sees how much of its request waits.

mod channel;
pub(crate) mod compile;
mod end;
pub mod grpc;
pub mod grpc_stream;
pub mod json;
mod serve;

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use self::channel::Channel;
use self::end::End;
use super::given::Given;
use super::route::call::open_target;
use super::route::{Route, VirtualHost};
use super::service::LocalService;
use crate::http::{BodyLength, EndStream, RequestHead, ResponseHead};
use crate::shard::Shard;
use crate::upstream::local::LocalCluster;

/// Where calls go, with which timeout and which retries.
#[derive(Debug)]
pub struct Target {
    pub(super) route: Route,
    pub(super) virtual_host: VirtualHost,
}

/// A call in progress. It is cancelled when this is dropped.
#[derive(Debug)]
pub struct Call {
    channel: Rc<Channel>,
}

/// The whole response to a call.
#[derive(Debug)]
pub struct Response {
    /// Its head. That of a local reply, if there was no response from a host.
    pub head: Box<ResponseHead>,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers, as field lines.
    pub trailers: Vec<u8>,
}

/// Why a call has no whole response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallFailed {
    /// The response was cut off.
    Reset,
    /// Its body is longer than the caller takes.
    TooLarge,
}

/// The body of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Body<'a> {
    /// There is none.
    None,
    /// It is here.
    Whole(&'a [u8]),
    /// The caller sends it later, and says when it ends.
    Later(BodyLength),
}

impl Target {
    /// That of this route.
    pub(super) const fn new(route: Route, virtual_host: VirtualHost) -> Self {
        Self { route, virtual_host }
    }
}

impl Call {
    /// Sends a request to `target` from the shard of `given`, on behalf of that client. `fill` fills in the
    /// head of the request, which is empty. At most `most` bytes of the response's body are kept.
    ///
    /// `None`: the connection manager of `given` makes no calls.
    pub fn start(
        given: &Given,
        target: &Arc<Target>,
        fill: impl FnOnce(&mut RequestHead),
        body: Body<'_>,
        most: usize,
    ) -> Option<Self> {
        Some(Self::begin(given.for_call()?, target, fill, body, most))
    }

    /// The same on behalf of no client. `calls` is what calls are served with.
    pub fn of_proxy(
        calls: &Rc<LocalService>,
        shard: &'static Shard,
        target: &Arc<Target>,
        fill: impl FnOnce(&mut RequestHead),
        body: Body<'_>,
        most: usize,
    ) -> Self {
        Self::begin(Given::of_proxy(calls, shard), target, fill, body, most)
    }

    /// The same to a cluster that is not known before. `timeout`: none is unlimited.
    pub(super) fn to_cluster(
        given: &Given,
        cluster: Rc<LocalCluster>,
        timeout: Option<Duration>,
        fill: impl FnOnce(&mut RequestHead),
        body: &[u8],
        most: usize,
    ) -> Option<Self> {
        let given = given.for_call()?;
        let (route, virtual_host) = open_target(timeout);
        let target = Arc::new(Target { route, virtual_host });
        let channel = Rc::new(Channel::new(given.shard, most));
        channel.send(body);
        channel.end_request(Vec::new());
        let length =
            if body.is_empty() { BodyLength::None } else { BodyLength::Length(body.len() as u64) };
        Self::spawn(&channel, given, (&target, Some(cluster)), fill, length, true);
        Some(Self { channel })
    }

    fn begin(
        given: Given,
        target: &Arc<Target>,
        fill: impl FnOnce(&mut RequestHead),
        body: Body<'_>,
        most: usize,
    ) -> Self {
        let channel = Rc::new(Channel::new(given.shard, most));
        let length = match body {
            Body::None => BodyLength::None,
            Body::Whole(bytes) => {
                channel.send(bytes);
                BodyLength::Length(bytes.len() as u64)
            }
            Body::Later(length) => length,
        };
        let is_whole = !matches!(body, Body::Later(_));
        if is_whole {
            channel.end_request(Vec::new());
        }
        Self::spawn(&channel, given, (target, None), fill, length, is_whole);
        Self { channel }
    }

    /// Sends a request to `cluster`; its response is discarded. `given` is what mirrors are given. The rest
    /// is as for [`Self::start`].
    pub(super) fn mirror(
        given: Given,
        target: &Arc<Target>,
        cluster: Rc<LocalCluster>,
        fill: impl FnOnce(&mut RequestHead),
        length: BodyLength,
    ) -> Self {
        let channel = Rc::new(Channel::new(given.shard, 0));
        channel.discard_response();
        let is_whole = EndStream::with(length) == EndStream::Yes;
        Self::spawn(&channel, given, (target, Some(cluster)), fill, length, is_whole);
        Self { channel }
    }

    /// Runs the exchange in a task. With `is_whole` all of the request is here.
    fn spawn(
        channel: &Rc<Channel>,
        given: Given,
        (target, cluster): (&Arc<Target>, Option<Rc<LocalCluster>>),
        fill: impl FnOnce(&mut RequestHead),
        length: BodyLength,
        is_whole: bool,
    ) {
        let mut heads = given.service.stream_heads.take();
        heads.began = given.shard.clock.now();
        fill(&mut heads.request);
        let shard = given.shard;
        let received = is_whole.then_some(heads.began);
        let (theirs, target) = (Rc::clone(channel), Arc::clone(target));
        shard.spawn_pooled(move || async move {
            let client = || End::new(&theirs, length);
            let to = (&*target, cluster);
            serve::serve(client, &given, &mut heads, length, received, to).await;
            given.service.stream_heads.give(heads);
        });
    }

    /// Sends a part of the request's body.
    pub fn send(&self, data: &[u8]) {
        self.channel.send(data);
    }

    /// Bytes of the request's body that wait to be sent.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.channel.unsent()
    }

    /// Bytes of all bodies of calls of this shard that wait to be sent.
    #[must_use]
    pub fn unsent_on_shard(&self) -> usize {
        self.channel.unsent_on_shard()
    }

    /// Ends the request, with these trailers: field lines, or nothing.
    pub fn end(&self, trailers: Vec<u8>) {
        self.channel.end_request(trailers);
    }

    /// Ready when there is something of the response to take, or it has ended.
    pub fn poll_received(&self, cx: &Context<'_>) -> Poll<()> {
        self.channel.poll_received(cx)
    }

    /// Takes what has come of the response's body since it was last called.
    #[must_use]
    pub fn take_received(&self) -> Vec<u8> {
        self.channel.take_received()
    }

    /// The status of the response, once its head is here.
    #[must_use]
    pub fn response_status(&self) -> Option<u16> {
        self.channel.response_status()
    }

    /// Whether the response has ended, or there will be none.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.channel.has_ended()
    }

    /// Lets the call run to its end without its caller; the response is discarded.
    pub fn detach(self) {
        self.channel.leave();
    }

    /// Ready when the response is here, or there will be none.
    pub fn poll_done(&self, cx: &Context<'_>) -> Poll<()> {
        self.channel.poll_done(cx)
    }

    /// Takes the whole response. To be called once, when the call is done.
    ///
    /// # Errors
    /// When there is none.
    pub fn take_whole(&self) -> Result<Response, CallFailed> {
        self.channel.take_whole()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.channel.cancel();
    }
}
