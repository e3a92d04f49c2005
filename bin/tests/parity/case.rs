//! A case: what the client sends, what the origin does, and what happened.

use std::fmt;

use crate::support::{Act, is_oracle};

use super::text;

/// A case, in the order of its file.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// A description; and why Corvoy differs, if it does.
    about: String,
    pub(super) steps: Vec<Step>,
    /// The steps of Corvoy where it differs on purpose, in place of the steps with the same title.
    corvoy: Vec<Step>,
}

/// A part of a case: its title and its content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Step {
    pub(super) kind: Kind,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Options of the connection manager, for this case only.
    ManagerHas,
    ListenerHas,
    RouteHas,
    ClusterHas,
    /// Fields of the `HttpProtocolOptions` of the cluster.
    ClusterProtocolHas,
    /// Fields of the `http2_protocol_options` in it.
    ClusterHttp2Has,
    /// Fields of `tcp_proxy`.
    TcpProxyHas,
    /// The network filters in front of it.
    FiltersAre,
    OriginSends,
    OriginHalfCloses,
    OriginResets,
    ClientResets,
    /// Recorded: the bytes of a connection without HTTP until it is quiet.
    ClientReceives,
    /// The same, when it has ended.
    ClientReceivesEnd,
    /// The same, when it was reset.
    ClientReceivesReset,
    /// The same at the origin.
    OriginReceives,
    OriginReceivesEnd,
    OriginReceivesReset,
    /// Recorded if the origin has no connection.
    OriginHasNoClient,
    /// How a client of HTTP/2 begins a connection, if it matters.
    ClientGreets,
    ClientSendsFrames,
    /// Recorded: the frames until the connection is quiet, or has ended.
    ClientGetsFrames,
    /// How an origin of HTTP/2 begins its connections, if it matters.
    OriginGreets,
    OriginSendsFrames,
    /// Recorded: the frames on all connections of the origin.
    OriginGetsFrames,
    /// A number of milliseconds.
    ClientWaits,
    ClientSends,
    ClientHalfCloses,
    /// Recorded; its position determines when the client reads.
    ClientGets,
    /// The same for a response to HEAD.
    ClientGetsHead,
    /// Recorded if the response was truncated: its head only, because how much of the body arrived
    /// depends on timing.
    ClientGetsCutOff,
    /// Recorded if nothing was received within a reasonable time.
    ClientGetsNothing,
    /// A response of admin: the relevant part.
    AdminAnswers,
    OriginAnswers,
    OriginAnswersAndCloses,
    OriginAnswersAndStalls,
    OriginAnswersAndResets,
    /// Recorded.
    OriginSees,
    /// Recorded.
    OriginSeesNothing,
    /// What the second origin answers.
    MirrorAnswers,
    MirrorAnswersAndStalls,
    /// Recorded if the case has one of these two: the requests at the second origin.
    MirrorSees,
    MirrorSeesNothing,
    /// Recorded: the state of the client's connection at the end.
    ConnectionStaysOpen,
    ConnectionCloses,
    /// Names are given, values are recorded.
    ServerNames,
    Stats,
    /// Recorded: the lines of the access log.
    AccessLog,
}

