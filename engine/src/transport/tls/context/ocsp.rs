//! Stapled OCSP responses. As in Envoy the signature of a response is not verified: the operator has
//! put it there, and the client verifies it.

use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

use super::certificate::Certificate;
use crate::transport::tls::der::{
    Der, ENUMERATED, GENERALIZED_TIME, INTEGER, OCTET_STRING, OID, SEQUENCE, explicit,
};

/// `ocsp_staple_policy`
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum StaplePolicy {
    /// A response that is missing or expired is left out.
    #[default]
    Lenient,
    /// With an expired response the handshake is refused.
    Strict,
    /// Without a valid response the handshake is refused.
    Must,
}

/// What becomes of the response of a certificate in a handshake.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Stapling {
    /// The client did not ask for it.
    NotAsked,
    /// It is sent.
    Stapled,
    /// There is none that is valid.
    Omitted,
    /// By the policy, the handshake fails.
    Refused,
}

/// What becomes of the response of `certificate`, at `now` in seconds since 1970.
#[must_use]
pub fn staple(certificate: &Certificate, asked: bool, policy: StaplePolicy, now: u64) -> Stapling {
    let response = certificate.ocsp.as_ref();
    let is_valid = response.is_some_and(|response| response.is_valid_at(now));
    let policy = if certificate.must_staple { StaplePolicy::Must } else { policy };
    match policy {
        _ if !asked => Stapling::NotAsked,
        _ if is_valid => Stapling::Stapled,
        StaplePolicy::Must => Stapling::Refused,
        StaplePolicy::Strict if response.is_some() => Stapling::Refused,
        StaplePolicy::Lenient | StaplePolicy::Strict => Stapling::Omitted,
    }
}

/// A response for one certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OcspResponse {
    /// As it is sent.
    pub der: Vec<u8>,
    /// The serial number of the certificate.
    serial: Vec<u8>,
    /// When it begins to be valid, in seconds since 1970.
    this_update: i64,
    /// When it expires; none: as in Envoy, it counts as expired.
    next_update: Option<i64>,
}

/// Why a response is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OcspError {
    /// It has no structure of a response.
    #[error("this is not an OCSP response in DER")]
    Malformed,
    /// The responder could not answer.
    #[error("this OCSP response says that the responder failed")]
    Unsuccessful,
    /// There are responses for other certificates too.
    #[error("an OCSP response for exactly one certificate is needed")]
    NotSingle,
    /// It belongs to another certificate.
    #[error("this OCSP response is for another certificate")]
    OtherCertificate,
}

/// id-pkix-ocsp-basic
const BASIC: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];

impl OcspResponse {
    /// Reads a response in DER.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn new(der: Vec<u8>) -> Result<Self, OcspError> {
        let mut outer = Der::new(&der);
        let mut response = outer.sequence().ok_or(OcspError::Malformed)?;
        if !outer.is_empty() {
            return Err(OcspError::NotSingle);
        }
        match response.take(ENUMERATED) {
            Some([0]) => {}
            Some(_) => return Err(OcspError::Unsuccessful),
            None => return Err(OcspError::Malformed),
        }
        let mut responses = responses(response).ok_or(OcspError::Malformed)?;
        let single = responses.sequence().ok_or(OcspError::NotSingle)?;
        if !responses.is_empty() {
            return Err(OcspError::NotSingle);
        }
        let (serial, this_update, next_update) = parts(single).ok_or(OcspError::Malformed)?;
        Ok(Self { serial, this_update, next_update, der })
    }

    /// Whether it is for this certificate, which is in DER.
    ///
    /// # Errors
    /// It is for another one.
    pub fn check_certificate(&self, certificate: &[u8]) -> Result<(), OcspError> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|_| OcspError::OtherCertificate)?;
        if certificate.raw_serial() == self.serial {
            Ok(())
        } else {
            Err(OcspError::OtherCertificate)
        }
    }

    /// When it begins to be valid and when it expires, in seconds since 1970. Without an end it has expired
    /// when it began.
    #[must_use]
    pub fn validity(&self) -> (i64, i64) {
        (self.this_update, self.next_update.unwrap_or(self.this_update))
    }

    /// Whether it is valid at `now`, in seconds since 1970.
    #[must_use]
    pub fn is_valid_at(&self, now: u64) -> bool {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.this_update <= now && self.next_update.is_some_and(|next| now <= next)
    }
}

