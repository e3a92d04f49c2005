//! The bench of Corvoy: an origin, a load generator, the floor, and the runner that compares
//! proxies. Start it with `scripts/bench`; docs/BENCHMARKS.md has the results.

mod origin;

mod load;

mod floor;

mod peers;

mod measure;

mod scenario;

mod foreign;

mod run;

mod summary;

mod report;

mod guard;

mod http;
mod runtime;
mod tls;

use clap::Parser;

#[derive(Debug, clap::Parser)]
#[command(name = "corvoy-bench", about, max_term_width = 100)]
enum Command {
    /// Answer requests, at less cost than any proxy.
    Origin(origin::Options),
    /// Send requests and print the latencies.
    Load(load::Options),
    /// Forward requests at the least cost that this kernel allows.
    Floor(floor::Options),
    /// Measure the peers against each other and write the results.
    Run(run::Options),
    /// Write the summary of earlier results again, from their raw data.
    Report(report::Options),
    /// Compare the plain path with its committed record.
    Guard(guard::Options),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Origin(options) => origin::run(&options),
        Command::Load(options) => load::run(&options),
        Command::Floor(options) => floor::run(&options),
        Command::Run(options) => run::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Guard(options) => guard::run(&options),
    }
}
