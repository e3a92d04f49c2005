//! Schema → `credential_injector`.

use std::sync::Arc;
use std::time::Duration;

use corvoy_config::{self as config, Path, Problems};

use super::oauth2::{Auth, ClientCredentials, encode};
use super::{AUTHORIZATION, Credential, CredentialInjector};
use crate::request::callout;
use crate::request::filters::FilterId;
use crate::request::filters::compile::{Context, header_to_set};

/// Envoy's default.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

impl CredentialInjector {
    pub(in super::super) fn compile(
        schema: &config::CredentialInjector,
        context: &Context<'_>,
        at: &Path,
        problems: &mut Problems,
    ) -> Option<Self> {
        let config::CredentialInjector { overwrite, allow_request_without_credential, credential } =
            schema;
        let prefix = format!("{}credential_injector.", context.stat_prefix);
        let at = at.field("credential").field("typed_config");
        let config::TypedExtensionConfig { name: _, typed_config } = credential.as_ref()?;
        let credential = match typed_config {
            Some(config::Any::GenericCredential(schema)) => {
                generic(schema, context, &at, problems)?
            }
            Some(config::Any::OAuth2Credential(schema)) => {
                let prefix = format!("{prefix}oauth2.");
                Credential::OAuth2(Arc::new(oauth2(schema, &prefix, context, &at, problems)?))
            }
            Some(other) => {
                let why = format!("`{}` is no credential to inject", other.type_name());
                problems.error(&at, why);
                return None;
            }
            None => {
                problems.missing(&at, "a credential needs its typed_config");
                return None;
            }
        };
        Some(Self {
            id: FilterId::next(),
            credential,
            overwrites: *overwrite,
            allows_without: *allow_request_without_credential,
            stats: context.registry.scope(&prefix),
        })
    }
}

fn generic(
    schema: &config::GenericCredential,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Credential> {
    let config::GenericCredential { credential, header, header_value_prefix } = schema;
    let secret = context.secrets.generic(credential.as_ref()?, &at.field("credential"), problems);
    if header_value_prefix.chars().any(|c| c.is_ascii_control()) {
        let at = at.field("header_value_prefix");
        problems.error(&at, "the value of a header has no control characters");
    }
    let header = match header.as_str() {
        "" => AUTHORIZATION.into(),
        name => header_to_set(name, &at.field("header"), problems)?,
    };
    Some(Credential::Generic { header, prefix: header_value_prefix.as_bytes().into(), secret })
}

fn oauth2(
    schema: &config::OAuth2Credential,
    prefix: &str,
    context: &Context<'_>,
    at: &Path,
    problems: &mut Problems,
) -> Option<ClientCredentials> {
    let config::OAuth2Credential {
        token_endpoint,
        scopes,
        client_credentials,
        token_fetch_retry_interval,
        endpoint_params,
    } = schema;
    let Some(client) = client_credentials else {
        problems.missing(&at.field("client_credentials"), "client_credentials are needed");
        return None;
    };
    let config::OAuth2ClientCredentials { client_id, client_secret, auth_type } = client;
    let at_secret = at.field("client_credentials").field("client_secret");
    let auth = match auth_type {
        config::OAuth2AuthType::BasicAuth => Auth::Basic,
        config::OAuth2AuthType::UrlEncodedBody => Auth::Body,
        config::OAuth2AuthType::TlsClientAuth => Auth::Certificate,
    };
    let client_secret = match client_secret {
        Some(schema) if auth != Auth::Certificate => {
            Some(context.secrets.generic(schema, &at_secret, problems))
        }
        None if auth != Auth::Certificate => {
            problems.missing(&at_secret, "a client without certificate needs a client_secret");
            return None;
        }
        _ => None,
    };
    let endpoint = token_endpoint.as_ref()?;
    let at_endpoint = at.field("token_endpoint");
    let target = callout::compile::http(endpoint, None, &context.calls, &at_endpoint, problems);
    let Some((scheme, authority, path)) = callout::compile::split_uri(&endpoint.uri) else {
        let why = "this is no absolute URI with `http` or `https`";
        problems.error(&at_endpoint.field("uri"), why);
        return None;
    };
    let mut parameters = String::new();
    if !scopes.is_empty() {
        parameters.push_str("&scope=");
        encode(scopes.join(" ").as_bytes(), &mut parameters);
    }
    for config::OAuth2EndpointParameter { name, value } in endpoint_params {
        parameters.push('&');
        encode(name.as_bytes(), &mut parameters);
        parameters.push('=');
        encode(value.as_bytes(), &mut parameters);
    }
    Some(ClientCredentials {
        target: target?,
        scheme,
        authority: authority.as_bytes().into(),
        path: path.as_bytes().into(),
        client_id: client_id.as_str().into(),
        client_secret,
        auth,
        parameters: parameters.into(),
        retry_interval: token_fetch_retry_interval.unwrap_or(RETRY_INTERVAL),
        stats: context.registry.scope(prefix),
    })
}
