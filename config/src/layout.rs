//! The positions of the values in a YAML or JSON text.
//!
//! serde_yaml reads configurations, but reports neither positions nor whether a scalar was quoted.
//! When a problem needs a position, or an ambiguous scalar its style, the text is parsed a second
//! time, here. Aliases are kept as references, so the size of a [`Layout`] is bounded by the size
//! of the text.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, SpannedEventReceiver};

use crate::Path;
use crate::path::Segment;
use crate::problems::Spot;

/// The first document of a text, with positions.
#[derive(Debug)]
pub(crate) struct Layout<'t> {
    nodes: Vec<Node<'t>>,
}

impl<'t> Layout<'t> {
    /// `None` if this parser rejects the text.
    pub(crate) fn of(text: &'t str) -> Option<Self> {
        let mut builder = Builder::default();
        Parser::new_from_str(text).load(&mut builder, false).ok()?;
        if builder.nodes.is_empty() {
            return None;
        }
        Some(Self { nodes: builder.nodes })
    }

    /// Follows `path` as far as it exists in the text.
    pub(crate) fn find(&self, path: &[&Segment]) -> Found {
        let mut found = Found { node: ROOT, key: None, depth: 0 };
        for segment in path {
            let Some((key, node)) = self.step(found.node, segment) else { break };
            found = Found { node, key: key.or(found.key), depth: found.depth + 1 };
        }
        found
    }

    /// The scalar at `path`, as written, if it has no quotes.
    pub(crate) fn plain_scalar(&self, path: &[&Segment]) -> Option<&str> {
        let found = self.find(path);
        match &self.node(found.node)?.shape {
            Shape::Scalar { text, plain: true } if found.depth == path.len() => Some(text),
            _ => None,
        }
    }

    /// The number of elements in the list at `found`; a single value counts as one.
    pub(crate) fn length(&self, found: &Found) -> usize {
        match self.node(found.node).map(|node| &node.shape) {
            Some(Shape::Sequence(items)) => items.len(),
            Some(Shape::Scalar { text, plain: true }) if text.is_empty() => 0,
            Some(_) => 1,
            None => 0,
        }
    }

    /// The position of a value if it fits on a line, otherwise that of its first key.
    pub(crate) fn value(&self, found: &Found) -> Option<Span> {
        let node = self.nodes.get(found.node)?;
        match &self.node(found.node)?.shape {
            Shape::Mapping(entries) if node.span.start.line() != node.span.end.line() => {
                entries.first().and_then(|(key, _)| self.key_span(*key)).or(Some(node.span))
            }
            _ => Some(node.span),
        }
    }

    /// The position of the key that leads to a value.
    pub(crate) fn key(&self, found: &Found) -> Option<Span> {
        found.key.and_then(|key| self.key_span(key))
    }

    /// The keys that appear more than once in their map, from the outermost map to the innermost.
    pub(crate) fn duplicate_keys(&self) -> Vec<DuplicateKey> {
        let mut duplicates = Vec::new();
        let mut open = vec![(ROOT, Path::root())];
        // A parent precedes its children, and aliases are not followed, so this ends.
        while let Some((index, at)) = open.pop() {
            match self.nodes.get(index).map(|node| &node.shape) {
                Some(Shape::Mapping(entries)) => {
                    self.duplicates_in(entries, &at, &mut duplicates);
                    open.extend(
                        entries.iter().rev().filter_map(|(key, value)| {
                            Some((*value, at.spelled(self.text(*key)?)))
                        }),
                    );
                }
                Some(Shape::Sequence(items)) => {
                    open.extend(
                        items.iter().enumerate().rev().map(|(i, item)| (*item, at.index(i))),
                    );
                }
                _ => {}
            }
        }
        duplicates
    }

