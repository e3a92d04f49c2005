//! The house in order: the operator's page tells the truth, and the sources keep their rules.
//!
//! `cfg(test)` tells clippy that the helpers are tests as well.

#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod tidy;
