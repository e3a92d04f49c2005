//! Secrets by name: static ones, and those that come from files and change.
//!
//! A context that uses secrets from files is compiled again whenever one of them changes. A secret with
//! which one of its contexts does not compile is rejected, and changes none of them.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use corvoy_config::{self as config, Path, Problems};
use serde_json::Value;

use super::certificate::Certificate;
use super::generic_secret::GenericSecret;
use super::latest::{Latest, Listed};
use super::read_once::ReadOnce;
use super::secret_files_compile::{NamesFiles, files, inlined, shown};
use super::secrets_compile::{certificate, read, ticket_keys};
use super::tickets::TicketKey;
use super::verify;
use crate::config_source::compile::{self as source_compile, Response, check_existence, in_words};
use crate::config_source::{ConfigSource, MoveTarget};
use crate::stats::{Registry, SslSocketFactoryStats};

/// The secrets of a configuration, and the contexts that use those from files.
#[derive(Debug)]
pub struct Secrets {
    /// `static_resources.secrets`
    statics: RefCell<Vec<config::Secret>>,
    /// How many shards there are.
    shards: usize,
    /// Whether the node has an id and a cluster.
    has_identity: bool,
    dynamic: RefCell<Vec<Dynamic>>,
    contexts: RefCell<Vec<Context>>,
    /// Indexes of the dynamic secrets that the context uses which is being compiled.
    used: RefCell<Vec<usize>>,
    read_once: ReadOnce,
}

/// A secret from a file.
#[derive(Debug)]
struct Dynamic {
    source: SecretSource,
    /// The last one that had the right name and kind. Its files may become usable later.
    received: Option<Received>,
    active: Option<Active>,
}

/// A secret's name and kind, and where it comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretSource {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: SecretKind,
    /// Where it comes from.
    pub origin: ConfigSource,
}

/// What a secret is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretKind {
    /// `tls_certificate`
    Certificate,
    /// `validation_context`
    ValidationContext,
    /// `session_ticket_keys`
    SessionTicketKeys,
    /// `generic_secret`
    Generic,
}

#[derive(Clone, Debug)]
struct Received {
    secret: config::Secret,
    version: String,
    json: Value,
}

/// A secret that is in use.
#[derive(Clone, Debug)]
struct Active {
    /// With the contents of its files.
    secret: config::Secret,
    version: String,
    updated: SystemTime,
    json: Value,
}

