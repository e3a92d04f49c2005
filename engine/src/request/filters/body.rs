//! Bodies on their way through the filters that want to see them.
//!
//! In front of each such filter waits what it has not taken yet. It gets the next part only when what it has
//! put out has gone on, and puts out little at once: so little of a body is held, whatever a filter makes of
//! it, and a sink that takes nothing stops the source.
//!
//! A filter may also wait for an answer: it is called again when it has one.
//!
//! Invariant: a body passes the filters in order, and nothing is received for it while a part of it waits.

use std::cell::Cell;

use super::active::{Active, Running, Way};
use super::piece::{Piece, change_trailers};
use crate::http::{Fault, Intake};
use crate::request::Core;
use crate::shard::clock::Millis;

/// What a filter wants to see behind a head.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Sees {
    #[default]
    Nothing,
    /// The trailers: the bytes go past it.
    Trailers,
    Body,
}

/// One direction of a filter.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) sees: Sees,
    /// What the filter has not taken yet.
    pub(super) waiting: Piece,
    /// What the filter has taken and not put out yet.
    pub(super) inside: Cell<Inside>,
    /// The filter takes nothing before this time.
    resumes: Millis,
}

/// Whether a filter puts out more without being given anything.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Inside {
    #[default]
    Nothing,
    PerhapsMore,
    /// When it gets an answer; it takes more meanwhile.
    Asking,
    /// When it gets an answer; it takes nothing meanwhile.
    Blocked,
}

/// What a filter has done with the part of a body that it was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// It has taken all of it, or has put out what may go on at once. It is called again with the rest.
    Moved,
    /// It has put out what may go on at once, and may have more even if it was given nothing more.
    PerhapsMore,
    /// It takes the rest at this time.
    Until(Millis),
    /// It has taken all of it, and puts it out when it gets an answer. It takes more meanwhile.
    Asking,
    /// It goes on when it gets an answer, and takes nothing meanwhile.
    Blocked,
}

/// What a body does at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::request) enum Passage {
    /// No part of it waits: more may be received.
    Open,
    /// A part of it can move on.
    Ready,
    /// A part of it waits for this time.
    Until(Millis),
    /// A filter waits for an answer before it takes more.
    Blocked,
}

/// Where a body leaves the filters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Exit {
    /// Behind the last one.
    Sink,
    /// In front of this one, which waits for the whole body of the request.
    Filter(usize),
}

impl Exit {
    const fn is_behind(self, way: Way, at: usize) -> bool {
        match (self, way) {
            (Self::Sink, _) => true,
            (Self::Filter(filter), Way::Request) => at < filter,
            (Self::Filter(filter), Way::Response) => at > filter,
        }
    }
}

impl Active {
    /// What the filters want to see, taken together.
    pub(super) fn sees(&self, way: Way) -> Sees {
        if way == Way::Response && self.holder(way).is_some() {
            return Sees::Body;
        }
        let sees = self.running.iter().map(|running| running.lane(way).sees);
        sees.max().unwrap_or_default()
    }

    /// What the body does at the moment.
    pub(super) fn passage(&self, way: Way, now: Millis) -> Passage {
        // What a filter holds does not wait for anything before it.
        let exit = self.holder(way).map_or(Exit::Sink, Exit::Filter);
        let mut order = self.order(way, exit).rev();
        let last = order.find_map(|at| self.waiting(way, at));
        match last {
            None if way == Way::Response && self.awaits_only_answer() => Passage::Blocked,
            None => Passage::Open,
            Some(lane) if lane.inside.get() == Inside::Blocked => Passage::Blocked,
            Some(lane) if lane.resumes <= now => Passage::Ready,
            Some(lane) => Passage::Until(lane.resumes),
        }
    }

    /// Puts what was received in front of the first filter.
    pub(super) fn offer(&mut self, way: Way, piece: &mut Piece, exit: Exit, to: &mut impl Intake) {
        match self.next(way, None, exit) {
            Some(first) => self.wait_at(way, first, piece),
            None => piece.pour(to),
        }
    }

    /// Moves the body on until the sink has got a part of it, or nothing can move.
    ///
    /// # Errors
    /// That of a filter that cannot read the body.
    pub(super) fn advance(
        &mut self,
        way: Way,
        core: &mut Core<'_>,
        exit: Exit,
        to: &mut impl Intake,
    ) -> Result<(), Fault> {
        while let Some(at) = self.movable(way, core.shard.clock.now(), exit) {
            let mut output = std::mem::take(&mut self.output);
            let moved = self.run(at, way, core, &mut output);
            let reached = match self.next(way, Some(at), exit) {
                Some(next) => {
                    self.wait_at(way, next, &mut output);
                    false
                }
                None => !output.is_empty(),
            };
            output.pour(to);
            self.output = output;
            moved?;
            if reached {
                break;
            }
        }
        Ok(())
    }

    /// The filter nearest to the exit at which something waits, if it takes that now.
    fn movable(&self, way: Way, now: Millis, exit: Exit) -> Option<usize> {
        let mut order = self.order(way, exit).rev();
        let (at, lane) = order.find_map(|at| Some((at, self.waiting(way, at)?)))?;
        (lane.resumes <= now && lane.inside.get() != Inside::Blocked).then_some(at)
    }

