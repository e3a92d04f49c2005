//! Which entries pass, as with Envoy 1.40.0.

use std::time::{Duration, SystemTime};

use super::*;
use crate::flags::Flags;
use crate::format::StreamInfo;
use crate::http::Fields;
use crate::metadata::Metadata;
use crate::metadata_matcher::ValueMatcher;
use crate::request::route::tests::{request, response};

#[derive(Default)]
struct Known {
    status: Option<u16>,
    metadata: Metadata,
}

impl StreamInfo for Known {
    fn start_time(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
    fn response_code(&self) -> Option<u16> {
        self.status
    }
    fn response_flags(&self) -> Flags {
        self.status.map_or(Flags::NONE, |_| Flags::of(Flag::NoRouteFound))
    }
    fn duration(&self) -> Option<Duration> {
        Some(Duration::from_millis(20))
    }
    fn dynamic_metadata(&self) -> Option<&Metadata> {
        Some(&self.metadata)
    }
}

fn status(status: u16) -> Known {
    Known { status: Some(status), ..Known::default() }
}

fn compare(op: Op, value: u64) -> Comparison {
    Comparison { op, value: value.into() }
}

#[test]
fn numbers_are_compared() {
    let known = status(404);
    let inputs = Inputs::new(&known);
    for (op, value, expected) in [
        (Op::Eq, 404, true),
        (Op::Eq, 400, false),
        (Op::Ge, 404, true),
        (Op::Ge, 405, false),
        (Op::Le, 404, true),
        (Op::Le, 403, false),
        (Op::Ne, 404, false),
        (Op::Ne, 500, true),
    ] {
        let filter = Filter::StatusCode(compare(op, value));
        assert_eq!(filter.passes(&inputs, 0), expected, "{op:?} {value}");
    }
    assert!(Filter::Duration(compare(Op::Eq, 20)).passes(&inputs, 0));
    let unanswered = Known::default();
    assert!(Filter::StatusCode(compare(Op::Eq, 0)).passes(&Inputs::new(&unanswered), 0));
}

#[test]
fn conditions_are_combined() {
    let known = status(200);
    let inputs = Inputs::new(&known);
    let holds = || Filter::StatusCode(compare(Op::Eq, 200));
    let fails = || Filter::StatusCode(compare(Op::Ne, 200));
    assert!(Filter::And(vec![holds(), holds()]).passes(&inputs, 0));
    assert!(!Filter::And(vec![holds(), fails()]).passes(&inputs, 0));
    assert!(Filter::Or(vec![fails(), holds()]).passes(&inputs, 0));
    assert!(!Filter::Or(vec![fails(), fails()]).passes(&inputs, 0));
    assert!(Filter::NotHealthCheck.passes(&inputs, 0));
    assert!(!Filter::Traceable.passes(&inputs, 0), "nothing is traced");
}

#[test]
fn a_status_of_grpc_is_told_by_trailers_head_or_http() {
    let filter = |exclude| Filter::GrpcStatus { statuses: vec![0, 12], exclude };
    let mut trailers = Fields::default();
    trailers.append_other(b"grpc-status", b"0");
    let head = response(200, &["grpc-status: 13"]);
    let (found, missing) = (status(200), status(404));
    for (inputs, expected) in [
        (Inputs { trailers: Some(&trailers), response: Some(&head), ..Inputs::new(&found) }, true),
        (Inputs { response: Some(&head), ..Inputs::new(&found) }, false),
        (Inputs::new(&missing), true),
        // 200 is no status of gRPC: it is unknown.
        (Inputs::new(&found), false),
        (Inputs::new(&Known::default()), false),
    ] {
        assert_eq!(filter(false).passes(&inputs, 0), expected);
        assert_eq!(filter(true).passes(&inputs, 0), !expected);
    }
}

#[test]
fn entries_are_selected_by_their_type() {
    let known = status(200);
    let entry_type = EntryType::DownstreamStart;
    let inputs = Inputs { entry_type, ..Inputs::new(&known) };
    let passes = |types: &[EntryType], exclude| {
        Filter::EntryType { types: types.to_vec(), exclude }.passes(&inputs, 0)
    };
    assert!(passes(&[EntryType::DownstreamEnd, entry_type], false));
    assert!(!passes(&[EntryType::DownstreamEnd], false));
    assert!(!passes(&[entry_type], true));
    assert!(!passes(&[], false));
    assert!(passes(&[], true));
}

#[test]
fn flags_and_headers_are_looked_at() {
    let known = status(404);
    let inputs = Inputs::new(&known);
    assert!(Filter::ResponseFlag(vec![]).passes(&inputs, 0));
    assert!(Filter::ResponseFlag(vec![Flag::NoRouteFound]).passes(&inputs, 0));
    assert!(!Filter::ResponseFlag(vec![Flag::LocalReset]).passes(&inputs, 0));
    let unanswered = Known::default();
    assert!(!Filter::ResponseFlag(vec![]).passes(&Inputs::new(&unanswered), 0));
}

#[test]
fn metadata_that_is_not_there_is_decided_separately() {
    let mut known = status(200);
    known.metadata.set("ns", "key", "x");
    let inputs = Inputs::new(&known);
    let passes = |key: &str, value, if_not_found| {
        let path = [key.into()].into();
        let matcher = MetadataMatcher { namespace: "ns".into(), path, value };
        Filter::Metadata { matcher: Some(matcher), if_not_found }.passes(&inputs, 0)
    };
    assert!(passes("key", ValueMatcher::Present(true), false));
    assert!(!passes("key", ValueMatcher::Null, true));
    assert!(passes("other", ValueMatcher::Present(true), true));
    assert!(!passes("other", ValueMatcher::Present(false), false));
    assert!(Filter::Metadata { matcher: None, if_not_found: true }.passes(&inputs, 0));
}

#[test]
fn expressions_are_filters() {
    let known = status(404);
    let passes = |expression: &str| {
        Filter::Cel(Program::new(expression).unwrap()).passes(&Inputs::new(&known), 0)
    };
    assert!(passes("response.code >= 400"));
    assert!(!passes("response.code < 400"));
    assert!(!passes("response.code"));
}

/// As decided by Envoy for these ids and 50 %.
#[test]
fn a_request_id_decides_for_all_that_see_it() {
    let known = status(200);
    let filter = Filter::Runtime(Sample {
        numerator: 50.into(),
        denominator: 100,
        by: Randomness::RequestId { salt: 1 },
    });
    for (digits, expected) in [
        ("00000000", true),
        ("00000031", true),
        ("00000032", false),
        ("00009600", true),
        ("ffffffff", false),
    ] {
        let id = format!("x-request-id: {digits}-0000-4000-8000-000000000000");
        let request = request("/", &[&id]);
        let inputs = Inputs { request: Some(&request), ..Inputs::new(&known) };
        for random in 0..20 {
            assert_eq!(filter.passes(&inputs, random), expected, "{digits}");
        }
    }
}

#[test]
fn without_a_uuid_each_filter_decides_for_itself() {
    let known = status(200);
    let request = request("/", &["x-request-id: 00000000-0000-4000-8000-000000000000"]);
    let inputs = Inputs { request: Some(&request), ..Inputs::new(&known) };
    let own = |salt| {
        Filter::Runtime(Sample {
            numerator: 50.into(),
            denominator: 100,
            by: Randomness::Own { salt },
        })
    };
    let by_id = Filter::Runtime(Sample {
        numerator: 50.into(),
        denominator: 100,
        by: Randomness::RequestId { salt: 3 },
    });
    let (one, other) = (own(1), own(2));
    let (mut passed, mut equal, mut without_id) = (0, 0, 0);
    for number in 0..2000_u64 {
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        passed += u32::from(one.passes(&inputs, random));
        equal += u32::from(one.passes(&inputs, random) == other.passes(&inputs, random));
        without_id += u32::from(by_id.passes(&Inputs::new(&known), random));
    }
    for count in [passed, equal, without_id] {
        assert!((800..1200).contains(&count), "{count} of 2000");
    }
}
