//! Filters in an exchange: the bodies on their way through them.
//!
//! A body that no filter wants to see goes past here.

use super::active::HeldFor;
use super::body::{Exit, Passage, Sees};
use super::piece::Ending;
use super::{Piece, Way};
use crate::http::header_key_format::HeaderKeyFormat;
use crate::http::{BodyLength, EndStream, Fault, Intake, More, TrailerRules};
use crate::pipe::outlet::Outlet;
use crate::request::attempt::Failed;
use crate::request::deadlines::Timer;
use crate::request::end::{ClientEnd, Known, ResponseBody};
use crate::request::reply::LocalReply;
use crate::request::response;
use crate::request::upload::Upload;
use crate::request::wait::Interest;
use crate::request::{Core, Exchange};
use crate::upstream::origin::Origin;

impl Core<'_> {
    /// What a body does in the filters at the moment.
    #[inline(always)]
    pub(in crate::request) fn passage(&self, way: Way) -> Passage {
        if self.filters.is_none() { Passage::Open } else { self.passage_filtered(way) }
    }

    #[cold]
    fn passage_filtered(&self, way: Way) -> Passage {
        let now = self.shard.clock.now();
        self.filters.as_ref().map_or(Passage::Open, |active| active.passage(way, now))
    }

    /// Sets the timer for what waits in the filters. To be called before a wait in which bodies move.
    #[inline(always)]
    pub(in crate::request) fn set_filter_timer(&mut self) {
        if self.filters.is_some() {
            self.set_timer_filtered();
        }
    }

    #[cold]
    fn set_timer_filtered(&mut self) {
        let now = self.shard.clock.now();
        for way in [Way::Request, Way::Response] {
            let at = match self.passage(way) {
                Passage::Open | Passage::Blocked => continue,
                Passage::Ready => now,
                Passage::Until(time) => time,
            };
            let nearest = self.deadlines.get(Timer::Filter).map_or(at, |set| set.min(at));
            self.deadlines.set(Timer::Filter, Some(nearest));
        }
        self.set_answer_timer();
    }

    /// Sets the timer for the answers that filters wait for.
    pub(super) fn set_answer_timer(&mut self) {
        let at = self.filters.as_ref().and_then(|active| active.answer_deadline());
        if let Some(at) = at {
            let nearest = self.deadlines.get(Timer::Filter).map_or(at, |set| set.min(at));
            self.deadlines.set(Timer::Filter, Some(nearest));
        }
    }

    /// How the body of the response ends for the client.
    #[inline(always)]
    pub(in crate::request) fn length_for_client(&self, length: BodyLength) -> BodyLength {
        match &self.filters {
            None => length,
            // Whatever filters make of it: the client would take the body for its next response.
            Some(_) if self.heads.has_no_body() => BodyLength::None,
            Some(active) => active.length_for_client(length),
        }
    }

    /// Whether the head of the response is held up in the filters.
    #[inline(always)]
    pub(in crate::request) fn is_held_up(&self) -> bool {
        let Some(active) = &self.filters else { return false };
        active.holder(Way::Response).is_some() || self.replacement.is_some()
    }

    /// Whether the filter that waits for the body of the response has all of it, or more than it may have.
    #[inline(always)]
    pub(in crate::request) fn has_held_enough(&self) -> bool {
        self.filters.is_some() && self.is_held_up() && self.has_held_enough_filtered()
    }

    #[cold]
    fn has_held_enough_filtered(&self) -> bool {
        let Some(active) = &self.filters else { return true };
        let Some(held) = active.held(Way::Response) else { return true };
        match active.held_for() {
            None | Some(HeldFor::Nothing) => true,
            Some(HeldFor::Body) => held.has_ended() || self.is_too_large(held),
            Some(HeldFor::BodyUpTo(bytes)) => held.has_ended() || held.data.len() >= bytes,
            Some(HeldFor::Answer) => false,
            Some(HeldFor::AnswerOrBody) => !held.is_empty(),
        }
    }

    /// Whether a filter holds more of a response than it may.
    fn is_too_large(&self, held: &Piece) -> bool {
        let limit = self.service().buffer_limit;
        limit > 0 && held.data.len() > limit
    }

    /// Lets the head of the response go on to the next filters, as the body has come, or more of it than may
    /// be held. Returns what the client gets instead, if it gets something else.
    pub(in crate::request) fn go_on_with_response_head(
        &mut self,
        reply: Option<&LocalReply>,
        body: BodyLength,
    ) -> Option<Box<LocalReply>> {
        if self.replacement.is_none() {
            let held = self.filters.as_ref().and_then(|active| active.held(Way::Response));
            let waits = self.filters.as_ref().and_then(|active| active.held_for());
            let waits = waits == Some(HeldFor::Body);
            if waits && held.is_some_and(|held| self.is_too_large(held)) {
                self.stats().rs_too_large.inc();
                return Some(Box::new(LocalReply::response_too_large()));
            }
            self.filter_response_head(reply, body);
        }
        self.replacement.take()
    }

    /// Whether the client speaks gRPC, if a filter translates that.
    pub(in crate::request) fn client_speaks_grpc(&self) -> Option<bool> {
        self.filters.as_ref()?.client_speaks_grpc()
    }

    /// Gives a local reply to the filter that waits for its body.
    pub(in crate::request) fn hold_reply(&mut self, body: &[u8]) {
        let mut piece = Piece { data: body.to_vec(), end: Some(Vec::new()) };
        // Filters have nothing to object to it.
        let _passed =
            self.with_filters(|active, core| active.hold(Way::Response, &mut piece, core));
    }

    /// Whether a filter wants to see the body of the response.
    #[inline(always)]
    pub(in crate::request) fn filters_see_response(&self) -> bool {
        self.filters.is_some() && self.sees(Way::Response) == Sees::Body
    }

    fn sees(&self, way: Way) -> Sees {
        self.filters.as_ref().map_or(Sees::Nothing, |active| active.sees(way))
    }

    /// An empty piece to receive into.
    pub(super) fn take_piece(&mut self) -> Piece {
        let active = self.filters.as_mut();
        active.map(|active| std::mem::take(&mut active.received)).unwrap_or_default()
    }

    /// Moves on what waits in the filters.
    ///
    /// # Errors
    /// That of a filter that cannot read the body.
    pub(in crate::request) fn advance(
        &mut self,
        way: Way,
        to: &mut impl Intake,
    ) -> Result<(), Fault> {
        let moved = self.with_filters(|active, core| match active.holder(way) {
            Some(_) => active.hold(way, &mut Piece::default(), core),
            None => active.advance(way, core, Exit::Sink, to),
        });
        moved.unwrap_or(Ok(()))
    }

    /// Passes what was received through the filters, and on to `to`.
    fn pass(&mut self, way: Way, mut piece: Piece, to: &mut impl Intake) -> Result<(), Fault> {
        match way {
            Way::Request => self.filtered_bytes += piece.data.len() as u64,
            Way::Response => {
                self.note_origin_trailers(&piece);
                if let Some(entry) = &mut self.upstream_entry {
                    entry.filtered_bytes += piece.data.len() as u64;
                }
            }
        }
        let passed = self.with_filters(|active, core| {
            if active.holder(way).is_some() {
                let held = active.hold(way, &mut piece, core);
                active.received = piece;
                return held;
            }
            active.offer(way, &mut piece, Exit::Sink, to);
            active.received = piece;
            active.advance(way, core, Exit::Sink, to)
        });
        passed.unwrap_or(Ok(()))
    }

    /// Passes what was received of the request to the filter that waits for all of it.
    pub(super) fn hold(&mut self, mut piece: Piece) -> Result<(), Fault> {
        self.filtered_bytes += piece.data.len() as u64;
        let moved = self.with_filters(|active, core| {
            let moved = active.hold(Way::Request, &mut piece, core);
            active.received = piece;
            moved
        });
        moved.unwrap_or(Ok(()))
    }

    /// Notes the trailers that the origin has sent: a filter may remove them.
    fn note_origin_trailers(&mut self, piece: &Piece) {
        if let Some(trailers) = &piece.end {
            self.origin_trailers = Some(trailers.clone());
        }
    }

    /// How many bytes the filter that waits has.
    pub(super) fn held_bytes(&self) -> usize {
        self.held().map_or(0, |held| held.data.len())
    }

    /// Whether it has nothing of the body.
    pub(super) fn held_is_empty(&self) -> bool {
        self.held().is_some_and(Piece::is_empty)
    }

    /// Drops them; returns how many they were.
    pub(super) fn drop_held_bytes(&mut self) -> u64 {
        let dropped = self.with_filters(|active, _| {
            let held = active.held_mut(Way::Request)?;
            let bytes = held.data.len() as u64;
            held.data.clear();
            Some(bytes)
        });
        dropped.flatten().unwrap_or_default()
    }

    /// Whether it has all of them.
    pub(super) fn holds_end(&self) -> bool {
        self.held().is_none_or(Piece::has_ended)
    }

    fn held(&self) -> Option<&Piece> {
        self.filters.as_ref()?.held(Way::Request)
    }

    /// The cluster takes no trailers: those that filters hold are dropped.
    pub(in crate::request) fn drop_held_trailers(&mut self) {
        if let Some(active) = &mut self.filters {
            active.drop_request_trailers();
        }
    }

    /// The request is answered here: the rest of its body goes nowhere.
    pub(in crate::request) fn drop_request_body(&mut self) {
        if let Some(active) = &mut self.filters {
            active.drop_request_body();
        }
    }

    /// Filters the trailers of a body whose bytes go past the filters.
    fn end_filtered(&mut self, way: Way, trailers: Option<Vec<u8>>, to: &mut impl Intake) {
        let Some(mut trailers) = trailers else { return };
        self.with_filters(|active, core| active.trailers(way, core, &mut trailers));
        to.end(trailers);
    }
}

