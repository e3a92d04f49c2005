//! Which contexts load, and what is said about those that do not.

use rcgen::{CustomExtension, KeyPair};
use rustls::SignatureScheme;
use serde_json::{Value, json};

use super::*;
use crate::transport::tls::context::parameters::Versions;
use crate::transport::tls::context::pkcs12::tests as pkcs12;
use crate::transport::tls::context::tests::{Ca, ca, params};

/// A certificate in PEM with its key.
struct Pem {
    chain: String,
    key: String,
}

fn pem(ca: &Ca, names: &[&str]) -> Pem {
    let key = KeyPair::generate().unwrap();
    let certificate = params(names).signed_by(&key, ca).unwrap();
    Pem { chain: certificate.pem() + &ca.pem(), key: key.serialize_pem() }
}

fn inline(text: &str) -> Value {
    json!({ "inline_string": text })
}

impl Pem {
    fn json(&self) -> Value {
        json!({ "certificate_chain": inline(&self.chain), "private_key": inline(&self.key) })
    }
}

/// What a listener says about its clients and itself.
fn common(pem: &Pem, rest: Value) -> Value {
    let mut common = json!({ "tls_certificates": [pem.json()] });
    merge(&mut common, rest);
    json!({ "common_tls_context": common })
}

fn merge(into: &mut Value, rest: Value) {
    let Value::Object(rest) = rest else { panic!("not an object") };
    into.as_object_mut().unwrap().extend(rest);
}

/// The settings, and all problems as `path: message`.
fn server_with(context: Value, secrets: Value) -> (Option<ServerSettings>, Vec<String>) {
    let context: config::DownstreamTlsContext = serde_json::from_value(context).unwrap();
    let secrets: Vec<config::Secret> = serde_json::from_value(secrets).unwrap();
    let mut problems = Problems::default();
    let secrets = Secrets::new(&secrets, 2, true);
    let settings = server_settings(&context, &Path::root(), &secrets, &mut problems);
    (settings.filter(|_| !problems.has_errors()), texts(&problems))
}

fn texts(problems: &Problems) -> Vec<String> {
    problems.iter().map(|it| format!("{}: {}", it.path, it.message)).collect()
}

fn good(context: Value) -> ServerSettings {
    let (settings, problems) = server_with(context, json!([]));
    assert_eq!(problems, [""; 0]);
    settings.unwrap()
}

/// The only problem, without the beginning of its path that all have.
fn problem(context: Value) -> String {
    let (_, mut problems) = server_with(context, json!([]));
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = problems.remove(0);
    problem.strip_prefix("common_tls_context.").unwrap_or(&problem).to_owned()
}

fn client_problems(context: Value) -> Vec<String> {
    let context: config::UpstreamTlsContext = serde_json::from_value(context).unwrap();
    let mut problems = Problems::default();
    let secrets = Secrets::new(&[], 1, true);
    let settings = client_settings(&context, &Path::root(), &secrets, &mut problems);
    assert_eq!(settings.is_none() || !problems.is_empty(), !problems.is_empty());
    texts(&problems)
}

