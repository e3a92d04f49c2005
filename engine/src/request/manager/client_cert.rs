//! `x-forwarded-client-cert`: passes the certificate of the client on to origins.
//!
//! A header that the client has sent itself is as trustworthy as the client: it is kept only where the
//! configuration says so.

use serde_json::{Map, Value};

use crate::http::{FieldName, Fields};
use crate::transport::tls::facts::TlsFacts;

/// `forward_client_cert_details`: what happens to the header, and what it contains.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ForwardClientCert {
    /// The client's header is removed.
    #[default]
    Sanitize,
    /// The client's header is kept if the client has a certificate.
    ForwardOnly,
    /// The certificate is added to the client's header.
    AppendForward(CertDetails),
    /// The certificate replaces the client's header.
    SanitizeSet(CertDetails, Form),
    /// The client's header is kept, also without a certificate or TLS.
    AlwaysForwardOnly,
}

/// `set_current_client_cert_details`: what the header contains
/// besides `Hash` and `By`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct CertDetails {
    /// The certificate.
    pub cert: bool,
    /// The certificates that the client has sent.
    pub chain: bool,
    /// The subject.
    pub subject: bool,
    /// The alternative names of type URI.
    pub uri: bool,
    /// The alternative names of type DNS.
    pub dns: bool,
    /// The issuer.
    pub issuer: bool,
}

/// How it is written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Form {
    /// `Hash=…;Subject="…"`
    #[default]
    Text,
    /// `[{"hash":"…","subject":"…"}]`
    Json,
}

impl ForwardClientCert {
    /// Sets or removes the header of a request.
    pub(super) fn apply(self, fields: &mut Fields, tls: Option<&TlsFacts>) {
        const NAME: FieldName = FieldName::XForwardedClientCert;
        let with_certificate = tls.filter(|tls| tls.peer_certificate().is_some());
        match (self, with_certificate) {
            (Self::AlwaysForwardOnly, _) | (Self::ForwardOnly, Some(_)) => {}
            (Self::Sanitize, _) | (_, None) => fields.remove(NAME),
            (Self::AppendForward(wanted), Some(tls)) => {
                fields.join(NAME, b",", text(wanted, tls).as_bytes());
            }
            (Self::SanitizeSet(wanted, Form::Text), Some(tls)) => {
                fields.set(NAME, text(wanted, tls).as_bytes());
            }
            (Self::SanitizeSet(wanted, Form::Json), Some(tls)) => {
                fields.set(NAME, json(wanted, tls).to_string().as_bytes());
            }
        }
    }
}

fn text(wanted: CertDetails, tls: &TlsFacts) -> String {
    let Some(certificate) = tls.peer_certificate() else { return String::new() };
    let details = certificate.details();
    let mut text = String::new();
    let mut add = |key: &str, quote: &str, value: &str| {
        if !text.is_empty() {
            text.push(';');
        }
        text.extend([key, "=", quote, value, quote]);
    };
    for uri in local_uris(tls) {
        add("By", "", uri);
    }
    add("Hash", "", &details.sha256);
    if wanted.cert {
        add("Cert", "\"", certificate.url_encoded_pem());
    }
    if wanted.chain {
        let chain: String =
            tls.peer_certificates.iter().map(|certificate| certificate.url_encoded_pem()).collect();
        add("Chain", "\"", &chain);
    }
    if wanted.subject {
        add("Subject", "\"", &details.subject);
    }
    if wanted.uri {
        details.uris.iter().for_each(|uri| add("URI", "", uri));
        if details.uris.is_empty() {
            add("URI", "", "");
        }
    }
    if wanted.dns {
        details.dns_names.iter().for_each(|name| add("DNS", "", name));
    }
    if wanted.issuer {
        add("Issuer", "\"", &details.issuer);
    }
    text
}

