//! `ROUND_ROBIN`: one host after the other, starting at a random one.

use fastrand::Rng;

use crate::upstream::balance::Hosts;
use crate::upstream::balance::edf::Edf;

#[derive(Debug)]
pub(super) enum Schedule {
    /// All weights are equal.
    Even {
        /// The next host; below the number of hosts.
        next: usize,
    },
    Weighted(Edf),
}

impl Schedule {
    pub(super) fn new(hosts: Hosts<'_>, random: &mut Rng) -> Self {
        if hosts.weights_differ() {
            Self::Weighted(Edf::new(hosts.weights(), random))
        } else {
            Self::Even { next: random.usize(0..hosts.len().max(1)) }
        }
    }

    pub(super) fn pick(&mut self, hosts: Hosts<'_>) -> Option<usize> {
        match self {
            Self::Even { next } => {
                let chosen = *next;
                *next = if chosen + 1 < hosts.len() { chosen + 1 } else { 0 };
                (chosen < hosts.len()).then_some(chosen)
            }
            Self::Weighted(edf) => edf.pick(|position| hosts.weight(position)),
        }
    }
}
