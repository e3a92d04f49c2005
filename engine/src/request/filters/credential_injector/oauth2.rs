//! A token of the OAuth 2.0 client credentials grant (RFC 6749, section 4.4), as one shard knows it.
//!
//! It is fetched at once, again when half of its time is over, and some time after each failure. As in Envoy no
//! request waits for it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::http::{FieldName, Method, RequestHead, Scheme};
use crate::limits;
use crate::request::callout::{Body, Call, Response, Target};
use crate::request::service::LocalService;
use crate::shard::Shard;
use crate::shard::clock::millis;
use crate::stats::{Scope, stats};
use crate::transport::tls::context::{GenericSecret, Latest};

stats! {
    /// `http.<stat_prefix>.credential_injector.oauth2.`
    pub(super) struct OAuth2Stats {
        counter token_fetch_failed_on_bad_response_code;
        counter token_fetch_failed_on_bad_token;
        counter token_fetch_failed_on_client_secret;
        counter token_fetch_failed_on_cluster_not_found;
        counter token_fetch_failed_on_stream_reset;
        counter token_fetched;
        counter token_requested;
    }
}

/// Where a token comes from, and for whom.
#[derive(Debug)]
pub(super) struct ClientCredentials {
    pub(super) target: Arc<Target>,
    pub(super) scheme: Scheme,
    pub(super) authority: Box<[u8]>,
    pub(super) path: Box<[u8]>,
    pub(super) client_id: Box<str>,
    /// None: the client shows its certificate.
    pub(super) client_secret: Option<Arc<Latest<GenericSecret>>>,
    pub(super) auth: Auth,
    /// `scope` and the parameters of the endpoint, form-encoded, each behind a `&`.
    pub(super) parameters: Box<str>,
    /// How long after a failure the token is fetched again.
    pub(super) retry_interval: Duration,
    pub(super) stats: Arc<Scope<OAuth2Stats>>,
}

/// How the client says who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Auth {
    /// In `authorization`.
    Basic,
    /// In the body.
    Body,
    /// In the TLS handshake.
    Certificate,
}

/// The token on a shard.
#[derive(Debug, Default)]
pub(in crate::request) struct Token {
    /// `Bearer …`
    value: RefCell<Option<Box<[u8]>>>,
}

/// What the server answers.
#[derive(Debug, Deserialize, Eq, PartialEq)]
struct Answer {
    access_token: String,
    /// In seconds.
    expires_in: u64,
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Failed {
    Secret,
    Reset,
    Status,
    Token,
}

impl Token {
    /// One that is fetched from now on; without calls there is none, ever.
    pub(super) fn fetched(
        credentials: &Arc<ClientCredentials>,
        calls: Option<&Rc<LocalService>>,
        shard: &'static Shard,
    ) -> Rc<Self> {
        let token = Rc::<Self>::default();
        if let Some(calls) = calls {
            let (credentials, calls) = (Arc::clone(credentials), Rc::clone(calls));
            let weak = Rc::downgrade(&token);
            shard.spawn(async move {
                let alarm = shard.timers.alarm();
                // It is fetched as long as something may use it.
                while weak.strong_count() > 0 {
                    let fetched = credentials.fetch(&calls, shard).await;
                    let Some(token) = weak.upgrade() else { return };
                    let wait = match fetched {
                        Ok((value, valid)) => {
                            *token.value.borrow_mut() = Some(value);
                            valid / 2
                        }
                        Err(_) => credentials.retry_interval,
                    };
                    drop(token);
                    let now = shard.clock.now();
                    alarm.set(Some(now + millis(wait).max(limits::TOKEN_FETCH_MIN_MS)), now);
                    alarm.expired().await;
                    alarm.set(None, shard.clock.refresh());
                }
            });
        }
        token
    }

