//! What `stats_config` says: which stats are shown, their tags, and the buckets of histograms.
//!
//! A stat that the matcher rejects is still counted: that is cheaper than to check.

use std::sync::Arc;

use crate::stats::summary::{BOUNDS, Bound};
use crate::stats::tags::TagRules;
use crate::text_matcher::TextMatcher;

/// The rules of a `StatsConfig`.
#[derive(Debug, Default)]
pub struct Rules {
    pub(super) matcher: Matcher,
    pub(super) tags: TagRules,
    /// The first that matches a histogram's name has its buckets.
    pub(super) buckets: Vec<(TextMatcher, Arc<[Bound]>)>,
}

/// `stats_matcher`
#[derive(Debug, Default)]
pub(super) enum Matcher {
    /// All stats are shown.
    #[default]
    All,
    /// `inclusion_list`, and all that match none of `exclusion_list`.
    Excluding(Vec<TextMatcher>),
    Including(Vec<TextMatcher>),
    /// `reject_all`
    Nothing,
}

impl Rules {
    /// Whether the stat is shown.
    pub(super) fn shows(&self, name: &str) -> bool {
        let matches = |list: &[TextMatcher]| list.iter().any(|it| it.matches(name.as_bytes()));
        match &self.matcher {
            Matcher::All => true,
            Matcher::Excluding(list) => !matches(list),
            Matcher::Including(list) => matches(list),
            Matcher::Nothing => false,
        }
    }

    /// Whether every stat is shown.
    pub(super) const fn show_all(&self) -> bool {
        matches!(self.matcher, Matcher::All)
    }

    /// The buckets of the histogram.
    pub(super) fn bounds(&self, name: &str) -> &[Bound] {
        let own = self.buckets.iter().find(|(matcher, _)| matcher.matches(name.as_bytes()));
        own.map_or(&BOUNDS, |(_, bounds)| bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Vec<TextMatcher> {
        vec![TextMatcher::prefix(text)]
    }

    #[test]
    fn a_matcher_shows_what_it_includes_or_does_not_exclude() {
        let shown = |matcher| {
            let rules = Rules { matcher, ..Rules::default() };
            ["cluster.a.upstream_rq_total", "server.live"].map(|name| rules.shows(name))
        };
        assert_eq!(shown(Matcher::All), [true, true]);
        assert_eq!(shown(Matcher::Including(prefix("cluster."))), [true, false]);
        assert_eq!(shown(Matcher::Excluding(prefix("cluster."))), [false, true]);
        assert_eq!(shown(Matcher::Nothing), [false, false]);
    }

    #[test]
    fn the_first_setting_that_matches_a_histogram_has_its_buckets() {
        let bounds = |uppers: &[f64]| uppers.iter().map(|upper| Bound::new(*upper)).collect();
        let buckets = vec![
            (prefix("cluster.").remove(0), bounds(&[1.0, 2.0])),
            (prefix("cluster.a").remove(0), bounds(&[3.0])),
        ];
        let rules = Rules { buckets, ..Rules::default() };
        assert_eq!(rules.bounds("cluster.a.upstream_rq_time").len(), 2);
        assert_eq!(rules.bounds("http.in.downstream_rq_time").len(), BOUNDS.len());
    }
}
