//! What a processor says, and what happens when it fails.

use prost::Message;

use super::direction::{About, Answer};
use super::mode::{BodyMode, Mode};
use super::mutation::{Changes, Scope};
use super::proto::{
    CommonResponse, HeaderMutation, ImmediateResponse, Mutation, ProcessingResponse, Response,
    TrailersResponse,
};
use super::stream::Stream;
use super::{Ends, ExtProc, Immediate, Overrides, Work};
use crate::http::Fields;
use crate::request::callout::grpc::Status;
use crate::request::callout::grpc_stream::{End, Next};
use crate::request::filters::{Context, Way};
use crate::request::reply::LocalReply;
use crate::shard::clock::millis;

impl ExtProc {
    /// Takes what the processor has said, and gives it up if it is late.
    ///
    /// # Errors
    /// If the exchange ends with a reply.
    pub(super) fn receive(
        &self,
        way: Way,
        work: &mut Work,
        cx: &mut Context<'_, '_>,
    ) -> Result<(), Ends> {
        while !work.is_over && work.has_room(way) {
            let Some(stream) = work.stream.as_mut().and_then(Stream::get_mut) else { break };
            match stream.take_next() {
                Next::Nothing => break,
                Next::Message(message) => self.take(&message, work, cx)?,
                Next::Ended(end) => {
                    if let Some(stream) = work.stream.take() {
                        stream.ended();
                    }
                    self.ended(&end, work, cx)?;
                }
            }
        }
        let now = cx.core.shard.clock.now();
        let is_late = |deadline: Option<_>| deadline.is_some_and(|at| at <= now);
        if !work.is_over && (is_late(work.request.deadline) || is_late(work.response.deadline)) {
            self.stats(cx).message_timeouts.inc();
            work.finish();
            return self.fail(504, "ext_proc_error_per-message_timeout_exceeded", work, cx);
        }
        Ok(())
    }

    /// The processor has ended the stream.
    fn ended(&self, end: &End, work: &mut Work, cx: &Context<'_, '_>) -> Result<(), Ends> {
        if end.by_host {
            self.stats(cx).server_half_closed.inc();
        }
        let cuts_body = work.request.is_in_duplex() || work.response.is_in_duplex();
        if end.status == Status::OK && !cuts_body {
            self.stats(cx).streams_closed.inc();
            work.finish();
            return Ok(());
        }
        self.stats(cx).streams_failed.inc();
        work.finish();
        if work.plan.allows_failure {
            self.stats(cx).streams_closed.inc();
        }
        let End { status, message, by_host } = end;
        let via = if *by_host { "{via_upstream}" } else { "" };
        let details = format!("ext_proc_error_gRPC_error_{}{{{message}{via}}}", status.0);
        self.fail(self.status_on_error, &details, work, cx)
    }

    /// The processor has failed. Nothing makes up for parts of a body that only it has.
    fn fail(
        &self,
        status: u16,
        details: &str,
        work: &Work,
        cx: &Context<'_, '_>,
    ) -> Result<(), Ends> {
        if work.plan.allows_failure && !work.has_lost_parts {
            self.stats(cx).failure_mode_allowed.inc();
            return Ok(());
        }
        self.stats(cx).immediate_responses_sent.inc();
        Err(reply(status, details))
    }

    /// The message cannot be changed as the processor says.
    pub(super) fn invalid(&self, details: &str, work: &mut Work, cx: &Context<'_, '_>) -> Ends {
        work.finish();
        self.stats(cx).immediate_responses_sent.inc();
        reply(self.status_on_error, details)
    }

    fn take(&self, message: &[u8], work: &mut Work, cx: &mut Context<'_, '_>) -> Result<(), Ends> {
        // As in Envoy, an observer's answers do not count.
        if self.observes {
            return Ok(());
        }
        let Ok(message) = ProcessingResponse::decode(message) else {
            drop(work.stream.take());
            return self.ended(&End::nonsense(), work, cx);
        };
        let ProcessingResponse {
            response,
            dynamic_metadata,
            mode_override,
            override_message_timeout,
        } = message;
        if let Some(timeout) = override_message_timeout {
            self.extend(timeout, work, cx);
            return Ok(());
        }
        if let Some(mode) = mode_override {
            self.override_mode(mode, work);
        }
        let (way, about, answer) = match response {
            Some(Response::Immediate(immediate)) if self.immediate == Immediate::Allowed => {
                note(dynamic_metadata, work, cx);
                self.stats(cx).stream_msgs_received.inc();
                self.stats(cx).immediate_responses_sent.inc();
                work.finish();
                return Err(self.immediate_reply(immediate, cx));
            }
            Some(Response::RequestHeaders(headers)) => (
                Way::Request,
                About::Headers,
                Answer::Headers(headers.response.unwrap_or_default()),
            ),
            Some(Response::ResponseHeaders(headers)) => (
                Way::Response,
                About::Headers,
                Answer::Headers(headers.response.unwrap_or_default()),
            ),
            Some(Response::RequestBody(body)) => {
                (Way::Request, About::Body, Answer::Body(body.response.unwrap_or_default()))
            }
            Some(Response::ResponseBody(body)) => {
                (Way::Response, About::Body, Answer::Body(body.response.unwrap_or_default()))
            }
            Some(Response::RequestTrailers(trailers)) => {
                (Way::Request, About::Trailers, of_trailers(trailers))
            }
            Some(Response::ResponseTrailers(trailers)) => {
                (Way::Response, About::Trailers, of_trailers(trailers))
            }
            Some(Response::Immediate(_)) => {
                let details = "unhandled_immediate_response_due_to_config_disabled_it";
                return self.spurious(details, work, cx);
            }
            None => return self.spurious("unhandled_message", work, cx),
        };
        note(dynamic_metadata, work, cx);
        let direction = work.direction_mut(way);
        let is_duplex = direction.parts.body == BodyMode::FullDuplex;
        let is_right = match &answer {
            Answer::Body(response) => !is_duplex || is_streamed(response),
            Answer::Headers(_) | Answer::Trailers(_) => true,
        };
        if !is_right || !direction.expects(about, is_duplex) {
            return self.spurious("spurious_message", work, cx);
        }
        direction.take(answer);
        self.stats(cx).stream_msgs_received.inc();
        Ok(())
    }

