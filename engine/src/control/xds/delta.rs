//! The requests of a delta stream.
//!
//! It knows what is wanted and which versions are there, and which requests are due; it does no I/O.
//!
//! Invariant: each response of this stream is acknowledged or rejected exactly once, in the order of arrival.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::messages::{DeltaDiscoveryRequest, Status};
use crate::control::resources::Wanted;

/// All resources of a type, as a name.
const ALL: &str = "*";

/// The state of one stream after the other.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// In the order in which they were first wanted.
    types: Vec<Type>,
    /// Responses that are to be acknowledged.
    answers: VecDeque<Answer>,
}

#[derive(Debug)]
struct Type {
    url: String,
    wanted: Wanted,
    /// What the server knows to be wanted; none: it was not asked on this stream.
    told: Option<Wanted>,
    /// Of the resources that are there.
    versions: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Answer {
    url: String,
    nonce: String,
    error: Option<Status>,
}

impl Requests {
    /// From now on these are wanted.
    pub(super) fn want(&mut self, url: &str, wanted: Wanted) {
        if let Some(known) = self.types.iter_mut().find(|it| it.url == url) {
            if let Wanted::Names(names) = &wanted {
                known.versions.retain(|name, _| names.contains(name));
            }
            known.wanted = wanted;
            return;
        }
        let versions = BTreeMap::new();
        self.types.push(Type { url: url.to_owned(), wanted, told: None, versions });
    }

    /// There is a new stream. It goes on from the versions of the last one.
    pub(super) fn opened(&mut self) {
        self.answers.clear();
        self.types.iter_mut().for_each(|known| known.told = None);
    }

    /// These versions are there from now on, and those resources are gone.
    pub(super) fn accept(
        &mut self,
        url: &str,
        versions: impl IntoIterator<Item = (String, String)>,
        removed: &[String],
        nonce: String,
    ) {
        if let Some(known) = self.types.iter_mut().find(|it| it.url == url) {
            known.versions.extend(versions);
            removed.iter().for_each(|name| drop(known.versions.remove(name)));
            self.answers.push_back(Answer { url: url.to_owned(), nonce, error: None });
        }
    }

    pub(super) fn reject(&mut self, url: &str, nonce: String, why: &str) {
        let error = Some(Status::rejected(why));
        self.answers.push_back(Answer { url: url.to_owned(), nonce, error });
    }

    /// A resource is not valid any longer.
    pub(super) fn expire(&mut self, url: &str, name: &str) {
        if let Some(known) = self.types.iter_mut().find(|it| it.url == url) {
            known.versions.remove(name);
        }
    }

    /// The version of a resource that is there.
    pub(super) fn version(&self, url: &str, name: &str) -> Option<&str> {
        self.types.iter().find(|it| it.url == url)?.versions.get(name).map(String::as_str)
    }

    /// How many requests are due.
    pub(super) fn pending(&self) -> usize {
        self.answers.len() + self.types.iter().filter(|known| known.has_news()).count()
    }

    /// The next request, but for the node.
    pub(super) fn next(&mut self) -> Option<DeltaDiscoveryRequest> {
        if let Some(Answer { url, nonce, error }) = self.answers.pop_front() {
            let known = self.types.iter_mut().find(|it| it.url == url)?;
            let request = known.request();
            return Some(DeltaDiscoveryRequest {
                response_nonce: nonce,
                error_detail: error,
                ..request
            });
        }
        self.types.iter_mut().find(|known| known.has_news()).map(Type::request)
    }
}

impl Type {
    /// Whether the server is to be told what is wanted.
    fn has_news(&self) -> bool {
        match &self.told {
            None => !self.wanted.is_nothing(),
            Some(told) => *told != self.wanted,
        }
    }

