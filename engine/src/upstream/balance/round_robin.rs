//! `ROUND_ROBIN`: one host after the other, starting at a random one.

use fastrand::Rng;

use crate::shard::clock::Millis;
use crate::upstream::balance::edf::Edf;
use crate::upstream::balance::{Hosts, SlowStart};

#[derive(Debug)]
pub(super) enum Schedule {
    /// All weights are equal.
    Even {
        /// The next host; below the number of hosts.
        next: usize,
    },
    Weighted {
        edf: Edf,
        slow_start: Option<SlowStart>,
    },
}

impl Schedule {
    pub(super) fn new(
        slow_start: Option<SlowStart>,
        hosts: Hosts<'_>,
        now: Millis,
        random: &mut Rng,
    ) -> Self {
        let slow_start = slow_start.filter(|it| now < it.ends(hosts));
        if hosts.weights_differ() || slow_start.is_some() {
            let weights = (0..hosts.len()).map(|it| weight(hosts, slow_start, it, now));
            Self::Weighted { edf: Edf::new(weights, random), slow_start }
        } else {
            Self::Even { next: random.usize(0..hosts.len().max(1)) }
        }
    }

    pub(super) fn pick(&mut self, hosts: Hosts<'_>, now: Millis) -> Option<usize> {
        match self {
            Self::Even { next } => {
                let chosen = *next;
                *next = if chosen + 1 < hosts.len() { chosen + 1 } else { 0 };
                (chosen < hosts.len()).then_some(chosen)
            }
            Self::Weighted { edf, slow_start } => {
                edf.pick(|position| weight(hosts, *slow_start, position, now))
            }
        }
    }
}

/// The weight of a host at this time; above 0.
pub(super) fn weight(
    hosts: Hosts<'_>,
    slow_start: Option<SlowStart>,
    position: usize,
    now: Millis,
) -> f64 {
    let factor = slow_start.zip(hosts.at(position)).map_or(1.0, |(it, host)| it.factor(host, now));
    hosts.weight(position) * factor
}
