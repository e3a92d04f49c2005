//! Keys: JWK sets (RFC 7517), and whether one of them has signed a token (RFC 7518).
//!
//! Invariant: a key verifies only what algorithms of its own type have signed. Who knows a public RSA key
//! cannot use it as the secret of an HMAC.

use std::cell::OnceCell;

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    ED25519_PUBLIC_KEY_LEN, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    VerificationAlgorithm,
};
use base64::Engine as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::status::Status;
use super::token::{Algorithm, BASE64_URL, Token};

/// A set of keys.
#[derive(Debug)]
pub(super) struct Jwks(Box<[Key]>);

/// Why a set of keys, or a key of it, cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum InvalidJwks {
    #[error("it is not a JSON object")]
    NotJson,
    #[error("it has no list `keys`, and is not a set of X.509 certificates either")]
    NoKeys,
    #[error("the list `keys` is empty")]
    Empty,
    #[error("a key is not an object")]
    NotAnObject,
    #[error("`kid` and `alg` of a key must be strings")]
    NotText,
    #[error("the type `kty` of a key must be RSA, EC, oct or OKP")]
    UnknownType,
    #[error("`alg` of a key does not fit its type")]
    WrongAlgorithm,
    #[error("a number of a key is missing, or is not base64url")]
    BadNumber,
    #[error("an EC key needs one of the curves P-256, P-384 and P-521, an OKP key Ed25519")]
    UnknownCurve,
    #[error("a key is not valid, or is an RSA key of less than 2048 bits")]
    Rejected,
}

#[derive(Debug)]
struct Key {
    /// May be empty: it is tried for every token.
    kid: Box<str>,
    /// The only algorithm that it is for; may be empty.
    alg: Box<str>,
    material: Material,
}

enum Material {
    Rsa(Box<RsaKey>),
    Ec(EcKind, ParsedPublicKey),
    Secret(Box<[u8]>),
    Ed25519(ParsedPublicKey),
}

/// A curve, each with the only algorithm that it is used with.
#[derive(Clone, Copy, Debug)]
enum EcKind {
    P256,
    P384,
    P521,
}

/// An RSA key, parsed again for each algorithm that it is used with.
struct RsaKey {
    /// `SubjectPublicKeyInfo`
    der: Box<[u8]>,
    parsed: [OnceCell<Option<ParsedPublicKey>>; RSA_ALGORITHMS.len()],
}

const RSA_ALGORITHMS: [(Algorithm, &RsaParameters); 6] = [
    (Algorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &RSA_PKCS1_2048_8192_SHA512),
    (Algorithm::Ps256, &RSA_PSS_2048_8192_SHA256),
    (Algorithm::Ps384, &RSA_PSS_2048_8192_SHA384),
    (Algorithm::Ps512, &RSA_PSS_2048_8192_SHA512),
];

/// RFC 7518 §3.3
const RSA_BITS_MIN: usize = 2048;

/// Bytes of an Ed25519 signature.
const ED25519_SIGNATURE_LEN: usize = 64;

impl Jwks {
    /// Reads a JWK set, or certificates by key id. As in Envoy, keys that cannot be used are left out, unless
    /// none is left.
    pub(super) fn parse(text: &[u8]) -> Result<Self, InvalidJwks> {
        let set: Result<Map<String, Value>, _> = serde_json::from_slice(text);
        let set = set.or_else(|_| serde_json::from_slice(&on_one_line(text)));
        let set = set.map_err(|_| InvalidJwks::NotJson)?;
        let Some(keys) = set.get("keys") else { return Self::of_certificates(&set) };
        let keys = keys.as_array().ok_or(InvalidJwks::NoKeys)?;
        let mut failed = InvalidJwks::Empty;
        let mut usable = Vec::with_capacity(keys.len());
        for key in keys {
            match Key::parse(key) {
                Ok(key) => usable.push(key),
                Err(why) => failed = why,
            }
        }
        if usable.is_empty() { Err(failed) } else { Ok(Self(usable.into())) }
    }

    /// No keys: nothing can be verified.
    pub(super) fn none() -> Self {
        Self(Box::default())
    }

