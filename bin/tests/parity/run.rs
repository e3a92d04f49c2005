//! Runs a case against the binary under test and records what happens.

use std::fmt::Write as _;
use std::fs;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use regex::Regex;
use tempfile::TempDir;

use crate::support::{Act, Broken, Client, Config, Message, Origin, Proxy, Refusing, Tls};

use super::case::{Case, Kind, Step};
use super::log::{self, AccessLog};
use super::{compressed, http2, raw, text};

/// The case as it ran: given steps unchanged, recorded ones with their results.
/// With `tls`, client and origin speak TLS.
pub(super) fn run(case: &Case, config: &str, tls: Option<&Tls>) -> Case {
    if case.is_raw() {
        return raw::run(case, config);
    }
    if case.client_speaks_http2() || case.origin_speaks_http2() {
        return http2::run(case, config, tls);
    }
    let origin = origin(case, tls);
    let mirror = case.mirror_script().map(|script| origin_with(script, tls));
    let refusing = Refusing::new();
    let secrets = tls.map(Secrets::new);
    let mut yaml = case.configuration(config);
    if let Some(secrets) = &secrets {
        yaml = secrets.filled_in(&yaml);
    }
    let yaml = yaml
        .replace("ORIGIN_PORT", &origin.port().to_string())
        .replace("MIRROR_PORT", &mirror.as_ref().map_or(1, Origin::port).to_string())
        .replace("REFUSED_PORT", &refusing.address().port().to_string());
    let log = AccessLog::of(case);
    let proxy = start(&yaml, log.as_ref());

    let to_admin = case.steps.iter().any(|step| step.kind == Kind::AdminAnswers);
    let mut client = match tls {
        _ if to_admin => Client::connect(proxy.admin_address()),
        None => proxy.connect(),
        Some(tls) => proxy.connect_tls(tls),
    };
    let mut steps = Vec::new();
    for step in &case.steps {
        match step.kind {
            Kind::ClientSends => {
                // A proxy that has sent an error response may have closed.
                drop(client.wire().send(&text::decode(&step.text).unwrap()));
                steps.push(step.clone());
            }
            Kind::ClientHalfCloses => {
                drop(client.wire().half_close()); // the same
                steps.push(step.clone());
            }
            Kind::ClientWaits => {
                thread::sleep(Duration::from_millis(step.text.trim().parse().unwrap()));
                steps.push(step.clone());
            }
            Kind::ClientGets | Kind::ClientGetsCutOff | Kind::ClientGetsNothing => {
                steps.push(answer(&mut client, "GET", Kind::ClientGets));
            }
            Kind::ClientGetsHead => steps.push(answer(&mut client, "HEAD", step.kind)),
            Kind::AdminAnswers => steps.push(admin_answer(&mut client)),
            Kind::ManagerHas
            | Kind::ListenerHas
            | Kind::RouteHas
            | Kind::ClusterHas
            | Kind::OriginAnswers
            | Kind::OriginAnswersAndCloses
            | Kind::OriginAnswersAndStalls
            | Kind::OriginAnswersAndResets
            | Kind::MirrorAnswers
            | Kind::MirrorAnswersAndStalls => steps.push(step.clone()),
            // At the end; the others are for connections without HTTP.
            _ => {}
        }
    }
    if !to_admin {
        steps.push(Step { kind: end(&mut client, &steps), text: String::new() });
        steps.extend(sights(&origin.seen()));
        steps.extend(mirror.iter().flat_map(|mirror| sights_of_mirror(case, mirror)));
        steps.extend(server_names(case, &origin));
    }
    let of_stats = case.steps.iter().filter(|step| step.kind == Kind::Stats);
    steps.extend(of_stats.map(|step| stats(&proxy, &step.text)));
    // A reset ends what is still in progress at once.
    client.reset();
    steps.extend(logged(case, log.as_ref()));
    case.with_steps(steps)
}

/// The names that the origin was asked for, if the case is about them.
fn server_names(case: &Case, origin: &Origin) -> Option<Step> {
    let is_asked = case.steps.iter().any(|step| step.kind == Kind::ServerNames);
    is_asked.then(|| {
        let text = origin.server_names().iter().map(|name| format!("{name}\n")).collect();
        Step { kind: Kind::ServerNames, text }
    })
}

/// A proxy with this configuration and, if there is one, an access log.
pub(super) fn start(yaml: &str, log: Option<&AccessLog>) -> Proxy {
    let Some(log) = log else { return Proxy::with(Config::verbatim(yaml)) };
    Proxy::with(Config::verbatim(log.added_to(yaml)).flags(&log::FLAGS))
}

/// What was logged in the case.
pub(super) fn logged(case: &Case, log: Option<&AccessLog>) -> Option<Step> {
    Some(log?.step(case.text_of(Kind::AccessLog)?))
}

/// The origin of the case, if that speaks HTTP/1.
pub(super) fn origin(case: &Case, tls: Option<&Tls>) -> Origin {
    origin_with(case.script().unwrap(), tls)
}

fn origin_with(mut script: Vec<Act>, tls: Option<&Tls>) -> Origin {
    if script.is_empty() {
        script.push(Act::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into()));
    }
    match tls {
        None => Origin::that_does(script),
        Some(tls) => Origin::over_tls(tls, script),
    }
}

