//! Bodies and trailers on their way past a processor, behind a head that has gone on.

use super::direction::{Answer, Owes, Stage};
use super::mode::BodyMode;
use super::mutation::Scope;
use super::proto::{BodyMutation, CommonResponse, HeaderMutation, HttpBody, Mutation};
use super::stream::Stream;
use super::{Ends, ExtProc, Work, question};
use crate::http::{Fields, Version};
use crate::limits;
use crate::request::filters::piece::lines_of;
use crate::request::filters::{Context, Piece, Progress, Way};
use crate::request::reply::LocalReply;

/// A processor that does not read is given this time before more is taken for it, in milliseconds.
pub(super) const PAUSE: u64 = 10;

impl ExtProc {
    /// A part of a body, or an answer.
    pub(super) fn process_body(
        &self,
        way: Way,
        work: &mut Work,
        input: &mut Piece,
        output: &mut Piece,
        cx: &mut Context<'_, '_>,
    ) -> Result<Progress, Ends> {
        self.receive(way, work, cx)?;
        if self.observes {
            self.show(way, work, input, cx);
            output.take_all(input);
            return Ok(Progress::Moved);
        }
        match work.direction(way).stage {
            Stage::Replaced => {
                let direction = work.direction_mut(way);
                output.data.append(&mut direction.collected);
                output.end = Some(Vec::new());
                direction.stage = Stage::Dropping;
                input.clear();
                return Ok(Progress::Moved);
            }
            Stage::Dropping => {
                input.clear();
                return Ok(Progress::Moved);
            }
            Stage::Done => return Ok(Self::pass(way, work, input, output)),
            _ => {}
        }
        self.apply_answers(way, work, output, cx)?;
        if work.direction(way).stage == Stage::Dropping {
            input.clear();
            return Ok(Progress::Moved);
        }
        if work.is_over {
            return Ok(Self::pass(way, work, input, output));
        }
        if Self::is_flooded(work) {
            return Ok(Progress::Until(cx.core.shard.clock.now() + PAUSE));
        }
        match work.direction(way).parts.body {
            BodyMode::None => {
                output.data.append(&mut input.data);
                let direction = work.direction_mut(way);
                direction.end = input.end.take().or_else(|| direction.end.take());
            }
            BodyMode::Streamed | BodyMode::FullDuplex => {
                let (data, end) = (std::mem::take(&mut input.data), input.end.take());
                if !data.is_empty() || end.is_some() {
                    self.send_chunk(way, data, end, work, cx);
                }
            }
            BodyMode::Buffered | BodyMode::BufferedPartial => self.collect(way, work, input, cx)?,
        }
        if work.is_over {
            return Ok(Self::pass(way, work, input, output));
        }
        Ok(self.progress(way, work, output, cx))
    }

    /// Whether the processor does not read what it is sent.
    pub(super) fn is_flooded(work: &Work) -> bool {
        let stream = work.stream.as_ref().and_then(Stream::get);
        stream.is_some_and(|stream| stream.unsent() > limits::REPLAY_BYTES_MAX)
    }

    /// What is here goes on as it came.
    fn pass(way: Way, work: &mut Work, input: &mut Piece, output: &mut Piece) -> Progress {
        let direction = work.direction_mut(way);
        direction.take_rest(&mut output.data);
        direction.stage = Stage::Done;
        if let Some(end) = direction.end.take() {
            output.end = Some(end);
            input.clear();
            return Progress::Moved;
        }
        output.take_all(input);
        Progress::Moved
    }

    /// Shows an observer a part of a body. One that does not read misses parts of it.
    fn show(&self, way: Way, work: &mut Work, input: &Piece, cx: &mut Context<'_, '_>) {
        if work.is_over || Self::is_flooded(work) {
            return;
        }
        let parts = work.direction(way).parts;
        if parts.body == BodyMode::Streamed {
            let is_last = input.end.as_ref().is_some_and(Vec::is_empty);
            for (data, is_last) in split(way, input.data.clone(), is_last, true, cx) {
                let _sent =
                    self.send(way, question::body(way, data, is_last), Owes::Nothing, work, cx);
            }
        }
        if let Some(lines) = input.end.as_ref().filter(|lines| parts.trailers && !lines.is_empty())
        {
            let trailers = self.trailers(way, lines);
            let _sent = self.send(way, trailers, Owes::Nothing, work, cx);
        }
    }

