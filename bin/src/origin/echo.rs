//! What httpbin reports about a request: its arguments, headers, body and source address.

use std::net::SocketAddr;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use serde_json::{Map, Value};

use super::form;

/// A request as it arrived.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) remote: SocketAddr,
    pub(super) body: Bytes,
}

/// The parsed body, by its content type.
struct Content {
    data: String,
    form: Value,
    files: Value,
}

impl Request {
    /// The members named in `keys`, as one JSON object.
    pub(super) fn describe(&self, keys: &[&str]) -> Value {
        let content = self.content();
        let member = |key: &str| match key {
            "args" => self.args(),
            "data" => Value::from(content.data.as_str()),
            "files" => content.files.clone(),
            "form" => content.form.clone(),
            "headers" => object(self.shown_headers()),
            "json" => serde_json::from_str(&content.data).unwrap_or(Value::Null),
            "method" => Value::from(self.method.as_str()),
            "origin" => Value::from(self.origin()),
            "url" => Value::from(self.url()),
            _ => Value::Null,
        };
        Value::Object(keys.iter().map(|key| ((*key).to_owned(), member(key))).collect())
    }

    pub(super) fn args(&self) -> Value {
        form::semiflatten(self.query_pairs())
    }

    /// The first value of a query argument.
    pub(super) fn arg(&self, name: &str) -> Option<String> {
        self.query_pairs().into_iter().find_map(|(key, value)| (key == name).then_some(value))
    }

    /// The client's address, or the one that a proxy in front reported.
    pub(super) fn origin(&self) -> String {
        self.header("x-forwarded-for").unwrap_or_else(|| self.remote.ip().to_string())
    }

    pub(super) fn url(&self) -> String {
        let protocol = self
            .header("x-forwarded-proto")
            .or_else(|| self.header("x-forwarded-protocol"))
            .or_else(|| (self.header("x-forwarded-ssl")? == "on").then(|| "https".to_owned()))
            .unwrap_or_else(|| "http".to_owned());
        let host = self.header("host").unwrap_or_default();
        let target = self.uri.path_and_query().map_or("/", |target| target.as_str());
        form::iri(&format!("{protocol}://{host}{target}"))
    }

    /// Headers with Title-Case names in order of arrival, repeated ones joined. All of them are
    /// included: httpbin shows what a proxy adds, such as `X-Request-Id`, only with `?show_env=1`.
    pub(super) fn shown_headers(&self) -> Vec<(String, String)> {
        let mut shown: Vec<(String, String)> = Vec::new();
        // WSGI servers drop names with `_`: they could be mistaken for names with `-`.
        for (name, value) in self.headers.iter().filter(|(name, _)| !name.as_str().contains('_')) {
            let name = title_case(name.as_str());
            let value = latin1(value.as_bytes());
            match shown.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) => {
                    values.push(',');
                    values.push_str(&value);
                }
                None => shown.push((name, value)),
            }
        }
        shown
    }

    fn content(&self) -> Content {
        let content_type = self.header("content-type").unwrap_or_default();
        let (media_type, _) = content_type.split_once(';').unwrap_or((&content_type, ""));
        let media_type = media_type.trim().to_ascii_lowercase();
        let empty = || Value::Object(Map::new());
        if media_type == "application/x-www-form-urlencoded" {
            let form = form::semiflatten(form::urlencoded(&self.body));
            return Content { data: String::new(), form, files: empty() };
        }
        let boundary = form::parameter(&content_type, "boundary");
        if let ("multipart/form-data", Some(boundary)) = (media_type.as_str(), boundary) {
            let found = form::multipart(&self.body, &boundary);
            let (form, files) = (form::semiflatten(found.fields), form::semiflatten(found.files));
            return Content { data: String::new(), form, files };
        }
        Content { data: json_safe(&self.body), form: empty(), files: empty() }
    }

    fn query_pairs(&self) -> Vec<(String, String)> {
        form::urlencoded(self.uri.query().unwrap_or_default().as_bytes())
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers.get(name).map(|value| latin1(value.as_bytes()))
    }
}

/// Text unchanged; bytes that are not UTF-8 as a base64 `data:` URL.
pub(super) fn json_safe(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("data:application/octet-stream;base64,{}", base64(bytes)),
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte));
        let bits = bits << (8 * (3 - group.len()));
        for i in 0..4 {
            let sextet = (bits >> (18 - 6 * i)) & 0x3f;
            let letter = ALPHABET.get(sextet as usize).copied().unwrap_or(b'A');
            out.push(if i <= group.len() { char::from(letter) } else { '=' });
        }
    }
    out
}

fn object(pairs: Vec<(String, String)>) -> Value {
    Value::Object(pairs.into_iter().map(|(name, value)| (name, Value::String(value))).collect())
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn title_case(name: &str) -> String {
    let mut starts_word = true;
    name.chars()
        .map(|c| {
            let c = if starts_word { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            starts_word = !c.is_ascii_alphabetic();
            c
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_become_a_data_url() {
        assert_eq!(json_safe(b"\xff\xfe"), "data:application/octet-stream;base64,//4=");
        assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
        assert_eq!(base64(b"any carnal pleasure"), "YW55IGNhcm5hbCBwbGVhc3VyZQ==");
    }

    #[test]
    fn header_names_are_title_case() {
        assert_eq!(title_case("x-envoy-expected-rq-timeout-ms"), "X-Envoy-Expected-Rq-Timeout-Ms");
        assert_eq!(title_case("te"), "Te");
    }
}
