//! The format of a line: the part of spdlog's format syntax that Envoy's operators use.

use std::fmt;
use std::sync::{Arc, OnceLock};

use anyhow::bail;
use jiff::ZonedDateTime;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::component;

/// Envoy's default without the source position: `[2026-11-23 20:15:18.123][31340][info][main] …`.
pub(crate) const FORMAT_DEFAULT: &str = "[%Y-%m-%d %T.%e][%t][%l][%n] %v";

/// A parsed format.
#[derive(Debug)]
pub(super) struct Format {
    pieces: Vec<Piece>,
    escape: bool,
}

#[derive(Debug, Eq, PartialEq)]
enum Piece {
    Text(String),
    /// `%Y %m %d %H %M %S %T %D %z`: passed to strftime unchanged.
    Time(&'static str),
    Milliseconds,
    Microseconds,
    Nanoseconds,
    EpochSeconds,
    /// `%t` and `%P`: the process id, because threads mean nothing to an operator.
    Process,
    Level,
    LevelLetter,
    Component,
    /// `%v` and `%+`
    Message,
    /// `%_`: on one line.
    MessageEscaped,
    /// `%j`: as the inside of a JSON string.
    MessageJson,
    /// `%g` and `%s`
    File,
    /// `%#`
    Line,
}

impl Format {
    pub(super) fn parse(format: &str, escape: bool) -> anyhow::Result<Self> {
        let mut pieces = Vec::new();
        let mut text = String::new();
        let mut chars = format.chars();
        while let Some(c) = chars.next() {
            if c != '%' {
                text.push(c);
                continue;
            }
            let piece = match chars.next() {
                Some('%') => {
                    text.push('%');
                    continue;
                }
                // Colour range markers; lines are never coloured.
                // Tags before a message, which Corvoy's have not.
                Some('*' | '^' | '$') => continue,
                Some(letter) => match piece(letter) {
                    Some(piece) => piece,
                    None => bail!("unknown specifier %{letter}"),
                },
                None => bail!("a single % at the end"),
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(piece);
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text));
        }
        Ok(Self { pieces, escape })
    }

    fn write(&self, out: &mut impl fmt::Write, line: &Line<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.write_str(text)?,
                Piece::Time(format) => write!(out, "{}", line.time.strftime(*format))?,
                Piece::Milliseconds => write!(out, "{:03}", line.time.millisecond())?,
                Piece::Microseconds => {
                    write!(out, "{:06}", line.time.subsec_nanosecond() / 1_000)?;
                }
                Piece::Nanoseconds => write!(out, "{:09}", line.time.subsec_nanosecond())?,
                Piece::EpochSeconds => write!(out, "{}", line.time.timestamp().as_second())?,
                Piece::Process => write!(out, "{}", std::process::id())?,
                Piece::Level => out.write_str(level_name(line.level))?,
                Piece::LevelLetter => {
                    let name = level_name(line.level);
                    out.write_str(name.get(..1).unwrap_or_default().to_ascii_uppercase().as_str())?;
                }
                Piece::Component => out.write_str(line.component)?,
                Piece::MessageEscaped => write!(out, "{}", line.message.escape_default())?,
                Piece::MessageJson => {
                    let quoted = serde_json::Value::from(line.message).to_string();
                    let inside = quoted.get(1..quoted.len().saturating_sub(1));
                    out.write_str(inside.unwrap_or_default())?;
                }
                Piece::Message if self.escape => write!(out, "{}", line.message.escape_default())?,
                Piece::Message => out.write_str(line.message)?,
                Piece::File => out.write_str(line.file)?,
                Piece::Line => write!(out, "{}", line.line)?,
            }
        }
        out.write_char('\n')
    }
}

/// The parts of a line.
struct Line<'a> {
    time: ZonedDateTime,
    level: Level,
    component: &'a str,
    message: &'a str,
    file: &'a str,
    line: u32,
}

