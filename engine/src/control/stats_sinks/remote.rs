//! Tasks that send the messages of a flush to a service.

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// How many flushes may wait while one is sent.
const FLUSHES_MAX: usize = 2;

/// The messages of one flush, encoded.
pub(super) type Messages = Vec<Vec<u8>>;

/// The end where flushes are handed over.
pub(super) struct Outbox {
    sender: Sender<Messages>,
    condition: Condition,
}

/// Whether sending works.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Condition {
    Good,
    Failing,
}

impl Outbox {
    /// With the end where they are taken.
    pub(super) fn new() -> (Self, Receiver<Messages>) {
        let (sender, receiver) = channel(FLUSHES_MAX);
        (Self { sender, condition: Condition::Good }, receiver)
    }

    /// Hands the messages of a flush over; they are lost if the service is too slow.
    pub(super) fn hand_over(&mut self, messages: Messages, cluster: &str) {
        let handed_over = self.sender.try_send(messages);
        if let (Err(TrySendError::Full(_)), Condition::Good) = (&handed_over, self.condition) {
            tracing::warn!(target: "main", "stats sink {cluster}: stats are lost: the service is too slow");
        }
        self.condition = if handed_over.is_ok() { Condition::Good } else { Condition::Failing };
    }
}

impl Condition {
    /// Notes whether a flush was sent to the service of this cluster, and logs what has changed.
    pub(super) fn note(&mut self, cluster: &str, sent: Result<(), String>) {
        match (sent, *self) {
            (Ok(()), Self::Good) => {}
            (Ok(()), Self::Failing) => {
                *self = Self::Good;
                tracing::info!(target: "main", "stats sink {cluster}: sending works again");
            }
            (Err(why), Self::Good) => {
                *self = Self::Failing;
                tracing::warn!(target: "main", "stats sink {cluster}: stats are lost: {why}");
            }
            (Err(_), Self::Failing) => {}
        }
    }
}
