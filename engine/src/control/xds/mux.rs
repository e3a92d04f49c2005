//! One management server: what is subscribed to there, and what becomes of its responses.
//!
//! The driver carries requests and responses; this decides what they are.
//!
//! Invariant: no borrow is held while a subscriber takes resources: it may subscribe to others meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::compile::Decoder;
use super::messages::{DeltaDiscoveryResponse, DiscoveryResponse, WrappedResource};
use super::ttl::Ttls;
use super::{delta, sotw};
use crate::config_source::compile::{Resource, Response};
use crate::config_source::{GrpcSource, Protocol};
use crate::control::resources::{Interest, Subscriber, Unanswered, Wanted};
use crate::control::server::Running;
use crate::stats::{ControlPlaneStats, Scope};

/// What is in front of the name of a type.
const TYPE_URL_PREFIX: &str = "type.googleapis.com/";

/// A resource in a wrapper.
const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// A management server.
pub(super) struct Mux {
    pub(super) source: GrpcSource,
    /// The `node` of each request.
    pub(super) node: Rc<[u8]>,
    pub(super) running: Arc<Running>,
    pub(super) stats: Arc<Scope<ControlPlaneStats>>,
    decoder: Rc<Decoder>,
    pub(super) requests: RefCell<Requests>,
    types: RefCell<HashMap<String, Type>>,
    pub(super) ttls: RefCell<Ttls>,
    next_id: Cell<u64>,
    /// The types of which something else may be wanted than the requests say.
    unsettled: RefCell<BTreeSet<String>>,
    /// Notified when requests may be due.
    pub(super) news: Notify,
    /// Notified when a time to live may end earlier than before.
    pub(super) ttls_changed: Notify,
}

/// The requests to it.
#[derive(Debug)]
pub(super) enum Requests {
    StateOfTheWorld(sotw::Requests),
    Delta(delta::Requests),
}

impl Type {
    /// The resources with these names, if any of them are there.
    fn there_of(&self, wanted: &Wanted) -> Option<Response> {
        let there: Vec<_> =
            wanted.names()?.iter().filter_map(|name| self.there.get(name)).collect();
        let version = there.first()?.0.clone();
        let resources = there.into_iter().map(|(_, resource)| Resource::clone(resource)).collect();
        Some(Response { version, resources })
    }

    /// Keeps what has come for those who may want the same later.
    fn keep(&mut self, version: &str, received: &[Received]) {
        let subscriptions = self.subscriptions.values();
        let wanted = subscriptions.filter_map(|it| it.interest.wanted.names()).flatten();
        let wanted: HashSet<&String> = wanted.collect();
        for it in received.iter().filter(|it| wanted.contains(&it.name)) {
            if let Some(resource) = &it.resource {
                let kept = (version.to_owned(), Rc::clone(resource));
                self.there.insert(it.name.clone(), kept);
            }
        }
    }
}

impl Requests {
    /// How many requests are due.
    pub(super) fn pending(&self) -> usize {
        match self {
            Self::StateOfTheWorld(requests) => requests.pending(),
            Self::Delta(requests) => requests.pending(),
        }
    }
}

/// The subscriptions to one type, in the order in which they were made.
#[derive(Default)]
struct Type {
    subscriptions: BTreeMap<u64, Rc<Subscription>>,
    /// The names in the last response that had all.
    names: BTreeSet<String>,
    /// What is there of the names that are wanted, with the versions: for those who want the same later.
    there: HashMap<String, (String, Rc<Resource>)>,
}

/// Who wants what.
struct Subscription {
    interest: Interest,
    subscriber: Rc<dyn Subscriber>,
    /// Until the first answer.
    unanswered: RefCell<Unanswered>,
    timer: RefCell<Option<AbortHandle>>,
    is_answered: Cell<bool>,
}

/// A resource as it came.
struct Received {
    name: String,
    version: String,
    ttl: Option<Duration>,
    /// None: the one that is there is still valid.
    resource: Option<Rc<Resource>>,
}