#[test]
fn a_certificate_comes_with_its_intermediates_and_a_key_for_each_shard() {
    let settings = good(common(&pem(&ca("ca"), &["a.test"]), json!({})));
    let [certificate] = settings.certificates.as_slice() else { panic!("not one") };
    assert_eq!((certificate.chain.len(), certificate.keys.len()), (2, 2));
    assert_eq!(certificate.names, ["a.test"]);
    assert!(matches!(settings.client_certificate, ClientCertificate::NotAsked));
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_where_it_is() {
    let ca = ca("ca");
    let (ours, other) = (pem(&ca, &["a.test"]), pem(&ca, &["a.test"]));
    let at = "tls_certificates[0]";
    let changed = |field: &str, value: Value| {
        let mut certificate = ours.json();
        certificate[field] = value;
        problem(json!({ "common_tls_context": { "tls_certificates": [certificate] } }))
    };
    for (field, value, expected) in [
        (
            "private_key",
            inline(&other.key),
            ".private_key.inline_string: this private key does not belong to the certificate",
        ),
        (
            "certificate_chain",
            json!({ "filename": "/nope.pem" }),
            ".certificate_chain.filename: /nope.pem: No such file or directory (os error 2)",
        ),
        (
            "certificate_chain",
            inline("junk"),
            ".certificate_chain.inline_string: this is not a certificate in PEM",
        ),
        (
            "certificate_chain",
            inline(""),
            ".certificate_chain.inline_string: the certificate is empty",
        ),
        (
            "private_key",
            inline("junk"),
            ".private_key.inline_string: this is not a private key in PEM",
        ),
        ("private_key", Value::Null, ".private_key: the private key is needed"),
        (
            "ocsp_staple",
            inline("junk"),
            ".ocsp_staple.inline_string: this is not an OCSP response in DER",
        ),
        (
            "private_key",
            json!({ "environment_variable": "CORVOY_NO_SUCH_KEY" }),
            ".private_key.environment_variable: there is no variable `CORVOY_NO_SUCH_KEY`",
        ),
    ] {
        assert_eq!(changed(field, value), format!("{at}{expected}"));
    }
    assert_eq!(
        problem(json!({})),
        "tls_certificates: a server needs a certificate: `tls_certificates` is empty"
    );
}

#[test]
fn a_must_staple_certificate_needs_a_response() {
    let ca = ca("ca");
    let mut params = params(&["a.test"]);
    params.custom_extensions = vec![CustomExtension::from_oid_content(
        &[1, 3, 6, 1, 5, 5, 7, 1, 24],
        vec![0x30, 3, 2, 1, 5],
    )];
    let key = KeyPair::generate().unwrap();
    let chain = params.signed_by(&key, &ca).unwrap().pem();
    let pem = Pem { chain, key: key.serialize_pem() };
    let problem = problem(common(&pem, json!({})));
    assert!(problem.contains("ocsp_staple: clients refuse this certificate"), "{problem}");
}

#[test]
fn a_must_staple_policy_needs_a_response_too() {
    let mut context = common(&pem(&ca("ca"), &["a.test"]), json!({}));
    context["ocsp_staple_policy"] = json!("MUST_STAPLE");
    assert_eq!(
        problem(context),
        "ocsp_staple_policy: MUST_STAPLE needs an `ocsp_staple` for each certificate"
    );
}

#[test]
fn names_without_a_ca_are_refused() {
    let pem = pem(&ca("ca"), &["a.test"]);
    let san = json!([{ "san_type": "DNS", "matcher": { "exact": "a.test" } }]);
    for (field, value, expected) in [
        ("match_typed_subject_alt_names", san, "names need a `trusted_ca`"),
        ("allow_expired_certificate", json!(true), "always accepted"),
        ("crl", inline("x"), "a CRL needs the `trusted_ca`"),
        ("trusted_ca", json!({ "filename": "/nope.pem" }), "/nope.pem: No such file"),
        ("trusted_ca", inline("junk"), "there is no CA certificate in PEM"),
        ("verify_certificate_hash", json!(["zz".repeat(32)]), "is not a SHA-256 in 64"),
        ("verify_certificate_spki", json!(["AAAA"]), "is not the base64 of a SHA-256"),
    ] {
        let problem = problem(common(&pem, json!({ "validation_context": { field: value } })));
        assert!(problem.starts_with(&format!("validation_context.{field}")), "{problem}");
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn a_hash_is_written_with_or_without_colons() {
    let pem = pem(&ca("ca"), &["a.test"]);
    let colons = vec!["AB"; 32].join(":");
    let hashes = json!({ "verify_certificate_hash": [colons, "ab".repeat(32)] });
    let settings = good(common(&pem, json!({ "validation_context": hashes })));
    let ClientCertificate::Required(validation) = settings.client_certificate else {
        panic!("a hash makes a certificate necessary")
    };
    assert_eq!(validation.hashes, [[0xab; 32]; 2]);
}

#[test]
fn a_certificate_of_the_client_is_required_only_with_a_validation_context() {
    let ca = ca("ca");
    let pem = pem(&ca, &["a.test"]);
    let mut context = common(&pem, json!({}));
    context["require_client_certificate"] = json!(true);
    let problem = problem(context.clone());
    assert!(problem.starts_with("require_client_certificate: no effect"), "{problem}");
    let trusted = json!({ "trusted_ca": inline(&ca.pem()) });
    context["common_tls_context"]["validation_context"] = trusted;
    let required = good(context.clone()).client_certificate;
    assert!(matches!(required, ClientCertificate::Required(_)));
    context["require_client_certificate"] = json!(false);
    assert!(matches!(good(context).client_certificate, ClientCertificate::Optional(_)));
}

#[test]
fn what_rustls_lacks_is_refused_by_name() {
    let pem = pem(&ca("ca"), &["a.test"]);
    for (field, value, expected) in [
        (
            "cipher_suites",
            json!(["ECDHE-RSA-AES128-GCM-SHA256", "AES128-SHA"]),
            "tls_params.cipher_suites[1]: the cipher suite AES128-SHA is not implemented yet",
        ),
        (
            "cipher_suites",
            json!(["[ECDHE-RSA-AES128-GCM-SHA256|nope]"]),
            "tls_params.cipher_suites[0]: unknown cipher suite `nope`",
        ),
        (
            "ecdh_curves",
            json!(["P-521"]),
            "tls_params.ecdh_curves[0]: the curve P-521 is not implemented yet",
        ),
        ("ecdh_curves", json!(["P-1"]), "tls_params.ecdh_curves[0]: unknown curve `P-1`"),
        (
            "signature_algorithms",
            json!(["rsa_pkcs1_sha1"]),
            "tls_params.signature_algorithms[0]: the signature algorithm rsa_pkcs1_sha1 is not \
             implemented yet",
        ),
        (
            "tls_maximum_protocol_version",
            json!("TLSv1_1"),
            "tls_params.tls_maximum_protocol_version: TLS before version 1.2 is not implemented yet",
        ),
        (
            "tls_minimum_protocol_version",
            json!("TLSv1_0"),
            "tls_params.tls_minimum_protocol_version: TLS 1.0 and 1.1 are not offered: the oldest \
             version is TLS 1.2",
        ),
    ] {
        let params = json!({ "tls_params": { field: value } });
        assert_eq!(problem(common(&pem, params)), expected);
    }
}

#[test]
fn parameters_are_compiled_in_order() {
    let params = json!({ "tls_params": {
        "tls_minimum_protocol_version": "TLSv1_3",
        "cipher_suites": ["[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-CHACHA20-POLY1305]",
                          "ECDHE-RSA-AES256-GCM-SHA384"],
        "ecdh_curves": ["P-384", "X25519MLKEM768"],
        "signature_algorithms": ["rsa_pss_rsae_sha512"],
    } });
    let parameters = good(common(&pem(&ca("ca"), &["a.test"]), params)).parameters;
    assert_eq!(parameters.versions, Versions::Tls13);
    let groups: Vec<_> = parameters.cipher_suites.iter().map(Vec::len).collect();
    assert_eq!(groups, [2, 1]);
    let curves: Vec<_> = parameters.groups.iter().map(|group| group.name()).collect();
    assert_eq!(curves, [rustls::NamedGroup::secp384r1, rustls::NamedGroup::X25519MLKEM768]);
    assert_eq!(parameters.signature_algorithms, Some(vec![SignatureScheme::RSA_PSS_SHA512]));
}

#[test]
fn the_protocols_of_alpn_are_offered_as_configured() {
    let pem = pem(&ca("ca"), &["a.test"]);
    let alpn = json!({ "alpn_protocols": ["h2", "http/1.1"] });
    let (settings, problems) = server_with(common(&pem, alpn), json!([]));
    assert_eq!(problems, [""; 0]);
    assert_eq!(settings.unwrap().alpn, [&b"h2"[..], b"http/1.1"]);
    let long = json!({ "alpn_protocols": ["x".repeat(256)] });
    assert!(problem(common(&pem, long)).contains("at most 255 bytes"));
}

#[test]
fn session_tickets_have_keys_of_80_bytes() {
    let mut context = common(&pem(&ca("ca"), &["a.test"]), json!({}));
    let keys = |length: usize| json!({ "keys": [inline(&"k".repeat(length))] });
    context["session_ticket_keys"] = keys(79);
    assert_eq!(
        problem(context.clone()),
        "session_ticket_keys.keys[0].inline_string: a key has 80 bytes, not 79"
    );
    context["session_ticket_keys"] = keys(80);
    let tickets = good(context).resumption.tickets.unwrap();
    assert_eq!(tickets, [TicketKey::new(&[b'k'; 80])]);
}

#[test]
fn secrets_are_found_by_name() {
    let ca = ca("ca");
    let pem = pem(&ca, &["a.test"]);
    let secrets = json!([
        { "name": "pair", "tls_certificate": pem.json() },
        { "name": "cas", "validation_context": { "trusted_ca": inline(&ca.pem()) } },
        { "name": "keys", "session_ticket_keys": { "keys": [inline(&"k".repeat(80))] } },
    ]);
    let context = |pair: &str| {
        json!({
            "common_tls_context": {
                "tls_certificate_sds_secret_configs": [{ "name": pair }],
                "combined_validation_context": {
                    "default_validation_context": {
                        "match_typed_subject_alt_names":
                            [{ "san_type": "DNS", "matcher": { "exact": "client.test" } }],
                    },
                    "validation_context_sds_secret_config": { "name": "cas" },
                },
            },
            "session_ticket_keys_sds_secret_config": { "name": "keys" },
        })
    };
    let (settings, problems) = server_with(context("pair"), secrets.clone());
    assert_eq!(problems, [""; 0]);
    let settings = settings.unwrap();
    assert_eq!(settings.certificates[0].names, ["a.test"]);
    let ClientCertificate::Required(validation) = settings.client_certificate else {
        panic!("names make a certificate necessary")
    };
    assert!(validation.trust.is_some() && validation.sans.len() == 1);
    let at = "common_tls_context.tls_certificate_sds_secret_configs[0].name";
    for (name, expected) in [
        ("nope", "there is no static secret `nope`"),
        ("cas", "the secret `cas` is no certificate"),
    ] {
        let (_, problems) = server_with(context(name), secrets.clone());
        assert_eq!(problems, [format!("{at}: {expected}")]);
    }
}

#[test]
fn a_context_with_other_rules_for_clients_does_not_resume_sessions() {
    let ca = ca("ca");
    let (pem, renewed) = (pem(&ca, &["a.test"]), pem(&ca, &["a.test"]));
    let identity = |pem: &Pem, rest: Value| good(common(pem, rest)).resumption.identity;
    let trusted = |ca: &Ca| json!({ "validation_context": { "trusted_ca": inline(&ca.pem()) } });
    let plain = identity(&pem, json!({}));
    assert_eq!(identity(&renewed, json!({})), plain, "a renewed certificate is the same server");
    assert_ne!(identity(&pem, trusted(&ca)), plain);
    let other = crate::transport::tls::context::tests::ca("ca");
    assert_ne!(identity(&pem, trusted(&ca)), identity(&pem, trusted(&other)));
}

#[test]
fn a_cluster_has_one_certificate_and_no_renegotiation() {
    let ca = ca("ca");
    let pair = pem(&ca, &["a.test"]).json();
    assert_eq!(client_problems(json!({ "sni": "a.test" })), [""; 0]);
    let two = json!({ "common_tls_context": { "tls_certificates": [pair, pair] } });
    assert_eq!(
        client_problems(two),
        ["common_tls_context.tls_certificates: a cluster can have only one certificate"]
    );
    assert_eq!(
        client_problems(json!({ "allow_renegotiation": true })),
        ["allow_renegotiation: renegotiation is not implemented yet"]
    );
    assert_eq!(
        client_problems(json!({ "auto_sni_san_validation": true })),
        [
            "auto_sni_san_validation: a `validation_context` is needed: without it nothing is verified"
        ]
    );
}

#[test]
fn encrypted_keys_need_their_password() {
    let ca = ca("ca");
    let key = KeyPair::from_pem(ENCRYPTED_PLAIN).unwrap();
    let chain = params(&["a.test"]).signed_by(&key, &ca).unwrap().pem();
    let certificate = |password: Option<&str>| {
        let mut certificate =
            json!({ "certificate_chain": inline(&chain), "private_key": inline(ENCRYPTED) });
        if let Some(password) = password {
            certificate["password"] = inline(password);
        }
        json!({ "common_tls_context": { "tls_certificates": [certificate] } })
    };
    assert_eq!(good(certificate(Some("secret"))).certificates.len(), 1);
    assert!(problem(certificate(None)).contains("is encrypted, and there is no `password`"));
    assert!(problem(certificate(Some("wrong"))).contains("cannot be decrypted"));
}

#[test]
fn a_pkcs12_file_is_a_certificate_with_its_key() {
    let bytes = |bytes: Vec<u8>| json!({ "inline_bytes": bytes });
    let context = |certificate: Value| {
        let context = json!({ "tls_certificates": [certificate] });
        json!({ "common_tls_context": context })
    };
    let file = bytes(pkcs12::file());
    let password = inline(pkcs12::PASSWORD);
    let settings = good(context(json!({ "pkcs12": file, "password": password })));
    assert_eq!(settings.certificates[0].chain.len(), 2, "with its CA");
    assert_eq!(settings.certificates[0].names, ["leaf"]);
    let wrong = problem(context(json!({ "pkcs12": file })));
    let at = "tls_certificates[0].pkcs12";
    assert_eq!(
        wrong,
        format!("{at}.inline_bytes: this PKCS #12 file cannot be read with the `password`")
    );
    let both = json!({ "pkcs12": file, "password": password, "private_key": inline("") });
    assert!(problem(context(both)).starts_with(&format!("{at}: `pkcs12` has the certificate")));
}

#[test]
fn a_compliance_policy_replaces_the_other_parameters() {
    let context =
        |params: Value| common(&pem(&ca("ca"), &["a.test"]), json!({ "tls_params": params }));
    let fips = json!({ "compliance_policies": ["FIPS_202205"] });
    let parameters = good(context(fips.clone())).parameters;
    let curves: Vec<_> = parameters.groups.iter().map(|group| group.name()).collect();
    assert_eq!(curves, [rustls::NamedGroup::secp256r1, rustls::NamedGroup::secp384r1]);
    let mut others = fips;
    merge(
        &mut others,
        json!({ "tls_maximum_protocol_version": "TLSv1_2", "ecdh_curves": ["X25519"] }),
    );
    let (settings, problems) = server_with(context(others), json!([]));
    assert_eq!(
        problems,
        ["common_tls_context.tls_params.compliance_policies: the policy replaces all other \
          `tls_params`, as in Envoy: they have no effect"]
    );
    let parameters = settings.unwrap().parameters;
    assert_eq!((parameters.versions, parameters.groups.len()), (Versions::Both, 2));
    for policy in ["CNSA1_202603", "CNSA2_202603"] {
        let policy = json!({ "compliance_policies": [policy] });
        assert_eq!(
            problem(context(policy)),
            "tls_params.compliance_policies[0]: a CNSA policy, which needs ML-KEM-1024, is not \
             implemented yet"
        );
    }
}

/// A key made for this test, in the clear and as `openssl pkcs8 -topk8 -v2 aes-256-cbc` encrypts it.
const ENCRYPTED_PLAIN: &str = "\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgcTVOOcZpLL+F2IwA
kL61AYulSPgd1Vy0hlHrrTQ5+7ChRANCAAQyQ8MYZxEJg1xZgh1wCzooZoa7UeRZ
0Lp40yc3mL4eH+r3gjxb10/kl2jftieeZWGta71n2IFiN3ckTQjrv2fs
-----END PRIVATE KEY-----
";
const ENCRYPTED: &str = "\
-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhAZwIauI3AZQICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEPzf6RtHz4cOeUSajR169/4EgZBI
PA7qnpTe5AZBp7GG3lqe4R7pjtuDuxkTxEWsoOgYWLROCQEbY4gc2j2ACgtZdjpv
7PVaMSvDGVfiDbK1t8srhW92Tn8vz3YRFJ38FCqxEAW+wn7CRsUE31JosJzTmL1w
qjkx7u1PvKh7eO7iVE+c4+RyDMO9c+kIPXbo59PGU3nJsJ0cOR9gbVltNSj7FyQ=
-----END ENCRYPTED PRIVATE KEY-----
";
