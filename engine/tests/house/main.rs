//! Checks of the repository itself: the docs match the code, and the sources follow the rules.
//!
//! With `cfg(test)`, clippy treats the helpers as tests as well.

#[cfg(test)]
mod compatibility;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod tidy;