const TITLES: [(Kind, &str); 48] = [
    (Kind::ManagerHas, "manager has"),
    (Kind::ListenerHas, "listener has"),
    (Kind::RouteHas, "route has"),
    (Kind::ClusterHas, "cluster has"),
    (Kind::ClusterProtocolHas, "cluster's protocol has"),
    (Kind::ClusterHttp2Has, "cluster's http2 has"),
    (Kind::TcpProxyHas, "tcp_proxy has"),
    (Kind::FiltersAre, "filters are"),
    (Kind::OriginSends, "origin sends"),
    (Kind::OriginHalfCloses, "origin half-closes"),
    (Kind::OriginResets, "origin resets"),
    (Kind::ClientResets, "client resets"),
    (Kind::ClientReceives, "client receives"),
    (Kind::ClientReceivesEnd, "client receives, and the end"),
    (Kind::ClientReceivesReset, "client receives, and a reset"),
    (Kind::OriginReceives, "origin receives"),
    (Kind::OriginReceivesEnd, "origin receives, and the end"),
    (Kind::OriginReceivesReset, "origin receives, and a reset"),
    (Kind::OriginHasNoClient, "origin has no client"),
    (Kind::ClientGreets, "client greets"),
    (Kind::ClientSendsFrames, "client sends frames"),
    (Kind::ClientGetsFrames, "client gets frames"),
    (Kind::OriginGreets, "origin greets"),
    (Kind::OriginSendsFrames, "origin sends frames"),
    (Kind::OriginGetsFrames, "origin gets frames"),
    (Kind::ClientWaits, "client waits"),
    (Kind::ClientSends, "client sends"),
    (Kind::ClientHalfCloses, "client half-closes"),
    (Kind::ClientGets, "client gets"),
    (Kind::ClientGetsHead, "client gets, to HEAD"),
    (Kind::ClientGetsCutOff, "client gets, cut off"),
    (Kind::ClientGetsNothing, "client gets nothing"),
    (Kind::AdminAnswers, "admin answers"),
    (Kind::OriginAnswers, "origin answers"),
    (Kind::OriginAnswersAndCloses, "origin answers and closes"),
    (Kind::OriginAnswersAndStalls, "origin answers and stalls"),
    (Kind::OriginAnswersAndResets, "origin answers and resets"),
    (Kind::OriginSees, "origin sees"),
    (Kind::OriginSeesNothing, "origin sees nothing"),
    (Kind::MirrorAnswers, "mirror answers"),
    (Kind::MirrorAnswersAndStalls, "mirror answers and stalls"),
    (Kind::MirrorSees, "mirror sees"),
    (Kind::MirrorSeesNothing, "mirror sees nothing"),
    (Kind::ConnectionStaysOpen, "connection stays open"),
    (Kind::ConnectionCloses, "connection closes"),
    (Kind::ServerNames, "server names"),
    (Kind::Stats, "stats"),
    (Kind::AccessLog, "access log"),
];

const FOR_CORVOY: &str = "corvoy: ";

impl Case {
    pub(super) fn parse(file: &str) -> Result<Self, String> {
        let mut case = Self { about: String::new(), steps: Vec::new(), corvoy: Vec::new() };
        let mut rest = file;
        while let Some((before, after)) = split_at_title(rest) {
            case.text().push_str(before);
            let (title, after) = after.split_once('\n').unwrap_or((after, ""));
            let (steps, title) = match title.strip_prefix(FOR_CORVOY) {
                Some(title) => (&mut case.corvoy, title),
                None => (&mut case.steps, title),
            };
            let known = TITLES.iter().find(|(_, known)| *known == title.trim_end());
            let (kind, _) = known.ok_or_else(|| format!("unknown step '{title}'"))?;
            steps.push(Step { kind: *kind, text: String::new() });
            rest = after;
        }
        case.text().push_str(rest);
        Ok(case)
    }

    /// The case with these steps; those for Corvoy stay.
    pub(super) fn with_steps(&self, steps: Vec<Step>) -> Self {
        Self { steps, ..self.clone() }
    }

    /// The case with other recorded texts.
    pub(super) fn with_recorded(mut self, change: impl Fn(&str) -> String) -> Self {
        for step in self.steps.iter_mut().chain(&mut self.corvoy) {
            if step.kind.group() != Group::Script {
                step.text = change(&step.text);
            }
        }
        self
    }

    /// The case with other frames from the client.
    pub(super) fn with_sent_frames(mut self, change: impl Fn(&str) -> String) -> Self {
        for step in &mut self.steps {
            if matches!(step.kind, Kind::ClientGreets | Kind::ClientSendsFrames) {
                step.text = change(&step.text);
            }
        }
        self
    }

    /// Whether the connections are relayed as they are, without HTTP.
    pub(super) fn is_raw(&self) -> bool {
        self.steps.iter().any(|step| step.kind.is_raw())
    }

    pub(super) fn client_speaks_http2(&self) -> bool {
        let kinds = [Kind::ClientGreets, Kind::ClientSendsFrames, Kind::ClientGetsFrames];
        kinds.into_iter().any(|kind| self.text_of(kind).is_some())
    }

