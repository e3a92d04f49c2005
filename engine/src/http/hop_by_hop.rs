//! Hop-by-hop fields (RFC 9110 §7.6.1), which are never passed on, and what else is removed from
//! requests, responses and trailers.

use super::field_name::{FieldName, FieldSet};

/// Removed whether or not `Connection` names them. HTTP/2 does not have them (RFC 9113 §8.2.2).
pub const HOP_BY_HOP: FieldSet = FieldSet::of(&[
    FieldName::Connection,
    FieldName::KeepAlive,
    FieldName::ProxyConnection,
    FieldName::TransferEncoding,
    FieldName::Upgrade,
]);

/// The fields of an upgrade.
const UPGRADE: FieldSet = FieldSet::of(&[FieldName::Connection, FieldName::Upgrade]);

/// For requests. `HTTP2-Settings` belongs to an upgrade to h2c, which is never passed on.
pub const HOP_BY_HOP_OF_REQUESTS: FieldSet = HOP_BY_HOP.with(&[FieldName::Http2Settings]);

/// For requests whose upgrade is passed on.
pub const HOP_BY_HOP_OF_UPGRADES: FieldSet = HOP_BY_HOP_OF_REQUESTS.without(UPGRADE);

/// For responses, after the route's header changes. As in Envoy, a `Keep-Alive` that a route adds is
/// sent to the client; the origin's is removed before.
pub const HOP_BY_HOP_OF_RESPONSES: FieldSet =
    HOP_BY_HOP.without(FieldSet::of(&[FieldName::KeepAlive]));

/// For responses whose upgrade is passed on.
pub const HOP_BY_HOP_OF_UPGRADED: FieldSet = HOP_BY_HOP_OF_RESPONSES.without(UPGRADE);

/// For trailers: a hop-by-hop field is one in trailers, too. Envoy passes them on.
pub const HOP_BY_HOP_OF_TRAILERS: FieldSet = HOP_BY_HOP.with(&[FieldName::Expect, FieldName::Te]);

//= rfc9110#6.5.1
// "A sender MUST NOT generate a trailer field unless the sender knows the corresponding header
// field name's definition permits sending that field in trailers": it does not for these, and a
// server after us could act on them.
/// What a trailer cannot be, in any version.
pub const NEVER_TRAILERS: FieldSet =
    FieldSet::of(&[FieldName::ContentLength, FieldName::Host, FieldName::TransferEncoding]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_keeps_its_own_fields_and_no_others() {
        for (whole, upgrade) in [
            (HOP_BY_HOP_OF_REQUESTS, HOP_BY_HOP_OF_UPGRADES),
            (HOP_BY_HOP_OF_RESPONSES, HOP_BY_HOP_OF_UPGRADED),
        ] {
            assert_eq!(upgrade.or(UPGRADE), whole);
            assert!(upgrade.is_disjoint(UPGRADE));
            assert!(upgrade.has(FieldName::TransferEncoding));
        }
        assert!(!HOP_BY_HOP_OF_RESPONSES.has(FieldName::KeepAlive));
        assert!(HOP_BY_HOP_OF_TRAILERS.has(FieldName::KeepAlive));
    }
}