/// What a response changes.
struct Update<'a> {
    url: &'a str,
    version: &'a str,
    received: &'a [Received],
    /// None: the response has all that there are.
    removed: Option<&'a [String]>,
}

impl Mux {
    pub(super) fn new(
        source: GrpcSource,
        node: Rc<[u8]>,
        running: &Arc<Running>,
        stats: Arc<Scope<ControlPlaneStats>>,
        decoder: Rc<Decoder>,
    ) -> Rc<Self> {
        let requests = match source.protocol {
            Protocol::StateOfTheWorld => Requests::StateOfTheWorld(sotw::Requests::default()),
            Protocol::Delta => Requests::Delta(delta::Requests::default()),
        };
        Rc::new(Self {
            source,
            node,
            running: Arc::clone(running),
            stats,
            decoder,
            requests: RefCell::new(requests),
            types: RefCell::default(),
            ttls: RefCell::default(),
            next_id: Cell::new(0),
            unsettled: RefCell::default(),
            news: Notify::new(),
            ttls_changed: Notify::new(),
        })
    }

    /// Subscribes; returns what ends it.
    pub(super) fn subscribe(
        &self,
        interest: Interest,
        initial_fetch_timeout: Option<Duration>,
        subscriber: Rc<dyn Subscriber>,
        unanswered: Unanswered,
    ) -> (String, u64) {
        let url = format!("{TYPE_URL_PREFIX}{}", interest.kind);
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        interest.counts.attempt();
        let subscription = Rc::new(Subscription {
            interest,
            subscriber,
            unanswered: RefCell::new(unanswered),
            timer: RefCell::default(),
            is_answered: Cell::new(false),
        });
        if let Some(timeout) = initial_fetch_timeout {
            let waiting = Rc::clone(&subscription);
            let timer = tokio::task::spawn_local(async move {
                tokio::time::sleep(timeout).await;
                waiting.not_waited_for_any_longer(timeout);
            });
            subscription.timer.replace(Some(timer.abort_handle()));
        }
        let mut types = self.types.borrow_mut();
        let kind = types.entry(url.clone()).or_default();
        kind.subscriptions.insert(id, Rc::clone(&subscription));
        let there = kind.there_of(&subscription.interest.wanted);
        drop(types);
        self.want(&url);
        // The server has no reason to send again what another one wants already.
        if let Some(response) = there {
            subscription.take_what_is_there(response);
        }
        (url, id)
    }

    pub(super) fn unsubscribe(&self, url: &str, id: u64) {
        let mut types = self.types.borrow_mut();
        let gone = types.get_mut(url).and_then(|kind| kind.subscriptions.remove(&id));
        drop(types);
        if let Some(gone) = gone {
            gone.answered();
            self.want(url);
        }
    }

    /// What is wanted of a type may be different from now on.
    fn want(&self, url: &str) {
        self.unsettled.borrow_mut().insert(url.to_owned());
        self.news.notify_one();
    }

    /// Makes the requests want what all subscriptions want. It is done once for many subscriptions, because it looks
    /// at all of them.
    pub(super) fn settle(&self) {
        let unsettled = self.unsettled.take();
        unsettled.iter().for_each(|url| self.settle_type(url));
    }

    fn settle_type(&self, url: &str) {
        let subscriptions = self.subscriptions(url);
        let mut all = BTreeSet::new();
        let mut wanted = None;
        for subscription in &subscriptions {
            match &subscription.interest.wanted {
                Wanted::All => wanted = Some(Wanted::All),
                Wanted::Names(names) => all.extend(names.iter().cloned()),
            }
        }
        if let Some(kind) = self.types.borrow_mut().get_mut(url) {
            kind.there.retain(|name, _| all.contains(name));
        }
        let wanted = wanted.unwrap_or(Wanted::Names(all));
        match &mut *self.requests.borrow_mut() {
            Requests::StateOfTheWorld(requests) => requests.want(url, wanted),
            Requests::Delta(requests) => requests.want(url, wanted),
        }
    }