    pub(super) fn origin_speaks_http2(&self) -> bool {
        let kinds = [Kind::OriginGreets, Kind::OriginSendsFrames, Kind::OriginGetsFrames];
        kinds.into_iter().any(|kind| self.text_of(kind).is_some())
    }

    /// The text of the first step of this kind.
    pub(super) fn text_of(&self, kind: Kind) -> Option<&str> {
        self.steps.iter().find(|step| step.kind == kind).map(|step| step.text.as_str())
    }

    /// The acts of the origin, in order.
    pub(super) fn script(&self) -> Result<Vec<Act>, String> {
        let acts = self.steps.iter().filter_map(|step| {
            let act: fn(Vec<u8>) -> Act = match step.kind {
                Kind::OriginAnswers => Act::Reply,
                Kind::OriginAnswersAndCloses => Act::ReplyThenClose,
                Kind::OriginAnswersAndStalls => Act::ReplyThenStall,
                Kind::OriginAnswersAndResets => Act::ReplyThenReset,
                _ => return None,
            };
            Some(text::decode(&step.text).map(act))
        });
        acts.collect()
    }

    /// The acts of the second origin, in order; `None`: the case has none.
    pub(super) fn mirror_script(&self) -> Option<Vec<Act>> {
        let acts = self.steps.iter().filter_map(|step| {
            let act: fn(Vec<u8>) -> Act = match step.kind {
                Kind::MirrorAnswers => Act::Reply,
                Kind::MirrorAnswersAndStalls => Act::ReplyThenStall,
                _ => return None,
            };
            Some(act(text::decode(&step.text).unwrap()))
        });
        let acts: Vec<Act> = acts.collect();
        let is_seen = self.steps.iter().any(|step| step.kind.group() == Group::Mirror);
        (is_seen || !acts.is_empty()).then_some(acts)
    }

    /// The configuration with the additions of this case, at the lines `# manager`, `# cluster` and
    /// so on.
    pub(super) fn configuration(&self, config: &str) -> String {
        let add = |line: &str| {
            let place = line.trim_start();
            let kind = match place {
                "# manager" => Kind::ManagerHas,
                "# listener" => Kind::ListenerHas,
                "# route" => Kind::RouteHas,
                "# cluster" => Kind::ClusterHas,
                "# protocol" => Kind::ClusterProtocolHas,
                "# http2" => Kind::ClusterHttp2Has,
                "# tcp_proxy" => Kind::TcpProxyHas,
                "# filters" => Kind::FiltersAre,
                _ => return line.to_owned() + "\n",
            };
            let indent = &line[..line.len() - place.len()];
            let added = self.steps.iter().filter(|step| step.kind == kind);
            let added = added.flat_map(|step| step.text.lines());
            added.map(|line| format!("{indent}{line}\n")).collect()
        };
        config.lines().map(add).collect()
    }

    /// The difference between what happened and what is recorded.
    pub(super) fn difference(&self, happened: &Self) -> Option<String> {
        let mut expected: Vec<&Step> = self.recorded().collect();
        let corvoy = if is_oracle() { &[][..] } else { &self.corvoy };
        for instead in corvoy {
            // A step for Corvoy replaces every step of that kind, or of the end.
            expected.retain(|step| step.kind.group() != instead.kind.group());
        }
        expected.extend(corvoy);
        let found: Vec<&Step> = happened.recorded().collect();
        let groups =
            [Group::Client, Group::Origin, Group::Mirror, Group::End, Group::Stats, Group::Log];
        let differing = groups.into_iter().filter_map(|group| {
            let of = |steps: &[&Step]| -> String {
                let steps = steps.iter().filter(|step| step.kind.group() == group);
                steps.map(|step| text::mask(&step.to_string())).collect()
            };
            let (expected, found) = (of(&expected), of(&found));
            (expected != found).then(|| lines_that_differ(&expected, &found))
        });
        let differing: String = differing.collect();
        (!differing.is_empty()).then_some(differing)
    }