    /// Sends a part of a body, and keeps it until it is answered.
    pub(super) fn send_chunk(
        &self,
        way: Way,
        data: Vec<u8>,
        end: Option<Vec<u8>>,
        work: &mut Work,
        cx: &mut Context<'_, '_>,
    ) {
        let is_last = end.as_ref().is_some_and(Vec::is_empty);
        if let Some(end) = end {
            work.direction_mut(way).end = Some(end);
        }
        let is_duplex = work.direction(way).parts.body == BodyMode::FullDuplex;
        for (data, is_last) in split(way, data, is_last, is_duplex, cx) {
            let direction = work.direction_mut(way);
            direction.sent_parts = true;
            // In full duplex the processor sends what goes on.
            if direction.parts.body == BodyMode::Streamed {
                direction.chunk_bytes += data.len();
                direction.chunks.push_back(data.clone());
            }
            // Headers that are not answered yet are waited for first.
            let owes = if direction.owes == Owes::Headers { Owes::Headers } else { Owes::Body };
            if !self.send(way, question::body(way, data, is_last), owes, work, cx) {
                return;
            }
        }
    }

    fn apply_answers(
        &self,
        way: Way,
        work: &mut Work,
        output: &mut Piece,
        cx: &mut Context<'_, '_>,
    ) -> Result<(), Ends> {
        while let Some(answer) = work.direction_mut(way).answers.pop_front() {
            match answer {
                // The head has gone on already.
                Answer::Headers(_) => {}
                Answer::Body(response) => self.apply_body_answer(way, response, work, output, cx),
                Answer::Trailers(mutation) => {
                    let mut lines = work.direction_mut(way).end.take().unwrap_or_default();
                    apply_to_trailers(self, mutation, &mut lines, cx)
                        .map_err(|details| self.invalid(&details, work, cx))?;
                    let direction = work.direction_mut(way);
                    output.end = Some(lines);
                    direction.stage = Stage::Dropping;
                }
            }
        }
        Ok(())
    }

    fn apply_body_answer(
        &self,
        way: Way,
        response: CommonResponse,
        work: &mut Work,
        output: &mut Piece,
        cx: &mut Context<'_, '_>,
    ) {
        let CommonResponse { status: _, header_mutation, body_mutation, clear_route_cache } =
            response;
        self.clear_route_cache_late(way, header_mutation.is_some(), clear_route_cache, cx);
        let direction = work.direction_mut(way);
        if direction.parts.body == BodyMode::FullDuplex {
            let Some(Mutation::StreamedResponse(HttpBody { body, end_of_stream })) =
                body_mutation.and_then(|mutation| mutation.mutation)
            else {
                return;
            };
            output.data.extend_from_slice(&body);
            if end_of_stream {
                output.end = Some(Vec::new());
                direction.stage = Stage::Dropping;
            }
            return;
        }
        let mut chunk = direction.take_chunk();
        if let Some(mutation) = body_mutation {
            apply_body(mutation, &mut chunk);
        }
        output.data.append(&mut chunk);
        if direction.parts.body == BodyMode::BufferedPartial {
            // The rest is not processed.
            output.data.append(&mut direction.collected);
            direction.parts.body = BodyMode::None;
        }
    }

    /// The head has gone on: the route stays.
    fn clear_route_cache_late(
        &self,
        way: Way,
        has_mutation: bool,
        is_asked_for: bool,
        cx: &Context<'_, '_>,
    ) {
        if way == Way::Request && is_asked_for && !has_mutation {
            self.stats(cx).clear_route_cache_ignored.inc();
        }
    }

