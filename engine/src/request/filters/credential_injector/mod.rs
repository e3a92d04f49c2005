//! `credential_injector`: gives requests a credential that the client does not have.

pub(super) mod compile;
mod oauth2;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use self::oauth2::{ClientCredentials, Token};
use super::{Context, FilterId, Flow};
use crate::http::Fields;
use crate::request::reply::LocalReply;
use crate::request::service::LocalService;
use crate::shard::Shard;
use crate::stats::{Scope, stats};
use crate::transport::tls::context::{Follower, GenericSecret, Latest};

stats! {
    /// `http.<stat_prefix>.credential_injector.`, for the filters of a cluster
    /// `cluster.<name>.credential_injector.`
    pub struct CredentialInjectorStats {
        counter already_exists;
        counter failed;
        counter injected;
    }
}

/// The filter.
#[derive(Debug)]
pub struct CredentialInjector {
    id: FilterId,
    credential: Credential,
    /// Whether it replaces a credential that a request has.
    overwrites: bool,
    /// Whether a request goes on without a credential if there is none.
    allows_without: bool,
    stats: Arc<Scope<CredentialInjectorStats>>,
}

/// The credential.
#[derive(Debug)]
enum Credential {
    /// `generic`: a secret in a header.
    Generic {
        /// In lower case.
        header: Box<[u8]>,
        /// What is in front of the secret.
        prefix: Box<[u8]>,
        secret: Arc<Latest<GenericSecret>>,
    },
    /// `oauth2`: a token that an authorization server gives for the client's id and secret.
    OAuth2(Arc<ClientCredentials>),
}

/// What a shard keeps.
#[derive(Debug)]
pub(in crate::request) enum Local {
    Secret(RefCell<Follower<GenericSecret, Arc<GenericSecret>>>),
    Token(Rc<Token>),
}

const AUTHORIZATION: &[u8] = b"authorization";

/// What became of a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Injected,
    AlreadyThere,
    /// There is no credential yet.
    Failed,
}

impl CredentialInjector {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        let local = self.local(cx.core.service(), cx.core.shard);
        let outcome = self.inject(&local, &mut cx.core.heads.request.fields);
        let stats = self.stats.shard(cx.core.shard.id);
        match outcome {
            Outcome::Injected => stats.injected.inc(),
            Outcome::AlreadyThere => stats.already_exists.inc(),
            Outcome::Failed => {
                stats.failed.inc();
                if !self.allows_without {
                    let reply = LocalReply::new(401, "Failed to inject credential.");
                    let reply = reply.with_details(None, "failed_to_inject_credential");
                    return Flow::Reply(Box::new(reply));
                }
            }
        }
        Flow::Continue
    }

    fn inject(&self, local: &Local, fields: &mut Fields) -> Outcome {
        let header = match &self.credential {
            Credential::Generic { header, .. } => header,
            Credential::OAuth2(_) => AUTHORIZATION,
        };
        if !self.overwrites && fields.iter().any(|(_, name, _)| name == header) {
            return Outcome::AlreadyThere;
        }
        let value = match (&self.credential, local) {
            (Credential::Generic { prefix, .. }, Local::Secret(secret)) => {
                let mut secret = secret.borrow_mut();
                let secret = secret.newest().filter(|secret| !secret.is_empty());
                secret.map(|secret| [prefix, secret.bytes()].concat())
            }
            (Credential::OAuth2(_), Local::Token(token)) => token.value(),
            _ => None,
        };
        let Some(value) = value else { return Outcome::Failed };
        // As in Envoy, at the end.
        fields.remove_other(header);
        fields.append_other(header, &value);
        Outcome::Injected
    }

    /// What the shard keeps. A token is fetched from here on.
    pub(super) fn local(&self, service: &LocalService, shard: &'static Shard) -> Rc<Local> {
        service.filters_on_shard.of(self.id, || {
            Rc::new(match &self.credential {
                Credential::Generic { secret, .. } => {
                    Local::Secret(RefCell::new(Follower::new(Arc::clone(secret))))
                }
                Credential::OAuth2(credentials) => {
                    Local::Token(Token::fetched(credentials, service.calls.as_ref(), shard))
                }
            })
        })
    }
}
