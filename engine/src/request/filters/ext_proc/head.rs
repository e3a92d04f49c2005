//! Heads on their way past a processor.

use super::body::{PAUSE, apply_body, apply_to_trailers};
use super::direction::{Answer, Direction, Owes, Stage};
use super::mode::BodyMode;
use super::mutation::Scope;
use super::proto::{BodyMutation, CONTINUE_AND_REPLACE, CommonResponse, HeaderMutation, Request};
use super::stream::Stream;
use super::{Ends, ExtProc, RouteCacheAction, State, WRONG_LENGTH, Work, collects, question};
use crate::format::Inputs;
use crate::http::{self, BodyLength, FieldName, Fields};
use crate::request::filters::active::HeldFor;
use crate::request::filters::{Back, Context, Flow, Wait, Way};
use crate::shard::clock::millis;

/// What happens to a head.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// It goes on.
    Continue,
    /// It waits for an answer.
    Answer,
    /// It waits for an answer, or a part of the body.
    AnswerOrBody,
    /// It waits for all of the body.
    Body,
    /// It waits for all of the body, or as much as may be held.
    PartOfBody,
}

impl Step {
    pub(super) fn for_request(self, cx: &Context<'_, '_>) -> Flow {
        Flow::Wait(match self {
            Self::Continue => return Flow::Continue,
            Self::Answer => Wait::Call,
            Self::AnswerOrBody => Wait::CallOrBody,
            Self::Body => Wait::Body { bytes_max: ExtProc::bytes_max(cx) },
            Self::PartOfBody => Wait::BodyUpTo { bytes: ExtProc::bytes_max(cx) },
        })
    }

    pub(super) fn for_response(self, cx: &Context<'_, '_>) -> Back {
        Back::Hold(match self {
            Self::Continue => return Back::Continue,
            Self::Answer => HeldFor::Answer,
            Self::AnswerOrBody => HeldFor::AnswerOrBody,
            Self::Body => HeldFor::Body,
            Self::PartOfBody => HeldFor::BodyUpTo(ExtProc::bytes_max(cx)),
        })
    }
}

impl ExtProc {
    /// A head that has come, or what it waits for.
    pub(super) fn head(
        &self,
        way: Way,
        state: &mut State,
        cx: &mut Context<'_, '_>,
    ) -> Result<Step, Ends> {
        let work = self.begin(state, cx);
        self.receive(way, work, cx)?;
        let step = self.next_step(way, work, cx)?;
        if step == Step::Continue {
            let said = fields(way, cx).get(FieldName::ContentLength);
            let said = said.and_then(http::content_length);
            let direction = work.direction_mut(way);
            direction.bytes_left = said.filter(|_| direction.has_body);
        }
        Ok(step)
    }

