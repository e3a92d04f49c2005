//! The fields that concern one connection and are never passed on: RFC 9110 §7.6.1, in one list.
//! What else a request, a response or a trailer section loses on the way is said beside it.

use super::field_name::{FieldName, FieldSet};

/// Whatever `Connection` says of them.
const ONE_HOP: FieldSet = FieldSet::of(&[
    FieldName::Connection,
    FieldName::KeepAlive,
    FieldName::ProxyConnection,
    FieldName::TransferEncoding,
    FieldName::Upgrade,
]);

/// What an upgrade consists of.
const UPGRADE: FieldSet = FieldSet::of(&[FieldName::Connection, FieldName::Upgrade]);

/// Of a request. `HTTP2-Settings` belongs to an upgrade to h2c, which is never passed on.
pub const ONE_HOP_OF_REQUESTS: FieldSet = ONE_HOP.with(&[FieldName::Http2Settings]);

/// Of a request whose upgrade is passed on.
pub const ONE_HOP_OF_UPGRADES: FieldSet = ONE_HOP_OF_REQUESTS.without(UPGRADE);

/// Of a response, once the route has changed it. As in Envoy, a `Keep-Alive` that a route adds goes to
/// the client; the origin's is removed before.
pub const ONE_HOP_OF_RESPONSES: FieldSet = ONE_HOP.without(FieldSet::of(&[FieldName::KeepAlive]));

/// Of a response whose upgrade is passed on.
pub const ONE_HOP_OF_UPGRADED: FieldSet = ONE_HOP_OF_RESPONSES.without(UPGRADE);

/// Of trailers: what is for one hop as a field is no less so as a trailer. Envoy passes them on.
pub const ONE_HOP_OF_TRAILERS: FieldSet = ONE_HOP.with(&[FieldName::Expect, FieldName::Te]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_keeps_what_it_consists_of_and_nothing_else() {
        for (whole, upgrade) in [
            (ONE_HOP_OF_REQUESTS, ONE_HOP_OF_UPGRADES),
            (ONE_HOP_OF_RESPONSES, ONE_HOP_OF_UPGRADED),
        ] {
            assert_eq!(upgrade.or(UPGRADE), whole);
            assert!(upgrade.is_disjoint(UPGRADE));
            assert!(upgrade.has(FieldName::TransferEncoding));
        }
        assert!(!ONE_HOP_OF_RESPONSES.has(FieldName::KeepAlive));
        assert!(ONE_HOP_OF_TRAILERS.has(FieldName::KeepAlive));
    }
}
