//! The results of matchers, as recorded from Envoy 1.40.0.

use super::*;
use crate::fraction::Fraction;
use crate::request::route::tests::{request, response};
use crate::text_matcher::{FullRegex, Literal};

fn text(kind: fn(Literal) -> TextMatcher, text: &str, ignore_case: bool) -> HeaderCondition {
    HeaderCondition::Text(kind(Literal::new(text, ignore_case)))
}

fn condition(name: &str) -> HeaderCondition {
    match name {
        "exact" => text(TextMatcher::Exact, "1", false),
        "exact2" => text(TextMatcher::Exact, "2", false),
        "exact12" => text(TextMatcher::Exact, "1,2", false),
        "exactempty" => text(TextMatcher::Exact, "", false),
        "prefix" => text(TextMatcher::Prefix, "ab", false),
        "suffix" => text(TextMatcher::Suffix, "yz", false),
        "contains" => text(TextMatcher::Contains, "mm", false),
        "regex" => HeaderCondition::Text(TextMatcher::Regex(FullRegex::new("a.*z").unwrap())),
        "iexact" => text(TextMatcher::Exact, "AbC", true),
        "icontains" => text(TextMatcher::Contains, "MM", true),
        "iprefix" => text(TextMatcher::Prefix, "AB", true),
        "range" => HeaderCondition::Range(-5..10),
        "present" | "none" => HeaderCondition::Present(true),
        "absent" => HeaderCondition::Present(false),
        other => panic!("{other}"),
    }
}

#[test]
fn headers_match_as_in_envoy() {
    let requests: [&[&str]; 17] = [
        &[],
        &["x-a:"],
        &["x-a: 1"],
        &["x-a: 2"],
        &["x-a: 1", "x-a: 2"],
        &["x-a: 2", "x-a: 1"],
        &["x-a: 1,2"],
        &["x-a: ABCmmxyz"],
        &["x-a: abc"],
        &["x-a: 9"],
        &["x-a: 10"],
        &["x-a: +3"],
        &["x-a: -5"],
        &["x-a: abc", "x-a: 1"],
        &["x-a: abmmz"],
        &["x-a:", "x-a: 1"],
        &["x-a: 3 4"],
    ];
    let heads = requests.map(|fields| request("/", fields));
    for (name, modifiers, answers) in HEADER_ANSWERS {
        let matcher = HeaderMatcher {
            name: HeaderName::new("X-A"),
            condition: condition(name),
            invert: modifiers.contains("inv"),
            missing_is_empty: modifiers.contains("mis"),
        };
        let shown = |head| if matcher.matches(head) { 'Y' } else { 'N' };
        let found: String = heads.iter().map(shown).collect();
        assert_eq!(found, *answers, "{name} {modifiers}");
    }
}

#[test]
fn pseudo_headers_match_too() {
    let head = request("/a?q", &[]);
    for (name, value) in [
        (":method", "GET"),
        (":authority", "t.test"),
        ("Host", "t.test"),
        (":path", "/a?q"),
        (":scheme", "http"),
    ] {
        let condition = text(TextMatcher::Exact, value, false);
        let name = HeaderName::new(name);
        let matcher = HeaderMatcher { name, condition, invert: false, missing_is_empty: false };
        assert!(matcher.matches(&head), "{matcher:?}");
    }
    let condition = text(TextMatcher::Prefix, "50", false);
    let name = HeaderName::new(":status");
    let matcher = HeaderMatcher { name, condition, invert: false, missing_is_empty: false };
    assert!(matcher.matches(&response(503, &[])) && !matcher.matches(&response(404, &[])));
}

#[test]
fn the_first_query_parameter_counts_and_is_not_decoded() {
    let exact = |value| QueryCondition::Text(TextMatcher::Exact(Literal::new(value, false)));
    let queries = [
        "", "a", "a=", "a=1", "a=2&a=1", "a=1&a=2", "A=1", "b=1&a=1", "a=%31", "a=a%20b", "&a=1",
        "%61=1", "a=1=2", "a&a=1",
    ];
    for (condition, answers) in [
        (exact("1"), "NNNYNYNYNNYNNN"),
        (exact("a b"), "NNNNNNNNNNNNNN"),
        (exact("a%20b"), "NNNNNNNNNYNNNN"),
        (exact(""), "NYYNNNNNNNNNNY"),
        (QueryCondition::Present(true), "NYYYYYNYYYYNYY"),
        (QueryCondition::Present(false), "YNNNNNYNNNNYNN"),
    ] {
        let matcher = QueryParameterMatcher { name: b"a"[..].into(), condition };
        let shown = |query: &str| if matcher.matches(query.as_bytes()) { 'Y' } else { 'N' };
        assert_eq!(queries.map(shown).iter().collect::<String>(), answers, "{matcher:?}");
    }
}

#[test]
fn the_first_cookie_counts_without_its_quotes() {
    let cookies: [&[&str]; 17] = [
        &[],
        &["cookie: a=1"],
        &["cookie: b=2; a=1"],
        &["cookie: a=2; a=1"],
        &["cookie: a=1; a=2"],
        &["cookie: a=\"1\""],
        &["cookie: a=2", "cookie: a=1"],
        &["cookie: a"],
        &["cookie: a="],
        &["cookie: b=1;a=1"],
        &["cookie: A=1"],
        &["cookie: a =1"],
        &["cookie: a= 1"],
        &["cookie: a=1 ; b=2"],
        &["cookie: a=\"1\" ; b=2"],
        &["cookie: b=2;  a=1"],
        &["cookie: b=2;\ta=1"],
    ];
    let heads = cookies.map(|fields| request("/", fields));
    for (value, invert, answers) in [
        ("1", false, "NYYNYYNNNYNNNNNYN"),
        ("1", true, "YNNYNNYYYNYYYYYNY"),
        ("", false, "NNNNNNNNYNNNNNNNN"),
        ("\"1\"", false, "NNNNNNNNNNNNNNNNN"),
    ] {
        let text = TextMatcher::Exact(Literal::new(value, false));
        let matcher = CookieMatcher { name: b"a"[..].into(), text, invert };
        let shown = |head| if matcher.matches(head) { 'Y' } else { 'N' };
        assert_eq!(heads.iter().map(shown).collect::<String>(), answers, "{value} {invert}");
    }
}

