//! Schema → matcher trees.

use std::collections::{BTreeMap, HashMap};

use corvoy_config::{self as config, Path, Problems};

use super::keys::{Ranges, Repeated, ServerNames};
use super::{Input, Matcher, OnMatch, Predicate, Search, Target, Test};
use crate::address::{self, Cidr};
use crate::cel::Program;
use crate::head_matcher::{self, HeaderName};
use crate::metadata_matcher;
use crate::radix::Radix;
use crate::runtime::Reader;
use crate::text_matcher;

/// What a tree needs from outside its own message.
pub(crate) struct Context<'a> {
    /// What a tree may look at where it is used.
    pub(crate) looks_at: LooksAt,
    pub(crate) runtime: &'a Reader<'a>,
}

/// What a tree may look at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum LooksAt {
    /// The headers of a request whose route is being chosen.
    RequestHeaders,
    /// A connection whose filter chain is being chosen.
    Connection,
    /// A request, with everything that is known of it before its response.
    Request,
    /// The same, and its response once it has begun.
    Exchange,
}

impl LooksAt {
    const fn sees_request(self) -> bool {
        matches!(self, Self::Request | Self::Exchange)
    }
}

/// Compiles the action of a tree.
pub(crate) type Action<'f, A> = dyn FnMut(&config::Any, &Path, &mut Problems) -> Option<A> + 'f;

/// Compiles the tree at `at`; `action` compiles its actions. `None` if there are errors.
pub(crate) fn matcher<A>(
    schema: &config::Matcher,
    context: &Context<'_>,
    action: &mut Action<'_, A>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Matcher<A>> {
    let config::Matcher { matcher_list, matcher_tree, on_no_match } = schema;
    let mut compiler = Compiler { context, action };
    let search = if let Some(list) = matcher_list {
        compiler.list(list, &at.field("matcher_list"), problems)
    } else if let Some(tree) = matcher_tree {
        compiler.tree(tree, &at.field("matcher_tree"), problems)
    } else {
        Some(Search::Nothing)
    };
    let on_no_match = match on_no_match {
        Some(schema) => {
            Some(compiler.on_match(schema, &at.field("on_no_match"), problems).map(Box::new)?)
        }
        None => None,
    };
    Some(Matcher { search: search?, on_no_match })
}

struct Compiler<'a, 'f, A> {
    context: &'a Context<'a>,
    action: &'a mut Action<'f, A>,
}

