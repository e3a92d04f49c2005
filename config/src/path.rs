use std::fmt;
use std::sync::Arc;

/// The position of a value in a configuration: `static_resources.clusters[0].name`.
///
/// Written with the field names of the proto files, whatever spelling the text uses, and without
/// steps for `Any`: the path is the one a reader follows in the YAML. Extending a path shares the
/// parent.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Path(Option<Arc<Node>>);

impl Path {
    /// The whole document.
    pub fn root() -> Self {
        Self(None)
    }

    /// The field `name` of the message here.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.join(Segment::Field(name.into()))
    }

    /// Element `i` of the list here.
    #[must_use]
    pub fn index(&self, i: usize) -> Self {
        self.join(Segment::Index(i))
    }

    /// The value under `key` of the map here.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.join(Segment::Key(key.into()))
    }

    /// The value under a key of which only the spelling is known: a field if it looks like one.
    pub(crate) fn spelled(&self, key: &str) -> Self {
        let is_word = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if is_word { self.field(key) } else { self.key(key) }
    }

    /// This path and its ancestors, up to the whole document.
    pub(crate) fn outwards(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |path| path.0.as_deref().map(|node| &node.parent))
    }

    /// Whether this path is `other`, or inside it.
    pub(crate) fn starts_with(&self, other: &Self) -> bool {
        self.segments().starts_with(&other.segments())
    }

    /// From the outermost to the innermost.
    pub(crate) fn segments(&self) -> Vec<&Segment> {
        let mut segments = Vec::new();
        let mut rest = self.0.as_deref();
        while let Some(node) = rest {
            segments.push(&node.segment);
            rest = node.parent.0.as_deref();
        }
        segments.reverse();
        segments
    }

    fn join(&self, segment: Segment) -> Self {
        Self(Some(Arc::new(Node { parent: self.clone(), segment })))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments().into_iter().enumerate() {
            match segment {
                Segment::Field(name) if i == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Key(key) => write!(f, "[{key:?}]")?,
            }
        }
        Ok(())
    }
}

/// One step of a [`Path`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Segment {
    Field(Box<str>),
    Index(usize),
    Key(Box<str>),
}

impl Segment {
    /// Whether it leads to a message in an `Any`: Envoy's API calls all such fields `typed_…`.
    pub(crate) fn is_extension(&self) -> bool {
        matches!(self, Self::Field(name) if name.starts_with("typed_"))
    }
}

#[derive(Debug, Eq, Hash, PartialEq)]
struct Node {
    parent: Path,
    segment: Segment,
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn a_path_is_written_as_in_the_yaml() {
        let cluster = Path::root().field("static_resources").field("clusters").index(2);
        let options = cluster.field("typed_extension_protocol_options").key("envoy.http");
        assert_eq!(cluster.field("name").to_string(), "static_resources.clusters[2].name");
        assert_eq!(
            options.to_string(),
            "static_resources.clusters[2].typed_extension_protocol_options[\"envoy.http\"]"
        );
        assert_eq!(Path::root().to_string(), "");
    }
}
