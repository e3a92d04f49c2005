//! `xds/type/matcher/v3`: matcher trees, with the inputs and matchers that Envoy gives them.

use super::{
    Any, BTreeMap, CidrRange, RuntimeFractionalPercent, TypedExtensionConfig, ValueMatcher, schema,
};

schema! {
    const MATCHING;

    struct ExtensionWithMatcher = "envoy.extensions.common.matching.v3.ExtensionWithMatcher" {
        xds_matcher: Option<Matcher>,
        extension_config: Option<TypedExtensionConfig>,
    }

    struct ExtensionWithMatcherPerRoute =
        "envoy.extensions.common.matching.v3.ExtensionWithMatcherPerRoute" {
        xds_matcher: Option<Matcher>,
    }

    struct SkipFilter = "envoy.extensions.filters.common.matcher.action.v3.SkipFilter" {}

    struct Composite = "envoy.extensions.filters.http.composite.v3.Composite" {
        named_filter_chains: BTreeMap<String, FilterChainConfiguration>,
        matcher: Option<Matcher>,
    }

    struct CompositePerRoute = "envoy.extensions.filters.http.composite.v3.CompositePerRoute" {
        matcher: Option<Matcher>,
    }

    struct FilterChainConfiguration =
        "envoy.extensions.filters.http.composite.v3.FilterChainConfiguration" {
        typed_config: Vec<TypedExtensionConfig>,
    }

    struct ExecuteFilterAction = "envoy.extensions.filters.http.composite.v3.ExecuteFilterAction" {
        typed_config: Option<TypedExtensionConfig>,
        filter_chain: Option<FilterChainConfiguration>,
        filter_chain_name: String,
        sample_percent: Option<RuntimeFractionalPercent>,
    }

    struct Matcher = "xds.type.matcher.v3.Matcher" {
        matcher_list: Option<MatcherList>,
        matcher_tree: Option<MatcherTree>,
        on_no_match: Option<Box<OnMatch>>,
    }

    struct OnMatch = "xds.type.matcher.v3.Matcher.OnMatch" {
        matcher: Option<Box<Matcher>>,
        action: Option<XdsExtensionConfig>,
        keep_matching: bool,
    }

    struct MatcherList = "xds.type.matcher.v3.Matcher.MatcherList" {
        matchers: Vec<FieldMatcher>,
    }

    struct FieldMatcher = "xds.type.matcher.v3.Matcher.MatcherList.FieldMatcher" {
        predicate: Option<Predicate>,
        on_match: Option<OnMatch>,
    }

    struct Predicate = "xds.type.matcher.v3.Matcher.MatcherList.Predicate" {
        single_predicate: Option<SinglePredicate>,
        or_matcher: Option<PredicateList>,
        and_matcher: Option<PredicateList>,
        not_matcher: Option<Box<Predicate>>,
    }

    struct SinglePredicate = "xds.type.matcher.v3.Matcher.MatcherList.Predicate.SinglePredicate" {
        input: Option<XdsExtensionConfig>,
        value_match: Option<XdsStringMatcher>,
        custom_match: Option<XdsExtensionConfig>,
    }

    struct PredicateList = "xds.type.matcher.v3.Matcher.MatcherList.Predicate.PredicateList" {
        predicate: Vec<Predicate>,
    }

    struct MatcherTree = "xds.type.matcher.v3.Matcher.MatcherTree" {
        input: Option<XdsExtensionConfig>,
        exact_match_map: Option<MatchMap>,
        prefix_match_map: Option<MatchMap>,
        custom_match: Option<XdsExtensionConfig>,
    }

    struct MatchMap = "xds.type.matcher.v3.Matcher.MatcherTree.MatchMap" {
        map: BTreeMap<String, OnMatch>,
    }

    struct XdsExtensionConfig = "xds.core.v3.TypedExtensionConfig" {
        typed_config: Option<Any>,
    } harmless {
        name: "an extension is found by its type",
    }

    struct XdsCidrRange = "xds.core.v3.CidrRange" {
        address_prefix: String,
        prefix_len: Option<u32>,
    }

    struct XdsStringMatcher = "xds.type.matcher.v3.StringMatcher" {
        exact: Option<String>,
        prefix: Option<String>,
        suffix: Option<String>,
        safe_regex: Option<XdsRegexMatcher>,
        contains: Option<String>,
        ignore_case: bool,
    }

    struct XdsRegexMatcher = "xds.type.matcher.v3.RegexMatcher" {
        regex: String,
    } harmless {
        google_re2: "RE2 is the only syntax",
    }

    struct IpMatcher = "xds.type.matcher.v3.IPMatcher" {
        range_matchers: Vec<IpRangeMatcher>,
    }

    struct IpRangeMatcher = "xds.type.matcher.v3.IPMatcher.IPRangeMatcher" {
        ranges: Vec<XdsCidrRange>,
        on_match: Option<OnMatch>,
        exclusive: bool,
    }

    struct ServerNameMatcher = "xds.type.matcher.v3.ServerNameMatcher" {
        domain_matchers: Vec<DomainMatcher>,
    }

    struct DomainMatcher = "xds.type.matcher.v3.ServerNameMatcher.DomainMatcher" {
        domains: Vec<String>,
        on_match: Option<OnMatch>,
    }

    struct CelMatcher = "xds.type.matcher.v3.CelMatcher" {
        expr_match: Option<CelExpression>,
    } harmless {
        description: "it is for people",
    }

    struct CelExpression = "xds.type.v3.CelExpression" {
        cel_expr_string: String,
    }

    struct HttpAttributesCelMatchInput = "xds.type.matcher.v3.HttpAttributesCelMatchInput" {}

    struct HttpRequestHeaderMatchInput = "envoy.type.matcher.v3.HttpRequestHeaderMatchInput" {
        header_name: String,
    }

    struct HttpResponseHeaderMatchInput = "envoy.type.matcher.v3.HttpResponseHeaderMatchInput" {
        header_name: String,
    }

    struct HttpResponseStatusCodeMatchInput =
        "envoy.type.matcher.v3.HttpResponseStatusCodeMatchInput" {}

    struct HttpResponseStatusCodeClassMatchInput =
        "envoy.type.matcher.v3.HttpResponseStatusCodeClassMatchInput" {}

    struct HttpResponseLocalReplyMatchInput =
        "envoy.type.matcher.v3.HttpResponseLocalReplyMatchInput" {}

    struct HttpRequestQueryParamMatchInput = "envoy.type.matcher.v3.HttpRequestQueryParamMatchInput" {
        query_param: String,
    }

    struct DestinationIpInput =
        "envoy.extensions.matching.common_inputs.network.v3.DestinationIPInput" {}

    struct DestinationPortInput =
        "envoy.extensions.matching.common_inputs.network.v3.DestinationPortInput" {}

    struct SourceIpInput = "envoy.extensions.matching.common_inputs.network.v3.SourceIPInput" {}

    struct SourcePortInput = "envoy.extensions.matching.common_inputs.network.v3.SourcePortInput" {}

    struct DirectSourceIpInput =
        "envoy.extensions.matching.common_inputs.network.v3.DirectSourceIPInput" {}

    struct SourceTypeInput = "envoy.extensions.matching.common_inputs.network.v3.SourceTypeInput" {}

    struct ServerNameInput = "envoy.extensions.matching.common_inputs.network.v3.ServerNameInput" {}

    struct TransportProtocolInput =
        "envoy.extensions.matching.common_inputs.network.v3.TransportProtocolInput" {}

    struct ApplicationProtocolInput =
        "envoy.extensions.matching.common_inputs.network.v3.ApplicationProtocolInput" {}

    struct FilterStateInput =
        "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput" {
        key: String,
    }

    struct DynamicMetadataInput =
        "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput" {
        filter: String,
        path: Vec<DynamicMetadataInputPathSegment>,
    }

    struct DynamicMetadataInputPathSegment =
        "envoy.extensions.matching.common_inputs.network.v3.DynamicMetadataInput.PathSegment" {
        key: Option<String>,
    }

    struct UriSanInput = "envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput" {}

    struct DnsSanInput = "envoy.extensions.matching.common_inputs.ssl.v3.DnsSanInput" {}

    struct SubjectInput = "envoy.extensions.matching.common_inputs.ssl.v3.SubjectInput" {}

    struct IpInputMatcher = "envoy.extensions.matching.input_matchers.ip.v3.Ip" {
        cidr_ranges: Vec<CidrRange>,
        stat_prefix: String,
    }

    struct RuntimeFractionMatcher =
        "envoy.extensions.matching.input_matchers.runtime_fraction.v3.RuntimeFraction" {
        runtime_fraction: Option<RuntimeFractionalPercent>,
        seed: u64,
    }

    struct ConsistentHashingMatcher =
        "envoy.extensions.matching.input_matchers.consistent_hashing.v3.ConsistentHashing" {
        threshold: u32,
        modulo: u32,
        seed: u64,
    }

    struct MetadataInputMatcher = "envoy.extensions.matching.input_matchers.metadata.v3.Metadata" {
        value: Option<ValueMatcher>,
        invert: bool,
    }
}

/// `google.protobuf.StringValue`, the name of a filter chain as the action of a matcher tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
pub struct StringValue(pub String);

impl super::Message for StringValue {
    const NAME: &'static str = "google.protobuf.StringValue";
}
