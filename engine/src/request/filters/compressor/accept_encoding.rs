//! Which coding a client gets: what `Accept-Encoding` asks for, and what the compressors of a chain offer.
//!
//! Pure.

use crate::compression::Coding;

/// What a compressor of the chain offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Offer {
    pub(super) coding: Coding,
    /// Whether it is preferred to others that the client wants as much.
    pub(super) choose_first: bool,
}

/// What is decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::request) enum Decision {
    /// The client has named this coding.
    Compressor(Coding),
    /// The client takes any.
    Wildcard(Coding),
    /// The client would rather have it as it is.
    Identity,
    /// Nothing that is offered is accepted.
    NotValid,
}

impl Decision {
    /// The coding, if there is one.
    pub(super) const fn coding(self) -> Option<Coding> {
        match self {
            Self::Compressor(coding) | Self::Wildcard(coding) => Some(coding),
            Self::Identity | Self::NotValid => None,
        }
    }
}

const IDENTITY: &[u8] = b"identity";
const WILDCARD: &[u8] = b"*";

/// Decides as Envoy. `offers` are in the order of the chain; of several for one coding the first counts.
pub(super) fn choose(accept: &[u8], offers: impl IntoIterator<Item = Offer>) -> Decision {
    let mut allowed: Vec<Offer> = Vec::new();
    for offer in offers {
        if allowed.iter().all(|other| other.coding != offer.coding) {
            allowed.push(offer);
        }
    }
    let accepted: Vec<(&[u8], f32)> =
        accept.split(|&byte| byte == b',').filter_map(token).collect();
    for (name, quality) in &accepted {
        if *quality == 0.0 {
            allowed.retain(|offer| offer.coding.name().as_bytes() != *name);
        }
    }
    if accepted.is_empty() || allowed.is_empty() {
        return Decision::NotValid;
    }
    let find = |name: &[u8]| allowed.iter().find(|offer| offer.coding.name().as_bytes() == name);
    let (mut choice, mut best) = (IDENTITY, 0.0);
    for (name, quality) in accepted {
        let offer = find(name);
        if offer.is_none() && name != IDENTITY && name != WILDCARD {
            continue;
        }
        let is_first = offer.is_some_and(|offer| offer.choose_first);
        if quality > best || (quality == best && is_first) {
            (choice, best) = (name, quality);
        }
    }
    match (choice, find(choice), allowed.first()) {
        _ if best == 0.0 => Decision::NotValid,
        (WILDCARD, _, Some(first)) => Decision::Wildcard(first.coding),
        (_, Some(offer), _) => Decision::Compressor(offer.coding),
        _ => Decision::Identity,
    }
}

/// A coding and how much it is wanted; none if that is not a number.
fn token(token: &[u8]) -> Option<(&[u8], f32)> {
    if token.is_empty() {
        return None;
    }
    let mut parts = token.splitn(2, |&byte| byte == b';');
    let name = parts.next().unwrap_or_default().trim_ascii();
    let Some(parameter) = parts.next() else { return Some((name, 1.0)) };
    let mut parts = parameter.splitn(2, |&byte| byte == b'=');
    let key = parts.next().unwrap_or_default().trim_ascii();
    match parts.next() {
        Some(value) if key.eq_ignore_ascii_case(b"q") => {
            let value = std::str::from_utf8(value.trim_ascii()).ok()?;
            Some((name, value.parse().ok()?))
        }
        _ => Some((name, 1.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn offer(coding: Coding) -> Offer {
        Offer { coding, choose_first: false }
    }

    /// As Envoy 1.40 decides.
    #[test]
    fn the_client_gets_what_it_wants_most_of_what_is_offered() {
        use Coding::{Brotli, Gzip, Zstd};
        use Decision::{Compressor, Identity, NotValid, Wildcard};
        let all = [offer(Gzip), offer(Brotli), offer(Zstd)];
        for (accept, expected) in [
            ("gzip", Compressor(Gzip)),
            ("gzip, br", Compressor(Gzip)),
            ("br, gzip", Compressor(Brotli)),
            ("gzip;q=0.5, br;q=0.8", Compressor(Brotli)),
            ("gzip;q=0, br", Compressor(Brotli)),
            ("gzip;q=0, *", Wildcard(Brotli)),
            ("*", Wildcard(Gzip)),
            ("*;q=0", NotValid),
            ("identity", Identity),
            ("identity;q=0.9, gzip;q=0.5", Identity),
            ("identity;q=0.5, gzip;q=0.9", Compressor(Gzip)),
            ("deflate", NotValid),
            ("deflate, gzip;q=0.1", Compressor(Gzip)),
            ("", NotValid),
            ("gzip;q=x", NotValid),
            ("gzip;q=x, br", Compressor(Brotli)),
            ("gzip;level=3", Compressor(Gzip)),
            ("GZIP", NotValid),
            (" gzip ; Q = 0.4 ,br;q=0.3", Compressor(Gzip)),
            ("gzip;q=0, br;q=0, zstd;q=0", NotValid),
        ] {
            assert_eq!(choose(accept.as_bytes(), all), expected, "{accept:?}");
        }
    }

    #[test]
    fn of_codings_wanted_as_much_the_last_one_to_be_preferred_counts() {
        let preferred = |coding| Offer { coding, choose_first: true };
        let offers = [offer(Coding::Gzip), preferred(Coding::Brotli), preferred(Coding::Zstd)];
        let chosen = |accept: &[u8]| choose(accept, offers);
        assert_eq!(chosen(b"gzip, br"), Decision::Compressor(Coding::Brotli));
        assert_eq!(chosen(b"br, gzip"), Decision::Compressor(Coding::Brotli));
        assert_eq!(chosen(b"zstd, br"), Decision::Compressor(Coding::Brotli));
        assert_eq!(chosen(b"gzip, br;q=0.9"), Decision::Compressor(Coding::Gzip));
    }
}