/// The format of the command line, and from when the configuration is read its own, if it has one.
#[derive(Debug)]
pub(super) struct Formats {
    pub(super) initial: Format,
    pub(super) configured: Arc<OnceLock<Format>>,
}

impl<S, N> FormatEvent<S, N> for Formats
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = String::new();
        context.format_fields(Writer::new(&mut message), event)?;
        let metadata = event.metadata();
        let line = Line {
            time: ZonedDateTime::now(),
            level: *metadata.level(),
            component: component::of_target(metadata.target()),
            message: &message,
            file: metadata.file().unwrap_or_default(),
            line: metadata.line().unwrap_or_default(),
        };
        // One write per line, so that lines of several threads do not mix.
        let mut out = String::new();
        self.configured.get().unwrap_or(&self.initial).write(&mut out, &line)?;
        writer.write_str(&out)
    }
}

fn piece(letter: char) -> Option<Piece> {
    Some(match letter {
        'Y' => Piece::Time("%Y"),
        'm' => Piece::Time("%m"),
        'd' => Piece::Time("%d"),
        'H' => Piece::Time("%H"),
        'M' => Piece::Time("%M"),
        'S' => Piece::Time("%S"),
        'T' | 'X' => Piece::Time("%H:%M:%S"),
        'D' => Piece::Time("%m/%d/%y"),
        'a' => Piece::Time("%a"),
        'b' => Piece::Time("%b"),
        'z' => Piece::Time("%:z"),
        'e' => Piece::Milliseconds,
        'f' => Piece::Microseconds,
        'F' => Piece::Nanoseconds,
        'E' => Piece::EpochSeconds,
        't' | 'P' => Piece::Process,
        'l' => Piece::Level,
        'L' => Piece::LevelLetter,
        'n' => Piece::Component,
        'v' | '+' => Piece::Message,
        '_' => Piece::MessageEscaped,
        'j' => Piece::MessageJson,
        'g' | 's' => Piece::File,
        '#' => Piece::Line,
        _ => return None,
    })
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warning",
        Level::ERROR => "error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(format: &str, escape: bool, message: &str) -> String {
        let line = Line {
            time: "2026-11-23T20:15:18.123456789+01:00[+01:00]".parse().unwrap(),
            level: Level::WARN,
            component: "main",
            message,
            file: "server.rs",
            line: 12,
        };
        let mut out = String::new();
        Format::parse(format, escape).unwrap().write(&mut out, &line).unwrap();
        out
    }

    #[test]
    fn the_default_line_is_envoys() {
        let pid = std::process::id();
        let expected = format!("[2026-11-23 20:15:18.123][{pid}][warning][main] draining\n");
        assert_eq!(render(FORMAT_DEFAULT, false, "draining"), expected);
    }

    #[test]
    fn the_other_specifiers() {
        assert_eq!(
            render("%L%^%l%$ %g:%# %f %F %z %% %v", false, "m"),
            "Wwarning server.rs:12 123456 123456789 +01:00 % m\n"
        );
    }

    #[test]
    fn an_escaped_message_is_one_line() {
        assert_eq!(render("%v", true, "a\nb\t\"c\""), "a\\nb\\t\\\"c\\\"\n");
    }

    #[test]
    fn a_message_in_a_format_of_json_is_a_json_string() {
        let message = "a \"b\"\n\u{1}";
        let line = render(r#"{"Level":"%l","Message":"%j"}"#, false, message);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["Level"], &line["Message"]), (&"warning".into(), &message.into()));
        assert_eq!(render("%j", false, "\"\""), "\\\"\\\"\n");
        assert_eq!(render("%_", false, message), "a \\\"b\\\"\\n\\u{1}\n");
    }

    #[test]
    fn an_unknown_specifier_is_an_error() {
        assert!(Format::parse("%Q", false).is_err());
        assert!(Format::parse("100%", false).is_err());
    }
}
