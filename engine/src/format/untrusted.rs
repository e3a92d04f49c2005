//! Texts that a client chooses, made safe for a line of a log.

use std::borrow::Cow;

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
}
