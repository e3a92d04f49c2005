//! A tree of plain values, independent of the format.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashSet};
use std::fmt;

use serde::Deserialize as _;
use serde::de::{
    self, DeserializeSeed, EnumAccess, IgnoredAny, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// A YAML or JSON value. A map has each key once, with its last value, in the order of the text;
/// most maps are too small for anything better than a list.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Bool(bool),
    Float(f64),
    Int(i128),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
    Null,
    Text(String),
}

impl Node {
    /// The kind of value, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "a boolean",
            Self::Float(_) | Self::Int(_) => "a number",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
            Self::Null => "nothing",
            Self::Text(_) => "a string",
        }
    }
}

/// The tree of a text, and what the tree does not show.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) root: Node,
    /// The line, from 1, where a second document starts. It is ignored, as are any after it.
    pub(super) second_document: Option<usize>,
    /// Keys that appear more than once in a map.
    pub(super) duplicate_keys: BTreeSet<String>,
}

/// Why a text cannot be parsed.
#[derive(Debug)]
pub(super) struct Error {
    pub(super) message: String,
    /// Line and column, from 1.
    pub(super) place: Option<(usize, usize)>,
}

/// Reads the first document, like Envoy. Text after the end of the configuration without a `---` is
/// an error; Envoy silently ignores it.
pub(super) fn from_yaml(text: &str) -> Result<Parsed, Error> {
    let counts = Counts::default();
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let Some(document) = documents.next() else {
        return Ok(counts.parsed(Node::Null, None));
    };
    let node = Seed(&counts).deserialize(document).map_err(|error| yaml_error(&error, text))?;
    let second_document = match documents.next().map(Option::<IgnoredAny>::deserialize) {
        Some(Err(error)) if error.to_string().contains("expected <document start>") => {
            let mut error = yaml_error(&error, text);
            error.message = "the configuration ended before this line: \
                             check the indentation and the brackets"
                .to_owned();
            return Err(error);
        }
        Some(Ok(None)) | None => None,
        Some(_) => Some(line_of_second_document(text)),
    };
    Ok(counts.parsed(node, second_document))
}

/// The line of the marker, from 1, that starts the second of several documents.
fn line_of_second_document(text: &str) -> usize {
    let is_marker = |line: &str| {
        line.strip_prefix(DOCUMENT_START)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
    };
    // The marker of the first document is optional. Only comments and directives precede it.
    let is_before = |line: &str| {
        line.starts_with('%') || matches!(line.trim_start().bytes().next(), None | Some(b'#'))
    };
    let lines = text.lines().enumerate();
    let mut documents = lines.skip_while(|(_, line)| is_before(line)).skip(1);
    documents.find(|(_, line)| is_marker(line)).map_or(1, |(i, _)| i + 1)
}

/// The marker that starts a document.
pub(super) const DOCUMENT_START: &str = "---";

fn yaml_error(error: &serde_yaml::Error, text: &str) -> Error {
    let place = error.location().map(|place| (place.line(), place.column()));
    let character = place.and_then(|(line, column)| {
        text.lines().nth(line.saturating_sub(1))?.chars().nth(column.saturating_sub(1))
    });
    let message = match character {
        Some('\t') => "invalid YAML: indented with a tab; use spaces".to_owned(),
        _ => yaml_message(&error.to_string()),
    };
    Error { message, place }
}

/// Reads JSON, also with trailing commas, bare keys and single quotes: Envoy's reader accepts them,
/// and they are valid YAML.
pub(super) fn from_json(text: &str) -> Result<Parsed, Error> {
    let counts = Counts::default();
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Seed(&counts).deserialize(&mut json).and_then(|node| json.end().map(|()| node));
    read.map(|node| counts.parsed(node, None)).or_else(|error| {
        let braces = text.trim_ascii_start().starts_with('{');
        if braces
            && let Ok(parsed) = from_yaml(text)
            && parsed.second_document.is_none()
        {
            return Ok(parsed);
        }
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        let hint = if braces { "" } else { " (name a YAML file .yaml or .yml)" };
        let place = Some((error.line(), error.column().max(1)));
        Err(Error { message: format!("invalid JSON: {message}{hint}"), place })
    })
}

fn yaml_message(message: &str) -> String {
    let message = message.split(" at line ").next().unwrap_or_default();
    match message {
        "recursion limit exceeded" => "values are nested deeper than 128 levels".to_owned(),
        "repetition limit exceeded" => "the aliases (`*name`) expand to too many values".to_owned(),
        _ if message.contains(TOO_MANY) => TOO_MANY.to_owned(),
        _ => format!("invalid YAML: {message}"),
    }
}

/// Counters while a tree is built.
#[derive(Debug, Default)]
struct Counts {
    nodes: Cell<usize>,
    duplicate_keys: RefCell<BTreeSet<String>>,
}

impl Counts {
    fn parsed(self, root: Node, second_document: Option<usize>) -> Parsed {
        Parsed { root, second_document, duplicate_keys: self.duplicate_keys.into_inner() }
    }
}

/// Builds a node and counts it.
#[derive(Clone, Copy)]
struct Seed<'n>(&'n Counts);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        let nodes = &self.0.nodes;
        nodes.set(nodes.get() + 1);
        if nodes.get() > NODES_MAX {
            return Err(de::Error::custom(TOO_MANY));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Int(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Int(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map: Vec<(String, Node)> = Vec::new();
        while let Some(key) = entries.next_key_seed(Key)? {
            map.push((key.into_owned(), entries.next_value_seed(self)?));
        }
        let mut seen = HashSet::new();
        let mut last: Vec<_> = map.iter().rev().map(|(key, _)| seen.insert(key.as_str())).collect();
        if last.contains(&false) {
            map.retain(|(key, _)| {
                let is_last = last.pop().unwrap_or(true);
                if !is_last {
                    self.0.duplicate_keys.borrow_mut().insert(key.clone());
                }
                is_last
            });
        }
        map.shrink_to_fit();
        Ok(Node::Map(map))
    }

    /// A value with a YAML tag. Envoy ignores the tag.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Node, A::Error> {
        let (_, value) = tagged.variant_seed(Key)?;
        value.newtype_variant_seed(self)
    }
}

/// A key, as written: `5` and `yes` are keys like any other.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: de::Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key that is a scalar")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// About a gigabyte of memory, more than any bootstrap needs.
const NODES_MAX: usize = 10_000_000;
const TOO_MANY: &str = "the text expands to more than 10,000,000 values";
