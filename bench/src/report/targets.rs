//! The targets of the project, and the result of a run for each.

use crate::peers::Peer;
use crate::summary::{self, Sample};

/// What a figure of Corvoy is compared with.
#[derive(Clone, Copy, Debug)]
enum Against {
    /// A number.
    Absolute,
    /// The same figure of another peer.
    Peer(Peer),
    /// The same figure of the best of the three peers.
    Best,
    /// Corvoy's own figure in the scenario of small GETs.
    Plain,
    /// Corvoy's own figure in this scenario, which has half the threads: the throughput of two
    /// threads in the CPU time of one.
    HalfTheThreads(&'static str),
}

/// What a target allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Copy, Debug)]
struct Target {
    about: &'static str,
    scenario: &'static str,
    figure: &'static str,
    against: Against,
    limit: Limit,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) about: &'static str,
    pub(crate) limit: Limit,
    pub(crate) measured: Option<f64>,
    /// The floor's figure in Corvoy's place, against the same peer.
    pub(crate) of_the_floor: Option<f64>,
}

impl Limit {
    fn allows(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl Verdict {
    pub(crate) fn word(&self) -> &'static str {
        match self.measured {
            None => "not measured",
            Some(value) if self.limit.allows(value) => "met",
            Some(_) => "**missed**",
        }
    }
}

/// Every target, with its result in these samples.
pub(crate) fn verdicts(samples: &[Sample]) -> Vec<Verdict> {
    let judge = |target: &Target| Verdict {
        about: target.about,
        limit: target.limit,
        measured: target.measured(samples),
        of_the_floor: target.of_the_floor(samples),
    };
    TARGETS.iter().map(judge).collect()
}

impl Target {
    fn of_the_floor(&self, samples: &[Sample]) -> Option<f64> {
        // Not for `Best`: in some of its scenarios the floor is not a lower bound, as it has a
        // connection to the origin for each client.
        let Against::Peer(peer) = self.against else { return None };
        let of = |peer: Peer| median(samples, self.scenario, peer, self.figure);
        if peer == Peer::Floor { None } else { Some(of(Peer::Floor)? / of(peer)?) }
    }