    fn duplicates_in(
        &self,
        entries: &[(usize, usize)],
        at: &Path,
        duplicates: &mut Vec<DuplicateKey>,
    ) {
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        let keys = || entries.iter().filter_map(|(key, _)| Some((*key, self.text(*key)?)));
        for (key, text) in keys() {
            places.entry(text).or_default().push(key);
        }
        for (_, text) in keys() {
            // Handled once, at its first occurrence.
            let Some(mut places) = places.remove(text).filter(|places| places.len() > 1) else {
                continue;
            };
            let Some(used) = places.pop().and_then(|key| self.spot(key)) else { continue };
            duplicates.push(DuplicateKey {
                key: text.to_owned(),
                path: at.spelled(text),
                ignored: places.into_iter().filter_map(|key| self.spot(key)).collect(),
                used,
            });
        }
    }

    /// The position of a key.
    fn spot(&self, key: usize) -> Option<Spot> {
        let span = self.key_span(key)?;
        let (line, column) = (span.start.line(), span.start.col() + 1);
        let length = span.end.col().saturating_sub(span.start.col());
        Some(Spot::Text { line, column, length })
    }

    fn key_span(&self, key: usize) -> Option<Span> {
        self.nodes.get(key).map(|node| node.span)
    }

    fn step(&self, from: usize, segment: &Segment) -> Option<(Option<usize>, usize)> {
        match (segment, &self.node(from)?.shape) {
            (Segment::Field(name), Shape::Mapping(entries)) => {
                let entry = |(key, _): &&_| self.text(*key).is_some_and(|key| is_field(key, name));
                entries.iter().rev().find(entry).map(|(key, value)| (Some(*key), *value))
            }
            (Segment::Key(name), Shape::Mapping(entries)) => {
                let entry = |(key, _): &&_| self.text(*key).is_some_and(|key| *key == **name);
                entries.iter().rev().find(entry).map(|(key, value)| (Some(*key), *value))
            }
            (Segment::Index(i), Shape::Sequence(items)) => Some((None, *items.get(*i)?)),
            // A single value where a list is expected is a list of one.
            (Segment::Index(0), _) => Some((None, from)),
            _ => None,
        }
    }

    /// A node, with aliases resolved.
    fn node(&self, mut index: usize) -> Option<&Node<'t>> {
        loop {
            let node = self.nodes.get(index)?;
            match node.shape {
                // An anchor precedes its aliases, so this ends.
                Shape::Alias(target) if target < index => index = target,
                _ => return Some(node),
            }
        }
    }

    fn text(&self, index: usize) -> Option<&str> {
        match &self.node(index)?.shape {
            Shape::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// A key that appears more than once in one map.
#[derive(Debug)]
pub(crate) struct DuplicateKey {
    pub(crate) key: String,
    /// As precise as it can be without the schema.
    pub(crate) path: Path,
    /// The positions of all occurrences but the last.
    pub(crate) ignored: Vec<Spot>,
    /// The position of the last one.
    pub(crate) used: Spot,
}

/// The result of following a path.
#[derive(Debug)]
pub(crate) struct Found {
    node: usize,
    key: Option<usize>,
    /// The number of segments of the path that exist in the text.
    pub(crate) depth: usize,
}

/// Whether `key` is a spelling of the field `name`: unchanged, or in camel case.
fn is_field(key: &str, name: &str) -> bool {
    if key == name {
        return true;
    }
    let mut expected = name.chars();
    for c in key.chars() {
        let matches = match expected.next() {
            Some('_') => expected.next().is_some_and(|next| next.to_ascii_uppercase() == c),
            next => next == Some(c),
        };
        if !matches {
            return false;
        }
    }
    expected.next().is_none()
}

#[derive(Debug)]
struct Node<'t> {
    span: Span,
    shape: Shape<'t>,
}

#[derive(Debug)]
enum Shape<'t> {
    Alias(usize),
    Mapping(Vec<(usize, usize)>),
    Scalar { text: Cow<'t, str>, plain: bool },
    Sequence(Vec<usize>),
}

/// Builds the nodes from the events; a parent precedes its children.
#[derive(Default)]
struct Builder<'t> {
    nodes: Vec<Node<'t>>,
    /// The open containers, each with a key that still lacks its value.
    open: Vec<(usize, Option<usize>)>,
    /// (anchor, node)
    anchors: Vec<(usize, usize)>,
}