    /// Tells what is wanted, as far as the server does not know that.
    fn request(&mut self) -> DeltaDiscoveryRequest {
        let mut request = DeltaDiscoveryRequest {
            type_url: self.url.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        let nothing = BTreeSet::new();
        match (&self.told, &self.wanted) {
            (None, wanted) => {
                request.initial_resource_versions.clone_from(&self.versions);
                //= envoy: a type of which only all are wanted has no names
                if let Wanted::Names(names) = wanted {
                    request.resource_names_subscribe.extend(names.iter().cloned());
                }
            }
            (Some(Wanted::All), Wanted::All) => {}
            (Some(told), wanted) => {
                let before = told.names().unwrap_or(&nothing);
                let after = wanted.names().unwrap_or(&nothing);
                let new = after.difference(before).cloned();
                let old = before.difference(after).cloned();
                request.resource_names_subscribe.extend(new);
                request.resource_names_unsubscribe.extend(old);
                match (told, wanted) {
                    (Wanted::Names(_), Wanted::All) => {
                        request.resource_names_subscribe.push(ALL.to_owned());
                    }
                    (Wanted::All, Wanted::Names(_)) => {
                        request.resource_names_unsubscribe.push(ALL.to_owned());
                    }
                    _ => {}
                }
            }
        }
        self.told = Some(self.wanted.clone());
        request
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
        let mut words = it.type_url;
        let lists = [("+", it.resource_names_subscribe), ("-", it.resource_names_unsubscribe)];
        for (sign, names) in lists {
            names.iter().for_each(|name| words.push_str(&format!(" {sign}{name}")));
        }
        for (name, version) in it.initial_resource_versions {
            words.push_str(&format!(" {name}={version}"));
        }
        if !it.response_nonce.is_empty() {
            words.push_str(&format!(" nonce {}", it.response_nonce));
        }
        let error = it.error_detail.map(|error| format!(" {}: {}", error.code, error.message));
        Some(words + &error.unwrap_or_default())
    }

    fn accept(requests: &mut Requests, url: &str, name: &str, nonce: &str) {
        let versions = [(name.to_owned(), format!("v{nonce}"))];
        requests.accept(url, versions, &[], nonce.to_owned());
    }

    #[test]
    fn only_what_has_changed_is_told() {
        let mut requests = Requests::default();
        requests.want("sds", names(&["a", "b"]));
        requests.opened();
        assert_eq!(next(&mut requests).unwrap(), "sds +a +b");
        assert_eq!(next(&mut requests), None);
        requests.want("sds", names(&["b", "c"]));
        assert_eq!(next(&mut requests).unwrap(), "sds +c -a");
        requests.want("sds", names(&[]));
        assert_eq!(next(&mut requests).unwrap(), "sds -b -c");
    }

    #[test]
    fn each_response_is_answered_once_and_in_turn() {
        let mut requests = Requests::default();
        requests.want("cds", Wanted::All);
        requests.opened();
        assert_eq!(next(&mut requests).unwrap(), "cds");
        accept(&mut requests, "cds", "a", "1");
        requests.reject("cds", "2".to_owned(), "broken");
        assert_eq!(requests.pending(), 2);
        assert_eq!(next(&mut requests).unwrap(), "cds nonce 1");
        assert_eq!(next(&mut requests).unwrap(), "cds nonce 2 13: broken");
        assert_eq!(next(&mut requests), None);
    }

    #[test]
    fn an_answer_also_tells_what_is_wanted_now() {
        let mut requests = Requests::default();
        requests.want("eds", names(&["a"]));
        requests.opened();
        next(&mut requests);
        accept(&mut requests, "eds", "a", "1");
        requests.want("eds", names(&["a", "b"]));
        assert_eq!(next(&mut requests).unwrap(), "eds +b nonce 1");
        assert_eq!(next(&mut requests), None);
    }

    #[test]
    fn a_new_stream_tells_which_versions_are_there() {
        let mut requests = Requests::default();
        requests.want("cds", Wanted::All);
        requests.want("eds", names(&["a", "b", "c"]));
        requests.want("rds", names(&[]));
        requests.opened();
        for (url, name) in [("cds", "x"), ("eds", "a"), ("eds", "b"), ("eds", "c")] {
            accept(&mut requests, url, name, "1");
        }
        requests.accept("eds", [], &["b".to_owned()], "2".to_owned());
        requests.expire("eds", "c");
        requests.opened();
        assert_eq!(next(&mut requests).unwrap(), "cds x=v1");
        assert_eq!(next(&mut requests).unwrap(), "eds +a +b +c a=v1");
        assert_eq!(next(&mut requests), None, "answers belong to the stream of their response");
        assert_eq!(requests.version("eds", "a"), Some("v1"));
        requests.want("eds", names(&["b"]));
        assert_eq!(requests.version("eds", "a"), None, "it is not wanted any more");
    }
}