impl<A> Compiler<'_, '_, A> {
    fn list(
        &mut self,
        schema: &config::MatcherList,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Search<A>> {
        let config::MatcherList { matchers } = schema;
        let at = at.field("matchers");
        let mut list = Vec::with_capacity(matchers.len());
        for (i, config::FieldMatcher { predicate, on_match }) in matchers.iter().enumerate() {
            let at = at.index(i);
            let predicate = predicate.as_ref().and_then(|schema| {
                self::predicate(schema, self.context, &at.field("predicate"), problems)
            });
            let then = on_match
                .as_ref()
                .and_then(|schema| self.on_match(schema, &at.field("on_match"), problems));
            list.push(predicate.zip(then));
        }
        list.into_iter().collect::<Option<_>>().map(Search::List)
    }

    fn tree(
        &mut self,
        schema: &config::MatcherTree,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Search<A>> {
        let config::MatcherTree { input, exact_match_map, prefix_match_map, custom_match } = schema;
        let input = extension(input.as_ref());
        let input =
            self::input(input, self.context, &at.field("input").field("typed_config"), problems);
        if let Some(config::MatchMap { map }) = exact_match_map {
            let map = self.map(map, &at.field("exact_match_map").field("map"), problems)?;
            let map: HashMap<_, _> =
                map.into_iter().map(|(key, then)| (key.into_boxed_slice(), then)).collect();
            return Some(Search::Exact(input?, map));
        }
        if let Some(config::MatchMap { map }) = prefix_match_map {
            let map = self.map(map, &at.field("prefix_match_map").field("map"), problems)?;
            return Some(Search::Prefix(input?, Radix::new(map)));
        }
        let at = at.field("custom_match").field("typed_config");
        match extension(custom_match.as_ref()) {
            Some(config::Any::IpMatcher(schema)) => {
                let ranges = self.ranges(schema, &at, problems)?;
                Some(Search::Ranges(input?, ranges))
            }
            Some(config::Any::ServerNameMatcher(schema)) => {
                let names = self.server_names(schema, &at, problems)?;
                Some(Search::ServerNames(input?, names))
            }
            Some(other) => {
                let message =
                    format!("`{}` cannot be the custom_match of a tree", other.type_name());
                problems.error(&at, message);
                None
            }
            None => None,
        }
    }

    fn map(
        &mut self,
        map: &BTreeMap<String, config::OnMatch>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<BTreeMap<Vec<u8>, OnMatch<A>>> {
        let mut entries = Vec::with_capacity(map.len());
        for (key, schema) in map {
            let then = self.on_match(schema, &at.key(key), problems);
            entries.push(then.map(|then| (key.as_bytes().to_vec(), then)));
        }
        entries.into_iter().collect()
    }

    fn ranges(
        &mut self,
        schema: &config::IpMatcher,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Ranges<OnMatch<A>>> {
        let config::IpMatcher { range_matchers } = schema;
        let at = at.field("range_matchers");
        let mut declared = Vec::with_capacity(range_matchers.len());
        for (i, schema) in range_matchers.iter().enumerate() {
            let at = at.index(i);
            let config::IpRangeMatcher { ranges, on_match, exclusive } = schema;
            let at_ranges = at.field("ranges");
            let ranges = ranges.iter().enumerate();
            let ranges: Vec<Option<Cidr>> =
                ranges.map(|(i, range)| xds_cidr(range, &at_ranges.index(i), problems)).collect();
            let then = on_match
                .as_ref()
                .and_then(|schema| self.on_match(schema, &at.field("on_match"), problems));
            let ranges: Option<Vec<Cidr>> = ranges.into_iter().collect();
            declared.push(ranges.zip(then).map(|(ranges, then)| (ranges, *exclusive, then)));
        }
        let declared: Option<Vec<_>> = declared.into_iter().collect();
        declared.map(Ranges::new)
    }

    fn server_names(
        &mut self,
        schema: &config::ServerNameMatcher,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<ServerNames<OnMatch<A>>> {
        let config::ServerNameMatcher { domain_matchers } = schema;
        let at = at.field("domain_matchers");
        let mut declared = Vec::with_capacity(domain_matchers.len());
        for (i, config::DomainMatcher { domains, on_match }) in domain_matchers.iter().enumerate() {
            let at = at.index(i);
            for (i, domain) in domains.iter().enumerate() {
                if !is_domain(domain) {
                    let why = "a wildcard can only replace whole labels at the beginning: \
                               `*.example.com`";
                    problems.error(&at.field("domains").index(i), why);
                }
            }
            let then = on_match
                .as_ref()
                .and_then(|schema| self.on_match(schema, &at.field("on_match"), problems));
            declared.push(then.map(|then| (domains.clone(), then)));
        }
        let declared: Option<Vec<_>> = declared.into_iter().collect();
        let repeated = |Repeated { at: (matcher, domain) }| {
            let at = at.index(matcher).field("domains").index(domain);
            problems.error(&at, "this domain is repeated");
        };
        ServerNames::new(declared?).map_err(repeated).ok()
    }

    fn on_match(
        &mut self,
        schema: &config::OnMatch,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<OnMatch<A>> {
        let config::OnMatch { matcher, action, keep_matching } = schema;
        let to = if let Some(schema) = matcher {
            let at = at.field("matcher");
            let matcher = self::matcher(schema, self.context, self.action, &at, problems)?;
            Target::Matcher(Box::new(matcher))
        } else {
            let at = at.field("action").field("typed_config");
            let Some(schema) = extension(action.as_ref()) else {
                problems.missing(&at, "an action needs a typed_config");
                return None;
            };
            Target::Action((self.action)(schema, &at, problems)?)
        };
        if *keep_matching && self.context.looks_at == LooksAt::RequestHeaders {
            let why = "as in Envoy, a tree of routes cannot keep matching";
            problems.error(&at.field("keep_matching"), why);
        }
        Some(OnMatch { to, keep_matching: *keep_matching })
    }
}

fn extension(schema: Option<&config::XdsExtensionConfig>) -> Option<&config::Any> {
    let config::XdsExtensionConfig { typed_config } = schema?;
    typed_config.as_ref()
}

fn predicate(
    schema: &config::Predicate,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Predicate> {
    let config::Predicate { single_predicate, or_matcher, and_matcher, not_matcher } = schema;
    let mut all = |schema: &config::PredicateList, field: &str| {
        let config::PredicateList { predicate } = schema;
        let at = at.field(field).field("predicate");
        let each = predicate.iter().enumerate();
        let each: Vec<_> = each
            .map(|(i, schema)| self::predicate(schema, context, &at.index(i), problems))
            .collect();
        each.into_iter().collect::<Option<Vec<_>>>()
    };
    if let Some(schema) = and_matcher {
        return all(schema, "and_matcher").map(Predicate::And);
    }
    if let Some(schema) = or_matcher {
        return all(schema, "or_matcher").map(Predicate::Or);
    }
    if let Some(schema) = not_matcher {
        let negated = predicate(schema, context, &at.field("not_matcher"), problems)?;
        return Some(Predicate::Not(Box::new(negated)));
    }
    single(single_predicate.as_ref()?, context, &at.field("single_predicate"), problems)
}

fn single(
    schema: &config::SinglePredicate,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Predicate> {
    let config::SinglePredicate { input, value_match, custom_match } = schema;
    let at_input = at.field("input").field("typed_config");
    let at_custom = at.field("custom_match").field("typed_config");
    let input = extension(input.as_ref())?;
    let custom = extension(custom_match.as_ref());
    if let config::Any::HttpAttributesCelMatchInput(schema) = input {
        let config::HttpAttributesCelMatchInput {} = **schema;
        check_place(context.looks_at.sees_request(), context, input, &at_input, problems)?;
        let Some(config::Any::CelMatcher(schema)) = custom else {
            problems
                .missing(at, "this input needs the custom_match xds.type.matcher.v3.CelMatcher");
            return None;
        };
        return cel(schema, &at_custom, problems).map(Predicate::Cel);
    }
    if let Some(config::Any::MetadataInputMatcher(schema)) = custom {
        let config::Any::DynamicMetadataInput(_) = input else {
            let why = "this matcher needs the input \
                       envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput";
            problems.error(&at_custom, why);
            return None;
        };
        let input = self::input(Some(input), context, &at_input, problems)?;
        let Input::Metadata { namespace, path } = input else { return None };
        let config::MetadataInputMatcher { value, invert } = &**schema;
        let at = at_custom.field("value");
        let value = metadata_matcher::compile::value_matcher(value.as_ref()?, &at, problems)?;
        return Some(Predicate::Metadata { namespace, path, value, invert: *invert });
    }
    let input = self::input(Some(input), context, &at_input, problems);
    let test = match (value_match, custom) {
        (Some(schema), _) => {
            let schema = envoy_text(schema);
            text_matcher::compile::text(&schema, &at.field("value_match"), problems).map(Test::Text)
        }
        (None, Some(schema)) => test(schema, context, &at_custom, problems),
        (None, None) => None,
    };
    input.zip(test).map(|(input, test)| Predicate::Value(input, test))
}

fn test(
    schema: &config::Any,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Test> {
    Some(match schema {
        config::Any::IpInputMatcher(schema) => {
            // Every value that is an address is one that Envoy can parse, so its counter stays 0.
            let config::IpInputMatcher { cidr_ranges, stat_prefix: _ } = &**schema;
            Test::Ip(address::compile::cidrs(cidr_ranges, &at.field("cidr_ranges"), problems))
        }
        config::Any::ConsistentHashingMatcher(schema) => {
            let config::ConsistentHashingMatcher { threshold, modulo, seed } = &**schema;
            if threshold > modulo {
                problems.error(&at.field("threshold"), "must not exceed modulo");
            }
            Test::Hash { threshold: (*threshold).into(), modulo: (*modulo).into(), seed: *seed }
        }
        config::Any::RuntimeFractionMatcher(schema) => {
            let config::RuntimeFractionMatcher { runtime_fraction, seed } = &**schema;
            let fraction = head_matcher::compile::runtime_fraction(
                runtime_fraction.as_ref()?,
                context.runtime,
            )?;
            Test::Fraction { fraction, seed: *seed }
        }
        other => {
            let message = format!("`{}` does not match the value of an input", other.type_name());
            problems.error(at, message);
            return None;
        }
    })
}

fn cel(schema: &config::CelMatcher, at: &Path, problems: &mut Problems) -> Option<Program> {
    let config::CelMatcher { expr_match } = schema;
    let config::CelExpression { cel_expr_string } = expr_match.as_ref()?;
    let at = at.field("expr_match").field("cel_expr_string");
    Program::new(cel_expr_string).map_err(|error| problems.error(&at, error)).ok()
}

/// The same in Envoy's own message, which has the same fields.
fn envoy_text(schema: &config::XdsStringMatcher) -> config::StringMatcher {
    let config::XdsStringMatcher { exact, prefix, suffix, safe_regex, contains, ignore_case } =
        schema;
    let regex = |config::XdsRegexMatcher { regex }: &config::XdsRegexMatcher| {
        config::RegexMatcher { regex: regex.clone() }
    };
    config::StringMatcher {
        exact: exact.clone(),
        prefix: prefix.clone(),
        suffix: suffix.clone(),
        safe_regex: safe_regex.as_ref().map(regex),
        contains: contains.clone(),
        ignore_case: *ignore_case,
    }
}

fn xds_cidr(schema: &config::XdsCidrRange, at: &Path, problems: &mut Problems) -> Option<Cidr> {
    let config::XdsCidrRange { address_prefix, prefix_len } = schema;
    let schema =
        config::CidrRange { address_prefix: address_prefix.clone(), prefix_len: *prefix_len };
    address::compile::cidr(&schema, at, problems)
}

/// `a.example`, `*.example` or `*`.
fn is_domain(text: &str) -> bool {
    text == "*" || !text.strip_prefix("*.").unwrap_or(text).contains('*')
}

fn input(
    schema: Option<&config::Any>,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Input> {
    let schema = schema?;
    let looks_at = context.looks_at;
    let network = |input| (input, looks_at == LooksAt::Connection || looks_at.sees_request());
    let request = |input| (input, looks_at.sees_request());
    let response = |input| (input, looks_at == LooksAt::Exchange);
    let (input, exists) = match schema {
        config::Any::HttpRequestHeaderMatchInput(schema) => {
            let config::HttpRequestHeaderMatchInput { header_name } = &**schema;
            let exists = looks_at == LooksAt::RequestHeaders || looks_at.sees_request();
            (Input::RequestHeader(HeaderName::new(header_name)), exists)
        }
        config::Any::HttpResponseHeaderMatchInput(schema) => {
            let config::HttpResponseHeaderMatchInput { header_name } = &**schema;
            response(Input::ResponseHeader(HeaderName::new(header_name)))
        }
        config::Any::HttpResponseStatusCodeMatchInput(_) => response(Input::ResponseStatus),
        config::Any::HttpResponseStatusCodeClassMatchInput(_) => {
            response(Input::ResponseStatusClass)
        }
        config::Any::HttpResponseLocalReplyMatchInput(_) => response(Input::IsLocalReply),
        config::Any::HttpRequestQueryParamMatchInput(schema) => {
            let config::HttpRequestQueryParamMatchInput { query_param } = &**schema;
            request(Input::QueryParameter(query_param.as_bytes().into()))
        }
        config::Any::FilterStateInput(schema) => {
            let config::FilterStateInput { key } = &**schema;
            let exists = looks_at == LooksAt::RequestHeaders || looks_at.sees_request();
            (Input::FilterState(key.as_str().into()), exists)
        }
        config::Any::DynamicMetadataInput(schema) => {
            let config::DynamicMetadataInput { filter, path } = &**schema;
            let key = |segment: &config::DynamicMetadataInputPathSegment| {
                let config::DynamicMetadataInputPathSegment { key } = segment;
                key.as_deref().map(Box::from)
            };
            let path = path.iter().map(key).collect::<Option<_>>()?;
            request(Input::Metadata { namespace: filter.as_str().into(), path })
        }
        config::Any::DestinationIpInput(_) => network(Input::DestinationIp),
        config::Any::DestinationPortInput(_) => network(Input::DestinationPort),
        config::Any::SourceIpInput(_) => network(Input::SourceIp),
        config::Any::SourcePortInput(_) => network(Input::SourcePort),
        config::Any::DirectSourceIpInput(_) => network(Input::DirectSourceIp),
        config::Any::SourceTypeInput(_) => network(Input::SourceType),
        config::Any::ServerNameInput(_) => network(Input::ServerName),
        config::Any::TransportProtocolInput(_) => {
            (Input::TransportProtocol, looks_at == LooksAt::Connection)
        }
        config::Any::ApplicationProtocolInput(_) => {
            (Input::ApplicationProtocols, looks_at == LooksAt::Connection)
        }
        config::Any::UriSanInput(_) => request(Input::PeerUris),
        config::Any::DnsSanInput(_) => request(Input::PeerDnsNames),
        config::Any::SubjectInput(_) => request(Input::PeerSubject),
        other => {
            problems.error(at, format!("`{}` is not an input", other.type_name()));
            return None;
        }
    };
    check_place(exists, context, schema, at, problems)?;
    Some(input)
}

/// Rejects an input that does not exist where the tree is used.
fn check_place(
    exists: bool,
    context: &Context<'_>,
    input: &config::Any,
    at: &Path,
    problems: &mut Problems,
) -> Option<()> {
    if exists {
        return Some(());
    }
    let place = match context.looks_at {
        LooksAt::RequestHeaders => "a tree of routes can only look at request headers",
        LooksAt::Connection => "a tree of filter chains can only look at the connection",
        LooksAt::Request | LooksAt::Exchange => {
            "this tree can only look at the request and its connection"
        }
    };
    problems.error(at, format!("{place}, not at `{}`", input.type_name()));
    None
}

#[cfg(test)]
#[path = "compile_tests.rs"]
mod tests;
