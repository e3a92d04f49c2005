//! The bench of Corvoy: an origin, a load generator, the floor, and the runner that measures
//! proxies against each other. `scripts/bench` is the way in; docs/BENCHMARKS.md has the results.

mod floor;
mod http;
mod load;
mod origin;
mod runtime;

use clap::Parser;

#[derive(Debug, clap::Parser)]
#[command(name = "corvoy-bench", about, max_term_width = 100)]
enum Command {
    /// Answer requests at less cost than any proxy.
    Origin(origin::Options),
    /// Send requests and say how long the answers took.
    Load(load::Options),
    /// Forward requests at the least cost that this kernel allows.
    Floor(floor::Options),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Origin(options) => origin::run(&options),
        Command::Load(options) => load::run(&options),
        Command::Floor(options) => floor::run(&options),
    }
}
