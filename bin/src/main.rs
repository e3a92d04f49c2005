//! Corvoy.
fn main() {}
