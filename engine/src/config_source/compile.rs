//! Compiles `ConfigSource`, and reads the files that it names.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems, Source};
use serde_json::Value;

use super::{ConfigSource, FileSource, GrpcSource, Origin, Protocol, Trigger};
use crate::common_compile::check_word;
use crate::hash::xxh64;
use crate::request::route::mutation::compile::header as header_of;
use crate::tcp::proxy::backoff::Backoff;
use crate::token_bucket::Rate;

/// Envoy's default of `initial_fetch_timeout`.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Envoy's default of `rate_limit_settings`: requests at once, and requests per second.
const REQUESTS_MAX: u32 = 100;
const REQUESTS_PER_SECOND: f64 = 10.0;

/// Envoy's default of `retry_back_off`.
const BACK_OFF: Backoff =
    Backoff { base: Duration::from_millis(500), max: Duration::from_secs(30) };

/// Compiles a source; none if there is an error. Whether its file is there is checked with
/// [`check_existence`].
pub(crate) fn source(
    schema: &config::ConfigSource,
    at: &Path,
    problems: &mut Problems,
) -> Option<ConfigSource> {
    let config::ConfigSource {
        path,
        path_config_source,
        api_config_source,
        ads,
        initial_fetch_timeout,
    } = schema;
    let timeout = initial_fetch_timeout.unwrap_or(FETCH_TIMEOUT);
    let origin = if let Some(schema) = api_config_source {
        let at = at.field("api_config_source");
        let unsupported = [config::ApiType::AggregatedGrpc, config::ApiType::AggregatedDeltaGrpc];
        if unsupported.contains(&schema.api_type) {
            let why = "as in Envoy, resources of the aggregated stream have the source `ads`";
            problems.error(&at.field("api_type"), why);
        }
        Origin::Grpc(grpc_source(schema, &at, problems)?)
    } else if let Some(config::AggregatedConfigSource {}) = ads {
        Origin::Ads
    } else {
        Origin::File(file_source(path.as_ref(), path_config_source.as_ref())?)
    };
    let initial_fetch_timeout = Some(timeout).filter(|timeout| !timeout.is_zero());
    Some(ConfigSource { origin, initial_fetch_timeout })
}

/// Refuses a name of a resource that names its authority.
pub(crate) fn check_name(name: &str, at: &Path, problems: &mut Problems) {
    if name.starts_with("xdstp://") {
        problems.not_implemented(at, "a name with an authority (`xdstp://`)");
    }
}

/// Compiles a management server; none if there is an error.
pub(crate) fn grpc_source(
    schema: &config::ApiConfigSource,
    at: &Path,
    problems: &mut Problems,
) -> Option<GrpcSource> {
    let config::ApiConfigSource {
        api_type,
        transport_api_version,
        cluster_names,
        grpc_services,
        rate_limit_settings,
        set_node_on_first_message_only,
    } = schema;
    if *transport_api_version == config::ApiVersion::V2 {
        let why = "there is no V2 any more, neither here nor in Envoy: write `V3`";
        problems.error(&at.field("transport_api_version"), why);
    }
    let protocol = protocol(*api_type, &at.field("api_type"), problems)?;
    if !cluster_names.is_empty() {
        let why = "`cluster_names` is for REST: the cluster of gRPC is in `grpc_services`";
        problems.error(&at.field("cluster_names"), why);
    }
    let services_at = at.field("grpc_services");
    let [service] = grpc_services.as_slice() else {
        let count = grpc_services.len();
        problems.missing(&services_at, format!("there must be one gRPC service, not {count}"));
        return None;
    };
    let services_at = services_at.index(0);
    let config::GrpcService { envoy_grpc, timeout, initial_metadata } = service;
    if timeout.is_some() {
        let why = "no effect, as in Envoy: a stream of resources has no timeout";
        problems.warn(&services_at.field("timeout"), why);
    }
    let envoy_at = services_at.field("envoy_grpc");
    let Some(envoy) = envoy_grpc else {
        problems.missing(&envoy_at, "envoy_grpc is required");
        return None;
    };
    let config::EnvoyGrpc {
        cluster_name,
        authority,
        retry_policy,
        max_receive_message_length,
        // Those that Envoy adds are not sent to management servers.
        skip_envoy_headers: _,
    } = envoy;
    check_word(authority, &envoy_at.field("authority"), problems);
    let authority = if authority.is_empty() { cluster_name } else { authority };
    let metadata = metadata(initial_metadata, &services_at.field("initial_metadata"), problems);
    let back_off = retry_policy
        .as_ref()
        .and_then(|schema| back_off(schema, &envoy_at.field("retry_policy"), problems));
    Some(GrpcSource {
        protocol,
        cluster: cluster_name.clone(),
        authority: authority.clone(),
        metadata,
        node_on_first_message_only: *set_node_on_first_message_only,
        rate_limit: rate_limit_settings.as_ref().map(rate_limit),
        back_off: back_off.unwrap_or(BACK_OFF),
        message_max: max_receive_message_length.map(|bytes| bytes as usize),
    })
}