    /// The text of the last part.
    fn text(&mut self) -> &mut String {
        let last = self.corvoy.last_mut().or_else(|| self.steps.last_mut());
        last.map_or(&mut self.about, |step| &mut step.text)
    }

    fn recorded(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.kind.group() != Group::Script)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Group {
    /// Given, not recorded.
    Script,
    Client,
    Origin,
    Mirror,
    End,
    Stats,
    Log,
}

impl Kind {
    /// What the client received.
    pub(super) fn is_of_client(self) -> bool {
        self.group() == Group::Client
    }

    pub(super) fn is_recorded(self) -> bool {
        self.group() != Group::Script
    }

    /// Whether the client or the origin does something.
    pub(super) fn is_an_act(self) -> bool {
        self.is_raw()
            || matches!(
                self,
                Self::ClientSends
                    | Self::ClientSendsFrames
                    | Self::ClientHalfCloses
                    | Self::OriginSendsFrames
            )
    }

    /// Whether it is about a connection without HTTP.
    fn is_raw(self) -> bool {
        matches!(
            self,
            Self::OriginSends
                | Self::OriginHalfCloses
                | Self::OriginResets
                | Self::ClientResets
                | Self::ClientReceives
                | Self::ClientReceivesEnd
                | Self::ClientReceivesReset
                | Self::OriginReceives
                | Self::OriginReceivesEnd
                | Self::OriginReceivesReset
                | Self::OriginHasNoClient
        )
    }

    fn group(self) -> Group {
        match self {
            Self::ClientGets
            | Self::ClientGetsHead
            | Self::ClientGetsCutOff
            | Self::ClientGetsNothing
            | Self::AdminAnswers
            | Self::ClientGetsFrames
            | Self::ClientReceives
            | Self::ClientReceivesEnd
            | Self::ClientReceivesReset => Group::Client,
            Self::OriginReceives
            | Self::OriginReceivesEnd
            | Self::OriginReceivesReset
            | Self::OriginHasNoClient
            | Self::OriginGetsFrames
            | Self::OriginSees
            | Self::OriginSeesNothing
            | Self::ServerNames => Group::Origin,
            Self::MirrorSees | Self::MirrorSeesNothing => Group::Mirror,
            Self::ConnectionStaysOpen | Self::ConnectionCloses => Group::End,
            Self::Stats => Group::Stats,
            Self::AccessLog => Group::Log,
            _ => Group::Script,
        }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.about)?;
        for step in &self.steps {
            let given = step.kind.group() == Group::Script;
            let step = step.to_string();
            f.write_str(&if given { step } else { text::mask(&step) })?;
        }
        for step in &self.corvoy {
            f.write_str(&step.to_string().replacen("=== ", &format!("=== {FOR_CORVOY}"), 1))?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = TITLES.iter().find(|(kind, _)| *kind == self.kind).map(|(_, title)| title);
        write!(f, "=== {}\n{}", title.unwrap_or(&""), self.text)
    }
}

/// The text before the next title, and the title with the rest.
fn split_at_title(text: &str) -> Option<(&str, &str)> {
    if let Some(after) = text.strip_prefix("=== ") {
        return Some(("", after));
    }
    let (before, after) = text.split_once("\n=== ")?;
    Some((text.get(..=before.len())?, after))
}

/// Both texts, line by line, as a diff.
fn lines_that_differ(expected: &str, found: &str) -> String {
    let (expected, found): (Vec<_>, Vec<_>) = (expected.lines().collect(), found.lines().collect());
    let same = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
    let tail = expected[same..].iter().rev().zip(found[same..].iter().rev());
    let same_at_end = tail.take_while(|(a, b)| a == b).count();
    let mut out = String::new();
    let mut show = |sign: char, lines: &[&str]| {
        for line in lines {
            out.push(sign);
            out.push_str(line);
            out.push('\n');
        }
    };
    show(' ', &expected[..same]);
    show('-', &expected[same..expected.len() - same_at_end]);
    show('+', &found[same..found.len() - same_at_end]);
    show(' ', &expected[expected.len() - same_at_end..]);
    out
}
