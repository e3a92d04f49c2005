//! Private keys, also encrypted ones.

use aws_lc_rs::cipher::{
    AES_128, AES_256, Algorithm, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::pbkdf2;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::transport::tls::der::{Der, NULL, OCTET_STRING, OID};

/// Why a private key cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// There is none in the text.
    #[error("this is not a private key in PEM")]
    NoKey,
    /// It needs a password.
    #[error("this private key is encrypted, and there is no `password`")]
    NoPassword,
    /// It cannot be decrypted.
    #[error("this private key cannot be decrypted with the `password`")]
    WrongPassword,
    /// The encryption is none of PKCS #5 version 2 with AES.
    #[error(
        "the encryption of this private key is not supported; `openssl pkcs8 -topk8 -v2 aes-256-cbc` \
         writes one that is"
    )]
    Encryption,
}

const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9];
const HMAC_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 10];
const HMAC_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 11];
const HMAC_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 7];
const AES128_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 1, 2];
const AES256_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 101, 3, 4, 1, 42];

/// Reads the first private key in a PEM text.
///
/// # Errors
/// There is none, or it cannot be decrypted.
pub fn private_key(
    pem: &[u8],
    password: Option<&[u8]>,
) -> Result<PrivateKeyDer<'static>, KeyError> {
    let text = String::from_utf8_lossy(pem);
    if let Some(encrypted) = block(&text, "ENCRYPTED PRIVATE KEY") {
        let password = password.ok_or(KeyError::NoPassword)?;
        let key = decrypt(&encrypted, password)?;
        return Ok(PrivatePkcs8KeyDer::from(key).into());
    }
    if text.contains("DEK-Info:") {
        return Err(if password.is_some() { KeyError::Encryption } else { KeyError::NoPassword });
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::NoKey)
}

/// The content of the first PEM block with this label.
fn block(text: &str, label: &str) -> Option<Vec<u8>> {
    use base64::Engine as _;
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    let body: String = body.split_whitespace().collect();
    base64::engine::general_purpose::STANDARD.decode(body).ok()
}

/// Decrypts an `EncryptedPrivateKeyInfo`.
pub(super) fn decrypt(encrypted: &[u8], password: &[u8]) -> Result<Vec<u8>, KeyError> {
    let parts = || {
        let mut info = Der::new(encrypted).sequence()?;
        Some((info.sequence()?, info.take(OCTET_STRING)?))
    };
    let (scheme, text) = parts().ok_or(KeyError::Encryption)?;
    decrypt_content(scheme, text, password)
}

/// Decrypts a text, which is a sequence, by this `AlgorithmIdentifier`.
pub(super) fn decrypt_content(
    scheme: Der<'_>,
    text: &[u8],
    password: &[u8],
) -> Result<Vec<u8>, KeyError> {
    let Parts { algorithm, hash, salt, iterations, iv } =
        Parts::read(scheme).ok_or(KeyError::Encryption)?;
    let mut key = [0; 32];
    let length = if algorithm == &AES_128 { 16 } else { 32 };
    let key = key.get_mut(..length).ok_or(KeyError::Encryption)?;
    pbkdf2::derive(hash, iterations, salt, password, key);
    let wrong = |_| KeyError::WrongPassword;
    let key = UnboundCipherKey::new(algorithm, key).map_err(wrong)?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).map_err(wrong)?;
    let mut text = text.to_vec();
    let context = DecryptionContext::Iv128(FixedLength::from(iv));
    let key = key.decrypt(&mut text, context).map_err(wrong)?;
    // Padding alone proves little.
    Der::new(key).sequence().ok_or(KeyError::WrongPassword)?;
    Ok(key.to_vec())
}

/// The parameters of PBES2.
struct Parts<'a> {
    algorithm: &'static Algorithm,
    hash: pbkdf2::Algorithm,
    salt: &'a [u8],
    iterations: std::num::NonZeroU32,
    iv: &'a [u8; 16],
}

/// More iterations of a key derivation would keep the control plane busy for seconds.
pub(super) const ITERATIONS_MAX: u64 = 10_000_000;

impl<'a> Parts<'a> {
    fn read(mut scheme: Der<'a>) -> Option<Self> {
        (scheme.take(OID)? == PBES2).then_some(())?;
        let mut parameters = scheme.sequence()?;
        let (mut derivation, mut cipher) = (parameters.sequence()?, parameters.sequence()?);
        (derivation.take(OID)? == PBKDF2).then_some(())?;
        let mut derivation = derivation.sequence()?;
        let salt = derivation.take(OCTET_STRING)?;
        let iterations =
            derivation.unsigned().filter(|&iterations| iterations <= ITERATIONS_MAX)?;
        let iterations = u32::try_from(iterations).ok()?;
        // The key length follows from the cipher.
        if derivation.tag() == Some(crate::transport::tls::der::INTEGER) {
            derivation.unsigned()?;
        }
        let hash = match derivation.sequence() {
            None => HMAC_SHA1,
            Some(mut hash) => {
                let name = hash.take(OID)?;
                hash.take_if(NULL);
                name
            }
        };
        let hash = match hash {
            HMAC_SHA1 => pbkdf2::PBKDF2_HMAC_SHA1,
            HMAC_SHA256 => pbkdf2::PBKDF2_HMAC_SHA256,
            HMAC_SHA384 => pbkdf2::PBKDF2_HMAC_SHA384,
            HMAC_SHA512 => pbkdf2::PBKDF2_HMAC_SHA512,
            _ => return None,
        };
        let algorithm = match cipher.take(OID)? {
            AES128_CBC => &AES_128,
            AES256_CBC => &AES_256,
            _ => return None,
        };
        let iv = cipher.take(OCTET_STRING)?.try_into().ok()?;
        let iterations = std::num::NonZeroU32::new(iterations)?;
        Some(Self { algorithm, hash, salt, iterations, iv })
    }
}