/// The list of single responses in an `OCSPResponse` behind its status.
fn responses(mut response: Der<'_>) -> Option<Der<'_>> {
    let mut bytes = Der::new(response.take(explicit(0))?).sequence()?;
    if bytes.take(OID)? != BASIC {
        return None;
    }
    let mut basic = Der::new(bytes.take(OCTET_STRING)?).sequence()?;
    let mut data = basic.sequence()?;
    // The version has a default.
    data.take_if(explicit(0));
    // Who has responded, by name or by key, and when.
    data.any()?;
    data.take(GENERALIZED_TIME)?;
    data.sequence()
}

/// Serial number, begin and end of a `SingleResponse`.
fn parts(mut single: Der<'_>) -> Option<(Vec<u8>, i64, Option<i64>)> {
    let mut id = single.sequence()?;
    id.take(SEQUENCE)?;
    id.take(OCTET_STRING)?;
    id.take(OCTET_STRING)?;
    let serial = id.take(INTEGER)?.to_vec();
    // Good, revoked or unknown: the client judges.
    single.any()?;
    let this_update = time(single.take(GENERALIZED_TIME)?)?;
    let next_update = match single.take_if(explicit(0)) {
        Some(next) => Some(time(Der::new(next).take(GENERALIZED_TIME)?)?),
        None => None,
    };
    Some((serial, this_update, next_update))
}

/// `YYYYMMDDHHMMSSZ`, in seconds since 1970.
fn time(text: &[u8]) -> Option<i64> {
    let mut encoded = vec![GENERALIZED_TIME, u8::try_from(text.len()).ok()?];
    encoded.extend_from_slice(text);
    let (_, time) = ASN1Time::from_der(&encoded).ok()?;
    Some(time.timestamp())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::transport::tls::context::tests::{ca, certificate, issue, params};

    #[test]
    fn the_policy_decides_what_becomes_of_a_response() {
        let response = |this_update, next_update| {
            Some(OcspResponse { der: Vec::new(), serial: Vec::new(), this_update, next_update })
        };
        let valid = response(900, Some(1100));
        let expired = response(900, Some(999));
        let endless = response(900, None);
        let early = response(1001, Some(1100));
        let mut certificate = certificate(&issue(&params(&["a.test"]), &ca("ca")));
        use StaplePolicy::{Lenient, Must, Strict};
        use Stapling::{NotAsked, Omitted, Refused, Stapled};
        for (policy, response, expected) in [
            (Lenient, &valid, Stapled),
            (Strict, &valid, Stapled),
            (Must, &valid, Stapled),
            (Lenient, &expired, Omitted),
            (Strict, &expired, Refused),
            (Must, &expired, Refused),
            (Lenient, &endless, Omitted),
            (Strict, &endless, Refused),
            (Lenient, &early, Omitted),
            (Lenient, &None, Omitted),
            (Strict, &None, Omitted),
            (Must, &None, Refused),
        ] {
            certificate.ocsp.clone_from(response);
            assert_eq!(staple(&certificate, true, policy, 1000), expected, "{policy:?}");
            assert_eq!(staple(&certificate, false, policy, 1000), NotAsked);
        }
        certificate.must_staple = true;
        certificate.ocsp = expired;
        assert_eq!(staple(&certificate, true, Lenient, 1000), Refused);
    }

    #[test]
    fn a_response_of_openssl_is_read() {
        let response = OcspResponse::new(STANDARD.decode(RESPONSE).unwrap()).unwrap();
        let serial: String = response.serial.iter().map(|byte| format!("{byte:02X}")).collect();
        assert_eq!(serial, SERIAL);
        let ends = response.next_update.unwrap();
        assert_eq!(ends - response.this_update, 300 * 24 * 60 * 60);
        assert!(response.is_valid_at(u64::try_from(ends).unwrap()));
        assert!(!response.is_valid_at(u64::try_from(ends + 1).unwrap()));
        let other = issue(&params(&["a.test"]), &ca("ca"));
        assert_eq!(response.check_certificate(&other.der), Err(OcspError::OtherCertificate));
    }

    #[test]
    fn a_cut_response_or_two_in_one_file_are_refused() {
        let der = STANDARD.decode(RESPONSE).unwrap();
        for end in 0..der.len() {
            assert!(OcspResponse::new(der[..end].to_vec()).is_err(), "{end} bytes");
        }
        assert_eq!(OcspResponse::new([der.clone(), der].concat()), Err(OcspError::NotSingle));
        assert_eq!(OcspResponse::new(vec![0x30, 3, 0x0a, 1, 6]), Err(OcspError::Unsuccessful));
    }

    /// Made by `openssl ocsp -ndays 300 -resp_no_certs -resp_key_id` for a certificate with this number.
    const SERIAL: &str = "12433A7D6CF763CE7F1291207B1C177BC019DD77";
    const RESPONSE: &str = "\
    MIIBFgoBAKCCAQ8wggELBgkrBgEFBQcwAQEEgf0wgfowgaKiFgQUEj6m9kXEbCrXkQJ1t2vp4849oKIYDzIw\
    MjYxMTMwMDAwNDQ0WjB3MHUwTTAJBgUrDgMCGgUABBQRBIzSDLNZIwfQGf0IiVYrYtNkkgQUEj6m9kXEbCrX\
    kQJ1t2vp4849oKICFBJDOn1s92POfxKRIHscF3vAGd13gAAYDzIwMjYxMTMwMDAwNDQ0WqARGA8yMDI3MDky\
    NjAwMDQ0NFowCgYIKoZIzj0EAwIDRwAwRAIgd5GcFLBpnSLiAg2LoEvVcP/AS2+ctfqqWd9yvzSA49QCICAI\
    IQIyjBqGUWMg7qlZM5N45F+lcg+MzgK1JddAsad5";
}
