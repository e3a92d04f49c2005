//! Which host an attempt goes to.

use std::borrow::Cow;
use std::rc::Rc;

use super::Core;
use super::forward::Forwarder;
use super::given::Given;
use super::override_host::Wanted;
use super::retry::RetryState;
use super::retry::priorities::PreviousPriorities;
use super::route::Forward;
use super::route::hash_policy::Hashed;
use crate::address::Ends;
use crate::filter_state::ORIGINAL_DST_ADDRESS;
use crate::http::{FieldName, Version};
use crate::limits;
use crate::upstream::balance::LbContext;
use crate::upstream::destination::{self, Destination};
use crate::upstream::discovery::Discovery;
use crate::upstream::host_set::loads::Target;
use crate::upstream::local::LocalCluster;
use crate::upstream::original_dst::Naming;
use crate::upstream::pool::Pool;
use crate::upstream::transport_socket::Announced;

impl Forwarder<'_> {
    /// Picks the host for this attempt.
    ///
    /// As in Envoy, a retry that gets a host which it avoids picks again, up to
    /// `host_selection_retry_max_attempts` times.
    pub(super) fn pick(&mut self, given: &Given, version: Version) -> Option<Rc<Pool>> {
        if self.cluster.is_replaced() {
            // As in Envoy, an attempt has the hosts that there are now.
            self.cluster = given.service.clusters.successor(&self.cluster);
        }
        let client = || Announced {
            ends: Ends { remote: given.peer, local: given.local },
            tlvs: given.listener_facts.as_ref().map_or(&[], |facts| &facts.passed_tlvs),
        };
        let options = self.options.as_ref();
        let priority = self.plan.priority;
        if let Some(wanted) = &mut self.wanted {
            match wanted.next(&self.cluster) {
                Wanted::Host(index) => {
                    return self.cluster.pool_of_found(index, priority, version, options, client);
                }
                Wanted::Missing => {
                    self.cluster.count_no_host();
                    return None;
                }
                Wanted::Any => {}
            }
        }
        let policy = self.retry.as_ref().map(RetryState::policy);
        let guiding = policy.filter(|policy| policy.selects_hosts());
        let request = LbContext {
            hash: self.hash,
            subset: self.plan.subset.as_deref(),
            attempt: 0,
            target: None,
            destination: self.named.as_deref().map(|named| &named.destination),
        };
        let pick = |request: &LbContext<'_>| {
            self.cluster.pick(request, priority, version, options, client)
        };
        let Some(policy) = guiding else { return pick(&request) };
        let Tried { hosts, before, priorities } = &mut **self.tried.get_or_insert_default();
        *before = hosts.len();
        let is_retry = *before > 0;
        let loads = match policy.previous_priorities {
            Some(frequency) if is_retry => {
                priorities.loads(&self.cluster.levels(&request), frequency)
            }
            _ => None,
        };
        let request = LbContext { target: loads.map(Target::Loads), ..request };
        let was_tried = |pool: &Rc<Pool>| hosts.iter().any(|tried| Rc::ptr_eq(tried, pool));
        let avoids = |pool: &Rc<Pool>| {
            is_retry
                && (policy.avoids_previous_hosts && was_tried(pool)
                    || policy.host_predicates.iter().any(|it| it.avoids(pool.host())))
        };
        let picks = policy.host_selection_attempts_max.min(limits::HOST_SELECTIONS_MAX);
        let mut pool = pick(&request)?;
        for attempt in 1..=picks {
            if !avoids(&pool) {
                break;
            }
            pool = pick(&LbContext { attempt, ..request })?;
        }
        hosts.push(Rc::clone(&pool));
        if let Some(priority) = self.cluster.priority_of(&pool) {
            priorities.note(priority);
        }
        Some(pool)
    }
}

/// The host that a request names.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) destination: Destination,
    /// Why there is no such host, for logs.
    pub(super) unresolved: Option<Cow<'static, str>>,
}

impl Named {
    fn new(destination: Destination) -> Box<Self> {
        Box::new(Self { destination, unresolved: None })
    }
}

/// The hosts of the attempts so far.
#[derive(Debug, Default)]
pub(super) struct Tried {
    hosts: Vec<Rc<Pool>>,
    /// How many of them earlier attempts tried.
    before: usize,
    priorities: PreviousPriorities,
}

impl Tried {
    /// The last attempt does not count: its host may be picked again.
    pub(super) fn forget_last(&mut self) {
        if self.hosts.len() > self.before {
            self.hosts.truncate(self.before);
            self.priorities.forget_last();
        }
    }
}

impl Core<'_> {
    /// The hash of a request, if its cluster chooses hosts by it. A cookie that is made for it is given to
    /// the client with the response.
    #[inline]
    pub(super) fn hash(&mut self, plan: &Forward, cluster: &LocalCluster) -> Option<u64> {
        if plan.hash_policies.is_empty() || !cluster.chooses_by_hash() {
            return None;
        }
        let given = self.given;
        let request = Hashed {
            head: &self.heads.request,
            client: self.facts.map_or(given.peer, |facts| facts.client),
            ends: Ends { remote: given.peer, local: given.local },
            state: self.noted.as_ref().map(|noted| &noted.state),
        };
        let mut set_cookie = |cookie| self.set_cookies.push(cookie);
        plan.hash_policies.hash(&request, Some(&mut set_cookie))
    }

    /// The host that the request names, if its cluster goes by that.
    #[inline]
    pub(super) fn destination(&self, cluster: &LocalCluster) -> Option<Box<Named>> {
        match &cluster.cluster().discovery {
            Discovery::OriginalDst(original) => {
                self.original_destination(&original.naming, cluster)
            }
            Discovery::DynamicForwardProxy(proxy) => {
                let name = self.forward_name(proxy, true).unwrap_or_default();
                Some(Named::new(Destination::Name(name)))
            }
            _ => None,
        }
    }

    //= envoy: arch_overview/upstream/service_discovery, original destination
    // Filter state comes before metadata, metadata before the header, and that before the address that the
    // connection was meant for.
    #[cold]
    fn original_destination(&self, naming: &Naming, cluster: &LocalCluster) -> Option<Box<Named>> {
        let noted = self.noted.as_ref();
        let facts = self.given.listener_facts.as_deref();
        let parse = |text: &[u8]| {
            let address = destination::address(text);
            if address.is_none() {
                cluster.stats().original_dst_host_invalid.inc();
            }
            address
        };
        let state = noted.and_then(|noted| noted.state.text(ORIGINAL_DST_ADDRESS));
        let by_metadata = || {
            let of_request = noted.and_then(|noted| naming.in_metadata(&noted.metadata));
            let text = of_request.or_else(|| naming.in_metadata(&facts?.metadata))?;
            parse(text.as_bytes())
        };
        let by_header = || parse(self.heads.request.fields.find(naming.header.as_ref()?)?);
        let address = state.and_then(|text| destination::address(text.as_bytes()));
        let address = address.or_else(by_metadata).or_else(by_header);
        let address = address.map(|address| naming.with_port(address));
        let address = address.or_else(|| naming.of_connection(self.given.local, facts))?;
        Some(Named::new(Destination::Address(address.into())))
    }

    /// Gives the client the cookies that were made for it.
    #[inline]
    pub(super) fn append_set_cookies(&mut self) {
        for cookie in std::mem::take(&mut self.set_cookies) {
            self.heads.response.fields.append(FieldName::SetCookie, cookie.as_bytes());
        }
    }
}
