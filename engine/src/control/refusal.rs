//! Why a configuration is not accepted, and how that is said.

use std::error::Error as _;

use super::StartError;

/// Why a configuration cannot be accepted.
#[derive(Debug)]
pub(super) enum Refusal {
    /// `/drain_listeners` has stopped all or some listeners.
    Stopped,
    /// The address of this listener cannot be bound.
    Listener { name: String, why: String },
    /// The system refuses something else.
    System(StartError),
}

impl Refusal {
    /// As lines for whoever asked.
    pub(super) fn in_words(self) -> String {
        match self {
            Self::Stopped => "the listeners were stopped by /drain_listeners\n".to_owned(),
            Self::Listener { name: _, why } => format!("{why}\n"),
            Self::System(error) => in_words(&error),
        }
    }
}

impl From<StartError> for Refusal {
    fn from(error: StartError) -> Self {
        match &error {
            StartError::Listen { what, .. } => {
                let name = what.strip_prefix("listener ").unwrap_or(what).to_owned();
                Self::Listener { name, why: error.to_string() }
            }
            _ => Self::System(error),
        }
    }
}

/// The error with its cause, as a line.
fn in_words(error: &StartError) -> String {
    error.source().map_or_else(|| format!("{error}\n"), |why| format!("{error}: {why}\n"))
}
