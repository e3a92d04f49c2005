//! How much work one task may do before the others run.
//!
//! A task that always finds more to do (a body in tiny chunks, requests sent one behind the other)
//! would hold up every other connection of its shard. So it gets the same budget each time that it
//! is resumed, and the budget is charged where the work is done: for system calls, bytes, chunks
//! and heads. Loops end when [`Budget::is_spent`], and the wait that follows lets the others run.
//! Whoever has used most of it waits for its next turn behind them, even when it is woken earlier.
//!
//! Work is counted, not timed: a count costs less than a look at the clock, and is the same on a
//! busy machine.
//!
//! Invariant: a task exceeds its budget by one step at the most, whatever its peers send.

use std::cell::Cell;

use crate::limits;

/// What is left to the task that runs now. One unit is about a nanosecond on a fast core.
#[derive(Debug, Default)]
pub struct Budget {
    left: Cell<u32>,
}

impl Budget {
    /// A task is resumed.
    pub fn refill(&self) {
        self.left.set(limits::TASK_BUDGET);
    }

    /// Whether the task should let the others run.
    pub fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// Whether the task has done so much that others go first the next time.
    pub fn is_mostly_spent(&self) -> bool {
        self.used() > limits::TASK_BUDGET / 2
    }

    /// What the task has used.
    pub fn used(&self) -> u32 {
        limits::TASK_BUDGET.saturating_sub(self.left.get())
    }

    /// A system call that moved so many bytes.
    #[inline]
    pub fn charge_call(&self, bytes: usize) {
        self.charge(limits::COST_OF_CALL.saturating_add(units(bytes) / limits::BYTES_PER_UNIT));
    }

    /// Chunks of a body that were decoded.
    pub fn charge_chunks(&self, chunks: usize) {
        self.charge(units(chunks).saturating_mul(limits::COST_OF_CHUNK));
    }

    /// A request with a head of so many bytes, which are looked at several times.
    #[inline]
    pub fn charge_request(&self, head_bytes: usize) {
        let head = units(head_bytes).saturating_mul(limits::COST_OF_HEAD_BYTE);
        self.charge(limits::COST_OF_REQUEST.saturating_add(head));
    }

    /// A wait that ended at once.
    pub fn charge_wait(&self) {
        self.charge(limits::COST_OF_WAIT);
    }

    #[inline]
    fn charge(&self, cost: u32) {
        self.left.set(self.left.get().saturating_sub(cost));
    }
}

fn units(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Budget {
        let budget = Budget::default();
        budget.refill();
        budget
    }

    /// How often a task may do something before its budget is spent.
    fn times(charge: impl Fn(&Budget)) -> usize {
        let budget = full();
        (0..)
            .take_while(|_| {
                charge(&budget);
                !budget.is_spent()
            })
            .count()
    }

    #[test]
    fn a_budget_is_spent_by_calls_by_bytes_by_chunks_by_requests_and_by_waits() {
        let calls = times(|budget| budget.charge_call(100));
        let bulk = times(|budget| budget.charge_call(limits::LARGE_BLOCK_BYTES));
        let chunks = times(|budget| budget.charge_chunks(100)) * 100;
        let requests = times(|budget| budget.charge_request(300));
        let long_requests = times(|budget| budget.charge_request(60 * 1024));
        let waits = times(Budget::charge_wait);
        assert!((20..100).contains(&calls), "{calls} calls");
        assert!((1..10).contains(&bulk), "{bulk} large blocks");
        assert!((1_000..10_000).contains(&chunks), "{chunks} chunks");
        assert!((10..100).contains(&requests), "{requests} requests");
        assert!(long_requests <= 1, "{long_requests} requests with heads of 60 KiB");
        assert!((4..50).contains(&waits), "{waits} waits");
    }

    #[test]
    fn an_ordinary_exchange_is_far_from_spending_its_budget() {
        let budget = full();
        budget.charge_wait();
        for bytes in [300, 500, 20_000, 20_000] {
            budget.charge_call(bytes);
        }
        budget.charge_request(300);
        assert!(!budget.is_mostly_spent());
    }

    #[test]
    fn a_spent_budget_is_full_again_when_the_task_is_resumed() {
        let budget = full();
        budget.charge_call(usize::MAX);
        budget.charge_chunks(usize::MAX);
        assert!(budget.is_spent());
        budget.refill();
        assert!(!budget.is_spent());
    }
}
