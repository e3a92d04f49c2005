//! All limits of the data plane.

/// Bytes of an ordinary block: a request or response head and the first bytes of its body.
pub const BLOCK_BYTES: usize = 16 * 1024;

/// Bytes that the head of an ordinary request takes when it was decoded from HTTP/2, with what is added to
/// it. A longer one grows.
pub const DECODED_HEAD_BYTES: usize = 1024;

/// Bytes of a large block: the most that one receive of a long body reads.
pub const LARGE_BLOCK_BYTES: usize = 128 * 1024;

/// Bytes of a block for TLS records. A record takes up to 5 + 2^14 + 2048 bytes (RFC 5246 §6.2.3).
pub const RECORD_BLOCK_BYTES: usize = 20 * 1024;

/// Ordinary blocks, and blocks for TLS records, that a shard keeps for reuse.
pub const POOLED_BLOCKS_MAX: usize = 1024;

/// Large blocks that a shard keeps for reuse.
pub const POOLED_LARGE_BLOCKS_MAX: usize = 64;

/// Bytes of a pipe through which bulk bytes are moved without being copied: what Linux allows everybody.
pub const PIPE_BYTES: usize = 1024 * 1024;

/// Pipes of a shard. Linux allows an unprivileged user 64 of this size.
pub const PIPES_MAX: usize = 32;

/// How many pipes a shard may have if the process may have this many file descriptors: none where they are
/// scarce.
#[must_use]
pub const fn pipes_max(descriptors: u64) -> usize {
    if descriptors < DESCRIPTORS_WARNING { 0 } else { PIPES_MAX }
}

/// Bytes that are read ahead from a client (pipelining) while its current request is in progress.
pub const PIPELINED_BYTES_MAX: usize = BLOCK_BYTES;

/// Bytes of a request body kept for a retry; Envoy's default buffer limit.
pub const REPLAY_BYTES_MAX: usize = 1024 * 1024;

/// Bytes of request bodies that a shard keeps for retries, over all requests. A body that does not
/// fit is sent but not kept: its request cannot be retried.
pub const SHARD_REPLAY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of request bodies that wait on a shard for the hosts of calls, over all calls, before mirrors of
/// requests are cut off.
pub const SHARD_MIRROR_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Clients of one rate limit descriptor that have buckets of their own. Each takes some 50 bytes.
pub const RATE_LIMITED_CLIENTS_MAX: usize = 1024 * 1024;

/// Interim (1xx) responses to one request; more is a protocol error. An origin may send a 102 every
/// few seconds while it works on a long request.
pub const INTERIM_RESPONSES_MAX: usize = 1024;

/// Bytes of a block that are reserved for edits of a response head when it is received.
pub const EDIT_BYTES: usize = 1024;

/// Tasks that may run after a poll of the kernel before the state of an idle connection that it
/// reported is considered stale. One task takes some microseconds.
pub const TASKS_SINCE_POLL_MAX: u64 = 64;

/// Bytes of the response to a request that the proxy makes itself: gRPC's default.
pub const CALL_RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The most instructions that a Lua script executes before it finishes or waits.
pub const LUA_INSTRUCTIONS_MAX: u32 = 10_000_000;

/// The most memory that the state of a Lua script takes on a shard.
pub const LUA_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Milliseconds between two requests for a token, at least.
pub const TOKEN_FETCH_MIN_MS: u64 = 1000;

/// How often the load balancer is called again to avoid a host that was already tried.
pub const HOST_SELECTIONS_MAX: u32 = 100;

/// Milliseconds between two checks whether a paused listener can resume.
pub const ACCEPT_PAUSE_MS: u64 = 10;

/// File descriptors that the process needs for itself: the log, admin connections, DNS, signals.
pub const PROCESS_DESCRIPTORS: u64 = 32;

/// File descriptors that a shard needs for itself, besides listening sockets: rings, timer, mailbox.
pub const SHARD_DESCRIPTORS: u64 = 8;

/// With fewer file descriptors than this, a warning is logged at startup.
pub const DESCRIPTORS_WARNING: u64 = 10_000;

/// How many client connections this many file descriptors allow; more wait in the accept queues.
///
/// The descriptors that the process itself needs are subtracted; half of the remainder is for clients
/// and half for upstream connections, as HAProxy computes its `maxconn`. So every accepted client can
/// be served.
#[must_use]
pub fn client_connections_max(descriptors: u64, shards: u64, listeners: u64) -> u64 {
    let pipes = 2 * pipes_max(descriptors) as u64;
    let per_shard = SHARD_DESCRIPTORS.saturating_add(listeners).saturating_add(pipes);
    let own = PROCESS_DESCRIPTORS.saturating_add(shards.saturating_mul(per_shard));
    (descriptors.saturating_sub(own) / 2).max(1)
}

/// Bytes that wait to be sent on a connection with many streams before its streams have to wait.
pub const SESSION_OUT_BYTES_MAX: usize = 64 * 1024;

