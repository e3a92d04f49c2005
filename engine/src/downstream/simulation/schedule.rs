//! In which order things happen, and in which pieces bytes are sent.

use std::fmt::Debug;

/// Decides what happens next.
pub(super) trait Schedule: Debug {
    /// Which of so many things that can happen does; the first are those of the proxy.
    fn choose(&mut self, among: usize) -> usize;
    /// How many of so many bytes are sent in one piece.
    fn piece(&mut self, of: usize) -> usize;
}

/// The proxy does all that it can before anybody else does something.
#[derive(Debug, Default)]
pub(super) struct Straight {
    bytes: usize,
}

impl Straight {
    /// How many bytes were sent.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Schedule for Straight {
    fn choose(&mut self, _among: usize) -> usize {
        0
    }

    fn piece(&mut self, of: usize) -> usize {
        self.bytes += of;
        of
    }
}

/// As [`Straight`], with the bytes cut at one place.
#[derive(Debug)]
pub(super) struct Cut {
    left: usize,
}

impl Cut {
    /// After so many bytes, of all that are sent in the story.
    pub(super) const fn at(left: usize) -> Self {
        Self { left }
    }
}

impl Schedule for Cut {
    fn choose(&mut self, _among: usize) -> usize {
        0
    }

    fn piece(&mut self, of: usize) -> usize {
        let piece = if 0 < self.left && self.left < of { self.left } else { of };
        self.left = self.left.saturating_sub(piece);
        piece
    }
}

/// As [`Straight`], byte by byte.
#[derive(Debug)]
pub(super) struct Cuts;

impl Schedule for Cuts {
    fn choose(&mut self, _among: usize) -> usize {
        0
    }

    fn piece(&mut self, _of: usize) -> usize {
        1
    }
}

/// At random, but the same for the same seed.
#[derive(Debug)]
pub(super) struct Random {
    #[expect(dead_code, reason = "shown when a story goes wrong")]
    seed: u64,
    random: fastrand::Rng,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, random: fastrand::Rng::with_seed(seed) }
    }
}

impl Schedule for Random {
    fn choose(&mut self, among: usize) -> usize {
        self.random.usize(..among)
    }

    fn piece(&mut self, of: usize) -> usize {
        if self.random.bool() { of } else { self.random.usize(1..=of) }
    }
}

/// One order after the other, until all were tried.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// What was chosen among how many.
    choices: Vec<(usize, usize)>,
    at: usize,
}

impl Orders {
    /// Goes on to the next order; returns whether there is one.
    pub(super) fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, among)) = self.choices.pop() {
            if chosen + 1 < among {
                self.choices.push((chosen + 1, among));
                return true;
            }
        }
        false
    }
}

impl Schedule for Orders {
    fn choose(&mut self, among: usize) -> usize {
        if self.at == self.choices.len() {
            self.choices.push((0, among));
        }
        // Timers and back-offs do not always leave the same choices.
        let (chosen, known) = &mut self.choices[self.at];
        *known = among;
        *chosen = among.saturating_sub(1).min(*chosen);
        self.at += 1;
        self.choices[self.at - 1].0
    }

    fn piece(&mut self, of: usize) -> usize {
        of
    }
}
