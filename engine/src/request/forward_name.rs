//! `dynamic_forward_proxy`: the host that a request names, and the wait until it is resolved.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use super::attempt::Failed;
use super::end::ClientEnd;
use super::forward::Forwarder;
use super::select_host::Named;
use super::wait::Interest;
use super::{Core, Exchange};
use crate::filter_state::{DYNAMIC_HOST, DYNAMIC_PORT};
use crate::upstream::destination::Destination;
use crate::upstream::discovery::{Discovery, DynamicForwardProxy};
use crate::upstream::dns_cache::{self, LocalCaches, Lookup, Resolved, Unresolved, Wait};

/// The details of a request whose host cannot be resolved.
pub(super) fn failure(why: &str) -> Cow<'static, str> {
    Cow::Owned(format!("dns_resolution_failure{{{why}}}"))
}

/// The details of one for whose host the cache has no room.
pub(super) const OVERFLOW: &str = "dns_cache_overflow";

/// The details of one that names no host.
pub(super) const EMPTY_HOST: &str = "empty_host_header";

impl Core<'_> {
    /// The host that the request names, with its port. Objects of the filter state that name it count only if
    /// `uses_state`.
    pub(super) fn forward_name(
        &self,
        proxy: &DynamicForwardProxy,
        uses_state: bool,
    ) -> Option<Box<str>> {
        let state = self.noted.as_ref().filter(|_| uses_state).map(|noted| &noted.state);
        let host = state.and_then(|state| state.text(DYNAMIC_HOST)).map(Cow::Borrowed);
        let authority = || self.heads.request.authority().unwrap_or_default();
        let host = host.unwrap_or_else(|| String::from_utf8_lossy(authority()));
        let port = state.and_then(|state| state.text(DYNAMIC_PORT)?.parse().ok());
        let port = port.filter(|port| *port > 0).unwrap_or(proxy.default_port);
        dns_cache::name(&host, port)
    }
}

impl Forwarder<'_> {
    /// Waits until the host that the request names is resolved, if its cluster goes by names.
    #[cold]
    pub(super) async fn resolve<C: ClientEnd>(
        &mut self,
        exchange: &mut Exchange<'_, C>,
    ) -> Result<(), Failed> {
        let Discovery::DynamicForwardProxy(proxy) = &self.cluster.cluster().discovery else {
            return Ok(());
        };
        let Some(Named { destination: Destination::Name(name), unresolved }) =
            self.named.as_deref_mut()
        else {
            return Ok(());
        };
        if name.is_empty() {
            self.cluster.stats().upstream_cx_none_healthy.inc();
            *unresolved = Some(EMPTY_HOST.into());
            return Err(Failed::NoHealthyHost);
        }
        let shard = exchange.core.shard;
        let cache = LocalCaches::of(shard).get(&proxy.cache, shard.id);
        let resolved = match cache.look_up(name, shard.clock.now()) {
            Lookup::Known(resolved) => resolved,
            Lookup::Overflow => {
                *unresolved = Some(OVERFLOW.into());
                return Err(Failed::NoHealthyHost);
            }
            Lookup::Wait(wait) => exchange.wait_for_name(&wait).await?,
        };
        let Err(why) = &resolved.address else { return Ok(()) };
        *unresolved = Some(match why {
            Unresolved::Failed(why) => failure(why),
            Unresolved::NoRoom => OVERFLOW.into(),
        });
        Err(Failed::NoHealthyHost)
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Waits for an answer. Meanwhile the client may disconnect, and a timer may end the request.
    async fn wait_for_name(&mut self, answer: &Wait) -> Result<Arc<Resolved>, Failed> {
        self.core.arm();
        loop {
            let want = Interest { client_in: self.client.listens_ahead(), ..Interest::default() };
            self.begin_wait(want)?;
            let waited = {
                let mut others = pin!(self.wait(None, want));
                poll_fn(|cx| match answer.poll(cx) {
                    Poll::Ready(resolved) => Poll::Ready(Ok(resolved)),
                    Poll::Pending => others.as_mut().poll(cx).map(Err),
                })
                .await
            };
            let ready = match waited {
                Ok(resolved) => return Ok(resolved),
                Err(ready) => ready,
            };
            if ready.client_gone {
                return Err(self.client_gone().into());
            }
            if ready.timed_out {
                self.check_deadlines()?;
            }
            if ready.io.client_in {
                self.client.receive_ahead().map_err(|_| Failed::ClientGone)?;
            }
        }
    }
}
