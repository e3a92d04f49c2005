//! `tunneling_config`: the bytes of a client pass through an HTTP proxy, as a CONNECT or a POST.
//!
//! Only the request and the head of its response are handled here; `relay.rs` passes on what follows.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use super::Session;
use super::connect::{Active, Failed, Kind, Upstream};
use crate::address::Ends;
use crate::flags::Flag;
use crate::format::{Formatter, Inputs, Unset};
use crate::http::{BodyLength, EndStream, Method, RequestHead, Scheme, Version};
use crate::http1::{encode, framing};
use crate::limits;
use crate::metadata::ListenerInfo;
use crate::pipe::heads::Heads;
use crate::pipe::lane::Lane;
use crate::pipe::outlet::{Framing, Outlet};
use crate::request::route::mutation::{HeaderMutations, MutationLevel, Scratch};
use crate::shard::Shard;
use crate::tcp::filters::Subject;
use crate::tcp::filters::set_filter_state::Info;
use crate::upstream::balance::LbContext;
use crate::upstream::circuit_breaker::RoutingPriority;
use crate::upstream::connection::ClosedBy;
use crate::upstream::error::Error;
use crate::upstream::local::LocalCluster;
use crate::upstream::origin::{HeadReceived, HeadTaken, Origin};
use crate::upstream::pool::{IdleCheck, Pool};
use crate::upstream::pool_key::Speaks;
use crate::upstream::transport_socket::Announced;

/// How a connection is tunneled.
#[derive(Debug)]
pub struct Tunneling {
    /// The authority of the request.
    pub hostname: Formatter,
    /// The method.
    pub method: TunnelMethod,
    /// Headers to add.
    pub headers: HeaderMutations,
    /// The listener and the filter chain.
    pub info: Arc<ListenerInfo>,
}

/// The method of the request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TunnelMethod {
    /// Both directions are bytes after the head.
    Connect,
    /// To this path. Both directions are bodies, without a length that is announced.
    Post(Box<[u8]>),
}

impl Tunneling {
    /// A tunnel to `hostname` with these headers.
    #[must_use]
    pub fn new(
        hostname: Formatter,
        method: TunnelMethod,
        headers: MutationLevel,
        info: Arc<ListenerInfo>,
    ) -> Self {
        Self { hostname, method, headers: HeaderMutations::new([Arc::new(headers)]), info }
    }

    /// The head of the request for a connection; `None` if it has no valid authority.
    fn request(&self, subject: &Subject, cluster: &str) -> Option<RequestHead> {
        let info = Info { subject, cluster: Some(cluster), listener: &self.info };
        let mut authority = Vec::new();
        self.hostname.format(&Inputs::new(&info), Unset::Dash, &mut authority);
        if !is_authority(&authority) {
            return None;
        }
        let mut head = RequestHead::default();
        if let TunnelMethod::Post(path) = &self.method {
            head.method = Method::Post;
            head.set_target(path);
        } else {
            head.method = Method::Connect;
        }
        head.set_authority(&authority);
        self.headers.apply_to_own_request(&mut head, &info, &mut Scratch::default());
        Some(head)
    }

    const fn kind(&self) -> Kind {
        match self.method {
            TunnelMethod::Connect => Kind::Connect,
            TunnelMethod::Post(_) => Kind::Post,
        }
    }
}

/// Whether the text can be sent as an authority. It may hold a name that the client has chosen: no byte of
/// it may end the target or the line.
fn is_authority(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_graphic)
}

/// Why a host has not opened a tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NotOpened {
    /// Its response, of this status, is not 2xx or has no body that could carry bytes.
    Refused(u16),
    /// It has closed the connection without a response.
    Closed,
    /// Its response is not valid HTTP.
    Invalid,
}