    /// Certificates with RSA keys.
    fn of_certificates(set: &Map<String, Value>) -> Result<Self, InvalidJwks> {
        let keys = set.iter().map(|(kid, pem)| {
            let pem = pem.as_str().ok_or(InvalidJwks::NoKeys)?;
            let der = CertificateDer::from_pem_slice(pem.as_bytes());
            let der = der.map_err(|_| InvalidJwks::NoKeys)?;
            let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| InvalidJwks::Rejected)?;
            let key = RsaKey::new(parsed.public_key().raw)?;
            let material = Material::Rsa(Box::new(key));
            Ok(Key { kid: kid.as_str().into(), alg: Box::default(), material })
        });
        let keys: Box<[Key]> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(InvalidJwks::NoKeys) } else { Ok(Self(keys)) }
    }

    /// Checks that one of the keys has signed the token.
    pub(super) fn verify(&self, token: &Token) -> Result<(), Status> {
        if self.0.is_empty() {
            return Err(Status::NoValidKeys);
        }
        let name = token.header.get("alg").and_then(Value::as_str).unwrap_or_default();
        let fits = |key: &&Key| {
            let kid = token.kid.is_empty() || key.kid.is_empty() || key.kid == token.kid;
            kid && (key.alg.is_empty() || &*key.alg == name)
        };
        let mut result = Err(Status::NoMatchingKey);
        for key in self.0.iter().filter(fits) {
            result = key.material.verify(token);
            if matches!(result, Ok(()) | Err(Status::Ed25519WrongLength)) {
                break;
            }
        }
        // RFC 7515 §4.1.11: such a token is not valid for who does not know its extensions. Envoy takes it.
        if token.is_critical { result.and(Err(Status::VerificationFails)) } else { result }
    }
}

/// The same on one line: as in Envoy, a text may have line ends, as a folded one of YAML has.
fn on_one_line(text: &[u8]) -> Vec<u8> {
    text.iter().map(|&byte| if byte.is_ascii_control() { b' ' } else { byte }).collect()
}

impl Key {
    fn parse(key: &Value) -> Result<Self, InvalidJwks> {
        let key = key.as_object().ok_or(InvalidJwks::NotAnObject)?;
        let text = |name: &str| match key.get(name) {
            None => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(_) => Err(InvalidJwks::NotText),
        };
        let (kid, alg, curve) = (text("kid")?, text("alg")?, text("crv")?);
        let number = |name: &str| {
            let number = key.get(name).and_then(Value::as_str).ok_or(InvalidJwks::BadNumber)?;
            let number: String = number.split_ascii_whitespace().collect();
            BASE64_URL.decode(number).map_err(|_| InvalidJwks::BadNumber)
        };
        let is_one_of = |prefixes: &[&str]| {
            let fits = alg.is_empty() || prefixes.iter().any(|prefix| alg.starts_with(prefix));
            if fits { Ok(()) } else { Err(InvalidJwks::WrongAlgorithm) }
        };
        let material = match text("kty")? {
            "RSA" => {
                is_one_of(&["RS", "PS"])?;
                let components = RsaPublicKeyComponents { n: number("n")?, e: number("e")? };
                let parsed = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
                let parsed = parsed.map_err(|_| InvalidJwks::Rejected)?;
                Material::Rsa(Box::new(RsaKey::new(parsed.as_ref())?))
            }
            "EC" => {
                let kind = EcKind::of(curve)?;
                is_one_of(&[kind.name()])?;
                let point = kind.point(&number("x")?, &number("y")?)?;
                Material::Ec(kind, parse(kind.algorithm(), &point)?)
            }
            "oct" => {
                is_one_of(&["HS"])?;
                Material::Secret(number("k")?.into())
            }
            "OKP" if curve == "Ed25519" => {
                is_one_of(&["EdDSA"])?;
                let key = number("x")?;
                if key.len() != ED25519_PUBLIC_KEY_LEN {
                    return Err(InvalidJwks::Rejected);
                }
                Material::Ed25519(parse(&ED25519, &key)?)
            }
            "OKP" => return Err(InvalidJwks::UnknownCurve),
            _ => return Err(InvalidJwks::UnknownType),
        };
        Ok(Self { kid: kid.into(), alg: alg.into(), material })
    }
}

