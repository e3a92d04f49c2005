//! Complete configurations, as an operator writes them.
//!
//! `cfg(test)` tells clippy that the helpers are tests as well.

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