    /// Collects a body whose head has gone on, and sends it when enough of it is here.
    fn collect(
        &self,
        way: Way,
        work: &mut Work,
        input: &mut Piece,
        cx: &mut Context<'_, '_>,
    ) -> Result<(), Ends> {
        let bytes_max = Self::bytes_max(cx);
        let direction = work.direction_mut(way);
        direction.collected.append(&mut input.data);
        if let Some(end) = input.end.take() {
            direction.end = Some(end);
        }
        if !direction.chunks.is_empty() {
            return Ok(());
        }
        let is_full = direction.collected.len() > bytes_max;
        let is_partial = direction.parts.body == BodyMode::BufferedPartial;
        if is_full && !is_partial {
            work.finish();
            return Err(Box::new(match way {
                Way::Request => LocalReply::too_large(),
                Way::Response => LocalReply::response_too_large(),
            }));
        }
        if direction.end.is_none() && !is_full {
            return Ok(());
        }
        let chunk = std::mem::take(&mut direction.collected);
        if chunk.is_empty() && direction.owes == Owes::Nothing && direction.chunk_bytes == 0 {
            // There was nothing.
            direction.parts.body = BodyMode::None;
            return Ok(());
        }
        let is_last = direction.end.as_ref().is_some_and(Vec::is_empty);
        direction.chunk_bytes = chunk.len();
        direction.chunks.push_back(chunk.clone());
        self.send(way, question::body(way, chunk, is_last), Owes::Body, work, cx);
        Ok(())
    }

    /// Lets the end go on when everything before it has, and says whether more can be taken.
    fn progress(
        &self,
        way: Way,
        work: &mut Work,
        output: &mut Piece,
        cx: &mut Context<'_, '_>,
    ) -> Progress {
        let bytes_max = Self::bytes_max(cx);
        let direction = work.direction_mut(way);
        let mode = direction.parts.body;
        if matches!(direction.stage, Stage::Dropping | Stage::Done) {
            return Progress::Moved;
        }
        let waits = match mode {
            BodyMode::None => false,
            BodyMode::Buffered | BodyMode::BufferedPartial | BodyMode::Streamed => {
                !direction.chunks.is_empty() || !direction.collected.is_empty()
            }
            BodyMode::FullDuplex => true,
        };
        let has_trailers = direction.end.as_ref().is_some_and(|lines| !lines.is_empty());
        if direction.end.is_some()
            && (!waits || mode == BodyMode::FullDuplex)
            && has_trailers
            && direction.parts.trailers
        {
            if direction.stage != Stage::Trailers {
                let lines = direction.end.clone().unwrap_or_default();
                direction.stage = Stage::Trailers;
                let trailers = self.trailers(way, &lines);
                if !self.send(way, trailers, Owes::Trailers, work, cx) {
                    return Self::pass(way, work, &mut Piece::default(), output);
                }
            }
            return Progress::Blocked;
        }
        if !waits {
            if let Some(end) = direction.end.take() {
                output.end = Some(end);
                direction.stage = Stage::Done;
            }
            return Progress::Moved;
        }
        if direction.end.is_some() || direction.chunk_bytes >= bytes_max {
            return Progress::Blocked;
        }
        if mode == BodyMode::Buffered && direction.chunks.is_empty() {
            // It is being collected.
            return Progress::Moved;
        }
        Progress::Asking
    }
}

/// The parts in which a body is sent. As in Envoy, the end of a message over HTTP/1 is a part of its own.
fn split(
    way: Way,
    data: Vec<u8>,
    is_last: bool,
    splits: bool,
    cx: &Context<'_, '_>,
) -> impl Iterator<Item = (Vec<u8>, bool)> + use<> {
    let version = match way {
        Way::Request => cx.core.heads.request.version,
        Way::Response => cx.core.heads.response.version,
    };
    let (first, second) = if is_last && splits && !data.is_empty() && version != Version::Http2 {
        ((data, false), Some((Vec::new(), true)))
    } else {
        ((data, is_last), None)
    };
    [Some(first), second].into_iter().flatten()
}

/// Changes a body.
pub(super) fn apply_body(mutation: BodyMutation, body: &mut Vec<u8>) {
    match mutation.mutation {
        Some(Mutation::Body(new)) => *body = new,
        Some(Mutation::ClearBody(true)) => body.clear(),
        Some(Mutation::ClearBody(false) | Mutation::StreamedResponse(_)) | None => {}
    }
}

/// Changes trailers, given as field lines.
pub(super) fn apply_to_trailers(
    filter: &ExtProc,
    mutation: HeaderMutation,
    lines: &mut Vec<u8>,
    cx: &Context<'_, '_>,
) -> Result<(), String> {
    let mut fields = Fields::of_lines(lines);
    let exists = |name: &[u8]| fields.find(name).is_some();
    let changes = filter.changes(mutation, Scope::default(), exists, cx)?;
    changes.change_fields(&mut fields);
    lines_of(&fields, lines);
    Ok(())
}
