//! Certificates, validation contexts and ticket keys that change while the proxy serves.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use rcgen::SanType;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Act, Client, Config, Origin, Proxy, Tls, is_oracle, transport_socket, wait_until,
};

const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/// Files with secrets.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Moves a text to a file.
    fn place(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    /// Moves a secret to its file.
    fn secret(&self, name: &str, kind: &str, content: &str) {
        self.place(&format!("{name}.json"), &secret(name, kind, content));
    }

    /// Moves a certificate with its key to the file of the secret `cert`.
    fn certificate(&self, tls: &Tls) {
        self.secret("cert", "tls_certificate", &tls.pair());
    }

    /// A `SdsSecretConfig`.
    fn wanted(&self, name: &str) -> String {
        self.wanted_with(name, "")
    }

    fn wanted_with(&self, name: &str, more: &str) -> String {
        let path = self.path(&format!("{name}.json"));
        let source = format!("path_config_source: {{ path: {}{more} }}", path.display());
        format!("{{ name: {name}, sds_config: {{ {source}, resource_api_version: V3 }} }}")
    }

    /// A proxy whose clients speak TLS, with the certificate in `cert`.
    fn proxy(&self, origin: &Origin) -> Proxy {
        Proxy::with(self.config(origin, &self.wanted("cert"), ""))
    }

    fn config(&self, origin: &Origin, wanted: &str, more: &str) -> Config {
        let common = format!("tls_certificate_sds_secret_configs: [{wanted}]{more}");
        named(Config::to(origin).chain(&transport_socket("DownstreamTlsContext", &common, "")))
    }
}