    fn subscriptions(&self, url: &str) -> Vec<Rc<Subscription>> {
        let types = self.types.borrow();
        types.get(url).map(|it| it.subscriptions.values().cloned().collect()).unwrap_or_default()
    }

    /// There is a new stream.
    pub(super) fn opened(&self) {
        match &mut *self.requests.borrow_mut() {
            Requests::StateOfTheWorld(requests) => requests.opened(),
            Requests::Delta(requests) => requests.opened(),
        }
        self.stats.control().connected_state.set(1);
    }

    /// There is no stream: it has ended, or could not be opened.
    pub(super) fn closed(&self) {
        self.stats.control().connected_state.set(0);
        self.stats.control().pending_requests.set(0);
        let types = self.types.borrow();
        for subscription in types.values().flat_map(|it| it.subscriptions.values()) {
            subscription.interest.counts.attempt();
            subscription.interest.counts.failure();
        }
    }

    pub(super) fn take(&self, response: DiscoveryResponse) {
        let DiscoveryResponse { version_info: version, resources, type_url: url, nonce, .. } =
            response;
        self.settle();
        if !self.is_known(&url) {
            return;
        }
        let received: Result<Vec<_>, _> =
            resources.into_iter().map(|any| self.receive_any(&url, &version, any)).collect();
        let taken = received.and_then(|received| {
            let update =
                Update { url: &url, version: &version, received: &received, removed: None };
            self.deliver(&update).map(|()| received)
        });
        let Requests::StateOfTheWorld(requests) = &mut *self.requests.borrow_mut() else { return };
        match taken {
            Ok(received) => {
                self.renew(&url, &version, &received);
                requests.accept(&url, version, nonce);
            }
            Err(why) => {
                self.rejected(&url, &version, &why);
                requests.reject(&url, nonce, &why);
            }
        }
    }

    pub(super) fn take_delta(&self, response: DeltaDiscoveryResponse) {
        let DeltaDiscoveryResponse {
            system_version_info: version,
            resources,
            type_url: url,
            removed_resources: removed,
            nonce,
            ..
        } = response;
        self.settle();
        if !self.is_known(&url) {
            return;
        }
        let taken = self.receive_all(&url, resources).and_then(|received| {
            let removed = Some(removed.as_slice());
            let update = Update { url: &url, version: &version, received: &received, removed };
            self.deliver(&update).map(|()| received)
        });
        let Requests::Delta(requests) = &mut *self.requests.borrow_mut() else { return };
        match taken {
            Ok(received) => {
                self.renew(&url, &version, &received);
                let mut ttls = self.ttls.borrow_mut();
                removed.iter().for_each(|name| ttls.forget(&(url.clone(), name.clone())));
                let versions = received.into_iter().map(|it| (it.name, it.version));
                requests.accept(&url, versions, &removed, nonce);
            }
            Err(why) => {
                self.rejected(&url, &version, &why);
                requests.reject(&url, nonce, &why);
            }
        }
    }

    fn is_known(&self, url: &str) -> bool {
        let is_known = self.types.borrow().contains_key(url);
        if !is_known {
            let cluster = &self.source.cluster;
            tracing::warn!(target: "config", "management server {cluster}: a response is ignored: nobody wants {url}");
        }
        is_known
    }

    /// Takes a resource of a response with all of them out of its wrapper, if it has one.
    fn receive_any(
        &self,
        url: &str,
        version: &str,
        any: prost_types::Any,
    ) -> Result<Received, String> {
        if any.type_url == WRAPPER {
            let wrapped = prost::Message::decode(&*any.value);
            let wrapped = wrapped.map_err(|error| format!("invalid Resource: {error}"))?;
            return self.receive(url, wrapped, Some(version));
        }
        check_type(url, &any.type_url)?;
        let resource = self.decoder.resource(any)?;
        let name = resource.name().to_owned();
        Ok(Received { name, version: String::new(), ttl: None, resource: Some(Rc::new(resource)) })
    }