    fn next_step(&self, way: Way, work: &mut Work, cx: &mut Context<'_, '_>) -> Result<Step, Ends> {
        loop {
            let Direction { stage, answers, .. } = work.direction(way);
            if work.is_over && (answers.is_empty() || *stage == Stage::Collecting) {
                return Ok(Self::release(way, work, cx));
            }
            let step = match work.direction(way).stage {
                Stage::New => self.begin_head(way, work, cx),
                Stage::Headers => self.headers_answered(way, work, cx)?,
                Stage::Collecting => self.collected(way, work, cx),
                Stage::Body => self.body_answered(way, work, cx)?,
                Stage::Trailers => self.trailers_answered(way, work, cx)?,
                Stage::Passing | Stage::Done | Stage::Replaced | Stage::Dropping => {
                    Some(Step::Continue)
                }
            };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// The head goes on: the processor is not asked any more.
    fn release(way: Way, work: &mut Work, cx: &mut Context<'_, '_>) -> Step {
        let Direction { chunks, end, sets_length, .. } = work.direction(way);
        if !chunks.is_empty() || end.is_some() {
            put_out(way, cx);
        } else if *sets_length {
            // The body is not the one that this is the length of.
            remove_length(way, cx);
            cx.change_body(way);
        }
        Step::Continue
    }

    fn begin_head(&self, way: Way, work: &mut Work, cx: &mut Context<'_, '_>) -> Option<Step> {
        let length = match way {
            Way::Request => cx.core.body,
            Way::Response => cx.response_body,
        };
        let has_body = !matches!(length, BodyLength::None | BodyLength::Length(0));
        let direction = work.direction_mut(way);
        direction.has_body = has_body;
        let parts = direction.parts;
        if parts.headers {
            let headers = self.headers(way, has_body, cx);
            if !self.send(way, headers, Owes::Headers, work, cx) {
                return None;
            }
        }
        if has_body && !self.observes {
            self.see_body(way, work, cx);
        }
        if self.observes {
            if has_body && (parts.body == BodyMode::Streamed || parts.trailers) {
                cx.see_body(way);
            }
            work.direction_mut(way).stage = Stage::Passing;
            return Some(Step::Continue);
        }
        if !parts.headers {
            work.direction_mut(way).stage = Stage::Passing;
            return Some(Step::Continue);
        }
        work.direction_mut(way).stage = Stage::Headers;
        Some(self.wait_for_headers(way, work, cx))
    }

    /// What the head waits for once it was sent.
    fn wait_for_headers(&self, way: Way, work: &mut Work, cx: &Context<'_, '_>) -> Step {
        if !self.sends_body_now(way, work) {
            return Step::Answer;
        }
        let is_flooded = Self::is_flooded(work);
        let direction = work.direction_mut(way);
        direction.looks_again = is_flooded.then(|| cx.core.shard.clock.now() + PAUSE);
        let is_full = direction.chunk_bytes >= Self::bytes_max(cx);
        if direction.end.is_some() || is_flooded || is_full {
            return Step::Answer;
        }
        Step::AnswerOrBody
    }

    /// Whether the body is sent before the headers are answered.
    fn sends_body_now(&self, way: Way, work: &Work) -> bool {
        let direction = work.direction(way);
        let mode = direction.parts.body;
        let is_early =
            mode == BodyMode::FullDuplex || (mode == BodyMode::Streamed && self.sends_body_early);
        direction.has_body && is_early
    }

    /// The processor is to see what the mode says of the body.
    fn see_body(&self, way: Way, work: &Work, cx: &mut Context<'_, '_>) {
        let parts = work.direction(way).parts;
        let is_collected_late = parts.body == BodyMode::Buffered && !parts.headers;
        if parts.body.changes_length() || is_collected_late {
            if !self.keeps_length {
                remove_length(way, cx);
                cx.change_body(way);
            }
            cx.see_body(way);
        } else if parts.trailers {
            cx.see_body(way);
        }
    }

    /// Sends a part of a message; false: the stream cannot be opened, or nothing is sent any more.
    pub(super) fn send(
        &self,
        way: Way,
        part: Request,
        owes: Owes,
        work: &mut Work,
        cx: &mut Context<'_, '_>,
    ) -> bool {
        if work.is_over {
            return false;
        }
        let message = self.message(way, part, work, cx);
        if work.stream.is_none() {
            let stream = cx.stream();
            let inputs = Inputs { request: Some(&cx.core.heads.request), ..Inputs::new(&stream) };
            let opened = work.plan.service.open(cx.core.given, &inputs, &work.plan.metadata);
            let lingers = self.observes.then_some(self.deferred_close);
            work.stream =
                opened.map(|stream| Stream::new(stream, &self.stats, cx.core.shard, lingers));
        }
        let Some(stream) = work.stream.as_ref().and_then(Stream::get) else {
            work.finish();
            return false;
        };
        stream.send(&message);
        self.stats(cx).stream_msgs_sent.inc();
        if self.observes {
            return true;
        }
        let timeout = millis(self.message_timeout);
        let direction = work.direction_mut(way);
        direction.owes = owes;
        direction.is_extended = false;
        // As in Envoy, a processor that answers when it likes is not late.
        if direction.parts.body != BodyMode::FullDuplex {
            direction.deadline = Some(cx.core.shard.clock.now().saturating_add(timeout));
        }
        true
    }

    /// None: the next stage follows at once.
    fn headers_answered(
        &self,
        way: Way,
        work: &mut Work,
        cx: &mut Context<'_, '_>,
    ) -> Result<Option<Step>, Ends> {
        work.direction_mut(way).looks_again = None;
        let response = match work.direction(way).answers.front() {
            None => {
                if self.sends_body_now(way, work) {
                    self.send_held(way, work, cx);
                }
                return Ok(Some(self.wait_for_headers(way, work, cx)));
            }
            Some(Answer::Headers(_)) => match work.direction_mut(way).answers.pop_front() {
                Some(Answer::Headers(response)) => response,
                _ => CommonResponse::default(),
            },
            // The processor leaves the headers as they are.
            Some(Answer::Body(_) | Answer::Trailers(_)) => CommonResponse::default(),
        };
        let CommonResponse { status, header_mutation, body_mutation, clear_route_cache } = response;
        let replaces = status == CONTINUE_AND_REPLACE;
        let parts = work.direction(way).parts;
        let has_mutation = header_mutation.is_some();
        if let Some(mutation) = header_mutation {
            let collects = parts.body == BodyMode::Buffered && work.direction(way).has_body;
            let length = collects && !replaces;
            self.change_head(way, mutation, Scope { length, replaces }, work, cx)?;
        }
        self.clear_route_cache(way, has_mutation, clear_route_cache, cx);
        if replaces {
            self.replace_message(way, body_mutation, work, cx)?;
            return Ok(Some(Step::Continue));
        }
        Ok(self.after_headers(way, work, cx))
    }

    /// The headers are answered, and the processor does not want to see the body. It may put another one in
    /// its place.
    fn replace_message(
        &self,
        way: Way,
        body: Option<BodyMutation>,
        work: &mut Work,
        cx: &mut Context<'_, '_>,
    ) -> Result<(), Ends> {
        let direction = work.direction_mut(way);
        if body.is_none() && direction.is_given_away() {
            return Err(self.invalid("the body that goes on was sent already", work, cx));
        }
        direction.parts.body = BodyMode::None;
        direction.parts.trailers = false;
        direction.stage = Stage::Done;
        if let Some(mutation) = body {
            direction.chunks.clear();
            direction.chunk_bytes = 0;
            direction.collected.clear();
            apply_body(mutation, &mut direction.collected);
            direction.stage = Stage::Replaced;
            direction.end = None;
            cx.held.clear();
            put_out(way, cx);
        } else if direction.end.is_some() || !direction.chunks.is_empty() {
            put_out(way, cx);
        }
        Ok(())
    }

    /// The headers are answered: what follows depends on the body.
    fn after_headers(&self, way: Way, work: &mut Work, cx: &mut Context<'_, '_>) -> Option<Step> {
        let direction = work.direction_mut(way);
        let Direction { has_body, parts, .. } = direction;
        if !*has_body {
            direction.stage = Stage::Done;
            return Some(Step::Continue);
        }
        // As in Envoy, a body that has come already is processed as a whole.
        let is_here = parts.body == BodyMode::Streamed && cx.held.has_ended();
        if collects(parts.body) || is_here {
            direction.stage = Stage::Collecting;
            return None;
        }
        direction.stage = Stage::Passing;
        let is_here = direction.end.is_some() || !direction.chunks.is_empty();
        self.see_body(way, work, cx);
        if is_here {
            put_out(way, cx);
        }
        Some(Step::Continue)
    }

    /// The body is collected, unless it has not come yet.
    fn collected(&self, way: Way, work: &mut Work, cx: &mut Context<'_, '_>) -> Option<Step> {
        let is_partial = work.direction(way).parts.body == BodyMode::BufferedPartial;
        let is_enough = is_partial && cx.held.data.len() >= Self::bytes_max(cx);
        if !cx.held.has_ended() && !is_enough {
            return Some(if is_partial { Step::PartOfBody } else { Step::Body });
        }
        let is_last = cx.held.end.as_ref().is_some_and(Vec::is_empty);
        let body = question::body(way, cx.held.data.clone(), is_last);
        if self.send(way, body, Owes::Body, work, cx) {
            work.direction_mut(way).stage = Stage::Body;
            return Some(Step::Answer);
        }
        None
    }

    fn body_answered(
        &self,
        way: Way,
        work: &mut Work,
        cx: &mut Context<'_, '_>,
    ) -> Result<Option<Step>, Ends> {
        let Some(Answer::Body(response)) = work.direction_mut(way).answers.pop_front() else {
            return Ok(Some(Step::Answer));
        };
        let CommonResponse { status, header_mutation, body_mutation, clear_route_cache } = response;
        let is_buffered = work.direction(way).parts.body == BodyMode::Buffered;
        let has_mutation = header_mutation.is_some();
        if let Some(mutation) = header_mutation {
            let replaces = status == CONTINUE_AND_REPLACE;
            let scope = Scope { length: is_buffered, replaces };
            self.change_head(way, mutation, scope, work, cx)?;
        }
        let is_changed = body_mutation.is_some();
        if let Some(mutation) = body_mutation {
            apply_body(mutation, &mut cx.held.data);
        }
        if is_changed || is_buffered {
            self.settle_length(way, work, cx)?;
        }
        self.clear_route_cache(way, has_mutation, clear_route_cache, cx);
        let sends_trailers = work.direction(way).parts.trailers;
        let lines = cx.held.end.as_ref().filter(|lines| sends_trailers && !lines.is_empty());
        if let Some(lines) = lines {
            let trailers = self.trailers(way, lines);
            if self.send(way, trailers, Owes::Trailers, work, cx) {
                work.direction_mut(way).stage = Stage::Trailers;
                return Ok(Some(Step::Answer));
            }
        }
        // Of a part of a body nothing more is processed.
        work.direction_mut(way).stage = Stage::Done;
        Ok(Some(Step::Continue))
    }

    /// The body of a head that waits was changed: its length is compared with what the head says.
    fn settle_length(
        &self,
        way: Way,
        work: &mut Work,
        cx: &mut Context<'_, '_>,
    ) -> Result<(), Ends> {
        if !cx.held.has_ended() {
            remove_length(way, cx);
            cx.change_body(way);
            return Ok(());
        }
        let bytes = cx.held.data.len() as u64;
        match fields(way, cx).get(FieldName::ContentLength).map(http::content_length) {
            None => cx.set_length(way, BodyLength::Chunked),
            Some(Some(said)) if said == bytes => cx.set_length(way, BodyLength::Length(bytes)),
            Some(_) => return Err(self.invalid(WRONG_LENGTH, work, cx)),
        }
        Ok(())
    }

    fn trailers_answered(
        &self,
        way: Way,
        work: &mut Work,
        cx: &mut Context<'_, '_>,
    ) -> Result<Option<Step>, Ends> {
        let Some(Answer::Trailers(mutation)) = work.direction_mut(way).answers.pop_front() else {
            return Ok(Some(Step::Answer));
        };
        let mut lines = cx.held.end.take().unwrap_or_default();
        let changed = apply_to_trailers(self, mutation, &mut lines, cx);
        cx.held.end = Some(lines);
        changed.map_err(|details| self.invalid(&details, work, cx))?;
        work.direction_mut(way).stage = Stage::Done;
        Ok(Some(Step::Continue))
    }

    /// Sends what has come of a body whose head waits.
    fn send_held(&self, way: Way, work: &mut Work, cx: &mut Context<'_, '_>) {
        let data = std::mem::take(&mut cx.held.data);
        let end = cx.held.end.take();
        if !data.is_empty() || end.is_some() {
            self.send_chunk(way, data, end, work, cx);
        }
    }

    pub(super) fn change_head(
        &self,
        way: Way,
        mutation: HeaderMutation,
        scope: Scope,
        work: &mut Work,
        cx: &mut Context<'_, '_>,
    ) -> Result<(), Ends> {
        let had_length = fields(way, cx).has(FieldName::ContentLength);
        let exists = |name: &[u8]| name.starts_with(b":") || fields(way, cx).find(name).is_some();
        let changes = self.changes(mutation, scope, exists, cx);
        let changes = changes.map_err(|details| self.invalid(&details, work, cx))?;
        let length = |cx: &Context<'_, '_>| {
            let text = fields(way, cx).get(FieldName::ContentLength).filter(|_| scope.length);
            text.map(<[u8]>::to_vec)
        };
        let length_before = length(cx);
        match way {
            Way::Request => {
                let head = &mut cx.core.heads.request;
                if changes.change_framing(head) {
                    self.stats(cx).rejected_header_mutations.inc();
                    return Err(self.invalid("header_mutation_set_headers_failed", work, cx));
                }
                changes.change_request(head);
            }
            Way::Response => {
                let head = &mut cx.core.heads.response;
                head.status = changes.change_fields(&mut head.fields).unwrap_or(head.status);
            }
        }
        if had_length
            && !fields(way, cx).has(FieldName::ContentLength)
            && work.direction(way).has_body
        {
            cx.set_length(way, BodyLength::Chunked);
        }
        work.direction_mut(way).sets_length |= length(cx) != length_before;
        Ok(())
    }

    /// Looks the route up again, if that is to be done.
    pub(super) fn clear_route_cache(
        &self,
        way: Way,
        has_mutation: bool,
        is_asked_for: bool,
        cx: &mut Context<'_, '_>,
    ) {
        if way == Way::Response {
            return;
        }
        let stats = self.stats(cx);
        match (self.route_cache, has_mutation) {
            (_, false) if is_asked_for => stats.clear_route_cache_ignored.inc(),
            (RouteCacheAction::Default, true) if is_asked_for => cx.clear_route_cache(),
            (RouteCacheAction::Clear, true) => cx.clear_route_cache(),
            (RouteCacheAction::Retain, true) if is_asked_for => {
                stats.clear_route_cache_disabled.inc();
            }
            _ => {}
        }
    }
}

fn fields<'c>(way: Way, cx: &'c Context<'_, '_>) -> &'c Fields {
    match way {
        Way::Request => &cx.core.heads.request.fields,
        Way::Response => &cx.core.heads.response.fields,
    }
}

/// The filter puts out the body that it has, which may be another one than came.
fn put_out(way: Way, cx: &mut Context<'_, '_>) {
    remove_length(way, cx);
    cx.put_out(way, BodyLength::Chunked);
}

fn remove_length(way: Way, cx: &mut Context<'_, '_>) {
    match way {
        Way::Request => cx.core.heads.request.fields.remove(FieldName::ContentLength),
        Way::Response => cx.core.heads.response.fields.remove(FieldName::ContentLength),
    }
}
