//! Session tickets: sessions that the client keeps, encrypted with keys that all shards have. Nothing
//! is locked or counted: the keys are part of the context.
//!
//! Each ticket has a key of its own, derived with a random salt, so a configured key may be used for
//! any number of tickets.
//!
//! A ticket carries the time of the full handshake that began its chain of resumptions, and each ticket of
//! a resumed session inherits it: however often a client resumes, the chain ends as it does in BoringSSL.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;

/// How long tickets may be used, in seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lifetimes {
    /// Of a ticket, from when it was issued.
    pub ticket: u32,
    /// Of all tickets that descend from one full handshake, from that handshake.
    pub chain: u32,
}

impl Lifetimes {
    /// In TLS 1.2 if nothing else is configured. Envoy's default.
    pub const TLS12_DEFAULT: u32 = 2 * 60 * 60;
    /// In TLS 1.3, as in Envoy: two days, and seven for the chain. A resumption has key material of its own,
    /// so that a new ticket lasts its full time.
    pub const TLS13: Self = Self { ticket: 2 * 24 * 60 * 60, chain: 7 * 24 * 60 * 60 };

    /// In TLS 1.2: a resumption has no new key material, and does not extend anything.
    #[must_use]
    pub const fn tls12(configured: Option<u32>) -> Self {
        let seconds = match configured {
            Some(seconds) => seconds,
            None => Self::TLS12_DEFAULT,
        };
        Self { ticket: seconds, chain: seconds }
    }
}

const NAME: usize = 16;
const SALT: usize = 32;

/// What a ticket says besides the session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Times {
    /// When the chain began, in seconds since 1970.
    handshake: u64,
    /// When the ticket was issued, in seconds since 1970.
    issued: u64,
}

impl Times {
    const LENGTH: usize = 16;

    fn encode(self) -> [u8; Self::LENGTH] {
        ((u128::from(self.handshake) << u64::BITS) | u128::from(self.issued)).to_be_bytes()
    }

    fn split(text: &[u8]) -> Option<(Self, &[u8])> {
        let (handshake, rest) = text.split_first_chunk()?;
        let (issued, session) = rest.split_first_chunk()?;
        let [handshake, issued] = [handshake, issued].map(|it| u64::from_be_bytes(*it));
        Some((Self { handshake, issued }, session))
    }
}

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
    /// How long tickets may be used.
    pub lifetimes: Lifetimes,
}

impl Ticketer {
    fn encrypt(&self, session: &[u8], times: Times) -> Option<Vec<u8>> {
        let key = self.keys.first()?;
        let mut salt = [0; SALT];
        rand::fill(&mut salt).ok()?;
        let mut text = Vec::with_capacity(Times::LENGTH + session.len() + AES_256_GCM.tag_len());
        text.extend_from_slice(&times.encode());
        text.extend_from_slice(session);
        let aad = Aad::from(self.aad(&key.name));
        // The key is used once.
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        key.of_ticket(&salt)?.seal_in_place_append_tag(nonce, aad, &mut text).ok()?;
        Some([&key.name[..], &salt, &text].concat())
    }

    /// The session, and when its chain began.
    fn decrypt(&self, ticket: &[u8], now: u64) -> Option<(Vec<u8>, u64)> {
        let (name, rest) = ticket.split_at_checked(NAME)?;
        let (salt, text) = rest.split_at_checked(SALT)?;
        let key = self.keys.iter().find(|key| key.name == name)?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let aad = Aad::from(self.aad(&key.name));
        let text = key.of_ticket(salt)?.open_in_place(nonce, aad, &mut text).ok()?;
        let (Times { handshake, issued }, session) = Times::split(text)?;
        let Lifetimes { ticket, chain } = self.lifetimes;
        let is_within = |start: u64, seconds: u32| now.saturating_sub(start) <= seconds.into();
        (is_within(issued, ticket) && is_within(handshake, chain))
            .then(|| (session.to_vec(), handshake))
    }

    fn aad(&self, name: &[u8; NAME]) -> Vec<u8> {
        [&name[..], &self.identity].concat()
    }
}

/// Makes the tickets of one connection. rustls shows the ticket that the client offers and asks for new ones,
/// but does not say that they belong together: they do, because the connection is one.
#[derive(Debug)]
pub struct ConnectionTicketer {
    ticketer: Arc<Ticketer>,
    /// When the chain began that the offered ticket belongs to, in seconds since 1970; 0: there is none. If
    /// rustls then does not resume (the ticket is for another server name), the new chain ends earlier than
    /// it could.
    handshake: AtomicU64,
}

impl ConnectionTicketer {
    /// For a connection that has not begun.
    #[must_use]
    pub const fn new(ticketer: Arc<Ticketer>) -> Self {
        Self { ticketer, handshake: AtomicU64::new(0) }
    }

