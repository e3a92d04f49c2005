//! What of a shard is draining, and which listeners have stopped.

/// `traffic_direction` of a listener; `/drain_listeners?inboundonly` drains the inbound ones only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// `INBOUND`
    Inbound,
    /// `OUTBOUND` or unspecified
    Other,
}

/// Which listeners an order of the operator applies to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listeners {
    /// All listeners.
    All,
    /// Those with `traffic_direction: INBOUND`.
    Inbound,
}

impl Listeners {
    /// Whether a listener with this direction is included.
    #[must_use]
    pub fn includes(self, direction: Direction) -> bool {
        self == Self::All || direction == Direction::Inbound
    }

    /// These and those of an earlier order.
    #[must_use]
    pub fn and(self, before: Option<Self>) -> Self {
        if before == Some(Self::All) { Self::All } else { self }
    }
}

/// The health that the operator has set, with `/healthcheck/fail` and `/healthcheck/ok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// The process is healthy.
    Good,
    /// All clients get `connection: close`, and health checks get 503.
    Failed,
}

/// What is draining.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Draining {
    /// Nothing.
    No,
    /// The connections of these listeners: responses carry `connection: close`; idle connections
    /// stay open.
    Listeners(Listeners),
    /// The process, which is about to exit: responses carry `connection: close`, and idle connections
    /// are closed after [`limits::DRAIN_IDLE_GRACE_MS`](crate::limits::DRAIN_IDLE_GRACE_MS).
    Process,
}

/// What becomes of the connections of a filter chain when the configuration changes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Phase {
    /// The chain is in force.
    #[default]
    Serving,
    /// It is not any more: responses carry `connection: close`; idle connections stay open.
    Draining,
    /// The drain time is over: all are closed.
    Closed,
}

impl Draining {
    /// Whether connections of a listener with this direction are draining.
    #[must_use]
    pub fn includes(self, direction: Direction) -> bool {
        match self {
            Self::No => false,
            Self::Listeners(listeners) => listeners.includes(direction),
            Self::Process => true,
        }
    }
}
