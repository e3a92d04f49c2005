//! Texts that a client chooses, made safe for a line of a log.

use std::borrow::Cow;
use std::io::Write as _;

/// A server name as it is shown. As in Envoy, what is not part of a host name becomes `_`, and the whole
/// is marked: a name with a line end would otherwise forge lines.
pub(crate) fn server_name(name: &str) -> Cow<'_, str> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if name.bytes().all(is_valid) {
        return name.into();
    }
    let shown = name.bytes().map(|byte| if is_valid(byte) { char::from(byte) } else { '_' });
    "invalid:".chars().chain(shown).collect::<String>().into()
}

/// Escapes the control characters in what was written from `start` on, so that none of them ends the line.
pub(crate) fn escape_controls(out: &mut Vec<u8>, start: usize) {
    let text = out.get(start..).unwrap_or_default();
    let Some(clean) = text.iter().position(u8::is_ascii_control) else { return };
    for byte in out.split_off(start + clean) {
        if byte.is_ascii_control() {
            // Writing to a Vec does not fail.
            let _infallible = write!(out, "\\{byte:02X}");
        } else {
            out.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_host_names_are_shown_as_they_are() {
        for (name, shown) in [
            ("", ""),
            ("a_b-1.test", "a_b-1.test"),
            ("a\nb", "invalid:a_b"),
            ("\x1b[2J\"", "invalid:__2J_"),
            ("ä.test", "invalid:__.test"),
        ] {
            assert_eq!(server_name(name), shown);
        }
    }

    #[test]
    fn control_characters_are_escaped_and_nothing_before_the_start() {
        let mut out = b"\n a\nb\x1b\x7f\"".to_vec();
        escape_controls(&mut out, 2);
        assert_eq!(out, b"\n a\\0Ab\\1B\\7F\"");
    }
}