    /// The lane of a filter, if something waits there.
    fn waiting(&self, way: Way, at: usize) -> Option<&Lane> {
        let lane = self.running.get(at)?.lane(way);
        let inside = lane.inside.get();
        let waits = matches!(inside, Inside::PerhapsMore | Inside::Blocked);
        (waits || !lane.waiting.is_empty()).then_some(lane)
    }

    /// The first filter behind `at` that wants to see something; behind none, the first one of all.
    fn next(&self, way: Way, at: Option<usize>, exit: Exit) -> Option<usize> {
        let sees = |at: &usize| {
            self.running.get(*at).is_some_and(|running| running.lane(way).sees != Sees::Nothing)
        };
        let mut order = self.order(way, exit);
        if let Some(at) = at {
            order.find(|other| *other == at)?;
        }
        order.find(sees)
    }

    /// The filters up to the exit, in the order in which the body passes them.
    fn order(&self, way: Way, exit: Exit) -> impl DoubleEndedIterator<Item = usize> + use<> {
        let count = self.running.len();
        let order = (0..count).map(move |i| match way {
            Way::Request => i,
            Way::Response => count - 1 - i,
        });
        order.filter(move |at| exit.is_behind(way, *at))
    }

    fn wait_at(&mut self, way: Way, at: usize, piece: &mut Piece) {
        if let Some(running) = self.running.get_mut(at) {
            running.lane_mut(way).waiting.take_all(piece);
        }
    }

    /// Lets a filter take what waits in front of it.
    fn run(
        &mut self,
        at: usize,
        way: Way,
        core: &mut Core<'_>,
        output: &mut Piece,
    ) -> Result<(), Fault> {
        let Some(lane) = self.running.get_mut(at).map(|running| running.lane_mut(way)) else {
            return Ok(());
        };
        let (sees, mut input) = (lane.sees, std::mem::take(&mut lane.waiting));
        let progress = self.call_for_body(at, core, |filter, state, cx| {
            if sees == Sees::Body {
                return filter.body(way, state, &mut input, output, cx);
            }
            output.take_all(&mut input);
            if let (Sees::Trailers, Some(lines)) = (sees, &mut output.end) {
                change_trailers(lines, |trailers| filter.trailers(way, trailers, cx));
            }
            Ok(Progress::Moved)
        });
        if progress.is_none() {
            // It runs no longer.
            output.take_all(&mut input);
        }
        if let Some(Running { request, response, .. }) = self.running.get_mut(at) {
            let lane = match way {
                Way::Request => request,
                Way::Response => response,
            };
            lane.waiting = input;
            lane.inside.set(match progress {
                Some(Ok(Progress::PerhapsMore)) => Inside::PerhapsMore,
                Some(Ok(Progress::Asking)) => Inside::Asking,
                Some(Ok(Progress::Blocked)) => Inside::Blocked,
                _ => Inside::Nothing,
            });
            lane.resumes = match progress {
                Some(Ok(Progress::Until(time))) => time,
                _ => 0,
            };
        }
        progress.unwrap_or(Ok(Progress::Moved)).map(drop)
    }

    /// The body as far as a filter holds it that waits for all of it.
    pub(super) fn held(&self, way: Way) -> Option<&Piece> {
        Some(&self.running.get(self.holder(way)?)?.lane(way).waiting)
    }

    /// The same, to be changed.
    pub(super) fn held_mut(&mut self, way: Way) -> Option<&mut Piece> {
        let holder = self.holder(way)?;
        Some(&mut self.running.get_mut(holder)?.lane_mut(way).waiting)
    }

    /// Passes a part of a body to the filter that waits for all of it.
    ///
    /// # Errors
    /// That of a filter that cannot read the body.
    pub(super) fn hold(
        &mut self,
        way: Way,
        piece: &mut Piece,
        core: &mut Core<'_>,
    ) -> Result<(), Fault> {
        let exit = self.holder(way).map_or(Exit::Sink, Exit::Filter);
        let mut held = self.held_mut(way).map(std::mem::take).unwrap_or_default();
        self.offer(way, piece, exit, &mut held);
        let mut moved = Ok(());
        while moved.is_ok() && self.passage(way, core.shard.clock.now()) == Passage::Ready {
            moved = self.advance(way, core, exit, &mut held);
        }
        if let Some(waiting) = self.held_mut(way) {
            *waiting = held;
        }
        moved
    }

    /// Drops the trailers of the request that wait.
    pub(super) fn drop_request_trailers(&mut self) {
        for running in &mut self.running {
            if let Some(trailers) = &mut running.request.waiting.end {
                trailers.clear();
            }
        }
    }

    /// Drops what waits of the request body: it has been answered.
    pub(super) fn drop_request_body(&mut self) {
        self.running.iter_mut().for_each(|running| running.request.waiting.clear());
    }

    /// The trailers of a body that filters do not see otherwise.
    pub(super) fn trailers(&mut self, way: Way, core: &mut Core<'_>, lines: &mut Vec<u8>) {
        for at in self.order(way, Exit::Sink) {
            if self.running.get(at).is_none_or(|it| it.lane(way).sees == Sees::Nothing) {
                continue;
            }
            self.call_for_body(at, core, |filter, _, cx| {
                change_trailers(lines, |trailers| filter.trailers(way, trailers, cx));
            });
        }
    }
}
