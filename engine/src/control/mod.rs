//! The control plane.

pub mod admin;
