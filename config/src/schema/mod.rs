//! What Corvoy reads of Envoy's API: one struct a message, named and spelled as in the proto files.
//!
//! Optional messages, wrapper types and members of a oneof are `Option`; at most one member of a oneof
//! is ever set. Durations are `std::time::Duration`, never negative. What a field means is written in
//! Envoy's proto files and not repeated here.
//!
//! A field has one of three answers, and all are given here: it is in the struct and the engine's
//! `compile.rs` answers for its value; it is listed as harmless with the reason; or it is in neither,
//! which refuses a configuration that sets it. `docs/COMPATIBILITY.md` is written from the same table.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

mod any;
mod bootstrap;
mod cluster;
mod core;
mod http_connection_manager;
mod listener;
mod matcher;
mod route;

pub use any::Any;
pub use bootstrap::*;
pub use cluster::*;
pub use core::*;
pub use http_connection_manager::*;
pub use listener::*;
pub use matcher::*;
pub use route::*;

/// A struct that stands for a message of Envoy's API.
pub trait Message: for<'de> Deserialize<'de> {
    /// The full name of the message.
    const NAME: &'static str;
}

/// What Corvoy says to each field of one message.
#[derive(Clone, Copy, Debug)]
pub struct Coverage {
    /// The full name of the message.
    pub message: &'static str,
    /// Fields that reach the engine, spelled as in Rust.
    fields: &'static [&'static str],
    /// Fields that make no difference to Corvoy, each with the reason.
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

/// The answers for every message that Corvoy reads. A message that is not here is refused whole.
pub fn coverage() -> impl Iterator<Item = &'static Coverage> {
    [BOOTSTRAP, CLUSTER, CORE, HTTP_CONNECTION_MANAGER, LISTENER, MATCHER, ROUTE]
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

/// Declares enums, values spelled as in the proto file but in Rust's case. The first is the default.
macro_rules! schema_enum {
    ($(enum $name:ident = $message:literal { $first:ident $(, $value:ident)* $(,)? })*) => {
        $(
            #[doc = concat!("Envoy's `", $message, "`.")]
            #[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize)]
            #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
            pub enum $name {
                #[doc = concat!("Envoy's default, `", stringify!($first), "`.")]
                #[default]
                $first,
                $(
                    #[doc = concat!("Envoy's `", stringify!($value), "`.")]
                    $value,
                )*
            }
        )*
    };
}

use {schema, schema_enum};

#[cfg(test)]
mod tests;
