//! Schema → stats sinks.

use corvoy_config::{self as config, Path, Problems};

use super::{Destination, Sink, Style};
use crate::address;

/// Compiles the sinks at `at`. `cluster` is the number of a cluster by its name.
pub fn sinks(
    schemas: &[config::StatsSink],
    cluster: &dyn Fn(&str) -> Option<usize>,
    at: &Path,
    problems: &mut Problems,
) -> Vec<Sink> {
    let schemas = schemas.iter().enumerate();
    let sinks = schemas.filter_map(|(i, schema)| {
        let config::StatsSink { name: _, typed_config } = schema;
        let at = at.index(i).field("typed_config");
        match typed_config {
            Some(config::Any::StatsdSink(schema)) => statsd(schema, cluster, &at, problems),
            Some(config::Any::DogStatsdSink(schema)) => dog_statsd(schema, &at, problems),
            _ => {
                problems.missing(&at, "Corvoy supports the stats sinks statsd and dog_statsd");
                None
            }
        }
    });
    sinks.collect()
}

fn statsd(
    schema: &config::StatsdSink,
    cluster: &dyn Fn(&str) -> Option<usize>,
    at: &Path,
    problems: &mut Problems,
) -> Option<Sink> {
    let config::StatsdSink { address, tcp_cluster_name, prefix } = schema;
    let destination = match (address, tcp_cluster_name) {
        (Some(address), _) => datagrams(address, &at.field("address"), problems)?,
        (None, Some(name)) => {
            let Some(cluster) = cluster(name) else {
                let why = format!("there is no cluster '{name}'");
                problems.error(&at.field("tcp_cluster_name"), why);
                return None;
            };
            Destination::Cluster(cluster)
        }
        (None, None) => return None,
    };
    let prefix = prefix_or_default(prefix);
    Some(Sink { style: Style::Statsd, prefix, destination, datagram_bytes_max: 0 })
}

fn dog_statsd(schema: &config::DogStatsdSink, at: &Path, problems: &mut Problems) -> Option<Sink> {
    let config::DogStatsdSink { address, prefix, max_bytes_per_datagram } = schema;
    let destination = datagrams(address.as_ref()?, &at.field("address"), problems)?;
    let most = max_bytes_per_datagram.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
    Some(Sink {
        style: Style::DogStatsd,
        prefix: prefix_or_default(prefix),
        destination,
        datagram_bytes_max: most.unwrap_or(0),
    })
}

fn datagrams(address: &config::Address, at: &Path, problems: &mut Problems) -> Option<Destination> {
    let listening = address::compile::listening(address, at, problems)?;
    Some(Destination::Datagrams(listening.address))
}

fn prefix_or_default(prefix: &str) -> String {
    if prefix.is_empty() { "envoy".to_owned() } else { prefix.to_owned() }
}
