//! The certificates of a TLS context, for `/certs` and the expiry stats.

use std::sync::Arc;

use super::certificate::Certificate;
use super::context::certificate::Certificate as Owned;
use super::context::latest::Owner;
use super::context::ocsp::OcspResponse;
use super::context::verify::Validation;
use crate::stats::{CertificateStats, Registry, Scope};

/// The certificates of one context. As in Envoy, only the first certificate of a file is listed.
#[derive(Debug)]
pub struct Inventory {
    /// Whose context it is: `listener front`, `cluster echo`.
    pub owner: String,
    /// The certificate of the CA that peers are verified with.
    pub authority: Option<Installed>,
    /// The certificates that are sent to peers.
    pub own: Vec<Installed>,
    /// Keeps the stats listed.
    _stats: Vec<Arc<Scope<CertificateStats>>>,
}

/// A certificate and where it comes from.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The certificate.
    pub certificate: Certificate,
    /// The path of its file, or `<inline>`.
    pub path: String,
    /// The name of its secret; empty if it is not a secret.
    pub secret: String,
    /// The time in which its stapled OCSP response is valid, in seconds since 1970; none: there is no
    /// response. One without an end counts as expired.
    pub ocsp: Option<(i64, i64)>,
}

impl Inventory {
    /// The certificates of `owner`'s context, whose stats begin with `prefix` (`cluster.echo.ssl.`). It sets
    /// their stats. Of two certificates without the name of a secret the last one is in the stats, as in Envoy.
    pub fn new(
        owner: String,
        authority: Option<Installed>,
        own: Vec<Installed>,
        registry: &Registry,
        prefix: &str,
    ) -> Self {
        let named = |installed: &Installed, unnamed: &str| {
            let name = if installed.secret.is_empty() { unnamed } else { &installed.secret };
            let stats = registry.scope::<CertificateStats>(&format!("{prefix}certificate.{name}."));
            let not_after = installed.certificate.details().not_after;
            let seconds = u64::try_from(not_after).unwrap_or(0);
            stats.control().expiration_unix_time_seconds.set(seconds);
            stats
        };
        let stats = own.iter().map(|installed| named(installed, UNNAMED));
        let stats = stats.chain(authority.iter().map(|installed| named(installed, UNNAMED_CA)));
        Self { _stats: stats.collect(), owner, authority, own }
    }

    /// The certificates of a context. `new` says the rest.
    pub fn of_context(
        owner: &Owner,
        validation: Option<&Validation>,
        own: &[Owned],
        registry: &Registry,
    ) -> Self {
        let authority = validation.and_then(|validation| {
            let trust = validation.trust.as_ref().filter(|trust| !trust.path.is_empty())?;
            Some(Installed {
                certificate: Certificate::new(trust.first()?.clone()),
                path: trust.path.clone(),
                secret: validation.secret.clone(),
                ocsp: None,
            })
        });
        let own = own.iter().filter_map(|owned| {
            Some(Installed {
                certificate: Certificate::new(owned.chain.first()?.clone()),
                path: owned.path.clone(),
                secret: owned.secret.clone(),
                ocsp: owned.ocsp.as_ref().map(OcspResponse::validity),
            })
        });
        let prefix = format!("{}ssl.", owner.prefix);
        Self::new(owner.name.clone(), authority, own.collect(), registry, &prefix)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Installed> {
        self.authority.iter().chain(&self.own)
    }
}

impl Installed {
    /// How many whole days are left of its validity, at `now` in seconds since 1970; 0 if it has expired.
    pub fn days_left(&self, now: i64) -> u64 {
        let left = self.certificate.details().not_after.saturating_sub(now);
        u64::try_from(left / SECONDS_PER_DAY).unwrap_or(0)
    }
}

const SECONDS_PER_DAY: i64 = 24 * 60 * 60;

/// In the stats, certificates that are not secrets; Envoy adds a hash of the empty name.
const UNNAMED: &str = "unnamed_cert_e3b0c442";
const UNNAMED_CA: &str = "unnamed_ca_cert_e3b0c442";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{HistogramBuckets, Select, text};
    use crate::transport::tls::recorded::{CLIENT, ISSUER, SERVER, certificate};

    fn installed(recording: &str, secret: &str) -> Installed {
        Installed {
            certificate: certificate(recording),
            path: "a.pem".to_owned(),
            secret: secret.to_owned(),
            ocsp: None,
        }
    }

    #[test]
    fn the_stats_say_when_certificates_expire_until_the_context_is_gone() {
        let registry = Registry::new(1);
        let listed = || text(&registry, Select::default(), HistogramBuckets::Summary).collect();
        let own = vec![installed(SERVER, ""), installed(CLIENT, ""), installed(SERVER, "shop")];
        let authority = Some(installed(ISSUER, ""));
        let inventory =
            Inventory::new("cluster up".into(), authority, own, &registry, "cluster.up.ssl.");
        let listed_now: String = listed();
        assert_eq!(
            listed_now,
            "cluster.up.ssl.certificate.shop.expiration_unix_time_seconds: 1827530189\n\
             cluster.up.ssl.certificate.unnamed_ca_cert_e3b0c442.expiration_unix_time_seconds: 2111352770\n\
             cluster.up.ssl.certificate.unnamed_cert_e3b0c442.expiration_unix_time_seconds: 1827528770\n"
        );
        drop(inventory);
        let listed_then: String = listed();
        assert_eq!(listed_then, "");
    }

    #[test]
    fn days_are_counted_down_to_zero() {
        let server = installed(SERVER, "");
        let end = server.certificate.details().not_after;
        let days = [10 * SECONDS_PER_DAY, SECONDS_PER_DAY, SECONDS_PER_DAY - 1, 0, -1, -1_000_000];
        assert_eq!(days.map(|left| server.days_left(end - left)), [10, 1, 0, 0, 0, 0]);
    }
}
