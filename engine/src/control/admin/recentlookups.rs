//! `/stats/recentlookups`: which names of stats were looked up. In Envoy that finds filters that build names
//! per request; here nothing looks up a stat by its name while it serves, so there is nothing to show.

use std::sync::atomic::Ordering::Relaxed;

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/stats/recentlookups",
    effect: Effect::Shows,
    help: "Show recent stat-name lookups",
    parameters: &[],
    answer: |admin, _| {
        let names = match admin.tracks_lookups.load(Relaxed) {
            true => "   Count Lookup\n",
            false => "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n",
        };
        Reply::text(format!("{names}\ntotal: 0\n"))
    },
};

pub(super) const CLEAR: Endpoint = Endpoint {
    path: "/stats/recentlookups/clear",
    effect: Effect::Changes,
    help: "clear list of stat-name lookups and counter",
    parameters: &[],
    answer: |_, _| Reply::ok(),
};

pub(super) const DISABLE: Endpoint = Endpoint {
    path: "/stats/recentlookups/disable",
    effect: Effect::Changes,
    help: "disable recording of reset stat-name lookup names",
    parameters: &[],
    answer: |admin, _| {
        admin.tracks_lookups.store(false, Relaxed);
        Reply::ok()
    },
};

pub(super) const ENABLE: Endpoint = Endpoint {
    path: "/stats/recentlookups/enable",
    effect: Effect::Changes,
    help: "enable recording of reset stat-name lookup names",
    parameters: &[],
    answer: |admin, _| {
        admin.tracks_lookups.store(true, Relaxed);
        Reply::ok()
    },
};
