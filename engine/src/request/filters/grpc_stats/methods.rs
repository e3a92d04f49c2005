//! The stats of gRPC methods: `cluster.<name>.grpc.<service>.<method>.`
//!
//! Their names come with requests, so a shard looks them up, and asks the registry for those that it has not
//! seen yet. Invariant: a shard knows a bounded number of methods; the others are counted without a name.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::http::grpc;
use crate::limits;
use crate::stats::{Registry, Scope, stats};

stats! {
    /// `cluster.<name>.grpc.<service>.<method>.`, or without the service and the method.
    late pub struct GrpcStats {
        names counts = "";
        late histogram upstream_rq_time;
    }
}

/// How the stats of a method are named.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(in crate::request::filters) enum Naming {
    /// `grpc.<service>.<method>`
    Grpc,
    /// The same, with `_` in place of the dots in the service.
    GrpcWithoutDots,
    /// `grpc-web.<service>.<method>`
    GrpcWeb,
}

/// The service and the method in a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::request::filters) struct Method<'a> {
    pub(super) service: &'a str,
    pub(super) method: &'a str,
}

impl<'a> Method<'a> {
    /// `/<service>/<method>`; none: it is not such a path.
    pub(in crate::request::filters) fn of(path: &'a [u8]) -> Option<Self> {
        let path = std::str::from_utf8(path).ok()?;
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let (service, method) = (parts.next()?, parts.next()?);
        parts.next().is_none().then_some(Self { service, method })
    }

    /// Whether it can be part of the name of a stat.
    fn is_nameable(self) -> bool {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        self.service.bytes().chain(self.method.bytes()).all(is_plain)
    }
}

/// The stats of the methods that a shard has seen.
#[derive(Debug, Default)]
pub struct Methods(RefCell<HashMap<(Naming, Box<str>), OfCluster>>);

/// By the path; an empty one for those without a name.
type OfCluster = HashMap<Box<[u8]>, Arc<Scope<GrpcStats>>>;

impl Methods {
    /// The stats of a method of a cluster; without a method, those without a name.
    pub(in crate::request::filters) fn stats(
        &self,
        registry: &Registry,
        naming: Naming,
        cluster: &str,
        method: Option<Method<'_>>,
    ) -> Arc<Scope<GrpcStats>> {
        let mut clusters = self.0.borrow_mut();
        let of_cluster = clusters.entry((naming, cluster.into())).or_default();
        let mut method = method.filter(|method| method.is_nameable());
        if let Some(stats) = of_cluster.get(&*key(method)) {
            return Arc::clone(stats);
        }
        if of_cluster.len() >= limits::GRPC_METHODS_MAX {
            method = None;
        }
        let scope = || registry.scope(&prefix(naming, cluster, method));
        Arc::clone(of_cluster.entry(key(method).into()).or_insert_with(scope))
    }
}

fn key(method: Option<Method<'_>>) -> Vec<u8> {
    method.map_or_else(Vec::new, |it| [it.service, "/", it.method].concat().into_bytes())
}

fn prefix(naming: Naming, cluster: &str, method: Option<Method<'_>>) -> String {
    let protocol = match naming {
        Naming::Grpc | Naming::GrpcWithoutDots => "grpc",
        Naming::GrpcWeb => "grpc-web",
    };
    match method {
        None => format!("cluster.{cluster}.{protocol}."),
        Some(Method { service, method }) => {
            let service = match naming {
                Naming::GrpcWithoutDots => service.replace('.', "_"),
                Naming::Grpc | Naming::GrpcWeb => service.to_owned(),
            };
            format!("cluster.{cluster}.{protocol}.{service}.{method}.")
        }
    }
}

impl GrpcStats {
    /// Counts the `grpc-status` of a call.
    pub(in crate::request::filters) fn count_status(&self, status: &[u8]) {
        // Envoy also counts statuses that gRPC does not have, each under its text.
        if let Some(name) = grpc::status_name(status) {
            self.counts.record(name);
        }
        self.counts.record(if status == b"0" { "success" } else { "failure" });
        self.counts.record("total");
    }

    pub(super) fn count_request_messages(&self, count: u64) {
        self.counts.add("request_message_count", count);
    }

    pub(super) fn count_response_messages(&self, count: u64) {
        self.counts.add("response_message_count", count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_two_segments() {
        let method = |path: &'static str| Method::of(path.as_bytes());
        let found = Some(Method { service: "a.B", method: "C" });
        assert_eq!(method("/a.B/C"), found);
        assert_eq!(method("//a.B/C/"), found);
        assert_eq!(method("/a.B"), None);
        assert_eq!(method("/a.B/C/D"), None);
        assert_eq!(method("/"), None);
    }

    #[test]
    fn names_are_bounded_and_plain() {
        let (registry, methods) = (Registry::new(1), Methods::default());
        let of =
            |path: &str| methods.stats(&registry, Naming::Grpc, "c", Method::of(path.as_bytes()));
        let nameless = methods.stats(&registry, Naming::Grpc, "c", None);
        assert!(Arc::ptr_eq(&of("/a b/c"), &nameless), "not a name for a stat");
        for number in 0..limits::GRPC_METHODS_MAX {
            drop(of(&format!("/s/m{number}")));
        }
        assert!(!Arc::ptr_eq(&of("/s/m0"), &nameless), "one of the first");
        assert!(Arc::ptr_eq(&of("/s/one-more"), &nameless));
    }
}
