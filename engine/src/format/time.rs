//! `%START_TIME%`, in the default form or one of the operator's own.

use std::time::SystemTime;

use jiff::Timestamp;

use super::write_display;

/// How a time is shown, in UTC.
#[derive(Clone, Debug)]
pub(super) struct TimeFormat {
    /// For `jiff`; Envoy's own specifiers are translated.
    strftime: Box<str>,
}

impl TimeFormat {
    /// `format` is for `strftime`, with Envoy's `%3f`, `%6f`, `%9f` and `%E3S`; empty is the
    /// default.
    pub(super) fn new(format: &str) -> Self {
        let strftime = match format {
            "" => "%Y-%m-%dT%H:%M:%S.%3fZ".to_owned(),
            format => translated(format),
        };
        Self { strftime: strftime.into() }
    }

    /// A specifier that means nothing is shown as it stands.
    pub(super) fn write(&self, time: SystemTime, out: &mut Vec<u8>) {
        let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
        write_display(&time.strftime(&*self.strftime), out);
    }
}

/// `%E3S` is seconds with three digits of the fraction, `%E*S` with as many as there are, and a bare
/// `%f` is nine digits. What Envoy does not know stands as it is.
fn translated(format: &str) -> String {
    let mut translated = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(percent) = rest.find('%') {
        let (before, specifier) = rest.split_at(percent);
        translated.push_str(before);
        let mut chars = specifier.chars();
        let taken = match (chars.next(), chars.next(), chars.next(), chars.next()) {
            (_, Some('E'), Some(digit @ '1'..='9'), Some('S')) => {
                translated.push_str("%S.%");
                translated.push(digit);
                translated.push('f');
                4
            }
            (_, Some('E'), Some('*'), Some('S')) => {
                translated.push_str("%S%.f");
                4
            }
            (_, Some(unknown @ ('E' | 'Q')), ..) => {
                translated.extend(['%', '%', unknown]);
                2
            }
            (_, Some('f'), ..) => {
                translated.push_str("%9f");
                2
            }
            (_, Some(other), ..) => {
                translated.extend(['%', other]);
                1 + other.len_utf8()
            }
            _ => specifier.len(),
        };
        rest = specifier.get(taken..).unwrap_or_default();
    }
    translated + rest
}
