use corvoy_engine::http1::Error;

use super::unchunked;

fn with(extension: &str) -> Result<(Vec<u8>, bool), Error> {
    unchunked(format!("5{extension}\r\nhello\r\n0{extension}\r\n\r\n").as_bytes())
}

/// "A recipient MUST ignore unrecognized chunk extensions."
#[test]
fn an_extension_is_ignored() {
    for extension in [
        ";ext",
        ";ext=1",
        ";a=b;c=d",
        " ; a = b",
        "\t;\ta\t=\tb",
        ";a=\"b;\\\"c\r\"",
        ";a=\"\"",
        ";a=\"x\" ;b",
    ] {
        let extension = extension.replace('\r', "");
        assert_eq!(with(&extension), Ok((b"hello".to_vec(), true)), "{extension}");
    }
}

/// "chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )"
#[test]
fn a_malformed_extension_is_rejected() {
    for extension in [
        ";",
        ";=x",
        ";bad[=x",
        ";a=",
        ";a=b=c",
        ";a;;b",
        ";a b",
        ";a=\"b",
        ";a=\"b\"c",
        "; ",
        ";a ",
        ";\u{0}ext",
        ";a=\"\u{1}\"",
        ";a\rX",
        ";\n",
        ";a\n",
        " ",
        " a",
    ] {
        assert!(with(extension).is_err(), "{extension:?}");
    }
}

/// "A server ought to limit the total length of chunk extensions received in a request to an amount
/// reasonable for the services provided".
#[test]
fn extensions_are_limited_over_all_chunks() {
    assert!(with(&format!(";a={}", "x".repeat(8_000))).is_ok());
    let long = format!(";a={}", "x".repeat(64 * 1024));
    assert_eq!(with(&long), Err(Error::ChunkExtension));
    let many = "1;a\r\nx\r\n".repeat(10_000);
    assert_eq!(unchunked(many.as_bytes()), Err(Error::ChunkExtension));
}