fn protocol(api_type: config::ApiType, at: &Path, problems: &mut Problems) -> Option<Protocol> {
    use config::ApiType;
    match api_type {
        ApiType::Grpc | ApiType::AggregatedGrpc => Some(Protocol::StateOfTheWorld),
        ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => Some(Protocol::Delta),
        ApiType::Rest => {
            problems.not_implemented(at, "REST");
            None
        }
        ApiType::DeprecatedAndUnavailableDoNotUse => {
            problems.missing(at, "api_type is required: `GRPC` or `DELTA_GRPC`");
            None
        }
    }
}

fn metadata(
    schemas: &[config::HeaderValue],
    at: &Path,
    problems: &mut Problems,
) -> Vec<(String, String)> {
    let mut metadata = Vec::with_capacity(schemas.len());
    for (i, schema) in schemas.iter().enumerate() {
        let at = at.index(i);
        let config::HeaderValue { key, value, raw_value } = schema;
        if value.contains('%') || !raw_value.is_empty() {
            problems.not_implemented(&at, "a value with a command or in raw bytes");
        } else if header_of(schema, &at, problems).is_some() {
            metadata.push((key.to_ascii_lowercase(), value.clone()));
        }
    }
    metadata
}

fn rate_limit(schema: &config::RateLimitSettings) -> Rate {
    let config::RateLimitSettings { max_tokens, fill_rate } = schema;
    let interval = Duration::try_from_secs_f64(1.0 / fill_rate.unwrap_or(REQUESTS_PER_SECOND));
    Rate::new(max_tokens.unwrap_or(REQUESTS_MAX), 1, interval.unwrap_or(Duration::MAX))
}

fn back_off(
    schema: &config::CoreRetryPolicy,
    at: &Path,
    problems: &mut Problems,
) -> Option<Backoff> {
    let config::CoreRetryPolicy { retry_back_off, num_retries } = schema;
    if num_retries.is_some() {
        let why = "no effect, as in Envoy: a stream is opened again for ever";
        problems.warn(&at.field("num_retries"), why);
    }
    let config::BackoffStrategy { base_interval, max_interval } = retry_back_off.as_ref()?;
    let base = base_interval.unwrap_or(BACK_OFF.base);
    //= envoy: BackoffStrategy.max_interval
    // Default: ten times the base interval.
    let max = max_interval.unwrap_or_else(|| base.saturating_mul(10));
    if max < base {
        let why = "max_interval must be greater than or equal to the base_interval";
        problems.error(&at.field("retry_back_off").field("max_interval"), why);
    }
    Some(Backoff { base, max })
}

fn file_source(
    path: Option<&String>,
    schema: Option<&config::PathConfigSource>,
) -> Option<FileSource> {
    match (path, schema) {
        (Some(path), _) => Some(FileSource { path: path.into(), trigger: Trigger::Moved }),
        (None, Some(schema)) => {
            let config::PathConfigSource { path, watched_directory, poll_interval } = schema;
            let trigger = match (watched_directory, poll_interval) {
                (_, Some(interval)) => Trigger::Interval(*interval),
                (Some(config::WatchedDirectory { path }), None) => Trigger::MovedInto(path.into()),
                (None, None) => Trigger::Moved,
            };
            Some(FileSource { path: path.into(), trigger })
        }
        // Of another kind, which is an error already.
        (None, None) => None,
    }
}

/// Whether the file and the watched directory of a source are there: none if that is an error.
pub(crate) fn check_existence(
    source: &ConfigSource,
    schema: &config::ConfigSource,
    at: &Path,
    problems: &mut Problems,
) -> Option<()> {
    let Origin::File(source) = &source.origin else { return Some(()) };
    let at = match &schema.path_config_source {
        Some(_) if schema.path.is_none() => at.field("path_config_source"),
        _ => at.clone(),
    };
    if let Trigger::MovedInto(directory) = &source.trigger
        && !directory.is_dir()
    {
        let why = format!("there is no directory {}", directory.display());
        problems.error(&at.field("watched_directory").field("path"), why);
        return None;
    }
    let path = source.path.display();
    match source.path.try_exists() {
        Ok(true) => return Some(()),
        Ok(false) => problems.error(&at.field("path"), format!("there is no file {path}")),
        Err(error) => problems.error(&at.field("path"), format!("{path}: {error}")),
    }
    None
}

