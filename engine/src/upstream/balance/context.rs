//! What a request tells the load balancer.

use crate::upstream::host_set::Criteria;

/// What a host is picked by, apart from the hosts themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LbContext<'a> {
    /// The hash of the request, from `hash_policy`; none: it has no hash.
    pub hash: Option<u64>,
    /// The metadata that hosts must have, from `metadata_match`; none: the request has none.
    pub subset: Option<&'a Criteria>,
    /// How many hosts were picked for this attempt before, and refused.
    pub attempt: u32,
}
