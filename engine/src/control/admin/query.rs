//! The query of a request to the admin endpoint.

/// Its parameters, in their order. A parameter without `=` has an empty value.
#[derive(Debug, Default)]
pub(super) struct Query {
    parameters: Vec<(String, String)>,
}

impl Query {
    /// `a=1&b`, percent-encoded.
    pub(super) fn parse(query: &str) -> Self {
        let parameters = query.split('&').filter(|parameter| !parameter.is_empty());
        let parameters = parameters.map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            (decode(name), decode(value))
        });
        Self { parameters: parameters.collect() }
    }

    /// The first value of a parameter; none if it is absent or empty.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.parameters().find(|(n, value)| *n == name && !value.is_empty()).map(|(_, value)| value)
    }

    /// Whether a parameter is there, with or without a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parameters().any(|(n, _)| n == name)
    }

    /// All of them.
    pub(super) fn parameters(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Replaces `%41` by `A`; anything that is not a valid escape stays as it is.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = after.first_chunk().filter(|_| byte == b'%').and_then(|hex| escaped(*hex));
        bytes.push(escape.unwrap_or(byte));
        rest = after.get(if escape.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn escaped(hex: [u8; 2]) -> Option<u8> {
    let digits = str::from_utf8(&hex).ok()?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(())?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_the_first_one_counts() {
        let query = Query::parse("usedonly&filter=a%5C.b+%2&filter=c&format=");
        assert!(query.has("usedonly") && query.has("format") && !query.has("pretty"));
        assert_eq!(query.value("filter"), Some(r"a\.b+%2"));
        assert_eq!(query.value("format"), None);
        assert_eq!(Query::parse("").parameters().len(), 0);
    }
}
