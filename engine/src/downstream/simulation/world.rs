//! The proxy of a story, and how one run of it goes.

use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;

use tempfile::TempDir;

use super::compile;
use super::peer::{Act, Peer};
use super::schedule::{Schedule, Straight};
use super::tls::Tls;
use super::{Over, Told};
use crate::address::Address;
use crate::downstream::connection::{Arrival, Facts};
use crate::downstream::filter_chain::LocalSpeaks;
use crate::downstream::listener::{HandOver, begin};
use crate::downstream::local::{Listeners, LocalListener};
use crate::request::service::LocalService;
use crate::shard::by_hand::ByHand;
use crate::shard::ring::Ring;
use crate::shard::socket::Socket;
use crate::stats::Registry;
use crate::upstream::clusters::Clusters;
use crate::upstream::discovery::Discovery;
use crate::upstream::local::LocalCluster;

/// What of the configuration matters to a story, as YAML fields.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Options {
    /// Of the connection manager.
    pub(super) manager: &'static str,
    /// Of the route's action.
    pub(super) route: &'static str,
    /// Of the cluster.
    pub(super) cluster: &'static str,
}

/// A proxy with one listener and one cluster, whose only host is the story's.
#[derive(Debug)]
pub(super) struct World {
    by_hand: ByHand,
    over: Over,
    tls: Tls,
    listener: Rc<LocalListener>,
    service: Rc<LocalService>,
    cluster: Rc<LocalCluster>,
    origin: UnixListener,
    _folder: TempDir,
    /// The tasks that are no connection's.
    background: Vec<usize>,
}

impl World {
    pub(super) fn new(ring: Ring, over: Over, options: &Options) -> Self {
        let (by_hand, tls) = (ByHand::new(ring), Tls::new());
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("origin");
        let origin = UnixListener::bind(&path).unwrap();
        origin.set_nonblocking(true).unwrap();
        let yaml = include_str!("world.yaml")
            .replace("MANAGER", options.manager)
            .replace("ROUTE", options.route)
            .replace("CLUSTER", options.cluster)
            .replace("ORIGIN", path.to_str().unwrap())
            .replace("DOWNSTREAM", &transport(over == Over::TlsOfClient, || tls.downstream()))
            .replace("UPSTREAM", &transport(over == Over::TlsOfOrigin, || tls.upstream()));
        let registry = Registry::new(1);
        let snapshot = compile::snapshot(yaml, &registry);
        let shard = by_hand.shard;
        snapshot.install(shard, |_| None);
        let cluster = Rc::clone(Clusters::of(shard).current().get(0).unwrap());
        let Discovery::Static(hosts) = &snapshot.clusters[0].discovery else {
            panic!("not static")
        };
        cluster.replace_hosts(hosts.clone());
        let listener = Listeners::of(shard).local(&snapshot.listeners[0]);
        let LocalSpeaks::Http(service) = &listener.chains().only().unwrap().speaks else {
            panic!("not HTTP")
        };
        let service = Rc::clone(service);
        let background = by_hand.tasks();
        background.iter().for_each(|&task| by_hand.resume(task));
        Self { by_hand, over, tls, listener, service, cluster, origin, _folder: folder, background }
    }

