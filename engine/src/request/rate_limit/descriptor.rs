//! Descriptors: lists of keys and values, in a form that can be compared at once.

use super::{LimitOverride, QuotaHeaders};

/// A descriptor of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Descriptor {
    /// Its entries, as [`Entries`] writes them.
    pub(crate) entries: Vec<u8>,
    /// How many hits it counts; none: as many as the filter says.
    pub(crate) hits: Option<u64>,
    /// Whether these are taken back.
    pub(crate) is_negative: bool,
    pub(crate) headers: QuotaHeaders,
    /// The limit that the request brings along.
    pub(crate) limit: Option<LimitOverride>,
}

/// Writes entries: each key and each value after its length, so that different lists are different texts.
#[derive(Debug, Default)]
pub(crate) struct Entries(Vec<u8>);

/// Bytes of a length.
const LENGTH_BYTES: usize = 4;

impl Entries {
    /// Adds an entry.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8]) {
        for part in [key, value] {
            // A head is far shorter than 4 GiB.
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.0.extend_from_slice(&length.to_le_bytes());
            self.0.extend_from_slice(part);
        }
    }

    /// What was written.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// The keys and values of written entries.
pub(crate) fn entries(mut written: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    std::iter::from_fn(move || Some((part(&mut written)?, part(&mut written)?)))
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<LENGTH_BYTES>()?;
    let (part, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(list: &[(&str, &str)]) -> Vec<u8> {
        let mut entries = Entries::default();
        list.iter().for_each(|(key, value)| entries.add(key.as_bytes(), value.as_bytes()));
        entries.finish()
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        let list = [("a", "1"), ("", ""), ("long key", "x:y")];
        let read: Vec<_> = entries(&written(&list))
            .map(|(key, value)| [key, value].map(|it| String::from_utf8_lossy(it).into_owned()))
            .collect();
        assert_eq!(read, list.map(|(key, value)| [key.to_owned(), value.to_owned()]));
    }

    #[test]
    fn different_entries_are_different_texts() {
        assert_ne!(written(&[("a", "bc")]), written(&[("ab", "c")]));
        assert_ne!(written(&[("a", "b"), ("c", "d")]), written(&[("a", "b")]));
    }
}
