//! Certificates that pass and that do not, made by rcgen.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, NameConstraints, RevokedCertParams, SanType as RcgenSan, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

use super::{
    ChainError, Crls, ExpectedNames, Purpose, Refusal, SanMatcher, SanType, Trust, Validation,
    Verdict, sha256,
};
use crate::text_matcher::{FullRegex, Literal, TextMatcher};
use crate::transport::tls::context::tests::{Ca, Issued, ca, issue, params, uri};

fn validation(trusted: &[&CertificateDer<'static>]) -> Validation {
    let trusted = trusted.iter().map(|der| (*der).clone()).collect();
    Validation { trust: Some(Trust::new(trusted).unwrap()), ..Validation::default() }
}

/// Changes the rules for chains.
fn with(mut validation: Validation, change: impl FnOnce(&mut Trust)) -> Validation {
    change(validation.trust.as_mut().unwrap());
    validation
}

fn verify(validation: &Validation, chain: &[&CertificateDer<'static>]) -> Result<Verdict, Refusal> {
    let chain: Vec<_> = chain.iter().map(|der| (*der).clone()).collect();
    validation.verify(&chain, Purpose::Client, ExpectedNames::default(), UnixTime::now())
}

/// What is wrong with the chain, and at which depth.
fn chain_error(
    validation: &Validation,
    chain: &[&CertificateDer<'static>],
) -> Option<(ChainError, usize)> {
    match verify(validation, chain) {
        Ok(_) => None,
        Err(Refusal::Chain { error, depth }) => Some((error, depth)),
        Err(other) => panic!("{other}"),
    }
}

fn below(name: &str, issuer: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Ca {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    change(&mut params);
    CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), issuer).unwrap()
}

fn leaf(ca: &Ca, change: impl FnOnce(&mut CertificateParams)) -> Issued {
    let mut params = params(&["a.test"]);
    change(&mut params);
    issue(&params, ca)
}

#[test]
fn a_chain_leads_to_a_trusted_certificate() {
    let root = ca("root");
    let middle = below("middle", &root, |_| {});
    let leaf = leaf(&middle, |_| {});
    let trusts_root = validation(&[root.der()]);
    assert_eq!(verify(&trusts_root, &[&leaf.der, middle.der()]), Ok(Verdict::Verified));
    // The order does not matter, nor what does not belong to it.
    let other = ca("other");
    let chain = [&leaf.der, other.der(), root.der(), middle.der()];
    assert_eq!(verify(&trusts_root, &chain), Ok(Verdict::Verified));
    assert_eq!(
        chain_error(&trusts_root, &[&leaf.der]),
        Some((ChainError::UnknownIssuer, 0)),
        "without the intermediate"
    );
    assert_eq!(verify(&validation(&[middle.der()]), &[&leaf.der]), Ok(Verdict::Verified));
    assert_eq!(verify(&validation(&[&leaf.der]), &[&leaf.der]), Ok(Verdict::Verified));
    let trusts_other = validation(&[other.der()]);
    let chain = [&leaf.der, middle.der()];
    assert_eq!(chain_error(&trusts_other, &chain), Some((ChainError::UnknownIssuer, 1)));
    let chain = [&leaf.der, middle.der(), root.der()];
    assert_eq!(chain_error(&trusts_other, &chain), Some((ChainError::SelfSigned, 2)));
}

#[test]
fn a_ca_of_the_same_name_with_another_key_is_another_one() {
    let (ours, impostor) = (ca("root"), ca("root"));
    let leaf = leaf(&impostor, |_| {});
    let trust = validation(&[ours.der()]);
    assert_eq!(chain_error(&trust, &[&leaf.der]), Some((ChainError::UnknownIssuer, 0)));
    let both = validation(&[ours.der(), impostor.der()]);
    assert_eq!(verify(&both, &[&leaf.der]), Ok(Verdict::Verified));
}

#[test]
fn a_changed_certificate_does_not_pass() {
    let root = ca("root");
    let leaf = leaf(&root, |_| {});
    let trust = validation(&[root.der()]);
    for i in 0..leaf.der.len() {
        let mut changed = leaf.der.to_vec();
        changed[i] ^= 0x01;
        assert!(verify(&trust, &[&changed.into()]).is_err(), "byte {i}");
    }
}

#[test]
fn every_certificate_of_the_chain_must_be_valid_now() {
    let root = ca("root");
    let old = leaf(&root, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let young = leaf(&root, |params| params.not_before = date_time_ymd(4000, 1, 1));
    let trust = validation(&[root.der()]);
    assert_eq!(chain_error(&trust, &[&old.der]), Some((ChainError::Expired, 0)));
    assert_eq!(chain_error(&trust, &[&young.der]), Some((ChainError::NotYetValid, 0)));
    let old_middle = below("m", &root, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let below_old = leaf(&old_middle, |_| {});
    let chain = [&below_old.der, old_middle.der()];
    assert_eq!(chain_error(&trust, &chain), Some((ChainError::Expired, 1)));
    let lax = with(validation(&[root.der()]), |trust| trust.allow_expired = true);
    for chain in [&[&old.der][..], &[&young.der], &chain] {
        assert_eq!(verify(&lax, chain), Ok(Verdict::Verified));
    }
}

#[test]
fn only_a_ca_issues_certificates() {
    let root = ca("root");
    let trust = validation(&[root.der()]);
    let no_ca = below("middle", &root, |params| params.is_ca = IsCa::ExplicitNoCa);
    let no_usage = below("middle", &root, |params| {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    });
    for middle in [no_ca, no_usage] {
        let leaf = leaf(&middle, |_| {});
        let chain = [&leaf.der, middle.der()];
        assert_eq!(chain_error(&trust, &chain), Some((ChainError::NotACa, 1)));
    }
    let constrained = below("middle", &root, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let lower = below("lower", &constrained, |_| {});
    let chain = leaf(&lower, |_| {});
    let chain = [&chain.der, lower.der(), constrained.der()];
    assert_eq!(chain_error(&trust, &chain), Some((ChainError::TooLong, 2)));
    let direct = leaf(&constrained, |_| {});
    assert_eq!(verify(&trust, &[&direct.der, constrained.der()]), Ok(Verdict::Verified));
}

#[test]
fn the_purpose_must_fit_the_side_in_the_whole_chain() {
    let root = ca("root");
    let trust = validation(&[root.der()]);
    let server = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let for_servers = leaf(&root, |params| params.extended_key_usages = server.clone());
    let unrestricted = leaf(&root, |params| params.extended_key_usages = Vec::new());
    assert_eq!(chain_error(&trust, &[&for_servers.der]), Some((ChainError::Purpose, 0)));
    assert_eq!(verify(&trust, &[&unrestricted.der]), Ok(Verdict::Verified));
    let certificates = [for_servers.der];
    assert!(
        trust
            .verify(&certificates, Purpose::Server, ExpectedNames::default(), UnixTime::now())
            .is_ok()
    );
    let middle = below("middle", &root, |params| params.extended_key_usages = server);
    let below_it = leaf(&middle, |_| {});
    let chain = [&below_it.der, middle.der()];
    assert_eq!(chain_error(&trust, &chain), Some((ChainError::Purpose, 1)));
    let encrypts = leaf(&root, |params| {
        params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    });
    assert_eq!(chain_error(&trust, &[&encrypts.der]), Some((ChainError::Purpose, 0)));
}

#[test]
fn the_depth_counts_as_in_envoy() {
    let root = ca("root");
    let middle = below("middle", &root, |_| {});
    let (short, long) = (leaf(&root, |_| {}), leaf(&middle, |_| {}));
    for (depth, long_passes) in [(0, false), (1, false), (2, true)] {
        let trust = with(validation(&[root.der()]), |trust| trust.depth_max = depth);
        assert_eq!(verify(&trust, &[&short.der]), Ok(Verdict::Verified));
        let chain = [&long.der, middle.der()];
        assert_eq!(verify(&trust, &chain).is_ok(), long_passes, "{depth}");
    }
}

#[test]
fn an_unknown_critical_extension_is_refused() {
    let root = ca("root");
    let extended = |critical| {
        leaf(&root, |params| {
            let mut extension =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 9], vec![5, 0]);
            extension.set_criticality(critical);
            params.custom_extensions = vec![extension];
        })
    };
    let trust = validation(&[root.der()]);
    assert_eq!(
        chain_error(&trust, &[&extended(true).der]),
        Some((ChainError::CriticalExtension, 0))
    );
    assert_eq!(verify(&trust, &[&extended(false).der]), Ok(Verdict::Verified));
}

#[test]
fn a_ca_may_constrain_the_names_below_it() {
    let root = ca("root");
    let middle = below("middle", &root, |params| {
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName("good.test".to_owned())],
            excluded_subtrees: vec![GeneralSubtree::DnsName("bad.good.test".to_owned())],
        });
    });
    let trust = validation(&[root.der()]);
    for (name, passes) in
        [("good.test", true), ("a.good.test", true), ("a.bad.good.test", false), ("a.test", false)]
    {
        let leaf = issue(&params(&[name]), &middle);
        assert_eq!(verify(&trust, &[&leaf.der, middle.der()]).is_ok(), passes, "{name}");
    }
}