    /// A client connects.
    pub(super) fn begin(&self, client: &[Act], origins: &[Vec<Act>]) -> Run<'_> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let shard = self.by_hand.shard;
        let configured = self.listener.listener();
        let permits = configured.limits.acquire().unwrap();
        let assignment = configured.balance.assign(shard.handle, shard.handles, |_| 0);
        let facts = Facts {
            peer: Address::from(([192, 0, 2, 1], 4711)),
            found: None,
            local: Address::from(([192, 0, 2, 2], 80)),
            guards: (permits, assignment),
        };
        let socket = Socket::new(ours.into()).unwrap();
        let arrival = Arrival { socket, early: Vec::new(), facts };
        begin(shard, &self.listener, arrival, HandOver::Possible);
        Run {
            world: self,
            client: Peer::new(
                theirs,
                (self.over == Over::TlsOfClient).then(|| self.tls.client().into()),
                client,
            ),
            origins: Vec::new(),
            scripts: origins.to_vec(),
            events: Events::Untaken,
            resumes: 0,
        }
    }

    fn connections(&self, tasks: &[usize]) -> Vec<usize> {
        tasks.iter().filter(|task| !self.background.contains(task)).copied().collect()
    }

    /// Client and origins have gone, and everything has happened.
    pub(super) fn check_laws(&self) {
        let _next = self.cluster.sweep(self.by_hand.shard.clock.now());
        let left = self.connections(&self.by_hand.tasks());
        assert!(left.is_empty(), "tasks are left: {left:?}");
        let http = self.service.http.shard(0);
        let cluster = self.cluster.stats();
        for (name, gauge) in [
            ("downstream_cx_active", &http.downstream_cx_active),
            ("downstream_cx_http1_active", &http.downstream_cx_http1_active),
            ("downstream_rq_active", &http.downstream_rq_active),
            ("upstream_cx_active", &cluster.upstream_cx_active),
            ("upstream_rq_active", &cluster.upstream_rq_active),
            ("upstream_rq_pending_active", &cluster.upstream_rq_pending_active),
            ("downstream_cx_http2_active", &http.downstream_cx_http2_active),
        ] {
            assert_eq!(gauge.value(), 0, "{name}");
        }
        for stats in [self.service.http2.shard(0), self.cluster.cluster().http2_stats.shard(0)] {
            for (name, gauge) in [
                ("streams_active", &stats.streams_active),
                ("pending_send_bytes", &stats.pending_send_bytes),
                ("outbound_frames_active", &stats.outbound_frames_active),
                ("outbound_control_frames_active", &stats.outbound_control_frames_active),
                ("deferred_stream_close", &stats.deferred_stream_close),
            ] {
                assert_eq!(gauge.value(), 0, "http2.{name}");
            }
        }
        let ended = |destroyed: u64, local: u64, remote: u64| {
            assert_eq!(destroyed, local + remote);
            destroyed
        };
        let downstream = ended(
            http.downstream_cx_destroy.value(),
            http.downstream_cx_destroy_local.value(),
            http.downstream_cx_destroy_remote.value(),
        );
        assert_eq!(http.downstream_cx_total.value(), downstream);
        let upstream = ended(
            cluster.upstream_cx_destroy.value(),
            cluster.upstream_cx_destroy_local.value(),
            cluster.upstream_cx_destroy_remote.value(),
        );
        assert_eq!(cluster.upstream_cx_total.value(), upstream);
    }
}

/// The transport socket, if there is one.
fn transport(is_tls: bool, socket: impl FnOnce() -> String) -> String {
    if is_tls { socket() } else { "transport_socket:".into() }
}

/// The complaint about a lost wake-up.
const MISSED: &str = "a task has found something that had not woken it";

/// Whether something may have happened on a socket that the shard has not been told yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Events {
    Taken,
    Untaken,
}

/// What can happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    TakeEvents,
    Resume(usize),
    Client,
    Origin(usize),
}

/// One client connection and what comes of it.
#[derive(Debug)]
pub(super) struct Run<'w> {
    world: &'w World,
    client: Peer,
    origins: Vec<Peer>,
    scripts: Vec<Vec<Act>>,
    events: Events,
    resumes: usize,
}