    /// The value of `authorization`; none: there is no token yet.
    pub(super) fn value(&self) -> Option<Vec<u8>> {
        self.value.borrow().as_ref().map(|value| value.to_vec())
    }
}

impl ClientCredentials {
    /// Fetches a token: the value of `authorization`, and how long it is valid.
    async fn fetch(
        &self,
        calls: &Rc<LocalService>,
        shard: &'static Shard,
    ) -> Result<(Box<[u8]>, Duration), Failed> {
        let stats = self.stats.shard(shard.id);
        let fetched = self.ask(calls, shard).await;
        match fetched {
            Ok(_) => stats.token_fetched.inc(),
            Err(Failed::Secret) => stats.token_fetch_failed_on_client_secret.inc(),
            Err(Failed::Reset) => stats.token_fetch_failed_on_stream_reset.inc(),
            Err(Failed::Status) => stats.token_fetch_failed_on_bad_response_code.inc(),
            Err(Failed::Token) => stats.token_fetch_failed_on_bad_token.inc(),
        }
        fetched
    }

    async fn ask(
        &self,
        calls: &Rc<LocalService>,
        shard: &'static Shard,
    ) -> Result<(Box<[u8]>, Duration), Failed> {
        let secret = match &self.client_secret {
            Some(latest) => {
                let secret = latest.get().filter(|secret| !secret.is_empty());
                Some(secret.ok_or(Failed::Secret)?)
            }
            None => None,
        };
        let secret = secret.as_ref().map_or(&[][..], |secret| secret.bytes());
        let body = self.body(secret);
        let fill = |head: &mut RequestHead| self.fill(head, secret, body.len());
        let most = limits::CALL_RESPONSE_BYTES_MAX;
        let body = Body::Whole(body.as_bytes());
        let call = Call::of_proxy(calls, shard, &self.target, fill, body, most);
        self.stats.shard(shard.id).token_requested.inc();
        std::future::poll_fn(|cx| call.poll_done(cx)).await;
        let Ok(Response { head, body, .. }) = call.take_whole() else { return Err(Failed::Reset) };
        if head.status != 200 {
            return Err(Failed::Status);
        }
        let answer: Answer = serde_json::from_slice(&body).map_err(|_| Failed::Token)?;
        let value = format!("Bearer {}", answer.access_token);
        if answer.access_token.is_empty() || value.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(Failed::Token);
        }
        Ok((value.into_bytes().into(), Duration::from_secs(answer.expires_in)))
    }

    fn fill(&self, head: &mut RequestHead, secret: &[u8], length: usize) {
        head.set_method(Method::Post.as_str().as_bytes());
        head.scheme = Some(self.scheme);
        head.set_target(&self.path);
        let fields = &mut head.fields;
        fields.append(FieldName::Host, &self.authority);
        fields.append(FieldName::ContentType, b"application/x-www-form-urlencoded");
        if self.auth == Auth::Basic {
            let pair = [self.client_id.as_bytes(), b":", secret].concat();
            let value = format!("Basic {}", BASE64.encode(pair));
            fields.append(FieldName::Authorization, value.as_bytes());
        }
        let mut digits = itoa::Buffer::new();
        fields.append(FieldName::ContentLength, digits.format(length).as_bytes());
        fields.set(FieldName::XEnvoyInternal, b"true");
    }

    /// The body of the request.
    fn body(&self, secret: &[u8]) -> String {
        let mut body = "grant_type=client_credentials".to_owned();
        if matches!(self.auth, Auth::Body | Auth::Certificate) {
            body.push_str("&client_id=");
            encode(self.client_id.as_bytes(), &mut body);
        }
        if self.auth == Auth::Body {
            body.push_str("&client_secret=");
            encode(secret, &mut body);
        }
        body.push_str(&self.parameters);
        body
    }
}

/// Percent-encodes all but what a form has as it is.
pub(super) fn encode(bytes: &[u8], to: &mut String) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            to.push(char::from(byte));
        } else {
            to.push_str(&format!("%{byte:02X}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_only_letters_digits_and_few_signs_as_they_are() {
        let mut text = String::new();
        encode("a-Z_0.~ &=é".as_bytes(), &mut text);
        assert_eq!(text, "a-Z_0.~%20%26%3D%C3%A9");
    }

    #[test]
    fn an_answer_needs_a_token_and_its_time() {
        let read = |text: &str| serde_json::from_str::<Answer>(text).ok();
        let answer = read(r#"{"access_token": "t", "expires_in": 60, "token_type": "x"}"#);
        assert_eq!(answer, Some(Answer { access_token: "t".to_owned(), expires_in: 60 }));
        assert_eq!(read(r#"{"access_token": "t"}"#), None);
        assert_eq!(read("[]"), None);
    }
}
