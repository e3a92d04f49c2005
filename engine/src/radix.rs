//! A radix tree that finds the stored keys that are prefixes of given bytes.
//!
//! Built once and read by every request: the path is looked up among the literals of the routes, the
//! host among the domains (reversed for `*.suffix`), an input among the prefixes of a matcher tree. A
//! lookup is one walk over the bytes and allocates nothing, however many keys there are.
//!
//! Invariant: `nodes[0]` is the root; the labels from the root to a node form its key, and
//! `shorter` is the node of the next shorter key that is a prefix of it.

use std::collections::BTreeMap;
use std::ops::Range;

/// The tree. Each key has one value.
#[derive(Debug)]
pub(crate) struct Radix<T> {
    nodes: Vec<Node<T>>,
}

#[derive(Debug)]
struct Node<T> {
    label: Box<[u8]>,
    /// The first byte of each child's label, and the child; sorted by byte.
    children: Vec<(u8, usize)>,
    key_len: usize,
    /// The nearest ancestor that has a value.
    shorter: Option<usize>,
    value: Option<T>,
}

/// A range of the sorted keys that becomes one node.
struct Branch {
    keys: Range<usize>,
    /// How many bytes of these keys are in the labels of the ancestors.
    depth: usize,
    parent: Option<usize>,
    shorter: Option<usize>,
}

impl<T> Radix<T> {
    pub(crate) fn new(entries: BTreeMap<Vec<u8>, T>) -> Self {
        let mut entries: Vec<(Vec<u8>, Option<T>)> =
            entries.into_iter().map(|(key, value)| (key, Some(value))).collect();
        let mut radix = Self { nodes: Vec::new() };
        let everything = 0..entries.len();
        let mut open = vec![Branch { keys: everything, depth: 0, parent: None, shorter: None }];
        while let Some(branch) = open.pop() {
            radix.grow(&branch, &mut entries, &mut open);
        }
        for node in &mut radix.nodes {
            node.children.sort_unstable();
        }
        radix
    }

    /// Whether there is no key.
    pub(crate) const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The stored keys that are prefixes of `bytes`, as (length, value), the longest first.
    pub(crate) fn prefixes_of(&self, bytes: impl IntoIterator<Item = u8>) -> Prefixes<'_, T> {
        Prefixes { radix: self, at: self.longest_prefix_of(bytes.into_iter()) }
    }

    fn longest_prefix_of(&self, mut bytes: impl Iterator<Item = u8>) -> Option<usize> {
        let mut node = self.nodes.first()?;
        let mut longest = node.shorter;
        let mut at = 0;
        // The root's label has not been compared yet; the first byte of a child's label has.
        let mut label = &*node.label;
        loop {
            for &expected in label {
                if bytes.next() != Some(expected) {
                    return longest;
                }
            }
            if node.value.is_some() {
                longest = Some(at);
            }
            let Some(byte) = bytes.next() else { return longest };
            let Ok(child) = node.children.binary_search_by_key(&byte, |&(first, _)| first) else {
                return longest;
            };
            at = node.children.get(child)?.1;
            node = self.nodes.get(at)?;
            label = node.label.get(1..)?;
        }
    }

    /// Adds the node of a branch, and a branch for each of its children.
    fn grow(
        &mut self,
        branch: &Branch,
        entries: &mut [(Vec<u8>, Option<T>)],
        open: &mut Vec<Branch>,
    ) {
        let Some(keys) = entries.get_mut(branch.keys.clone()) else { return };
        let (Some(first), Some(last)) = (keys.first(), keys.last()) else { return };
        // The keys are sorted, so the common prefix of the first and the last is common to all.
        let key_len = common_prefix_len(&first.0, &last.0);
        let at = self.nodes.len();
        let label: Box<[u8]> = first.0.get(branch.depth..key_len).unwrap_or_default().into();
        if let Some(parent) = branch.parent.and_then(|parent| self.nodes.get_mut(parent)) {
            parent.children.push((label.first().copied().unwrap_or_default(), at));
        }
        let mut rest = branch.keys.clone();
        let mut value = None;
        if first.0.len() == key_len {
            value = keys.first_mut().and_then(|(_, value)| value.take());
            rest.start += 1;
        }
        let shorter = if value.is_some() { Some(at) } else { branch.shorter };
        self.nodes.push(Node {
            label,
            children: Vec::new(),
            key_len,
            shorter: branch.shorter,
            value,
        });
        while let Some((key, _)) = entries.get(rest.start).filter(|_| !rest.is_empty()) {
            let byte = key.get(key_len).copied();
            let alike = entries.get(rest.clone()).unwrap_or_default();
            let count = alike.partition_point(|(key, _)| key.get(key_len).copied() <= byte);
            let keys = rest.start..rest.start + count;
            rest.start = keys.end;
            open.push(Branch { keys, depth: key_len, parent: Some(at), shorter });
        }
    }
}

/// The keys that are prefixes of the bytes, from the longest to the shortest.
#[derive(Debug)]
pub(crate) struct Prefixes<'a, T> {
    radix: &'a Radix<T>,
    at: Option<usize>,
}

impl<T> Clone for Prefixes<'_, T> {
    fn clone(&self) -> Self {
        Self { radix: self.radix, at: self.at }
    }
}

impl<'a, T> Iterator for Prefixes<'a, T> {
    type Item = (usize, &'a T);

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.radix.nodes.get(self.at?)?;
        self.at = node.shorter;
        Some((node.key_len, node.value.as_ref()?))
    }
}

fn common_prefix_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lengths(keys: &[&str], bytes: &str) -> Vec<usize> {
        let radix = Radix::new(keys.iter().map(|key| (key.as_bytes().to_vec(), ())).collect());
        radix.prefixes_of(bytes.bytes()).map(|(len, ())| len).collect()
    }

    #[test]
    fn the_longest_key_comes_first() {
        assert_eq!(lengths(&["", "/", "/a", "/ab", "/b"], "/abc"), [3, 2, 1, 0]);
    }

    #[test]
    fn a_key_longer_than_the_bytes_does_not_match() {
        assert_eq!(lengths(&["/abc", "/abd"], "/ab"), [0usize; 0]);
        assert_eq!(lengths(&["/", "/abc/d"], "/abc"), [1]);
    }

    #[test]
    fn an_empty_tree_finds_nothing() {
        assert_eq!(lengths(&[], "/"), [0usize; 0]);
    }

    proptest! {
        #[test]
        fn a_lookup_finds_the_same_as_starts_with(
            keys in proptest::collection::btree_set("[ab/]{0,6}", 0..20),
            bytes in "[ab/]{0,10}",
        ) {
            let radix = Radix::new(
                keys.iter().map(|key| (key.clone().into_bytes(), key.clone())).collect(),
            );
            let found: Vec<_> = radix.prefixes_of(bytes.bytes()).map(|(_, key)| key.clone()).collect();
            let mut expected: Vec<_> =
                keys.into_iter().filter(|key| bytes.starts_with(key.as_str())).collect();
            expected.reverse();
            prop_assert_eq!(found, expected);
        }
    }
}
