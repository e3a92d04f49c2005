//! How much work a task may do before it yields.
//!
//! A task that always has more to do (a body in tiny chunks, pipelined requests) would starve the
//! other connections of its shard. So it gets a budget each time it is resumed, which is charged
//! for system calls, bytes, chunks and heads. Loops end when [`Budget::is_spent`], and the wait that
//! follows yields to other tasks. A task that has used most of its budget is resumed after the
//! others, even when it is woken before them.
//!
//! Work is counted, not timed: counting costs less than reading the clock, and gives the same result
//! on a busy machine.
//!
//! Invariant: a task exceeds its budget by at most one step, whatever its peers send.

use std::cell::Cell;

use crate::limits;

/// The remaining budget of the running task. One unit is about a nanosecond on a fast core.
#[derive(Debug, Default)]
pub struct Budget {
    left: Cell<u32>,
}

impl Budget {
    /// Restores the full budget, when a task is resumed.
    #[inline]
    pub fn refill(&self) {
        self.left.set(limits::TASK_BUDGET);
    }

    /// Whether the task should yield.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// Whether the task has used so much that the others run before it is resumed.
    #[inline]
    pub fn is_mostly_spent(&self) -> bool {
        self.used() > limits::TASK_BUDGET / 2
    }

    /// What the task has used.
    #[inline]
    pub fn used(&self) -> u32 {
        limits::TASK_BUDGET.saturating_sub(self.left.get())
    }

    /// Charges a system call that moved `bytes`.
    #[inline]
    pub fn charge_call(&self, bytes: usize) {
        self.charge(limits::COST_OF_CALL.saturating_add(units(bytes) / limits::BYTES_PER_UNIT));
    }

    /// Charges the decoding of chunks of a body.
    #[inline]
    pub fn charge_chunks(&self, chunks: usize) {
        self.charge(units(chunks).saturating_mul(limits::COST_OF_CHUNK));
    }

    /// Charges a request. The bytes of its head are scanned several times.
    #[inline]
    pub fn charge_request(&self, head_bytes: usize) {
        let head = units(head_bytes).saturating_mul(limits::COST_OF_HEAD_BYTE);
        self.charge(limits::COST_OF_REQUEST.saturating_add(head));
    }

    /// Charges the encryption or decryption of `bytes`.
    #[inline]
    pub fn charge_crypto(&self, bytes: usize) {
        self.charge(units(bytes) / limits::CRYPTED_BYTES_PER_UNIT);
    }

    /// Charges a step of a TLS handshake.
    #[inline]
    pub fn charge_handshake_step(&self) {
        self.charge(limits::COST_OF_HANDSHAKE_STEP);
    }

    /// Charges a wait that was over at once.
    #[inline]
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

    /// How often a task can be charged before its budget is spent.
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
