//! Why a message is rejected, whichever codec has read it.

/// The reply to a request that its codec rejects. In a response every one is an upstream protocol
/// error (502).
///
/// After any of them, nothing that follows on the connection may be read as another message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reject {
    /// The status of the reply.
    pub status: u16,
    /// The body of the reply: Envoy sends the reason phrase as text.
    pub body: &'static str,
    /// Envoy's `response_code_details` of the reply.
    pub details: &'static str,
    /// What the message did.
    pub misdeed: Misdeed,
}

/// What a rejected message did, as far as it matters for stats.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Misdeed {
    /// It is malformed.
    Malformed,
    /// Its body is not what an HTTP filter expects. The framing is right.
    Content,
    /// A field's name has an underscore, and underscores are rejected.
    Underscore,
}
