use std::time::Duration;

use tokio::sync::mpsc::unbounded_channel;

use super::super::{Enforcing, FailurePercentage, Result, SuccessRate};
use super::*;
use crate::stats::Registry;
use crate::upstream::host_set::tests::host;

pub(crate) fn config() -> OutlierDetection {
    OutlierDetection {
        consecutive_5xx: 5,
        consecutive_gateway_failure: 5,
        consecutive_local_origin_failure: 5,
        splits_local_origin: false,
        interval: Duration::from_secs(10),
        base_ejection_time: Duration::from_secs(30),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_time_jitter: Duration::ZERO,
        max_ejection_percent: 10,
        always_eject_one_host: false,
        health_check_unejects: true,
        success_rate: SuccessRate::default(),
        failure_percentage: FailurePercentage::default(),
        enforcing: Enforcing::default(),
        event_log_path: None,
        stats: Registry::new(1).scope("cluster.c.outlier_detection."),
    }
}

/// A cluster of so many hosts.
struct Story {
    detector: Detector,
    hosts: Vec<Arc<Host>>,
}

impl Story {
    fn of(count: u8, config: OutlierDetection) -> Self {
        let config = Arc::new(config);
        let (sender, _) = unbounded_channel();
        let hosts: Vec<Arc<Host>> = (1..=count)
            .map(|number| {
                let host = host(number, 0, 1, HealthFlags::EMPTY);
                let id = u64::from(number);
                host.set_monitor(Monitor::new(id, Arc::clone(&config), 1, sender.clone()));
                host
            })
            .collect();
        let mut detector = Detector::new(config, Rng::with_seed(1));
        detector.set_hosts(hosts.iter().cloned());
        Self { detector, hosts }
    }

    /// A host has failed five times in a row.
    fn fails(&mut self, number: u64, now: Millis) -> Option<Ejection> {
        let report = Report { id: number, kind: Kind::Consecutive5xx };
        self.detector.report(report, now).map(|action| action.ejection)
    }

    /// Requests to a host during an interval.
    fn serves(&self, number: usize, successes: u32, failures: u32) {
        let monitor = self.hosts[number - 1].monitor().unwrap();
        (0..successes).for_each(|_| monitor.note(0, Result::Response(200)));
        (0..failures).for_each(|_| monitor.note(0, Result::Response(501)));
    }

    fn ejected(&self) -> Vec<usize> {
        let is_ejected = |it: &Arc<Host>| it.found().contains(HealthFlags::FAILED_OUTLIER_CHECK);
        (1..).zip(&self.hosts).filter(|(_, it)| is_ejected(it)).map(|(number, _)| number).collect()
    }
}

#[test]
fn the_percentage_is_that_after_the_ejection() {
    // (hosts, percent) and how many of them can be ejected.
    for (hosts, percent, possible) in
        [(1, 10, 0), (1, 100, 1), (2, 34, 0), (3, 34, 1), (3, 67, 2), (10, 10, 1), (10, 9, 0)]
    {
        let config = OutlierDetection { max_ejection_percent: percent, ..config() };
        let mut story = Story::of(hosts, config);
        for number in 1..=u64::from(hosts) {
            story.fails(number, 0);
        }
        assert_eq!(story.ejected().len(), possible, "{hosts} hosts, {percent} %");
    }
}

#[test]
fn one_host_may_be_ejected_in_any_case() {
    let config = OutlierDetection { always_eject_one_host: true, ..config() };
    let mut story = Story::of(2, config);
    assert!(story.fails(1, 0).is_some());
    assert_eq!(story.fails(2, 0), None);
    assert_eq!(story.ejected(), [1]);
    let stats = story.detector.config.stats.control();
    assert_eq!(stats.ejections_overflow.value(), 1);
    assert_eq!(stats.ejections_active.value(), 1);
}

