//! PKCS #12: a private key with its certificates in one file.
//!
//! The encryption must be PBES2 with AES, which OpenSSL writes since version 3. The older ones (RC2, 3DES)
//! are too weak to be worth their code.

use aws_lc_rs::digest;
use aws_lc_rs::hmac;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::key::{ITERATIONS_MAX, KeyError, decrypt, decrypt_content};
use crate::transport::tls::der::{Der, INTEGER, NULL, OCTET_STRING, OID, explicit};

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Pkcs12Error {
    /// It has no structure of such a file.
    #[error("this is not a PKCS #12 file in DER")]
    Malformed,
    /// Its MAC is that of another password.
    #[error("this PKCS #12 file cannot be read with the `password`")]
    WrongPassword,
    /// It is protected by other means than PBES2 with AES and a MAC with SHA.
    #[error(
        "the encryption of this PKCS #12 file is not supported; `openssl pkcs12 -export` of OpenSSL 3 \
         writes one that is"
    )]
    Encryption,
    /// There is not exactly one private key in it, or no certificate.
    #[error("a PKCS #12 file with one private key and its certificate is needed")]
    Incomplete,
}

/// What is in a file.
#[derive(Debug)]
pub struct Pkcs12 {
    /// The private key.
    pub key: PrivateKeyDer<'static>,
    /// The certificates, in the order of the file.
    pub certificates: Vec<CertificateDer<'static>>,
}

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
const KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 1];
const SHROUDED_KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 2];
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 3];
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 1];
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 2];
const SHA512: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 2, 3];

const VERSION: u64 = 3;

/// `[0] IMPLICIT OCTET STRING`
const IMPLICIT_CONTENT: u8 = 0x80;

impl Pkcs12 {
    /// Reads a file in DER.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn read(der: &[u8], password: &[u8]) -> Result<Self, Pkcs12Error> {
        let (safes, mac) = outer(der).ok_or(Pkcs12Error::Malformed)?;
        match mac {
            Some(mac) => Mac::read(mac).ok_or(Pkcs12Error::Encryption)?.verify(safes, password)?,
            None => return Err(Pkcs12Error::Encryption),
        }
        let mut found = Bags::default();
        let mut safes = Der::new(safes).sequence().ok_or(Pkcs12Error::Malformed)?;
        while !safes.is_empty() {
            let mut safe = safes.sequence().ok_or(Pkcs12Error::Malformed)?;
            let kind = safe.take(OID).ok_or(Pkcs12Error::Malformed)?;
            let content = safe.take(explicit(0)).ok_or(Pkcs12Error::Malformed)?;
            let contents = match kind {
                DATA => {
                    let content = Der::new(content).take(OCTET_STRING);
                    content.ok_or(Pkcs12Error::Malformed)?.to_vec()
                }
                ENCRYPTED_DATA => decrypted(content, password)?,
                _ => return Err(Pkcs12Error::Encryption),
            };
            found.read(&contents, password)?;
        }
        match found.keys.pop() {
            Some(key) if found.keys.is_empty() && !found.certificates.is_empty() => {
                let key = PrivatePkcs8KeyDer::from(key).into();
                Ok(Self { key, certificates: found.certificates })
            }
            _ => Err(Pkcs12Error::Incomplete),
        }
    }
}

/// The `AuthenticatedSafe` of a `PFX`, and its `MacData`.
fn outer(der: &[u8]) -> Option<(&[u8], Option<Der<'_>>)> {
    let mut pfx = Der::new(der).sequence()?;
    (pfx.unsigned()? == VERSION).then_some(())?;
    let mut safe = pfx.sequence()?;
    (safe.take(OID)? == DATA).then_some(())?;
    let content = Der::new(safe.take(explicit(0))?).take(OCTET_STRING)?;
    let mac = if pfx.is_empty() { None } else { Some(pfx.sequence()?) };
    Some((content, mac))
}

/// The `SafeContents` in an `EncryptedData`.
fn decrypted(content: &[u8], password: &[u8]) -> Result<Vec<u8>, Pkcs12Error> {
    let parts = || {
        let mut data = Der::new(content).sequence()?;
        data.take(INTEGER)?;
        let mut content = data.sequence()?;
        content.take(OID)?;
        let scheme = content.sequence()?;
        Some((scheme, content.take(IMPLICIT_CONTENT)?))
    };
    let (scheme, text) = parts().ok_or(Pkcs12Error::Malformed)?;
    decrypt_content(scheme, text, password).map_err(Pkcs12Error::from)
}

