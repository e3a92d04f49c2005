//! `slow_start_config`: a new host gets its share of the traffic step by step.

use crate::shard::clock::Millis;
use crate::upstream::balance::Hosts;
use crate::upstream::host::{Health, Host};

/// The options of `slow_start_config`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowStart {
    /// `slow_start_window`, in milliseconds; at least 1.
    pub window_ms: u64,
    /// `aggression`, above 0: 1.0 is linear, more is faster at the beginning. Default 1.0.
    pub aggression: f64,
    /// `min_weight_percent` as a fraction: the least part of its weight that a host has. Default 0.1.
    pub weight_min: f64,
}

impl SlowStart {
    /// The factor of a host's weight.
    pub(super) fn factor(&self, host: &Host, now: Millis) -> f64 {
        let since = now.saturating_sub(host.serves_since());
        if since >= self.window_ms || host.health_flags().health() != Health::Healthy {
            return 1.0;
        }
        let time = since.max(1) as f64 / self.window_ms as f64;
        time.powf(1.0 / self.aggression).max(self.weight_min)
    }

    /// When the last of these hosts leaves its window; 0 if there are none.
    pub(super) fn ends(&self, hosts: Hosts<'_>) -> Millis {
        hosts.all().map(|host| host.serves_since() + self.window_ms).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::host::HealthFlags;
    use crate::upstream::host_set::tests::host;

    #[test]
    fn the_factor_grows_with_time() {
        let host = host(1, 0, 1, HealthFlags::EMPTY);
        host.set_serves_since(1_000);
        let linear = SlowStart { window_ms: 10_000, aggression: 1.0, weight_min: 0.1 };
        let factors = [1_000, 2_000, 6_000, 11_000].map(|now| linear.factor(&host, now));
        assert_eq!(factors, [0.1, 0.1, 0.5, 1.0]);
        let fast = SlowStart { aggression: 2.0, ..linear };
        assert!((fast.factor(&host, 3_500) - 0.5).abs() < 1e-9, "the root of a quarter");
    }

    #[test]
    fn a_host_that_is_not_healthy_has_its_weight() {
        let host = host(1, 0, 1, HealthFlags::DEGRADED_EDS_HEALTH);
        let linear = SlowStart { window_ms: 10_000, aggression: 1.0, weight_min: 0.1 };
        assert_eq!(linear.factor(&host, 1), 1.0);
    }
}