    fn receive_all(
        &self,
        url: &str,
        resources: Vec<WrappedResource>,
    ) -> Result<Vec<Received>, String> {
        let mut names = HashSet::new();
        let mut received = Vec::with_capacity(resources.len());
        for wrapped in resources {
            if !names.insert(wrapped.name.clone()) {
                let name = wrapped.name;
                return Err(format!("duplicate name {name} found among added/updated resources"));
            }
            let version = match &*self.requests.borrow() {
                Requests::Delta(known) => known.version(url, &wrapped.name).map(str::to_owned),
                Requests::StateOfTheWorld(_) => None,
            };
            received.push(self.receive(url, wrapped, version.as_deref())?);
        }
        Ok(received)
    }

    /// Takes a resource out of its wrapper. One without content must have the version that is `there`.
    fn receive(
        &self,
        url: &str,
        wrapped: WrappedResource,
        there: Option<&str>,
    ) -> Result<Received, String> {
        let WrappedResource { name, version, resource, ttl } = wrapped;
        let ttl = ttl.and_then(|ttl| Duration::try_from(ttl).ok());
        let resource = match resource {
            Some(any) => {
                check_type(url, &any.type_url)?;
                Some(Rc::new(self.decoder.resource(any)?))
            }
            None if ttl.is_some() && there == Some(&*version) => None,
            None => return Err(format!("the resource {name} has no content")),
        };
        Ok(Received { name, version, ttl, resource })
    }

    /// Hands a response to those who want something of it, until one of them rejects it.
    fn deliver(&self, update: &Update<'_>) -> Result<(), String> {
        let gone = self.gone(update);
        let gone_names: HashSet<&str> = gone.iter().map(String::as_str).collect();
        let by_name: HashMap<&str, &Received> =
            update.received.iter().map(|it| (it.name.as_str(), it)).collect();
        for subscription in self.subscriptions(update.url) {
            match (&subscription.interest.wanted, update.removed) {
                (Wanted::All, None) if update.received.iter().all(|it| it.resource.is_some()) => {
                    let response = update.response(update.received);
                    subscription.take(|subscriber| subscriber.replace(response), update.version)?;
                }
                (Wanted::All, _) => {
                    let response = update.response(update.received);
                    subscription
                        .take(|subscriber| subscriber.change(response, &gone), update.version)?;
                }
                (Wanted::Names(names), _) => {
                    let wanted = names.iter().filter_map(|name| by_name.get(name.as_str()));
                    let response = update.response(wanted.copied());
                    let gone: Vec<_> = names
                        .iter()
                        .filter(|name| gone_names.contains(name.as_str()))
                        .cloned()
                        .collect();
                    // As in Envoy, one that is not in a response with all is not gone.
                    if !response.resources.is_empty()
                        || (!gone.is_empty() && update.removed.is_some())
                    {
                        subscription.take(
                            |subscriber| subscriber.change(response, &gone),
                            update.version,
                        )?;
                    }
                }
            }
        }
        if update.removed.is_none()
            && let Some(kind) = self.types.borrow_mut().get_mut(update.url)
        {
            kind.names = update.received.iter().map(|it| it.name.clone()).collect();
        }
        Ok(())
    }

    /// The resources that are not there any more.
    fn gone(&self, update: &Update<'_>) -> Vec<String> {
        if let Some(removed) = update.removed {
            return removed.to_vec();
        }
        let here: HashSet<_> = update.received.iter().map(|it| &it.name).collect();
        let types = self.types.borrow();
        let before = types.get(update.url).into_iter().flat_map(|kind| &kind.names);
        before.filter(|name| !here.contains(name)).cloned().collect()
    }

