//! Schema → the rules for stats.

use corvoy_config as config;
use corvoy_config::{Path, Problems};

use crate::re2;
use crate::stats::rules::{Matcher, Rules};
use crate::stats::summary::Bound;
use crate::stats::tags::{Anchor, DEFAULTS, Tag, TagRegex, TagRules, UNUSED_DEFAULTS};
use crate::text_matcher::TextMatcher;
use crate::text_matcher::compile::{invalid_regex, text};

/// Compiles a `StatsConfig`.
pub fn rules(schema: &config::StatsConfig, at: &Path, problems: &mut Problems) -> Rules {
    let config::StatsConfig {
        stats_tags,
        use_all_default_tags,
        stats_matcher,
        histogram_bucket_settings,
        allow_default_tag_overrides,
    } = schema;
    let mut tags = TagRules::default();
    if use_all_default_tags.is_some_and(|all| !all) {
        tags.defaults = Some(Vec::new());
    }
    let may_override = allow_default_tag_overrides.unwrap_or(false);
    for (i, specifier) in stats_tags.iter().enumerate() {
        let at = at.field("stats_tags").index(i);
        add_tag(specifier, may_override, &mut tags, &at, problems);
    }
    let matcher = stats_matcher.as_ref();
    let matcher = matcher
        .map(|schema| self::matcher(schema, &at.field("stats_matcher"), problems))
        .unwrap_or_default();
    let settings = histogram_bucket_settings.iter().enumerate();
    let buckets = settings.filter_map(|(i, schema)| {
        let config::HistogramBucketSettings { r#match, buckets } = schema;
        let at = at.field("histogram_bucket_settings").index(i);
        let matcher = text(r#match.as_ref()?, &at.field("match"), problems)?;
        // Without buckets a setting says nothing about them.
        if buckets.is_empty() {
            return None;
        }
        let mut uppers = buckets.clone();
        uppers.sort_by(f64::total_cmp);
        Some((matcher, uppers.into_iter().map(Bound::new).collect()))
    });
    Rules { buckets: buckets.collect(), matcher, tags }
}

fn add_tag(
    specifier: &config::TagSpecifier,
    may_override: bool,
    tags: &mut TagRules,
    at: &Path,
    problems: &mut Problems,
) {
    let config::TagSpecifier { tag_name, regex, fixed_value } = specifier;
    let is_default = DEFAULTS.contains(&&**tag_name) || UNUSED_DEFAULTS.contains(&&**tag_name);
    if let Some(value) = fixed_value {
        tags.fixed.push(Tag { name: tag_name.clone().into(), value: value.clone() });
    } else if let Some(pattern) = regex.as_ref().filter(|regex| !regex.is_empty()) {
        match re2::compile(pattern) {
            Ok(regex) => {
                if is_default && may_override {
                    tags.override_default(tag_name);
                }
                let anchor = Anchor::of(pattern);
                tags.regexes.push(TagRegex { tag: tag_name.clone(), regex, anchor });
            }
            Err(error) => problems.error(&at.field("regex"), invalid_regex(&error)),
        }
    } else if !is_default {
        let why = format!(
            "No regex specified for tag specifier and no default regex for name: '{tag_name}'"
        );
        problems.error(&at.field("tag_name"), why);
    } else if let Some(defaults) = &mut tags.defaults {
        defaults.push(tag_name.clone());
    }
}

fn matcher(schema: &config::StatsMatcher, at: &Path, problems: &mut Problems) -> Matcher {
    let config::StatsMatcher { reject_all, exclusion_list, inclusion_list } = schema;
    if let Some(config::ListStringMatcher { patterns }) = exclusion_list {
        Matcher::Excluding(list(patterns, &at.field("exclusion_list"), problems))
    } else if let Some(config::ListStringMatcher { patterns }) = inclusion_list {
        Matcher::Including(list(patterns, &at.field("inclusion_list"), problems))
    } else if reject_all.unwrap_or(false) {
        Matcher::Nothing
    } else {
        Matcher::All
    }
}

fn list(
    patterns: &[config::StringMatcher],
    at: &Path,
    problems: &mut Problems,
) -> Vec<TextMatcher> {
    let at = at.field("patterns");
    let patterns = patterns.iter().enumerate();
    patterns.filter_map(|(i, pattern)| text(pattern, &at.index(i), problems)).collect()
}