    /// The processor has said something at the wrong time.
    fn spurious(&self, details: &str, work: &mut Work, cx: &Context<'_, '_>) -> Result<(), Ends> {
        self.stats(cx).spurious_msgs_received.inc();
        work.finish();
        self.fail(self.status_on_error, details, work, cx)
    }

    /// The processor asks for more time.
    fn extend(&self, timeout: prost_types::Duration, work: &mut Work, cx: &Context<'_, '_>) {
        let stats = self.stats(cx);
        let timeout = std::time::Duration::try_from(timeout).map(millis).unwrap_or_default();
        let now = cx.core.shard.clock.now();
        let mut is_extended = false;
        if timeout >= 1 && timeout <= millis(self.max_message_timeout) {
            for direction in [&mut work.request, &mut work.response] {
                if direction.deadline.is_some() && !direction.is_extended {
                    direction.deadline = Some(now.saturating_add(timeout));
                    direction.is_extended = true;
                    is_extended = true;
                }
            }
        }
        if is_extended {
            stats.override_message_timeout_received.inc();
        } else {
            stats.override_message_timeout_ignored.inc();
        }
    }

    /// The processor asks to see other parts of the messages. As in Envoy, it can do so when it answers
    /// headers, but a body is processed as its first parts were.
    fn override_mode(&self, mode: super::proto::ProcessingMode, work: &mut Work) {
        let answers_headers = work.request.owes_headers() || work.response.owes_headers();
        let mode = Mode::read(&mode).filter(Mode::is_possible);
        let Some(mode) = mode.filter(|_| answers_headers && !self.sends_body_early) else {
            return;
        };
        let is_allowed = match &self.overrides {
            Overrides::None => false,
            Overrides::Any => true,
            Overrides::Listed(modes) => mode.is_among(modes),
        };
        for way in [Way::Request, Way::Response] {
            let direction = work.direction_mut(way);
            if is_allowed && direction.takes_mode() {
                direction.parts = mode.of(way);
            }
        }
    }

    fn immediate_reply(&self, immediate: ImmediateResponse, cx: &Context<'_, '_>) -> Ends {
        let ImmediateResponse { status, headers, body, grpc_status, details } = immediate;
        let code = status.map_or(0, |status| status.code);
        let code = u16::try_from(code).ok().filter(|code| (200..1000).contains(code));
        let mut reply = reply(code.unwrap_or(200), &details);
        reply.body = body.into();
        reply.grpc_status = grpc_status.and_then(|status| u8::try_from(status.status).ok());
        if let Some(mutation) = headers {
            let mut fields = Fields::default();
            let mut status = None;
            if let Ok(changes) = self.changes(mutation, Scope::default(), |_| false, cx) {
                status = changes.change_fields(&mut fields);
            }
            reply.status = status.unwrap_or(reply.status);
            reply.fields = Some(Box::new(fields));
        }
        reply
    }

    /// Reads the changes that the processor asks for.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn changes(
        &self,
        mutation: HeaderMutation,
        scope: Scope,
        exists: impl Fn(&[u8]) -> bool,
        cx: &Context<'_, '_>,
    ) -> Result<Changes, String> {
        let mut rejected = 0;
        let changes = Changes::read(mutation, &self.rules, scope, exists, &mut rejected);
        self.stats(cx).rejected_header_mutations.add(rejected);
        changes
    }
}

/// Whether it is an answer in full duplex.
fn is_streamed(response: &CommonResponse) -> bool {
    let mutation = response.body_mutation.as_ref().and_then(|mutation| mutation.mutation.as_ref());
    matches!(mutation, Some(Mutation::StreamedResponse(_)))
}

fn of_trailers(trailers: TrailersResponse) -> Answer {
    Answer::Trailers(trailers.header_mutation.unwrap_or_default())
}

/// A reply of the filter. As in Envoy, its details have no blanks.
fn reply(status: u16, details: &str) -> Ends {
    let details = details.replace(|c: char| c.is_ascii_whitespace(), "_");
    Box::new(LocalReply::new(status, "").with_details(None, details))
}

/// Notes what the processor says about the request.
fn note(metadata: Option<prost_types::Struct>, work: &Work, cx: &mut Context<'_, '_>) {
    let Some(metadata) = metadata else { return };
    for (namespace, value) in crate::request::callout::json::of_struct(metadata) {
        if let serde_json::Value::Object(values) = value
            && work.plan.receiving.contains(&namespace)
        {
            let noted = &mut cx.core.note().metadata;
            noted.set_all(&namespace, &values);
        }
    }
}
