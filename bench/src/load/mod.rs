//! The load generator: thousands of connections on one ring, at a constant rate or as fast as they
//! are answered.
//!
//! At a constant rate (open loop) the latency of a request counts from the time it was due, so a
//! proxy that stalls is charged for every request that should have been sent meanwhile. `--gated`
//! lets the runner read the proxy's CPU time at the right moments: the generator connects and warms
//! up, writes `ready`, waits for a line, runs, writes its summary as one line of JSON, and keeps
//! its connections open until its standard input ends.

pub(crate) mod client;
pub(crate) mod held;
pub(crate) mod pace;
pub(crate) mod record;
mod shared;

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;

use crate::load::client::Job;
use crate::load::pace::{Pace, SECOND_NS};
use crate::load::record::{Record, Summary};
use crate::load::shared::Shared;
use crate::peers::HOST;
use crate::runtime;
use crate::tls;

/// What to send, how fast and for how long.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Where to connect to.
    #[arg(long, default_value = "127.0.0.1:24010")]
    pub(crate) target: SocketAddr,
    /// The path to ask for.
    #[arg(long, default_value = "/13")]
    pub(crate) path: String,
    /// How many connections to open.
    #[arg(long, default_value_t = 64)]
    pub(crate) connections: usize,
    /// Requests per second (open loop); without it each connection sends its next request after the
    /// answer.
    #[arg(long)]
    pub(crate) rate: Option<u64>,
    /// Send the due requests once per this many microseconds (open loop): rarely enough that a
    /// client on a busy core keeps up, often enough that bursts stay small. Latency counts from the
    /// due time anyway.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub(crate) tick_us: u32,
    /// How many seconds to run.
    #[arg(long, default_value_t = 5)]
    pub(crate) seconds: u64,
    /// Stop after this many requests (closed loop).
    #[arg(long)]
    pub(crate) requests: Option<u64>,
    /// POST a body of this many bytes.
    #[arg(long, default_value_t = 0)]
    pub(crate) body: usize,
    /// Send this many additional header fields.
    #[arg(long, default_value_t = 0)]
    pub(crate) headers: usize,
    /// The coding that clients accept.
    #[arg(long)]
    pub(crate) accept_encoding: Option<String>,
    /// Use a new connection for each request.
    #[arg(long)]
    pub(crate) close: bool,
    /// Speak TLS 1.3; the proxy's certificate must be the one in this PEM file.
    #[arg(long)]
    pub(crate) trust: Option<PathBuf>,
    /// Resume earlier TLS sessions.
    #[arg(long, requires = "trust")]
    pub(crate) resume: bool,
    /// Requests that each connection sends before the run starts.
    #[arg(long, default_value_t = 1)]
    pub(crate) warm: u64,
    /// Treat another body length than this as a failure.
    #[arg(long)]
    pub(crate) expect_bytes: Option<u64>,
    /// Write the percentile table of the latencies here.
    #[arg(long)]
    pub(crate) hgrm: Option<PathBuf>,
    /// Also write the summary to this file.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Follow the runner's commands on standard input and output.
    #[arg(long)]
    pub(crate) gated: bool,
    /// Show no progress.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// Runs once and prints the result.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    runtime::raise_descriptor_limit();
    runtime::block_on(drive(options))?
}

async fn drive(options: &Options) -> anyhow::Result<()> {
    let mut job = Job::new(options.target, request(options));
    job.expect_bytes = options.expect_bytes;
    job.tls = match &options.trust {
        Some(certificate) => Some(tls::Client::new(certificate, options.resume)?),
        None => None,
    };
    let job = Rc::new(job);
    let warming_up = shared::warm_up(&job, options);
    let wires = monoio::time::timeout(WARM_UP_MAX, warming_up)
        .await
        .context("the target did not answer every client in time")??;
    let mut orders = io::stdin().lock().lines();
    if options.gated {
        say("ready")?;
        if orders.next().is_none() {
            return Ok(());
        }
    }
    let shared = Shared::new(Rc::clone(&job), pace(options), Record::new()?, options);
    let wires = shared::drive(&shared, wires).await;
    let summary = shared.summary();
    let line = serde_json::to_string(&summary)?;
    if let Some(path) = &options.hgrm {
        let file = std::fs::File::create(path).with_context(|| path.display().to_string())?;
        record::write_hgrm(&shared.record.borrow().latency, io::BufWriter::new(file))?;
    }
    if let Some(path) = &options.json {
        std::fs::write(path, &line).with_context(|| path.display().to_string())?;
    }
    if options.gated {
        say(&line)?;
        while orders.next().is_some() {}
    } else {
        say(&describe(&summary))?;
    }
    drop(wires);
    Ok(())
}