    fn times(&self) -> Times {
        let now = now();
        let handshake = match self.handshake.load(Relaxed) {
            0 => now,
            handshake => handshake,
        };
        Times { handshake, issued: now }
    }
}

impl ProducesTickets for ConnectionTicketer {
    fn enabled(&self) -> bool {
        true
    }

    /// What is left of the chain, at most the lifetime of a ticket.
    fn lifetime(&self) -> u32 {
        let Times { handshake, issued: now } = self.times();
        let Lifetimes { ticket, chain } = self.ticketer.lifetimes;
        let left = u64::from(chain).saturating_sub(now.saturating_sub(handshake));
        u32::try_from(left).map_or(ticket, |left| left.min(ticket))
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.ticketer.encrypt(session, self.times())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (session, handshake) = self.ticketer.decrypt(ticket, now())?;
        self.handshake.store(handshake, Relaxed);
        Some(session)
    }
}

#[cfg(not(test))]
fn now() -> u64 {
    rustls::pki_types::UnixTime::now().as_secs()
}

#[cfg(test)]
use tests::now;

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use rustls::pki_types::UnixTime;
    use rustls::server::ProducesTickets as _;

    use super::{ConnectionTicketer, Lifetimes, TicketKey, Ticketer, Times};

    thread_local! {
        static PASSED: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn now() -> u64 {
        UnixTime::now().as_secs() + PASSED.get()
    }

    /// Lets this many seconds pass for all tickets of this thread.
    pub(in super::super) fn pass(seconds: u32) {
        PASSED.set(PASSED.get() + u64::from(seconds));
    }

    const START: Times = Times { handshake: 1000, issued: 1000 };

    fn ticketer(keys: &[u8], identity: u8) -> Ticketer {
        let key = |&byte| TicketKey::new(&[byte; TicketKey::LENGTH]);
        let keys = keys.iter().map(key).collect();
        Ticketer {
            keys,
            identity: [identity; 32],
            lifetimes: Lifetimes { ticket: 100, chain: 250 },
        }
    }

    #[test]
    fn a_rotated_key_still_decrypts_and_an_unknown_one_does_not() {
        let ticket = ticketer(&[1], 0).encrypt(b"session", START).unwrap();
        for (keys, expected) in [(&[1][..], true), (&[2, 1], true), (&[2], false)] {
            let session = ticketer(keys, 0).decrypt(&ticket, 1000);
            let session = session.map(|(session, _)| session);
            assert_eq!(session.as_deref(), expected.then_some(&b"session"[..]), "{keys:?}");
        }
    }

    #[test]
    fn a_ticket_of_another_context_or_an_old_one_is_not_accepted() {
        let ticket = ticketer(&[1], 0).encrypt(b"session", START).unwrap();
        assert_eq!(ticketer(&[1], 1).decrypt(&ticket, 1000), None);
        assert!(ticketer(&[1], 0).decrypt(&ticket, 1100).is_some());
        assert_eq!(ticketer(&[1], 0).decrypt(&ticket, 1101), None);
    }

    #[test]
    fn a_changed_ticket_is_not_accepted() {
        let ticketer = ticketer(&[1], 0);
        let ticket = ticketer.encrypt(b"session", START).unwrap();
        for i in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[i] ^= 1;
            assert_eq!(ticketer.decrypt(&changed, 1000), None, "byte {i}");
            assert_eq!(ticketer.decrypt(&ticket[..i], 1000), None, "{i} bytes");
        }
    }

    #[test]
    fn a_ticket_ends_with_its_chain() {
        let renewed = Times { handshake: 1000, issued: 1200 };
        let ticket = ticketer(&[1], 0).encrypt(b"session", renewed).unwrap();
        let session = ticketer(&[1], 0).decrypt(&ticket, 1250);
        assert_eq!(session, Some((b"session".to_vec(), 1000)));
        assert_eq!(ticketer(&[1], 0).decrypt(&ticket, 1251), None);
    }

    #[test]
    fn the_client_learns_what_is_left_of_the_chain() {
        let ticketer = Arc::new(ticketer(&[1], 0));
        let resumed_after = |seconds| {
            let times = Times { handshake: now() - seconds, issued: now() };
            let offered = ticketer.encrypt(b"session", times).unwrap();
            let connection = ConnectionTicketer::new(Arc::clone(&ticketer));
            assert_eq!(connection.lifetime(), 100);
            assert_eq!(connection.decrypt(&offered).as_deref(), Some(&b"session"[..]));
            connection.lifetime()
        };
        assert_eq!(resumed_after(10), 100);
        // The clock may move on meanwhile.
        let left = resumed_after(200);
        assert!((40..=50).contains(&left), "{left}");
    }
}
