//! A request between its head and its answer.

pub mod retry;
pub mod route;
