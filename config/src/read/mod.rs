//! Text to message: YAML, JSON, text format or binary, as lenient as Envoy and no more.
//!
//! serde gives a [`Node`], a tree of plain values; [`message`] fits it to Envoy's descriptors. Both go
//! on after an error. What Envoy takes although proto3-JSON does not (one value for a list, enum
//! values in lower case, YAML 1.1 booleans, octal numbers) was measured on Envoy 1.40.

use std::cell::OnceCell;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::layout::Layout;
use crate::problems::{Problem, Severity, Spot};
use crate::source::{Document, Format};
use crate::{Path, Problems};

mod any;
mod doubled_keys;
mod foreign;
mod message;
mod node;
mod scalar;
pub(crate) mod suggest;
mod well_known;

pub(crate) use any::missing_type;
use node::{Node, Parsed};

/// Reads one text. `None` if nothing of it could be used; otherwise what could.
pub(crate) fn read(
    document: &Document,
    descriptor: &MessageDescriptor,
    problems: &mut Problems,
) -> Option<DynamicMessage> {
    let text = || std::str::from_utf8(&document.bytes).map_err(|error| error.to_string());
    let read = match document.format {
        Format::Binary => DynamicMessage::decode(descriptor.clone(), document.bytes.as_slice())
            .map_err(|error| error.to_string()),
        Format::Text => text().and_then(|text| {
            DynamicMessage::parse_text_format(descriptor.clone(), text)
                .map_err(|error| error.to_string())
        }),
        Format::Json | Format::Yaml => match document.text() {
            Some(text) => return read_nodes(document, text, descriptor, problems),
            None => Err("the text is not UTF-8".to_owned()),
        },
    };
    read.map_err(|error| problems.push(unreadable(document, error, None))).ok()
}

fn read_nodes(
    document: &Document,
    text: &str,
    descriptor: &MessageDescriptor,
    problems: &mut Problems,
) -> Option<DynamicMessage> {
    let parsed = match document.format {
        Format::Yaml => node::from_yaml(text),
        _ => node::from_json(text),
    };
    let is_map = parsed.as_ref().is_ok_and(|parsed| matches!(parsed.root, Node::Map(_)));
    if !is_map && let Some(foreign) = foreign::recognize(text) {
        let foreign::Foreign { program, line } = foreign;
        let message = format!("this is a configuration of {program}: Corvoy reads Envoy's");
        problems.push(unreadable(document, message, Some((line, 1))));
        return None;
    }
    match parsed {
        Ok(Parsed { root, more_documents, doubled_keys }) => {
            if more_documents {
                let text = "only the first document counts: what follows it is not read";
                problems.push(about(document, Severity::Warning, text));
            }
            if !doubled_keys.is_empty() {
                doubled_keys::report(document, text, &doubled_keys, problems);
            }
            let mut reader = Reader::new(document, descriptor.parent_pool(), problems);
            reader.root(descriptor, &root)
        }
        Err(node::Error { message, place }) => {
            problems.push(unreadable(document, message, place));
            None
        }
    }
}

/// A problem with a text as a whole.
fn about(document: &Document, severity: Severity, message: impl Into<String>) -> Problem {
    let mut problem = Problem::new(severity, &Path::root(), message);
    problem.spot = Spot::Nowhere;
    problem.document = Some(document.name.clone());
    problem
}

/// A text of which nothing can be used, for what stands at a line and column.
fn unreadable(
    document: &Document,
    message: impl Into<String>,
    place: Option<(usize, usize)>,
) -> Problem {
    let mut problem = about(document, Severity::Error, message);
    problem.spot = Spot::Unreadable { place };
    problem
}

/// Fits the nodes of one text to descriptors.
struct Reader<'a> {
    document: &'a Document,
    pool: &'a DescriptorPool,
    problems: &'a mut Problems,
    /// Parsed when a scalar is in doubt, which is rare.
    layout: OnceCell<Option<Layout<'a>>>,
}

impl<'a> Reader<'a> {
    fn new(document: &'a Document, pool: &'a DescriptorPool, problems: &'a mut Problems) -> Self {
        Self { document, pool, problems, layout: OnceCell::new() }
    }

    fn root(&mut self, descriptor: &MessageDescriptor, node: &Node) -> Option<DynamicMessage> {
        match node {
            Node::Map(_) => self.message(descriptor, node, &Path::root()),
            Node::Null => {
                self.error(&Path::root(), "the configuration is empty");
                None
            }
            _ => {
                let found = node.kind();
                self.error(&Path::root(), format!("a configuration is a map, not {found}"));
                None
            }
        }
    }

    /// What a scalar looks like in the text, if it has no quotes.
    fn plain_scalar(&self, at: &Path) -> Option<&str> {
        if self.document.format != Format::Yaml {
            return None;
        }
        let layout = self.layout.get_or_init(|| Layout::of(self.document.text()?));
        layout.as_ref()?.plain_scalar(&at.segments())
    }

    /// Says that nobody looks at what is in `node`, because of an error about all of it.
    fn not_read(&mut self, node: &Node, at: &Path) {
        let holds_values = match node {
            Node::List(items) => !items.is_empty(),
            Node::Map(entries) => !entries.is_empty(),
            _ => false,
        };
        if holds_values {
            self.problems.not_checked(format!("what is in {at}"));
        }
    }

    fn error(&mut self, at: &Path, message: impl Into<String>) {
        self.report(Problem::new(Severity::Error, at, message));
    }

    fn report(&mut self, mut problem: Problem) {
        problem.document = Some(self.document.name.clone());
        self.problems.push(problem);
    }
}
