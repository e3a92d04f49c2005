//! Every bound of the data plane in one place.

/// Bytes of an ordinary block: a request or a response head with its first body bytes.
pub const BLOCK_BYTES: usize = 16 * 1024;

/// Bytes of a block for bulk: what one receive of a long body takes at the most.
pub const LARGE_BLOCK_BYTES: usize = 128 * 1024;

/// Ordinary blocks that a shard keeps for later.
pub const POOLED_BLOCKS_MAX: usize = 1024;

/// Large blocks that a shard keeps for later.
pub const POOLED_LARGE_BLOCKS_MAX: usize = 64;

/// Bytes that a client may send ahead (pipelining) while its current request is being answered.
pub const PIPELINED_BYTES_MAX: usize = BLOCK_BYTES;

/// Bytes of a request body kept for a retry; Envoy's default buffer limit.
pub const REPLAY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of request bodies that a shard keeps for retries, over all requests. A body for which there
/// is no room is sent, but not kept: its request cannot be retried.
pub const SHARD_REPLAY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Interim (1xx) answers of an origin to one request; more is a protocol error. An origin that works
/// for long may say 102 every few seconds.
pub const INTERIM_RESPONSES_MAX: usize = 1024;

/// What of a block is left for edits of an answer's head when it is received into.
pub const EDIT_BYTES: usize = 1024;

/// Tasks that may have been resumed since the kernel told what has happened, before it is asked again
/// whether an idle connection still lives. One task takes some microseconds.
pub const TASKS_UNASKED_MAX: u64 = 64;

/// How often another host is asked for to avoid one that was tried.
pub const HOST_SELECTIONS_MAX: u32 = 100;

/// Milliseconds between two looks whether a listener that paused can go on.
pub const ACCEPT_PAUSE_MS: u64 = 10;

/// File descriptors that the process needs for itself: the log, admin connections, DNS, signals.
pub const PROCESS_DESCRIPTORS: u64 = 32;

/// File descriptors that a shard needs for itself, beside its listening sockets: rings, timer, mailbox.
pub const SHARD_DESCRIPTORS: u64 = 8;

/// Below so many file descriptors there is a warning at the start.
pub const DESCRIPTORS_WARNING: u64 = 10_000;

/// Client connections that so many file descriptors are enough for; more wait in the accept queues.
///
/// What the process needs for itself is set apart, and of the rest one half is for clients and the other
/// for upstream connections, as HAProxy works out its `maxconn`: so whoever was accepted can be answered.
#[must_use]
pub fn client_connections_max(descriptors: u64, shards: u64, listeners: u64) -> u64 {
    let per_shard = SHARD_DESCRIPTORS.saturating_add(listeners);
    let own = PROCESS_DESCRIPTORS.saturating_add(shards.saturating_mul(per_shard));
    (descriptors.saturating_sub(own) / 2).max(1)
}

/// Connections taken from one listener before the shard looks at its other work.
pub const ACCEPT_BURST_MAX: usize = 64;

/// What one task may do before the others run, in units of about a nanosecond. Some receives of
/// bulk: letting the others run costs less than a hundredth of that.
pub const TASK_BUDGET: u32 = 200_000;

/// What a system call costs of it, beside its bytes.
pub const COST_OF_CALL: u32 = 2_000;

/// Bytes that are received, or sent, for one unit of it.
pub const BYTES_PER_UNIT: u32 = 4;

/// What decoding one chunk costs of it.
pub const COST_OF_CHUNK: u32 = 20;

/// What a request costs of it, beside its calls.
pub const COST_OF_REQUEST: u32 = 2_000;

/// What a byte of a request's head costs of it: it is parsed, normalized, matched and encoded.
pub const COST_OF_HEAD_BYTE: u32 = 2;

/// What a wait costs of it that ends at once.
pub const COST_OF_WAIT: u32 = 4_000;

/// Milliseconds that an idle client keeps after a drain began: a request already on its way to us
/// is still answered.
pub const DRAIN_IDLE_GRACE_MS: u64 = 1000;

/// Clients of one shard that have half-closed and still get a grace to wait for their origin. One more
/// has left with its FIN.
pub const HALF_CLOSED_MAX: usize = 256;

/// Bytes that are read from a client after its last answer, before its connection is closed. What it
/// sends beyond them stays in the kernel.
pub const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Milliseconds that a drain waits for TCP handshakes that had begun before it: some round trips over
/// an ocean.
pub const DRAIN_HANDSHAKE_MS: u64 = 300;

/// Milliseconds between two looks at the idle upstream connections, at the most: a host may have
/// closed some.
pub const POOL_SWEEP_MS: u64 = 1000;

/// Milliseconds between two such looks at the least, however many connections expire.
pub const POOL_SWEEP_MIN_MS: u64 = 50;

const _: () = assert!(BLOCK_BYTES < LARGE_BLOCK_BYTES);
const _: () = assert!(POOL_SWEEP_MIN_MS < POOL_SWEEP_MS);
const _: () = assert!(PIPELINED_BYTES_MAX <= BLOCK_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_that_are_free_are_for_clients() {
        assert_eq!(client_connections_max(1024, 2, 1), (1024 - 32 - 2 * 9) / 2);
        assert_eq!(client_connections_max(256, 1, 1), 107);
        assert_eq!(client_connections_max(1 << 20, 64, 10), ((1 << 20) - 32 - 64 * 18) / 2);
    }

    #[test]
    fn one_client_is_served_however_few_descriptors_there_are() {
        assert_eq!(client_connections_max(16, 4, 1), 1);
        assert_eq!(client_connections_max(0, 0, 0), 1);
    }
}