impl Run<'_> {
    /// Until nothing is left to do, or the tasks are given up after so many resumes.
    pub(super) fn play(&mut self, schedule: &mut impl Schedule, given_up: Option<usize>) {
        let by_hand = &self.world.by_hand;
        loop {
            if given_up == Some(self.resumes) {
                let tasks = self.world.connections(&by_hand.tasks());
                tasks.iter().for_each(|&task| by_hand.give_up(task));
                return;
            }
            let steps = self.steps();
            if steps.is_empty() {
                self.check_that_nobody_missed_a_wake_up();
                let sleepers = self.origins.iter_mut().chain([&mut self.client]);
                let Some(time) = sleepers.filter_map(Peer::wake_up).next() else { return };
                by_hand.pass(time);
                continue;
            }
            self.take(steps[schedule.choose(steps.len())], schedule);
        }
    }

    fn steps(&mut self) -> Vec<Step> {
        self.receive();
        let mut steps = Vec::new();
        if self.events == Events::Untaken {
            steps.push(Step::TakeEvents);
        }
        steps.extend(self.world.by_hand.woken().into_iter().map(Step::Resume));
        if self.client.can_act() {
            steps.push(Step::Client);
        }
        let origins = self.origins.iter_mut().enumerate();
        let able = origins.filter_map(|(at, each)| each.can_act().then_some(at));
        steps.extend(able.map(Step::Origin));
        steps
    }

    fn take(&mut self, step: Step, schedule: &mut impl Schedule) {
        self.events = Events::Untaken;
        match step {
            Step::TakeEvents => {
                self.world.by_hand.take_events();
                self.events = Events::Taken;
            }
            Step::Resume(task) => {
                self.resumes += usize::from(!self.world.background.contains(&task));
                self.world.by_hand.resume(task);
            }
            Step::Client => self.client.act(|of| schedule.piece(of)),
            Step::Origin(at) => self.origins[at].act(|of| schedule.piece(of)),
        }
    }

    fn receive(&mut self) {
        while let Ok((stream, _)) = self.world.origin.accept() {
            assert!(
                self.origins.len() < self.scripts.len(),
                "the origin does not expect another connection"
            );
            let World { over, tls, .. } = self.world;
            let tls = (*over == Over::TlsOfOrigin).then(|| tls.origin().into());
            self.origins.push(Peer::new(stream, tls, &self.scripts[self.origins.len()]));
        }
        let peers = self.origins.iter_mut().chain([&mut self.client]);
        // Whoever receives makes room.
        if peers.map(Peer::receive).sum::<usize>() > 0 {
            self.events = Events::Untaken;
        }
    }

    fn check_that_nobody_missed_a_wake_up(&mut self) {
        let before = self.told();
        let by_hand = &self.world.by_hand;
        for task in self.world.connections(&by_hand.tasks()) {
            by_hand.resume(task);
        }
        by_hand.take_events();
        let woken = self.world.connections(&by_hand.woken());
        assert!(woken.is_empty(), "{MISSED}");
        self.receive();
        assert!(before == self.told(), "{MISSED}");
    }

    /// The client and the origins go.
    pub(super) fn end(&mut self) {
        self.client.close();
        self.origins.iter_mut().for_each(Peer::close);
        self.events = Events::Untaken;
        // A connection that was being opened.
        while let Some(step) = self.steps().first().copied() {
            self.take(step, &mut Straight::default());
            self.origins.iter_mut().for_each(Peer::close);
        }
    }

    pub(super) const fn resumes(&self) -> usize {
        self.resumes
    }

    pub(super) fn told(&self) -> Told {
        Told {
            over: self.world.over,
            client: without_date(self.client.told()),
            end: self.client.ended(),
            origins: self.origins.iter().map(|origin| without_scheme(&origin.told())).collect(),
        }
    }
}

/// Requests of a client that speaks TLS differ in this.
fn without_scheme(text: &str) -> String {
    text.replace("x-forwarded-proto: https", "x-forwarded-proto: http")
        .replace(":scheme: https", ":scheme: http")
}

/// Blanks the date of responses that come from here.
fn without_date(mut text: String) -> String {
    const LENGTH: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();
    let mut from = 0;
    while let Some(at) = text[from..].find("date: ") {
        let start = from + at + "date: ".len();
        if text.len() < start + LENGTH {
            break;
        }
        text.replace_range(start..start + LENGTH, "now");
        from = start;
    }
    text
}
