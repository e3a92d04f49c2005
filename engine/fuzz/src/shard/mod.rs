//! The buffers of a shard.

#[expect(dead_code, reason = "the engine uses the rest")]
#[path = "../../../src/shard/buffers.rs"]
pub mod buffers;