#[test]
fn ejections_get_longer_and_shorter_again() {
    let config = OutlierDetection {
        max_ejection_percent: 100,
        max_ejection_time: Duration::from_secs(60),
        ..config()
    };
    let mut story = Story::of(1, config);
    let mut now = 0;
    // The times of ejections, seen at intervals of 10 s.
    for expected in [30_000, 60_000, 60_000, 60_000] {
        let since = now;
        assert!(story.fails(1, now).is_some());
        while story.ejected() == [1] {
            now += 10_000;
            story.detector.end_interval(now);
        }
        assert_eq!(now - since, expected);
    }
    // It behaves for a while.
    for _ in 0..10 {
        now += 10_000;
        story.detector.end_interval(now);
    }
    story.fails(1, now);
    story.detector.end_interval(now + 30_000);
    assert_eq!(story.ejected(), [0; 0]);
}

#[test]
fn what_is_not_enforced_is_only_detected() {
    let enforcing = Enforcing { consecutive_5xx: 0, ..Enforcing::default() };
    let mut story =
        Story::of(1, OutlierDetection { enforcing, max_ejection_percent: 100, ..config() });
    let ejection = story.fails(1, 0);
    assert!(matches!(ejection, Some(Ejection::Eject { is_enforced: false, .. })));
    assert_eq!(story.ejected(), [0; 0]);
    let stats = story.detector.config.stats.control();
    assert_eq!(stats.ejections_detected_consecutive_5xx.value(), 1);
    assert_eq!(stats.ejections_enforced_total.value(), 0);
}

#[test]
fn a_host_that_fails_more_than_the_others_is_ejected() {
    let config = OutlierDetection { max_ejection_percent: 50, ..config() };
    let mut story = Story::of(6, config);
    (1..=5).for_each(|number| story.serves(number, 100, 0));
    story.serves(6, 70, 30);
    let actions = story.detector.end_interval(10_000);
    assert_eq!(story.ejected(), [6]);
    let rates = match actions[0].ejection {
        Ejection::Eject { kind: Kind::SuccessRate, rates: Some((rate, mean, limit)), .. } => {
            [rate, mean, limit].map(f64::round)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(rates, [70.0, 95.0, 74.0]);
    let shown = |number: usize| story.hosts[number - 1].monitor().unwrap().success_rates();
    assert_eq!((shown(1), shown(6)), ([100.0, -1.0], [70.0, -1.0]));
    story.serves(6, 100, 0);
    story.detector.end_interval(20_000);
    let shown = |number: usize| story.hosts[number - 1].monitor().unwrap().success_rates();
    assert_eq!(shown(6), [-1.0, -1.0], "it is ejected");
}

#[test]
fn too_few_requests_or_hosts_are_not_compared() {
    let mut story = Story::of(6, OutlierDetection { max_ejection_percent: 50, ..config() });
    (1..=5).for_each(|number| story.serves(number, 100, 0));
    story.serves(6, 50, 49);
    story.detector.end_interval(10_000);
    assert_eq!(story.ejected(), [0; 0], "99 requests");
    let mut story = Story::of(4, OutlierDetection { max_ejection_percent: 50, ..config() });
    (1..=3).for_each(|number| story.serves(number, 100, 0));
    story.serves(4, 0, 100);
    story.detector.end_interval(10_000);
    assert_eq!(story.ejected(), [0; 0], "four hosts");
}

#[test]
fn the_failure_percentage_is_a_detector_of_its_own() {
    let enforcing = Enforcing { failure_percentage: 100, success_rate: 0, ..Enforcing::default() };
    let config = OutlierDetection { max_ejection_percent: 50, enforcing, ..config() };
    let mut story = Story::of(5, config);
    (1..=3).for_each(|number| story.serves(number, 50, 0));
    story.serves(4, 8, 42); // 84 %
    story.serves(5, 7, 43); // 86 %
    story.detector.end_interval(10_000);
    assert_eq!(story.ejected(), [5]);
}

#[test]
fn a_passed_health_check_brings_a_host_back() {
    let mut story = Story::of(1, OutlierDetection { max_ejection_percent: 100, ..config() });
    story.fails(1, 0);
    let host = Arc::clone(&story.hosts[0]);
    assert!(story.detector.health_check_passed(&host, 1).is_some());
    assert_eq!(story.ejected(), [0; 0]);
    let config =
        OutlierDetection { max_ejection_percent: 100, health_check_unejects: false, ..config() };
    let mut story = Story::of(1, config);
    story.fails(1, 0);
    let host = Arc::clone(&story.hosts[0]);
    assert!(story.detector.health_check_passed(&host, 1).is_none());
}