fn pace(options: &Options) -> Pace {
    match options.rate {
        Some(rate) => Pace::Open { rate, issued: 0, total: rate * options.seconds },
        None => Pace::Closed {
            left: options.requests.unwrap_or(u64::MAX),
            end_ns: options.seconds * SECOND_NS,
        },
    }
}

fn request(options: &Options) -> Vec<u8> {
    let method = if options.body > 0 { "POST" } else { "GET" };
    let mut text = format!("{method} {} HTTP/1.1\r\nhost: {HOST}\r\n", options.path);
    text.push_str("user-agent: corvoy-bench\r\naccept: */*\r\n");
    for index in 0..options.headers {
        text.push_str(&format!("x-bench-{index}: a value of an ordinary length\r\n"));
    }
    if let Some(coding) = &options.accept_encoding {
        text.push_str(&format!("accept-encoding: {coding}\r\n"));
    }
    if options.body > 0 {
        text.push_str(&format!("content-length: {}\r\n", options.body));
    }
    if options.close {
        text.push_str("connection: close\r\n");
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len() + options.body, b'x');
    bytes
}

fn describe(summary: &Summary) -> String {
    let Summary {
        requests, seconds, requests_per_second, latency_us, service_us, failures, ..
    } = summary;
    format!(
        "{requests} requests in {seconds:.2} s, {requests_per_second:.0}/s, {} failed\n\
         latency  p50 {:.0} µs  p99 {:.0} µs  p99.9 {:.0} µs  max {:.0} µs\n\
         of which p50 {:.0} µs  p99 {:.0} µs  p99.9 {:.0} µs  max {:.0} µs after the send",
        failures.total(),
        latency_us.p50,
        latency_us.p99,
        latency_us.p999,
        latency_us.max,
        service_us.p50,
        service_us.p99,
        service_us.p999,
        service_us.max,
    )
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

const WARM_UP_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn options(line: &str) -> Options {
        Line::parse_from(format!("load {line}").split_whitespace()).options
    }

    #[test]
    fn a_post_carries_its_body_and_its_length() {
        let bytes = request(&options("--body 1024 --headers 20 --path /x"));
        let (head, target) = crate::http::request(&bytes).unwrap().unwrap();
        assert_eq!(target, "/x");
        assert_eq!(head.len + 1024, bytes.len());
        assert_eq!(bytes.windows(8).filter(|window| window == b"x-bench-").count(), 20);
    }

    #[test]
    fn a_rate_makes_the_loop_an_open_one() {
        let total = match pace(&options("--rate 500 --seconds 3")) {
            Pace::Open { total, .. } => total,
            Pace::Closed { .. } => 0,
        };
        assert_eq!(total, 1500);
        assert!(matches!(pace(&options("--requests 9")), Pace::Closed { left: 9, .. }));
    }

    #[test]
    fn a_stall_is_charged_for_every_waiting_request() {
        let origin = crate::origin::tests::on_a_thread();
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("summary.json");
        let line = format!(
            "--target {origin} --path /13?delay_ms=300&every=50 --connections 1 --rate 100 \
             --seconds 1 --warm 1 --json {}",
            json.display()
        );
        run(&options(&line)).unwrap();
        let summary: Summary = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        assert_eq!((summary.requests, summary.failures.total()), (100, 0));
        assert!(summary.latency_us.p90 > 100_000.0, "{summary:?}");
        assert!(summary.service_us.p90 < 50_000.0, "{summary:?}");
    }
}