impl Session<'_> {
    /// Opens a tunnel through a host of `cluster`; `None` if the host does not agree.
    pub(super) async fn open_tunnel(
        &mut self,
        cluster: &LocalCluster,
        tunneling: &Tunneling,
    ) -> Result<Option<Upstream>, Failed> {
        let subject = &self.client.subject;
        let Some(request) = tunneling.request(subject, &cluster.cluster().name) else {
            self.stats.downstream_cx_no_route.inc();
            return Err(Failed::NoUpstream);
        };
        let client = || Announced {
            ends: Ends { remote: subject.peer, local: subject.local },
            tlvs: subject.listener_facts.as_ref().map_or(&[], |facts| &facts.passed_tlvs),
        };
        let options = subject.state.options.as_ref();
        let Some(pool) = cluster.pick(
            &LbContext::default(),
            RoutingPriority::Default,
            Version::Http11,
            options,
            client,
        ) else {
            return Err(self.no_healthy_host());
        };
        self.client.record.host(&pool);
        let mut origin = match self.lease(&pool).await? {
            Ok(origin) => origin,
            Err(error) => return Ok(self.failed_attempt(error)),
        };
        let Some(active) = Active::within_limit(cluster, &pool) else {
            origin.give_back();
            return Ok(None);
        };
        let shard = self.client.subject.shard;
        let kind = tunneling.kind();
        let mut heads = Box::new(Heads { request, ..Heads::default() });
        let mut up = begin(&mut origin, kind, &mut heads, shard);
        let mut down = Lane::new(Framing::Identity, Vec::new(), shard.buffers);
        self.start_idle_timer();
        let opened = open(&mut origin, heads, &mut up.outlet, &mut down.outlet, shard);
        let opened = self.wait_for(opened).await?;
        self.idle_at = None;
        let Err(error) = opened else {
            return Ok(Some(Upstream { origin, kind, up, down, _active: active }));
        };
        up.recycle();
        self.client.record.flags.set(Flag::UpstreamConnectionFailure);
        if let NotOpened::Refused(status) = error {
            self.client.record.refused(status);
        }
        if error == NotOpened::Invalid {
            pool.stats().upstream_cx_protocol_error.inc();
        }
        // As in Envoy: the end of a host does not close a CONNECT, which may be half-closed.
        let by_host = error == NotOpened::Closed && kind == Kind::Post;
        origin.close(if by_host { ClosedBy::Host } else { ClosedBy::Us });
        Ok(None)
    }

    /// A connection of the pool, or a stream of one.
    async fn lease(&mut self, pool: &Rc<Pool>) -> Result<Result<Origin, Error>, Failed> {
        if let Some(origin) = pool.lease_ready(IdleCheck::Peek) {
            return Ok(Ok(origin));
        }
        if pool.speaks() == Speaks::Http1 {
            return Ok(self.wait_for(pool.lease()).await?.map(Origin::Http1));
        }
        self.wait_for(pool.lease_shared()).await
    }
}

/// Begins the request; returns the lane that what is left of it, and the client's bytes, take.
fn begin(origin: &mut Origin, kind: Kind, heads: &mut Heads, shard: &'static Shard) -> Lane {
    let is_post = kind == Kind::Post;
    if is_post && origin.tls().is_some() {
        heads.request.scheme = Some(Scheme::Https);
    }
    let (framing, head) = match origin.begin_request(heads, EndStream::No) {
        HeadTaken::Yes => (Framing::Frames, Vec::new()),
        HeadTaken::No => {
            if is_post {
                framing::announce_request(&mut heads.request, BodyLength::Chunked);
            }
            let mut head = shard.buffers.take();
            encode::request(&heads.request, &mut head);
            (Framing::Chunked, head)
        }
    };
    Lane::new(if is_post { framing } else { Framing::Identity }, head, shard.buffers)
}

/// Sends the request and receives the head of a response that opens the tunnel, with what `down` begins
/// with.
async fn open(
    origin: &mut Origin,
    mut heads: Box<Heads>,
    up: &mut Outlet,
    down: &mut Outlet,
    shard: &'static Shard,
) -> Result<(), NotOpened> {
    let length = response(origin, up, &mut heads, shard).await?;
    let head = &heads.response;
    if !(200..300).contains(&head.status) {
        return Err(NotOpened::Refused(head.status));
    }
    if heads.request.method == Method::Connect {
        origin.become_tunnel(head, down);
        return Ok(());
    }
    if matches!(length, BodyLength::None | BodyLength::Length(0)) {
        return Err(NotOpened::Refused(head.status));
    }
    origin.begin_body(length, None, head, down).map_err(|_| NotOpened::Invalid)
}

/// Sends the request and receives the head of the final response.
async fn response(
    origin: &mut Origin,
    up: &mut Outlet,
    heads: &mut Heads,
    shard: &'static Shard,
) -> Result<BodyLength, NotOpened> {
    let limits = origin.pool().cluster().http.head_limits;
    let mut interim = 0;
    loop {
        if up.wants_sink() {
            origin.push(up, false).map_err(|_| NotOpened::Closed)?;
        }
        poll_fn(|cx| {
            let readable = origin.poll_in(cx).is_ready();
            let writable = up.wants_sink() && origin.poll_out(cx).is_ready();
            if readable || writable { shard.poll_proceed(cx) } else { Poll::Pending }
        })
        .await;
        match origin.receive_head(heads) {
            HeadReceived::Bytes => {}
            HeadReceived::Nothing => continue,
            HeadReceived::End if heads.response.received().is_empty() => {
                return Err(NotOpened::Closed);
            }
            HeadReceived::End => return Err(NotOpened::Invalid),
            HeadReceived::Failed(_) => return Err(NotOpened::Closed),
        }
        loop {
            let next = origin.next_head(heads, &limits, false);
            let Some(length) = next.map_err(|_| NotOpened::Invalid)? else { break };
            if heads.response.status >= 200 {
                return Ok(length);
            }
            interim += 1;
            let switches = heads.response.status == 101;
            if switches && heads.response.upgrade().is_some() {
                return Err(NotOpened::Refused(heads.response.status));
            }
            if switches || interim > limits::INTERIM_RESPONSES_MAX {
                return Err(NotOpened::Invalid);
            }
            heads.response.advance();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_client_can_end_the_request_line() {
        assert!(is_authority(b"db.example:5432"));
        for text in ["", "a b:1", "a\r\nx: y:1", "a\0:1", "ä:1"] {
            assert!(!is_authority(text.as_bytes()), "{text:?}");
        }
    }
}
