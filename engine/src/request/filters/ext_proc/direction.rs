//! How far the processor is with a request or with its response.

use std::collections::VecDeque;

use super::mode::{BodyMode, Parts};
use super::proto::{BodyMutation, CommonResponse, HeaderMutation, Mutation};
use crate::shard::clock::Millis;

/// One message on its way.
#[derive(Debug, Default)]
pub(super) struct Direction {
    pub(super) stage: Stage,
    pub(super) parts: Parts,
    pub(super) has_body: bool,
    /// What the processor has to answer.
    pub(super) owes: Owes,
    /// What it has answered, until the message is changed accordingly.
    pub(super) answers: VecDeque<Answer>,
    /// The parts of the body that it has not answered.
    pub(super) chunks: VecDeque<Vec<u8>>,
    /// The bytes of all chunks.
    pub(super) chunk_bytes: usize,
    /// A body that is collected here, behind a head that has gone on.
    pub(super) collected: Vec<u8>,
    /// The end of the body with its trailers, if it has come and has not gone on.
    pub(super) end: Option<Vec<u8>>,
    /// When the processor is given up.
    pub(super) deadline: Option<Millis>,
    /// Whether it has asked for more time already.
    pub(super) is_extended: bool,
    /// Whether it was told the attributes.
    pub(super) knows_attributes: bool,
    /// Whether it was sent parts of the body.
    pub(super) sent_parts: bool,
    /// Whether it has sent the end of the message, in full duplex.
    pub(super) answered_end: bool,
    /// Whether it has set the length of a body that it has not answered yet.
    pub(super) sets_length: bool,
    /// What `content-length` says of the body behind a head that has gone on, less what has followed.
    pub(super) bytes_left: Option<u64>,
    /// When to look whether the processor reads again.
    pub(super) looks_again: Option<Millis>,
}

/// What happens next to the message.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Stage {
    #[default]
    New,
    /// The headers were sent.
    Headers,
    /// The body is collected, with the head waiting.
    Collecting,
    /// The collected body was sent.
    Body,
    /// The trailers were sent.
    Trailers,
    /// The head has gone on, and the body is seen as it passes.
    Passing,
    /// Nothing of the message is changed any more.
    Done,
    /// The processor has put another body in the place of the message's, which was not put out yet.
    Replaced,
    /// Like that; it was put out, and what comes of the old one is dropped.
    Dropping,
}

/// What the processor has to answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Owes {
    #[default]
    Nothing,
    Headers,
    /// The body, or each part of it.
    Body,
    Trailers,
}

/// An answer.
#[derive(Debug)]
pub(super) enum Answer {
    Headers(CommonResponse),
    Body(CommonResponse),
    Trailers(HeaderMutation),
}

/// What a processor says of a message, whichever it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum About {
    Headers,
    Body,
    Trailers,
}

impl Direction {
    /// Whether the processor may say this now.
    pub(super) fn expects(&self, about: About, is_duplex: bool) -> bool {
        let is_complete = matches!(self.stage, Stage::Done | Stage::Replaced | Stage::Dropping);
        if is_complete || self.answered_end {
            return false;
        }
        match (about, self.owes) {
            (About::Headers, Owes::Headers) | (About::Trailers, Owes::Trailers) => true,
            (About::Headers, Owes::Body) => self.stage == Stage::Headers,
            (About::Body, Owes::Body) => true,
            (About::Body | About::Trailers, _) => is_duplex && self.stage != Stage::New,
            (About::Headers, _) => false,
        }
    }

    pub(super) fn owes_headers(&self) -> bool {
        self.owes == Owes::Headers
    }

    /// Whether the processor has seen the message in full duplex, and has not sent all that goes on.
    pub(super) fn is_in_duplex(&self) -> bool {
        self.parts.body == BodyMode::FullDuplex
            && !self.answered_end
            && !matches!(self.stage, Stage::New | Stage::Done | Stage::Replaced | Stage::Dropping)
    }

    /// Whether parts of the body are at the processor alone.
    pub(super) fn is_given_away(&self) -> bool {
        self.sent_parts && self.is_in_duplex()
    }

    /// Whether the processor may still say which parts it sees.
    pub(super) const fn takes_mode(&self) -> bool {
        matches!(self.stage, Stage::New | Stage::Headers) && !self.sent_parts
    }

    /// Counts what goes on behind the head; false: it is not what `content-length` says.
    pub(super) fn count(&mut self, bytes: usize, is_end: bool) -> bool {
        let Some(left) = self.bytes_left else { return true };
        let Some(left) = left.checked_sub(bytes as u64) else { return false };
        self.bytes_left = Some(left);
        !is_end || left == 0
    }

    /// Notes an answer.
    pub(super) fn take(&mut self, answer: Answer) {
        self.deadline = None;
        self.is_extended = false;
        let unanswered = self.chunks.len();
        let answered =
            self.answers.iter().filter(|answer| matches!(answer, Answer::Body(_))).count();
        self.owes = match &answer {
            Answer::Headers(_) if unanswered > 0 => Owes::Body,
            Answer::Body(_) if unanswered > answered + 1 => Owes::Body,
            _ => Owes::Nothing,
        };
        self.answered_end = match &answer {
            Answer::Headers(_) => false,
            Answer::Body(response) => ends(response),
            Answer::Trailers(_) => self.parts.body == BodyMode::FullDuplex,
        };
        self.answers.push_back(answer);
    }

    /// Takes the oldest part of the body that was not answered.
    pub(super) fn take_chunk(&mut self) -> Vec<u8> {
        let chunk = self.chunks.pop_front().unwrap_or_default();
        self.chunk_bytes -= chunk.len();
        chunk
    }

    /// All of the body that is here, as it came.
    pub(super) fn take_rest(&mut self, to: &mut Vec<u8>) {
        for chunk in self.chunks.drain(..) {
            to.extend_from_slice(&chunk);
        }
        self.chunk_bytes = 0;
        to.append(&mut self.collected);
    }
}

/// Whether the end of the message is in this answer, in full duplex.
fn ends(response: &CommonResponse) -> bool {
    let Some(BodyMutation { mutation: Some(mutation) }) = &response.body_mutation else {
        return false;
    };
    matches!(mutation, Mutation::StreamedResponse(part) if part.end_of_stream)
}
