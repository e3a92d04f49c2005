//! How messages move: the heads of an exchange, what is still to come of a body, and what is on its
//! way to its sink. Both ends use it.
//!
//! It does not decide how a body ends or is framed (`http1/`), nor what becomes of it (`request/`).
//!
//! Invariant: a body is never held as a whole, and nothing is received for a direction whose bytes are
//! not sent yet.

pub mod heads;
pub mod inlet;
pub mod lane;
pub mod outlet;
