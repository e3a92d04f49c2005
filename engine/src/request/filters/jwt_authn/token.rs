//! Tokens: JWTs in the compact form (RFC 7519, RFC 7515 §3.1).
//!
//! A [`Token`] is only parsed. Whether it may be believed is for `keys.rs` to say.

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use super::json;
use super::status::Status;

/// Base64url, with padding or without; as in Envoy, bits that are left at the end do not count.
pub(super) const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The algorithm of a signature: RFC 7518 §3.1, RFC 8037 §3.1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Algorithm {
    Es256,
    Es384,
    Es512,
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    EdDsa,
}

impl Algorithm {
    /// As in Envoy, `none` is not among them.
    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A token, parsed.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) header: Map<String, Value>,
    pub(super) payload: Map<String, Value>,
    /// The payload as it is in the token.
    pub(super) payload_text: Box<str>,
    /// The header and the payload as they are in the token.
    pub(super) signed: Box<str>,
    pub(super) signature: Box<[u8]>,
    pub(super) algorithm: Algorithm,
    /// May be empty.
    pub(super) kid: Box<str>,
    /// May be empty.
    pub(super) issuer: Box<str>,
    /// May be empty.
    pub(super) subject: Box<str>,
    pub(super) audiences: Box<[Box<str>]>,
    /// In seconds since 1970; 0: any time.
    pub(super) not_before: u64,
    /// In seconds since 1970; 0: never.
    pub(super) expires: u64,
    /// Whether it has extensions that a recipient must understand.
    pub(super) is_critical: bool,
}

impl Token {
    pub(super) fn parse(text: &str) -> Result<Self, Status> {
        let mut sections = text.split('.');
        let (Some(header_text), Some(payload_text), Some(signature), None) =
            (sections.next(), sections.next(), sections.next(), sections.next())
        else {
            return Err(Status::BadFormat);
        };
        if header_text.is_empty() || payload_text.is_empty() || signature.is_empty() {
            return Err(Status::BadFormat);
        }
        let header = BASE64_URL.decode(header_text).map_err(|_| Status::HeaderBadBase64)?;
        let header = json::object(&header).ok_or(Status::HeaderBadJson)?;
        let name = header.get("alg").and_then(Value::as_str).ok_or(Status::HeaderBadAlg)?;
        let algorithm = Algorithm::of(name).ok_or(Status::HeaderUnknownAlg)?;
        let kid = text_in(&header, "kid", Status::HeaderBadKid)?;
        let payload = BASE64_URL.decode(payload_text).map_err(|_| Status::PayloadBadBase64)?;
        let payload = json::object(&payload).ok_or(Status::PayloadBadJson)?;
        let issuer = text_in(&payload, "iss", Status::IssNotString)?;
        let subject = text_in(&payload, "sub", Status::SubNotString)?;
        time_in(&payload, "iat", Status::IatNotInteger, Status::IatOutOfRange)?;
        let not_before = time_in(&payload, "nbf", Status::NbfNotInteger, Status::NbfOutOfRange)?;
        let expires = time_in(&payload, "exp", Status::ExpNotInteger, Status::ExpOutOfRange)?;
        text_in(&payload, "jti", Status::JtiNotString)?;
        let audiences = audiences(&payload)?;
        let signature = BASE64_URL.decode(signature).map_err(|_| Status::SignatureBadBase64)?;
        Ok(Self {
            is_critical: header.contains_key("crit"),
            header,
            payload,
            payload_text: payload_text.into(),
            signed: format!("{header_text}.{payload_text}").into(),
            signature: signature.into(),
            algorithm,
            kid,
            issuer,
            subject,
            audiences,
            not_before,
            expires,
        })
    }

    /// Checks that it is valid at `now`, in seconds since 1970, give or take `skew` seconds.
    pub(super) fn check_time(&self, now: u64, skew: u64) -> Result<(), Status> {
        if now.saturating_add(skew) < self.not_before {
            return Err(Status::NotYetValid);
        }
        if self.expires != 0 && now > self.expires.saturating_add(skew) {
            return Err(Status::Expired);
        }
        Ok(())
    }
}

fn text_in(object: &Map<String, Value>, key: &str, otherwise: Status) -> Result<Box<str>, Status> {
    match object.get(key) {
        None => Ok(Box::default()),
        Some(Value::String(text)) => Ok(text.as_str().into()),
        Some(_) => Err(otherwise),
    }
}

