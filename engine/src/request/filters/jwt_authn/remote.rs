//! Keys that a server has, as one shard knows them.
//!
//! Calls belong to a shard, and so do the keys that they bring: a shard fetches for itself, and no request
//! touches what another shard writes. Requests that need keys which are being fetched wait for that one fetch.
//!
//! Invariant: a fetch that has begun ends, and wakes all who wait for it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::JwtAuthnStats;
use super::keys::Jwks;
use crate::http::{FieldName, Method, RequestHead, Scheme};
use crate::limits;
use crate::request::callout::{Body, Call, Response, Target};
use crate::request::service::LocalService;
use crate::shard::Shard;
use crate::shard::clock::{Millis, millis};
use crate::stats::Scope;

/// Where keys are fetched from, and when.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) target: Arc<Target>,
    pub(super) scheme: Scheme,
    pub(super) authority: Box<[u8]>,
    pub(super) path: Box<[u8]>,
    pub(super) cache_duration: Duration,
    /// Whether they are fetched before they are needed, and again before they expire.
    pub(super) ahead: Option<Ahead>,
}

/// `async_fetch`
#[derive(Clone, Copy, Debug)]
pub(super) struct Ahead {
    /// How long after a failure they are fetched again.
    pub(super) after_failure: Duration,
}

/// As in Envoy, keys are fetched again so long before they expire.
const BEFORE_EXPIRY: Duration = Duration::from_secs(5);

/// The keys of a source on one shard.
#[derive(Debug)]
pub(super) struct Remote {
    source: Arc<Source>,
    calls: Rc<LocalService>,
    shard: &'static Shard,
    stats: Arc<Scope<JwtAuthnStats>>,
    /// The last ones that were fetched.
    keys: RefCell<Option<Rc<Jwks>>>,
    /// When they are no longer used.
    expire: Cell<Millis>,
    /// How often they were replaced.
    version: Cell<u64>,
    fetching: Cell<bool>,
    /// How many fetches have ended.
    ended: Cell<u64>,
    /// Whether the last one brought keys.
    succeeded: Cell<bool>,
    waiting: RefCell<Slab<Waker>>,
}

impl Remote {
    /// Those of `source`. With [`Source::ahead`] the first fetch begins at once.
    pub(super) fn new(
        source: &Arc<Source>,
        calls: &Rc<LocalService>,
        shard: &'static Shard,
        stats: &Arc<Scope<JwtAuthnStats>>,
    ) -> Rc<Self> {
        let remote = Rc::new(Self {
            source: Arc::clone(source),
            calls: Rc::clone(calls),
            shard,
            stats: Arc::clone(stats),
            keys: RefCell::default(),
            expire: Cell::new(0),
            version: Cell::new(0),
            fetching: Cell::new(false),
            ended: Cell::new(0),
            succeeded: Cell::new(false),
            waiting: RefCell::default(),
        });
        if let Some(ahead) = source.ahead {
            remote.fetch_forever(ahead);
        }
        remote
    }

    /// The keys, unless they have expired.
    pub(super) fn fresh(&self) -> Option<Rc<Jwks>> {
        // With `ahead` the last good ones are kept until others are here.
        let is_fresh = self.source.ahead.is_some() || self.shard.clock.now() < self.expire.get();
        self.newest().filter(|_| is_fresh)
    }

    /// The keys, expired or not.
    pub(super) fn newest(&self) -> Option<Rc<Jwks>> {
        self.keys.borrow().clone()
    }

    /// How often the keys were replaced.
    pub(super) const fn version(&self) -> u64 {
        self.version.get()
    }

    /// Waits for the fetch in progress; begins one if there is none.
    pub(super) fn wait(self: &Rc<Self>) -> Wait {
        let wait = Wait { remote: Rc::clone(self), round: self.ended.get(), seat: Cell::new(None) };
        if !self.fetching.get() {
            let remote = Rc::clone(self);
            let fetch = Fetch::begin(&remote);
            self.shard.spawn(async move { fetch.run().await });
        }
        wait
    }

