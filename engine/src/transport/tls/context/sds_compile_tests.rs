//! What becomes of the contexts when secrets from files change.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::KeyPair;
use serde_json::{Value, json};

use super::*;
use crate::stats::{HistogramBuckets, Scope, Select, text};
use crate::transport::tls::context::compile::server;
use crate::transport::tls::context::latest::Owner;
use crate::transport::tls::context::server::ServerContext;
use crate::transport::tls::context::tests::{Ca, ca, params};

const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

/// A listener whose secrets are in files, and the files.
struct Story {
    folder: tempfile::TempDir,
    ca: Ca,
    registry: Registry,
    secrets: Secrets,
    context: Arc<Latest<ServerContext>>,
    factory: Arc<Scope<SslSocketFactoryStats>>,
}

impl Story {
    /// `common_tls_context` has a certificate from `cert.json`, and `more`.
    fn new(more: impl FnOnce(&Self) -> Value) -> Self {
        let registry = Registry::new(1);
        let mut story = Self {
            folder: tempfile::tempdir().unwrap(),
            ca: ca("ca"),
            factory: registry.scope("listener.a.server_ssl_socket_factory."),
            registry,
            secrets: Secrets::new(&[], 1, true),
            context: Latest::new(None),
        };
        for file in ["cert.json", "ca.json"] {
            fs::write(story.path(file), "").unwrap();
        }
        let mut common = more(&story);
        let certificates = json!([story.wanted("cert")]);
        common["tls_certificate_sds_secret_configs"] = certificates;
        let mut problems = Problems::default();
        let context = json!({ "common_tls_context": common });
        let context: config::DownstreamTlsContext = serde_json::from_value(context).unwrap();
        let socket = config::TransportSocket {
            name: "tls".into(),
            typed_config: Some(config::Any::DownstreamTlsContext(Box::new(context))),
        };
        let context = server(Some(&socket), &Path::root(), &story.secrets, &mut problems);
        assert!(!problems.has_errors(), "{}", in_words(&problems));
        story.context = context.unwrap();
        let owner = Owner { name: "listener a".into(), prefix: "listener.a.".into() };
        story.context.list(owner, &story.registry);
        story
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn wanted(&self, name: &str) -> Value {
        let path = self.path(&format!("{name}.json"));
        json!({ "name": name, "sds_config": { "path_config_source": { "path": path } } })
    }

    /// Writes the file of a secret, and hands it over.
    fn update(&self, file: &str, secrets: &[Value]) -> Result<Change, String> {
        let path = self.path(&format!("{file}.json"));
        fs::write(&path, json!({ "version_info": "v", "resources": secrets }).to_string()).unwrap();
        let response = Response::read(&path).map_err(|error| error.to_string())?;
        let sources = self.secrets.sources();
        let index = sources.iter().position(|source| source.name == file).unwrap();
        self.secrets.update(index, response, &self.registry)
    }

    /// A new certificate for this name with its key, as files.
    fn issue(&self, name: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = params(&[name]).signed_by(&key, &self.ca).unwrap();
        fs::write(self.path("crt.pem"), certificate.pem()).unwrap();
        fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
    }

    fn pair(&self, name: &str) -> Value {
        secret(
            name,
            json!({ "tls_certificate": {
            "certificate_chain": { "filename": self.path("crt.pem") },
            "private_key": { "filename": self.path("key.pem") },
        } }),
        )
    }

    fn authority(&self, ca: &Ca) -> Value {
        let ca = json!({ "trusted_ca": { "inline_string": ca.pem() } });
        secret("ca", json!({ "validation_context": ca }))
    }

    /// The name of the certificate that new connections get.
    fn serves(&self) -> Option<String> {
        Some(self.context.get()?.settings.certificates[0].names[0].clone())
    }

    fn updates(&self) -> u64 {
        self.factory.counter(|stats| &stats.ssl_context_update_by_sds)
    }
}

fn secret(name: &str, mut content: Value) -> Value {
    content["@type"] = format!("{TLS}.Secret").into();
    content["name"] = name.into();
    content
}

fn with_authority(story: &Story) -> Value {
    json!({ "validation_context_sds_secret_config": story.wanted("ca") })
}

#[test]
fn new_connections_get_the_newest_certificate() {
    let story = Story::new(|_| json!({}));
    assert_eq!(story.serves(), None);
    for (name, updates) in [("a.test", 1), ("b.test", 2)] {
        story.issue(name);
        assert_eq!(story.update("cert", &[story.pair("cert")]), Ok(Change::Replaced));
        assert_eq!(story.serves().as_deref(), Some(name));
        assert_eq!(story.updates(), updates);
    }
    assert_eq!(story.update("cert", &[story.pair("cert")]), Ok(Change::Same));
    assert_eq!(story.updates(), 2, "nothing has changed");
    let listed: String =
        text(&story.registry, Select::default(), HistogramBuckets::Summary).collect();
    assert!(listed.contains("listener.a.ssl.certificate.cert.expiration_unix_time_seconds"));
}

#[test]
fn a_secret_that_cannot_be_used_changes_nothing() {
    let story = Story::new(|_| json!({}));
    story.issue("a.test");
    let good = story.pair("cert");
    assert_eq!(story.update("cert", std::slice::from_ref(&good)), Ok(Change::Replaced));
    let rejected = |secrets: &[Value]| {
        let why = story.update("cert", secrets).expect_err("it cannot be used");
        assert_eq!(story.serves().as_deref(), Some("a.test"));
        assert_eq!(story.updates(), 1);
        why
    };
    assert_eq!(rejected(&[]), "there must be one secret in the file, not 0");
    assert_eq!(
        rejected(&[good.clone(), good.clone()]),
        "there must be one secret in the file, not 2"
    );
    assert_eq!(rejected(&[story.pair("x")]), "the secret in the file is `x`, not `cert`");
    let authority = json!({ "validation_context": {} });
    assert_eq!(rejected(&[secret("cert", authority)]), "the secret `cert` is no certificate");
    let echo = "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo";
    assert_eq!(
        rejected(&[json!({ "@type": echo })]),
        "envoy.extensions.filters.network.echo.v3.Echo is not a secret"
    );
    let newer = secret("cert", json!({ "nonsense": 1 }));
    assert_eq!(rejected(&[newer]), "the secret `cert` is no certificate", "as without the field");
    let other_key = json!({ "tls_certificate": {
        "certificate_chain": { "filename": story.path("crt.pem") },
        "private_key": { "inline_string": KeyPair::generate().unwrap().serialize_pem() },
    } });
    assert_eq!(
        rejected(&[secret("cert", other_key)]),
        "tls_certificate.private_key.inline_string: this private key does not belong to the certificate"
    );
}

#[test]
fn the_files_that_a_secret_names_are_read_again() {
    let story = Story::new(|_| json!({}));
    let reload = || story.secrets.reload(0, &story.registry);
    assert_eq!(reload(), Ok(Change::Same), "there is no secret yet");
    let missing = story.update("cert", &[story.pair("cert")]).unwrap_err();
    assert!(missing.ends_with("crt.pem: No such file or directory (os error 2)"), "{missing}");
    let folder = MoveTarget::Directory(story.folder.path().into());
    assert_eq!(story.secrets.files(0), [folder], "they may appear");
    story.issue("a.test");
    assert_eq!(reload(), Ok(Change::Replaced));
    assert_eq!(reload(), Ok(Change::Same));
    fs::write(story.path("key.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    reload().expect_err("the key of another certificate");
    assert_eq!(story.serves().as_deref(), Some("a.test"));
    story.issue("b.test");
    assert_eq!(reload(), Ok(Change::Replaced));
    assert_eq!(story.serves().as_deref(), Some("b.test"));
}

#[test]
fn a_watched_directory_stands_in_for_those_of_the_files() {
    let story = Story::new(|_| json!({}));
    story.issue("a.test");
    let mut pair = story.pair("cert");
    pair["tls_certificate"]["watched_directory"] = json!({ "path": "/certs" });
    assert_eq!(story.update("cert", &[pair]), Ok(Change::Replaced));
    assert_eq!(story.secrets.files(0), [MoveTarget::Directory("/certs".into())]);
}

#[test]
fn a_context_waits_for_all_of_its_secrets() {
    let story = Story::new(with_authority);
    story.issue("a.test");
    assert_eq!(story.update("cert", &[story.pair("cert")]), Ok(Change::Replaced));
    assert_eq!(story.serves(), None, "whom to trust is unknown");
    assert_eq!(story.updates(), 1);
    let trusted = ca("trusted");
    assert_eq!(story.update("ca", &[story.authority(&trusted)]), Ok(Change::Replaced));
    assert_eq!(story.serves().as_deref(), Some("a.test"));
    assert_eq!(story.updates(), 2);
    let trusts = || {
        let context = story.context.get().unwrap();
        let validation = context.settings.client_certificate.validation().unwrap();
        validation.trust.as_ref().unwrap().first().unwrap().to_vec()
    };
    assert_eq!(trusts(), trusted.der().to_vec());
    let other = ca("other");
    assert_eq!(story.update("ca", &[story.authority(&other)]), Ok(Change::Replaced));
    assert_eq!(trusts(), other.der().to_vec());
    let nobody =
        secret("ca", json!({ "validation_context": { "trusted_ca": { "inline_string": "" } } }));
    story.update("ca", &[nobody]).expect_err("it has no certificate");
    assert_eq!(trusts(), other.der().to_vec());
}

#[test]
fn a_secret_is_rejected_if_it_makes_its_context_unusable() {
    let story = Story::new(|story| {
        let names = json!([{ "san_type": "DNS", "matcher": { "exact": "x" } }]);
        json!({ "combined_validation_context": {
            "default_validation_context": { "match_typed_subject_alt_names": names },
            "validation_context_sds_secret_config": story.wanted("ca"),
        } })
    });
    story.issue("a.test");
    assert_eq!(story.update("cert", &[story.pair("cert")]), Ok(Change::Replaced));
    assert_eq!(story.update("ca", &[story.authority(&ca("ca"))]), Ok(Change::Replaced));
    let without = json!({ "validation_context": { "verify_certificate_hash": ["00".repeat(32)] } });
    let why = story.update("ca", &[secret("ca", without)]).unwrap_err();
    assert!(why.contains("match_typed_subject_alt_names"), "{why}");
    assert_eq!(story.serves().as_deref(), Some("a.test"));
}

#[test]
fn the_operator_sees_the_secret_in_use_and_no_key() {
    let story = Story::new(|_| json!({}));
    let shown = || story.secrets.shown().remove(0);
    assert_eq!((shown().version.as_str(), shown().json), ("uninitialized", None));
    story.issue("a.test");
    let update = || story.update("cert", &[story.pair("cert")]);
    assert_eq!(update(), Ok(Change::Replaced));
    let json = shown().json.unwrap();
    let certificate = STANDARD.encode(fs::read(story.path("crt.pem")).unwrap());
    assert_eq!(
        json["tls_certificate"],
        json!({
            "certificate_chain": { "inline_bytes": certificate },
            "private_key": { "inline_bytes": "W3JlZGFjdGVkXQ==" },
        })
    );
    assert_eq!(shown().version, "v");
    fs::remove_file(story.path("key.pem")).unwrap();
    update().expect_err("the key is gone");
    assert_eq!(shown().json, Some(json), "as Envoy does not: what is in use");
}

#[test]
fn secrets_from_files_need_a_node_and_files() {
    let secrets = Secrets::new(&[], 1, false);
    let wanted = json!({ "name": "a", "sds_config": { "path": "/no/file" } });
    let wanted: config::SdsSecretConfig = serde_json::from_value(wanted).unwrap();
    let mut problems = Problems::default();
    assert!(secrets.certificate(&wanted, &Path::root(), &mut problems).is_none());
    assert_eq!(
        in_words(&problems),
        "sds_config: secrets from files and management servers need a `node` with an `id` and a `cluster`, or \
         --service-node and --service-cluster, as in Envoy; \
         sds_config.path: there is no file /no/file"
    );
}

/// Authorities are replaced even while the file of another secret is away.
#[test]
fn a_secret_is_replaced_while_the_file_of_another_one_is_missing() {
    let story = Story::new(with_authority);
    story.issue("a.test");
    story.update("cert", &[story.pair("cert")]).unwrap();
    story.update("ca", &[story.authority(&story.ca)]).unwrap();
    fs::remove_file(story.path("cert.json")).unwrap();
    let replaced = story.update("ca", &[story.authority(&ca("another"))]);
    assert_eq!(replaced, Ok(Change::Replaced));
}

/// What a context itself names in files counts as it was at the start, as in Envoy.
#[test]
fn files_of_the_context_itself_are_read_once() {
    let story = Story::new(|story| {
        fs::write(story.path("ca.pem"), story.ca.pem()).unwrap();
        json!({ "validation_context": { "trusted_ca": { "filename": story.path("ca.pem") } } })
    });
    fs::write(story.path("ca.pem"), "no certificate").unwrap();
    story.issue("a.test");
    assert_eq!(story.update("cert", &[story.pair("cert")]), Ok(Change::Replaced));
    assert_eq!(story.serves().as_deref(), Some("a.test"));
}
