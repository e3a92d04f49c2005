//! What a connection waits for, and what came of it.

/// What a wait is for.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "a set of four independent readinesses")]
pub struct Interest {
    /// Bytes from the client.
    pub client_in: bool,
    /// Room towards the client.
    pub client_out: bool,
    /// Bytes from the origin.
    pub origin_in: bool,
    /// Room towards the origin.
    pub origin_out: bool,
}

/// What a wait brought.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ready {
    /// What of the interest came true.
    pub io: Interest,
    /// The deadline passed.
    pub rang: bool,
}
