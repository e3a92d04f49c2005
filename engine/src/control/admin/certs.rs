//! `/certs`: the certificates of listeners and clusters.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint, json};
use crate::transport::tls::certificate::AlternativeName;
use crate::transport::tls::inventory::{Installed, Inventory};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/certs",
    effect: Effect::Shows,
    help: "print certs on machine",
    parameters: &[],
    answer: |admin, _| {
        let text = text(&admin.server.certificates(), Timestamp::now().as_second());
        Reply::text(text).with_content_type("application/json")
    },
};

/// The certificates at `now`, in seconds since 1970.
fn text(inventories: &[Arc<Inventory>], now: i64) -> String {
    let contexts = inventories.iter().map(|inventory| {
        let shown = |installed| certificate(installed, now);
        json!({
            "ca_cert": inventory.authority.iter().map(shown).collect::<Value>(),
            "cert_chain": inventory.own.iter().map(shown).collect::<Value>(),
        })
    });
    let text = json::pretty(&json!({ "certificates": contexts.collect::<Value>() }));
    // As protobuf's JSON has it: `<inline>`.
    text.replace('<', r"\u003c").replace('>', r"\u003e")
}

fn certificate(installed: &Installed, now: i64) -> Value {
    let details = installed.certificate.details();
    let names = details.names.iter().map(|name| match name {
        AlternativeName::Dns(name) => json!({ "dns": name }),
        AlternativeName::IpAddress(address) => json!({ "ip_address": address }),
        AlternativeName::Uri(uri) => json!({ "uri": uri }),
    });
    let mut shown = json!({
        "path": installed.path,
        "serial_number": details.serial,
        "subject_alt_names": names.collect::<Value>(),
        "days_until_expiration": installed.days_left(now).to_string(),
        "valid_from": time(details.not_before),
        "expiration_time": time(details.not_after),
    });
    if let (Some((from, until)), Some(shown)) = (installed.ocsp, shown.as_object_mut()) {
        let ocsp = json!({ "valid_from": time(from), "expiration": time(until) });
        shown.insert("ocsp_details".to_owned(), ocsp);
    }
    shown
}

/// A time as in RFC 3339.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Registry;
    use crate::transport::tls::recorded::{ALTERNATIVE_NAMES, ISSUER, SERVER, certificate};

    fn installed(recording: &str, path: &str) -> Installed {
        Installed {
            certificate: certificate(recording),
            path: path.to_owned(),
            secret: String::new(),
            ocsp: None,
        }
    }

    #[test]
    fn certificates_are_shown_as_envoy_has_shown_them() {
        let recorded = include_str!("../../../tests/envoy/certificates/certs.json");
        let own = vec![installed(SERVER, "srv2.pem"), installed(ALTERNATIVE_NAMES, "<inline>")];
        let authority = Some(installed(ISSUER, "ca.pem"));
        let inventory = Inventory::new(
            "listener a".into(),
            authority,
            own,
            &Registry::new(1),
            "listener.a.ssl.",
        );
        assert_eq!(text(&[Arc::new(inventory)], 1_795_996_067), recorded);
    }

    #[test]
    fn a_stapled_response_has_its_own_validity() {
        let mut with_response = installed(SERVER, "srv2.pem");
        with_response.ocsp = Some((1_795_996_067, 1_796_082_467));
        assert_eq!(
            super::certificate(&with_response, 0)["ocsp_details"],
            json!({ "valid_from": "2026-11-29T23:47:47Z", "expiration": "2026-11-30T23:47:47Z" })
        );
    }
}
