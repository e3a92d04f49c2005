//! The payloads of public suites, see `corpora/README.md`.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// One payload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) id: String,
    /// How firmly the RFC asks for it, where the suite says so.
    #[serde(default)]
    pub(super) level: Level,
    /// The answers that the suite takes, in its words.
    #[serde(default)]
    pub(super) expect: String,
    #[serde(default)]
    pub(super) scored: bool,
    #[serde(default, rename = "rfc")]
    _rfc: String,
    #[serde(default, rename = "desc")]
    _description: String,
    #[serde(default, rename = "note")]
    _note: String,
    #[serde(default, rename = "verdict")]
    _verdict: String,
    writes: Vec<Vec<Piece>>,
}

/// RFC 2119, as the suite reads it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub(super) enum Level {
    Must,
    Should,
    OughtTo,
    May,
    #[default]
    NotApplicable,
}

/// Text in which a character is a byte.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Piece {
    Once(String),
    Repeated(usize, String),
}

/// All cases of all suites.
pub(super) fn all() -> Vec<Case> {
    ["http11probe", "llhttp", "lighttpd", "httparse", "desync_guardian"]
        .iter()
        .flat_map(|suite| read(suite))
        .collect()
}

fn read(suite: &str) -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/edge/corpora")
        .join(suite)
        .with_extension("jsonl");
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Case {
    /// What the client writes, one after the other on one connection.
    pub(super) fn writes(&self) -> Vec<Vec<u8>> {
        let bytes = |text: &str| -> Vec<u8> {
            text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
        };
        let write = |pieces: &Vec<Piece>| {
            let pieces = pieces.iter().map(|piece| match piece {
                Piece::Once(text) => bytes(text),
                Piece::Repeated(count, text) => bytes(text).repeat(*count),
            });
            pieces.flatten().collect()
        };
        self.writes.iter().map(write).collect()
    }
}
