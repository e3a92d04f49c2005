//! Random sequences of valid and invalid resources from a management server.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::management_servers::{CLUSTER, LISTENER, all_from};
use crate::support::{ManagementServer, wait_until};

/// A generator of numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// Whatever the order in which valid and invalid resources come: what counts are the last valid ones.
#[test]
fn any_sequence_of_resources_ends_in_the_state_of_the_last_valid_ones() {
    let Some(server) = ManagementServer::start(None) else { return };
    let names = ["a", "b", "c", "d"];
    server.set(CLUSTER, "c0", &[]);
    server.set(LISTENER, "l0", &[]);
    let proxy = all_from(&server, "GRPC");
    let mut dice = Dice(7);
    let mut valid: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 1..=60 {
        let mut wanted = Vec::new();
        let mut next = BTreeMap::new();
        for name in names {
            let seconds = 1 + dice.below(9);
            // A static cluster, so that it is ready at once.
            let of =
                |text: String| json!({ "name": name, "type": "STATIC", "connect_timeout": text });
            match dice.below(4) {
                // It is gone.
                0 => {}
                // An invalid one: the former one stays, if there was one.
                1 => {
                    let mut invalid = of(format!("{seconds}s"));
                    invalid["load_assignment"] = json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": [{
                        "endpoint": { "address": { "socket_address": { "address": "no.ip", "port_value": 1 } } } }] }] });
                    wanted.push(invalid);
                    if let Some(former) = valid.get(name) {
                        next.insert(name, *former);
                    }
                }
                _ => {
                    wanted.push(of(format!("{seconds}s")));
                    next.insert(name, seconds);
                }
            }
        }
        valid = next;
        let before = proxy.stat("cluster_manager.cds.update_attempt");
        server.set(CLUSTER, &format!("c{round}"), &wanted);
        wait_until("an answer", || proxy.stat("cluster_manager.cds.update_attempt") > before);
        let body = proxy.admin("/config_dump?resource=dynamic_active_clusters").body;
        let dump: Value = serde_json::from_slice(&body).unwrap();
        let active = dump["configs"].as_array().cloned().unwrap_or_default();
        let found: BTreeMap<String, String> = active
            .iter()
            .map(|it| {
                let text = |field: &str| it["cluster"][field].as_str().unwrap().to_owned();
                (text("name"), text("connect_timeout"))
            })
            .collect();
        let expected = valid.iter().map(|(name, it)| ((*name).to_owned(), format!("{it}s")));
        assert_eq!(found, expected.collect(), "round {round}");
    }
}
