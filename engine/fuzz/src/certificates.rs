//! Certificates of any peer.

use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use crate::text_matcher::{Literal, TextMatcher};
use crate::transport::tls::certificate::Certificate;
use crate::transport::tls::context::verify::{
    Crls, ExpectedNames, Purpose, SanMatcher, SanType, Trust, Validation, Verdict,
};

/// What is shown of a certificate has no control characters, and its PEM is the certificate. Whether a chain is
/// accepted does not depend on the order of intermediates; more trust never refuses it, a CRL never accepts it;
/// and no signature of it may be missing.
///
/// The input is a trusted certificate, a leaf, up to two intermediates, and a CRL; each in the parts that are
/// in front of its extensions, and its extensions, both with their length in two bytes. Here they are put
/// together and signed: all with the same key.
pub fn certificates(mut input: &[u8]) {
    let mut next = || -> Option<Vec<u8>> {
        let (front, extensions) = (part(&mut input)?, part(&mut input)?);
        Some(content(front, extensions))
    };
    let (Some(root), Some(leaf)) = (next(), next()) else { return };
    let intermediates: Vec<_> = [next(), next()].into_iter().flatten().collect();
    let crl = next();
    let [root, leaf] = [&root, &leaf].map(|content| CertificateDer::from(signed(content)));
    let intermediates: Vec<_> =
        intermediates.iter().map(|content| CertificateDer::from(signed(content))).collect();
    shown(&leaf);

    let mut chain = vec![leaf.clone()];
    chain.extend(intermediates.iter().cloned());
    let is_accepted = |trusted: &[&CertificateDer<'static>], chain: &[CertificateDer<'static>]| {
        [Purpose::Client, Purpose::Server].map(|purpose| accepts(trusted, None, chain, purpose))
    };
    let accepted = is_accepted(&[&root], &chain);
    chain[1..].reverse();
    assert_eq!(accepted, is_accepted(&[&root], &chain), "the order of intermediates");
    let more = is_accepted(&[&root, intermediates.first().unwrap_or(&root)], &chain);
    assert!(accepted.iter().zip(more).all(|(before, after)| !before || after), "more trust");
    for (before, purpose) in accepted.into_iter().zip([Purpose::Client, Purpose::Server]) {
        let crl = crl.as_ref().map(|content| signed(content));
        assert!(before || !accepts(&[&root], crl.as_deref(), &chain, purpose), "a CRL");
    }
    if leaf != root {
        let mut changed = leaf.to_vec();
        *changed.last_mut().expect("a signature") ^= 1;
        chain[0] = changed.into();
        assert_eq!(is_accepted(&[&root], &chain), [false; 2], "a wrong signature");
    }
}

/// Looks at all that is shown of a certificate.
fn shown(der: &CertificateDer<'static>) {
    let certificate = Certificate::new(der.clone());
    let details = certificate.details();
    let texts = [&details.subject, &details.issuer, &details.serial].into_iter();
    let names = [
        &details.dns_names,
        &details.uris,
        &details.ip_addresses,
        &details.emails,
        &details.other_names,
    ];
    for text in texts.chain(names.into_iter().flatten()) {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    let pem = certificate.pem();
    assert_eq!(CertificateDer::from_pem_slice(pem.as_bytes()).ok().as_ref(), Some(der));
    let escaped = certificate.url_encoded_pem();
    assert!(escaped.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"%-".contains(&byte)));
}

fn accepts(
    trusted: &[&CertificateDer<'static>],
    crl: Option<&[u8]>,
    chain: &[CertificateDer<'static>],
    purpose: Purpose,
) -> bool {
    let trusted = trusted.iter().map(|der| (*der).clone()).collect();
    let Ok(mut trust) = Trust::new(trusted) else { return false };
    if let Some(der) = crl {
        let mut crls = Crls::default();
        // One that cannot be read is none: no certificate passes.
        let _malformed = crls.add(der);
        trust.crls = Some(crls);
    }
    let text = TextMatcher::Exact(Literal { text: (*b"a.test").into() });
    let matchers = [SanType::Dns, SanType::Uri, SanType::Email, SanType::Other("1.2.3".into())];
    let mut validation = Validation { trust: Some(trust), ..Validation::default() };
    let name = ServerName::try_from("b.test").expect("a name");
    let expected = ExpectedNames { server_name: Some(&name), any_of: &[] };
    let verify = |validation: &Validation, expected| {
        validation.verify(chain, purpose, expected, NOW).is_ok_and(|it| it == Verdict::Verified)
    };
    let is_accepted = verify(&validation, ExpectedNames::default());
    assert!(is_accepted || !verify(&validation, expected), "a name");
    validation.sans =
        matchers.into_iter().map(|kind| SanMatcher { kind, text: text.clone() }).collect();
    assert!(is_accepted || !verify(&validation, ExpectedNames::default()), "a matcher");
    is_accepted
}

/// Within the validity of the corpus.
const NOW: UnixTime = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));

/// Bytes after their length.
fn part<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = input.split_first_chunk()?;
    let (part, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    *input = rest;
    Some(part)
}

/// What is signed. A certificate has its extensions in `[3]`, a CRL in `[0]`: it begins with a version 1.
fn content(front: &[u8], extensions: &[u8]) -> Vec<u8> {
    let tag = if front.starts_with(&[2, 1, 1]) { 0xa0 } else { 0xa3 };
    let extensions = match extensions {
        [] => Vec::new(),
        list => value(tag, &value(0x30, list)),
    };
    value(0x30, &[front, &extensions].concat())
}

fn signed(content: &[u8]) -> Vec<u8> {
    const ED25519: [u8; 7] = [0x30, 5, 6, 3, 0x2b, 101, 112];
    thread_local! {
        static KEY: Ed25519KeyPair =
            Ed25519KeyPair::from_pkcs8(include_bytes!("../keys/server.key.der")).expect("a key");
    }
    let signature = KEY.with(|key| key.sign(content));
    let signature = value(3, &[&[0], signature.as_ref()].concat());
    value(0x30, &[content, &ED25519, &signature].concat())
}

fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[tag, 0x82], &length[..], content].concat()
}
