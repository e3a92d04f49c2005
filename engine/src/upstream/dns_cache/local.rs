//! What one shard knows of the DNS caches.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use super::{DnsCache, Resolved, Unresolved};
use crate::shard::Shard;
use crate::shard::clock::Millis;

/// The DNS caches that a shard knows.
#[derive(Debug, Default)]
pub struct LocalCaches(RefCell<Vec<Rc<LocalCache>>>);

/// What a shard knows of one DNS cache.
#[derive(Debug)]
pub struct LocalCache {
    cache: Weak<DnsCache>,
    shard: usize,
    hosts: RefCell<HashMap<Box<str>, Known>>,
}

#[derive(Debug)]
enum Known {
    /// The control plane was asked.
    Asked(Rc<Waiting>),
    Resolved(Arc<Resolved>),
}

/// Those that wait for one answer.
#[derive(Debug, Default)]
struct Waiting {
    answer: RefCell<Option<Arc<Resolved>>>,
    wakers: RefCell<Vec<Waker>>,
}

/// The result of a lookup.
#[derive(Debug)]
pub enum Lookup {
    /// It is known.
    Known(Arc<Resolved>),
    /// It will be.
    Wait(Wait),
    /// The cache has no room for another host.
    Overflow,
}

/// One that waits. It counts as pending until this is dropped.
#[derive(Debug)]
pub struct Wait {
    waiting: Rc<Waiting>,
    _pending: Pending,
}

/// Counts a request that waits.
#[derive(Debug)]
struct Pending {
    cache: Arc<DnsCache>,
    shard: usize,
    is_last: Cell<bool>,
}

impl LocalCaches {
    /// Those of a shard.
    pub fn of(shard: &'static Shard) -> &'static Self {
        shard.kept(|_| Self::default())
    }

    /// What is known of this cache.
    pub fn get(&self, cache: &Arc<DnsCache>, shard: usize) -> Rc<LocalCache> {
        let is_same = |it: &&Rc<LocalCache>| Weak::as_ptr(&it.cache) == Arc::as_ptr(cache);
        if let Some(known) = self.0.borrow().iter().find(is_same) {
            return Rc::clone(known);
        }
        let cache = Arc::downgrade(cache);
        let new = Rc::new(LocalCache { cache, shard, hosts: RefCell::default() });
        let mut all = self.0.borrow_mut();
        all.retain(|it| it.cache.strong_count() > 0);
        all.push(Rc::clone(&new));
        new
    }
}

impl LocalCache {
    /// Looks a host up, by its [`name`](super::name).
    pub fn look_up(&self, name: &str, now: Millis) -> Lookup {
        let Some(cache) = self.cache.upgrade() else { return Lookup::Overflow };
        let mut hosts = self.hosts.borrow_mut();
        let waiting = match hosts.get(name) {
            Some(Known::Resolved(resolved)) => {
                resolved.touch(now);
                return Lookup::Known(Arc::clone(resolved));
            }
            Some(Known::Asked(waiting)) => Rc::clone(waiting),
            None if cache.is_full() => {
                cache.stats.shard(self.shard).host_overflow.inc();
                return Lookup::Overflow;
            }
            None => {
                let waiting = Rc::<Waiting>::default();
                hosts.insert(name.into(), Known::Asked(Rc::clone(&waiting)));
                // Without the one that answers the process is about to end.
                let _ended = cache.asks.send(name.to_owned());
                waiting
            }
        };
        Lookup::Wait(Wait { waiting, _pending: Pending::new(cache, self.shard) })
    }