/// Bytes that wait to be sent on such a connection before nothing more is received on it.
pub const SESSION_OUT_STUCK_BYTES: usize = 16 * SESSION_OUT_BYTES_MAX;

/// Connections accepted from one listener before it yields to other tasks.
pub const ACCEPT_BURST_MAX: usize = 64;

/// What one task may spend before it yields to other tasks, in units of about a nanosecond: enough for
/// some large receives. Yielding costs less than a hundredth of that.
pub const TASK_BUDGET: u32 = 200_000;

/// Cost of a system call, without its bytes, in units of [`TASK_BUDGET`].
pub const COST_OF_CALL: u32 = 2_000;

/// Bytes that are received or sent for one unit.
pub const BYTES_PER_UNIT: u32 = 4;

/// Cost of decoding one chunk.
pub const COST_OF_CHUNK: u32 = 20;

/// Cost of a request, without its system calls.
pub const COST_OF_REQUEST: u32 = 2_000;

/// Cost of a byte of a request head, which is parsed, normalized, matched and encoded.
pub const COST_OF_HEAD_BYTE: u32 = 2;

/// Bytes that are encrypted or decrypted for one unit.
pub const CRYPTED_BYTES_PER_UNIT: u32 = 2;

/// Cost of a step of a TLS handshake. A signature takes up to a millisecond, so the others are served
/// between any two steps.
pub const COST_OF_HANDSHAKE_STEP: u32 = TASK_BUDGET;

/// Cost of a wait that ends immediately.
pub const COST_OF_WAIT: u32 = 4_000;

/// Milliseconds before a drain closes an idle client connection: a request that is already in flight
/// is still served.
pub const DRAIN_IDLE_GRACE_MS: u64 = 1000;

/// gRPC methods that a shard counts under their names, for each cluster; the others are counted without a name.
pub const GRPC_METHODS_MAX: usize = 1024;

/// Half-closed clients per shard that may still wait for their response. For any further client, a
/// FIN counts as a disconnect.
pub const HALF_CLOSED_MAX: usize = 256;

/// Bytes that are read and discarded after the last response before a client connection is closed
/// (lingering close). Anything beyond stays in the kernel.
pub const LINGER_BYTES_MAX: usize = 256 * 1024;

/// Milliseconds that a drain waits for TCP handshakes in progress: a few intercontinental round trips.
pub const DRAIN_HANDSHAKE_MS: u64 = 300;

/// Milliseconds more that a drain waits for file descriptors to accept the last connections.
pub const DRAIN_PAUSE_MAX_MS: u64 = 1000;

/// Longest interval in milliseconds between two sweeps of the idle upstream connections, which detect
/// those that the host has closed.
pub const POOL_SWEEP_MS: u64 = 1000;

/// Shortest interval between two sweeps, however many connections expire.
pub const POOL_SWEEP_MIN_MS: u64 = 50;

/// Bytes of access log lines that wait for their file, for each file; further lines are dropped. At
/// 100,000 lines per second they cover a disk that stalls for a second.
pub const LOG_QUEUE_BYTES_MAX: usize = 16 << 20;

/// Milliseconds that a client may take nothing of what `direct_response` or `echo` has sent last. Envoy
/// has no limit; this is its default of `stream_idle_timeout`.
pub const TCP_STALL_MS: u64 = 5 * 60 * 1000;

/// Milliseconds that `direct_response` waits for its client to close, before it closes itself; Envoy's
/// default of `delayed_close_timeout`.
pub const TCP_LINGER_MS: u64 = 1000;

const _: () = assert!(RECORD_BLOCK_BYTES > 5 + (1 << 14) + 2048);
const _: () = assert!(BLOCK_BYTES < LARGE_BLOCK_BYTES);
const _: () = assert!(POOL_SWEEP_MIN_MS < POOL_SWEEP_MS);
const _: () = assert!(PIPELINED_BYTES_MAX <= BLOCK_BYTES);

/// Configurations for TLS with one host that a shard keeps, each with its sessions: one for each server name
/// and each other set of options that requests need.
pub const CLIENT_CONFIGS_MAX: usize = 256;

/// How many bytes a ClientHello may have to be inspected, records included; Envoy's default of
/// `max_client_hello_size`.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_free_descriptors_are_for_clients() {
        assert_eq!(client_connections_max(1024, 2, 1), (1024 - 32 - 2 * 9) / 2);
        assert_eq!(client_connections_max(256, 1, 1), 107);
        let with_pipes = ((1 << 20) - 32 - 64 * (18 + 2 * 32)) / 2;
        assert_eq!(client_connections_max(1 << 20, 64, 10), with_pipes);
    }

    #[test]
    fn at_least_one_client_is_allowed() {
        assert_eq!(client_connections_max(16, 4, 1), 1);
        assert_eq!(client_connections_max(0, 0, 0), 1);
    }
}
