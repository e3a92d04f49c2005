//! The requests of a state-of-the-world stream.
//!
//! It knows what is wanted and what was accepted, and which requests are due; it does no I/O.
//!
//! Invariant: a request has the version that was accepted last and the nonce of the newest response on this stream,
//! which it thus acknowledges or, with a detail, rejects.

use std::collections::VecDeque;

use super::messages::{DiscoveryRequest, Status};
use crate::control::resources::Wanted;

/// The state of one stream after the other.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// In the order in which they were first wanted.
    types: Vec<Type>,
    /// The types whose requests are due.
    due: VecDeque<String>,
}

#[derive(Debug)]
struct Type {
    url: String,
    wanted: Wanted,
    version: String,
    nonce: String,
    error: Option<Status>,
}

impl Requests {
    /// From now on these are wanted.
    pub(super) fn want(&mut self, url: &str, wanted: Wanted) {
        match self.types.iter_mut().find(|it| it.url == url) {
            Some(known) if known.wanted == wanted => return,
            Some(known) => known.wanted = wanted,
            None => self.types.push(Type {
                url: url.to_owned(),
                wanted,
                version: String::new(),
                nonce: String::new(),
                error: None,
            }),
        }
        self.is_due(url.to_owned());
    }

    /// There is a new stream. It goes on from the versions of the last one.
    pub(super) fn opened(&mut self) {
        self.due.clear();
        for known in &mut self.types {
            (known.nonce, known.error) = (String::new(), None);
            // Nothing of it was ever named to this server: it would take that for all.
            if !known.wanted.is_nothing() {
                self.due.push_back(known.url.clone());
            }
        }
    }

    pub(super) fn accept(&mut self, url: &str, version: String, nonce: String) {
        if let Some(known) = self.types.iter_mut().find(|it| it.url == url) {
            (known.version, known.nonce, known.error) = (version, nonce, None);
            self.is_due(url.to_owned());
        }
    }

    pub(super) fn reject(&mut self, url: &str, nonce: String, why: &str) {
        if let Some(known) = self.types.iter_mut().find(|it| it.url == url) {
            (known.nonce, known.error) = (nonce, Some(Status::rejected(why)));
            self.is_due(url.to_owned());
        }
    }

    /// How many requests are due.
    pub(super) fn pending(&self) -> usize {
        self.due.len()
    }

    /// The next request, but for the node.
    pub(super) fn next(&mut self) -> Option<DiscoveryRequest> {
        let url = self.due.pop_front()?;
        let known = self.types.iter_mut().find(|it| it.url == url)?;
        let resource_names = match &known.wanted {
            //= envoy: a type of which only all are wanted has no names
            Wanted::All => Vec::new(),
            Wanted::Names(names) => names.iter().cloned().collect(),
        };
        Some(DiscoveryRequest {
            version_info: known.version.clone(),
            node: None,
            resource_names,
            type_url: url,
            response_nonce: known.nonce.clone(),
            error_detail: known.error.take(),
        })
    }

    fn is_due(&mut self, url: String) {
        if !self.due.contains(&url) {
            self.due.push_back(url);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Wanted {
        Wanted::Names(names.iter().map(|&name| name.to_owned()).collect())
    }

    /// A request in words.
    fn next(requests: &mut Requests) -> Option<String> {
        let it = requests.next()?;
        let error = it.error_detail.map(|error| format!(" {}: {}", error.code, error.message));
        Some(format!(
            "{} {:?} version {:?} nonce {:?}{}",
            it.type_url,
            it.resource_names,
            it.version_info,
            it.response_nonce,
            error.unwrap_or_default()
        ))
    }

    #[test]
    fn a_response_is_acknowledged_with_its_version_and_nonce() {
        let mut requests = Requests::default();
        requests.want("lds", Wanted::All);
        requests.opened();
        assert_eq!(next(&mut requests).unwrap(), r#"lds [] version "" nonce """#);
        requests.accept("lds", "1".to_owned(), "a".to_owned());
        assert_eq!(next(&mut requests).unwrap(), r#"lds [] version "1" nonce "a""#);
        assert_eq!(next(&mut requests), None);
    }

    #[test]
    fn a_rejected_response_leaves_the_last_version_and_is_told_once() {
        let mut requests = Requests::default();
        requests.want("sds", names(&["a"]));
        requests.opened();
        next(&mut requests);
        requests.accept("sds", "1".to_owned(), "a".to_owned());
        next(&mut requests);
        requests.reject("sds", "b".to_owned(), "broken");
        let told = next(&mut requests).unwrap();
        assert_eq!(told, r#"sds ["a"] version "1" nonce "b" 13: broken"#);
        requests.want("sds", names(&["a", "c"]));
        assert_eq!(next(&mut requests).unwrap(), r#"sds ["a", "c"] version "1" nonce "b""#);
    }

    #[test]
    fn a_new_stream_begins_with_the_last_versions_in_the_order_of_the_types() {
        let mut requests = Requests::default();
        requests.want("cds", Wanted::All);
        requests.want("lds", Wanted::All);
        requests.want("rds", names(&["gone"]));
        requests.opened();
        requests.accept("lds", "1".to_owned(), "a".to_owned());
        requests.reject("cds", "b".to_owned(), "broken");
        requests.want("rds", names(&[]));
        requests.opened();
        assert_eq!(next(&mut requests).unwrap(), r#"cds [] version "" nonce """#);
        assert_eq!(next(&mut requests).unwrap(), r#"lds [] version "1" nonce """#);
        assert_eq!(next(&mut requests), None, "nothing of it is wanted");
    }

    #[test]
    fn one_request_names_all_that_has_changed_since_the_last() {
        let mut requests = Requests::default();
        requests.opened();
        requests.want("sds", names(&["a"]));
        requests.want("sds", names(&["a", "b"]));
        assert_eq!(requests.pending(), 1);
        assert_eq!(next(&mut requests).unwrap(), r#"sds ["a", "b"] version "" nonce """#);
        requests.want("sds", names(&["a", "b"]));
        assert_eq!(next(&mut requests), None, "nothing has changed");
        requests.want("sds", names(&[]));
        assert_eq!(next(&mut requests).unwrap(), r#"sds [] version "" nonce """#);
    }
}
