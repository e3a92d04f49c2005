//! The statsd protocol: `envoy.cluster.httpbin.upstream_rq_total:3|c`.

use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use socket2::{Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::address::Address;
use crate::control::server::Running;
use crate::stats::{Amount, Sample};
use crate::stats_sink::{Destination, StatsdSink, Style};

/// How long a connection may take to open, or to take the lines of a flush.
const TCP_WAIT: Duration = Duration::from_secs(5);

/// From how many bytes on lines are sent before the flush is complete.
const SEND_BYTES: usize = 64 * 1024;

/// A sink at work.
pub(super) struct Statsd {
    sink: StatsdSink,
    /// Lines that were not sent yet, each with a line end.
    lines: String,
    output: Output,
    condition: Condition,
}

/// Whether sending works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Condition {
    Good,
    Failing,
}

enum Output {
    /// It is opened with the first lines.
    Closed,
    Datagrams(Socket),
    Tcp(TcpStream),
}

impl Statsd {
    pub(super) const fn new(sink: StatsdSink) -> Self {
        Self { sink, lines: String::new(), output: Output::Closed, condition: Condition::Good }
    }

    /// Adds the lines of a stat.
    pub(super) fn add(&mut self, sample: &Sample<'_>) {
        let StatsdSink { style, prefix, .. } = &self.sink;
        let (name, tags) = match style {
            Style::Statsd => (sample.name.clone(), Vec::new()),
            Style::DogStatsd => sample.tagged(),
        };
        let lines = Lines { prefix, name: &name, tags: &tags };
        let written = lines.write(&sample.amount, &mut self.lines);
        debug_assert!(written.is_ok(), "a string takes everything");
    }

    /// Sends the lines so far if there are many.
    pub(super) async fn send_if_large(&mut self, running: &Running) {
        if self.lines.len() >= SEND_BYTES {
            self.send(running).await;
        }
    }

    /// Sends the lines. What cannot be sent is lost.
    pub(super) async fn send(&mut self, running: &Running) {
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() {
            return;
        }
        match (self.try_send(&lines, running).await, self.condition) {
            (Ok(()), Condition::Good) => {}
            (Ok(()), Condition::Failing) => {
                self.condition = Condition::Good;
                tracing::info!(target: "main", "stats sink {}: sending works again", self.name());
            }
            (Err(error), condition) => {
                self.output = Output::Closed;
                self.condition = Condition::Failing;
                if condition == Condition::Good {
                    tracing::warn!(target: "main", "stats sink {}: stats are lost: {error}", self.name());
                }
            }
        }
    }

    fn name(&self) -> String {
        match self.sink.destination {
            Destination::Datagrams(address) => address.to_string(),
            Destination::Cluster(cluster) => format!("over TCP (cluster number {cluster})"),
        }
    }

    async fn try_send(&mut self, lines: &str, running: &Running) -> io::Result<()> {
        if let Output::Closed = self.output {
            self.output = self.open(running).await?;
        }
        let most = self.sink.datagram_bytes_max;
        match &mut self.output {
            Output::Closed => Ok(()),
            Output::Tcp(stream) => timeout(TCP_WAIT, stream.write_all(lines.as_bytes())).await?,
            Output::Datagrams(socket) => datagrams(lines, most, |bytes| socket.send(bytes)).await,
        }
    }

    async fn open(&self, running: &Running) -> io::Result<Output> {
        match self.sink.destination {
            Destination::Datagrams(address) => {
                let address = address.to_socket_address()?;
                let socket = Socket::new(address.domain(), Type::DGRAM, None)?;
                socket.set_nonblocking(true)?;
                socket.connect(&address)?;
                Ok(Output::Datagrams(socket))
            }
            Destination::Cluster(cluster) => {
                let host = running.host_for_sink(cluster);
                let Some(Address::Ip(host)) = host else {
                    return Err(io::ErrorKind::NotFound.into());
                };
                Ok(Output::Tcp(timeout(TCP_WAIT, TcpStream::connect(host)).await??))
            }
        }
    }
}

/// Sends the lines in datagrams of at most so many bytes, but of one line at least. As in Envoy, a datagram
/// that the socket does not take is lost.
async fn datagrams(
    lines: &str,
    most: usize,
    send: impl Fn(&[u8]) -> io::Result<usize>,
) -> io::Result<()> {
    let packed = Packed { rest: lines, most };
    for (count, datagram) in packed.enumerate() {
        let _lost = send(datagram.as_bytes());
        // Each is a system call, and the control plane has other work too.
        if count % 64 == 63 {
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// Lines in groups of at most so many bytes, without the last line end.
struct Packed<'a> {
    rest: &'a str,
    most: usize,
}

impl<'a> Iterator for Packed<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let mut end = self.rest.find('\n')?;
        while let Some(more) = self.rest.get(end + 1..).and_then(|rest| rest.find('\n'))
            && end + 1 + more <= self.most
        {
            end += 1 + more;
        }
        let packed = self.rest.get(..end);
        self.rest = self.rest.get(end + 1..).unwrap_or_default();
        packed
    }
}

/// The lines of one stat.
struct Lines<'a> {
    prefix: &'a str,
    name: &'a str,
    tags: &'a [(String, String)],
}

impl Lines<'_> {
    fn write(&self, amount: &Amount<'_>, out: &mut String) -> std::fmt::Result {
        match amount {
            Amount::Counter { added, .. } => self.line(out, *added, "c", 1),
            Amount::Gauge(value) => self.line(out, *value, "g", 1),
            Amount::Histogram(recorded) => {
                recorded.values().try_for_each(|(value, times)| self.line(out, value, "ms", times))
            }
        }
    }

    /// A value that was recorded several times has a sample rate: a server counts it as often.
    fn line(
        &self,
        out: &mut String,
        value: impl std::fmt::Display,
        kind: &str,
        times: u64,
    ) -> std::fmt::Result {
        let Self { prefix, name, tags } = self;
        write!(out, "{prefix}.{name}:{value}|{kind}")?;
        if times > 1 {
            #[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 do not happen")]
            let rate = 1.0 / times as f64;
            write!(out, "|@{rate}")?;
        }
        for (at, (tag, value)) in tags.iter().enumerate() {
            write!(out, "{}{tag}:{value}", if at == 0 { "|#" } else { "," })?;
        }
        out.push('\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_filled_with_whole_lines() {
        let packed = |most| Packed { rest: "aa\nbbb\nc\n", most }.collect::<Vec<_>>();
        assert_eq!(packed(0), ["aa", "bbb", "c"]);
        assert_eq!(packed(5), ["aa", "bbb\nc"]);
        assert_eq!(packed(6), ["aa\nbbb", "c"]);
        assert_eq!(packed(100), ["aa\nbbb\nc"]);
    }

    #[test]
    fn a_value_that_was_recorded_often_is_one_line_with_a_rate() {
        let tags = [("envoy.cluster_name".to_owned(), "a".to_owned())];
        let lines = Lines { prefix: "envoy", name: "cluster.upstream_rq_time", tags: &tags };
        let mut out = String::new();
        lines.line(&mut out, 5, "ms", 4).unwrap();
        lines.line(&mut out, 7, "ms", 1).unwrap();
        assert_eq!(
            out,
            "envoy.cluster.upstream_rq_time:5|ms|@0.25|#envoy.cluster_name:a\n\
             envoy.cluster.upstream_rq_time:7|ms|#envoy.cluster_name:a\n"
        );
    }
}
