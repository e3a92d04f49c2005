//! `envoy/config/rbac/v3` and the filters that use it.

use std::collections::BTreeMap;

use super::{
    CidrRange, Duration, HeaderMatcher, Int32Range, Matcher, MetadataMatcher, StringMatcher,
    schema, schema_enum,
};

schema! {
    const RBAC;

    struct HttpRbac = "envoy.extensions.filters.http.rbac.v3.RBAC" {
        rules: Option<RbacRules>,
        rules_stat_prefix: String,
        shadow_rules: Option<RbacRules>,
        shadow_rules_stat_prefix: String,
        track_per_rule_stats: bool,
        matcher: Option<Matcher>,
        shadow_matcher: Option<Matcher>,
    }

    struct RbacMatcherAction = "envoy.config.rbac.v3.Action" {
        name: String,
        action: RbacAction,
    }

    struct HttpRbacPerRoute = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute" {
        rbac: Option<HttpRbac>,
    }

    struct NetworkRbac = "envoy.extensions.filters.network.rbac.v3.RBAC" {
        rules: Option<RbacRules>,
        shadow_rules: Option<RbacRules>,
        shadow_rules_stat_prefix: String,
        stat_prefix: String,
        enforcement_type: RbacEnforcementType,
        delay_deny: Option<Duration>,
        matcher: Option<Matcher>,
        shadow_matcher: Option<Matcher>,
    }

    struct RbacRules = "envoy.config.rbac.v3.RBAC" {
        action: RbacAction,
        policies: BTreeMap<String, RbacPolicy>,
    }

    struct RbacPolicy = "envoy.config.rbac.v3.Policy" {
        permissions: Vec<RbacPermission>,
        principals: Vec<RbacPrincipal>,
        condition: Option<CelExpr>,
    }

    struct RbacPermission = "envoy.config.rbac.v3.Permission" {
        and_rules: Option<RbacPermissionSet>,
        or_rules: Option<RbacPermissionSet>,
        any: Option<bool>,
        header: Option<HeaderMatcher>,
        url_path: Option<PathMatcher>,
        destination_ip: Option<CidrRange>,
        destination_port: Option<u32>,
        destination_port_range: Option<Int32Range>,
        metadata: Option<MetadataMatcher>,
        not_rule: Option<Box<RbacPermission>>,
        requested_server_name: Option<StringMatcher>,
        sourced_metadata: Option<SourcedMetadata>,
    }

    struct RbacPermissionSet = "envoy.config.rbac.v3.Permission.Set" {
        rules: Vec<RbacPermission>,
    }

    struct RbacPrincipal = "envoy.config.rbac.v3.Principal" {
        and_ids: Option<RbacPrincipalSet>,
        or_ids: Option<RbacPrincipalSet>,
        any: Option<bool>,
        authenticated: Option<RbacAuthenticated>,
        source_ip: Option<CidrRange>,
        direct_remote_ip: Option<CidrRange>,
        remote_ip: Option<CidrRange>,
        header: Option<HeaderMatcher>,
        url_path: Option<PathMatcher>,
        metadata: Option<MetadataMatcher>,
        not_id: Option<Box<RbacPrincipal>>,
        sourced_metadata: Option<SourcedMetadata>,
    }

    struct RbacAuthenticated = "envoy.config.rbac.v3.Principal.Authenticated" {
        principal_name: Option<StringMatcher>,
    }

    struct RbacPrincipalSet = "envoy.config.rbac.v3.Principal.Set" {
        ids: Vec<RbacPrincipal>,
    }

    struct SourcedMetadata = "envoy.config.rbac.v3.SourcedMetadata" {
        metadata_matcher: Option<MetadataMatcher>,
        metadata_source: RbacMetadataSource,
    }

    struct PathMatcher = "envoy.type.matcher.v3.PathMatcher" {
        path: Option<StringMatcher>,
    }

    struct CelExpr = "google.api.expr.v1alpha1.Expr" {
        const_expr: Option<CelConstant>,
        ident_expr: Option<CelIdent>,
        select_expr: Option<CelSelect>,
        call_expr: Option<CelCall>,
        list_expr: Option<CelList>,
    } harmless {
        id: "it only ties an expression to its source text",
    }

    struct CelConstant = "google.api.expr.v1alpha1.Constant" {
        bool_value: Option<bool>,
        int64_value: Option<i64>,
        uint64_value: Option<u64>,
        double_value: Option<f64>,
        string_value: Option<String>,
        bytes_value: Option<Vec<u8>>,
    }

    struct CelIdent = "google.api.expr.v1alpha1.Expr.Ident" {
        name: String,
    }

    struct CelSelect = "google.api.expr.v1alpha1.Expr.Select" {
        operand: Option<Box<CelExpr>>,
        field: String,
        test_only: bool,
    }

    struct CelCall = "google.api.expr.v1alpha1.Expr.Call" {
        target: Option<Box<CelExpr>>,
        function: String,
        args: Vec<CelExpr>,
    }

    struct CelList = "google.api.expr.v1alpha1.Expr.CreateList" {
        elements: Vec<CelExpr>,
    }
}

schema_enum! {
    enum RbacEnforcementType = "envoy.extensions.filters.network.rbac.v3.RBAC.EnforcementType" {
        OneTimeOnFirstByte, Continuous,
    }

    enum RbacAction = "envoy.config.rbac.v3.RBAC.Action" { Allow, Deny, Log }

    enum RbacMetadataSource = "envoy.config.rbac.v3.MetadataSource" { Dynamic, Route }
}
