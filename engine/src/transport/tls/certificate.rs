//! What is shown of a certificate, in Envoy's texts.
//!
//! It decides nothing: whether a certificate is trusted is decided when it is verified. No text has
//! control characters, so all of them can be header values and lines of a log.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::OnceLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use super::name;

/// A certificate. It is taken apart when something of it is first asked for.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: CertificateDer<'static>,
    details: OnceLock<Box<Details>>,
    url_encoded_pem: OnceLock<Box<str>>,
}

/// What a certificate says. All of it is empty or zero for one that cannot be read.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// The subject as in RFC 2253: the last part first.
    pub subject: String,
    /// The issuer, likewise.
    pub issuer: String,
    /// The serial number, hexadecimal.
    pub serial: String,
    /// Subject alternative names of type DNS.
    pub dns_names: Vec<String>,
    /// Subject alternative names of type URI.
    pub uris: Vec<String>,
    /// Subject alternative names of type IP address.
    pub ip_addresses: Vec<String>,
    /// Subject alternative names of type email.
    pub emails: Vec<String>,
    /// Subject alternative names of other types: their values.
    pub other_names: Vec<String>,
    /// All of these in the certificate's order, but for emails and other names.
    pub names: Vec<AlternativeName>,
    /// The first second of its validity, since 1970.
    pub not_before: i64,
    /// The last second of its validity, since 1970.
    pub not_after: i64,
    /// SHA-256 of the certificate, hexadecimal.
    pub sha256: String,
    /// SHA-1 of the certificate, hexadecimal.
    pub sha1: String,
}

/// A subject alternative name as the admin endpoint shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum AlternativeName {
    /// A DNS name.
    Dns(String),
    /// An IP address.
    IpAddress(String),
    /// A URI.
    Uri(String),
}

impl Certificate {
    /// A certificate in DER.
    pub fn new(der: CertificateDer<'static>) -> Self {
        Self { der, details: OnceLock::new(), url_encoded_pem: OnceLock::new() }
    }

    /// The certificate in DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// What it says.
    pub fn details(&self) -> &Details {
        self.details.get_or_init(|| Box::new(Details::read(&self.der)))
    }

    /// The certificate in PEM, with the characters escaped that mean something in a URL.
    pub fn url_encoded_pem(&self) -> &str {
        self.url_encoded_pem.get_or_init(|| url_encoded(&self.pem()).into())
    }

    /// The certificate in PEM.
    pub fn pem(&self) -> String {
        let mut text = "-----BEGIN CERTIFICATE-----".to_owned();
        for (at, character) in STANDARD.encode(&self.der).char_indices() {
            if at % PEM_LINE == 0 {
                text.push('\n');
            }
            text.push(character);
        }
        text.push_str("\n-----END CERTIFICATE-----\n");
        text
    }
}

impl Details {
    fn read(der: &[u8]) -> Self {
        let mut details = Self {
            sha256: hex(digest::digest(&digest::SHA256, der).as_ref()),
            sha1: hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref()),
            ..Self::default()
        };
        let Ok((_, certificate)) = X509Certificate::from_der(der) else { return details };
        details.subject = name::rfc2253(certificate.subject());
        details.issuer = name::rfc2253(certificate.issuer());
        details.serial = serial(certificate.raw_serial());
        details.not_before = certificate.validity().not_before.timestamp();
        details.not_after = certificate.validity().not_after.timestamp();
        if let Ok(Some(names)) = certificate.subject_alternative_name() {
            names.value.general_names.iter().for_each(|name| details.add(name));
        }
        details
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(dns) => {
                let dns = name::without_controls(dns);
                self.dns_names.push(dns.clone());
                self.names.push(AlternativeName::Dns(dns));
            }
            GeneralName::IPAddress(bytes) => {
                if let Some(address) = ip_address(bytes) {
                    self.ip_addresses.push(address.to_string());
                    self.names.push(AlternativeName::IpAddress(address.to_string()));
                }
            }
            GeneralName::OtherName(_, value) => {
                let value = name::other_name(value).unwrap_or_default();
                self.other_names.push(name::without_controls(&value));
            }
            GeneralName::RFC822Name(email) => self.emails.push(name::without_controls(email)),
            GeneralName::URI(uri) => {
                let uri = name::without_controls(uri);
                self.uris.push(uri.clone());
                self.names.push(AlternativeName::Uri(uri));
            }
            _ => {}
        }
    }
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// As BoringSSL prints a number: whole bytes, without zeros in front.
fn serial(bytes: &[u8]) -> String {
    match bytes.iter().position(|&byte| byte != 0) {
        Some(first) => hex(bytes.get(first..).unwrap_or_default()),
        None => "0".to_owned(),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

fn url_encoded(pem: &str) -> String {
    let mut text = String::with_capacity(pem.len() + pem.len() / 8);
    for character in pem.chars() {
        match character {
            '\n' => text.push_str("%0A"),
            ' ' => text.push_str("%20"),
            '+' => text.push_str("%2B"),
            '/' => text.push_str("%2F"),
            '=' => text.push_str("%3D"),
            plain => text.push(plain),
        }
    }
    text
}

/// The characters in a line of PEM.
const PEM_LINE: usize = 64;
