//! Complete configurations, as an operator writes them.
//!
//! `cfg(test)` makes clippy treat the helpers as tests.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod headers;
#[cfg(test)]
mod merge;
#[cfg(test)]
mod quirks;
