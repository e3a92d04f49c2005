//! Text to message: YAML, JSON, text format or binary, exactly as lenient as Envoy.
//!
//! serde builds a [`Node`], a tree of plain values; [`message`] fits it to Envoy's descriptors.
//! Both continue after an error. Where Envoy accepts more than proto3-JSON (one value for a list,
//! enum values in lower case, YAML 1.1 booleans, octal numbers), its behaviour was measured on
//! Envoy 1.40.

use std::cell::OnceCell;

use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};

use crate::layout::Layout;
use crate::problems::{Problem, Severity, Spot};
use crate::source::{Document, Format};
use crate::{Path, Problems};

mod any;
mod duplicate_keys;
mod foreign;
mod message;
mod node;
mod scalar;
pub(crate) mod suggest;
mod well_known;

pub(crate) use any::missing_type;
use node::{DOCUMENT_START, Node, Parsed};

/// Reads one text. Returns the usable part, or `None` if there is none.
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
            None => {
                let place = end_of(document.readable());
                problems.push(unreadable(document, "the text is not UTF-8", Some(place)));
                return None;
            }
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
        let message = format!("this is an {program} configuration, but Corvoy reads Envoy's");
        problems.push(unreadable(document, message, Some((line, 1))));
        return None;
    }
    match parsed {
        Ok(Parsed { root, second_document, duplicate_keys }) => {
            if let Some(line) = second_document {
                let text =
                    "only the first YAML document is read: this one and any later one are ignored";
                let mut problem = about(document, Severity::Warning, text);
                problem.spot = Spot::Text { line, column: 1, length: DOCUMENT_START.len() };
                problems.push(problem);
            }
            if !duplicate_keys.is_empty() {
                duplicate_keys::report(document, text, &duplicate_keys, problems);
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

/// The line and column after the last character, from 1.
fn end_of(text: &str) -> (usize, usize) {
    let last = text.rsplit('\n').next().unwrap_or_default();
    (text.matches('\n').count() + 1, last.chars().count() + 1)
}

/// A problem with a whole text.
fn about(document: &Document, severity: Severity, message: impl Into<String>) -> Problem {
    let mut problem = Problem::new(severity, &Path::root(), message);
    problem.spot = Spot::Nowhere;
    problem.document = Some(document.name.clone());
    problem
}

/// An unusable text, with the line and column of the cause.
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
    /// Parsed when a scalar is ambiguous, which is rare.
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
                self.error(&Path::root(), format!("a configuration must be a map, not {found}"));
                None
            }
        }
    }

    /// The scalar as written, if it has no quotes.
    fn plain_scalar(&self, at: &Path) -> Option<&str> {
        if self.document.format != Format::Yaml {
            return None;
        }
        let layout = self.layout.get_or_init(|| Layout::of(self.document.text()?));
        layout.as_ref()?.plain_scalar(&at.segments())
    }

    /// Notes that the content of `node` is not checked, because of an error about all of it.
    fn not_read(&mut self, node: &Node, at: &Path) {
        let holds_values = match node {
            Node::List(items) => !items.is_empty(),
            Node::Map(entries) => !entries.is_empty(),
            _ => false,
        };
        if holds_values {
            self.problems.not_checked(format!("the content of {at}"));
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
