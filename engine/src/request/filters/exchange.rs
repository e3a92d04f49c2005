//! Filters in an exchange: heads and bodies on their way through them.

use super::active::Stop;
use super::{Active, Piece, Wait, Way};
use crate::http::{BodyLength, Fault, Intake, More, TrailerRules};
use crate::pipe::heads::Heads;
use crate::pipe::outlet::Outlet;
use crate::request::attempt::{self, Failed};
use crate::request::deadlines::Timer;
use crate::request::end::{ClientEnd, Ended};
use crate::request::given::Given;
use crate::request::reply::LocalReply;
use crate::request::route::Action;
use crate::request::upload::Upload;
use crate::request::wait::Interest;
use crate::request::{Core, Exchange, Outcome};
use crate::upstream::origin::Origin;

impl Core<'_> {
    /// Calls `with` with the chain, if one is at work, and with this.
    fn with_filters<R>(&mut self, with: impl FnOnce(&mut Active, &mut Self) -> R) -> Option<R> {
        let mut active = self.filters.take()?;
        let result = with(&mut active, self);
        self.filters = Some(active);
        Some(result)
    }

    /// Prepares the filters. As in Envoy, they see the response to every request, also to one that none
    /// of them has seen.
    pub(in crate::request) fn begin_filters(&mut self) {
        let service = self.service();
        if service.filters.is_empty() {
            return;
        }
        let mut active = service.active_filters.take();
        active.begin(&service.filters, self.record.route);
        if active.is_empty() {
            service.active_filters.give(active);
        } else {
            self.filters = Some(active);
        }
    }

    /// The request is served.
    #[inline]
    pub(in crate::request) fn end_filters(&mut self) {
        if self.filters.is_some() {
            self.give_filters();
        }
    }

    #[cold]
    fn give_filters(&mut self) {
        if let Some(active) = self.filters.take() {
            self.service().active_filters.give(active);
        }
    }

    /// Passes the head of the response through the filters.
    #[inline]
    pub(in crate::request) fn filter_response_head(&mut self, reply: Option<&LocalReply>) {
        if self.filters.is_some() {
            self.filter_response(reply);
        }
    }

    #[cold]
    fn filter_response(&mut self, reply: Option<&LocalReply>) {
        self.with_filters(|active, core| active.response_head(core, reply));
    }

    /// Whether a filter sees the body.
    fn filters_see(&self, way: Way) -> bool {
        self.filters.as_ref().is_some_and(|active| active.sees(way))
    }

    /// An empty piece.
    fn take_piece(&mut self) -> Piece {
        self.filters.as_mut().map(|active| std::mem::take(&mut active.piece)).unwrap_or_default()
    }

    /// Passes what was received through the filters, and on to `to`.
    fn pass(&mut self, way: Way, mut piece: Piece, to: &mut impl Intake) {
        self.filter_piece(way, &mut piece);
        piece.pour(to);
        if let Some(active) = &mut self.filters {
            active.piece = piece;
        }
    }

    fn filter_piece(&mut self, way: Way, piece: &mut Piece) {
        if let Some(trailers) = &mut piece.end {
            self.with_filters(|active, core| active.trailers(way, core, trailers));
        }
    }

    /// Hands on what filters have held of the request's body.
    fn release_held(&mut self, to: &mut Upload) {
        let held = self.with_filters(|active, _| std::mem::take(active.held()));
        let mut held = held.unwrap_or_default();
        if self.filters_see(Way::Request) {
            self.filter_piece(Way::Request, &mut held);
        }
        held.pour(to);
    }
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
        if !self.filters_see(Way::Response) {
            return origin.begin_body(length, trailers, &self.heads.response, down);
        }
        let mut piece = self.take_piece();
        let begun = origin.begin_body(length, trailers, &self.heads.response, &mut piece);
        self.pass(Way::Response, piece, down);
        begun
    }

    #[cold]
    fn pull_response_filtered(
        &mut self,
        origin: &mut Origin,
        down: &mut Outlet,
    ) -> Result<More, Fault> {
        if !self.filters_see(Way::Response) {
            return origin.pull(down);
        }
        let mut piece = self.take_piece();
        let more = origin.pull(&mut piece);
        self.pass(Way::Response, piece, down);
        more
    }
}

