//! What the statuses of gRPC mean, and how they correspond to those of HTTP.

/// Nothing better is known.
pub(crate) const UNKNOWN: u8 = 2;

/// An invariant is broken.
pub(crate) const INTERNAL: u8 = 13;

/// The deadline of the call has passed.
pub(crate) const DEADLINE_EXCEEDED: u8 = 4;

/// A quota is used up.
pub(crate) const RESOURCE_EXHAUSTED: u8 = 8;

/// The gRPC status for an HTTP status.
pub(crate) const fn status_of_http(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The gRPC status for the HTTP status of a host that does not speak gRPC.
pub(crate) const fn status_of_response(status: u16) -> u8 {
    if status == 200 { 0 } else { status_of_http(status) }
}

/// A `grpc-status` that exists.
pub(crate) fn status_name(status: &[u8]) -> Option<&'static str> {
    const NAMES: [&str; 17] = [
        "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16",
    ];
    NAMES.into_iter().find(|name| name.as_bytes() == status)
}

/// Whether it is the content type of gRPC.
pub(crate) fn is_content_type(value: &[u8]) -> bool {
    let rest = value.strip_prefix(b"application/grpc");
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
}

/// The HTTP status for a `grpc-status`.
pub(crate) const fn http_status(status: &[u8]) -> u16 {
    match status {
        b"0" => 200,
        b"1" => 499,
        b"3" | b"9" | b"11" => 400,
        b"4" => 504,
        b"5" => 404,
        b"6" | b"10" => 409,
        b"7" => 403,
        b"8" => 429,
        b"12" => 501,
        b"14" => 503,
        b"16" => 401,
        _ => 500,
    }
}

/// Whether a call with this `grpc-status` is an error of the server: it corresponds to an HTTP 5xx, or is
/// unknown or missing.
pub(crate) fn is_server_error(status: Option<&[u8]>) -> bool {
    !matches!(
        status,
        Some(b"0" | b"1" | b"3" | b"5" | b"6" | b"7" | b"8" | b"9" | b"10" | b"11" | b"16")
    )
}

/// The `grpc-status` in trailers, given as field lines with lower-case names.
pub(crate) fn status_in_trailers(lines: &[u8]) -> Option<&[u8]> {
    let mut lines = lines.split(|&byte| byte == b'\n');
    lines.find_map(|line| line.strip_prefix(b"grpc-status:")).map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_found_among_the_trailers() {
        assert_eq!(status_in_trailers(b"x-a: 1\r\ngrpc-status: 14\r\n"), Some(&b"14"[..]));
        assert_eq!(status_in_trailers(b"grpc-message: grpc-status: 1\r\n"), None);
        assert_eq!(status_in_trailers(b""), None);
    }

    #[test]
    fn faults_of_the_client_are_no_errors_of_the_server() {
        for status in ["0", "1", "3", "5", "7", "8", "16"] {
            assert!(!is_server_error(Some(status.as_bytes())), "{status}");
        }
        for status in
            [Some("2"), Some("4"), Some("12"), Some("13"), Some("14"), Some("15"), Some("x"), None]
        {
            assert!(is_server_error(status.map(str::as_bytes)), "{status:?}");
        }
    }

    #[test]
    fn every_status_corresponds_to_one_of_http() {
        for number in 0..20 {
            let text = format!("{number}");
            let status = http_status(text.as_bytes());
            assert_eq!(status >= 500, is_server_error(Some(text.as_bytes())), "{number}");
        }
    }
}