/// The content of a file with resources.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// `version_info`
    pub(crate) version: String,
    pub(crate) resources: Vec<Resource>,
}

/// A resource.
#[derive(Clone, Debug)]
pub struct Resource {
    /// None: it cannot be used.
    message: Option<Arc<config::Any>>,
    /// Why it cannot be used, in words.
    flaw: Arc<str>,
    /// Its name; empty: it has none.
    name: Box<str>,
    /// The full name of its type.
    type_name: Box<str>,
    /// As Envoy prints it, secrets redacted: as text, which takes a tenth of the memory of a tree.
    json: Arc<str>,
    hash: OnceLock<u64>,
}

impl Resource {
    /// Decodes and checks a resource. One that cannot be used, but does not make others unusable, has a flaw.
    /// What is unknown in it is logged.
    ///
    /// # Errors
    /// The whole response cannot be used: in words.
    pub(crate) fn decode(
        decoder: &config::Decoder,
        type_url: &str,
        value: Vec<u8>,
    ) -> Result<Self, String> {
        let mut problems = Problems::default();
        let decoded = decoder.decode(type_url, value, &mut problems);
        let config::Decoded { message, json } = decoded.ok_or_else(|| in_words(&problems))?;
        let resource = Self::new(message, json, in_words(&problems));
        for warning in problems.warnings() {
            let (name, at, what) = (resource.name(), &warning.path, &warning.message);
            tracing::warn!(target: "config", "{name}: {at}: {what}");
        }
        Ok(resource)
    }

    /// Takes a resource out of its wrapper, if it has one.
    fn new(message: Option<config::Any>, mut json: Value, flaw: String) -> Self {
        let message = match message {
            Some(config::Any::Resource(wrapper)) => wrapper.resource,
            message => message,
        };
        if json.get("@type").and_then(Value::as_str).is_some_and(|it| it.ends_with(WRAPPER))
            && let Some(inner) = json.get_mut("resource").map(Value::take)
        {
            json = inner;
        }
        let text = |field: &str| json.get(field).and_then(Value::as_str).unwrap_or_default();
        let url = text("@type");
        let type_name = url.rsplit_once('/').map_or(url, |(_, name)| name);
        let is_assignment = type_name == "envoy.config.endpoint.v3.ClusterLoadAssignment";
        let name = text(if is_assignment { "cluster_name" } else { "name" });
        Self {
            message: message.map(Arc::new),
            flaw: flaw.into(),
            name: name.into(),
            type_name: type_name.into(),
            json: json.to_string().into(),
            hash: OnceLock::new(),
        }
    }

    /// What it is.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub(crate) fn message(&self) -> Result<&config::Any, String> {
        self.message.as_deref().ok_or_else(|| match &*self.flaw {
            "" => "it is empty".to_owned(),
            flaw => flaw.to_owned(),
        })
    }

    /// The full name of its type.
    pub(crate) fn type_name(&self) -> &str {
        &self.type_name
    }

    /// As Envoy prints it, secrets redacted.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.json).unwrap_or_default()
    }

    /// Its name; empty: it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same for the same content.
    #[must_use]
    pub(crate) fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| match &self.message {
            Some(message) => xxh64(format!("{message:?}").as_bytes()),
            None => xxh64(self.json.as_bytes()),
        })
    }
}

/// Why a file cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ReadError {
    /// It cannot be read, or is no `DiscoveryResponse`.
    #[error("{0}")]
    Unreadable(String),
    /// It has resources that cannot be used.
    #[error("{0}")]
    Rejected(String),
}

impl Response {
    /// Reads a file. The extension determines its format, as for the configuration.
    pub(crate) fn read(path: &std::path::Path) -> Result<Self, ReadError> {
        let unreadable = |error: &dyn fmt::Display| ReadError::Unreadable(error.to_string());
        let source = Source::file(path).map_err(|error| unreadable(&error))?;
        let decoder = config::Decoder::new().map_err(|error| unreadable(&error))?;
        let mut problems = Problems::default();
        let read = decoder.read(&source, &mut problems);
        let config::Encoded { version, resources } =
            read.ok_or_else(|| ReadError::Unreadable(in_words(&problems)))?;
        for warning in problems.warnings() {
            tracing::warn!(target: "config", "{}: {}: {}", path.display(), warning.path, warning.message);
        }
        let decode = |(i, (type_url, value)): (usize, (String, Vec<u8>))| {
            let decoded = Resource::decode(&decoder, &type_url, value);
            decoded.map_err(|why| ReadError::Rejected(format!("resources[{i}]: {why}")))
        };
        let resources = resources.into_iter().enumerate().map(decode).collect::<Result<_, _>>()?;
        Ok(Self { version, resources })
    }
}

