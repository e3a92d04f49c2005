//! Which stats to show.

use std::str::FromStr;

use regex::bytes::Regex;

use crate::stats::reading::{Reading, Value};

/// Which stats to show. The default is all.
#[derive(Clone, Debug, Default)]
pub struct Select {
    /// Only what was written since the process started.
    pub used_only: bool,
    /// Only names that match the filter.
    pub filter: Option<Regex>,
    /// Only names that do not match the filter.
    pub invert_filter: bool,
    /// Only this type.
    pub stat_type: StatType,
}

impl Select {
    pub(super) fn takes_reading(&self, reading: &Reading<'_>) -> bool {
        let by_type = match self.stat_type {
            StatType::All => true,
            StatType::Counters => matches!(reading.value, Value::Counter(_)),
            StatType::Gauges => matches!(reading.value, Value::Gauge(_)),
            StatType::Histograms => matches!(reading.value, Value::Histogram(_)),
            StatType::TextReadouts => matches!(reading.value, Value::Text(_)),
        };
        by_type && (reading.used || !self.used_only)
    }

    pub(super) fn takes_name(&self, name: &str) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| filter.is_match(name.as_bytes()) != self.invert_filter)
    }
}

/// A type of stats, as `/stats?type=` names it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StatType {
    /// `All`
    #[default]
    All,
    /// `Counters`
    Counters,
    /// `Gauges`
    Gauges,
    /// `Histograms`
    Histograms,
    /// `TextReadouts`
    TextReadouts,
}

impl FromStr for StatType {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "All" => Ok(Self::All),
            "Counters" => Ok(Self::Counters),
            "Gauges" => Ok(Self::Gauges),
            "Histograms" => Ok(Self::Histograms),
            "TextReadouts" => Ok(Self::TextReadouts),
            _ => Err(()),
        }
    }
}

/// How histograms are shown, as `/stats?histogram_buckets=` names it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum HistogramBuckets {
    /// `cumulative`: how many values are at or below each bound.
    Cumulative,
    /// `detailed`: bins and quantiles.
    Detailed,
    /// `disjoint`: how many values are between each two bounds.
    Disjoint,
    /// `summary` or `none`: quantiles.
    #[default]
    Summary,
}

impl FromStr for HistogramBuckets {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        match name {
            "cumulative" => Ok(Self::Cumulative),
            "detailed" => Ok(Self::Detailed),
            "disjoint" => Ok(Self::Disjoint),
            "none" | "summary" => Ok(Self::Summary),
            _ => Err(()),
        }
    }
}
