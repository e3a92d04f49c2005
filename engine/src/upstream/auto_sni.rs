//! `upstream_http_protocol_options`: server names that follow from requests.
//!
//! Pure: from the head of a request to the options of its upstream connection.

use std::net::IpAddr;

use crate::http::RequestHead;
use crate::transport::tls::options::TransportSocketOptions;

/// `upstream_http_protocol_options`, with at least one of both switches on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AutoSni {
    /// `auto_sni`: whether the host of a request is the server name.
    pub auto_sni: bool,
    /// `auto_san_validation`: whether the certificate must have that name.
    pub auto_san_validation: bool,
    /// `override_auto_sni_header`, in lower case: its first value is used in place of the host, unless
    /// it is empty.
    pub header: Option<Box<[u8]>>,
}

/// The host of an authority.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Host {
    Name(String),
    Ip(IpAddr),
}

impl AutoSni {
    /// The options of a request, as it is sent to the cluster. What a network filter has `set` stays.
    #[must_use]
    pub fn options(
        &self,
        head: &RequestHead,
        set: Option<&TransportSocketOptions>,
    ) -> TransportSocketOptions {
        let value = self.header.as_deref().and_then(|name| head.fields.find(name));
        let value = value.filter(|value| !value.is_empty()).or_else(|| head.authority());
        let host = Host::of(value.unwrap_or_default());
        let mut options = set.cloned().unwrap_or_default();
        if self.auto_sni
            && !options.sets_server_name()
            && let Host::Name(name) = &host
        {
            options = options.with_server_name(name);
        }
        if self.auto_san_validation && options.subject_alt_names().is_empty() {
            let name = match host {
                Host::Name(name) => name,
                Host::Ip(address) => address.to_string(),
            };
            options = options.with_subject_alt_names([name.into()]);
        }
        options
    }
}

impl Host {
    /// As Envoy takes authorities apart: what does not look like a port belongs to the name. Its case does
    /// not matter.
    fn of(authority: &[u8]) -> Self {
        let authority = String::from_utf8_lossy(authority);
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host,
            _ => &*authority,
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match bare.parse() {
            Ok(address) => Self::Ip(address),
            Err(_) => Self::Name(host.to_ascii_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::FieldName;

    fn name(name: &str) -> Host {
        Host::Name(name.to_owned())
    }

    /// What Envoy 1.40 has sent for each of these hosts.
    #[test]
    fn a_port_is_no_part_of_a_name() {
        for (authority, host) in [
            ("a.test", name("a.test")),
            ("A.test:8080", name("a.test")),
            ("a.test:", name("a.test:")),
            ("a.test:port", name("a.test:port")),
            ("a.test:99999", name("a.test:99999")),
            ("", name("")),
            ("127.0.0.1:80", Host::Ip([127, 0, 0, 1].into())),
            ("[::1]", Host::Ip("::1".parse().unwrap())),
            ("[::1]:80", Host::Ip("::1".parse().unwrap())),
        ] {
            assert_eq!(Host::of(authority.as_bytes()), host, "{authority}");
        }
    }

    fn request(host: &str, fields: &[(&str, &str)]) -> RequestHead {
        let mut head = RequestHead::default();
        head.fields.set(FieldName::Host, host.as_bytes());
        for (name, value) in fields {
            head.fields.append_other(name.as_bytes(), value.as_bytes());
        }
        head
    }

    fn both() -> AutoSni {
        AutoSni { auto_sni: true, auto_san_validation: true, header: None }
    }

    /// The server name and the names for the certificate.
    fn names(options: &TransportSocketOptions) -> (Option<&str>, Vec<&str>) {
        (options.server_name(), options.subject_alt_names().iter().map(|name| &**name).collect())
    }

    #[test]
    fn an_address_is_verified_but_not_sent() {
        let options = both().options(&request("127.0.0.1:80", &[]), None);
        assert_eq!(names(&options), (None, vec!["127.0.0.1"]));
    }

    #[test]
    fn each_switch_has_its_own_effect() {
        let head = request("a.test", &[]);
        let sni = AutoSni { auto_san_validation: false, ..both() };
        assert_eq!(names(&sni.options(&head, None)), (Some("a.test"), vec![]));
        let san = AutoSni { auto_sni: false, ..both() };
        assert_eq!(names(&san.options(&head, None)), (None, vec!["a.test"]));
    }

    #[test]
    fn a_header_takes_the_place_of_the_host_unless_it_is_empty() {
        let auto = AutoSni { header: Some(b"x-sni"[..].into()), ..both() };
        for (fields, expected) in [
            (&[("x-sni", "b.test:7")][..], "b.test"),
            (&[("x-sni", "")], "a.test"),
            (&[("x-sni", "b.test"), ("x-sni", "c.test")], "b.test"),
            (&[], "a.test"),
        ] {
            let options = auto.options(&request("a.test", fields), None);
            assert_eq!(names(&options), (Some(expected), vec![expected]), "{fields:?}");
        }
    }

    #[test]
    fn what_a_filter_has_set_stays() {
        let set = TransportSocketOptions::default().with_server_name("set.test");
        let options = both().options(&request("a.test", &[]), Some(&set));
        assert_eq!(names(&options), (Some("set.test"), vec!["a.test"]));
        let set = TransportSocketOptions::default().with_server_name("");
        assert_eq!(both().options(&request("a.test", &[]), Some(&set)).server_name(), None);
    }
}
