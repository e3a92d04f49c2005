//! What is known of TLS connections, and who is told.

use rcgen::SanType;
use serde_json::Value;

use crate::support::{Config, Origin, Proxy, Tls, is_oracle};

/// A client with a certificate for a URI and a host.
fn known_client() -> Tls {
    let uri = SanType::URI("spiffe://test/client".try_into().unwrap());
    let dns = SanType::DnsName("client.test".try_into().unwrap());
    Tls::new().with_client_certificate(vec![uri, dns])
}

/// The lines of a request that say who the client is.
fn told(request: &str) -> Vec<&str> {
    request.lines().filter(|line| line.starts_with("x-forwarded-client-cert:")).collect()
}

/// The stat of the only listener with this name after `ssl.`.
fn ssl(proxy: &Proxy, name: &str) -> u64 {
    let stats = proxy.stats();
    let is_it =
        |full: &str| full.starts_with("listener.127") && full.ends_with(&format!(".ssl.{name}"));
    let found = stats.iter().find(|(full, _)| is_it(full));
    *found.unwrap_or_else(|| panic!("there is no stat {name}: {stats:?}")).1
}

#[test]
fn an_origin_is_told_of_the_certificate_also_when_the_session_is_resumed() {
    for version in rustls::ALL_VERSIONS {
        let (tls, origin) = (known_client().with_version(version), Origin::that_echoes());
        let proxy = Proxy::with(
            Config::to(&origin)
                .tls(&tls)
                .manager("forward_client_cert_details: SANITIZE_SET")
                .manager(
                    "set_current_client_cert_details: { subject: true, uri: true, dns: true }",
                ),
        );
        let mut lines = Vec::new();
        for is_resumed in [false, true] {
            let mut client = proxy.connect_tls(&tls);
            client
                .send("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: Hash=forged\r\n\r\n");
            let response = client.response();
            lines.push(told(&response.text()).join("\n"));
            assert_eq!(client.wire().session().is_resumed(), is_resumed);
        }
        let (before, after) = lines[0].split_once(';').unwrap();
        assert_eq!(before.len(), "x-forwarded-client-cert: Hash=".len() + 64, "{before}");
        assert_eq!(after, "Subject=\"CN=client\";URI=spiffe://test/client;DNS=client.test");
        assert_eq!(lines[0], lines[1]);
        assert_eq!(ssl(&proxy, "handshake"), 2);
        assert_eq!(ssl(&proxy, "session_reused"), 1);
        assert_eq!(ssl(&proxy, "no_certificate"), 0);
        assert!(ssl(&proxy, "sigalgs.ecdsa_secp256r1_sha256") >= 1);
    }
}

#[test]
fn a_client_without_a_certificate_cannot_forge_one() {
    let (tls, origin) = (Tls::new(), Origin::that_echoes());
    for mode in ["SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET"] {
        let mode = format!("forward_client_cert_details: {mode}");
        let proxy = Proxy::with(Config::to(&origin).tls(&tls).manager(&mode));
        let mut client = proxy.connect_tls(&tls);
        client.send("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-client-cert: Hash=forged\r\n\r\n");
        assert_eq!(told(&client.response().text()), [""; 0], "{mode}");
    }
}

#[test]
fn a_request_over_tls_is_https() {
    let (tls, origin) = (Tls::new(), Origin::that_echoes());
    let proxy = Proxy::with(Config::to(&origin).tls(&tls).manager("use_remote_address: true"));
    let mut client = proxy.connect_tls(&tls);
    client.send("GET https://a/ HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: http\r\n\r\n");
    assert!(client.response().text().contains("\r\nx-forwarded-proto: https\r\n"));
}

