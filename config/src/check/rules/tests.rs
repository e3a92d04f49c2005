use std::collections::BTreeSet;

use super::{Rules, seconds};
use crate::{Path, Problems, descriptors};
use prost_reflect::{DynamicMessage, Value};

/// The rules that the interpreter implements, for each kind.
const KNOWN: &[(&str, &[&str])] = &[
    ("any", &["required", "in", "not_in"]),
    ("bool", &["const"]),
    ("bytes", &["len", "min_len", "max_len", "pattern"]),
    ("double", NUMBERS),
    ("duration", &["required", "const", "lt", "lte", "gt", "gte", "in", "not_in"]),
    ("enum", &["const", "defined_only", "in", "not_in"]),
    ("float", NUMBERS),
    ("int32", NUMBERS),
    ("int64", NUMBERS),
    ("map", &["min_pairs", "max_pairs", "keys", "values"]),
    ("message", &["required", "skip"]),
    ("repeated", &["min_items", "max_items", "unique", "items", "ignore_empty"]),
    (
        "string",
        &[
            "address",
            "const",
            "contains",
            "hostname",
            "ignore_empty",
            "in",
            "ip",
            "ipv4",
            "ipv6",
            "len",
            "len_bytes",
            "max_bytes",
            "max_len",
            "min_bytes",
            "min_len",
            "not_contains",
            "not_in",
            "pattern",
            "prefix",
            "strict",
            "suffix",
            "well_known_regex",
        ],
    ),
    ("uint32", NUMBERS),
    ("uint64", NUMBERS),
];
const NUMBERS: &[&str] = &["const", "lt", "lte", "gt", "gte", "in", "not_in", "ignore_empty"];

fn collect(rules: &DynamicMessage, used: &mut BTreeSet<(String, String)>) {
    for (kind, rules) in rules.fields() {
        let Some(rules) = rules.as_message() else { continue };
        for (rule, value) in rules.fields() {
            used.insert((kind.name().to_owned(), rule.name().to_owned()));
            if let ("items" | "keys" | "values", Value::Message(nested)) = (rule.name(), value) {
                collect(nested, used);
            }
        }
    }
}

#[test]
fn every_rule_in_envoys_api_is_implemented() {
    let pool = descriptors::pool().unwrap();
    let extension = pool.get_extension_by_name("validate.rules").unwrap();
    let mut used = BTreeSet::new();
    for field in pool.all_messages().flat_map(|message| message.fields().collect::<Vec<_>>()) {
        let options = field.options();
        if options.has_extension(&extension) {
            collect(options.get_extension(&extension).as_message().unwrap(), &mut used);
        }
    }
    assert!(used.len() > 30);
    for (kind, rule) in used {
        let known = KNOWN.iter().find(|(name, _)| *name == kind).map(|(_, rules)| *rules);
        assert!(known.unwrap_or_default().contains(&rule.as_str()), "{kind}.{rule}");
    }
}

/// Checks a value against rules in protobuf's text format.
fn verdict(rules: &str, value: &Value, present: bool) -> Vec<String> {
    let pool = descriptors::pool().unwrap();
    let field_rules = pool.get_message_by_name("validate.FieldRules").unwrap();
    let rules = DynamicMessage::parse_text_format(field_rules, rules).unwrap();
    let mut problems = Problems::default();
    let at = Path::root().field("it");
    Rules::compile(&rules).unwrap().check(value, present, &at, &mut problems);
    problems.errors().map(|problem| problem.message.clone()).collect()
}

#[test]
fn numbers_have_limits() {
    let port = "uint32 { lte: 65535 gt: 0 }";
    assert!(verdict(port, &Value::U32(65535), true).is_empty());
    assert_eq!(verdict(port, &Value::U32(65536), true), ["it must be at most 65535, not 65536"]);
    assert_eq!(verdict(port, &Value::U32(0), true), ["it must be more than 0, not 0"]);
    assert!(verdict("double { gte: 0 lte: 100 }", &Value::F64(f64::NAN), true).len() == 2);
    assert!(verdict("uint32 { gte: 10 ignore_empty: true }", &Value::U32(0), true).is_empty());
    assert_eq!(
        verdict("uint64 { in: 1 in: 2 }", &Value::U64(3), true),
        ["it must be one of 1, 2, not 3"]
    );
}

#[test]
fn strings_have_lengths_and_formats() {
    let text = |text: &str| Value::String(text.to_owned());
    assert_eq!(verdict("string { min_len: 1 }", &text(""), true), ["it cannot be empty"]);
    assert!(verdict("string { min_len: 0 }", &text(""), true).is_empty());
    assert!(verdict("string { min_len: 2 max_len: 2 }", &text("éé"), true).is_empty());
    assert_eq!(
        verdict("string { max_bytes: 3 }", &text("éé"), true),
        ["it must be at most 3 bytes, not 4 bytes"]
    );
    let pattern = "string { pattern: \"^[a-z]+$\" ignore_empty: true }";
    assert!(verdict(pattern, &text(""), true).is_empty());
    assert_eq!(verdict(pattern, &text("A"), true), ["`A` must match `^[a-z]+$`"]);
    assert_eq!(
        verdict("string { prefix: \"/\" suffix: \"x\" }", &text("y"), true),
        ["`y` must start with `/`", "`y` must end with `x`"]
    );
    assert_eq!(
        verdict("string { in: \"a\" in: \"b\" }", &text("c"), true),
        ["`c` must be `a` or `b`"]
    );
    let header = "string { well_known_regex: HTTP_HEADER_NAME strict: false }";
    assert_eq!(
        verdict(header, &text("a\r"), true),
        ["`a\\r` is not a valid header name: use letters, digits and any of !#$%&'*+-.^_`|~"]
    );
}

#[test]
fn lists_have_sizes_and_their_items_have_rules() {
    let list = |items: &[&str]| {
        Value::List(items.iter().map(|item| Value::String((*item).to_owned())).collect())
    };
    let rules = "repeated { min_items: 1 unique: true items { string { min_len: 1 } } }";
    assert_eq!(verdict(rules, &list(&[]), false), Vec::<String>::new());
    assert_eq!(verdict(rules, &list(&[]), true), ["it cannot be empty"]);
    assert_eq!(
        verdict(rules, &list(&["a", "", "a"]), true),
        ["it[1] cannot be empty", "it has this value twice"]
    );
}

#[test]
fn a_missing_required_field_is_an_error_and_an_absent_field_has_no_other_rules() {
    let nothing = Value::Bool(false);
    for rules in ["message { required: true }", "duration { required: true gt {} }"] {
        assert_eq!(verdict(rules, &nothing, false), ["it is required"]);
    }
    assert!(verdict("duration { gt {} }", &nothing, false).is_empty());
}

#[test]
fn durations_are_shown_as_they_are_written() {
    assert_eq!(seconds(5_000_000_000), "5s");
    assert_eq!(seconds(-1_500_000_000), "-1.5s");
    assert_eq!(seconds(1_000_000), "0.001s");
    assert_eq!(seconds(0), "0s");
}