#[test]
fn a_fraction_includes_random_numbers_by_their_remainder() {
    let third = Fraction { numerator: 33, denominator: 100 };
    let taken = (0..1000).filter(|random| third.includes(*random)).count();
    assert_eq!(taken, 330);
    assert!(third.includes(132) && !third.includes(133));
}

/// Matcher, its modifiers, and the result for each request in turn.
const HEADER_ANSWERS: &[(&str, &str, &str)] = &[
    ("exact", "", "NNYNYYNNNNNNNYNYN"),
    ("exact", "inv", "NYNYNNYYYYYYYNYNY"),
    ("exact", "mis", "NNYNYYNNNNNNNYNYN"),
    ("exact", "invmis", "YYNYNNYYYYYYYNYNY"),
    ("exact2", "", "NNNYYYNNNNNNNNNNN"),
    ("exact2", "inv", "NYYNNNYYYYYYYYYYY"),
    ("exact2", "mis", "NNNYYYNNNNNNNNNNN"),
    ("exact2", "invmis", "YYYNNNYYYYYYYYYYY"),
    ("exact12", "", "NNNNNNYNNNNNNNNNN"),
    ("exact12", "inv", "NYYYYYNYYYYYYYYYY"),
    ("exact12", "mis", "NNNNNNYNNNNNNNNNN"),
    ("exact12", "invmis", "YYYYYYNYYYYYYYYYY"),
    ("prefix", "", "NNNNNNNNYNNNNYYNN"),
    ("prefix", "inv", "NYYYYYYYNYYYYNNYY"),
    ("prefix", "mis", "NNNNNNNNYNNNNYYNN"),
    ("prefix", "invmis", "YYYYYYYYNYYYYNNYY"),
    ("suffix", "", "NNNNNNNYNNNNNNNNN"),
    ("suffix", "inv", "NYYYYYYNYYYYYYYYY"),
    ("suffix", "mis", "NNNNNNNYNNNNNNNNN"),
    ("suffix", "invmis", "YYYYYYYNYYYYYYYYY"),
    ("contains", "", "NNNNNNNYNNNNNNYNN"),
    ("contains", "inv", "NYYYYYYNYYYYYYNYY"),
    ("contains", "mis", "NNNNNNNYNNNNNNYNN"),
    ("contains", "invmis", "YYYYYYYNYYYYYYNYY"),
    ("regex", "", "NNNNNNNNNNNNNNYNN"),
    ("regex", "inv", "NYYYYYYYYYYYYYNYY"),
    ("regex", "mis", "NNNNNNNNNNNNNNYNN"),
    ("regex", "invmis", "YYYYYYYYYYYYYYNYY"),
    ("iexact", "", "NNNNNNNNYNNNNYNNN"),
    ("iexact", "inv", "NYYYYYYYNYYYYNYYY"),
    ("iexact", "mis", "NNNNNNNNYNNNNYNNN"),
    ("iexact", "invmis", "YYYYYYYYNYYYYNYYY"),
    ("icontains", "", "NNNNNNNYNNNNNNYNN"),
    ("icontains", "inv", "NYYYYYYNYYYYYYNYY"),
    ("icontains", "mis", "NNNNNNNYNNNNNNYNN"),
    ("icontains", "invmis", "YYYYYYYNYYYYYYNYY"),
    ("iprefix", "", "NNNNNNNYYNNNNYYNN"),
    ("iprefix", "inv", "NYYYYYYNNYYYYNNYY"),
    ("iprefix", "mis", "NNNNNNNYYNNNNYYNN"),
    ("iprefix", "invmis", "YYYYYYYNNYYYYNNYY"),
    ("range", "", "NNYYYYNNNYNYYYNYN"),
    ("range", "inv", "NYNNNNYYYNYNNNYNY"),
    ("range", "mis", "NNYYYYNNNYNYYYNYN"),
    ("range", "invmis", "YYNNNNYYYNYNNNYNY"),
    ("present", "", "NYYYYYYYYYYYYYYYY"),
    ("present", "inv", "YNNNNNNNNNNNNNNNN"),
    ("present", "mis", "YYYYYYYYYYYYYYYYY"),
    ("present", "invmis", "NNNNNNNNNNNNNNNNN"),
    ("absent", "", "YNNNNNNNNNNNNNNNN"),
    ("absent", "inv", "NYYYYYYYYYYYYYYYY"),
    ("absent", "mis", "NNNNNNNNNNNNNNNNN"),
    ("absent", "invmis", "YYYYYYYYYYYYYYYYY"),
    ("none", "", "NYYYYYYYYYYYYYYYY"),
    ("none", "inv", "YNNNNNNNNNNNNNNNN"),
    ("none", "mis", "YYYYYYYYYYYYYYYYY"),
    ("none", "invmis", "NNNNNNNNNNNNNNNNN"),
    ("exactempty", "", "NYNNNNNNNNNNNNNYN"),
    ("exactempty", "inv", "NNYYYYYYYYYYYYYNY"),
    ("exactempty", "mis", "YYNNNNNNNNNNNNNYN"),
    ("exactempty", "invmis", "NNYYYYYYYYYYYYYNY"),
];
