//! Compiles `ConfigSource`, and reads the files that it names.

use corvoy_config::{self as config, Path, Problems, Source};
use serde_json::Value;

use super::{FileSource, Trigger};
use crate::hash::xxh64;

/// Compiles a source; none if it is of another kind.
pub(crate) fn file_source(schema: &config::ConfigSource) -> Option<FileSource> {
    let config::ConfigSource { path, path_config_source } = schema;
    match (path, path_config_source) {
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

/// Whether the file and the watched directory are there: none if that is an error.
pub(crate) fn check_existence(
    source: &FileSource,
    schema: &config::ConfigSource,
    at: &Path,
    problems: &mut Problems,
) -> Option<()> {
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
    pub(crate) message: config::Any,
    /// As Envoy prints it, secrets redacted.
    pub(crate) json: Value,
}

impl Resource {
    /// Its name; empty: it has none.
    #[must_use]
    pub fn name(&self) -> &str {
        let field = match &self.message {
            config::Any::ClusterLoadAssignment(_) => "cluster_name",
            _ => "name",
        };
        self.json.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    /// The same for the same content.
    #[must_use]
    pub(crate) fn hash(&self) -> u64 {
        xxh64(format!("{:?}", self.message).as_bytes())
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
        let source =
            Source::file(path).map_err(|error| ReadError::Unreadable(error.to_string()))?;
        let mut problems = Problems::default();
        let read = config::load_with_json::<config::DiscoveryResponse>(&source, &mut problems);
        let Some((response, json)) = read else {
            let texts = in_words(&problems);
            return Err(if problems.errors().any(|problem| problem.path == Path::root()) {
                ReadError::Unreadable(texts)
            } else {
                ReadError::Rejected(texts)
            });
        };
        let config::DiscoveryResponse { version_info, resources } = response;
        let shown = json.get("resources").and_then(Value::as_array).into_iter().flatten().cloned();
        let resources = resources.into_iter().zip(shown);
        let resources = resources.filter_map(|(message, json)| Resource::unwrap(message, json));
        Ok(Self { version: version_info, resources: resources.collect() })
    }
}

impl Resource {
    /// Takes a resource out of its wrapper, if it has one.
    fn unwrap(message: config::Any, json: Value) -> Option<Self> {
        match message {
            config::Any::Resource(wrapper) => {
                let config::Resource { resource } = *wrapper;
                Some(Self { message: resource?, json: json.get("resource")?.clone() })
            }
            message => Some(Self { message, json }),
        }
    }
}

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
        let source = file_source(&schema).unwrap();
        check_existence(&source, &schema, &Path::root(), &mut problems)
            .ok_or_else(|| in_words(&problems))?;
        Ok(source)
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
            Trigger::Interval(std::time::Duration::from_secs(2))
        );
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
        assert_eq!(response.resources[0].json["name"], "cert");
        let wrapped = format!(
            r#"{{"resources":[{{"@type":"type.googleapis.com/envoy.service.discovery.v3.Resource",
                "name":"x","resource":{{"@type":"{kind}","name":"cert"}}}}]}}"#
        );
        let response = read("a.json", &wrapped).unwrap();
        assert!(matches!(&response.resources[0].message, config::Any::Secret(_)));
        assert_eq!(response.resources[0].json["name"], "cert");
        for (name, text) in [("a.json", "resources:"), ("a.yaml", "{{{"), ("a.yaml", "")] {
            assert!(matches!(read(name, text), Err(ReadError::Unreadable(_))), "{name} {text}");
        }
        let unknown = read("a.yaml", &format!("resources: [{{'@type': {kind}, nonsense: 1}}]"));
        let Err(ReadError::Rejected(why)) = unknown else { panic!("{unknown:?}") };
        assert!(why.contains("nonsense"), "{why}");
    }
}