impl<C: ClientEnd> Exchange<'_, C> {
    /// Passes the head of the request through the filters. An error is how the request ends instead.
    pub(in crate::request) async fn filter_request(&mut self) -> Result<(), Outcome> {
        self.core.begin_filters();
        if let Some(route) = self.core.record.route {
            self.core.note_cluster(&route.action);
            // As in Envoy, the reply to an upgrade that is not allowed passes the filters, the request
            // does not.
            if let Err(refused) = self.core.begin_upgrade(&route.action) {
                return Err(self.end_by(Box::new(refused)).await);
            }
            if let Action::Forward(plan) = &route.action {
                self.core.set_idle_timeout(plan);
                self.core.set_duration_limit(plan);
            }
        }
        loop {
            let passed = self.core.with_filters(|active, core| active.request_head(core));
            match passed {
                None | Some(Ok(())) => return Ok(()),
                Some(Err(Stop::Reply(reply))) => return Err(self.end_by(reply).await),
                Some(Err(Stop::Wait(wait))) => {
                    if let Err(outcome) = self.wait_for_filter(wait).await {
                        return Err(match outcome {
                            Outcome::Reply(reply) => self.end_by(reply).await,
                            done @ Outcome::Done(_) => done,
                        });
                    }
                }
            }
        }
    }

    async fn end_by(&mut self, reply: Box<LocalReply>) -> Outcome {
        Outcome::Done(self.reply(reply, self.core.record.route).await)
    }

    async fn wait_for_filter(&mut self, wait: Wait) -> Result<(), Outcome> {
        let Wait::Body { bytes_max } = wait;
        let waited = self.hold_body(bytes_max).await;
        waited.map_err(|failed| match failed {
            HoldFailed::TooLarge => {
                self.core.stats().downstream_rq_too_large.inc();
                Outcome::reply(LocalReply::too_large())
            }
            HoldFailed::Client(Failed::ClientError(error)) => {
                self.core.stats().downstream_cx_protocol_error.inc();
                Outcome::reply(LocalReply::protocol_error(error))
            }
            HoldFailed::Client(Failed::Deadline(timer)) => {
                Outcome::reply(self.core.timed_out(timer))
            }
            HoldFailed::Client(_) => Outcome::Done(Ended::Over),
        })
    }

    /// Receives the request body until its end.
    async fn hold_body(&mut self, bytes_max: usize) -> Result<(), HoldFailed> {
        let manager = &self.core.service().manager;
        if self.core.client_may_send_trailers() {
            self.client.set_trailer_rules(manager.trailer_rules(true));
        }
        let take = |active: &mut Active, _: &mut Core<'_>| std::mem::take(active.held());
        let mut held = self.core.with_filters(take).unwrap_or_default();
        let received = self.receive_into(&mut held, bytes_max).await;
        self.core.upstream.body_bytes = held.data.len() as u64;
        self.core.with_filters(|active, _| *active.held() = held);
        received?;
        let now = self.core.shard.clock.now();
        self.core.received.get_or_insert(now);
        self.core.deadlines.set(Timer::Request, None);
        Ok(())
    }

    async fn receive_into(&mut self, held: &mut Piece, bytes_max: usize) -> Result<(), HoldFailed> {
        let taken = self.client.take_at_hand(held);
        taken.map_err(|fault| attempt::upload_fault(self, fault))?;
        self.core.arm();
        loop {
            if held.data.len() > bytes_max {
                return Err(HoldFailed::TooLarge);
            }
            if held.has_ended() {
                return Ok(());
            }
            self.wait_once(Interest { client_in: true, ..Interest::default() }).await?;
            while let More::Likely =
                self.client.pull(held).map_err(|fault| attempt::upload_fault(self, fault))?
            {
                let is_spent = self.core.shard.budget().is_spent();
                if held.has_ended() || held.data.len() > bytes_max || is_spent {
                    break;
                }
            }
            self.core.reset_idle_timer();
        }
    }

    async fn wait_once(&mut self, want: Interest) -> Result<(), HoldFailed> {
        self.begin_wait(want).map_err(Failed::from)?;
        let ready = self.wait(None, want).await;
        if ready.client_gone {
            return Err(Failed::from(self.client_gone()).into());
        }
        if ready.timed_out {
            self.check_deadlines().map_err(Failed::from)?;
        }
        Ok(())
    }

    /// Hands on what filters have held of the request's body, and takes what was received of it already.
    #[inline(always)]
    pub(in crate::request) fn take_at_hand(&mut self, upload: &mut Upload) -> Result<(), Fault> {
        if self.core.filters.is_none() {
            return self.client.take_at_hand(upload);
        }
        self.take_at_hand_filtered(upload)
    }

    #[cold]
    fn take_at_hand_filtered(&mut self, upload: &mut Upload) -> Result<(), Fault> {
        self.core.release_held(upload);
        if upload.has_ended() {
            return Ok(());
        }
        let mut piece = self.core.take_piece();
        let taken = self.client.take_at_hand(&mut piece);
        self.core.pass(Way::Request, piece, upload);
        taken
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
        if !self.core.filters_see(Way::Request) {
            return self.client.pull(upload);
        }
        let mut piece = self.core.take_piece();
        let more = self.client.pull(&mut piece);
        self.core.pass(Way::Request, piece, upload);
        more
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
}

/// Passes the head of a reply to a request that never became an exchange through the filters.
pub(in crate::request) fn filter_refusal(given: &Given, heads: &mut Heads, reply: &LocalReply) {
    let mut core = Core::begin(given, heads, BodyLength::None);
    core.begin_filters();
    core.filter_response_head(Some(reply));
    core.end_filters();
}

/// Why a filter has waited in vain.
enum HoldFailed {
    /// The body is too large.
    TooLarge,
    Client(Failed),
}

impl From<Failed> for HoldFailed {
    fn from(failed: Failed) -> Self {
        Self::Client(failed)
    }
}
