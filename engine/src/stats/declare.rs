//! `stats!`: declares the stats of a component.

use crate::stats::{CodeStats, Counter, Gauge, Histogram, NamedCounters, TextReadout};

/// Declares a set of stats: a struct of counters, gauges and histograms whose fields are Envoy's stat names.
///
/// ```text
/// stats! {
///     /// `cluster.<name>.`
///     pub struct ClusterStats {
///         counter upstream_rq_total;
///         gauge upstream_cx_active;                   // shown: the sum over the shards
///         peak gauge cx_open;                         // shown: the largest of the shards
///         worker counter downstream_cx_total;         // shown once more for each shard as worker_N.…
///         histogram upstream_cx_connect_ms;
///         late histogram upstream_rq_time;            // the name appears with the first value
///         hash version;                               // a gauge: the hash of a text
///         text version_text;                          // a text that the control plane sets
///         codes external = "external.";               // upstream_rq_200, _2xx, _completed, as they come
///         names ciphers = "ciphers.";                 // ciphers.TLS_AES_128_GCM_SHA256, as they come
///         counter total_match_count = "default.total_match_count";
///         constant counter lb_subsets_created;        // a name Envoy has that nothing here changes: no memory
///         late constant counter response_flood = "http1.response_flood"; // there once a shard counted anything
///     }
/// }
/// ```
///
/// The names of a `late pub struct` appear with the first use of the set.
macro_rules! stats {
    ($(#[$meta:meta])* late $vis:vis struct $set:ident { $($body:tt)* }) => {
        $crate::stats::declare::stats! { @munch [$(#[$meta])* $vis $set true] [] [] $($body)* }
    };
    ($(#[$meta:meta])* $vis:vis struct $set:ident { $($body:tt)* }) => {
        $crate::stats::declare::stats! { @munch [$(#[$meta])* $vis $set false] [] [] $($body)* }
    };

    // Constants have a name and no field.
    (@munch $head:tt [$($fields:tt)*] [$($listed:tt)*] constant $kind:ident $field:ident; $($rest:tt)*) => {
        $crate::stats::declare::stats! {
            @munch $head [$($fields)*] [$($listed)* { constant $kind, _unused, stringify!($field) }] $($rest)*
        }
    };
    (@munch $head:tt [$($fields:tt)*] [$($listed:tt)*] constant $kind:ident $field:ident = $name:literal;
     $($rest:tt)*) => {
        $crate::stats::declare::stats! {
            @munch $head [$($fields)*] [$($listed)* { constant $kind, _unused, $name }] $($rest)*
        }
    };
    (@munch $head:tt [$($fields:tt)*] [$($listed:tt)*]
     late constant $kind:ident $field:ident = $name:literal; $($rest:tt)*) => {
        $crate::stats::declare::stats! {
            @munch $head [$($fields)*] [$($listed)* { late_constant $kind, _unused, $name }] $($rest)*
        }
    };
    // A qualifier and a kind.
    (@munch $head:tt [$($fields:tt)*] [$($listed:tt)*] $how:ident $kind:ident $field:ident; $($rest:tt)*) => {
        $crate::stats::declare::stats! {
            @munch $head [$($fields)* { $kind $field }]
            [$($listed)* { $how $kind, $field, stringify!($field) }] $($rest)*
        }
    };
    (@munch $head:tt [$($fields:tt)*] [$($listed:tt)*] $how:ident $kind:ident $field:ident = $name:literal;
     $($rest:tt)*) => {
        $crate::stats::declare::stats! {
            @munch $head [$($fields)* { $kind $field }] [$($listed)* { $how $kind, $field, $name }] $($rest)*
        }
    };
    // A kind alone.
    (@munch $head:tt [$($fields:tt)*] [$($listed:tt)*] $kind:ident $field:ident; $($rest:tt)*) => {
        $crate::stats::declare::stats! {
            @munch $head [$($fields)* { $kind $field }]
            [$($listed)* { plain $kind, $field, stringify!($field) }] $($rest)*
        }
    };
    (@munch $head:tt [$($fields:tt)*] [$($listed:tt)*] $kind:ident $field:ident = $name:literal;
     $($rest:tt)*) => {
        $crate::stats::declare::stats! {
            @munch $head [$($fields)* { $kind $field }] [$($listed)* { plain $kind, $field, $name }] $($rest)*
        }
    };
    (@munch [$(#[$meta:meta])* $vis:vis $set:ident $is_late:literal] [$({ $ftype:ident $fname:ident })*]
     [$({ $how:ident $kind:ident, $field:ident, $name:expr })*]) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        $vis struct $set {
            $(#[doc = concat!("`", stringify!($fname), "`")]
            pub $fname: $crate::stats::declare::stats!(@type $ftype),)*
        }

        impl $crate::stats::StatSet for $set {
            const IS_LATE: bool = $is_late;
            const STATS: &'static [$crate::stats::Declared<Self>] = &[
                $($crate::stats::Declared {
                    name: $name,
                    kind: $crate::stats::declare::stats!(@kind $how $kind),
                    stat: $crate::stats::declare::stats!(@stat $how $kind $field),
                },)*
            ];
        }
    };

    (@type counter) => { $crate::stats::Counter };
    (@type gauge) => { $crate::stats::Gauge };
    (@type histogram) => { $crate::stats::Histogram };
    (@type codes) => { $crate::stats::CodeStats };
    (@type hash) => { $crate::stats::TextReadout };
    (@type text) => { $crate::stats::TextReadout };
    (@type names) => { $crate::stats::NamedCounters };

    (@kind plain counter) => { $crate::stats::Kind::Counter };
    (@kind plain gauge) => { $crate::stats::Kind::Gauge };
    (@kind plain histogram) => { $crate::stats::Kind::Histogram };
    (@kind plain codes) => { $crate::stats::Kind::Codes };
    (@kind plain names) => { $crate::stats::Kind::Names };
    (@kind plain hash) => { $crate::stats::Kind::Hash };
    (@kind plain text) => { $crate::stats::Kind::Text };
    (@kind constant counter) => { $crate::stats::Kind::ConstantCounter };
    (@kind constant gauge) => { $crate::stats::Kind::ConstantGauge };
    (@kind declared codes) => { $crate::stats::Kind::DeclaredCodes };
    (@kind late_constant counter) => { $crate::stats::Kind::LateConstantCounter };
    (@kind late histogram) => { $crate::stats::Kind::LateHistogram };
    (@kind peak gauge) => { $crate::stats::Kind::PeakGauge };
    (@kind worker counter) => { $crate::stats::Kind::WorkerCounter };
    (@kind worker gauge) => { $crate::stats::Kind::WorkerGauge };

    (@stat late_constant $kind:ident $field:ident) => { |_| None };
    (@stat constant $kind:ident $field:ident) => { |_| None };
    (@stat $how:ident counter $field:ident) => { |set| Some($crate::stats::Stat::Counter(&set.$field)) };
    (@stat $how:ident gauge $field:ident) => { |set| Some($crate::stats::Stat::Gauge(&set.$field)) };
    (@stat $how:ident histogram $field:ident) => {
        |set| Some($crate::stats::Stat::Histogram(&set.$field))
    };
    (@stat $how:ident codes $field:ident) => { |set| Some($crate::stats::Stat::Codes(&set.$field)) };
    (@stat $how:ident hash $field:ident) => { |set| Some($crate::stats::Stat::Text(&set.$field)) };
    (@stat $how:ident text $field:ident) => { |set| Some($crate::stats::Stat::Text(&set.$field)) };
    (@stat $how:ident names $field:ident) => { |set| Some($crate::stats::Stat::Names(&set.$field)) };
}

pub(crate) use stats;

/// A struct declared by [`stats!`].
pub trait StatSet: Default + Send + Sync + Sized + 'static {
    /// Whether its names appear only with the first use.
    const IS_LATE: bool;
    /// What it counts, in the order of the declaration.
    const STATS: &'static [Declared<Self>];
}

/// One line of a declaration.
#[derive(Debug)]
pub struct Declared<S> {
    /// The stat's name after the scope's prefix; for codes, what precedes `upstream_rq_`; for names, what
    /// precedes each of them.
    pub name: &'static str,
    /// How it is shown.
    pub kind: Kind,
    /// The field in one block; none for a constant.
    pub stat: for<'a> fn(&'a S) -> Option<Stat<'a>>,
}

/// How a stat is shown, and how the blocks of the shards are combined.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The sum over the shards.
    Counter,
    /// Response codes; a name appears when it is first counted.
    Codes,
    /// Always zero: Envoy has the name, and nothing here changes it.
    ConstantCounter,
    /// Always zero.
    ConstantGauge,
    /// As `Codes`, but `upstream_rq_completed` is there from the start.
    DeclaredCodes,
    /// The sum over the shards.
    Gauge,
    /// A hash of a text.
    Hash,
    /// The values of all the shards.
    Histogram,
    /// As `ConstantCounter`; the name appears once a shard has counted anything of the set.
    LateConstantCounter,
    /// As `Histogram`; the name appears with the first value.
    LateHistogram,
    /// A counter for each name; a name appears when it is first counted.
    Names,
    /// The largest of the shards, for a state that each shard detects by itself.
    PeakGauge,
    /// A text.
    Text,
    /// The sum, and each shard's value under `worker_N.`.
    WorkerCounter,
    /// The sum, and each shard's value under `worker_N.`.
    WorkerGauge,
}

/// The field of one block.
#[derive(Clone, Copy, Debug)]
pub enum Stat<'a> {
    /// A counter.
    Counter(&'a Counter),
    /// Response codes.
    Codes(&'a CodeStats),
    /// A gauge.
    Gauge(&'a Gauge),
    /// A histogram.
    Histogram(&'a Histogram),
    /// A counter for each name.
    Names(&'a NamedCounters),
    /// A text.
    Text(&'a TextReadout),
}