/// As in Envoy, what is empty is left out.
fn json(wanted: CertDetails, tls: &TlsFacts) -> Value {
    let Some(certificate) = tls.peer_certificate() else { return Value::Array(Vec::new()) };
    let details = certificate.details();
    let mut object = Map::new();
    let mut add = |key: &str, is_set: bool, value: Value| {
        let is_empty = value.as_str().is_some_and(str::is_empty)
            || value.as_array().is_some_and(Vec::is_empty);
        if is_set && !is_empty {
            object.insert(key.to_owned(), value);
        }
    };
    add("by", true, local_uris(tls).into());
    add("hash", true, details.sha256.as_str().into());
    if wanted.cert {
        add("cert", true, certificate.pem().into());
    }
    if wanted.chain {
        let chain = tls.peer_certificates.iter().map(|certificate| certificate.pem());
        add("chain", true, chain.collect());
    }
    add("subject", wanted.subject, details.subject.as_str().into());
    add("uri", wanted.uri, details.uris.as_slice().into());
    add("dns", wanted.dns, details.dns_names.as_slice().into());
    add("issuer", wanted.issuer, details.issuer.as_str().into());
    Value::Array(vec![Value::Object(object)])
}

fn local_uris(tls: &TlsFacts) -> &[String] {
    tls.local_certificate.as_ref().map_or(&[], |certificate| &certificate.details().uris)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tls::recorded::{
        ALTERNATIVE_NAMES, CLIENT, ISSUER, NO_SUBJECT, connection,
    };

    const ALL: CertDetails =
        CertDetails { cert: true, chain: true, subject: true, uri: true, dns: true, issuer: true };

    const HASH: &str = "Hash=787aad27eddb7d0164175648976b83f281c1954821d6c49c060afaaa0e538350";

    /// The header after a client with it has sent a request.
    fn header(mode: ForwardClientCert, sent: Option<&str>, tls: Option<&TlsFacts>) -> String {
        let mut fields = Fields::default();
        if let Some(sent) = sent {
            fields.set(FieldName::XForwardedClientCert, sent.as_bytes());
        }
        mode.apply(&mut fields, tls);
        let value = fields.get(FieldName::XForwardedClientCert).map(<[u8]>::to_vec);
        value.map_or_else(|| "none".to_owned(), |value| String::from_utf8(value).expect("UTF-8"))
    }

    #[test]
    fn the_text_is_the_one_recorded_from_envoy() {
        let recordings =
            include_str!("../../../tests/envoy/certificates/x-forwarded-client-cert.txt");
        for line in recordings.lines() {
            let (client, line) = line.split_once(' ').expect("a client");
            let (form, recorded) = line.split_once(' ').expect("a form");
            let chain: &[_] = match client {
                "client" => &[CLIENT],
                "with-issuer" => &[CLIENT, ISSUER],
                "no-subject" => &[NO_SUBJECT],
                "alternative-names" => &[ALTERNATIVE_NAMES],
                other => panic!("no such client: {other}"),
            };
            let form = if form == "json" { Form::Json } else { Form::Text };
            let mode = ForwardClientCert::SanitizeSet(ALL, form);
            assert_eq!(header(mode, None, Some(&connection(chain))), recorded, "{client} {form:?}");
        }
        assert_eq!(recordings.lines().count(), 8);
    }

    #[test]
    fn what_the_client_has_sent_is_kept_only_where_the_mode_says_so() {
        let mut tls = connection(&[NO_SUBJECT]);
        tls.local_certificate = None;
        let with = |mode| header(mode, Some("By=x"), Some(&tls));
        assert_eq!(with(ForwardClientCert::Sanitize), "none");
        assert_eq!(with(ForwardClientCert::ForwardOnly), "By=x");
        let nothing = CertDetails::default();
        assert_eq!(with(ForwardClientCert::AppendForward(nothing)), format!("By=x,{HASH}"));
        assert_eq!(with(ForwardClientCert::SanitizeSet(nothing, Form::Text)), HASH);
        assert_eq!(with(ForwardClientCert::AlwaysForwardOnly), "By=x");
    }

    #[test]
    fn without_a_certificate_only_one_mode_keeps_it() {
        let modes = [
            ForwardClientCert::Sanitize,
            ForwardClientCert::ForwardOnly,
            ForwardClientCert::AppendForward(ALL),
            ForwardClientCert::SanitizeSet(ALL, Form::Json),
        ];
        let without_certificate = connection(&[]);
        for tls in [None, Some(&without_certificate)] {
            for mode in modes {
                assert_eq!(header(mode, Some("By=x"), tls), "none", "{mode:?}");
            }
            assert_eq!(header(ForwardClientCert::AlwaysForwardOnly, Some("By=x"), tls), "By=x");
        }
    }
}
