//! `envoy/type/matcher/v3`, and the header and query parameter matchers of a route.

use super::schema;

schema! {
    const MATCHER;

    struct ListStringMatcher = "envoy.type.matcher.v3.ListStringMatcher" {
        patterns: Vec<StringMatcher>,
    }

    struct StringMatcher = "envoy.type.matcher.v3.StringMatcher" {
        exact: Option<String>,
        prefix: Option<String>,
        suffix: Option<String>,
        safe_regex: Option<RegexMatcher>,
        contains: Option<String>,
        ignore_case: bool,
    }

    struct RegexMatcher = "envoy.type.matcher.v3.RegexMatcher" {
        regex: String,
    } harmless {
        google_re2: "RE2 is the only syntax",
    }

    struct RegexMatchAndSubstitute = "envoy.type.matcher.v3.RegexMatchAndSubstitute" {
        pattern: Option<RegexMatcher>,
        substitution: String,
    }

    struct HeaderMatcher = "envoy.config.route.v3.HeaderMatcher" {
        name: String,
        exact_match: Option<String>,
        safe_regex_match: Option<RegexMatcher>,
        range_match: Option<Int64Range>,
        present_match: Option<bool>,
        prefix_match: Option<String>,
        suffix_match: Option<String>,
        contains_match: Option<String>,
        string_match: Option<StringMatcher>,
        invert_match: bool,
        treat_missing_header_as_empty: bool,
    }

    struct QueryParameterMatcher = "envoy.config.route.v3.QueryParameterMatcher" {
        name: String,
        string_match: Option<StringMatcher>,
        present_match: Option<bool>,
    }

    struct CookieMatcher = "envoy.config.route.v3.CookieMatcher" {
        name: String,
        string_match: Option<StringMatcher>,
        invert_match: bool,
    }

    struct Int64Range = "envoy.type.v3.Int64Range" {
        start: i64,
        end: i64,
    }
}