    /// Keeps what is accepted, and notes until when it is valid.
    fn renew(&self, url: &str, version: &str, received: &[Received]) {
        if let Some(kind) = self.types.borrow_mut().get_mut(url) {
            kind.keep(version, received);
        }
        let now = Instant::now();
        let mut ttls = self.ttls.borrow_mut();
        for it in received {
            ttls.set((url.to_owned(), it.name.clone()), it.ttl, now);
        }
        self.ttls_changed.notify_one();
    }

    /// A response is rejected: as in Envoy that counts for all subscriptions to its type.
    fn rejected(&self, url: &str, version: &str, why: &str) {
        for subscription in self.subscriptions(url) {
            let Interest { what, counts, .. } = &subscription.interest;
            counts.attempt();
            counts.rejected();
            tracing::warn!(target: "config", "{what}: version {version} is rejected: {why}");
            if subscription.answered() {
                subscription.subscriber.nothing_came();
            }
        }
    }

    /// Takes away the resources that are not valid any longer.
    pub(super) fn expire(&self, now: Instant) {
        loop {
            let ended = self.ttls.borrow_mut().take_ended(now);
            let Some((url, name)) = ended else { return };
            if let Requests::Delta(requests) = &mut *self.requests.borrow_mut() {
                requests.expire(&url, &name);
            }
            if let Some(kind) = self.types.borrow_mut().get_mut(&url) {
                kind.names.remove(&name);
                kind.there.remove(&name);
            }
            tracing::info!(target: "config", "resource {name} has reached the end of its time to live");
            let gone = [name];
            for subscription in self.subscriptions(&url) {
                let wanted = &subscription.interest.wanted;
                if wanted.names().is_none_or(|names| gone.iter().any(|name| names.contains(name))) {
                    let none = Response { version: String::new(), resources: Vec::new() };
                    // A subscriber cannot reject that.
                    let _taken = subscription.take(|it| it.change(none, &gone), "");
                }
            }
        }
    }
}

/// A response has resources of one type.
fn check_type(url: &str, found: &str) -> Result<(), String> {
    //= envoy: the detail of a rejected response
    if url == found {
        return Ok(());
    }
    Err(format!("{found} does not match the message-wide type URL {url} in DiscoveryResponse"))
}

impl Update<'_> {
    /// A response with some of the resources.
    fn response<'r>(&self, some: impl IntoIterator<Item = &'r Received>) -> Response {
        let resources = some.into_iter().filter_map(|it| it.resource.as_deref().cloned()).collect();
        Response { version: self.version.to_owned(), resources }
    }
}

impl Subscription {
    /// Hands it something, and counts that it takes it.
    fn take(
        &self,
        hand: impl FnOnce(&dyn Subscriber) -> Result<(), String>,
        version: &str,
    ) -> Result<(), String> {
        let begin = std::time::Instant::now();
        hand(&*self.subscriber)?;
        let counts = &self.interest.counts;
        counts.attempt();
        counts.success(version);
        counts.took(begin.elapsed());
        self.answered();
        Ok(())
    }

    /// Hands it what came before it subscribed. It may be rejected for it alone.
    fn take_what_is_there(&self, response: Response) {
        let version = response.version.clone();
        if let Err(why) = self.take(|subscriber| subscriber.replace(response), &version) {
            let Interest { what, counts, .. } = &self.interest;
            counts.attempt();
            counts.rejected();
            tracing::warn!(target: "config", "{what}: version {version} is rejected: {why}");
        }
    }

    /// It has got an answer. Whether it is the first one.
    fn answered(&self) -> bool {
        if let Some(timer) = self.timer.take() {
            timer.abort();
        }
        self.unanswered.take();
        !self.is_answered.replace(true)
    }

    fn not_waited_for_any_longer(&self, timeout: Duration) {
        let Interest { what, counts, .. } = &self.interest;
        counts.attempt();
        counts.fetch_timeout();
        let seconds = timeout.as_secs_f64();
        tracing::warn!(target: "config", "{what}: the management server has not answered for {seconds} s");
        self.timer.take();
        self.subscriber.nothing_came();
        self.unanswered.take();
    }
}
