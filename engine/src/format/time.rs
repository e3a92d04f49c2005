//! Times, in the default format or a configured one.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::write_display;

/// How a time is shown.
#[derive(Clone, Debug)]
pub(super) struct TimeFormat {
    /// For `jiff`; Envoy's own specifiers are translated.
    strftime: Box<str>,
    /// UTC, or that of the machine when the format was compiled.
    zone: TimeZone,
}

/// In which time zone a time is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Zone {
    Local,
    Utc,
}

impl TimeFormat {
    /// `format` is for Envoy's `strftime`; empty is the default.
    ///
    /// # Errors
    /// It contains a line end; with Envoy's message.
    pub(super) fn new(format: &str, zone: Zone) -> Result<Self, String> {
        if format.split('%').skip(1).any(is_line_end) {
            return Err("Invalid header configuration. Format string contains newline.".to_owned());
        }
        let strftime = match (format, zone) {
            ("", Zone::Utc) => "%Y-%m-%dT%H:%M:%S.%3fZ".to_owned(),
            ("", Zone::Local) => "%Y-%m-%dT%H:%M:%S.%3f%z".to_owned(),
            (format, _) => translated(format),
        };
        let zone = match zone {
            Zone::Local => TimeZone::system(),
            Zone::Utc => TimeZone::UTC,
        };
        Ok(Self { strftime: strftime.into(), zone })
    }

    /// An unknown specifier is written as it is.
    pub(super) fn write(&self, time: Timestamp, out: &mut Vec<u8>) {
        write_display(&time.to_zoned_datetime(self.zone.clone()).strftime(&*self.strftime), out);
    }
}

/// Whether this is a line end, after a percent sign. Envoy ignores what precedes the sign.
fn is_line_end(specifier: &str) -> bool {
    let (_, rest) = leading(specifier, usize::MAX, |c| FLAGS.contains(c));
    let (_, rest) = leading(rest, usize::MAX, |c| matches!(c, '1'..='9'));
    rest.strip_prefix(['E', 'O']).unwrap_or(rest).starts_with('n')
}

/// Envoy first replaces `%f`, by nine digits, and `%3f`.
fn translated(format: &str) -> String {
    let mut translated = String::with_capacity(format.len());
    let mut rest = format;
    while let Some((before, digits, behind)) = split_at_fraction(rest) {
        translate(before, &mut translated);
        translated.extend(["%", digits, "f"]);
        rest = behind;
    }
    translate(rest, &mut translated);
    translated
}

fn split_at_fraction(format: &str) -> Option<(&str, &str, &str)> {
    format.match_indices('%').find_map(|(at, _)| {
        let (before, specifier) = format.split_at(at);
        match specifier.as_bytes() {
            [_, b'f', ..] => Some((before, "9", specifier.get(2..)?)),
            [_, b'1'..=b'9', b'f', ..] => Some((before, specifier.get(1..2)?, specifier.get(3..)?)),
            _ => None,
        }
    })
}

/// Abseil formats the rest, and leaves to the C library what it does not support.
fn translate(format: &str, out: &mut String) {
    let mut rest = format;
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        let (meaning, behind) = specifier(behind).unwrap_or_else(|| ("%%".to_owned(), behind));
        out.push_str(&meaning);
        rest = behind;
    }
    out.push_str(rest);
}

/// The specifier after a percent sign, and the text after it; none if it is not a specifier.
fn specifier(text: &str) -> Option<(String, &str)> {
    for (known, meaning) in OF_ABSEIL {
        if let Some(behind) = text.strip_prefix(known) {
            return Some((meaning.to_owned(), behind));
        }
    }
    if let Some(precise) = text.strip_prefix('E').and_then(with_precision) {
        return Some(precise);
    }
    let (flag, rest) = leading(text, 1, |c| FLAGS.contains(c));
    let (width, rest) = leading(rest, WIDTH_DIGITS_MAX, |c| c.is_ascii_digit());
    let (modifier, rest) = leading(rest, 1, |c| matches!(c, 'E' | 'O'));
    let known = match modifier {
        "E" => WITH_E,
        "O" => WITH_O,
        _ => KNOWN,
    };
    let conversion = rest.chars().next().filter(|&c| known.contains(c))?;
    let meaning = match conversion {
        'c' => "%a %b %e %H:%M:%S %Y".to_owned(),
        'r' => "%I:%M:%S %p".to_owned(),
        'x' => "%m/%d/%y".to_owned(),
        'X' => "%H:%M:%S".to_owned(),
        _ => format!("%{flag}{width}{conversion}"),
    };
    Some((meaning, rest.get(1..)?))
}

/// `%E3S` and `%E3f`: seconds with this many digits of the fraction, and the fraction alone.
fn with_precision(text: &str) -> Option<(String, &str)> {
    let (digits, rest) = leading(text, usize::MAX, |c| c.is_ascii_digit());
    let digits: usize = digits.parse().ok().filter(|digits| *digits <= PRECISION_MAX)?;
    let fraction = match digits {
        0 => String::new(),
        1..=9 => format!("%{digits}f"),
        _ => format!("%9f{}", "0".repeat(digits.min(DIGITS_MAX) - 9)),
    };
    match rest.split_at_checked(1)? {
        ("S", behind) if digits == 0 => Some(("%S".to_owned(), behind)),
        ("S", behind) => Some((format!("%S.{fraction}"), behind)),
        ("f", behind) => Some((fraction, behind)),
        _ => None,
    }
}

/// Up to this many characters of that kind at the start, and the text after them.
fn leading(text: &str, most: usize, kind: impl Fn(char) -> bool) -> (&str, &str) {
    let mut chars = text.char_indices().enumerate();
    let end = chars.find(|(count, (_, c))| *count >= most || !kind(*c));
    text.split_at(end.map_or(text.len(), |(_, (at, _))| at))
}

/// What is not in the C library.
const OF_ABSEIL: [(&str, &str); 9] = [
    ("E*S", "%S%.f"),
    ("E*f", "%f"),
    ("E*z", "%::z"),
    ("E4Y", "%Y"),
    ("ET", "T"),
    ("Ez", "%:z"),
    (":z", "%:z"),
    ("::z", "%::z"),
    (":::z", "%:::z"),
];

/// The specifiers of glibc, and those that it accepts with `E` and `O`.
const KNOWN: &str = "aAbBcCdDeFgGhHIjklmMpPrRsStTuUVwWxXyYzZ%";
const WITH_E: &str = "cCpPrRstuxXyYZ%";
const WITH_O: &str = "bBCdeghGHIjklmMpPrRsStTuUVwWyzZ%";

const FLAGS: &str = "-_0^#";

/// The widest field.
const WIDTH_DIGITS_MAX: usize = 2;

/// The largest precision that Abseil accepts, and the most digits that it shows.
const PRECISION_MAX: usize = 1024;
const DIGITS_MAX: usize = 18;
