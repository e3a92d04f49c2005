//! `RANDOM`: any host, with equal probability; weights are ignored.

use fastrand::Rng;

use crate::upstream::balance::Hosts;

pub(super) fn pick(hosts: Hosts<'_>, random: &mut Rng) -> Option<usize> {
    (hosts.len() > 0).then(|| random.usize(0..hosts.len()))
}