fn secret(name: &str, kind: &str, content: &str) -> String {
    let secret = format!(r#"{{ "@type": "{SECRET}", "name": "{name}", "{kind}": {content} }}"#);
    format!(r#"{{ "resources": [{secret}] }}"#)
}

/// As Envoy wants it for secrets from files.
fn named(config: Config) -> Config {
    config.flags(&["--service-node", "node", "--service-cluster", "cluster"])
}

/// The stat of the only listener with this name.
fn factory(proxy: &Proxy, name: &str) -> u64 {
    let name = format!(".server_ssl_socket_factory.{name}");
    let stats = proxy.stats();
    *stats.iter().find(|(full, _)| full.ends_with(&name)).unwrap().1
}

fn is_served(client: &mut Client) {
    assert_eq!(client.get("/").status(), 200);
}

fn refuses(proxy: &Proxy, tls: &Tls) {
    let mut client = proxy.connect_tls(tls);
    let sent = client.wire().send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(sent.is_err() || client.try_response("GET").is_err());
}

#[test]
fn new_connections_get_the_new_certificate_and_no_open_one_is_lost() {
    let (files, origin) = (Files::new(), Origin::that_answers());
    let [old, new] = [Tls::new(), Tls::new()];
    files.certificate(&old);
    let proxy = files.proxy(&origin);
    let mut early = proxy.connect_tls(&old);
    is_served(&mut early);
    assert_eq!(factory(&proxy, "ssl_context_update_by_sds"), 1);
    files.certificate(&new);
    proxy.stat_becomes("sds.cert.update_success", 2);
    is_served(&mut proxy.connect_tls(&new));
    refuses(&proxy, &old);
    is_served(&mut early);
    assert_eq!(factory(&proxy, "ssl_context_update_by_sds"), 2);
    assert_eq!(factory(&proxy, "downstream_context_secrets_not_ready"), 0);
}

#[test]
fn a_secret_that_cannot_be_used_is_rejected_and_the_old_one_goes_on() {
    let (files, origin) = (Files::new(), Origin::that_answers());
    let [good, other] = [Tls::new(), Tls::new()];
    files.certificate(&good);
    let proxy = files.proxy(&origin);
    let mismatch = format!(
        r#"{{ "certificate_chain": {{ "inline_string": {:?} }}, "private_key": {{ "inline_string": {:?} }} }}"#,
        good.pem(),
        other.key_pem(),
    );
    files.secret("cert", "tls_certificate", &mismatch);
    proxy.stat_becomes("sds.cert.update_rejected", 1);
    files.place("cert.json", &secret("another", "tls_certificate", &other.pair()));
    proxy.stat_becomes("sds.cert.update_rejected", 2);
    files.place("cert.json", "{{{");
    proxy.stat_becomes("sds.cert.update_failure", 1);
    is_served(&mut proxy.connect_tls(&good));
    assert_eq!(proxy.stat("sds.cert.update_attempt"), 4);
    assert_eq!(proxy.stat("sds.cert.update_success"), 1);
    if !is_oracle() {
        let log = proxy.log();
        assert!(log.contains("this private key does not belong to the certificate"), "{log}");
        assert!(log.contains("the secret in the file is `another`, not `cert`"), "{log}");
    }
    files.certificate(&other);
    proxy.stat_becomes("sds.cert.update_success", 2);
    is_served(&mut proxy.connect_tls(&other));
}

#[test]
fn a_listener_without_its_secret_closes_connections_until_it_is_there() {
    let (files, origin, tls) = (Files::new(), Origin::that_answers(), Tls::new());
    files.place("cert.json", &secret("another", "tls_certificate", &tls.pair()));
    let proxy = files.proxy(&origin);
    refuses(&proxy, &tls);
    assert_eq!(factory(&proxy, "downstream_context_secrets_not_ready"), 1);
    assert_eq!(factory(&proxy, "ssl_context_update_by_sds"), 0);
    files.certificate(&tls);
    proxy.stat_becomes("sds.cert.update_success", 1);
    is_served(&mut proxy.connect_tls(&tls));
    assert_eq!(factory(&proxy, "downstream_context_secrets_not_ready"), 1);
}

#[test]
fn a_listener_without_its_secret_holds_up_no_other() {
    let (files, origin, tls) = (Files::new(), Origin::that_answers(), Tls::new());
    files.certificate(&tls);
    files.place("late.json", &secret("another", "tls_certificate", &tls.pair()));
    let late = format!("tls_certificate_sds_secret_configs: [{}]", files.wanted("late"));
    let second = format!(
        "static_resources: {{ listeners: [{{ name: late, \
         address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}, \
         filter_chains: [{{ filters: [{{ name: echo, typed_config: {{ \
         \"@type\": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo }} }}], \
         {} }}] }}] }}",
        transport_socket("DownstreamTlsContext", &late, "")
    );
    let config = files.config(&origin, &files.wanted("cert"), "");
    let proxy = Proxy::with(config.flags(&["--config-yaml", &second]));
    let addresses = proxy.named_addresses();
    let address =
        |is_late: bool| addresses.iter().find(|(name, _)| (name == "late") == is_late).unwrap().1;
    is_served(&mut Client::connect_tls(address(false), &tls));
    let mut waiting = Client::connect_tls(address(true), &tls);
    assert!(waiting.wire().send(b"hello").is_err());
    files.secret("late", "tls_certificate", &tls.pair());
    proxy.stat_becomes("sds.late.update_success", 1);
    let mut echo = Client::connect_tls(address(true), &tls);
    echo.send("hello");
    assert_eq!(echo.wire().take(5).unwrap(), b"hello");
}

/// As Kubernetes mounts a secret: the files are links into `..data`, itself a link that is replaced.
#[test]
fn each_handshake_gets_a_pair_that_fits_while_a_mounted_directory_rotates() {
    let (files, origin) = (Files::new(), Origin::that_answers());
    let mount = files.path("mount");
    fs::create_dir(&mount).unwrap();
    let rotate = |tls: &Tls, generation: usize| {
        let directory = mount.join(format!("..{generation}"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("tls.crt"), tls.pem()).unwrap();
        fs::write(directory.join("tls.key"), tls.key_pem()).unwrap();
        symlink(&directory, mount.join("..new")).unwrap();
        fs::rename(mount.join("..new"), mount.join("..data")).unwrap();
    };
    let generations: Vec<Tls> = (0..20).map(|_| Tls::new()).collect();
    rotate(&generations[0], 0);
    for file in ["tls.crt", "tls.key"] {
        symlink(PathBuf::from("..data").join(file), mount.join(file)).unwrap();
    }
    let named = |file| format!(r#"{{ "filename": {:?} }}"#, mount.join(file));
    let (certificate, key) = (named("tls.crt"), named("tls.key"));
    let pair = format!(r#"{{ "certificate_chain": {certificate}, "private_key": {key} }}"#);
    files.secret("cert", "tls_certificate", &pair);
    let proxy = files.proxy(&origin);
    for (generation, tls) in generations.iter().enumerate().skip(1) {
        rotate(tls, generation);
        let updates = generation as u64 + 1;
        wait_until("the new pair", || factory(&proxy, "ssl_context_update_by_sds") == updates);
        is_served(&mut proxy.connect_tls(tls));
    }
    assert_eq!(proxy.stat("sds.cert.key_rotation_failed"), 0);
    assert_eq!(proxy.stat("sds.cert.update_attempt"), 1, "the secret itself has not changed");
}

#[test]
fn a_key_that_is_gone_for_a_moment_does_no_harm() {
    let (files, origin) = (Files::new(), Origin::that_answers());
    let [old, new] = [Tls::new(), Tls::new()];
    let certs = files.path("certs");
    fs::create_dir(&certs).unwrap();
    let place = |name: &str, text: &str| {
        fs::write(files.path("new"), text).unwrap();
        fs::rename(files.path("new"), certs.join(name)).unwrap();
    };
    place("crt", old.pem());
    place("key", old.key_pem());
    let named = |file| format!(r#"{{ "filename": {:?} }}"#, certs.join(file));
    let (certificate, key) = (named("crt"), named("key"));
    let pair = format!(r#"{{ "certificate_chain": {certificate}, "private_key": {key} }}"#);
    files.secret("cert", "tls_certificate", &pair);
    let proxy = files.proxy(&origin);
    fs::remove_file(certs.join("key")).unwrap();
    place("crt", new.pem());
    proxy.stat_becomes_at_least("sds.cert.key_rotation_failed", 1);
    is_served(&mut proxy.connect_tls(&old));
    place("key", new.key_pem());
    wait_until("the new pair", || factory(&proxy, "ssl_context_update_by_sds") == 2);
    is_served(&mut proxy.connect_tls(&new));
}

/// A write is not atomic, so it counts only where the file is read at an interval.
#[test]
fn a_write_is_noticed_only_with_a_poll_interval() {
    let origin = Origin::that_answers();
    for (more, is_noticed) in [("", false), (", poll_interval: 0.05s", true)] {
        let files = Files::new();
        let [old, new] = [Tls::new(), Tls::new()];
        files.certificate(&old);
        let wanted = files.wanted_with("cert", more);
        let proxy = Proxy::with(files.config(&origin, &wanted, ""));
        let written = secret("cert", "tls_certificate", &new.pair());
        fs::write(files.path("cert.json"), written).unwrap();
        if is_noticed {
            wait_until("the write", || factory(&proxy, "ssl_context_update_by_sds") == 2);
            is_served(&mut proxy.connect_tls(&new));
        } else {
            is_served(&mut proxy.connect_tls(&old));
            assert_eq!(proxy.stat("sds.cert.update_attempt"), 1);
        }
    }
}

#[test]
fn a_watched_directory_is_watched_instead_of_the_file() {
    let (files, origin) = (Files::new(), Origin::that_answers());
    let [old, new] = [Tls::new(), Tls::new()];
    files.certificate(&old);
    let watched = files.path("watched");
    fs::create_dir(&watched).unwrap();
    let more = format!(", watched_directory: {{ path: {} }}", watched.display());
    let wanted = files.wanted_with("cert", &more);
    let proxy = Proxy::with(files.config(&origin, &wanted, ""));
    files.certificate(&new);
    is_served(&mut proxy.connect_tls(&old));
    files.place("watched/anything", "");
    proxy.stat_becomes("sds.cert.update_success", 2);
    is_served(&mut proxy.connect_tls(&new));
}

#[test]
fn clients_of_another_authority_are_trusted_after_it_has_changed() {
    let (files, origin) = (Files::new(), Origin::that_answers());
    let client = |name: &str| {
        let tls = Tls::new();
        tls.with_client_certificate(vec![SanType::DnsName(name.try_into().unwrap())])
    };
    // Two clients; the certificate of the proxy is that of the one that connects.
    let [old, new] = [client("old.test"), client("new.test")];
    files.certificate(&old);
    files.secret("ca", "validation_context", &old.trust_in_clients());
    let more = format!(", validation_context_sds_secret_config: {}", files.wanted("ca"));
    let config = files.config(&origin, &files.wanted("cert"), &more);
    let proxy = Proxy::with(config);
    is_served(&mut proxy.connect_tls(&old));
    files.certificate(&new);
    proxy.stat_becomes("sds.cert.update_success", 2);
    refuses(&proxy, &new);
    files.secret("ca", "validation_context", &new.trust_in_clients());
    proxy.stat_becomes("sds.ca.update_success", 2);
    is_served(&mut proxy.connect_tls(&new));
    files.certificate(&old);
    proxy.stat_becomes("sds.cert.update_success", 3);
    refuses(&proxy, &old);
}

#[test]
fn an_origin_is_verified_with_the_newest_authority() {
    let (files, good, bad) = (Files::new(), Tls::new(), Tls::new());
    let ok = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let origin = Origin::over_tls(&good, [Act::ReplyThenClose(ok.into())]);
    files.place("ca.json", &secret("another", "validation_context", &good.trust()));
    let common = format!("validation_context_sds_secret_config: {}", files.wanted("ca"));
    let socket = transport_socket("UpstreamTlsContext", &common, ", sni: a.test");
    let proxy = Proxy::with(named(Config::to(&origin).cluster(&socket)));
    assert_eq!(proxy.get("/").status(), 503, "whom to trust is unknown");
    let not_ready = "cluster.service.client_ssl_socket_factory.upstream_context_secrets_not_ready";
    assert_eq!(proxy.stat(not_ready), 1);
    assert_eq!(proxy.stat("cluster.service.upstream_cx_connect_fail"), 1);
    for (tls, updates, status) in [(&good, 1, 200), (&bad, 2, 503), (&good, 3, 200)] {
        files.secret("ca", "validation_context", &tls.trust());
        proxy.stat_becomes("sds.ca.update_success", updates);
        assert_eq!(proxy.get("/").status(), status);
    }
    assert_eq!(proxy.stat("cluster.service.ssl.fail_verify_error"), 1);
    let updated = "cluster.service.client_ssl_socket_factory.ssl_context_update_by_sds";
    assert_eq!(proxy.stat(updated), 3);
    assert_eq!(proxy.stat(not_ready), 1);
}

#[test]
fn a_session_is_resumed_as_long_as_the_key_of_its_ticket_is_there() {
    let (files, origin) = (Files::new(), Origin::that_answers());
    let keys = |keys: &[char]| {
        let keys = keys
            .iter()
            .map(|key| format!(r#"{{ "inline_string": "{}" }}"#, key.to_string().repeat(80)));
        format!(r#"{{ "keys": [{}] }}"#, keys.collect::<Vec<_>>().join(","))
    };
    for version in rustls::ALL_VERSIONS {
        let tls = Tls::new().with_version(version);
        files.secret("tickets", "session_ticket_keys", &keys(&['a']));
        let more = format!(", session_ticket_keys_sds_secret_config: {}", files.wanted("tickets"));
        let common = format!("tls_certificates: [{}]", tls.pair());
        let socket = transport_socket("DownstreamTlsContext", &common, &more);
        let proxy = Proxy::with(named(Config::to(&origin).chain(&socket)));
        let is_resumed = || {
            let mut client = proxy.connect_tls(&tls);
            is_served(&mut client);
            client.wire().session().is_resumed()
        };
        assert!(!is_resumed());
        assert!(is_resumed());
        for (rotated, updates, expected) in
            [(&['b', 'a'][..], 2, true), (&['c'], 3, false), (&['c'], 4, true)]
        {
            files.secret("tickets", "session_ticket_keys", &keys(rotated));
            proxy.stat_becomes("sds.tickets.update_success", updates);
            assert_eq!(is_resumed(), expected, "{rotated:?}");
        }
    }
}

#[test]
fn the_operator_sees_the_secrets_and_no_key() {
    let (files, origin, tls) = (Files::new(), Origin::that_answers(), Tls::new());
    files.certificate(&tls);
    files.place("ca.json", &secret("another", "validation_context", &tls.trust()));
    let more = format!(", validation_context_sds_secret_config: {}", files.wanted("ca"));
    let proxy = Proxy::with(files.config(&origin, &files.wanted("cert"), &more));
    let dump = |resource: &str| -> Value {
        let text = proxy.admin(&format!("/config_dump?resource={resource}")).text();
        assert!(!text.contains("PRIVATE KEY"), "{text}");
        let dump: Value = serde_json::from_str(&text).unwrap();
        dump["configs"].get(0).cloned().unwrap_or_default()
    };
    let active = dump("dynamic_active_secrets");
    assert_eq!(active["name"], "cert");
    let shown = &active["secret"]["tls_certificate"];
    assert_eq!(shown["certificate_chain"]["inline_string"], tls.pem());
    assert_eq!(shown["private_key"]["inline_string"], "[redacted]");
    let warming = dump("dynamic_warming_secrets");
    assert_eq!(warming["name"], "ca");
    assert_eq!(warming["version_info"], "uninitialized");
    let certificates = || proxy.admin("/certs").text();
    assert!(!certificates().contains("a.test"), "its context is not complete");
    files.secret("ca", "validation_context", &tls.trust());
    proxy.stat_becomes("sds.ca.update_success", 1);
    assert!(certificates().contains("a.test"));
    assert_eq!(dump("dynamic_warming_secrets"), Value::Null);
}

#[test]
fn static_secrets_are_shown_without_their_keys() {
    let (origin, tls) = (Origin::that_answers(), Tls::new());
    let common = "tls_certificate_sds_secret_configs: [{ name: shop }]";
    let config = Config::to(&origin).chain(&transport_socket("DownstreamTlsContext", common, ""));
    let secrets = format!(
        "static_resources: {{ secrets: [{{ name: shop, tls_certificate: {} }}] }}",
        tls.pair()
    );
    let proxy = Proxy::with(config.flags(&["--config-yaml", &secrets]));
    is_served(&mut proxy.connect_tls(&tls));
    let dump = proxy.admin("/config_dump").text();
    assert!(!dump.contains("PRIVATE KEY"), "{dump}");
    let dump: Value = serde_json::from_str(&dump).unwrap();
    let dumps = dump["configs"].as_array().unwrap();
    let shown = &dumps.last().unwrap()["static_secrets"][0];
    assert_eq!(shown["name"], "shop");
    let pair = &shown["secret"]["tls_certificate"];
    assert_eq!(pair["certificate_chain"]["inline_string"], tls.pem());
    assert_eq!(pair["private_key"]["inline_string"], "[redacted]");
}
