//! Name constraints: which names a CA may certify. A kind of name that cannot be compared is not
//! permitted where a CA constrains it.

use std::net::IpAddr;

use x509_parser::extensions::GeneralSubtree;
use x509_parser::prelude::{GeneralName, ParsedExtension, X509Certificate};

use super::chain::ChainError;
use super::names::ip;

/// Checks the names of each certificate against the name constraints of all CAs above it. An error has the
/// depth of the CA.
pub(super) fn check(chain: &[&X509Certificate<'_>]) -> Result<(), (ChainError, usize)> {
    for (depth, ca) in chain.iter().enumerate().skip(1) {
        let malformed = |_| (ChainError::Malformed, depth);
        let Some(constraints) = ca.name_constraints().map_err(malformed)? else { continue };
        let permitted = constraints.value.permitted_subtrees.as_deref().unwrap_or_default();
        let excluded = constraints.value.excluded_subtrees.as_deref().unwrap_or_default();
        for (below, certificate) in chain.iter().enumerate().take(depth) {
            let issued_itself = certificate.subject().as_raw() == certificate.issuer().as_raw();
            if below > 0 && issued_itself {
                continue;
            }
            if !allows(permitted, excluded, certificate) {
                return Err((ChainError::NameConstraints, depth));
            }
        }
    }
    Ok(())
}

fn allows(
    permitted: &[GeneralSubtree<'_>],
    excluded: &[GeneralSubtree<'_>],
    certificate: &X509Certificate<'_>,
) -> bool {
    // RFC 5280 §4.2: an extension occurs once. Names of a second one would not be checked.
    if certificate.extensions_map().is_err() {
        return false;
    }
    let sans = certificate.iter_extensions().find_map(|it| match it.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(sans) => Some(&sans.general_names),
        _ => None,
    });
    let names = sans.into_iter().flatten().cloned();
    let subject = Some(certificate.subject())
        .filter(|subject| subject.iter().next().is_some())
        .map(|subject| GeneralName::DirectoryName(subject.clone()));
    // Without subject alternative names, the common name counts.
    let common = certificate.subject().iter_common_name().filter(|_| sans.is_none());
    let common = common.filter_map(|name| name.as_str().ok()).map(GeneralName::DNSName);
    let emails = certificate.subject().iter_email().filter_map(|name| name.as_str().ok());
    let mut names = names.chain(subject).chain(common).chain(emails.map(GeneralName::RFC822Name));
    names.all(|name| {
        let mut of_kind = permitted.iter().filter(|it| is_same_kind(&it.base, &name)).peekable();
        let is_permitted =
            of_kind.peek().is_none() || of_kind.any(|it| is_within(&name, &it.base) == Some(true));
        let is_excluded = excluded
            .iter()
            .any(|it| is_same_kind(&it.base, &name) && is_within(&name, &it.base) != Some(false));
        is_permitted && !is_excluded
    })
}

fn is_same_kind(a: &GeneralName<'_>, b: &GeneralName<'_>) -> bool {
    std::mem::discriminant(a) == std::mem::discriminant(b)
}

/// Whether a name is in a subtree; none: this type of name cannot be compared.
fn is_within(name: &GeneralName<'_>, base: &GeneralName<'_>) -> Option<bool> {
    match (name, base) {
        (GeneralName::DNSName(name), GeneralName::DNSName(base)) => Some(is_domain(name, base)),
        (GeneralName::RFC822Name(name), GeneralName::RFC822Name(base)) => {
            let (local, host) = name.rsplit_once('@')?;
            Some(match base.rsplit_once('@') {
                Some((base_local, base_host)) => {
                    local == base_local && host.eq_ignore_ascii_case(base_host)
                }
                None => is_host(host, base),
            })
        }
        (GeneralName::URI(name), GeneralName::URI(base)) => {
            let (_, rest) = name.split_once("://")?;
            let authority = rest.split(['/', '?', '#']).next()?;
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            let host = host.split_once(':').map_or(host, |(host, _)| host);
            if host.is_empty() { None } else { Some(is_host(host, base)) }
        }
        (GeneralName::IPAddress(name), GeneralName::IPAddress(base)) => {
            let (network, mask) = base.split_at_checked(base.len() / 2)?;
            let (name, network, mask) = (ip(name)?, ip(network)?, ip(mask)?);
            Some(match (name, network, mask) {
                (IpAddr::V4(name), IpAddr::V4(network), IpAddr::V4(mask)) => {
                    name & mask == network & mask
                }
                (IpAddr::V6(name), IpAddr::V6(network), IpAddr::V6(mask)) => {
                    name & mask == network & mask
                }
                _ => false,
            })
        }
        (GeneralName::DirectoryName(name), GeneralName::DirectoryName(base)) => {
            let mut parts = name.iter_rdn();
            Some(base.iter_rdn().all(|part| parts.next() == Some(part)))
        }
        _ => None,
    }
}

/// Whether a DNS name is a domain or below it.
fn is_domain(name: &str, base: &str) -> bool {
    let base = base.strip_prefix('.').unwrap_or(base);
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    let rest = name.strip_suffix(base.as_str());
    base.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a host is the one of a constraint; with a dot in front, a host below it.
fn is_host(host: &str, base: &str) -> bool {
    match base.strip_prefix('.') {
        Some(domain) => !host.eq_ignore_ascii_case(domain) && is_domain(host, domain),
        None => host.eq_ignore_ascii_case(base),
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::GeneralName;

    use super::is_within;

    #[test]
    fn a_name_is_in_a_subtree_of_its_kind() {
        let dns = GeneralName::DNSName;
        let mail = GeneralName::RFC822Name;
        let uri = GeneralName::URI;
        let ip = GeneralName::IPAddress;
        for (name, base, expected) in [
            (dns("a.test"), dns("test"), Some(true)),
            (dns("A.Test"), dns(".test"), Some(true)),
            (dns("atest"), dns("test"), Some(false)),
            (dns("a.test"), dns(""), Some(true)),
            (mail("x@a.test"), mail("a.test"), Some(true)),
            (mail("x@b.a.test"), mail("a.test"), Some(false)),
            (mail("x@b.a.test"), mail(".a.test"), Some(true)),
            (mail("x@a.test"), mail("y@a.test"), Some(false)),
            (mail("x"), mail("a.test"), None),
            (uri("spiffe://a.test/x"), uri("a.test"), Some(true)),
            (uri("https://u@b.a.test:1/x"), uri(".a.test"), Some(true)),
            (uri("urn:x"), uri("a.test"), None),
            (ip(&[10, 1, 2, 3]), ip(&[10, 0, 0, 0, 255, 0, 0, 0]), Some(true)),
            (ip(&[11, 1, 2, 3]), ip(&[10, 0, 0, 0, 255, 0, 0, 0]), Some(false)),
            (ip(&[0; 16]), ip(&[10, 0, 0, 0, 255, 0, 0, 0]), Some(false)),
        ] {
            assert_eq!(is_within(&name, &base), expected, "{name:?} in {base:?}");
        }
    }
}