/// As in Envoy, a fraction is cut off.
fn time_in(
    object: &Map<String, Value>,
    key: &str,
    not_integer: Status,
    out_of_range: Status,
) -> Result<u64, Status> {
    /// 2^64
    const END: f64 = 18_446_744_073_709_551_616.0;
    let number = match object.get(key) {
        None => return Ok(0),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(not_integer),
    };
    if let Some(seconds) = number.as_u64() {
        return Ok(seconds);
    }
    let number = number.as_f64().unwrap_or(-1.0);
    if !(0.0..END).contains(&number) {
        return Err(out_of_range);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    Ok(number as u64)
}

fn audiences(payload: &Map<String, Value>) -> Result<Box<[Box<str>]>, Status> {
    let text = |value: &Value| value.as_str().map(Into::into).ok_or(Status::AudNotString);
    match payload.get("aud") {
        None => Ok(Box::default()),
        Some(Value::Array(values)) => values.iter().map(text).collect(),
        Some(value) => Ok([text(value)?].into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> String {
        BASE64_URL.encode(text).trim_end_matches('=').to_owned()
    }

    fn parsed(header: &str, payload: &str) -> Result<Token, Status> {
        Token::parse(&format!("{}.{}.YWJj", part(header), part(payload)))
    }

    #[test]
    fn a_token_has_three_sections() {
        let token = parsed(
            r#"{"alg":"ES256","kid":"k"}"#,
            r#"{"iss":"i","sub":"s","aud":["a","b"],"nbf":1,"exp":2.9,"iat":0}"#,
        );
        let token = token.unwrap();
        assert_eq!((&*token.kid, &*token.issuer, &*token.subject), ("k", "i", "s"));
        assert_eq!((token.not_before, token.expires), (1, 2));
        assert_eq!(token.audiences.len(), 2);
        assert_eq!(&*token.signature, b"abc");
        for text in ["", "a", "a.b", "a.b.c.d", "a..c", "a.b.", "..", "."] {
            assert_eq!(Token::parse(text).unwrap_err(), Status::BadFormat, "{text:?}");
        }
    }

    /// RFC 8725 §3.1: `none` is no algorithm, however it is written.
    #[test]
    fn a_token_without_a_signature_is_refused() {
        for alg in ["none", "None", "NONE", "nOnE", "", "HS1", "RS256 ", "es256", "ES256K"] {
            let refused = parsed(&format!(r#"{{"alg":"{alg}"}}"#), "{}");
            assert_eq!(refused.unwrap_err(), Status::HeaderUnknownAlg, "{alg:?}");
        }
        let bare = format!("{}.{}.", part(r#"{"alg":"none"}"#), part("{}"));
        assert_eq!(Token::parse(&bare).unwrap_err(), Status::BadFormat);
    }

    #[test]
    fn what_is_broken_is_named() {
        let alg = r#"{"alg":"RS256"}"#;
        assert_eq!(Token::parse("*.e30.e30").unwrap_err(), Status::HeaderBadBase64);
        assert_eq!(parsed("{", "{}").unwrap_err(), Status::HeaderBadJson);
        assert_eq!(parsed("{}", "{}").unwrap_err(), Status::HeaderBadAlg);
        assert_eq!(parsed(r#"{"alg":"RS256","kid":1}"#, "{}").unwrap_err(), Status::HeaderBadKid);
        assert_eq!(parsed(alg, "[]").unwrap_err(), Status::PayloadBadJson);
        for (payload, status) in [
            (r#"{"iss":null}"#, Status::IssNotString),
            (r#"{"sub":1}"#, Status::SubNotString),
            (r#"{"iat":"1"}"#, Status::IatNotInteger),
            (r#"{"iat":1e30}"#, Status::IatOutOfRange),
            (r#"{"nbf":{}}"#, Status::NbfNotInteger),
            (r#"{"nbf":-1}"#, Status::NbfOutOfRange),
            (r#"{"exp":true}"#, Status::ExpNotInteger),
            (r#"{"exp":-0.5}"#, Status::ExpOutOfRange),
            (r#"{"jti":1}"#, Status::JtiNotString),
            (r#"{"aud":[1]}"#, Status::AudNotString),
            (r#"{"iss":"a","iss":"b"}"#, Status::PayloadBadJson),
        ] {
            assert_eq!(parsed(alg, payload).unwrap_err(), status, "{payload}");
        }
        let text = format!("{}.{}.a", part(alg), part("{}"));
        assert_eq!(Token::parse(&text).unwrap_err(), Status::SignatureBadBase64);
    }

    #[test]
    fn a_token_is_valid_for_a_time_and_the_clock_skew() {
        let token = parsed(r#"{"alg":"RS256"}"#, r#"{"nbf":100,"exp":200}"#).unwrap();
        assert_eq!(token.check_time(89, 10), Err(Status::NotYetValid));
        assert_eq!(token.check_time(90, 10), Ok(()));
        assert_eq!(token.check_time(210, 10), Ok(()));
        assert_eq!(token.check_time(211, 10), Err(Status::Expired));
        let token = parsed(r#"{"alg":"RS256"}"#, "{}").unwrap();
        assert_eq!(token.check_time(u64::MAX, 0), Ok(()));
    }
}
