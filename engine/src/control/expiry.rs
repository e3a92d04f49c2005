//! Warns of certificates that are about to expire.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::admin::Server;
use super::counted;

/// How long before its end a certificate is worth a warning, in days.
const WARNING_DAYS: u64 = 14;

/// How often it is warned of.
const REPEAT_SECONDS: i64 = 24 * 60 * 60;

/// How often certificates are looked at.
const PERIOD: Duration = Duration::from_secs(60 * 60);

/// Looks at the certificates of the server, forever.
pub(super) async fn watch(server: Arc<impl Server>) {
    let mut warned = Warned::default();
    loop {
        let now = Timestamp::now().as_second();
        for inventory in server.certificates() {
            let owner = &inventory.owner;
            for installed in inventory.all() {
                let path = &installed.path;
                let not_after = installed.certificate.details().not_after;
                match warned.warning(&format!("{owner} {path} {not_after}"), not_after, now) {
                    None => {}
                    Some(Warning::Expired) => {
                        tracing::warn!(target: "config", "{owner}: the certificate {path} has expired");
                    }
                    Some(Warning::Expires) => {
                        let days = counted(installed.days_left(now), "day");
                        tracing::warn!(target: "config", "{owner}: the certificate {path} expires in {days}");
                    }
                }
            }
        }
        tokio::time::sleep(PERIOD).await;
    }
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Warning {
    Expired,
    Expires,
}

/// When each certificate was warned of.
#[derive(Debug, Default)]
struct Warned(HashMap<String, i64>);

impl Warned {
    /// The warning that is due for a certificate with this end, at `now` in seconds since 1970.
    fn warning(&mut self, certificate: &str, not_after: i64, now: i64) -> Option<Warning> {
        let left = not_after.saturating_sub(now);
        let warning = match u64::try_from(left) {
            Err(_) => Warning::Expired,
            Ok(left) if left < WARNING_DAYS * 24 * 60 * 60 => Warning::Expires,
            Ok(_) => return None,
        };
        let last = self.0.get(certificate);
        if last.is_some_and(|last| now.saturating_sub(*last) < REPEAT_SECONDS) {
            return None;
        }
        self.0.insert(certificate.to_owned(), now);
        Some(warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 60 * 60;
    const DAY: i64 = 24 * HOUR;

    #[test]
    fn a_certificate_is_warned_of_once_a_day_in_its_last_two_weeks_and_after() {
        let mut warned = Warned::default();
        let end = 1_000 * DAY;
        let mut warnings = Vec::new();
        for hour in -20 * 24..4 * 24 {
            if let Some(warning) = warned.warning("a", end, end + hour * HOUR) {
                warnings.push((hour / 24, warning));
            }
        }
        let days: Vec<_> = warnings.iter().map(|(day, _)| *day).collect();
        assert_eq!(days, (-13..=0).chain(0..=3).collect::<Vec<_>>());
        let expired = warnings.iter().filter(|(_, warning)| *warning == Warning::Expired).count();
        assert_eq!(expired, 4);
        assert_eq!(warned.warning("b", end, end), Some(Warning::Expires), "each on its own");
    }
}