/// Where the body of a local reply is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::request) enum ReplyBody {
    InReply,
    /// In front of a filter that has waited for it.
    Held,
}

/// Apart, so that what other requests do stays short.
impl Core<'_> {
    #[cold]
    fn begin_response_body_filtered(
        &mut self,
        origin: &mut Origin,
        length: BodyLength,
        trailers: Option<TrailerRules>,
        down: &mut Outlet,
    ) -> Result<(), Fault> {
        match self.sees(Way::Response) {
            Sees::Nothing => origin.begin_body(length, trailers, &self.heads.response, down),
            Sees::Trailers => {
                let mut ending = Ending { to: down, trailers: None };
                let begun = origin.begin_body(length, trailers, &self.heads.response, &mut ending);
                let trailers = ending.trailers;
                self.end_filtered(Way::Response, trailers, down);
                begun
            }
            Sees::Body => {
                let mut piece = self.take_piece();
                let begun = origin.begin_body(length, trailers, &self.heads.response, &mut piece);
                self.pass(Way::Response, piece, down)?;
                begun
            }
        }
    }

    #[cold]
    fn pull_response_filtered(
        &mut self,
        origin: &mut Origin,
        down: &mut Outlet,
    ) -> Result<More, Fault> {
        match self.sees(Way::Response) {
            Sees::Nothing => origin.pull(down),
            Sees::Trailers => {
                let mut ending = Ending { to: down, trailers: None };
                let more = origin.pull(&mut ending);
                let trailers = ending.trailers;
                self.end_filtered(Way::Response, trailers, down);
                more
            }
            Sees::Body => {
                let mut piece = self.take_piece();
                let more = origin.pull(&mut piece);
                self.pass(Way::Response, piece, down)?;
                more
            }
        }
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Hands on what filters have held of the request's body, and takes what was received of it already.
    #[inline(always)]
    pub(in crate::request) fn take_at_hand(&mut self, upload: &mut Upload) -> Result<(), Fault> {
        if self.core.filters.is_none() {
            return self.receive_at_hand(upload);
        }
        self.take_at_hand_filtered(upload)
    }

    #[cold]
    fn take_at_hand_filtered(&mut self, upload: &mut Upload) -> Result<(), Fault> {
        match self.core.sees(Way::Request) {
            Sees::Body => {
                let mut piece = self.core.take_piece();
                let taken = self.receive_at_hand(&mut piece);
                self.core.pass(Way::Request, piece, upload)?;
                taken
            }
            Sees::Nothing | Sees::Trailers => {
                self.core.advance(Way::Request, upload)?;
                if upload.has_ended() {
                    return Ok(());
                }
                let mut ending = Ending { to: upload, trailers: None };
                let taken = self.receive_at_hand(&mut ending);
                let trailers = ending.trailers;
                self.core.end_filtered(Way::Request, trailers, upload);
                taken
            }
        }
    }

    /// Receives once of the request's body.
    #[inline(always)]
    pub(in crate::request) fn pull_request(&mut self, upload: &mut Upload) -> Result<More, Fault> {
        if self.core.filters.is_none() {
            return self.client.pull(upload);
        }
        self.pull_request_filtered(upload)
    }

    #[cold]
    fn pull_request_filtered(&mut self, upload: &mut Upload) -> Result<More, Fault> {
        match self.core.sees(Way::Request) {
            Sees::Nothing => self.client.pull(upload),
            Sees::Trailers => {
                let mut ending = Ending { to: upload, trailers: None };
                let more = self.client.pull(&mut ending);
                let trailers = ending.trailers;
                self.core.end_filtered(Way::Request, trailers, upload);
                more
            }
            Sees::Body => {
                let mut piece = self.core.take_piece();
                let more = self.client.pull(&mut piece);
                self.core.pass(Way::Request, piece, upload)?;
                more
            }
        }
    }

    /// Begins to receive the response's body, with what was received together with its head.
    #[inline(always)]
    pub(in crate::request) fn begin_response_body(
        &mut self,
        origin: &mut Origin,
        length: BodyLength,
        trailers: Option<TrailerRules>,
        down: &mut Outlet,
    ) -> Result<(), Fault> {
        if self.core.filters.is_none() {
            return origin.begin_body(length, trailers, &self.core.heads.response, down);
        }
        self.core.begin_response_body_filtered(origin, length, trailers, down)
    }

    /// Receives once of the response's body.
    #[inline(always)]
    pub(in crate::request) fn pull_response(
        &mut self,
        origin: &mut Origin,
        down: &mut Outlet,
    ) -> Result<More, Fault> {
        if self.core.filters.is_none() {
            return origin.pull(down);
        }
        self.core.pull_response_filtered(origin, down)
    }

    /// Sends a local reply whose head the filters have passed, and which is complete but for what the
    /// connection manager adds. Returns how many bytes of body the client has got.
    pub(in crate::request) async fn send_filtered(
        &mut self,
        reply: &LocalReply,
        held: ReplyBody,
    ) -> (u64, Result<(), Failed>) {
        let Self { client, core } = self;
        response::finish(core.given, core.heads);
        let data = reply.body_for(Some(&core.heads.request)).to_vec();
        let has_body = !core.heads.has_no_body();
        let length = core.length_for_client(BodyLength::Length(data.len() as u64));
        let body = match length {
            BodyLength::Chunked => ResponseBody::Relayed(BodyLength::Chunked),
            _ => ResponseBody::Local,
        };
        let framing = client.finish_head(core.heads, Known { body, tunnel: false });
        let mut out = core.shard.buffers.take();
        client.encode_head(core.heads, HeaderKeyFormat::LowerCase, EndStream::No, &mut out);
        let limit = core.service().buffer_limit;
        let mut down = Outlet::new(length, framing, out, limit, core.shard.buffers);
        let piece = match held {
            ReplyBody::Held => Piece::default(),
            ReplyBody::InReply => Piece { data, end: Some(Vec::new()) },
        };
        let mut sent = Ok(());
        if has_body {
            sent = core.pass(Way::Response, piece, &mut down).map_err(|_| Failed::ClientGone);
        }
        if sent.is_ok() {
            sent = self.send_rest(&mut down).await;
        }
        let bytes = down.taken_bytes();
        down.recycle();
        (bytes, sent)
    }

    async fn send_rest(&mut self, down: &mut Outlet) -> Result<(), Failed> {
        self.core.arm();
        while !down.is_done() {
            if down.wants_sink() {
                self.client.push(down).map_err(|_| Failed::from(self.client_gone()))?;
            } else {
                self.core.advance(Way::Response, down).map_err(|_| Failed::ClientGone)?;
            }
            if down.is_done() {
                break;
            }
            if down.wants_sink() || self.core.passage(Way::Response) != Passage::Ready {
                let want = Interest { client_out: down.wants_sink(), ..Interest::default() };
                self.core.set_filter_timer();
                self.wait_once(want).await?;
                self.core.reset_idle_timer();
            }
        }
        Ok(())
    }
}
