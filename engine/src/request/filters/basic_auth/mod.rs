//! `basic_auth`: requests need a user and a password, in the `Basic` scheme of RFC 7617.
//!
//! Neither passwords nor users appear in logs or replies. How long a check takes depends on neither.

pub(super) mod compile;

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{Context, Flow, RouteConfig};
use crate::http::{FieldName, RequestHead};
use crate::request::reply::LocalReply;
use crate::request::route::scheme;
use crate::stats::{Scope, stats};

stats! {
    /// `http.<stat_prefix>.basic_auth.`
    pub struct BasicAuthStats {
        counter allowed;
        counter denied;
    }
}

/// The filter.
#[derive(Debug)]
pub struct BasicAuth {
    users: Users,
    /// The header with the credentials, in lower case.
    header: Box<[u8]>,
    /// The header that gets the name of the user, in lower case.
    forward_user: Option<Box<[u8]>>,
    stats: Arc<Scope<BasicAuthStats>>,
}

/// By name: the SHA-1 of the password.
#[derive(Default)]
pub struct Users(HashMap<Box<[u8]>, Sha1>);

type Sha1 = [u8; 20];

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Denied {
    Missing,
    Scheme,
    Format,
    Credential,
}

impl BasicAuth {
    pub(super) fn request_head(&self, cx: &mut Context<'_, '_>) -> Flow {
        let of_route = cx.route_config(|config| match config {
            RouteConfig::BasicAuth(users) => Some(users),
            _ => None,
        });
        let stats = self.stats.shard(cx.core.shard.id);
        let request = &mut cx.core.heads.request;
        match of_route.unwrap_or(&self.users).authenticate(request.fields.find(&self.header)) {
            Ok(user) => {
                if let Some(name) = &self.forward_user {
                    request.fields.replace_other(name, &user);
                }
                stats.allowed.inc();
                Flow::Continue
            }
            Err(denied) => {
                stats.denied.inc();
                Flow::Reply(Box::new(denied.reply(request)))
            }
        }
    }
}

impl Users {
    /// The user with these credentials: the value of the header.
    fn authenticate(&self, credentials: Option<&[u8]>) -> Result<Vec<u8>, Denied> {
        let credentials = credentials.ok_or(Denied::Missing)?;
        let encoded = credentials.strip_prefix(b"Basic ").ok_or(Denied::Scheme)?;
        let mut decoded = decode(encoded).ok_or(Denied::Format)?;
        let colon = memchr::memchr(b':', &decoded).ok_or(Denied::Format)?;
        let password = decoded.get(colon + 1..).unwrap_or_default();
        let given = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
        // An unknown user takes as long as a wrong password.
        let user = self.0.get(decoded.get(..colon).unwrap_or_default());
        let right = verify_slices_are_equal(given.as_ref(), user.unwrap_or(&[0; 20])).is_ok();
        if user.is_none() || !right {
            return Err(Denied::Credential);
        }
        decoded.truncate(colon);
        Ok(decoded)
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} users", self.0.len())
    }
}

/// Decodes base64; as in Envoy, the padding may be missing.
fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let unpadded = encoded.strip_suffix(b"=").unwrap_or(encoded);
    let unpadded = unpadded.strip_suffix(b"=").unwrap_or(unpadded);
    STANDARD_NO_PAD.decode(unpadded).ok()
}

impl Denied {
    fn reply(self, request: &RequestHead) -> LocalReply {
        let (why, details) = match self {
            Self::Missing => ("Missing username and password.", "no_credential_for_basic_auth"),
            Self::Scheme => {
                ("Expected 'Basic' authentication scheme.", "invalid_scheme_for_basic_auth")
            }
            Self::Format => ("Invalid basic credential format.", "invalid_format_for_basic_auth"),
            Self::Credential => {
                ("Invalid username/password combination.", "invalid_credential_for_basic_auth")
            }
        };
        let body = format!("User authentication failed. {why}");
        let mut reply = LocalReply::new(401, &body).with_details(None, details);
        reply.add_field(FieldName::WwwAuthenticate, &challenge(request));
        reply
    }
}

fn challenge(request: &RequestHead) -> Vec<u8> {
    [b"Basic realm=", &*quoted_uri(request)].concat()
}

/// The URI of the request as a quoted string, its path cut to 256 bytes.
pub(super) fn quoted_uri(request: &RequestHead) -> Vec<u8> {
    const PATH_MAX: usize = 256;
    let mut quoted = vec![b'"'];
    if let Some(path) = request.path_and_query() {
        let path = request.fields.get(FieldName::XEnvoyOriginalPath).unwrap_or(path);
        let path = path.get(..PATH_MAX).unwrap_or(path);
        let uri = [scheme(request), b"://", request.authority().unwrap_or_default(), path];
        // RFC 9110 §5.6.4: these two end a quoted string, or escape its next character.
        let is_quoted = |byte: &u8| matches!(byte, b'"' | b'\\');
        for byte in uri.concat() {
            quoted.extend(is_quoted(&byte).then_some(b'\\'));
            quoted.push(byte);
        }
    }
    quoted.push(b'"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::route::tests::request;

    fn users() -> Users {
        // The password of `user` is `test`.
        Users::parse(b"# comment\n\nuser:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=\n").unwrap()
    }

    #[test]
    fn a_request_needs_a_user_and_the_password() {
        let check = |value: Option<&[u8]>| users().authenticate(value);
        let user = Ok(b"user".to_vec());
        assert_eq!(check(Some(b"Basic dXNlcjp0ZXN0")), user);
        assert_eq!(check(None), Err(Denied::Missing));
        assert_eq!(check(Some(b"basic dXNlcjp0ZXN0")), Err(Denied::Scheme));
        assert_eq!(check(Some(b"Basic !")), Err(Denied::Format));
        assert_eq!(check(Some(b"Basic dXNlcg==")), Err(Denied::Format), "no colon");
        assert_eq!(check(Some(b"Basic dXNlcjp0ZXM=")), Err(Denied::Credential));
        assert_eq!(check(Some(b"Basic b3RoZXI6dGVzdA==")), Err(Denied::Credential), "other:test");
        assert_eq!(check(Some(b"Basic OnRlc3Q")), Err(Denied::Credential), ":test");
    }

    #[test]
    fn the_realm_is_one_quoted_string() {
        let mut head = request("/a\"b\\c", &[]);
        assert_eq!(challenge(&head), br#"Basic realm="http://t.test/a\"b\\c""#);
        head.set_target(&[b'x'; 300]);
        assert_eq!(challenge(&head).len(), r#"Basic realm="http://t.test""#.len() + 256);
    }

    #[test]
    fn users_are_lines_of_an_htpasswd_file() {
        let error = |text: &str| Users::parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error("user").contains("line 1"), "no colon");
        assert!(error("#\n:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=").contains("line 2"), "no name");
        assert!(error("user:test").contains("{SHA}"));
        assert!(error("user:{SHA}qUqP").contains("SHA-1"));
        let line = "user:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=\n";
        assert!(error(&line.repeat(2)).contains("line 2: the user is there already"));
        assert!(!error("user:secret").contains("secret"));
        assert_eq!(format!("{:?}", users()), "1 users");
    }
}
