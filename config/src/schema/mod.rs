//! The part of Envoy's API that Corvoy reads: one struct per message, with the names of the proto
//! files.
//!
//! Optional messages, wrapper types and members of a oneof are `Option`; at most one member of a
//! oneof is set. Durations are `std::time::Duration`, never negative. Envoy's proto files say what
//! a field means; it is not repeated here.
//!
//! Every field has one of three answers. It is in the struct, and the engine's `compile.rs` handles
//! its value; it is listed as harmless, with the reason; or it is in neither, and a configuration
//! that sets it is rejected. `docs/COMPATIBILITY.md` is generated from the same table.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

mod access_log;
mod access_log_filter;
mod any;
mod bootstrap;
mod cluster;
mod compression;
mod core;
mod discovery;
mod edge_filters;
mod ext_authz;
mod ext_proc;
mod fault;
mod grpc_filters;
mod health_check;
mod http2;
mod http_admission;
mod http_connection_manager;
mod http_filters;
mod json_to_metadata;
mod jwt_authn;
mod listener;
mod load_balancing;
mod lua;
mod matcher;
mod matching;
mod metrics;
mod network;
mod rate_limit;
mod rbac;
mod route;
mod service;
mod stateful_session;
mod telemetry;
mod tls;

pub use access_log::*;
pub use access_log_filter::*;
pub use any::Any;
pub use bootstrap::*;
pub use cluster::*;
pub use compression::*;
pub use core::*;
pub use discovery::*;
pub use edge_filters::*;
pub use ext_authz::*;
pub use ext_proc::*;
pub use fault::*;
pub use grpc_filters::*;
pub use health_check::*;
pub use http_admission::*;
pub use http_connection_manager::*;
pub use http_filters::*;
pub use http2::*;
pub use json_to_metadata::*;
pub use jwt_authn::*;
pub use listener::*;
pub use load_balancing::*;
pub use lua::*;
pub use matcher::*;
pub use matching::*;
pub use metrics::*;
pub use network::*;
pub use rate_limit::*;
pub use rbac::*;
pub use route::*;
pub use service::*;
pub use stateful_session::*;
pub use telemetry::*;
pub use tls::*;

/// A struct for a message of Envoy's API.
pub trait Message: for<'de> Deserialize<'de> {
    /// The full name of the message.
    const NAME: &'static str;
}

/// The answers to the fields of one message.
#[derive(Clone, Copy, Debug)]
pub struct Coverage {
    /// The full name of the message.
    pub message: &'static str,
    /// Fields that reach the engine, with their Rust names.
    fields: &'static [&'static str],
    /// Fields that make no difference in Corvoy, each with the reason.
    pub harmless: &'static [(&'static str, &'static str)],
    /// Whether a message fits the struct.
    #[cfg(test)]
    pub(crate) fits: fn(prost_reflect::DynamicMessage) -> Result<(), crate::structs::Error>,
}

impl Coverage {
    /// Fields that reach the engine.
    pub fn done(&self) -> impl Iterator<Item = &'static str> {
        self.fields.iter().map(|field| field.strip_prefix("r#").unwrap_or(field))
    }
}

/// The answers for every message that Corvoy reads. Any other message is rejected.
pub fn coverage() -> impl Iterator<Item = &'static Coverage> {
    [
        ACCESS_LOG,
        ACCESS_LOG_FILTER,
        BOOTSTRAP,
        CLUSTER,
        COMPRESSION,
        CORE,
        DISCOVERY,
        EDGE_FILTERS,
        EXT_AUTHZ,
        EXT_PROC,
        FAULT,
        GRPC_FILTERS,
        HEALTH_CHECK,
        HTTP2,
        HTTP_ADMISSION,
        HTTP_CONNECTION_MANAGER,
        HTTP_FILTERS,
        JSON_TO_METADATA,
        JWT_AUTHN,
        LISTENER,
        LOAD_BALANCING,
        LUA,
        MATCHER,
        MATCHING,
        METRICS,
        NETWORK,
        RATE_LIMIT,
        RBAC,
        ROUTE,
        SERVICE,
        STATEFUL_SESSION,
        TELEMETRY,
        TLS,
    ]
    .into_iter()
    .flatten()
}

/// Declares structs and what they cover: `Name = "full.name" { fields } harmless { field: "why" }`.
macro_rules! schema {
    (const $table:ident; $(
        struct $name:ident = $message:literal {
            $($field:ident: $kind:ty,)*
        }
        $(harmless { $($ignored:ident: $why:literal,)* })?
    )*) => {
        $(
            #[doc = concat!("Envoy's `", $message, "`.")]
            #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
            #[serde(default)]
            pub struct $name {
                $(
                    #[doc = concat!("Envoy's `", stringify!($field), "`.")]
                    pub $field: $kind,
                )*
            }

            impl $crate::schema::Message for $name {
                const NAME: &'static str = $message;
            }
        )*

        pub(super) const $table: &[$crate::schema::Coverage] = &[$(
            $crate::schema::Coverage {
                message: $message,
                fields: &[$(stringify!($field)),*],
                harmless: &[$($((stringify!($ignored), $why)),*)?],
                #[cfg(test)]
                fits: |message| $crate::structs::decode::<$name>(message).map(drop),
            }
        ),*];
    };
}

/// Declares enums, with the values of the proto file in Rust's case. The first is the default.
macro_rules! schema_enum {
    ($(enum $name:ident = $message:literal {
        $(#[$of_first:meta])? $first:ident $(, $(#[$attribute:meta])? $value:ident)* $(,)?
    })*) => {
        $(
            #[doc = concat!("Envoy's `", $message, "`.")]
            #[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
            #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
            pub enum $name {
                #[doc = concat!("Envoy's default, `", stringify!($first), "`.")]
                #[default]
                $(#[$of_first])?
                $first,
                $(
                    #[doc = concat!("Envoy's `", stringify!($value), "`.")]
                    $(#[$attribute])?
                    $value,
                )*
            }
        )*
    };
}

use {schema, schema_enum};

#[cfg(test)]
mod tests;
