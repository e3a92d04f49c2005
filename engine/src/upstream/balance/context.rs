//! What a request tells the load balancer.

use crate::upstream::destination::Destination;
use crate::upstream::host_set::Criteria;
use crate::upstream::host_set::loads::Target;

/// What a host is picked by, apart from the hosts themselves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct LbContext<'a> {
    /// The hash of the request, from `hash_policy`; none: it has no hash.
    pub hash: Option<u64>,
    /// The metadata that hosts must have, from `metadata_match`; none: the request has none.
    pub subset: Option<&'a Criteria>,
    /// How many hosts were picked for this attempt before, and refused.
    pub attempt: u32,
    /// Which priority it goes to; none: as the host set says.
    pub target: Option<Target<'a>>,
    /// The host that it names, for a cluster that goes by that.
    pub destination: Option<&'a Destination>,
}