/// A secret for the operator.
#[derive(Clone, Debug)]
pub struct ShownSecret {
    /// Its name.
    pub name: String,
    /// The `version_info` of its file.
    pub version: String,
    /// When it came into use.
    pub updated: SystemTime,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`, redacted; none: it is not there yet.
    pub json: Option<Value>,
}

/// A context that uses secrets from files.
#[derive(Debug)]
struct Context {
    /// Indexes of the secrets.
    uses: Vec<usize>,
    kind: Box<dyn Dependent>,
}

impl Context {
    /// Whether it uses this secret, and something uses it. What a refused configuration has left behind does not
    /// count.
    fn is_using(&self, secret: usize) -> bool {
        self.uses.contains(&secret) && self.kind.is_used()
    }
}

/// The TLS of a filter chain or cluster that uses secrets from files.
trait Dependent: fmt::Debug {
    /// Compiles its context. None: there is an error, or other secrets are missing.
    fn compile(&self, secrets: &Secrets, problems: &mut Problems) -> Option<Publish>;

    /// Counts the update of a secret.
    fn count_update(&self, registry: &Registry);

    /// Whether a filter chain or cluster still uses it.
    fn is_used(&self) -> bool;
}

/// Makes a compiled context the newest.
type Publish = Box<dyn FnOnce(&Registry)>;

type CompileContext<C, T> = fn(&C, &Path, &Secrets, &mut Problems) -> Option<Arc<T>>;

#[derive(Debug)]
struct Recompiled<C, T> {
    schema: C,
    at: Path,
    compile: CompileContext<C, T>,
    latest: Arc<Latest<T>>,
}

impl<C: fmt::Debug, T: Listed + fmt::Debug + 'static> Dependent for Recompiled<C, T> {
    fn compile(&self, secrets: &Secrets, problems: &mut Problems) -> Option<Publish> {
        let context = (self.compile)(&self.schema, &self.at, secrets, problems)?;
        let latest = Arc::clone(&self.latest);
        Some(Box::new(move |registry| latest.replace(context, registry)))
    }

    fn count_update(&self, registry: &Registry) {
        if let Some(owner) = self.latest.owner() {
            let factory =
                registry.scope::<SslSocketFactoryStats>(&format!("{}{}", owner.prefix, T::FACTORY));
            factory.control().ssl_context_update_by_sds.inc();
        }
    }

    fn is_used(&self) -> bool {
        Arc::strong_count(&self.latest) > 1
    }
}

impl SecretKind {
    const fn words(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::ValidationContext => "validation context",
            Self::SessionTicketKeys => "list of session ticket keys",
            Self::Generic => "generic secret",
        }
    }

    /// Whether the secret is of this kind.
    fn is_of(self, secret: &config::Secret) -> bool {
        let config::Secret {
            name: _,
            tls_certificate,
            session_ticket_keys,
            validation_context,
            generic_secret,
        } = secret;
        match self {
            Self::Certificate => tls_certificate.is_some(),
            Self::ValidationContext => validation_context.is_some(),
            Self::SessionTicketKeys => session_ticket_keys.is_some(),
            Self::Generic => generic_secret.is_some(),
        }
    }
}

/// For transport sockets.
impl Secrets {
    /// The secrets of a configuration with these static ones. Whether its node `has_identity`, an id and
    /// a cluster, matters only for secrets from files.
    pub(crate) fn new(statics: &[config::Secret], shards: usize, has_identity: bool) -> Self {
        Self {
            statics: RefCell::new(with_contents(statics)),
            shards,
            has_identity,
            dynamic: RefCell::default(),
            contexts: RefCell::default(),
            used: RefCell::default(),
            read_once: ReadOnce::default(),
        }
    }

    /// Replaces the static secrets, for contexts that are compiled from now on. Returns the former ones.
    pub(crate) fn set_statics(&self, statics: &[config::Secret]) -> Vec<config::Secret> {
        self.statics.replace(with_contents(statics))
    }

    /// What contexts use of the system.
    pub(super) const fn read_once(&self) -> &ReadOnce {
        &self.read_once
    }

    /// How many shards there are.
    pub(crate) const fn shards(&self) -> usize {
        self.shards
    }

    /// Compiles a context, now and whenever one of its secrets changes. As long as there is an error, or
    /// a secret is missing, there is none: no connection is served, above all not as plaintext.
    pub(super) fn context<C, T>(
        &self,
        schema: &C,
        at: &Path,
        compile: CompileContext<C, T>,
        problems: &mut Problems,
    ) -> Arc<Latest<T>>
    where
        C: Clone + NamesFiles + fmt::Debug + 'static,
        T: Listed + fmt::Debug + 'static,
    {
        self.used.borrow_mut().clear();
        let mut schema = schema.clone();
        schema.keep_contents();
        let latest = Latest::new(compile(&schema, at, self, problems));
        let uses = self.used.take();
        if !uses.is_empty() {
            let (at, latest) = (at.clone(), Arc::clone(&latest));
            let kind = Box::new(Recompiled { schema, at, compile, latest });
            self.contexts.borrow_mut().push(Context { uses, kind });
        }
        latest
    }

    /// The secret that is wanted, and where it is. None: there is none, which is an error unless it
    /// comes from a file.
    fn secret(
        &self,
        wanted: &config::SdsSecretConfig,
        kind: SecretKind,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<(config::Secret, Path)> {
        let config::SdsSecretConfig { name, sds_config } = wanted;
        if let Some(schema) = sds_config {
            source_compile::check_name(name, &at.field("name"), problems);
            let secret = self.dynamic(name, kind, schema, &at.field("sds_config"), problems)?;
            return Some((secret, Path::root()));
        }
        let statics = self.statics.borrow();
        let Some(i) = statics.iter().position(|secret| secret.name == *name) else {
            // With an `sds_config` that is refused, it is not a static secret.
            if problems.is_left_out(&at.field("sds_config")) {
                problems.error(&at.field("name"), format!("there is no static secret `{name}`"));
            }
            return None;
        };
        let secret = statics.get(i)?.clone();
        if !kind.is_of(&secret) {
            problems.error(&at.field("name"), wrong_kind(name, kind));
            return None;
        }
        Some((secret, Path::root().field("static_resources").field("secrets").index(i)))
    }

    /// A secret from a file, if it is there.
    fn dynamic(
        &self,
        name: &str,
        kind: SecretKind,
        schema: &config::ConfigSource,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<config::Secret> {
        if !self.has_identity {
            let why = "secrets from files and management servers need a `node` with an `id` and a `cluster`, or \
                       --service-node and --service-cluster, as in Envoy";
            problems.missing(at, why);
        }
        let origin = source_compile::source(schema, at, problems)?;
        let source = SecretSource { name: name.to_owned(), kind, origin };
        let mut all = self.dynamic.borrow_mut();
        let index = if let Some(known) = all.iter().position(|it| it.source == source) {
            known
        } else {
            // Only at start: what becomes of one secret's file later does not concern the others.
            check_existence(&source.origin, schema, at, problems)?;
            all.push(Dynamic { source, received: None, active: None });
            all.len() - 1
        };
        self.used.borrow_mut().push(index);
        all.get(index)?.active.as_ref().map(|active| active.secret.clone())
    }

    pub(super) fn certificate(
        &self,
        wanted: &config::SdsSecretConfig,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Certificate> {
        let (secret, at) = self.secret(wanted, SecretKind::Certificate, at, problems)?;
        let at = at.field("tls_certificate");
        let certificate = certificate(&secret.tls_certificate?, &at, self.shards, problems)?;
        Some(Certificate { secret: wanted.name.clone(), ..certificate })
    }

    pub(super) fn validation(
        &self,
        wanted: &config::SdsSecretConfig,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<config::CertificateValidationContext> {
        let (secret, _) = self.secret(wanted, SecretKind::ValidationContext, at, problems)?;
        secret.validation_context
    }

    pub(super) fn combined(
        &self,
        combined: &config::CombinedCertificateValidationContext,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<config::CertificateValidationContext> {
        let config::CombinedCertificateValidationContext {
            default_validation_context,
            validation_context_sds_secret_config,
        } = combined;
        let wanted = validation_context_sds_secret_config.as_ref()?;
        let at = at.field("validation_context_sds_secret_config");
        let secret = self.validation(wanted, &at, problems)?;
        Some(verify::compile::combined(default_validation_context.as_ref()?, &secret))
    }

    pub(super) fn ticket_keys(
        &self,
        wanted: &config::SdsSecretConfig,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Vec<TicketKey>> {
        let (secret, at) = self.secret(wanted, SecretKind::SessionTicketKeys, at, problems)?;
        ticket_keys(&secret.session_ticket_keys?, &at.field("session_ticket_keys"), problems)
    }
}

/// For filters.
impl Secrets {
    /// A generic secret, now and whenever it changes.
    pub(crate) fn generic(
        &self,
        wanted: &config::SdsSecretConfig,
        at: &Path,
        problems: &mut Problems,
    ) -> Arc<Latest<GenericSecret>> {
        self.context(wanted, at, generic, problems)
    }
}

fn generic(
    wanted: &config::SdsSecretConfig,
    at: &Path,
    secrets: &Secrets,
    problems: &mut Problems,
) -> Option<Arc<GenericSecret>> {
    let (secret, at) = secrets.secret(wanted, SecretKind::Generic, at, problems)?;
    let config::GenericSecret { secret } = secret.generic_secret?;
    let at = at.field("generic_secret").field("secret");
    let content = read(secret.as_ref()?, &at, problems)?;
    Some(Arc::new(GenericSecret::new(content.bytes.into_owned())))
}

/// Secrets with the contents of the files that they name.
fn with_contents(secrets: &[config::Secret]) -> Vec<config::Secret> {
    let mut secrets = secrets.to_vec();
    secrets.iter_mut().for_each(NamesFiles::keep_contents);
    secrets
}

fn wrong_kind(name: &str, kind: SecretKind) -> String {
    format!("the secret `{name}` is no {}", kind.words())
}

/// What becomes of new secrets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// New connections use it.
    Replaced,
    /// It is the same as before.
    Same,
}

/// For the control plane. Secrets from files have indexes.
impl Secrets {
    /// Forgets the contexts that nothing uses any more, and the contents of the secrets that only they used.
    pub(crate) fn collect(&self) {
        self.contexts.borrow_mut().retain(|context| context.kind.is_used());
        for (index, dynamic) in self.dynamic.borrow_mut().iter_mut().enumerate() {
            if !self.is_used(index) {
                (dynamic.received, dynamic.active) = (None, None);
            }
        }
    }

    /// Whether a filter chain or cluster uses this secret from a file.
    #[must_use]
    pub fn is_used(&self, index: usize) -> bool {
        self.contexts.borrow().iter().any(|context| context.is_using(index))
    }

    /// The secrets from files, also those that nothing uses any more.
    pub fn sources(&self) -> Vec<SecretSource> {
        self.dynamic.borrow().iter().map(|secret| secret.source.clone()).collect()
    }

    /// Takes the secret that was read from its file.
    ///
    /// # Errors
    /// It cannot be used: in words. The last one stays in use.
    pub(crate) fn update(
        &self,
        index: usize,
        response: Response,
        registry: &Registry,
    ) -> Result<Change, String> {
        let Response { version, resources } = response;
        {
            let mut all = self.dynamic.borrow_mut();
            let Some(dynamic) = all.get_mut(index) else { return Ok(Change::Same) };
            let SecretSource { name, kind, origin: _ } = &dynamic.source;
            let count = resources.len();
            let [resource] = <[_; 1]>::try_from(resources)
                .map_err(|_| format!("there must be one secret in the file, not {count}"))?;
            let config::Any::Secret(secret) = resource.message()? else {
                return Err(format!("{} is not a secret", resource.type_name()));
            };
            if secret.name != *name {
                return Err(format!("the secret in the file is `{}`, not `{name}`", secret.name));
            }
            if !kind.is_of(secret) {
                return Err(wrong_kind(name, *kind));
            }
            let (secret, json) = (config::Secret::clone(secret), resource.json());
            dynamic.received = Some(Received { secret, version, json });
        }
        self.reload(index, registry)
    }

    /// Reads the files again that the last received secret names.
    ///
    /// # Errors
    /// It cannot be used: in words. The last one stays in use.
    pub fn reload(&self, index: usize, registry: &Registry) -> Result<Change, String> {
        let Some(Received { secret, version, json }) = self.received(index) else {
            return Ok(Change::Same);
        };
        let secret = inlined(&secret).map_err(|error| error.to_string())?;
        let previous = self.active(index);
        if let Some(active) = previous.as_ref().filter(|active| active.secret == secret) {
            self.activate(index, Some(Active { version, ..active.clone() }));
            return Ok(Change::Same);
        }
        let json = shown(json, &secret);
        let active = Active { secret, version, updated: SystemTime::now(), json };
        self.activate(index, Some(active));
        match self.compile_contexts(index) {
            Ok(contexts) => contexts.into_iter().for_each(|publish| publish(registry)),
            Err(why) => {
                self.activate(index, previous);
                return Err(why);
            }
        }
        let contexts = self.contexts.borrow();
        let using = contexts.iter().filter(|context| context.is_using(index));
        using.for_each(|context| context.kind.count_update(registry));
        Ok(Change::Replaced)
    }

    /// The contexts that use a secret, but for those that lack another one.
    fn compile_contexts(&self, index: usize) -> Result<Vec<Publish>, String> {
        let mut problems = Problems::default();
        let contexts = self.contexts.borrow();
        let using = contexts.iter().filter(|context| context.is_using(index));
        let compiled: Vec<_> =
            using.filter_map(|context| context.kind.compile(self, &mut problems)).collect();
        self.used.borrow_mut().clear();
        if problems.has_errors() {
            // The contents of files stand in place of their names.
            return Err(in_words(&problems).replace(".inline_bytes", ""));
        }
        Ok(compiled)
    }

    fn received(&self, index: usize) -> Option<Received> {
        self.dynamic.borrow().get(index)?.received.clone()
    }

    fn active(&self, index: usize) -> Option<Active> {
        self.dynamic.borrow().get(index)?.active.clone()
    }

    fn activate(&self, index: usize, active: Option<Active>) {
        if let Some(dynamic) = self.dynamic.borrow_mut().get_mut(index) {
            dynamic.active = active;
        }
    }

    /// The files that the last received secret names, or the directory that is to be watched instead.
    pub fn files(&self, index: usize) -> Vec<MoveTarget> {
        self.received(index).map(|received| files(&received.secret)).unwrap_or_default()
    }

    /// The secrets from files, as the operator sees them.
    pub fn shown(&self) -> Vec<ShownSecret> {
        let all = self.dynamic.borrow();
        let used = all.iter().enumerate().filter(|(index, _)| self.is_used(*index));
        let shown = used.map(|(_, dynamic)| {
            let name = dynamic.source.name.clone();
            match dynamic.active.clone() {
                Some(Active { version, updated, json, secret: _ }) => {
                    ShownSecret { name, version, updated, json: Some(json) }
                }
                None => ShownSecret {
                    name,
                    version: "uninitialized".to_owned(),
                    updated: SystemTime::now(),
                    json: None,
                },
            }
        });
        shown.collect()
    }
}

#[cfg(test)]
#[path = "sds_compile_tests.rs"]
mod tests;