fn parse(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
) -> Result<ParsedPublicKey, InvalidJwks> {
    ParsedPublicKey::new(algorithm, key).map_err(|_| InvalidJwks::Rejected)
}

impl RsaKey {
    fn new(der: &[u8]) -> Result<Self, InvalidJwks> {
        parse(&RSA_PKCS1_2048_8192_SHA256, der)?;
        let key = PublicEncryptingKey::from_der(der).map_err(|_| InvalidJwks::Rejected)?;
        if key.key_size_bits() < RSA_BITS_MIN {
            return Err(InvalidJwks::Rejected);
        }
        Ok(Self { der: der.into(), parsed: Default::default() })
    }

    /// The key for an algorithm; none: it is not one of RSA.
    fn for_algorithm(&self, algorithm: Algorithm) -> Option<&ParsedPublicKey> {
        let mut all = RSA_ALGORITHMS.iter().zip(&self.parsed);
        let ((_, parameters), parsed) = all.find(|((other, _), _)| *other == algorithm)?;
        parsed.get_or_init(|| ParsedPublicKey::new(*parameters, &self.der).ok()).as_ref()
    }
}

impl EcKind {
    fn of(curve: &str) -> Result<Self, InvalidJwks> {
        match curve {
            "P-256" => Ok(Self::P256),
            "P-384" => Ok(Self::P384),
            "P-521" => Ok(Self::P521),
            _ => Err(InvalidJwks::UnknownCurve),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::P256 => "ES256",
            Self::P384 => "ES384",
            Self::P521 => "ES512",
        }
    }

    fn algorithm(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED,
            Self::P384 => &ECDSA_P384_SHA384_FIXED,
            Self::P521 => &ECDSA_P521_SHA512_FIXED,
        }
    }

    const fn signs(self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::P256, Algorithm::Es256)
                | (Self::P384, Algorithm::Es384)
                | (Self::P521, Algorithm::Es512)
        )
    }

    /// The point, uncompressed: SEC 1 §2.3.3.
    fn point(self, x: &[u8], y: &[u8]) -> Result<Vec<u8>, InvalidJwks> {
        let length: usize = match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        };
        let mut point = vec![4];
        for number in [x, y] {
            let zeros = length.checked_sub(number.len()).ok_or(InvalidJwks::BadNumber)?;
            point.resize(point.len() + zeros, 0);
            point.extend_from_slice(number);
        }
        Ok(point)
    }
}

impl Material {
    fn verify(&self, token: &Token) -> Result<(), Status> {
        let (signed, signature) = (token.signed.as_bytes(), &*token.signature);
        let is_right = match (self, token.algorithm) {
            (Self::Rsa(key), algorithm) => {
                let key = key.for_algorithm(algorithm);
                key.is_some_and(|key| key.verify_sig(signed, signature).is_ok())
            }
            (Self::Ec(kind, key), algorithm) => {
                kind.signs(algorithm) && key.verify_sig(signed, signature).is_ok()
            }
            (Self::Secret(secret), algorithm) => {
                let algorithm = match algorithm {
                    Algorithm::Hs256 => hmac::HMAC_SHA256,
                    Algorithm::Hs384 => hmac::HMAC_SHA384,
                    Algorithm::Hs512 => hmac::HMAC_SHA512,
                    _ => return Err(Status::VerificationFails),
                };
                hmac::verify(&hmac::Key::new(algorithm, secret), signed, signature).is_ok()
            }
            (Self::Ed25519(_), _) if signature.len() != ED25519_SIGNATURE_LEN => {
                return Err(Status::Ed25519WrongLength);
            }
            (Self::Ed25519(key), algorithm) => {
                algorithm == Algorithm::EdDsa && key.verify_sig(signed, signature).is_ok()
            }
        };
        if is_right { Ok(()) } else { Err(Status::VerificationFails) }
    }
}

/// Secrets appear in no log.
impl std::fmt::Debug for Material {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rsa(_) => "RSA",
            Self::Ec(kind, _) => kind.name(),
            Self::Secret(_) => "secret",
            Self::Ed25519(_) => "Ed25519",
        })
    }
}
