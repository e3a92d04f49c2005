//! How certificates of peers are verified, as in `engine/src/transport/tls/context/verify/mod.rs`.

#[path = "../../../../../src/transport/tls/context/verify/chain.rs"]
mod chain;
#[path = "../../../../../src/transport/tls/context/verify/constraints.rs"]
mod constraints;
#[path = "../../../../../src/transport/tls/context/verify/crl.rs"]
mod crl;
#[path = "../../../../../src/transport/tls/context/verify/names.rs"]
mod names;
#[path = "../../../../../src/transport/tls/context/verify/signature.rs"]
mod signature;
#[path = "../../../../../src/transport/tls/context/verify/validation.rs"]
mod validation;

pub use chain::{ChainError, Purpose, Trust};
pub use crl::Crls;
pub use names::{SanMatcher, SanType};
pub use signature::take_scheme;
pub use validation::{ExpectedNames, Refusal, Validation, Verdict, sha256};