impl From<KeyError> for Pkcs12Error {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::WrongPassword | KeyError::NoPassword => Self::WrongPassword,
            KeyError::Encryption => Self::Encryption,
            KeyError::NoKey => Self::Malformed,
        }
    }
}

/// Keys in PKCS #8, and certificates.
#[derive(Debug, Default)]
struct Bags {
    keys: Vec<Vec<u8>>,
    certificates: Vec<CertificateDer<'static>>,
}

impl Bags {
    fn read(&mut self, contents: &[u8], password: &[u8]) -> Result<(), Pkcs12Error> {
        let mut bags = Der::new(contents).sequence().ok_or(Pkcs12Error::Malformed)?;
        while !bags.is_empty() {
            let mut bag = bags.sequence().ok_or(Pkcs12Error::Malformed)?;
            let kind = bag.take(OID).ok_or(Pkcs12Error::Malformed)?;
            let value = bag.take(explicit(0)).ok_or(Pkcs12Error::Malformed)?;
            match kind {
                KEY_BAG => self.keys.push(value.to_vec()),
                SHROUDED_KEY_BAG => self.keys.push(decrypt(value, password)?),
                CERTIFICATE_BAG => {
                    let certificate = certificate(value).ok_or(Pkcs12Error::Malformed)?;
                    self.certificates.push(certificate.to_vec().into());
                }
                // Revocation lists and the like.
                _ => {}
            }
        }
        Ok(())
    }
}

fn certificate(value: &[u8]) -> Option<&[u8]> {
    let mut bag = Der::new(value).sequence()?;
    (bag.take(OID)? == X509).then_some(())?;
    Der::new(bag.take(explicit(0))?).take(OCTET_STRING)
}

/// `MacData`
struct Mac<'a> {
    digest: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    value: &'a [u8],
    salt: &'a [u8],
    iterations: u64,
}

