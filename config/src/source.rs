use std::fs::File;
use std::io::{self, Read as _};
use std::path;

/// The texts of a configuration: a file, and YAML that is merged over it.
#[derive(Clone, Debug, Default)]
pub struct Source {
    documents: Vec<Document>,
}

impl Source {
    /// No texts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file. As in Envoy, the extension determines the format: `.pb` is binary, `.pb_text`
    /// the text format, `.yaml` and `.yml` are YAML, and anything else is JSON.
    ///
    /// # Errors
    /// If the file cannot be read, or is larger than 256 MiB.
    pub fn file(path: &path::Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(io::Error::other(format!("larger than {} MiB", BYTES_MAX >> 20)));
        }
        let name = path.display().to_string();
        let format = Format::of(&name);
        Ok(Self { documents: vec![Document { name, format, bytes }] })
    }

    /// Adds YAML that is merged over the present texts: lists grow, single values are replaced.
    /// Errors show `name` in place of a file name.
    #[must_use]
    pub fn merge_yaml(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        let bytes = text.into().into_bytes();
        self.documents.push(Document { name: name.into(), format: Format::Yaml, bytes });
        self
    }

    pub(crate) fn documents(&self) -> &[Document] {
        &self.documents
    }
}

/// One text of a [`Source`].
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) format: Format,
    pub(crate) bytes: Vec<u8>,
}

impl Document {
    /// The text with positions in it, for the formats that have them.
    pub(crate) fn text(&self) -> Option<&str> {
        match self.format {
            Format::Json | Format::Yaml => {
                let text = std::str::from_utf8(&self.bytes).ok()?;
                Some(text.strip_prefix('\u{feff}').unwrap_or(text))
            }
            Format::Binary | Format::Text => None,
        }
    }

    /// What can be shown of the text: of one that is not UTF-8, the part before the first invalid
    /// byte.
    pub(crate) fn readable(&self) -> &str {
        match self.format {
            Format::Json | Format::Yaml => {
                let text = self.bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
                text.strip_prefix('\u{feff}').unwrap_or(text)
            }
            Format::Binary | Format::Text => "",
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Binary,
    Json,
    Text,
    Yaml,
}

impl Format {
    fn of(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("pb") => Self::Binary,
            Some("pb_text") => Self::Text,
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::Json,
        }
    }
}

/// A bootstrap with 100,000 endpoints has about 30 MB.
const BYTES_MAX: u64 = 256 << 20;