impl<'t> Builder<'t> {
    fn add(&mut self, shape: Shape<'t>, span: Span, anchor: usize) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node { span, shape });
        if anchor > 0 {
            self.anchors.push((anchor, index));
        }
        if let Some((parent, key)) = self.open.last_mut()
            && let Some(parent) = self.nodes.get_mut(*parent)
        {
            match &mut parent.shape {
                Shape::Sequence(items) => items.push(index),
                Shape::Mapping(entries) => match key.take() {
                    Some(key) => entries.push((key, index)),
                    None => *key = Some(index),
                },
                Shape::Alias(_) | Shape::Scalar { .. } => {}
            }
        }
        index
    }
}

impl<'t> SpannedEventReceiver<'t> for Builder<'t> {
    fn on_event(&mut self, event: Event<'t>, span: Span) {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                self.add(Shape::Scalar { text, plain }, span, anchor);
            }
            Event::SequenceStart(anchor, _) => {
                let index = self.add(Shape::Sequence(Vec::new()), span, anchor);
                self.open.push((index, None));
            }
            Event::MappingStart(anchor, _) => {
                let index = self.add(Shape::Mapping(Vec::new()), span, anchor);
                self.open.push((index, None));
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((index, _)) = self.open.pop()
                    && let Some(node) = self.nodes.get_mut(index)
                {
                    node.span.end = span.end;
                }
            }
            Event::Alias(anchor) => {
                let target = self.anchors.iter().rev().find(|(id, _)| *id == anchor);
                let target = target.map_or(usize::MAX, |(_, index)| *index);
                self.add(Shape::Alias(target), span, 0);
            }
            _ => {}
        }
    }
}

const ROOT: usize = 0;

#[cfg(test)]
mod tests {
    use super::{Layout, is_field};
    use crate::Path;

    fn place(text: &str, path: &Path) -> (usize, usize) {
        let layout = Layout::of(text).unwrap();
        let span = layout.value(&layout.find(&path.segments())).unwrap();
        (span.start.line(), span.start.col())
    }

    #[test]
    fn a_path_leads_to_the_position_of_its_value() {
        let text = "a:\n- b: 1\n- bB: {c: 2}\nd: [3, 4]\n";
        let root = Path::root();
        assert_eq!(place(text, &root.field("a").index(0).field("b")), (2, 5));
        assert_eq!(place(text, &root.field("a").index(1).field("b_b").field("c")), (3, 10));
        assert_eq!(place(text, &root.field("d").index(1)), (4, 7));
    }

    #[test]
    fn an_alias_leads_to_its_anchor() {
        let text = "a: &x {b: 1}\nc: *x\n";
        assert_eq!(place(text, &Path::root().field("c").field("b")), (1, 10));
        assert_eq!(place(text, &Path::root().field("c")), (2, 3));
    }

    #[test]
    fn a_path_that_leaves_the_text_ends_at_its_last_existing_part() {
        let layout = Layout::of("a: {b: 1}\n").unwrap();
        let found = layout.find(&Path::root().field("a").field("x").field("y").segments());
        assert_eq!(found.depth, 1);
        assert_eq!(layout.key(&found).unwrap().start.col(), 0);
    }

    #[test]
    fn camel_case_is_a_spelling_of_a_field() {
        assert!(is_field("connectTimeout", "connect_timeout"));
        assert!(is_field("connect_timeout", "connect_timeout"));
        assert!(!is_field("connectTimeou", "connect_timeout"));
        assert!(!is_field("connect_timeoutX", "connect_timeout"));
        assert!(!is_field("connecttimeout", "connect_timeout"));
    }

    #[test]
    fn quoted_scalars_differ_from_plain_ones() {
        let layout = Layout::of("a: on\nb: \"on\"\nc: |\n  on\n").unwrap();
        let plain = |name| layout.plain_scalar(&Path::root().field(name).segments());
        assert_eq!(plain("a"), Some("on"));
        assert_eq!(plain("b"), None);
        assert_eq!(plain("c"), None);
    }
}
