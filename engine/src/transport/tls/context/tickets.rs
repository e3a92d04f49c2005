//! Session tickets: sessions that the client keeps, encrypted with keys that all shards have. Nothing
//! is locked or counted: the keys are part of the context.
//!
//! Each ticket has a key of its own, derived with a random salt, so a configured key may be used for
//! any number of tickets.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use rustls::pki_types::UnixTime;
use rustls::server::ProducesTickets;

/// How long a client may use a ticket of TLS 1.2, in seconds. Envoy's default.
pub const TLS12_LIFETIME: u32 = 2 * 60 * 60;
/// How long a client may use a ticket of TLS 1.3, in seconds, as in Envoy.
pub const TLS13_LIFETIME: u32 = 2 * 24 * 60 * 60;

const NAME: usize = 16;
const SALT: usize = 32;
const TIME: usize = 8;

/// A key for tickets: a name, and a secret of 64 bytes.
#[derive(Clone, Eq, PartialEq)]
pub struct TicketKey {
    name: [u8; NAME],
    secret: [u8; Self::LENGTH - NAME],
}

impl TicketKey {
    /// How long a configured key is.
    pub const LENGTH: usize = 80;

    /// A configured key.
    #[must_use]
    pub fn new(bytes: &[u8; Self::LENGTH]) -> Self {
        let (mut name, mut secret) = ([0; NAME], [0; Self::LENGTH - NAME]);
        let (first, rest) = bytes.split_at(NAME);
        name.copy_from_slice(first);
        secret.copy_from_slice(rest);
        Self { name, secret }
    }

    /// A random key; none: the system has no random numbers.
    #[must_use]
    pub fn random() -> Option<Self> {
        let mut bytes = [0; Self::LENGTH];
        rand::fill(&mut bytes).ok()?;
        Some(Self::new(&bytes))
    }

    /// The key of the ticket with this salt.
    fn of_ticket(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let secret = Salt::new(HKDF_SHA256, salt).extract(&self.secret);
        let key = secret.expand(&[b"corvoy session ticket"], &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKey").finish_non_exhaustive()
    }
}

/// Makes the tickets of one context and one version of TLS.
#[derive(Clone, Debug)]
pub struct Ticketer {
    /// The first one encrypts, all decrypt.
    pub keys: Vec<TicketKey>,
    /// Tickets of a context with another identity are not accepted.
    pub identity: [u8; 32],
    /// In seconds.
    pub lifetime: u32,
}

impl Ticketer {
    fn encrypt_at(&self, session: &[u8], now: u64) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let mut salt = [0; SALT];
        rand::fill(&mut salt).ok()?;
        let mut text = Vec::with_capacity(TIME + session.len() + AES_256_GCM.tag_len());
        text.extend_from_slice(&now.to_be_bytes());
        text.extend_from_slice(session);
        let aad = Aad::from(self.aad(&key.name));
        // The key is used once.
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        key.of_ticket(&salt)?.seal_in_place_append_tag(nonce, aad, &mut text).ok()?;
        Some([&key.name[..], &salt, &text].concat())
    }

    fn decrypt_at(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (salt, text) = rest.split_at_checked(SALT)?;
        let key = self.keys.iter().find(|key| key.name == name)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let aad = Aad::from(self.aad(&key.name));
        let text = key.of_ticket(salt)?.open_in_place(nonce, aad, &mut text).ok()?;
        let (made, session) = text.split_at_checked(TIME)?;
        let made = u64::from_be_bytes(made.try_into().ok()?);
        let age = now.saturating_sub(made);
        (age <= u64::from(self.lifetime)).then(|| session.to_vec())
    }

    fn aad(&self, name: &[u8; NAME]) -> Vec<u8> {
        [&name[..], &self.identity].concat()
    }
}

impl ProducesTickets for Ticketer {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, UnixTime::now().as_secs())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(cipher, UnixTime::now().as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::{TicketKey, Ticketer};

    fn ticketer(keys: &[u8], identity: u8) -> Ticketer {
        let key = |&byte| TicketKey::new(&[byte; TicketKey::LENGTH]);
        let keys = keys.iter().map(key).collect();
        Ticketer { keys, identity: [identity; 32], lifetime: 100 }
    }

    #[test]
    fn a_rotated_key_still_decrypts_and_an_unknown_one_does_not() {
        let ticket = ticketer(&[1], 0).encrypt_at(b"session", 1000).unwrap();
        for (keys, expected) in [(&[1][..], true), (&[2, 1], true), (&[2], false)] {
            let session = ticketer(keys, 0).decrypt_at(&ticket, 1000);
            assert_eq!(session.as_deref(), expected.then_some(&b"session"[..]), "{keys:?}");
        }
    }

    #[test]
    fn a_ticket_of_another_context_or_an_old_one_is_not_accepted() {
        let ticket = ticketer(&[1], 0).encrypt_at(b"session", 1000).unwrap();
        assert_eq!(ticketer(&[1], 1).decrypt_at(&ticket, 1000), None);
        assert!(ticketer(&[1], 0).decrypt_at(&ticket, 1100).is_some());
        assert_eq!(ticketer(&[1], 0).decrypt_at(&ticket, 1101), None);
    }

    #[test]
    fn a_changed_ticket_is_not_accepted() {
        let ticketer = ticketer(&[1], 0);
        let ticket = ticketer.encrypt_at(b"session", 1000).unwrap();
        for i in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[i] ^= 1;
            assert_eq!(ticketer.decrypt_at(&changed, 1000), None, "byte {i}");
            assert_eq!(ticketer.decrypt_at(&ticket[..i], 1000), None, "{i} bytes");
        }
    }
}
