//! Tokens that were made elsewhere: `recorded.json` is from Python's `jwcrypto`, and from its `hmac` what
//! no library signs.

use base64::Engine as _;
use serde_json::{Value, json};

use super::keys::{InvalidJwks, Jwks};
use super::status::Status;
use super::token::{BASE64_URL, Token};

fn recorded() -> Value {
    serde_json::from_str(include_str!("recorded.json")).unwrap()
}

fn keys(set: &Value) -> Result<Jwks, InvalidJwks> {
    Jwks::parse(set.to_string().as_bytes())
}

fn verify(set: &Value, token: &Value) -> Result<(), Status> {
    keys(set).unwrap().verify(&Token::parse(token.as_str().unwrap()).unwrap())
}

#[test]
fn every_algorithm_is_verified() {
    let recorded = recorded();
    let tokens = recorded["tokens"].as_object().unwrap();
    assert_eq!(tokens.len(), 13);
    for (algorithm, token) in tokens {
        assert_eq!(verify(&recorded["jwks"], token), Ok(()), "{algorithm}");
        // A changed payload, and the signature of another token.
        let text = token.as_str().unwrap();
        let (header, signature) = (text.split('.').next(), text.split('.').next_back());
        let payload = BASE64_URL.encode(r#"{"sub":"root"}"#);
        let changed = [header.unwrap(), payload.trim_end_matches('='), signature.unwrap()];
        let changed = json!(changed.join("."));
        let refused = verify(&recorded["jwks"], &changed);
        assert_eq!(refused, Err(Status::VerificationFails), "{algorithm}");
    }
}

#[test]
fn a_key_is_found_by_its_id_or_tried() {
    let recorded = recorded();
    assert_eq!(verify(&recorded["jwks"], &recorded["without_kid"]), Ok(()));
    let failed = Err(Status::VerificationFails);
    assert_eq!(verify(&recorded["jwks"], &recorded["other_key"]), failed);
    let none = Err(Status::NoMatchingKey);
    assert_eq!(verify(&recorded["rsa"], &recorded["tokens"]["ES256"]), none);
    // A key without an id is tried for every token.
    let mut set = recorded["rsa"].clone();
    set["keys"][0].as_object_mut().unwrap().remove("kid");
    assert_eq!(verify(&set, &recorded["tokens"]["PS384"]), Ok(()));
    // A key is only for the algorithm that it names.
    set["keys"][0]["alg"] = json!("RS512");
    assert_eq!(verify(&set, &recorded["tokens"]["RS512"]), Ok(()));
    assert_eq!(verify(&set, &recorded["tokens"]["RS256"]), none);
}

/// RFC 8725 §2.1: whoever knows the public key signs with it as a secret.
#[test]
fn a_public_key_is_no_secret() {
    let recorded = recorded();
    let tokens = recorded["confused"].as_array().unwrap();
    assert_eq!(tokens.len(), 5);
    for token in tokens {
        assert_eq!(verify(&recorded["rsa"], token), Err(Status::VerificationFails));
        assert_eq!(verify(&recorded["jwks"], token), Err(Status::VerificationFails));
    }
}

/// The second key with an id must not hide the first one, nor be hidden.
#[test]
fn an_id_that_two_keys_have_means_both() {
    let recorded = recorded();
    let set = &recorded["jwks"]["keys"];
    let mut shared = Vec::new();
    for key in set.as_array().unwrap() {
        let mut key = key.clone();
        key["kid"] = json!("rs");
        shared.push(key);
    }
    // An Ed25519 key says that a signature has the wrong length.
    let rest = shared.iter().filter(|key| key["kty"] != "OKP").cloned();
    let (first, last): (Vec<_>, Vec<_>) = rest.partition(|key| key["kty"] == "RSA");
    for keys in [[&*first, &*last].concat(), [&*last, &*first].concat()] {
        let set = json!({ "keys": keys });
        assert_eq!(verify(&set, &recorded["tokens"]["RS256"]), Ok(()));
        assert_eq!(verify(&set, &recorded["other_key"]), Err(Status::VerificationFails));
        for token in recorded["confused"].as_array().unwrap() {
            assert_eq!(verify(&set, token), Err(Status::VerificationFails));
        }
    }
}

#[test]
fn an_extension_that_must_be_understood_is_not() {
    let recorded = recorded();
    let failed = Err(Status::VerificationFails);
    assert_eq!(verify(&recorded["jwks"], &recorded["critical"]), failed);
}

#[test]
fn certificates_are_keys_too() {
    let recorded = recorded();
    assert_eq!(verify(&recorded["certificates"], &recorded["tokens"]["RS256"]), Ok(()));
    assert_eq!(verify(&recorded["certificates"], &recorded["without_kid"]), Ok(()));
    let none = Err(Status::NoMatchingKey);
    assert_eq!(verify(&recorded["certificates"], &recorded["tokens"]["ES256"]), none);
}

/// As a folded text of YAML is.
#[test]
fn a_set_of_keys_may_have_line_ends_in_its_numbers() {
    let recorded = recorded();
    let number = recorded["rsa"]["keys"][0]["n"].as_str().unwrap();
    let (first, rest) = number.split_at(40);
    let text = recorded["rsa"].to_string().replace(number, &format!("{first}\n      {rest}"));
    let keys = Jwks::parse(text.as_bytes()).unwrap();
    let token = Token::parse(recorded["tokens"]["RS256"].as_str().unwrap()).unwrap();
    assert_eq!(keys.verify(&token), Ok(()));
}

/// A token as large as a head may be: it costs no more than to read it.
#[test]
fn a_huge_token_is_refused() {
    let encode = |text: &str| BASE64_URL.encode(text).trim_end_matches('=').to_owned();
    let deep = "[".repeat(40_000);
    let header = encode(r#"{"alg":"RS256"}"#);
    for (payload, status) in [
        (encode(&format!(r#"{{"a":{deep}}}"#)), Status::PayloadBadJson),
        (".".repeat(60_000), Status::BadFormat),
        ("A".repeat(60_000), Status::PayloadBadJson),
    ] {
        let token = format!("{header}.{payload}.AAAA");
        assert_eq!(Token::parse(&token).unwrap_err(), status);
    }
    assert_eq!(Token::parse(&format!("{}.e30.AAAA", encode(&deep))).unwrap_err(), {
        Status::HeaderBadJson
    });
}

#[test]
fn a_set_of_keys_that_cannot_be_used_is_an_error() {
    let recorded = recorded();
    let key = |key: Value| json!({ "keys": [key] });
    for (set, why) in [
        (json!([]), InvalidJwks::NotJson),
        (json!({}), InvalidJwks::NoKeys),
        (json!({ "a": 1 }), InvalidJwks::NoKeys),
        (json!({ "a": "-----BEGIN CERTIFICATE-----" }), InvalidJwks::NoKeys),
        (json!({ "keys": 1 }), InvalidJwks::NoKeys),
        (json!({ "keys": [] }), InvalidJwks::Empty),
        (key(json!(1)), InvalidJwks::NotAnObject),
        (key(json!({ "kid": 1 })), InvalidJwks::NotText),
        (key(json!({ "kty": "DSA" })), InvalidJwks::UnknownType),
        (key(json!({ "kty": "oct", "alg": "RS256", "k": "YQ" })), InvalidJwks::WrongAlgorithm),
        (key(json!({ "kty": "RSA", "alg": "HS256" })), InvalidJwks::WrongAlgorithm),
        (key(json!({ "kty": "RSA", "n": "!", "e": "AQAB" })), InvalidJwks::BadNumber),
        (key(json!({ "kty": "oct" })), InvalidJwks::BadNumber),
        (key(json!({ "kty": "EC", "crv": "P-255" })), InvalidJwks::UnknownCurve),
        (key(json!({ "kty": "OKP", "crv": "X25519" })), InvalidJwks::UnknownCurve),
        (key(json!({ "kty": "EC", "crv": "P-256", "x": "YQ", "y": "YQ" })), InvalidJwks::Rejected),
        (key(json!({ "kty": "OKP", "crv": "Ed25519", "x": "YQ" })), InvalidJwks::Rejected),
        (recorded["short_rsa"].clone(), InvalidJwks::Rejected),
    ] {
        assert_eq!(keys(&set).unwrap_err(), why, "{set}");
    }
    // One that can be used is enough.
    let mut set = recorded["rsa"].clone();
    set["keys"].as_array_mut().unwrap().insert(0, json!({ "kty": "DSA" }));
    assert_eq!(verify(&set, &recorded["tokens"]["RS256"]), Ok(()));
}

/// Secrets appear in no log.
#[test]
fn keys_are_not_shown() {
    let recorded = recorded();
    let shown = format!("{:?}", keys(&recorded["jwks"]).unwrap());
    for key in recorded["jwks"]["keys"].as_array().unwrap() {
        for part in ["k", "n", "x"] {
            let Some(number) = key[part].as_str() else { continue };
            assert!(!shown.contains(number), "{shown}");
        }
    }
}
