//! Subscriptions to resources, wherever they come from.
//!
//! A subscriber takes resources and says whether it can use them; it does not know what delivers them.
//!
//! Invariant: resources that a subscriber rejects change nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::rc::Rc;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::membership::NotifyOnDrop;
use super::moves::Watchers;
use super::subscription::{Counts, Subscription};
use super::xds;
use crate::config_source::compile::Response;
use crate::config_source::{ConfigSource, Origin};

/// Takes the resources of one type as they come. It may subscribe to others while it does.
pub(super) trait Subscriber {
    /// Takes all resources that there are now.
    ///
    /// # Errors
    /// Why they are rejected, in words.
    fn replace(&self, response: Response) -> Result<(), String>;

    /// Takes those that have changed; `removed` are gone. A subscriber to names is not told what is gone: as in
    /// Envoy it keeps the last that it got.
    ///
    /// # Errors
    /// Why they are rejected, in words.
    fn change(&self, response: Response, removed: &[String]) -> Result<(), String> {
        let _kept = removed;
        if response.resources.is_empty() { Ok(()) } else { self.replace(response) }
    }

    /// The first answer is not waited for any longer.
    fn nothing_came(&self) {}
}

/// Which resources are wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// All of the type.
    All,
    /// Those with these names.
    Names(BTreeSet<String>),
}

impl Wanted {
    pub(super) fn is_nothing(&self) -> bool {
        self.names().is_some_and(BTreeSet::is_empty)
    }

    /// None: all of the type.
    pub(super) const fn names(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::All => None,
            Self::Names(names) => Some(names),
        }
    }
}

/// What is subscribed to.
#[derive(Debug)]
pub(super) struct Interest {
    /// The full name of the message.
    pub(super) kind: &'static str,
    pub(super) wanted: Wanted,
    /// For the log: `secret cert`.
    pub(super) what: String,
    /// The prefix of its stats: `sds.cert.`
    pub(super) prefix: String,
    pub(super) counts: Counts,
}

/// A subscription, until it is dropped.
pub(super) enum Handle {
    /// The task that follows a file.
    File(AbortHandle),
    /// None: nothing will come, as the log says.
    Stream(#[expect(dead_code, reason = "it ends when it is dropped")] Option<xds::Handle>),
}

impl Drop for Handle {
    fn drop(&mut self) {
        match self {
            Self::File(task) => task.abort(),
            Self::Stream(_) => {}
        }
    }
}

/// Held by each subscription that waits for its first answer.
pub(super) type Unanswered = Option<Rc<NotifyOnDrop>>;

/// All that resources come from.
#[derive(Default)]
pub(super) struct Sources {
    watchers: Watchers,
    /// None: only files are read.
    servers: Option<xds::Client>,
    /// Those who subscribe now are waited for with this.
    round: RefCell<Unanswered>,
}

impl Sources {
    pub(super) fn new(servers: xds::Client) -> Self {
        Self { servers: Some(servers), ..Self::default() }
    }

    /// What watches files.
    pub(super) const fn watchers(&self) -> &Watchers {
        &self.watchers
    }

    /// Subscribes to resources. A file is read at once, before this returns, and whenever it changes.
    ///
    /// # Errors
    /// The system has no more inotify instances.
    pub(super) fn subscribe(
        &self,
        interest: Interest,
        source: &ConfigSource,
        subscriber: Rc<dyn Subscriber>,
    ) -> io::Result<Handle> {
        let Origin::File(file) = &source.origin else {
            let unanswered = self.round.borrow().clone();
            let servers = self.servers.as_ref();
            return Ok(Handle::Stream(
                servers.and_then(|it| it.subscribe(interest, source, subscriber, unanswered)),
            ));
        };
        // A file is taken whole: which resources are wanted is up to the subscriber.
        let Interest { what, counts, .. } = interest;
        let subscription = Subscription::new(what, file.clone(), counts, &self.watchers.watcher()?);
        subscription.load(&*subscriber);
        let follow = async move {
            loop {
                subscription.changed().await;
                subscription.load(&*subscriber);
            }
        };
        Ok(Handle::File(tokio::task::spawn_local(follow).abort_handle()))
    }

    /// Whoever waits for first answers now also waits until this is dropped.
    pub(super) fn hold(&self) -> Unanswered {
        self.round.borrow().clone()
    }

    /// Runs `subscribe`. The receiver completes, with an error, when each subscription that it made, and each that
    /// was made by those who got the first answers, has been answered or is not waited for any longer.
    pub(super) fn first_answers<T>(
        &self,
        subscribe: impl FnOnce() -> T,
    ) -> (T, oneshot::Receiver<()>) {
        let (sender, answered) = oneshot::channel();
        let before = self.round.replace(Some(NotifyOnDrop::new(sender)));
        let result = subscribe();
        self.round.replace(before);
        (result, answered)
    }
}