    /// The control plane has learned something about a host; none: that it is removed.
    pub fn update(&self, name: &str, resolved: Option<Arc<Resolved>>) {
        let mut hosts = self.hosts.borrow_mut();
        let Some(resolved) = resolved else {
            // What was asked meanwhile is still to be answered.
            if matches!(hosts.get(name), Some(Known::Resolved(_))) {
                hosts.remove(name);
            }
            return;
        };
        let before = if resolved.address == Err(Unresolved::NoRoom) {
            // The next request asks again.
            hosts.remove(name)
        } else {
            hosts.insert(name.into(), Known::Resolved(Arc::clone(&resolved)))
        };
        drop(hosts);
        if let Some(Known::Asked(waiting)) = before {
            waiting.answer.replace(Some(resolved));
            waiting.wakers.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl Wait {
    /// Ready with the answer.
    pub fn poll(&self, cx: &Context<'_>) -> Poll<Arc<Resolved>> {
        if let Some(answer) = &*self.waiting.answer.borrow() {
            return Poll::Ready(Arc::clone(answer));
        }
        let mut wakers = self.waiting.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// The answer, if it is there.
    pub fn answer(&self) -> Option<Arc<Resolved>> {
        self.waiting.answer.borrow().as_ref().map(Arc::clone)
    }
}

impl Pending {
    fn new(cache: Arc<DnsCache>, shard: usize) -> Self {
        let before = cache.pending.fetch_add(1, Relaxed);
        let stats = cache.stats.shard(shard);
        stats.rq_pending_remaining.dec();
        let is_last = before + 1 >= cache.settings.max_pending_requests;
        stats.rq_pending_open.set(u64::from(is_last));
        Self { cache, shard, is_last: Cell::new(is_last) }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.cache.pending.fetch_sub(1, Relaxed);
        let stats = self.cache.stats.shard(self.shard);
        stats.rq_pending_remaining.inc();
        if self.is_last.get() {
            stats.rq_pending_open.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Context;

    use super::super::Settings;
    use super::*;
    use crate::stats::Registry;

    fn cache(max_hosts: usize, max_pending_requests: usize) -> Arc<DnsCache> {
        let settings = Settings::with_limits(max_hosts, max_pending_requests);
        DnsCache::new(settings, Registry::new(1).scope("dns_cache.c."))
    }

    fn resolved(port: u16) -> Arc<Resolved> {
        Resolved::new(Ok(([127, 0, 0, 1], port).into()), 0)
    }

    fn wait(lookup: Lookup) -> Wait {
        let Lookup::Wait(wait) = lookup else { panic!("{lookup:?}") };
        wait
    }

    #[test]
    fn the_first_that_names_a_host_asks_and_all_of_them_wait() {
        let cache = cache(10, 10);
        let local = LocalCaches::default().get(&cache, 0);
        let mut questions = cache.take_questions().unwrap();
        let both = [wait(local.look_up("a:80", 0)), wait(local.look_up("a:80", 0))];
        assert_eq!(questions.try_recv().as_deref(), Ok("a:80"));
        assert!(questions.try_recv().is_err());
        let cx = Context::from_waker(Waker::noop());
        assert!(both.iter().all(|it| it.poll(&cx).is_pending()));
        local.update("a:80", Some(resolved(1)));
        assert!(both.iter().all(|it| it.poll(&cx).is_ready()));
        assert!(matches!(local.look_up("a:80", 0), Lookup::Known(_)));
        local.update("a:80", None);
        drop(wait(local.look_up("a:80", 0)));
        assert_eq!(questions.try_recv().as_deref(), Ok("a:80"));
    }

    #[test]
    fn a_question_that_comes_when_the_cache_is_full_is_answered_and_forgotten() {
        let cache = cache(1, 10);
        let local = LocalCaches::default().get(&cache, 0);
        let waits = wait(local.look_up("a:80", 0));
        local.update("a:80", Some(Resolved::new(Err(Unresolved::NoRoom), 0)));
        assert_eq!(waits.answer().unwrap().address, Err(Unresolved::NoRoom));
        drop(wait(local.look_up("a:80", 0)));
    }

    #[test]
    fn a_full_cache_takes_no_more_hosts() {
        let cache = cache(1, 10);
        let local = LocalCaches::default().get(&cache, 0);
        local.update("a:80", Some(resolved(1)));
        cache.set_hosts(1);
        assert!(matches!(local.look_up("a:80", 0), Lookup::Known(_)));
        assert!(matches!(local.look_up("b:80", 0), Lookup::Overflow));
        assert_eq!(cache.stats.shard(0).host_overflow.value(), 1);
    }

    #[test]
    fn so_many_requests_may_wait() {
        let cache = cache(10, 2);
        let local = LocalCaches::default().get(&cache, 0);
        let waits = ["a:80", "b:80"].map(|name| {
            assert!(cache.may_wait(0));
            wait(local.look_up(name, 0))
        });
        assert!(!cache.may_wait(0));
        assert_eq!(cache.stats.shard(0).dns_rq_pending_overflow.value(), 1);
        drop(waits);
        assert!(cache.may_wait(0));
        assert_eq!(cache.stats.gauge(|it| &it.rq_pending_remaining), 2);
    }
}