impl<'a> Mac<'a> {
    fn read(mut data: Der<'a>) -> Option<Self> {
        let mut info = data.sequence()?;
        let mut algorithm = info.sequence()?;
        let (digest, hmac) = match algorithm.take(OID)? {
            SHA1 => (&digest::SHA1_FOR_LEGACY_USE_ONLY, hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
            SHA256 => (&digest::SHA256, hmac::HMAC_SHA256),
            SHA384 => (&digest::SHA384, hmac::HMAC_SHA384),
            SHA512 => (&digest::SHA512, hmac::HMAC_SHA512),
            _ => return None,
        };
        algorithm.take_if(NULL);
        algorithm.is_empty().then_some(())?;
        let value = info.take(OCTET_STRING)?;
        let salt = data.take(OCTET_STRING)?;
        let iterations = if data.is_empty() { 1 } else { data.unsigned()? };
        (iterations <= ITERATIONS_MAX).then_some(Self { digest, hmac, value, salt, iterations })
    }

    fn verify(&self, content: &[u8], password: &[u8]) -> Result<(), Pkcs12Error> {
        let key = hmac::Key::new(self.hmac, &self.key(password)?);
        hmac::verify(&key, content, self.value).map_err(|_| Pkcs12Error::WrongPassword)
    }

    /// The key, which is as long as a digest.
    //= rfc7292#appendix-B.2
    fn key(&self, password: &[u8]) -> Result<Vec<u8>, Pkcs12Error> {
        const PURPOSE_MAC: u8 = 3;
        let password = std::str::from_utf8(password).map_err(|_| Pkcs12Error::WrongPassword)?;
        let characters = password.encode_utf16().chain([0]);
        let password: Vec<u8> = characters.flat_map(u16::to_be_bytes).collect();
        let block = self.digest.block_len();
        let mut input = vec![PURPOSE_MAC; block];
        for part in [self.salt, &password] {
            let length = part.len().next_multiple_of(block);
            input.extend(part.iter().cycle().take(length));
        }
        let mut key = digest::digest(self.digest, &input);
        for _ in 1..self.iterations {
            key = digest::digest(self.digest, key.as_ref());
        }
        Ok(key.as_ref().to_vec())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::transport::tls::certificate::hex;

    pub(in super::super) const PASSWORD: &str = "pässword";

    /// Made by `openssl pkcs12 -export` of OpenSSL 3: a key for P-256, its certificate, and that of its CA.
    pub(in super::super) fn file() -> Vec<u8> {
        STANDARD.decode(FILE).unwrap()
    }

    #[test]
    fn a_file_of_openssl_is_read() {
        let read = Pkcs12::read(&file(), PASSWORD.as_bytes()).unwrap();
        let hash = |der: &CertificateDer<'_>| hex(digest::digest(&digest::SHA256, der).as_ref());
        let hashes: Vec<_> = read.certificates.iter().map(hash).collect();
        assert_eq!(hashes, [LEAF, CA]);
        assert!(matches!(read.key, PrivateKeyDer::Pkcs8(_)));
    }

    #[test]
    fn another_password_or_a_changed_file_is_refused() {
        for password in ["", "password", "pässword "] {
            let read = Pkcs12::read(&file(), password.as_bytes());
            assert_eq!(read.err(), Some(Pkcs12Error::WrongPassword), "{password}");
        }
        for i in 0..file().len() {
            let mut changed = file();
            changed[i] ^= 1;
            assert!(Pkcs12::read(&changed, PASSWORD.as_bytes()).is_err(), "byte {i}");
            assert!(Pkcs12::read(&file()[..i], PASSWORD.as_bytes()).is_err(), "{i} bytes");
        }
    }

    #[test]
    fn the_encryption_of_old_files_is_named() {
        let old = STANDARD.decode(OLD).unwrap();
        assert_eq!(Pkcs12::read(&old, b"secret").err(), Some(Pkcs12Error::Encryption));
        assert_eq!(Pkcs12::read(b"-----BEGIN", b"").err(), Some(Pkcs12Error::Malformed));
    }

    const LEAF: &str = "bc8cd747a985142eb2073c3796b81c8284b711c4b20c251a0956490b5cb3eab3";
    const CA: &str = "49ed1cf6c13b22f760f1dfcdd0b2b7ae7a1231f46f3b659d3fb3bc2d690d8c2e";
    const FILE: &str = "\
    MIIFTAIBAzCCBQIGCSqGSIb3DQEHAaCCBPMEggTvMIIE6zCCA6IGCSqGSIb3DQEHBqCCA5MwggOPAgEAMIIDiAYJ\
    KoZIhvcNAQcBMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAj41czLGnpdFwICCAAwDAYIKoZIhvcNAgkF\
    ADAdBglghkgBZQMEASoEEHGJBNzBtCqJl/j0fBdq4OiAggMg5lClQNy3aJt4UO+HwZOgX1BkjUIONHDxRCmz3GRi\
    pj3oQBkoCGDcVUeI+rTaSbZTK2wjNw6jIU0xjbOLvKmli1PFP4phDy/V+lpVldlXg6FBzGS/DcIIpEzskt5aM3qT\
    wVyea8jNX1zEwNahS65BS8trOhGBT+Y/vJCQZVRyTbOhOnXo99gVgViWG6ESoMhCZ5r4xe+6WSzNNjWVIPDwiYsd\
    N8uTEfxxCZHq0gFQEk9y7Es4bO8OADH/HympQtGI27x7QgaDC5qeudYQEdemfHNuJQM1LUyUy/Xz6wxfs645DP0f\
    IRk87VEMO0ITNOmsqLmJ0GnR+0ckATSxgfyscmsD/7sV6O98nYjTOciqEgtG26uZ8p1UiBlaYdJjbgmIFNMY3frH\
    BolMry9sGeQ+gF8gg0rLv3R+l0JiteC9Ol381S7TdZeirw7FERLRAUhB1uwAHUhXt3xlFZHCDa8tSY4wQP/np4f9\
    iFMyffCD1NVb2dc1a3N95g5E7kWJXFkZFBpIWZYDWt0v/oRegPpDRWDj/ZBitPJ5L7OpIUmmCqHuhGKdgROqDYTf\
    tatbNRANgTANJCyhm49d15AfN2QLYwkhV/d6WMXL4cIYSvvhqhB8X3TIeehtF26t8Zu7pt7vCHxG6nqy6Kb+raTZ\
    +Q9gtYSvmvVIWB3tb/QBCqjjWT8YqdSKKXVzrv3naxuxGeZiJK04o//NCVp3Y6yQ27wW2WKwUCBJ+s2FXRQ5gR8d\
    tgucPUz9G+2uMPPB+hxQaMHPDW0ULAh1LXvuHIef9WbLU8yCIjYoDkGR5BJCK2ftJARh1MRBUgZQdvK65Eo7JPFE\
    DI8D4CCI2LLPNJfsOghi6OqhQc/6RKr8+riRx3xi2+m+EZNDQM1P6+xnPc+es43GLSVTdGqVZEOKatLVJPkLwZCU\
    mvW9cYt4H+etnLoWXIMroBAkIWdyZFG07O9dQN1nTT4OfLzsb89Mydk7gPovW+NmMT40gYFczcCd2fbI4Rx1E5m5\
    EFDRWNOvKgCc4MDVlPJ+qbefN7fF/oEnNmN2USDY3JMJadeFLqTdpcKOZwUwggFBBgkqhkiG9w0BBwGgggEyBIIB\
    LjCCASowggEmBgsqhkiG9w0BDAoBAqCB7zCB7DBXBgkqhkiG9w0BBQ0wSjApBgkqhkiG9w0BBQwwHAQIVla9me78\
    6I8CAggAMAwGCCqGSIb3DQIJBQAwHQYJYIZIAWUDBAEqBBBFXDMa39CcF1R6IMM0Ueo6BIGQrgRv/rj7q+tTT8x4\
    HBKuLRa/zHRbmn4AdCreCAQ0m0AbGJw6fZdb8cj4hRBkY92I9idiFLzuJ55XU1ssFXiEGE+6YjdzB+vNtm+3Ri9l\
    M1MtoOvIlGbOWi/n38SF0Ifeo3tfSZz7CFw8k+qflrAL28wgflbBlYB5VcKU3AJroYk8xGqDGRh41KhRG0kIKPyt\
    MSUwIwYJKoZIhvcNAQkVMRYEFFaKKL2GwmCfEU9spNG3KbnF3JNJMEEwMTANBglghkgBZQMEAgEFAAQgVMmlV+nH\
    uxw/VSB4IwrOKEWSkNCqjrehUpFkXnwdyrcECByhtOqMkXucAgIIAA==";
    /// `openssl pkcs12 -export -legacy`
    const OLD: &str = "\
    MIIDGgIBAzCCAuAGCSqGSIb3DQEHAaCCAtEEggLNMIICyTCCAb8GCSqGSIb3DQEHBqCCAbAwggGsAgEAMIIBpQYJ\
    KoZIhvcNAQcBMBwGCiqGSIb3DQEMAQYwDgQIbgJhhpUVzuECAggAgIIBeNT7vs4p9ym5PCELZa+DpS01VqBS5mJK\
    xy0k6TJZTpiWsShn39arhsMDqewWbbJh0YRhxbFyeuHINIMYqvJMe+6vbcVroHPzd7KFrcevkv9ONLWxDDPNaHaR\
    7ZotcQOvCsTGaSABL1VlY51RqQaPuNmL4gQj6nnOUr5oyHAuL0Ig5aE9b/11cUseOgoNv9GQGEhViCEgGHZEAWSq\
    xZR+IIxWRlR2jN/S6Um0JIU8mAZuKKAX+PPMp08V5QTBkQU+KKFw42a+rfQzxWjqocNwjwnC1irfzjnRcxi6c+5p\
    byAQOGneVZeSRPxQyIb4zrq1EpYWOFU6uVlMI77PwAd4ZDfwvw3gdStG6W5H82XLFKGCvQsS3AlIMo4CtIq+xZoL\
    rC8SeWCCfEog+858IgH6JKthLd2IC04yT2wdFmEVeI6UYzLxTK7ieH978fRKUr1ITsBpp7ikw0hX3AQbfKtVdusq\
    ZcDVNKCzJW2Csn6yYWHgGCjPUo/n71IwggECBgkqhkiG9w0BBwGggfQEgfEwge4wgesGCyqGSIb3DQEMCgECoIG0\
    MIGxMBwGCiqGSIb3DQEMAQMwDgQI9A14Ve8G8k8CAggABIGQaOTbAcGWeEO5B39g31rfiBqapYAY0ep6cSCeVaNV\
    8KHpXjlXZZQbRQf3txPfn2LN6yiBhV50l4eToXaXvOLC3nHMShEMoBL401S0MjjRDwsNjvhGglOm2lXfhHxwajQp\
    JpgGX9L4dV2xB6GhrShPsZI9Qfp3P6PCbqBrkGSOy+AxOwU1HUQFR2CYCOd878MiMSUwIwYJKoZIhvcNAQkVMRYE\
    FFaKKL2GwmCfEU9spNG3KbnF3JNJMDEwITAJBgUrDgMCGgUABBRblV7NDMrAculieEuXaKaN9gFTZQQIrOND+2ad\
    tPACAggA";
}