    fn measured(&self, samples: &[Sample]) -> Option<f64> {
        let of = |peer: Peer| median(samples, self.scenario, peer, self.figure);
        let ours = of(Peer::Corvoy)?;
        match self.against {
            Against::Absolute => Some(ours),
            Against::Peer(peer) => Some(ours / of(peer)?),
            Against::Best => {
                let others = [Peer::Nginx, Peer::Haproxy, Peer::Envoy].into_iter().filter_map(of);
                Some(ours / others.min_by(f64::total_cmp)?)
            }
            Against::Plain => Some(ours / median(samples, PLAIN, Peer::Corvoy, self.figure)?),
            Against::HalfTheThreads(scenario) => {
                Some(2.0 * median(samples, scenario, Peer::Corvoy, self.figure)? / ours)
            }
        }
    }
}

fn median(samples: &[Sample], scenario: &str, peer: Peer, figure: &str) -> Option<f64> {
    summary::spread(samples, scenario, peer.name(), figure).map(|spread| spread.median)
}

const PLAIN: &str = "get-64";
const CPU: &str = "cpu_us_per_request";
const BULK: &str = "cpu_us_per_mb";

const fn target(
    about: &'static str,
    scenario: &'static str,
    figure: &'static str,
    against: Against,
    most: f64,
) -> Target {
    Target { about, scenario, figure, against, limit: Limit::AtMost(most) }
}

/// Two shards: their throughput itself would need more cores than client and origin leave on a
/// small machine. This computes the throughput for which the CPU time of two threads is enough.
const SCALING: Target = Target {
    about: "throughput of two shards / one, client and origin subtracted",
    scenario: "shards-2",
    figure: CPU,
    against: Against::HalfTheThreads("shards-1"),
    limit: Limit::AtLeast(1.9),
};

#[rustfmt::skip]
const TARGETS: [Target; 31] = [
    target("CPU per request / floor", PLAIN, CPU, Against::Peer(Peer::Floor), 1.15),
    target("CPU per request / nginx", PLAIN, CPU, Against::Peer(Peer::Nginx), 0.80),
    target("CPU per request / HAProxy", PLAIN, CPU, Against::Peer(Peer::Haproxy), 0.75),
    target("CPU per request / Envoy", PLAIN, CPU, Against::Peer(Peer::Envoy), 0.28),
    target("user-space instructions per request", "instructions", "instructions_per_request", Against::Absolute, 9000.0),
    target("system calls per request", "syscalls", "syscalls_per_request", Against::Absolute, 4.5),
    target("p99 at 70 % of the reference peak / nginx", "rate-70", "p99_us", Against::Peer(Peer::Nginx), 1.0),
    target("p99 at 70 % of the reference peak / HAProxy", "rate-70", "p99_us", Against::Peer(Peer::Haproxy), 1.0),
    target("CPU per MB, 64 KB answers / best peer", "answer-64k", BULK, Against::Best, 0.90),
    target("CPU per MB, 1 MB answers / best peer", "answer-1m", BULK, Against::Best, 0.90),
    target("CPU, connection per request / best peer", "connection-per-request", CPU, Against::Best, 1.0),
    target("KiB per idle connection, of 4,000", "idle-4000", "pss_kib_per_connection", Against::Absolute, 1.0),
    target("KiB per idle connection, of 15,000", "idle-15000", "pss_kib_per_connection", Against::Absolute, 1.0),
    target("RSS at start, KiB", "start", "rss_kib", Against::Absolute, 12_288.0),
    target("exec to first answer, ms", "start", "start_ms", Against::Absolute, 40.0),
    target("CPU with 1,000 clusters / with one", "routes-1000", CPU, Against::Plain, 1.03),
    target("CPU with 10,000 routes / with one", "routes-10000", CPU, Against::Plain, 1.03),
    target("CPU with retries on / without", "retries", CPU, Against::Plain, 1.03),
    target("CPU per request over TLS / best peer", "tls-get-64", CPU, Against::Best, 0.70),
    target("CPU per full TLS 1.3 handshake with a request, P-256 / best peer", "tls-full-p256", CPU, Against::Best, 0.85),
    target("CPU per MB over TLS, 1 MB answers / best peer", "tls-answer-1m", BULK, Against::Best, 0.85),
    target("KiB per idle TLS connection / best peer", "tls-idle-4000", "pss_kib_per_connection", Against::Best, 1.0),
    target("CPU per MB, TCP pass-through / best peer", "tcp-1m", BULK, Against::Best, 1.0),
    target("CPU per request, HTTP/2 over TLS, 16 × 16 / best peer", "h2-tls-16x16", CPU, Against::Best, 0.75),
    target("CPU per request, HTTP/2, 16 × 16 / best peer", "h2c-16x16", CPU, Against::Best, 0.70),
    target("CPU per request, HTTP/2, 64 × 1 / best peer", "h2c-64x1", CPU, Against::Best, 0.70),
    target("CPU per request, HTTP/1 to an origin of HTTP/2 / of HTTP/1", "get-64-to-h2c", CPU, Against::Plain, 0.90),
    target("CPU per gRPC call / best peer", "grpc-unary", CPU, Against::Best, 0.75),
    target("KiB per idle connection of HTTP/2 / best peer", "h2c-idle-4000", "pss_kib_per_connection", Against::Best, 1.0),
    target("KiB per open stream / best peer", "h2c-streams", "pss_kib_per_stream", Against::Best, 1.0),
    SCALING,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario;
    use crate::summary::Figures;

    fn sample(scenario: &str, peer: &str, figure: &str, value: f64) -> Sample {
        let figures = Figures::from([(figure.to_owned(), value)]);
        let (scenario, peer) = (scenario.to_owned(), peer.to_owned());
        Sample { scenario, peer, round: 0, figures, failure: None }
    }

    fn word(samples: &[Sample], about: &str) -> &'static str {
        let verdicts = verdicts(samples);
        verdicts.iter().find(|verdict| verdict.about == about).unwrap().word()
    }

    #[test]
    fn a_missed_target_is_shown_as_missed() {
        let samples = [sample("get-64", "corvoy", CPU, 14.0), sample("get-64", "nginx", CPU, 16.0)];
        assert_eq!(word(&samples, "CPU per request / nginx"), "**missed**");
        assert_eq!(word(&samples, "CPU per request / Envoy"), "not measured");
    }

    #[test]
    fn a_target_that_the_floor_misses_shows_it() {
        let samples = [
            sample("get-64", "corvoy", CPU, 10.0),
            sample("get-64", "floor", CPU, 9.6),
            sample("get-64", "haproxy", CPU, 12.5),
        ];
        let verdicts = verdicts(&samples);
        let of = |about| verdicts.iter().find(|verdict| verdict.about == about).unwrap();
        let haproxy = of("CPU per request / HAProxy");
        assert_eq!((haproxy.measured, haproxy.of_the_floor), (Some(0.8), Some(9.6 / 12.5)));
        assert_eq!(of("CPU per request / floor").of_the_floor, None);
    }

    #[test]
    fn the_best_peer_is_the_one_to_beat() {
        let samples = [
            sample("answer-64k", "corvoy", BULK, 450.0),
            sample("answer-64k", "nginx", BULK, 900.0),
            sample("answer-64k", "haproxy", BULK, 550.0),
        ];
        assert_eq!(word(&samples, "CPU per MB, 64 KB answers / best peer"), "met");
    }

    #[test]
    fn two_threads_with_the_same_cost_per_request_have_twice_the_throughput() {
        let cost = |of_two| {
            [sample("shards-1", "corvoy", CPU, 10.0), sample("shards-2", "corvoy", CPU, of_two)]
        };
        assert_eq!(word(&cost(10.4), SCALING.about), "met");
        assert_eq!(word(&cost(10.7), SCALING.about), "**missed**");
    }

    #[test]
    fn every_target_names_a_scenario() {
        let all = scenario::all();
        for target in TARGETS {
            assert!(all.iter().any(|one| one.name == target.scenario), "{}", target.scenario);
        }
    }
}