#[test]
fn formats_show_the_connection_and_both_certificates() {
    let format = "%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% \
                  %DOWNSTREAM_PEER_SUBJECT% %DOWNSTREAM_PEER_ISSUER% %DOWNSTREAM_PEER_URI_SAN% \
                  %DOWNSTREAM_LOCAL_DNS_SAN% %DOWNSTREAM_PEER_CERT_V_START(%Y)%";
    let serials = "%DOWNSTREAM_PEER_SERIAL% %DOWNSTREAM_PEER_ISSUER_SERIAL% %DOWNSTREAM_TLS_SESSION_ID% %DOWNSTREAM_TLS_GROUP%";
    let reply = format!(
        "local_reply_config: {{ body_format: {{ text_format_source: \
         {{ inline_string: '{format} | {serials}' }} }} }}"
    );
    for (version, expected) in [
        (&rustls::version::TLS12, "TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256"),
        (&rustls::version::TLS13, "TLSv1.3 TLS_AES_256_GCM_SHA384"),
    ] {
        let tls = known_client().with_version(version);
        let proxy = Proxy::with(Config::to_addresses(&[]).tls(&tls).manager(&reply));
        let response = proxy.connect_tls(&tls).get("/");
        assert_eq!(response.status(), 503);
        let text = response.text();
        let (first, second) = text.split_once(" | ").unwrap();
        assert_eq!(
            first,
            format!("{expected} CN=client CN=authority spiffe://test/client a.test 1975")
        );
        let values: Vec<_> = second.split_ascii_whitespace().collect();
        let [serial, issuer, session, group] = values[..] else { panic!("{second}") };
        assert!(serial.len() >= 16 && issuer.len() >= 16 && serial != issuer, "{second}");
        assert!(group.starts_with("X25519"), "{group}");
        // Envoy has none if the client gets a ticket.
        let has_session = *version == rustls::version::TLS12 && !is_oracle();
        assert_eq!(session.len(), if has_session { 64 } else { 1 }, "{session}");
    }
}

/// A chain with two virtual hosts: one that knows clients by their certificates, and one for all other names.
fn of_one_shop(tls: &Tls) -> Config {
    let socket = tls.downstream();
    Config::verbatim(format!(
        r#"
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources:
  listeners:
  - name: front
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - {socket}
      filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: shop
              domains: ["shop.example", "shop.example:*"]
              routes:
              - match: {{ prefix: /, tls_context: {{ presented: true, validated: true }} }}
                direct_response: {{ status: 200, body: {{ inline_string: known }} }}
              - match: {{ prefix: / }}
                direct_response: {{ status: 200, body: {{ inline_string: unknown }} }}
            - name: misdirected
              domains: ["*"]
              routes: [{{ match: {{ prefix: / }}, direct_response: {{ status: 421 }} }}]
"#
    ))
}

#[test]
fn a_host_of_another_chain_can_be_refused() {
    let tls = Tls::new();
    let proxy = Proxy::with(of_one_shop(&tls));
    let mut client = proxy.connect_tls(&tls);
    for (host, status) in [("shop.example", 200), ("shop.example:8443", 200), ("bank.example", 421)]
    {
        client.send(format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n"));
        assert_eq!(client.response().status(), status, "{host}");
    }
}

#[test]
fn a_route_for_clients_with_certificates_is_the_same_for_resumed_sessions() {
    let ask = "GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n";
    for version in rustls::ALL_VERSIONS {
        let tls = known_client().with_version(version);
        let proxy = Proxy::with(of_one_shop(&tls));
        for is_resumed in [false, true] {
            let mut client = proxy.connect_tls(&tls);
            let forgotten = is_oracle() && is_resumed;
            let expected = if forgotten { "unknown" } else { "known" };
            assert_eq!(client.send(ask).response().text(), expected);
            assert_eq!(client.wire().session().is_resumed(), is_resumed);
        }
    }
    let tls = Tls::new();
    let proxy = Proxy::with(of_one_shop(&tls));
    assert_eq!(proxy.connect_tls(&tls).send(ask).response().text(), "unknown");
}

#[test]
fn the_certificates_of_a_proxy_are_listed() {
    let (tls, origin) = (known_client(), Origin::that_echoes());
    let proxy = Proxy::with(Config::to(&origin).tls(&tls));
    let shown: Value = serde_json::from_slice(&proxy.admin("/certs").body).unwrap();
    let [context] = &shown["certificates"].as_array().unwrap()[..] else { panic!("{shown}") };
    let own = &context["cert_chain"][0];
    assert_eq!(own["path"], "<inline>");
    assert_eq!(own["subject_alt_names"][0]["dns"], "a.test");
    assert_eq!(own["expiration_time"], "4096-01-01T00:00:00Z");
    assert_eq!(context["ca_cert"][0]["path"], "<inline>");
    let days: u64 = own["days_until_expiration"].as_str().unwrap().parse().unwrap();
    proxy.stat_becomes("server.days_until_first_cert_expiring", days);
    let end = 67_090_118_400;
    assert_eq!(ssl(&proxy, "certificate.unnamed_cert_e3b0c442.expiration_unix_time_seconds"), end);
    assert_eq!(
        ssl(&proxy, "certificate.unnamed_ca_cert_e3b0c442.expiration_unix_time_seconds"),
        end
    );
}
