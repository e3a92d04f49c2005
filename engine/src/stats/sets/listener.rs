//! Stats of listeners.

use crate::stats::stats;

stats! {
    /// `listener.<address>_<port>.`
    pub struct ListenerStats {
        histogram connections_accepted_per_socket_event;
        worker gauge downstream_cx_active;
        counter downstream_cx_destroy;
        histogram downstream_cx_length_ms;
        counter downstream_cx_overflow;
        constant counter downstream_cx_overload_reject;
        worker counter downstream_cx_total;
        counter downstream_cx_transport_socket_connect_timeout;
        counter downstream_global_cx_overflow;
        counter downstream_listener_filter_error;
        counter downstream_listener_filter_remote_close;
        gauge downstream_pre_cx_active;
        counter downstream_pre_cx_timeout;
        constant counter extension_config_missing;
        constant counter network_extension_config_missing;
        counter no_filter_chain_match;
    }
}

stats! {
    /// `listener.<address>_<port>.http.<stat_prefix>.`
    pub struct ListenerHttpStats {
        counter downstream_rq_1xx;
        counter downstream_rq_2xx;
        counter downstream_rq_3xx;
        counter downstream_rq_4xx;
        counter downstream_rq_5xx;
        counter downstream_rq_completed;
    }
}

stats! {
    /// `listener.admin.`: the admin endpoint's own listener, served by the control plane.
    pub struct AdminListenerStats {
        histogram connections_accepted_per_socket_event;
        gauge downstream_cx_active;
        counter downstream_cx_destroy;
        histogram downstream_cx_length_ms;
        constant counter downstream_cx_overflow;
        constant counter downstream_cx_overload_reject;
        counter downstream_cx_total;
        constant counter downstream_cx_transport_socket_connect_timeout;
        constant counter downstream_global_cx_overflow;
        constant counter downstream_listener_filter_error;
        constant counter downstream_listener_filter_remote_close;
        constant gauge downstream_pre_cx_active;
        constant counter downstream_pre_cx_timeout;
        gauge main_thread_downstream_cx_active = "main_thread.downstream_cx_active";
        counter main_thread_downstream_cx_total = "main_thread.downstream_cx_total";
        constant counter no_filter_chain_match;
    }
}

stats! {
    /// `listener_manager.`
    pub struct ListenerManagerStats {
        counter listener_added;
        counter listener_create_failure;
        counter listener_create_success;
        counter listener_in_place_updated;
        counter listener_modified;
        counter listener_removed;
        counter listener_stopped;
        gauge total_filter_chains_draining;
        gauge total_listeners_active;
        gauge total_listeners_draining;
        gauge total_listeners_warming;
        gauge workers_pinned;
        gauge workers_started;
    }
}
