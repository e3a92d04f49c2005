//! Other load generators, closed loop: wrk and oha to check ours, h2load for HTTP/2.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use crate::peers::pinned;
use crate::scenario::{Ask, Tool};
use crate::summary::Figures;

impl Tool {
    pub(crate) fn is_installed(self) -> bool {
        let mut command = Command::new(self.program());
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok() // wrk prints its version and exits with an error
    }

    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::Oha => "oha",
            Self::H2load => "h2load",
        }
    }

    /// `body` is a file with what is sent, if anything is.
    pub(crate) fn command_line(
        self,
        url: &str,
        body: Option<&Path>,
        ask: Ask,
        seconds: u64,
    ) -> Vec<String> {
        let connections = ask.connections.to_string();
        match self {
            Self::Wrk => {
                let duration = format!("-d{seconds}s");
                vec!["wrk", "-t1", "-c", &connections, &duration, "--latency", url]
                    .into_iter()
                    .map(str::to_owned)
                    .collect()
            }
            Self::Oha => {
                let duration = format!("{seconds}s");
                ["oha", "--no-tui", "--output-format", "json", "-c", &connections, "-z", &duration]
                    .into_iter()
                    .chain([url])
                    .map(str::to_owned)
                    .collect::<Vec<_>>()
            }
            Self::H2load => {
                let (duration, streams) = (seconds.to_string(), ask.streams.to_string());
                let line = ["h2load", "-t1", "-c", &connections, "-m", &streams, "-D", &duration];
                let mut line: Vec<String> = line.map(str::to_owned).into();
                if let Some(body) = body {
                    line.extend(["-d".to_owned(), body.display().to_string()]);
                    for field in ["content-type: application/grpc", "te: trailers"] {
                        line.extend(["-H", field].map(str::to_owned));
                    }
                }
                line.push(url.to_owned());
                line
            }
        }
    }

    /// Runs the tool to completion; the figures are its own.
    pub(crate) fn run(self, cores: &str, line: &[String]) -> anyhow::Result<Figures> {
        let output = pinned(cores, line).stderr(Stdio::null()).output();
        let text = String::from_utf8(output.context("setpriv and taskset (util-linux)")?.stdout)?;
        let figures = match self {
            Self::Wrk => parse_wrk(&text),
            Self::Oha => parse_oha(&text),
            Self::H2load => parse_h2load(&text),
        };
        figures.with_context(|| format!("{} said: {text}", self.program()))
    }
}

fn parse_wrk(text: &str) -> Option<Figures> {
    let line = |word: &str| text.lines().find(|line| line.contains(word)).map(str::trim);
    let requests: f64 = line("requests in")?.split_whitespace().next()?.parse().ok()?;
    let rate = line("Requests/sec:")?.split_whitespace().last()?.parse().ok()?;
    let failed = line("Socket errors:").map_or(0.0, sum_of_numbers)
        + line("Non-2xx").map_or(0.0, sum_of_numbers);
    let percentile = |name: &str| {
        let line = text.lines().map(str::trim).find(|line| line.starts_with(name))?;
        microseconds(line.split_whitespace().last()?)
    };
    Some(figures([
        ("requests", requests),
        ("requests_per_second", rate),
        ("failed", failed),
        ("p50_us", percentile("50%")?),
        ("p99_us", percentile("99%")?),
    ]))
}

/// `Socket errors` has four numbers; `Non-2xx or 3xx responses` has one, after the colon.
fn sum_of_numbers(line: &str) -> f64 {
    let (_, counts) = line.split_once(':').unwrap_or_default();
    let digits = counts.split(|c: char| !c.is_ascii_digit());
    digits.filter_map(|word| word.parse::<f64>().ok()).sum()
}

/// wrk writes `512.00us`, `1.87ms` or `1.02s`.
fn microseconds(text: &str) -> Option<f64> {
    let scaled = |suffix: &str, scale: f64| {
        text.strip_suffix(suffix)?.parse::<f64>().ok().map(|value| value * scale)
    };
    scaled("us", 1.0).or_else(|| scaled("ms", 1e3)).or_else(|| scaled("s", 1e6))
}

fn parse_oha(text: &str) -> Option<Figures> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let number = |pointer: &str| json.pointer(pointer)?.as_f64();
    let (rate, seconds) = (number("/summary/requestsPerSec")?, number("/summary/total")?);
    let success = number("/summary/successRate")?;
    Some(figures([
        ("requests", (rate * seconds).round()),
        ("requests_per_second", rate),
        ("failed", ((1.0 - success) * rate * seconds).round()),
        ("p50_us", number("/latencyPercentiles/p50")? * 1e6),
        ("p99_us", number("/latencyPercentiles/p99")? * 1e6),
    ]))
}

/// It knows no percentiles.
fn parse_h2load(text: &str) -> Option<Figures> {
    let line = |word: &str| text.lines().find_map(|line| line.strip_prefix(word));
    let counts = line("requests: ")?;
    let count = |word: &str| -> Option<f64> {
        let part = counts.split(", ").find_map(|part| part.strip_suffix(word))?;
        part.trim().parse().ok()
    };
    let rate = line("finished in ")?.split(", ").nth(1)?.strip_suffix(" req/s")?.parse().ok()?;
    Some(figures([
        ("requests", count("succeeded")?),
        ("requests_per_second", rate),
        ("failed", count("failed")?),
    ]))
}

fn figures<const N: usize>(pairs: [(&str, f64); N]) -> Figures {
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 2s test @ http://127.0.0.1:24010/13
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.87ms  512.00us   9.10ms   80.00%
  Latency Distribution
     50%    1.80ms
     75%    2.00ms
     90%    2.30ms
     99%  512.00us
  68123 requests in 2.00s, 9.90MB read
  Socket errors: connect 0, read 2, write 0, timeout 1
  Non-2xx or 3xx responses: 17
Requests/sec:  34061.50
Transfer/sec:      4.95MB
";

    #[test]
    fn wrk_is_read_with_its_units_and_its_failures() {
        let figures = parse_wrk(WRK).unwrap();
        assert_eq!(figures["requests"], 68_123.0);
        assert_eq!(figures["requests_per_second"], 34_061.5);
        assert_eq!(figures["p50_us"], 1800.0);
        assert_eq!(figures["p99_us"], 512.0);
        assert_eq!(figures["failed"], 20.0);
    }

    #[test]
    fn h2load_is_read_with_its_failures() {
        let text = "finished in 2.00s, 29480.00 req/s, 1.20MB/s
requests: 59000 total, 59016 started, 58970 done, 58960 succeeded, 10 failed, 0 errored, 0 timeout
status codes: 58960 2xx, 0 3xx, 10 4xx, 0 5xx
";
        let figures = parse_h2load(text).unwrap();
        assert_eq!((figures["requests"], figures["failed"]), (58_960.0, 10.0));
        assert_eq!(figures["requests_per_second"], 29_480.0);
        assert!(parse_h2load("requests: what").is_none());
    }

    #[test]
    fn oha_is_read_from_its_json() {
        let text = r#"{"summary": {"successRate": 1.0, "total": 2.0, "requestsPerSec": 50.0},
            "latencyPercentiles": {"p50": 0.001, "p99": 0.004}}"#;
        let figures = parse_oha(text).unwrap();
        assert_eq!((figures["requests"], figures["failed"]), (100.0, 0.0));
        assert_eq!(figures["p99_us"], 4000.0);
    }
}
