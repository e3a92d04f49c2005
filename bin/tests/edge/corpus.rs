//! The payloads of public test suites, see `corpora/README.md`.

use std::fs;
use std::path::Path;

use serde::Deserialize;

/// One payload.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) id: String,
    /// The level of the requirement in the RFC, if the suite has one.
    #[serde(default)]
    pub(super) level: Level,
    /// The responses that the suite accepts, in its own words.
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

/// RFC 2119, as the suite interprets it.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
pub(super) enum Level {
    Must,
    Should,
    OughtTo,
    May,
    #[default]
    NotApplicable,
}

/// Text in which each character is a byte.
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

/// This many variations of the cases: bytes are changed, dropped or doubled, and messages are
/// joined. The same seed gives the same cases.
pub(super) fn mutated(seed: u64, count: usize) -> Vec<Case> {
    let seeds = all();
    let mut random = Random(seed);
    let mut case = |number: usize| {
        let [first, second] = [(); 2].map(|()| &seeds[random.below(seeds.len())]);
        let mut bytes = first.writes().concat();
        bytes.truncate(4096);
        if random.below(4) == 0 {
            bytes.extend(second.writes().concat().iter().take(2048));
        }
        for _ in 0..random.below(4) {
            random.edit(&mut bytes);
        }
        let mut writes = Vec::new();
        while !bytes.is_empty() {
            let rest = bytes.split_off(bytes.len().min(1 + random.below(400)));
            let text = std::mem::replace(&mut bytes, rest);
            writes.push(vec![Piece::Once(text.into_iter().map(char::from).collect())]);
        }
        writes.truncate(12);
        Case { id: format!("{}~{number}", first.id), writes, ..first.clone() }
    };
    (0..count).map(&mut case).collect()
}

/// A pseudorandom generator of our own, so that a seed gives the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % most
    }

    fn edit(&mut self, bytes: &mut Vec<u8>) {
        const TELLING: &[u8] = b"\r\n\0 \t:;,=0159aF/#?*%_-\"\\\x7f\x80";
        let at = self.below(bytes.len() + 1);
        let byte = TELLING[self.below(TELLING.len())];
        match self.below(5) {
            0 => bytes.insert(at, byte),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => {
                let piece = bytes[at..bytes.len().min(at + 1 + self.below(20))].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => bytes.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
        }
    }
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
    /// The client's writes on one connection, in order.
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
