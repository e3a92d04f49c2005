//! `/shards`: what each shard runs on and does. Envoy has nothing like it.

use serde::Serialize;

use crate::control::admin::reply::Reply;
use crate::control::admin::{Effect, Endpoint, json, parameter};

pub(super) const ENDPOINT: Endpoint = Endpoint {
    path: "/shards",
    effect: Effect::Shows,
    help: "print what each shard runs on and does",
    parameters: &[parameter("format", "File format to use; One of (text, json)")],
    answer: |admin, query| {
        let shards = admin.server.shards().into_iter().enumerate();
        if query.value("format") == Some("json") {
            let shard_statuses = shards.map(|(shard, view)| ShardStatus {
                shard,
                core: view.core,
                driver: view.driver,
                connections: view.connections,
                requests: view.requests,
            });
            return json::reply(&Shards { shard_statuses: shard_statuses.collect() });
        }
        let lines = shards.map(|(shard, view)| {
            let core = view.core.map_or_else(|| "unpinned".to_owned(), |core| core.to_string());
            format!(
                "{shard}::core::{core}\n{shard}::driver::{}\n{shard}::connections::{}\n\
                 {shard}::requests::{}\n",
                view.driver, view.connections, view.requests
            )
        });
        Reply::text(lines.collect::<String>())
    },
};

#[derive(Serialize)]
struct Shards {
    shard_statuses: Vec<ShardStatus>,
}

#[derive(Serialize)]
struct ShardStatus {
    shard: usize,
    /// None: it is not pinned.
    core: Option<usize>,
    driver: String,
    connections: u64,
    requests: u64,
}
