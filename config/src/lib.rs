//! Envoy configuration for Corvoy.
