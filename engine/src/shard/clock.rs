//! The only place of a shard that asks for the time.

use std::cell::{Cell, RefCell};
use std::time::{Instant, SystemTime};

/// Milliseconds since the process began to count; monotonic.
pub type Millis = u64;

/// Reads the clocks and keeps the `date` header of the current second.
#[derive(Debug)]
pub struct Clock {
    epoch: Instant,
    date_second: Cell<u64>,
    date: RefCell<[u8; DATE_LEN]>,
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
const DATE_LEN: usize = 29;

impl Clock {
    /// A clock that counts from `epoch`, the same for all shards.
    #[must_use]
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, date_second: Cell::new(u64::MAX), date: RefCell::new([b' '; DATE_LEN]) }
    }

    /// Now, in milliseconds.
    #[must_use]
    pub fn now(&self) -> Millis {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// The value of the `date` header, IMF-fixdate, written anew once a second at the most.
    #[must_use]
    pub fn date(&self, now: Millis) -> [u8; DATE_LEN] {
        // Half seconds, as Envoy: the header is never older than that.
        let half_second = now / 500;
        if self.date_second.get() != half_second {
            let text = httpdate::fmt_http_date(SystemTime::now());
            if let Ok(bytes) = text.as_bytes().try_into() {
                *self.date.borrow_mut() = bytes;
                self.date_second.set(half_second);
            }
        }
        *self.date.borrow()
    }
}
