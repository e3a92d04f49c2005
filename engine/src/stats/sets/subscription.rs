//! Stats of resources that are followed.

use crate::stats::stats;

stats! {
    /// `sds.<name>.`
    pub struct SubscriptionStats {
        counter init_fetch_timeout;
        counter update_attempt;
        counter update_failure;
        counter update_rejected;
        counter update_success;
        gauge update_time;
        hash version;
        text version_text;
        histogram update_duration;
    }
}

stats! {
    /// `cluster.<name>.`, for clusters of type `EDS`. `ClusterStats` has the other counters of a subscription.
    pub struct EdsStats {
        counter init_fetch_timeout;
        counter update_rejected;
        gauge update_time;
        hash version;
        text version_text;
        histogram update_duration;
    }
}

stats! {
    /// `http.<stat_prefix>.rds.<name>.`
    pub struct RdsStats {
        counter config_reload;
        gauge config_reload_time_ms;
        counter update_empty;
    }
}

stats! {
    /// `cluster_manager.cds.`
    pub struct CdsStats {
        counter config_reload;
        gauge config_reload_time_ms;
    }
}

stats! {
    /// `sds.<name>.`
    pub struct SecretStats {
        counter key_rotation_failed;
    }
}

stats! {
    /// `control_plane.`, after the prefix of a subscription with a stream of its own.
    pub struct ControlPlaneStats {
        gauge connected_state;
        text identifier;
        gauge pending_requests;
        counter rate_limit_enforced;
    }
}
