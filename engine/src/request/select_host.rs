//! Which host an attempt goes to.

use std::rc::Rc;

use super::Core;
use super::forward::Forwarder;
use super::given::Given;
use super::override_host::Wanted;
use super::retry::RetryState;
use super::route::Forward;
use super::route::hash_policy::Hashed;
use crate::address::Ends;
use crate::http::{FieldName, Version};
use crate::limits;
use crate::upstream::balance::LbContext;
use crate::upstream::local::LocalCluster;
use crate::upstream::pool::Pool;
use crate::upstream::transport_socket::Announced;

impl Forwarder<'_> {
    /// Picks the host for this attempt.
    ///
    /// As in Envoy, a retry that gets a host which was already tried picks again, up to
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
        let pick = |attempt| {
            let request =
                LbContext { hash: self.hash, subset: self.plan.subset.as_deref(), attempt };
            self.cluster.pick(&request, priority, version, options, client)
        };
        let policy = self.retry.as_ref().map(RetryState::policy);
        let Some(policy) = policy.filter(|policy| policy.avoids_previous_hosts) else {
            return pick(0);
        };
        self.tried_before = self.tried.len();
        let picks = policy.host_selection_attempts_max.min(limits::HOST_SELECTIONS_MAX);
        let mut pool = pick(0)?;
        for attempt in 1..=picks {
            if !self.tried.iter().any(|tried| Rc::ptr_eq(tried, &pool)) {
                break;
            }
            pool = pick(attempt)?;
        }
        if !self.tried.iter().any(|tried| Rc::ptr_eq(tried, &pool)) {
            self.tried.push(Rc::clone(&pool));
        }
        Some(pool)
    }
}

impl Core<'_> {
    /// The hash of a request, if its cluster chooses hosts by it. A cookie that is made for it is given to
    /// the client with the response.
    #[inline]
    pub(super) fn hash(&mut self, plan: &Forward, cluster: &LocalCluster) -> Option<u64> {
        if plan.hash_policies.is_empty() || !cluster.cluster().chooses_by_hash() {
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

    /// Gives the client the cookies that were made for it.
    #[inline]
    pub(super) fn append_set_cookies(&mut self) {
        for cookie in std::mem::take(&mut self.set_cookies) {
            self.heads.response.fields.append(FieldName::SetCookie, cookie.as_bytes());
        }
    }
}