    fn fetch_forever(self: &Rc<Self>, Ahead { after_failure }: Ahead) {
        let (shard, remote) = (self.shard, Rc::downgrade(self));
        let lasts = self.source.cache_duration;
        let after_success = lasts.checked_sub(BEFORE_EXPIRY).filter(|rest| !rest.is_zero());
        let after_success = after_success.unwrap_or(lasts);
        shard.spawn(async move {
            let alarm = shard.timers.alarm();
            // Ends when the configuration is replaced.
            while let Some(remote) = remote.upgrade() {
                if !remote.fetching.get() {
                    Fetch::begin(&remote).run().await;
                }
                let next = if remote.succeeded.get() { after_success } else { after_failure };
                drop(remote);
                let now = shard.clock.now();
                alarm.set(Some(now.saturating_add(millis(next).max(1))), now);
                alarm.expired().await;
            }
        });
    }

    fn end(&self, keys: Option<Jwks>) {
        let stats = self.stats.shard(self.shard.id);
        if keys.is_some() { &stats.jwks_fetch_success } else { &stats.jwks_fetch_failed }.inc();
        self.succeeded.set(keys.is_some());
        if let Some(keys) = keys {
            *self.keys.borrow_mut() = Some(Rc::new(keys));
            let lasts = millis(self.source.cache_duration);
            self.expire.set(self.shard.clock.now().saturating_add(lasts));
            self.version.set(self.version.get() + 1);
        }
        self.fetching.set(false);
        self.ended.set(self.ended.get() + 1);
        for waker in self.waiting.borrow_mut().drain() {
            waker.wake();
        }
    }
}

/// A fetch in progress.
struct Fetch {
    remote: Rc<Remote>,
    keys: Option<Jwks>,
}

impl Fetch {
    fn begin(remote: &Rc<Remote>) -> Self {
        remote.fetching.set(true);
        Self { remote: Rc::clone(remote), keys: None }
    }

    async fn run(mut self) {
        let Remote { source, calls, shard, .. } = &*self.remote;
        let fill = |head: &mut RequestHead| source.fill(calls, head);
        let most = limits::CALL_RESPONSE_BYTES_MAX;
        let call = Call::of_proxy(calls, shard, &source.target, fill, Body::None, most);
        poll_fn(|cx| call.poll_done(cx)).await;
        self.keys = match call.take_whole() {
            Ok(Response { head, body, .. }) if head.status == 200 => Jwks::parse(&body).ok(),
            _ => None,
        };
    }
}

/// Also if its task has panicked.
impl Drop for Fetch {
    fn drop(&mut self) {
        self.remote.end(self.keys.take());
    }
}

impl Source {
    fn fill(&self, calls: &LocalService, head: &mut RequestHead) {
        head.method = Method::Get;
        head.scheme = Some(self.scheme);
        head.set_target(&self.path);
        head.set_authority(&self.authority);
        let fields = &mut head.fields;
        fields.append_other(b"user-agent", b"Go-browser");
        fields.append(FieldName::XEnvoyInternal, b"true");
        if let Some(address) = calls.manager.client.local_address {
            fields.append(FieldName::XForwardedFor, address.to_string().as_bytes());
        }
    }
}

/// A request that waits for keys.
#[derive(Debug)]
pub(super) struct Wait {
    remote: Rc<Remote>,
    /// How many fetches had ended when it began.
    round: u64,
    /// Its place among those who wait.
    seat: Cell<Option<usize>>,
}

impl Wait {
    /// Whether there are keys now; none: the fetch is not over.
    pub(super) fn result(&self) -> Option<bool> {
        (self.remote.ended.get() != self.round).then(|| self.remote.succeeded.get())
    }

    /// Ready when the fetch is over.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        if self.result().is_some() {
            return Poll::Ready(());
        }
        let mut waiting = self.remote.waiting.borrow_mut();
        match self.seat.get().and_then(|seat| waiting.get_mut(seat)) {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.seat.set(Some(waiting.insert(cx.waker().clone()))),
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        // Those who waited have no seats once the fetch is over.
        if self.result().is_none()
            && let Some(seat) = self.seat.get()
        {
            drop(self.remote.waiting.borrow_mut().try_remove(seat));
        }
    }
}
