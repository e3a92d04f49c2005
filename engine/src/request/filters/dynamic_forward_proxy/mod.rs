//! `dynamic_forward_proxy`: waits until the host that a request names is resolved, for routes to clusters that go
//! by that.

pub(super) mod compile;

use std::sync::Arc;
use std::task::{self, Poll};

use super::{Context, Flow, RouteConfig};
use crate::filter_state::{Kind, Object, UPSTREAM_ADDRESS};
use crate::flags::Flag;
use crate::request::forward_name::{EMPTY_HOST, OVERFLOW, failure};
use crate::request::reply::LocalReply;
use crate::upstream::discovery::{Discovery, DynamicForwardProxy as ToCluster};
use crate::upstream::dns_cache::{DnsCache, LocalCaches, Lookup, Resolved, Unresolved, Wait};

/// The filter.
#[derive(Debug)]
pub struct DynamicForwardProxy {
    cache: Arc<DnsCache>,
    /// Whether the address is set as filter state.
    saves_address: bool,
    /// Whether filter state may name the host.
    uses_state: bool,
}

/// What a level of a route says: the host that takes the place of the request's.
#[derive(Debug)]
pub enum HostRewrite {
    /// None.
    Kept,
    /// This one.
    To(Box<[u8]>),
    /// The first value of this header, in lower case, if there is one.
    ByHeader(Box<[u8]>),
}

/// What the filter remembers of a request.
#[derive(Debug, Default)]
pub enum State {
    /// Nothing is known.
    #[default]
    New,
    /// The host is being resolved.
    Waiting(Wait),
}

impl State {
    /// Ready when the host is resolved.
    pub(super) fn poll_answer(&self, cx: &task::Context<'_>) -> Poll<()> {
        match self {
            Self::New => Poll::Ready(()),
            Self::Waiting(wait) => wait.poll(cx).map(drop),
        }
    }
}

impl DynamicForwardProxy {
    pub(super) fn request_head(&self, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        if let State::Waiting(wait) = std::mem::take(state) {
            let answer = wait.answer();
            return answer.map_or(Flow::Continue, |resolved| self.go_on(&resolved, cx));
        }
        let Some(cluster) = cx.core.upstream.cluster.clone() else { return Flow::Continue };
        let Discovery::DynamicForwardProxy(proxy) = &cluster.cluster().discovery else {
            return Flow::Continue;
        };
        let rewrite = cx.route_config(|config| match config {
            RouteConfig::DynamicForwardProxy(rewrite) => Some(rewrite),
            _ => None,
        });
        if let Some(rewrite) = rewrite {
            rewrite.apply(cx);
        }
        self.look_up(proxy, state, cx)
    }

    fn look_up(&self, proxy: &ToCluster, state: &mut State, cx: &mut Context<'_, '_>) -> Flow {
        let shard = cx.core.shard;
        if !self.cache.may_wait(shard.id) {
            const BODY: &str = "Dynamic forward proxy pending request overflow";
            return refuse(503, BODY, "dynamic_forward_proxy_pending_request_overflow");
        }
        let Some(name) = cx.core.forward_name(proxy, self.uses_state) else {
            return refuse(400, "Empty host header", EMPTY_HOST);
        };
        let cache = LocalCaches::of(shard).get(&self.cache, shard.id);
        match cache.look_up(&name, shard.clock.now()) {
            Lookup::Known(resolved) => self.go_on(&resolved, cx),
            Lookup::Overflow => refuse(503, "DNS cache overflow", OVERFLOW),
            Lookup::Wait(wait) => {
                *state = State::Waiting(wait);
                Flow::Wait(super::Wait::Call)
            }
        }
    }

    /// The host is known.
    fn go_on(&self, resolved: &Resolved, cx: &mut Context<'_, '_>) -> Flow {
        match &resolved.address {
            Ok(address) => {
                if self.saves_address {
                    let object = Object { key: UPSTREAM_ADDRESS.into(), kind: Kind::Text };
                    cx.core.note().state.set(&object, &address.to_string());
                }
                Flow::Continue
            }
            Err(Unresolved::NoRoom) => refuse(503, "DNS cache overflow", OVERFLOW),
            Err(Unresolved::Failed(why)) => {
                let reply = LocalReply::new(503, "DNS resolution failure");
                let reply = reply.with_details(Some(Flag::DnsResolutionFailed), failure(why));
                Flow::Reply(Box::new(reply))
            }
        }
    }
}

impl HostRewrite {
    fn apply(&self, cx: &mut Context<'_, '_>) {
        let request = &mut cx.core.heads.request;
        match self {
            Self::Kept => {}
            Self::To(host) => request.set_authority(host),
            Self::ByHeader(name) => {
                if let Some(host) = request.fields.find(name).map(<[u8]>::to_vec) {
                    request.set_authority(&host);
                }
            }
        }
    }
}

fn refuse(status: u16, body: &str, details: &'static str) -> Flow {
    Flow::Reply(Box::new(LocalReply::new(status, body).with_details(None, details)))
}
