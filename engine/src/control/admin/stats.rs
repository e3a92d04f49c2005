//! `/stats` and `/stats/prometheus`. They are streamed: a scrape of ten thousand clusters needs no more
//! memory than one of ten.

use std::iter;

use crate::control::admin::home::escaped;
use crate::control::admin::query::Query;
use crate::control::admin::reply::Reply;
use crate::control::admin::{Admin, Effect, Endpoint, Parameter, parameter};
use crate::re2;
use crate::stats::{self, HistogramBuckets, Select};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/stats",
    effect: Effect::Shows,
    help: "print server stats",
    parameters: &[
        USED_ONLY,
        FILTER,
        INVERT_FILTER,
        parameter("format", "Format to use; One of (html, active-html, text, json, prometheus)"),
        parameter(
            "type",
            "Stat types to include.; One of (All, Counters, Histograms, Gauges, TextReadouts)",
        ),
        parameter(
            "histogram_buckets",
            "Histogram bucket display mode; One of (cumulative, disjoint, detailed, summary)",
        ),
    ],
    answer: |admin, query| match query.value("format") {
        None | Some("text") => plain(admin, query, Format::Text),
        Some("active-html") => plain(admin, query, Format::ActiveHtml),
        Some("html") => plain(admin, query, Format::Html),
        Some("json") => plain(admin, query, Format::Json),
        Some("prometheus") => prometheus(admin, query),
        Some(_) => Reply::bad_request(FORMAT_USAGE),
    },
};

pub(super) const PROMETHEUS: Endpoint = Endpoint {
    path: "/stats/prometheus",
    effect: Effect::Shows,
    help: "print server stats in prometheus format",
    parameters: &[
        USED_ONLY,
        FILTER,
        INVERT_FILTER,
        parameter(
            "histogram_buckets",
            "Histogram bucket display mode; One of (cumulative, summary)",
        ),
    ],
    answer: prometheus,
};

const USED_ONLY: Parameter =
    parameter("usedonly", "Only include stats that have been written by system since restart");
const FILTER: Parameter =
    parameter("filter", "Regular expression (Google re2) for filtering stats");
const INVERT_FILTER: Parameter = parameter("invert_filter", "Invert the filter regex");

#[derive(Clone, Copy)]
enum Format {
    /// A page that refreshes itself.
    ActiveHtml,
    Html,
    Json,
    Text,
}

fn plain(admin: &Admin, query: &Query, format: Format) -> Reply {
    let wanted = select(query).and_then(|select| Ok((select, buckets(query, NATIVE_IN_PLAIN)?)));
    let (select, buckets) = match wanted {
        Ok((select, buckets)) => (select, buckets.unwrap_or(HistogramBuckets::Summary)),
        Err(why) => return Reply::bad_request(why),
    };
    admin.prepare_stats();
    let text = |select| stats::text(&admin.registry, select, buckets);
    match format {
        Format::ActiveHtml => page(format!("{PAGE}{REFRESH}"), text(select)),
        Format::Html => page(PAGE.to_owned(), text(select)),
        Format::Json => Reply::pieces(stats::json(&admin.registry, select, buckets))
            .with_content_type("application/json"),
        Format::Text => Reply::pieces(text(select)),
    }
}

/// The text for a browser.
fn page(head: String, text: impl Iterator<Item = String> + Send + 'static) -> Reply {
    let body = text.map(|piece| escaped(&piece).to_string());
    let pieces = iter::once(head + "<pre>\n").chain(body).chain(iter::once("</pre>\n".to_owned()));
    Reply::pieces(pieces).with_content_type("text/html; charset=UTF-8")
}

fn prometheus(admin: &Admin, query: &Query) -> Reply {
    let wanted = select(query).and_then(|select| Ok((select, buckets(query, NATIVE_IN_TEXT)?)));
    let (select, buckets) = match wanted {
        Ok((select, buckets)) => (select, buckets.unwrap_or(HistogramBuckets::Cumulative)),
        Err(why) => return Reply::bad_request(why),
    };
    if !matches!(buckets, HistogramBuckets::Cumulative | HistogramBuckets::Summary) {
        return Reply::bad_request("unsupported prometheus histogram bucket mode");
    }
    admin.prepare_stats();
    Reply::pieces(stats::prometheus(&admin.registry, select, buckets))
}

fn select(query: &Query) -> Result<Select, String> {
    let filter = query
        .value("filter")
        .map(|filter| re2::compile(filter).map_err(|error| format!("Invalid re2 regex: {error}")));
    let stat_type = query.value("type").map(str::parse).transpose();
    Ok(Select {
        used_only: query.has("usedonly"),
        filter: filter.transpose()?,
        invert_filter: query.has("invert_filter"),
        stat_type: stat_type.map_err(|()| "invalid &type= param")?.unwrap_or_default(),
    })
}

/// How histograms are shown. Native ones exist only in the protobuf format of Prometheus.
fn buckets(query: &Query, native: &str) -> Result<Option<HistogramBuckets>, String> {
    match query.value("histogram_buckets") {
        Some("prometheusnative") => Err(native.to_owned()),
        buckets => buckets.map(str::parse).transpose().map_err(|()| BUCKETS_USAGE.to_owned()),
    }
}

const PAGE: &str =
    "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>Stats of Corvoy</title>";
const REFRESH: &str = "<meta http-equiv=refresh content=5>";

// Envoy's texts, because scripts compare them.
const NATIVE_IN_PLAIN: &str = "Invalid histogram_buckets type for non prometheus stats type";
const NATIVE_IN_TEXT: &str =
    "unsupported prometheusnative histogram type when not using protobuf exposition format";
const FORMAT_USAGE: &str = "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n";
const BUCKETS_USAGE: &str = "usage: /stats?histogram_buckets=\
     (cumulative|disjoint|detailed|summary|prometheusnative)\n";