/// The type of a resource in a wrapper.
const WRAPPER: &str = "/envoy.service.discovery.v3.Resource";

/// All errors in one line.
pub(crate) fn in_words(problems: &Problems) -> String {
    let texts = problems.errors().map(|problem| {
        let path = problem.path.to_string();
        if path.is_empty() {
            problem.message.clone()
        } else {
            format!("{path}: {}", problem.message)
        }
    });
    texts.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(yaml: &str) -> Result<FileSource, String> {
        let schema: config::ConfigSource =
            serde_json::from_value(yaml.parse::<Value>().unwrap()).unwrap();
        let mut problems = Problems::default();
        let source = super::source(&schema, &Path::root(), &mut problems).unwrap();
        check_existence(&source, &schema, &Path::root(), &mut problems)
            .ok_or_else(|| in_words(&problems))?;
        let Origin::File(file) = source.origin else { panic!("{source}") };
        Ok(file)
    }

    #[test]
    fn a_source_says_when_its_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.yaml");
        std::fs::write(&path, "").unwrap();
        let (file, directory) = (path.display(), folder.path().display());
        let trigger = |fields: &str| {
            let source = source(&format!("{{{fields}}}")).unwrap();
            assert_eq!(source.path, path);
            source.trigger
        };
        assert_eq!(trigger(&format!(r#""path": "{file}""#)), Trigger::Moved);
        let with =
            |more: &str| trigger(&format!(r#""path_config_source": {{ "path": "{file}"{more} }}"#));
        assert_eq!(with(""), Trigger::Moved);
        assert_eq!(
            with(&format!(r#", "watched_directory": {{ "path": "{directory}" }}"#)),
            Trigger::MovedInto(folder.path().into())
        );
        assert_eq!(
            with(r#", "poll_interval": { "secs": 2, "nanos": 0 }"#),
            Trigger::Interval(Duration::from_secs(2))
        );
    }

    /// A source as a bootstrap has it, and its problems.
    fn compiled(yaml: &str) -> (Option<ConfigSource>, String) {
        let text = format!("dynamic_resources: {{ cds_config: {yaml} }}");
        let mut problems = Problems::default();
        let loaded = config::load(&Source::new().merge_yaml("test", text), &mut problems);
        let resources = loaded.and_then(|loaded| loaded.bootstrap.dynamic_resources);
        let schema = resources.and_then(|resources| resources.cds_config);
        let source = schema.and_then(|it| super::source(&it, &Path::root(), &mut problems));
        (source, in_words(&problems))
    }

    const SERVICE: &str = "grpc_services: [{ envoy_grpc: { cluster_name: xds } }]";

    fn api(api_type: &str, more: &str) -> String {
        format!(
            "{{ api_config_source: {{ api_type: {api_type}, transport_api_version: V3, {more} }} }}"
        )
    }

    #[test]
    fn a_management_server_has_envoys_defaults() {
        let (source, problems) = compiled(&api("GRPC", SERVICE));
        assert_eq!(problems, "");
        let source = source.unwrap();
        assert_eq!(source.initial_fetch_timeout, Some(Duration::from_secs(15)));
        let expected = GrpcSource {
            protocol: Protocol::StateOfTheWorld,
            cluster: "xds".to_owned(),
            authority: "xds".to_owned(),
            metadata: Vec::new(),
            node_on_first_message_only: false,
            rate_limit: None,
            back_off: Backoff { base: Duration::from_millis(500), max: Duration::from_secs(30) },
            message_max: None,
        };
        assert_eq!(source.server(), Some(&expected));
        let (ads, _) = compiled("{ ads: {}, initial_fetch_timeout: 0s }");
        assert_eq!(ads, Some(ConfigSource { origin: Origin::Ads, initial_fetch_timeout: None }));
    }

    #[test]
    fn a_management_server_has_what_is_configured() {
        let service = "grpc_services: [{ envoy_grpc: { cluster_name: xds, authority: a.b, \
                       max_receive_message_length: 9, retry_policy: { retry_back_off: \
                       { base_interval: 1s } } }, initial_metadata: [{ key: X-A, value: b }] }], \
                       set_node_on_first_message_only: true, rate_limit_settings: { max_tokens: 3 }";
        let (source, problems) = compiled(&api("DELTA_GRPC", service));
        assert_eq!(problems, "");
        let expected = GrpcSource {
            protocol: Protocol::Delta,
            cluster: "xds".to_owned(),
            authority: "a.b".to_owned(),
            metadata: vec![("x-a".to_owned(), "b".to_owned())],
            node_on_first_message_only: true,
            rate_limit: Some(Rate::new(3, 1, Duration::from_millis(100))),
            back_off: Backoff { base: Duration::from_secs(1), max: Duration::from_secs(10) },
            message_max: Some(9),
        };
        assert_eq!(source.unwrap().server(), Some(&expected));
    }

    #[test]
    fn what_cannot_be_talked_to_is_an_error() {
        let service = |policy: &str| {
            format!("grpc_services: [{{ envoy_grpc: {{ cluster_name: xds, {policy} }} }}]")
        };
        for (source, why) in [
            (api("REST", "cluster_names: [xds]"), "REST is not implemented yet"),
            (api("AGGREGATED_GRPC", SERVICE), "have the source `ads`"),
            (api("GRPC", ""), "there must be one gRPC service, not 0"),
            (
                api("GRPC", &format!("{SERVICE}, cluster_names: [xds]")),
                "`cluster_names` is for REST",
            ),
            (api("GRPC", SERVICE).replace("V3", "V2"), "there is no V2 any more"),
            ("{ self: {} }".to_owned(), "`self`"),
            (
                api(
                    "GRPC",
                    &service(
                        "retry_policy: { retry_back_off: { base_interval: 2s, max_interval: 1s } }",
                    ),
                ),
                "max_interval must be greater than or equal to the base_interval",
            ),
        ] {
            let (_, problems) = compiled(&source);
            assert!(problems.contains(why), "{source}: {problems}");
        }
    }

    #[test]
    fn a_missing_file_or_directory_is_an_error() {
        assert_eq!(
            source(r#"{ "path_config_source": { "path": "/no/secret.yaml" } }"#),
            Err("path_config_source.path: there is no file /no/secret.yaml".to_owned())
        );
        let watched =
            r#"{ "path_config_source": { "path": "/", "watched_directory": { "path": "/no" } } }"#;
        assert_eq!(
            source(watched),
            Err("path_config_source.watched_directory.path: there is no directory /no".to_owned())
        );
    }

    #[test]
    fn a_file_is_read_in_the_format_of_its_extension() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Response::read(&path)
        };
        let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
        let response = read(
            "a.yaml",
            &format!("version_info: v1\nresources:\n- '@type': {kind}\n  name: cert\n"),
        );
        let response = response.unwrap();
        assert_eq!((&*response.version, response.resources.len()), ("v1", 1));
        assert_eq!(response.resources[0].json()["name"], "cert");
        let wrapped = format!(
            r#"{{"resources":[{{"@type":"type.googleapis.com/envoy.service.discovery.v3.Resource",
                "name":"x","resource":{{"@type":"{kind}","name":"cert"}}}}]}}"#
        );
        let response = read("a.json", &wrapped).unwrap();
        assert!(matches!(response.resources[0].message(), Ok(config::Any::Secret(_))));
        assert_eq!(response.resources[0].json()["name"], "cert");
        for (name, text) in [("a.json", "resources:"), ("a.yaml", "{{{"), ("a.yaml", "")] {
            assert!(matches!(read(name, text), Err(ReadError::Unreadable(_))), "{name} {text}");
        }
        let unknown = read("a.yaml", &format!("resources: [{{'@type': {kind}, nonsense: 1}}]"));
        assert_eq!(unknown.unwrap().resources.len(), 1, "whoever wrote it may be newer");
        let cluster = "envoy.config.cluster.v3.Cluster";
        let invalid = format!(
            "resources: [{{'@type': type.googleapis.com/{cluster}, connect_timeout: -1s}}]"
        );
        let Err(ReadError::Rejected(why)) = read("a.yaml", &invalid) else { panic!("{invalid}") };
        assert!(why.starts_with("resources[0]: ") && why.contains("connect_timeout: "), "{why}");
        let options = "typed_extension_protocol_options: { a: { '@type': type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions } }";
        let flawed =
            format!("resources: [{{'@type': type.googleapis.com/{cluster}, name: x, {options}}}]");
        let flawed = read("a.yaml", &flawed).unwrap().resources;
        assert!(flawed[0].message().is_err(), "only this one cannot be used");
        assert_eq!(flawed[0].name(), "x");
    }
}