/// What a configuration about TLS refers to: a certificate in place, and secrets in files.
struct Secrets<'a> {
    tls: &'a Tls,
    folder: TempDir,
}

impl<'a> Secrets<'a> {
    fn new(tls: &'a Tls) -> Self {
        let secrets = Self { tls, folder: TempDir::new().unwrap() };
        secrets.place("certificate", "tls_certificate", &tls.pair());
        secrets.place("trust", "validation_context", &tls.trust());
        secrets.place("others", "validation_context", &Tls::new().trust());
        secrets
    }

    /// Writes a secret to a file of this name.
    fn place(&self, name: &str, kind: &str, content: &str) {
        let kind_of = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
        let secret =
            format!(r#"{{ "@type": "{kind_of}", "name": "{name}", "{kind}": {content} }}"#);
        let file = self.folder.path().join(name).with_extension("json");
        fs::write(file, format!(r#"{{ "resources": [{secret}] }}"#)).unwrap();
    }

    fn filled_in(&self, yaml: &str) -> String {
        let folder = self.folder.path().to_string_lossy();
        yaml.replace("TLS_CERTIFICATE", &self.tls.pair())
            .replace("TLS_TRUST", &self.tls.trust())
            .replace("TLS_SECRETS", &folder)
    }
}

/// The current values of these stats. Some are updated after the response is sent, so recorded
/// values are waited for.
pub(super) fn stats(proxy: &Proxy, wanted: &str) -> Step {
    let deadline = Instant::now() + Duration::from_secs(2);
    loop {
        let stats = proxy.stats();
        let text: String = wanted
            .lines()
            .map(|line| {
                let name = line.split(':').next().unwrap_or_default();
                format!("{name}: {}\n", stats.get(name).copied().unwrap_or_default())
            })
            .collect();
        if text == wanted || Instant::now() > deadline {
            return Step { kind: Kind::Stats, text };
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The next response; interim responses are put before it.
pub(super) fn answer(client: &mut Client, method: &str, kind: Kind) -> Step {
    match client.try_response(method) {
        Ok(response) => {
            let interim = response.interim.iter().fold(String::new(), |mut all, status| {
                let _ = writeln!(all, "HTTP/1.1 {status} …\n");
                all
            });
            Step { kind, text: interim + &text::encode(&compressed::shown(&response).canonical()) }
        }
        Err(Broken::Silent(bytes)) => {
            Step { kind: Kind::ClientGetsNothing, text: text::encode(&bytes) }
        }
        Err(broken) => Step { kind: Kind::ClientGetsCutOff, text: text::encode(broken.bytes()) },
    }
}

static LEFT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("(?m)^x-envoy-expected-rq-timeout-ms: .*$").unwrap());

/// What the origin received. A retry states the remaining time, which depends on timing.
pub(super) fn sights(seen: &[Message]) -> Vec<Step> {
    if seen.is_empty() {
        return vec![Step { kind: Kind::OriginSeesNothing, text: String::new() }];
    }
    let mut previous = "";
    let sights = seen.iter().map(|request| {
        let mut text = text::encode(&compressed::shown(request).canonical());
        if request.start_line == previous {
            text = LEFT.replace(&text, "x-envoy-expected-rq-timeout-ms: <left>").into_owned();
        }
        previous = &request.start_line;
        Step { kind: Kind::OriginSees, text }
    });
    sights.collect()
}

static LOCAL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("(?m)^(x-forwarded-for: (?:.*,)?)[^,\\r\\n]+").unwrap());

/// What the second origin received, which may come later than the response. The proxy adds its own address.
fn sights_of_mirror(case: &Case, mirror: &Origin) -> Vec<Step> {
    let expected = case.steps.iter().filter(|step| step.kind == Kind::MirrorSees).count();
    let deadline = Instant::now() + Duration::from_secs(2);
    while mirror.seen().len() < expected && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    // As many as it should be, or more.
    thread::sleep(Duration::from_millis(100));
    let steps = sights(&mirror.seen()).into_iter().map(|step| Step {
        kind: match step.kind {
            Kind::OriginSees => Kind::MirrorSees,
            _ => Kind::MirrorSeesNothing,
        },
        text: LOCAL.replace(&step.text, "${1}<local>").into_owned(),
    });
    steps.collect()
}

/// The state of the connection at the end. After `connection: close`, closing may take a moment:
/// the proxy gives the client time to read.
pub(super) fn end(client: &mut Client, steps: &[Step]) -> Kind {
    let answer = steps.iter().rev().find(|step| step.kind.is_of_client());
    let announced = answer
        .is_some_and(|answer| answer.text.to_ascii_lowercase().contains("\nconnection: close\n"));
    if announced {
        client.is_closed();
    }
    if !announced && client.seems_open() {
        Kind::ConnectionStaysOpen
    } else {
        Kind::ConnectionCloses
    }
}

/// Status, the relevant headers, and the body; its framing does not matter.
fn admin_answer(client: &mut Client) -> Step {
    let response: Message = client.response();
    let mut text = format!("{}\n", response.start_line);
    for name in ["content-type", "cache-control", "x-content-type-options"] {
        if let Some(value) = response.header(name) {
            let _ = writeln!(text, "{name}: {value}");
        }
    }
    let _ = write!(text, "\n{}", response.text());
    Step { kind: Kind::AdminAnswers, text: text.trim_end().to_owned() + "\n" }
}
