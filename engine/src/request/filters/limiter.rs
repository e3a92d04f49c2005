//! How fast a body goes on: a token bucket of its own.
//!
//! As in Envoy a second has sixteen tokens, each for as many bytes; a body begins with one.

use super::{Piece, Progress};
use crate::shard::clock::Millis;

/// The rate of one body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limiter {
    bytes_per_token: usize,
    /// What the body may use now, in half milliseconds.
    credit: u64,
    /// When that was; none: it has not begun.
    at: Option<Millis>,
}

/// A token, in half milliseconds.
const TOKEN: u64 = 125;
/// The most that can be saved: a second.
const CREDIT_MAX: u64 = 16 * TOKEN;

impl Limiter {
    /// With so many KiB a second.
    pub(super) fn new(kib_per_second: u64) -> Self {
        let bytes_per_token = kib_per_second.saturating_mul(1024 / 16);
        let bytes_per_token = usize::try_from(bytes_per_token).unwrap_or(usize::MAX).max(1);
        Self { bytes_per_token, credit: TOKEN, at: None }
    }

    /// Lets pass what may pass now.
    pub(super) fn pass(&mut self, input: &mut Piece, output: &mut Piece, now: Millis) -> Progress {
        let elapsed = self.at.map_or(0, |at| now.saturating_sub(at));
        self.at = Some(now);
        self.credit = self.credit.saturating_add(elapsed.saturating_mul(2)).min(CREDIT_MAX);
        let needed = input.data.len().div_ceil(self.bytes_per_token) as u64;
        let tokens = needed.min(self.credit / TOKEN);
        self.credit -= tokens * TOKEN;
        let bytes = usize::try_from(tokens).unwrap_or(usize::MAX);
        let bytes = bytes.saturating_mul(self.bytes_per_token).min(input.data.len());
        let rest = input.data.split_off(bytes);
        output.take_data(std::mem::replace(&mut input.data, rest));
        if input.data.is_empty() {
            output.end = input.end.take();
            return Progress::Moved;
        }
        Progress::Until(now + TOKEN.saturating_sub(self.credit).div_ceil(2).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Intake as _;

    /// When how many bytes of a body go on.
    fn passed(limiter: &mut Limiter, body: &[u8]) -> Vec<(Millis, usize)> {
        let mut input = Piece::default();
        input.data(body);
        input.end(Vec::new());
        let (mut now, mut passed) = (1000, Vec::new());
        loop {
            let mut output = Piece::default();
            let progress = limiter.pass(&mut input, &mut output, now);
            passed.push((now - 1000, output.data.len()));
            match progress {
                Progress::Until(next) => {
                    assert!(next > now && !output.has_ended());
                    now = next;
                }
                _ => {
                    assert!(output.has_ended());
                    return passed;
                }
            }
        }
    }

    #[test]
    fn a_body_takes_as_long_as_its_rate_says() {
        let times = passed(&mut Limiter::new(1), &[0; 1024]);
        assert_eq!(times.iter().map(|(_, bytes)| bytes).sum::<usize>(), 1024);
        assert_eq!(times.first(), Some(&(0, 64)), "one token at once");
        let (last, _) = *times.last().unwrap();
        assert!((930..=950).contains(&last), "fifteen more, one each 62.5 ms: {last}");
    }

    #[test]
    fn a_short_body_passes_at_once() {
        assert_eq!(passed(&mut Limiter::new(100), &[0; 1024]), [(0, 1024)]);
        assert_eq!(passed(&mut Limiter::new(1), b""), [(0, 0)]);
    }

    #[test]
    fn what_a_slow_source_has_not_used_is_saved_for_a_second() {
        let mut limiter = Limiter::new(1);
        let mut pass = |bytes: usize, now| {
            let (mut input, mut output) = (Piece::default(), Piece::default());
            input.data(&vec![0; bytes]);
            let _progress = limiter.pass(&mut input, &mut output, now);
            output.data.len()
        };
        assert_eq!(pass(64, 0), 64);
        assert_eq!(pass(4096, 60_000), 1024);
    }
}
