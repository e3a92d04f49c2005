//! When to send the next request. Pure: time is an argument, in nanoseconds since the start of the
//! run.
//!
//! An open-loop pace fixes the time of every request before the run: request `k` is due at `k /
//! rate`, independent of earlier ones. A request that finds no free connection keeps its due time,
//! and its latency counts from there; this avoids coordinated omission.

/// The next action of a free connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Turn {
    /// Send the request that was due at this time.
    Send { due_ns: u64 },
    /// Nothing is due yet.
    Wait,
    /// Every request of this run was sent.
    Finished,
}

/// The schedule of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as the connections answer, up to a count or a time, whichever comes first.
    Closed { left: u64, end_ns: u64 },
    /// `total` requests at a constant rate per second.
    Open { rate: u64, issued: u64, total: u64 },
}

impl Pace {
    pub(crate) fn next(&mut self, now_ns: u64) -> Turn {
        match self {
            Self::Closed { left, end_ns } => {
                if *left == 0 || now_ns >= *end_ns {
                    return Turn::Finished;
                }
                *left -= 1;
                Turn::Send { due_ns: now_ns }
            }
            Self::Open { rate, issued, total } => {
                if issued == total {
                    return Turn::Finished;
                }
                let due_ns = due_ns(*rate, *issued);
                if due_ns > now_ns {
                    return Turn::Wait;
                }
                *issued += 1;
                Turn::Send { due_ns }
            }
        }
    }

    /// The number of requests that are due but not sent.
    pub(crate) fn overdue(&self, now_ns: u64) -> u64 {
        match self {
            Self::Closed { .. } => 0,
            Self::Open { rate, issued, total } => {
                let reached = u128::from(now_ns) * u128::from(*rate) / u128::from(SECOND_NS) + 1;
                u64::try_from(reached).unwrap_or(u64::MAX).min(*total).saturating_sub(*issued)
            }
        }
    }
}

fn due_ns(rate: u64, index: u64) -> u64 {
    let due = u128::from(index) * u128::from(SECOND_NS) / u128::from(rate.max(1));
    u64::try_from(due).unwrap_or(u64::MAX)
}

pub(crate) const SECOND_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::record::Record;

    const MILLISECOND_NS: u64 = 1_000_000;

    #[test]
    fn requests_are_due_at_even_distances_without_drift() {
        let mut pace = Pace::Open { rate: 3, issued: 0, total: 300_000 };
        let day_and_more = 100_000 * SECOND_NS;
        let mut last = 0;
        while let Turn::Send { due_ns } = pace.next(day_and_more) {
            last = due_ns;
        }
        assert_eq!(last, 99_999_666_666_666, "the 300,000th request at 3/s");
    }

    #[test]
    fn nothing_is_sent_before_it_is_due() {
        let mut pace = Pace::Open { rate: 1000, issued: 0, total: 2 };
        assert_eq!(pace.next(0), Turn::Send { due_ns: 0 });
        assert_eq!(pace.next(MILLISECOND_NS - 1), Turn::Wait);
        assert_eq!(pace.next(MILLISECOND_NS), Turn::Send { due_ns: MILLISECOND_NS });
        assert_eq!(pace.next(SECOND_NS), Turn::Finished);
    }

    #[test]
    fn overdue_counts_requests_without_a_free_connection() {
        let mut pace = Pace::Open { rate: 1000, issued: 0, total: 100 };
        assert_eq!(pace.overdue(0), 1);
        assert_eq!(pace.next(0), Turn::Send { due_ns: 0 });
        assert_eq!(pace.overdue(0), 0);
        assert_eq!(pace.overdue(10 * MILLISECOND_NS), 10);
        assert_eq!(pace.overdue(SECOND_NS), 99);
    }

    #[test]
    fn a_closed_pace_stops_at_its_count_and_at_its_end() {
        let mut counted = Pace::Closed { left: 1, end_ns: u64::MAX };
        assert_eq!(counted.next(5), Turn::Send { due_ns: 5 });
        assert_eq!(counted.next(6), Turn::Finished);
        let mut timed = Pace::Closed { left: u64::MAX, end_ns: 10 };
        assert_eq!(timed.next(10), Turn::Finished);
    }

    /// One connection, 1,000 requests per second, each served in 100 µs, and a stall of one second
    /// in the middle of ten: a tenth of the requests waited, half of those longer than 500 ms.
    #[test]
    fn a_stall_delays_every_request_that_was_due_during_it() {
        let mut pace = Pace::Open { rate: 1000, issued: 0, total: 10_000 };
        let mut record = Record::new().unwrap();
        let mut now = 0;
        let mut served = 0;
        loop {
            match pace.next(now) {
                Turn::Send { due_ns } => {
                    let sent = now;
                    now += if served == 5000 { SECOND_NS } else { 100_000 };
                    served += 1;
                    record.answered(due_ns, sent, now);
                }
                Turn::Wait => now += 10_000,
                Turn::Finished => break,
            }
        }
        let corrected = record.latency.value_at_quantile(0.95);
        assert!(corrected > 400 * MILLISECOND_NS, "p95 {corrected} ns hides the stall");
        let from_send = record.service.value_at_quantile(0.999);
        assert!(
            from_send < MILLISECOND_NS,
            "the time from the send on shows one slow request only"
        );
        assert!(record.latency.max() >= SECOND_NS);
    }
}