fn crl(issuer: &Ca, revoked: &[u64], next_update: i32) -> Vec<u8> {
    let revoked = revoked.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: date_time_ymd(2020, 1, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(next_update, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(issuer).unwrap().der().to_vec()
}

#[test]
fn each_ca_needs_a_list_of_what_it_has_revoked() {
    let root = ca("root");
    let middle = below("middle", &root, |params| params.serial_number = Some(7.into()));
    let leaf = leaf(&middle, |params| params.serial_number = Some(9.into()));
    let chain = [&leaf.der, middle.der()];
    let impostor = ca("root");
    let lists = |lists: &[Vec<u8>], only_leaf| {
        with(validation(&[root.der()]), |trust| {
            let mut crls = Crls::default();
            lists.iter().for_each(|list| crls.add(list).unwrap());
            trust.crls = Some(crls);
            trust.only_leaf_crl = only_leaf;
        })
    };
    let by_middle = |revoked: &[u64]| crl(&middle, revoked, 4000);
    let by_root = |revoked: &[u64]| crl(&root, revoked, 4000);
    for (list, only_leaf, expected) in [
        (vec![], false, Some((ChainError::NoCrl, 0))),
        (vec![by_middle(&[])], false, Some((ChainError::NoCrl, 1))),
        (vec![by_middle(&[])], true, None),
        (vec![by_middle(&[]), by_root(&[])], false, None),
        (vec![by_middle(&[9]), by_root(&[])], false, Some((ChainError::Revoked, 0))),
        (vec![by_middle(&[]), by_root(&[7])], false, Some((ChainError::Revoked, 1))),
        (vec![by_middle(&[]), by_root(&[7])], true, None),
        (vec![crl(&middle, &[], 2021)], true, Some((ChainError::BadCrl, 0))),
        (vec![by_middle(&[]), crl(&impostor, &[], 4000)], false, Some((ChainError::BadCrl, 1))),
    ] {
        assert_eq!(chain_error(&lists(&list, only_leaf), &chain), expected);
    }
}

#[test]
fn one_of_the_names_must_match() {
    let root = ca("root");
    let leaf = leaf(&root, |params| {
        params.subject_alt_names.push(RcgenSan::DnsName("*.wild.test".try_into().unwrap()));
        params.subject_alt_names.push(uri("spiffe://test/cli"));
        params.subject_alt_names.push(RcgenSan::Rfc822Name("me@a.test".try_into().unwrap()));
        params.subject_alt_names.push(RcgenSan::IpAddress("10.1.2.3".parse().unwrap()));
        let other = (vec![1, 3, 6, 1, 4, 1, 311, 20, 2, 3], "upn@a.test".into());
        params.subject_alt_names.push(RcgenSan::OtherName(other));
    });
    let exact = |text: &str| TextMatcher::Exact(Literal::new(text, false));
    let upn = || SanType::Other("1.3.6.1.4.1.311.20.2.3".to_owned());
    for (kind, text, expected) in [
        (SanType::Dns, exact("a.test"), true),
        (SanType::Dns, exact("A.TEST"), true),
        (SanType::Dns, exact("q.wild.test"), true),
        (SanType::Dns, TextMatcher::Suffix(Literal::new(".wild.test", false)), true),
        (SanType::Dns, exact("b.test"), false),
        (SanType::Uri, exact("spiffe://test/cli"), true),
        (SanType::Uri, TextMatcher::Prefix(Literal::new("SPIFFE://test/", true)), true),
        (SanType::Uri, TextMatcher::Regex(FullRegex::new("spiffe://test/c.i").unwrap()), true),
        (SanType::Uri, TextMatcher::Regex(FullRegex::new("spiffe://test/").unwrap()), false),
        (SanType::Dns, exact("spiffe://test/cli"), false),
        (SanType::Email, exact("me@a.test"), true),
        (SanType::Ip, exact("10.1.2.3"), true),
        (upn(), exact("upn@a.test"), true),
        (SanType::Other("1.2.3".to_owned()), exact("upn@a.test"), false),
    ] {
        let mut validation = validation(&[root.der()]);
        let label = format!("{kind:?} {text:?}");
        validation.sans = vec![
            SanMatcher { kind: SanType::Dns, text: exact("never.test") },
            SanMatcher { kind, text },
        ];
        let verdict = verify(&validation, &[&leaf.der]);
        assert_eq!(verdict.is_ok(), expected, "{label}");
        if let Err(refusal) = verdict {
            let Refusal::Names { names } = refusal else { panic!("{refusal}") };
            assert_eq!(names[..3], ["a.test", "*.wild.test", "spiffe://test/cli"]);
        }
    }
}

#[test]
fn the_certificate_must_have_an_expected_name() {
    let root = ca("root");
    let leaf = leaf(&root, |params| {
        params.subject_alt_names.push(RcgenSan::IpAddress("10.1.2.3".parse().unwrap()));
    });
    let chain = [leaf.der];
    for (name, is_expected) in
        [("a.test", true), ("b.test", false), ("10.1.2.3", true), ("::1", false)]
    {
        let name = ServerName::try_from(name).unwrap();
        let trust = validation(&[root.der()]);
        let expected = ExpectedNames { server_name: Some(&name), any_of: &[] };
        let verdict = trust.verify(&chain, Purpose::Server, expected, UnixTime::now());
        assert_eq!(verdict.is_ok(), is_expected, "{name:?}");
    }
}

#[test]
fn one_of_several_names_of_any_type_is_enough() {
    let root = ca("root");
    let leaf = leaf(&root, |params| {
        params.subject_alt_names.push(RcgenSan::DnsName("*.wild.test".try_into().unwrap()));
        params.subject_alt_names.push(RcgenSan::URI("spiffe://b".try_into().unwrap()));
        params.subject_alt_names.push(RcgenSan::IpAddress("10.1.2.3".parse().unwrap()));
    });
    let chain = [leaf.der];
    let passes = |trust: &Validation, names: &[&str]| {
        let any_of: Vec<Box<str>> = names.iter().map(|name| (*name).into()).collect();
        let expected = ExpectedNames { server_name: None, any_of: &any_of };
        trust.verify(&chain, Purpose::Server, expected, UnixTime::now())
    };
    let trust = validation(&[root.der()]);
    for names in [&["a.test"][..], &["c.test", "q.wild.test"], &["spiffe://b"], &["10.1.2.3"], &[]]
    {
        assert!(passes(&trust, names).is_ok(), "{names:?}");
    }
    for names in [&["c.test"][..], &["wild.test"], &["spiffe://B"], &[""], &[" a.test"]] {
        let refusal = passes(&trust, names).unwrap_err();
        assert!(matches!(refusal, Refusal::Names { .. }), "{names:?}: {refusal}");
    }
    let anybody = passes(&Validation::default(), &["a.test"]);
    assert_eq!(anybody, Err(Refusal::UNTRUSTED), "a name proves nothing without a CA");
}

#[test]
fn a_hash_of_the_certificate_or_its_key_is_enough_without_a_ca() {
    let leaf = leaf(&ca("root"), |_| {});
    let (_, parsed) = <x509_parser::certificate::X509Certificate<'_> as
        x509_parser::prelude::FromDer<'_, _>>::from_der(&leaf.der)
    .unwrap();
    let (hash, spki) = (sha256(&leaf.der), sha256(parsed.public_key().raw));
    let wrong = [0; 32];
    for (hashes, spkis, expected) in [
        (vec![wrong, hash], vec![], true),
        (vec![], vec![spki], true),
        (vec![wrong], vec![spki], true),
        (vec![hash], vec![wrong], true),
        (vec![wrong], vec![wrong], false),
        (vec![spki], vec![hash], false),
    ] {
        let validation = Validation { hashes, spkis, ..Validation::default() };
        assert!(validation.requires_certificate());
        let expected = if expected { Ok(Verdict::Verified) } else { Err(Refusal::Hash) };
        assert_eq!(verify(&validation, &[&leaf.der]), expected);
    }
}

#[test]
fn an_untrusted_certificate_can_be_accepted_but_is_not_verified() {
    let leaf = leaf(&ca("root"), |_| {});
    let other = ca("other");
    let trust = Validation { accept_untrusted: true, ..validation(&[other.der()]) };
    assert_eq!(verify(&trust, &[&leaf.der]), Ok(Verdict::Unverified));
    assert_eq!(verify(&Validation::default(), &[&leaf.der]), Ok(Verdict::Unverified));
}

/// Two hundred CAs of one name, each signed by the others: a search without bounds never ends.
#[test]
fn the_search_for_a_chain_is_bounded() {
    let (root, key) = (ca("root"), KeyPair::generate().unwrap());
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "maze");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let maze = CertifiedIssuer::self_signed(params.clone(), key).unwrap();
    let leaf = leaf(&maze, |_| {});
    let mut chain = vec![leaf.der];
    for serial in 0..200_u64 {
        params.serial_number = Some(serial.into());
        chain.push(params.signed_by(maze.key(), &maze).unwrap().der().clone());
    }
    let began = SystemTime::now();
    let verdict = validation(&[root.der()]).verify(
        &chain,
        Purpose::Client,
        ExpectedNames::default(),
        UnixTime::now(),
    );
    let Err(Refusal::Chain { error, .. }) = verdict else { panic!("{verdict:?}") };
    assert_eq!(error, ChainError::TooManyCandidates);
    assert!(began.elapsed().unwrap() < Duration::from_secs(10));
}
